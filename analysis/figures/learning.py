"""Figures of training: learning curves, their stability, and losses. Never imports torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import statistics
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    PANEL_INCHES,
    NothingToDraw,
    bar_labels,
    decisions,
    grid,
    legend_below,
    looks,
    note,
    reference_lines,
)
from analysis.rows import CURVES, VALIDATION
from analysis.runs import in_order, names, training_families
from analysis.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    final_over_best,
    long_term_risk,
    short_term_risk,
)
from core.errors import Refusal
from core.games import get_game, reference
from core.kinds import kind_of
from core.records import require_single


@FIGURES.register("liu2022_fig7_learning_curves")
@draws(VALIDATION, position=70)
def liu2022_fig7_learning_curves(rows: pd.DataFrame) -> Figure:
    """Score of validation episodes during training (Liu et al. 2022, Fig 7; Chen et al. 2022, Fig 6)."""
    figure, axes = _curve_panels(rows, "score")
    for title, axis in axes.items():
        reference_lines(axis, title.removesuffix(_OF_ACTORS))
        axis.set_ylabel("validation score")
    return figure


@FIGURES.register("max_q_curves")
@draws(VALIDATION, position=80)
def max_q_curves(rows: pd.DataFrame) -> Figure:
    """Largest Q-value, averaged over the decisions of validation episodes, during training (average max-Q in Liu et al.
    2022, eval_q in Chen et al. 2022). Networks whose outputs are not Q-values (CMC-DSQN) are left out.

    Raises:
        NothingToDraw: no row has a Q-value.
    """
    known = rows[rows.max_q_mean.notna()]
    if known.empty:
        raise NothingToDraw("no validation row has a Q-value")
    figure, axes = _curve_panels(known, "max_q_mean")
    for axis in axes.values():
        axis.set_ylabel("mean max Q")
    return figure


_OF_ACTORS = ", PPO"
"""Added to the game's name in the titles of panels of actors."""


def _titles(rows: pd.DataFrame) -> pd.Series:
    """The title of each row's panel: the game, with separate panels for actors."""
    policies = [agent for agent in set(rows.agent) if kind_of(agent).is_policy]
    return rows.game.where(~rows.agent.isin(policies), rows.game + _OF_ACTORS)


def _curve_panels(rows: pd.DataFrame, column: str) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each game, and one for its actors, with the curves of all networks.

    A network has a thin line for each training seed, their mean, and a band of their spread.
    """
    titles = _titles(rows)
    figure, axes = grid(sorted(set(titles)))
    rows = rows.assign(family=training_families(rows))
    for title, axis in axes.items():
        here = rows[titles == title]
        require_single(here.protocol, f"protocol of {title}")
        found = in_order(here.family)
        name_of, look = names(found), looks(found)
        for family in found:
            curves = seed_curves(here[here.family == family], column)
            seeds = len(curves.columns)
            common = curves.dropna()
            if seeds > 1:
                for seed in curves:
                    line = curves[seed].dropna()
                    axis.plot(line.index, line, color=look[family]["color"], linewidth=0.5, alpha=0.5)
                spread = common.std(axis=1, ddof=1)
                low, high = common.mean(axis=1) - spread, common.mean(axis=1) + spread
                axis.fill_between(
                    common.index, low, high, color=look[family]["color"], alpha=0.15, linewidth=0
                )
            axis.plot(
                common.index,
                common.mean(axis=1),
                **look[family],
                linewidth=1.3,
                marker="." if len(common) == 1 else None,
                label=f"{name_of[family]}, {seeds} seed{'s' if seeds > 1 else ''}",
            )
        decisions(axis)
        legend_below(axis)
    note(
        figure,
        "Thick: mean over training seeds, up to where all were trained. Band: ± sample standard deviation over seeds "
        "(none with one seed). Thin: each seed.",
    )
    return figure, axes


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
    "across_time": "dispersion\nacross time",
    "short_term_risk": "short-term\nrisk",
    "long_term_risk": "long-term\nrisk",
    "final_over_best": "final / best\n(%)",
    "across_runs": "dispersion\nacross seeds",
    "best_std": "std of scores\n(Liu et al.)",
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
@draws(VALIDATION, position=90)
def learning_stability(rows: pd.DataFrame) -> Figure:
    """Stability of learning by network: dispersion and risk of validation curves (Chan et al. 2020), and the spread of
    scores printed by Liu et al. 2022.

    Args:
        rows: validation episodes.

    Raises:
        NothingToDraw: no game has two evaluations that are common to all its networks.
    """
    rows = rows.assign(family=training_families(rows))
    shared = {game: _shared_points(here) for game, here in rows.groupby("game")}
    games = [str(game) for game, points in shared.items() if len(points) > 1]
    if not games:
        raise NothingToDraw(
            "no game has two evaluations after numbers of decisions that are common to all its networks"
        )
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), 0.8 * len(MEASURES) + 1.4), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(games), squeeze=False, sharex="col")
    for column, game in enumerate(games):
        here = rows[rows.game == game]
        require_single(here.protocol, f"protocol of {game}")
        own = in_order(here.family)
        name_of, look = names(own), looks(own)
        measured = {family: stability(here[here.family == family], shared[game]) for family in own}
        for line, (measure, title) in enumerate(MEASURES.items()):
            axis = grid[line][column]
            for position, family in enumerate(own):
                values = getattr(measured[family], measure)
                colour = look[family]["color"]
                if len(values):
                    axis.bar(position, values.mean(), color=colour, alpha=0.35, width=0.6)
                    axis.plot([position] * len(values), values, ".", color=colour, markersize=4)
                else:
                    why = _WITHOUT.get(measure, "not above random")
                    axis.text(
                        position, 0.5, why, transform=axis.get_xaxis_transform(), ha="center", fontsize=6
                    )
            drawn = np.concatenate([getattr(each, measure) for each in measured.values()])
            if len(drawn) == 0:
                axis.set_yticks([])
            else:
                axis.axhline(0, color="black", linewidth=0.5)
            if (abs(drawn) < 1e-9).all():
                axis.set_ylim(0, 1)
            axis.margins(y=0.15)
            axis.set_xlim(-0.6, len(own) - 0.4)
            axis.tick_params(labelsize=6)
            if column == 0:
                axis.set_ylabel(title, fontsize=6)
        seeds = {family: here[here.family == family].train_seed.nunique() for family in own}
        grid[0][column].set_title(f"{game}\n({len(shared[game])} evaluations)", fontsize=8)
        bar_labels(grid[-1][column], [f"{name_of[each]}, n = {seeds[each]}" for each in own])
    figure.align_ylabels()
    note(
        figure,
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
@draws(CURVES, position=100)
def training_loss(rows: pd.DataFrame) -> Figure:
    """Loss of the updates during training, a line for each training run. The loss of PPO has other terms."""
    titles = _titles(rows)
    figure, axes = grid(sorted(set(titles)))
    # Curve rows hold no sim steps. Only converted networks need them, and these have no curves.
    rows = rows.assign(family=training_families(rows))
    for title, axis in axes.items():
        here = rows[(titles == title) & rows.loss.notna()]
        found = in_order(here.family)
        name_of, look = names(found), looks(found)
        for family in found:
            own = here[here.family == family]
            for index, (_, run) in enumerate(own.groupby("train_seed")):
                seeds = own.train_seed.nunique()
                label = f"{name_of[family]}, {seeds} seed{'s' if seeds > 1 else ''}" if index == 0 else None
                axis.plot(run.steps, run.loss, **look[family], linewidth=0.7, alpha=0.8, label=label)
        decisions(axis)
        legend_below(axis)
        axis.set_ylabel("loss")
        axis.set_yscale("log")
    return figure
