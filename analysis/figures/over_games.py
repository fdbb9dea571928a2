"""Figures of scores aggregated over games and training seeds. Never imports torch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import aggregates, statistics
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    PANEL_INCHES,
    NothingToDraw,
    grid,
    legend_below,
    looks,
    note,
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


class Normalised(NamedTuple):
    """Normalised scores on the games of one tier. All families in `runs` played all games."""

    title: str
    games: tuple[str, ...]
    runs: dict[Family, list[np.ndarray]]
    """Mean scores of best checkpoints: an array [training seeds] for each game. 0 is random play."""
    left_out: tuple[str, ...]
    """Names of families that lack a game or a DQN to be compared with."""


TIERS: dict[Tier, str] = {"atari": "Atari", "minatar": "MinAtar"}


def _tier_of(game: str) -> Tier:
    return get_game(game).tier


def normalised_runs(rows: pd.DataFrame) -> list[Normalised]:
    """Normalised scores of each tier: 0 is random play and 1 the own DQN. For Atari also with a human as 1.

    A game counts if every kind of agent of the tier was evaluated on it.

    Args:
        rows: EpisodeRows of `evaluate run`.

    Raises:
        Refusal: the rows do not compare.
        NothingToDraw: no game is left to aggregate over.
    """
    runs = training_runs(rows[rows.agent != "random"])
    results = []
    for tier, title in TIERS.items():
        here = runs[runs.game.map(_tier_of) == tier]
        if here.empty:
            continue
        source = reference(get_game(here.game.iloc[0])).source
        results.append(_aggregable(here, f"{title}, own DQN = 1", _dqn_score))
        if tier == "atari":
            results.append(_aggregable(here, f"{title}, human = 1 ({source})", _human_score))
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
    checkpoints: pd.DataFrame, title: str, top: Callable[[pd.DataFrame, pd.DataFrame], float | None]
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
@draws(EPISODES, position=20)
def normalised_scores(rows: pd.DataFrame) -> Figure:
    """Aggregates of normalised scores over games, with stratified bootstrap intervals over training seeds (Agarwal et
    al. 2021). The best checkpoint of each training run counts.

    Raises:
        Refusal, NothingToDraw: as in `normalised_runs`.
    """
    blocks = normalised_runs(rows)
    lines = max(len(block.runs) for block in blocks)
    height = len(AGGREGATES) * (0.26 * lines + 0.35) + 0.9
    figure = Figure(figsize=(PANEL_INCHES[0] * len(blocks), height), layout="constrained")
    parts = figure.subfigures(1, len(blocks), squeeze=False)[0]
    for block, part in zip(blocks, parts, strict=True):
        part.suptitle(f"{block.title}; {_games(block.games)}", fontsize=8)
        name_of, look = names(block.runs), looks(list(block.runs))
        labels = [f"{name_of[family]}\n{_count(games)}" for family, games in block.runs.items()]
        panels_of_block = part.subplots(len(AGGREGATES), 1)
        for axis, (name, aggregate) in zip(panels_of_block, AGGREGATES.items(), strict=True):
            _intervals(
                axis,
                [look[family]["color"] for family in block.runs],
                [aggregates.stratified_interval(games, aggregate) for games in block.runs.values()],
                [_smallest(games) > 1 for games in block.runs.values()],
            )
            axis.set_title(f"{name} ({'lower' if 'gap' in name else 'higher'} is better)", fontsize=6)
            axis.set_yticks(range(len(labels)), labels)
            axis.tick_params(labelsize=6)
    note(figure, _aggregates_note(blocks))
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
    """The number of runs, by game if the games have different numbers."""
    counts = [len(game) for game in games]
    if len(set(counts)) == 1:
        return f"n = {counts[0]}" if len(counts) == 1 else f"n = {len(counts)} x {counts[0]}"
    return f"n = {'+'.join(map(str, counts))}" if len(counts) < 6 else f"n = {sum(counts)}"


def _aggregates_note(blocks: Sequence[Normalised]) -> str:
    """The note below a figure: what the intervals are over, and their limits."""
    smallest = [_smallest(games) for block in blocks for games in block.runs.values()]
    text = "Best checkpoint of each training run. 0 is random play. n: games x training seeds. "
    if max(smallest) > 1:
        text += "Intervals: 95 %, stratified bootstrap over training seeds. "
        if any("own DQN" in block.title for block in blocks):
            text += "They ignore the uncertainty of the own DQN's mean. "
    if 2 in smallest:
        text += "Two seeds per game give too narrow an interval. "
    if 1 in smallest:
        text += "Hollow points and lines without a band: a game has one training seed, hence no interval. "
    left_out = {block.title: block.left_out for block in blocks if block.left_out}
    if left_out:
        listed = "; ".join(f"{title}: {', '.join(each)}" for title, each in left_out.items())
        text += f"Left out, for lack of a game or of a DQN of their recipe: {listed}."
    return text


@FIGURES.register("performance_profiles")
@draws(EPISODES, position=30)
def performance_profiles(rows: pd.DataFrame) -> Figure:
    """Share of training runs that score above each normalised score, with pointwise stratified bootstrap bands (Agarwal
    et al. 2021). Games have equal weights. The best checkpoint of each training run counts.

    Raises:
        Refusal, NothingToDraw: as in `normalised_runs`.
    """
    blocks = normalised_runs(rows)
    lines = max(len(block.runs) for block in blocks)
    figure, axes = grid([block.title for block in blocks], PANEL_INCHES[1] + 0.7 + 0.12 * lines)
    for block in blocks:
        axis, name_of, look = axes[block.title], names(block.runs), looks(list(block.runs))
        pooled = np.concatenate([game for games in block.runs.values() for game in games])
        thresholds = np.linspace(min(0.0, float(pooled.min())), max(1.2, 1.05 * float(pooled.max())), 401)
        for family, games in block.runs.items():
            if _smallest(games) > 1:
                low, high = aggregates.performance_profile_band(games, thresholds)
                axis.fill_between(thresholds, low, high, color=look[family]["color"], alpha=0.15, linewidth=0)
            profile = aggregates.performance_profile(games, thresholds)
            axis.plot(
                thresholds,
                profile,
                **look[family],
                linewidth=1.2,
                label=f"{name_of[family]}, {_count(games)}",
            )
        axis.axvline(1, color="black", linewidth=0.5)
        axis.set_ylim(-0.02, 1.02)
        axis.set_title(f"{block.title}; {_games(block.games)}", fontsize=8)
        axis.set_xlabel("normalised score")
        axis.set_ylabel("share of runs above it")
        legend_below(axis, 1)
    note(figure, _aggregates_note(blocks))
    return figure


@FIGURES.register("probability_of_improvement")
@draws(EPISODES, position=40)
def probability_of_improvement(rows: pd.DataFrame) -> Figure:
    """Probability that a run of one agent scores higher than a run of another, averaged over games (Agarwal et al.
    2021): SNN and DSQN over the DQN of their recipe, DSQN over the SNN, Double Q-learning over Q-learning.

    The best checkpoint of each training run counts.

    Raises:
        NothingToDraw: no two such agents were evaluated on one game.
    """
    checkpoints = training_runs(rows[rows.agent != "random"])
    runs = prefer_best(checkpoints)
    by_tier: dict[str, list[tuple[str, str, Interval, bool]]] = {}
    for tier, title in TIERS.items():
        here = runs[runs.game.map(_tier_of) == tier]
        name_of, look = names(here.family), looks(in_order(here.family))
        for better, worse in _rivals(list(name_of)):
            pairs = []
            for _, own in here[here.family == better].groupby("game"):
                others = here[(here.game == own.game.iloc[0]) & (here.family == worse)]
                if worse.agent == "dqn" != better.agent:
                    dqn = prefer_best(own_dqn(checkpoints, own))
                    others = dqn[dqn.family == worse]
                if not others.empty:
                    pairs.append((own["mean"].to_numpy(), others["mean"].to_numpy()))
            if pairs:
                mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
                label = f"{name_of[better]}\nover {name_of[worse]}, {_count(mine)} v {_count(theirs)[4:]}"
                point = aggregates.probability_of_improvement(mine, theirs)
                several = min(_smallest(mine), _smallest(theirs)) > 1
                by_tier.setdefault(title, []).append((label, look[better]["color"], point, several))
    if not by_tier:
        raise NothingToDraw("no game on which two agents of one recipe were evaluated")
    heights = [0.3 * len(lines) + 0.4 for lines in by_tier.values()]
    figure = Figure(figsize=(PANEL_INCHES[0], sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(len(by_tier), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (title, lines) in zip(axes, by_tier.items(), strict=True):
        labels, colours, points, wide = zip(*lines, strict=True)
        _intervals(axis, colours, points, wide)
        axis.axvline(0.5, color="black", linewidth=0.5, linestyle=":")
        axis.set_yticks(range(len(labels)), labels, fontsize=6)
        axis.set_xlim(-0.03, 1.03)
        axis.set_title(title, fontsize=8)
    axes[-1].set_xlabel("P(X > Y) of X over Y")
    note(
        figure,
        "Best checkpoint of each training run. n: games x training seeds, first v second agent. Intervals: 95 %, "
        "stratified bootstrap over training seeds. Hollow points: a game has one training seed, hence no interval.",
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


def _games(games: Sequence[str]) -> str:
    return f"{len(games)} game{'s' if len(games) > 1 else ''}"
