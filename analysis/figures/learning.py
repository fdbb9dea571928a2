"""Figures of training: learning curves, their stability, and losses. Never imports torch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
from analysis.learning import MEASURES, Stability, seed_curves, shared_points, stability
from analysis.rows import CURVES, VALIDATION
from analysis.runs import Family, in_order, names, training_families
from core.kinds import kind_of
from core.records import require_single
from core.words import count


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


_WITHOUT = {"across_runs": "1 seed", "best_std": "1 episode"}
"""Why a measure has no value."""


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
    shared = {str(game): shared_points(here) for game, here in rows.groupby("game")}
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
            values, colour = _known(measured[family], measure), look[family]["color"]
            if len(values):
                axis.barh(position, values.mean(), 0.6, color=colour, alpha=0.35)
                axis.plot(values, [position] * len(values), ".", color=colour)
            else:
                why = _WITHOUT.get(measure, "not above random play")
                middle = axis.get_yaxis_transform()
                axis.text(0.5, position, why, transform=middle, ha="center", va="center", fontsize=5)
        drawn = np.concatenate([_known(each, measure) for each in measured.values()])
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


def _known(measured: Stability, measure: str) -> np.ndarray:
    """The values of a measure that there are."""
    values: np.ndarray = getattr(measured, measure)
    return values[~np.isnan(values)]


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
