"""Figures of training: learning curves, their stability, and losses. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import statistics
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_LINES,
    MAX_PANELS,
    MAX_ROWS,
    TWO_COLUMNS,
    NothingToDraw,
    decisions,
    ending,
    few_numbers,
    foot,
    grid,
    looks,
    parts,
    reference_lines,
    row_labels,
    steps_of,
)
from analysis.rows import CURVES, VALIDATION
from analysis.runs import Family, in_order, names, training_families
from analysis.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    final_over_best,
    long_term_risk,
    short_term_risk,
)
from analysis.words import count
from core.errors import Refusal
from core.games import get_game, reference
from core.kinds import kind_of
from core.records import require_single


@FIGURES.register("liu2022_fig7_learning_curves")
@draws(VALIDATION, section="learning", position=70)
def liu2022_fig7_learning_curves(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How fast and how steadily each network learns: scores of validation episodes during training (Liu et al. 2022,
    Fig 7; Chen et al. 2022, Fig 6)."""
    yield from _curve_figures(rows, "score", "validation score", references=True)


@FIGURES.register("max_q_curves")
@draws(VALIDATION, section="learning", position=80)
def max_q_curves(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Largest Q-value, averaged over the decisions of validation episodes, during training (average max-Q in Liu et al.
    2022, eval_q in Chen et al. 2022). Networks whose outputs are not Q-values (CMC-DSQN) are left out.

    Raises:
        NothingToDraw: no row has a Q-value.
    """
    known = rows[rows.max_q_mean.notna()]
    if known.empty:
        raise NothingToDraw("no validation row has a Q-value")
    yield from _curve_figures(known, "max_q_mean", "mean max Q")


_OF_ACTORS = ", PPO"
"""Added to the game's name in the titles of panels of actors."""


def _titles(rows: pd.DataFrame) -> pd.Series:
    """The title of each row's panel: the game, with separate panels for actors."""
    policies = [agent for agent in set(rows.agent) if kind_of(agent).is_policy]
    return rows.game.where(~rows.agent.isin(policies), rows.game + _OF_ACTORS)


def _curve_figures(
    rows: pd.DataFrame, column: str, label: str, references: bool = False
) -> Iterator[tuple[str, Figure]]:
    """A panel for each game, and one for its actors, with the curves of all networks.

    A network has a thin line for each training seed, their mean, and a band of their spread.
    """
    rows = rows.assign(family=training_families(rows), title=_titles(rows))
    for ending_, titles, found in pages(rows):
        figure, axes = grid(titles)
        for title, axis in axes.items():
            here = rows[rows.title == title]
            require_single(here.protocol, f"protocol of {title}")
            own = in_order(here.family)
            name_of, look = names(own), looks(own, steps_of(here))
            seeds = _seeds_of(here[here.family.isin(found)])
            if len(set(seeds.values())) == 1:
                axis.set_title(f"{title}, {next(iter(seeds.values()))}")
            for family in own:
                if family in found:
                    curves = seed_curves(here[here.family == family], column)
                    several = f", {seeds[family]}" if len(set(seeds.values())) > 1 else ""
                    _mean_and_band(axis, curves, look[family], name_of[family] + several, here[column])
            if references:
                reference_lines(axis, title.removesuffix(_OF_ACTORS))
            decisions(axis)
            axis.set_ylabel(label)
        foot(
            figure,
            list(axes.values()),
            "Thick: mean over training seeds, up to where all were trained. Band: ± sample standard deviation over "
            "seeds, within the range of all episodes (none with one seed). Thin: each seed.",
        )
        yield ending_, figure


def _seeds_of(rows: pd.DataFrame) -> dict[Family, str]:
    """The number of training seeds of each family, as in "3 seeds"."""
    return {
        family: count(rows[rows.family == family].train_seed.nunique(), "seed") for family in set(rows.family)
    }


def pages(rows: pd.DataFrame) -> Iterator[tuple[str, list[str], set[Family]]]:
    """Panels and lines of each figure of some rows, `MAX_PANELS` and `MAX_LINES` at most.

    Args:
        rows: with columns `title` and `family`.

    Yields:
        Ending of the figure's name, titles of its panels, and the families that it shows.
    """
    for part, titles in parts(sorted(set(rows.title)), MAX_PANELS):
        here = rows[rows.title.isin(titles)]
        most = max(len(set(panel.family)) for _, panel in here.groupby("title"))
        # A panel has the lines of its own networks. Networks of other games do not count.
        groups: list[set[Family]] = [set() for _ in range(-(-most // MAX_LINES))]
        for _, panel in here.groupby("title"):
            for group, (_, found) in zip(groups, parts(in_order(panel.family), MAX_LINES), strict=False):
                group |= set(found)
        for number, group in enumerate(groups, 1):
            shown = [title for title in titles if group & set(here[here.title == title].family)]
            yield ending(part, str(number) if len(groups) > 1 else ""), shown, group


def _mean_and_band(
    axis: Axes, curves: pd.DataFrame, look: dict[str, Any], name: str, values: pd.Series
) -> None:
    """Draw the curves of one network's training seeds (`seed_curves`). The band stays in the range of all values."""
    seeds, common = len(curves.columns), curves.dropna()
    if seeds > 1:
        for seed in curves:
            line = curves[seed].dropna()
            axis.plot(line.index, line, color=look["color"], linewidth=0.4, alpha=0.5)
        spread, mean = common.std(axis=1, ddof=1), common.mean(axis=1)
        low, high = ((mean + sign * spread).clip(values.min(), values.max()) for sign in (-1, 1))
        axis.fill_between(common.index, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axis.plot(
        common.index,
        common.mean(axis=1),
        **look,
        linewidth=1.2,
        marker="." if len(common) == 1 else None,
        label=name,
    )


def seed_curves(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over the episodes of each evaluation of one network.

    Returns:
        A frame with decisions trained as index and training seeds as columns. NaN where a seed was not evaluated.

    Raises:
        Refusal: an episode occurs twice, so one name stands for two training runs.
    """
    twice = rows[rows.duplicated(["train_seed", "train_steps", "episode"])]
    if not twice.empty:
        first = twice.iloc[0]
        raise Refusal(
            f"{first.game} {first.agent} {first.network}, training seed {first.train_seed}: validation episode "
            f"{first.episode} after {first.train_steps} decisions occurs twice"
        )
    return rows.pivot_table(index="train_steps", columns="train_seed", values=column, aggfunc="mean")


class Stability(NamedTuple):
    """How steadily one network learnt one game. Each measure has one value per training seed, except `across_runs`."""

    across_time: np.ndarray
    short_term_risk: np.ndarray
    long_term_risk: np.ndarray
    final_over_best: np.ndarray
    """In per cent. Seeds without an evaluation above random play are left out."""
    across_runs: np.ndarray
    """One value for all seeds together. Empty with one seed."""
    best_std: np.ndarray
    """Seeds whose best evaluation is a single episode are left out."""


MEASURES = {
    "across_time": "dispersion across time",
    "short_term_risk": "short-term risk",
    "long_term_risk": "long-term risk",
    "final_over_best": "final / best (%)",
    "across_runs": "dispersion across seeds",
    "best_std": "std of scores (Liu et al.)",
}


_WITHOUT = {"across_runs": "1 seed", "best_std": "1 episode"}
"""Why a measure has no value."""


def stability(rows: pd.DataFrame, points: Sequence[int]) -> Stability:
    """The measures of Chan et al. 2020, and the spread of scores of Liu et al. 2022.

    The spread is the population standard deviation over the episodes of a run's best evaluation. Among equal ones it is
    the last, as in the code of Liu et al.

    Args:
        rows: validation episodes of one network on one game.
        points: equally spaced numbers of decisions at which all seeds were evaluated.
    """
    curves = seed_curves(rows[rows.train_steps.isin(points)], "score")
    values = curves.to_numpy().T  # [seeds, points]
    random = reference(get_game(rows.game.iloc[0])).random
    learnt = values if random is None else values[values.max(1) > random]
    spreads = []
    for seed in curves:
        best = curves.index[np.flatnonzero(curves[seed] == curves[seed].max())[-1]]
        scores = rows[(rows.train_seed == seed) & (rows.train_steps == best)].score
        if len(scores) > 1:
            spreads.append(statistics.spread_of_scores(scores.to_numpy()))
    none = np.empty(0)
    return Stability(
        across_time=dispersion_across_time(values),
        short_term_risk=short_term_risk(values),
        long_term_risk=long_term_risk(values),
        final_over_best=100 * final_over_best(learnt, random) if random is not None and len(learnt) else none,
        across_runs=np.array([dispersion_across_runs(values)]) if len(values) > 1 else none,
        best_std=np.array(spreads),
    )


@FIGURES.register("learning_stability")
@draws(VALIDATION, section="learning", position=90)
def learning_stability(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Stability of learning by network: dispersion and risk of validation curves (Chan et al. 2020), and the spread of
    scores printed by Liu et al. 2022.

    Args:
        rows: validation episodes.

    Raises:
        NothingToDraw: no network has two training seeds, or no game has two evaluations that are common to all its
            networks.
    """
    rows = rows.assign(family=training_families(rows))
    seeds = rows.groupby(["game", "family"]).train_seed.nunique()
    rows = rows[rows.game.isin(seeds[seeds > 1].index.get_level_values("game"))]
    if rows.empty:
        raise NothingToDraw("it needs two training seeds of a network: train_direct --seed trains more")
    shared = {str(game): _shared_points(here) for game, here in rows.groupby("game")}
    if all(len(points) < 2 for points in shared.values()):
        raise NothingToDraw(
            "no game has two evaluations after numbers of decisions that are common to all its networks"
        )
    for game, points in shared.items():
        here = rows[rows.game == game]
        require_single(here.protocol, f"protocol of {game}")
        measured = {each: stability(here[here.family == each], points) for each in in_order(here.family)}
        for number, found in parts(list(measured), MAX_ROWS):
            if len(points) > 1:
                title = f"{game}, {len(points)} evaluations"
                yield (
                    ending(game, number),
                    _stability_figure(title, here, {each: measured[each] for each in found}),
                )


def _stability_figure(title: str, rows: pd.DataFrame, measured: Mapping[Family, Stability]) -> Figure:
    """A panel for each measure, with a row for each network."""
    found = list(measured)
    name_of, look = names(rows.family), looks(in_order(rows.family))
    figure = Figure(layout="constrained")
    axes = list(figure.subplots(2, 3, sharey=True).flat)
    seeds = {family: rows[rows.family == family].train_seed.nunique() for family in found}
    row = row_labels(axes[0], [f"{name_of[each]}, n\u00a0=\u00a0{seeds[each]}" for each in found], 1.4)
    figure.set_size_inches(TWO_COLUMNS, 2 * (max(0.2, row) * len(found) + 0.55) + 0.3)
    for axis, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for position, family in enumerate(found):
            values, colour = getattr(measured[family], measure), look[family]["color"]
            if len(values):
                axis.barh(position, values.mean(), 0.6, color=colour, alpha=0.35)
                axis.plot(values, [position] * len(values), ".", color=colour)
            else:
                why = _WITHOUT.get(measure, "not above random play")
                middle = axis.get_yaxis_transform()
                axis.text(0.5, position, why, transform=middle, ha="center", va="center", fontsize=5)
        drawn = np.concatenate([getattr(each, measure) for each in measured.values()])
        if len(drawn) == 0:
            axis.set_xticks([])
        else:
            axis.axvline(0, color="black", linewidth=0.5)
            axis.xaxis.set_major_locator(MaxNLocator(4))
        if (abs(drawn) < 1e-9).all():
            axis.set_xlim(0, 1)
        axis.margins(x=0.1)
        axis.set_title(name)
    figure.suptitle(title)
    foot(
        figure,
        [],
        "n: training seeds. Dots: seeds; bars: their mean. Dispersion and risk are in units of the score, from "
        "validation means after numbers of decisions common to all networks of a game. std of scores: over the "
        "episodes of each run's best evaluation.",
    )
    return figure


def _shared_points(rows: pd.DataFrame) -> list[int]:
    """Numbers of decisions after which every training run of a game was evaluated."""
    runs = [set(run.train_steps) for _, run in rows.groupby(["family", "train_seed"])]
    return sorted(set.intersection(*runs))


@FIGURES.register("training_loss")
@draws(CURVES, section="learning", position=100)
def training_loss(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Loss of the updates during training, a line for each training run. The loss of PPO has other terms."""
    rows = rows[rows.loss.notna()]
    if rows.empty:
        raise NothingToDraw("no update in these rows")
    rows = rows.assign(family=training_families(rows), title=_titles(rows))
    for ending_, titles, found in pages(rows):
        figure, axes = grid(titles)
        for title, axis in axes.items():
            here = rows[rows.title == title]
            own = in_order(here.family)
            name_of, look = names(own), looks(own)
            seeds = _seeds_of(here[here.family.isin(found)])
            if len(set(seeds.values())) == 1:
                axis.set_title(f"{title}, {next(iter(seeds.values()))}")
            for family in own:
                runs = here[here.family == family].groupby("train_seed") if family in found else ()
                for index, (_, run) in enumerate(runs):
                    several = f", {seeds[family]}" if len(set(seeds.values())) > 1 else ""
                    label = None if index else name_of[family] + several
                    axis.plot(run.steps, run.loss, **look[family], linewidth=0.6, alpha=0.8, label=label)
            decisions(axis)
            axis.set_ylabel("loss")
            axis.set_yscale("log")
            few_numbers(axis.yaxis)
        foot(figure, list(axes.values()))
        yield ending_, figure
