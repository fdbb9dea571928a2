"""Figures of scores aggregated over games and training seeds. Never imports torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import aggregates, statistics
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_LINES,
    MAX_ROWS,
    ONE_COLUMN,
    PANEL_HEIGHT,
    TWO_COLUMNS,
    NothingToDraw,
    ending,
    foot,
    grid,
    looks,
    parts,
    row_labels,
)
from analysis.rows import EPISODES
from analysis.runs import (
    Family,
    in_order,
    is_double,
    names,
    own_dqn,
    prefer_best,
    single_q,
    trained_alike,
    training_runs,
)
from analysis.statistics import Interval
from core.games import Tier, get_game, reference
from core.words import count


class Normalised(NamedTuple):
    """Normalised scores on the games of one tier. All families in `runs` played all games."""

    name: str
    """Ending of the names of its figures."""
    title: str
    games: tuple[str, ...]
    runs: dict[Family, list[np.ndarray]]
    """Mean scores of best checkpoints: an array [training seeds] for each game. 0 is random play."""
    left_out: tuple[str, ...]
    """Names of families that lack a game or a DQN to be compared with."""


MORE_SEEDS = "spikeq train --seed trains more, and spikeq evaluate run scores them"
TIERS: dict[Tier, str] = {"atari": "Atari", "minatar": "MinAtar"}


ENOUGH_SEEDS = 10
"""Training seeds a game from which bootstraps hold the truth nearly as often as they say (`benchmarks.intervals`)."""


def _tier_of(game: str) -> Tier:
    return get_game(game).tier


def normalised_runs(rows: pd.DataFrame) -> list[Normalised]:
    """Normalised scores of each tier: 0 is random play and 1 the own DQN. For Atari also with a human as 1.

    A game counts if every kind of agent of the tier was evaluated on it. Untrained agents are left out.

    Args:
        rows: EpisodeRows of `evaluate run`.

    Raises:
        Refusal: the rows do not compare.
        NothingToDraw: no game is left to aggregate over.
    """
    runs = training_runs(rows[rows.agent != "random"])
    runs = runs[~runs.family.map(lambda family: family.untrained).astype(bool)]
    results = []
    for tier, title in TIERS.items():
        here = runs[runs.game.map(_tier_of) == tier]
        if here.empty:
            continue
        source = reference(get_game(here.game.iloc[0])).source
        results.append(_aggregable(here, tier, f"{title}, own DQN = 1", _dqn_score))
        if tier == "atari":
            results.append(_aggregable(here, f"{tier}-human", f"{title}, human = 1 ({source})", _human_score))
    results = [each for each in results if each.runs]
    if not results:
        raise NothingToDraw(
            "no game on which all kinds of agents were evaluated, with a DQN above random play"
        )
    return results


def _dqn_score(runs: pd.DataFrame, own: pd.DataFrame) -> float | None:
    dqn = prefer_best(own_dqn(runs, own))
    return None if dqn.empty else float(dqn["mean"].mean())


def _human_score(runs: pd.DataFrame, own: pd.DataFrame) -> float | None:
    return reference(get_game(own.game.iloc[0])).human


def _aggregable(
    checkpoints: pd.DataFrame,
    name: str,
    title: str,
    top: Callable[[pd.DataFrame, pd.DataFrame], float | None],
) -> Normalised:
    runs = prefer_best(checkpoints)
    found = in_order(runs.family)
    scores: dict[Family, dict[str, np.ndarray]] = {family: {} for family in found}
    for family in found:
        for game, group in runs[runs.family == family].groupby("game"):
            random, best = reference(get_game(str(game))).random, top(checkpoints, group)
            if random is not None and best is not None and best > random:
                scores[family][str(game)] = statistics.normalised(group["mean"].to_numpy(), random, best)
    played = [
        {game for family in found if family.agent == agent for game in scores[family]}
        for agent in {family.agent for family in found}
    ]
    games = tuple(sorted(set.intersection(*played)))
    kept = [family for family in found if games and set(games) <= set(scores[family])]
    return Normalised(
        name,
        title,
        games,
        {family: [scores[family][game] for game in games] for family in kept},
        tuple(name for family, name in names(found).items() if family not in kept),
    )


AGGREGATES: dict[str, aggregates.Aggregate] = {
    "median": aggregates.median_of_games,
    "IQM": aggregates.iqm,
    "mean": aggregates.mean_of_games,
    "optimality gap": aggregates.optimality_gap,
}


@FIGURES.register("normalised_scores")
@draws(EPISODES, section="scores", position=20)
def normalised_scores(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Aggregates of normalised scores over games, with stratified bootstrap intervals over training seeds (Agarwal et
    al. 2021). The best checkpoint of each training run counts.

    One game has a mean only. Untrained agents are left out.

    Raises:
        Refusal, NothingToDraw: as in `normalised_runs`.
    """
    for block in normalised_runs(rows):
        shown = AGGREGATES if len(block.games) > 1 else {"mean": aggregates.mean_of_games}
        for number, found in parts(list(block.runs), MAX_ROWS):
            yield ending(block.name, number), _aggregates(block, found, shown)


def _aggregates(
    block: Normalised, found: Sequence[Family], shown: Mapping[str, aggregates.Aggregate]
) -> Figure:
    """A panel for each aggregate, with a row for each family."""
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    name_of, look = names(block.runs), looks(list(block.runs))
    for axis, (name, aggregate) in zip(axes, shown.items(), strict=True):
        _intervals(
            axis,
            [look[family]["color"] for family in found],
            [aggregates.stratified_interval(block.runs[family], aggregate) for family in found],
            [_smallest(block.runs[family]) > 1 for family in found],
        )
        axis.set_title(f"{name}\n({'lower' if 'gap' in name else 'higher'} is better)")
        axis.xaxis.set_major_locator(MaxNLocator(4))
    row = row_labels(axes[0], [f"{name_of[each]}, {_count(block.runs[each])}" for each in found], 1.6)
    figure.set_size_inches(TWO_COLUMNS if len(shown) > 1 else ONE_COLUMN, max(0.22, row) * len(found) + 0.9)
    figure.suptitle(f"{block.title}; {count(len(block.games), 'game')}")
    foot(figure, [], _aggregates_note(block))
    return figure


def _intervals(
    axis: Axes, colours: Sequence[str], points: Sequence[Interval], several: Sequence[bool]
) -> None:
    """Draw points and their intervals from the top down. With a single run the point is hollow, without an interval."""
    for position, (colour, point, wide) in enumerate(zip(colours, points, several, strict=True)):
        if wide:
            axis.barh(position, point.high - point.low, 0.3, point.low, color=colour, alpha=0.4, linewidth=0)
        axis.plot(
            point.estimate, position, "o", color=colour, markersize=4, fillstyle="full" if wide else "none"
        )
    axis.set_ylim(len(points) - 0.5, -0.5)
    axis.use_sticky_edges = False
    axis.margins(x=0.12)


def _smallest(games: Sequence[np.ndarray]) -> int:
    return min(len(game) for game in games)


def _count(games: Sequence[np.ndarray]) -> str:
    """The number of runs, by game if the games have different numbers. It is not broken into lines."""
    counts = [len(game) for game in games]
    if len(set(counts)) == 1:
        text = str(counts[0]) if len(counts) == 1 else f"{len(counts)} x {counts[0]}"
    else:
        text = "+".join(map(str, counts)) if len(counts) < 6 else str(sum(counts))
    return f"n = {text}".replace(" ", "\u00a0")


def _aggregates_note(block: Normalised) -> str:
    """The note below a figure: what the intervals are over, and their limits."""
    smallest = [_smallest(games) for games in block.runs.values()]
    text = "Best checkpoint of each training run. 0 is random play. n: games x training seeds. "
    if max(smallest) > 1:
        text += "Intervals: 95 %, stratified bootstrap over training seeds. "
        if "own DQN" in block.title:
            text += "They ignore the uncertainty of the own DQN's mean. "
        if min(size for size in smallest if size > 1) < ENOUGH_SEEDS:
            text += f"They are too narrow with fewer than {ENOUGH_SEEDS} seeds a game. "
    if 1 in smallest:
        text += "Hollow points: a game has one training seed, hence no interval. "
    if block.left_out:
        text += f"Left out, for lack of a game or of a DQN of their recipe: {', '.join(block.left_out)}."
    return text


@FIGURES.register("performance_profiles")
@draws(EPISODES, section="scores", position=30)
def performance_profiles(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Share of training runs that score above each normalised score, with pointwise stratified bootstrap bands (Agarwal
    et al. 2021). Games have equal weights. The best checkpoint of each training run counts.

    Raises:
        Refusal: as in `normalised_runs`.
        NothingToDraw: as there, or every network has one training seed.
    """
    blocks = [
        block for block in normalised_runs(rows) if any(_smallest(games) > 1 for games in block.runs.values())
    ]
    if not blocks:
        raise NothingToDraw(f"a profile needs two training seeds of a network: {MORE_SEEDS}")
    for block in blocks:
        several = [family for family, games in block.runs.items() if _smallest(games) > 1]
        for number, found in parts(several, MAX_LINES):
            yield ending(block.name, number), _profiles(block, found)


def _profiles(block: Normalised, found: Sequence[Family]) -> Figure:
    title = f"{block.title}; {count(len(block.games), 'game')}"
    figure, axes = grid([title], PANEL_HEIGHT + 0.6)
    axis, name_of, look = axes[title], names(block.runs), looks(list(block.runs))
    pooled = np.concatenate([game for family in found for game in block.runs[family]])
    thresholds = np.linspace(min(0.0, float(pooled.min())), max(1.2, 1.05 * float(pooled.max())), 401)
    for family in found:
        games = block.runs[family]
        low, high = aggregates.performance_profile_band(games, thresholds)
        axis.fill_between(thresholds, low, high, color=look[family]["color"], alpha=0.15, linewidth=0)
        profile = aggregates.performance_profile(games, thresholds)
        axis.plot(thresholds, profile, **look[family], label=f"{name_of[family]}, {_count(games)}")
    axis.axvline(1, color="black", linewidth=0.5)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("normalised score")
    axis.set_ylabel("share of runs above it")
    foot(figure, [axis], _aggregates_note(block))
    return figure


@FIGURES.register("probability_of_improvement")
@draws(EPISODES, section="scores", position=40)
def probability_of_improvement(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Probability that a run of one agent scores higher than a run of another, averaged over games (Agarwal et al.
    2021): SNN and DSQN over the DQN of their recipe, DSQN over the SNN, Double Q-learning over Q-learning.

    The best checkpoint of each training run counts.

    Raises:
        NothingToDraw: no two such agents with two training seeds each were evaluated on one game.
    """
    checkpoints = training_runs(rows[rows.agent != "random"])
    found = False
    for tier, title in TIERS.items():
        for number, pairs in parts(_improvements(checkpoints, tier), MAX_ROWS):
            if pairs:
                found = True
                yield ending(tier, number), _improvement_figure(title, pairs)
    if not found:
        raise NothingToDraw(f"it needs two agents of one recipe with two training seeds each: {MORE_SEEDS}")


class _Improvement(NamedTuple):
    """A row of the figure."""

    label: str
    colour: str
    point: Interval


def _improvements(checkpoints: pd.DataFrame, tier: Tier) -> list[_Improvement]:
    """Every pair of agents that is compared on the games of a tier, both with two training seeds or more."""
    runs = prefer_best(checkpoints)
    here = runs[runs.game.map(_tier_of) == tier]
    name_of, look = names(here.family), looks(in_order(here.family))
    found = []
    for better, worse in _rivals(list(name_of)):
        pairs = []
        for _, own in here[here.family == better].groupby("game"):
            others = here[(here.game == own.game.iloc[0]) & (here.family == worse)]
            if worse.agent == "dqn" != better.agent:
                dqn = prefer_best(own_dqn(checkpoints, own))
                others = dqn[dqn.family == worse]
            if not others.empty:
                pairs.append((own["mean"].to_numpy(), others["mean"].to_numpy()))
        mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        if pairs and min(_smallest(mine), _smallest(theirs)) > 1:
            label = f"{name_of[better]}\nover {name_of[worse]}, {_count(mine)} v {_count(theirs)[4:]}"
            point = aggregates.probability_of_improvement(mine, theirs)
            found.append(_Improvement(label, look[better]["color"], point))
    return found


def _improvement_figure(title: str, found: Sequence[_Improvement]) -> Figure:
    figure = Figure(layout="constrained")
    axis = figure.subplots()
    _intervals(axis, [each.colour for each in found], [each.point for each in found], [True] * len(found))
    axis.axvline(0.5, color="black", linewidth=0.5, linestyle=":")
    row = row_labels(axis, [each.label for each in found], 2.6)
    figure.set_size_inches(TWO_COLUMNS, row * len(found) + 0.7)
    axis.set_xlim(-0.03, 1.03)
    axis.set_title(title)
    axis.set_xlabel("P(X > Y) of X over Y")
    foot(
        figure,
        [],
        "Best checkpoint of each training run. n: games x training seeds, first v second agent. Intervals: 95 %, "
        "stratified bootstrap over training seeds.",
    )
    return figure


def _rivals(found: Sequence[Family]) -> list[tuple[Family, Family]]:
    """The pairs of families that are compared."""
    return [
        (better, worse)
        for better in found
        for worse in found
        if (
            trained_alike(better, worse)
            and (better.agent, worse.agent)
            in (("rate-coded", "dqn"), ("dsqn", "dqn"), ("dsqn", "rate-coded"))
        )
        or (is_double(better) and not is_double(worse) and single_q(worse) == single_q(better))
    ]
