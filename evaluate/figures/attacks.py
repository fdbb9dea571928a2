"""Agents under attack. Never imports torch."""

from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.records import require_single
from evaluate.figures.style import LINE_STYLES, common_legend, looks, panels, reference_lines
from evaluate.runs import families, in_order, names
from evaluate.statistics import Interval, mean_of_games, stratified_interval


class Curve(NamedTuple):
    """What an attack of growing size does to the networks of one family on one game."""

    label: str
    look: dict[str, object]
    epsilons: list[float]
    points: list[Interval]


def score_against_epsilon(rows: pd.DataFrame) -> Figure:
    """Score under FGSM and under noise of the same size: means over training seeds, 95 % intervals over the episodes of
    these networks."""
    return _against_epsilon(rows, "score", "score")


def flips_against_epsilon(rows: pd.DataFrame) -> Figure:
    """Share of decisions whose greedy action FGSM, and noise of the same size, changed."""
    return _against_epsilon(rows.assign(flips=100 * rows.flip_share), "flips", "decisions flipped (%)")


def _against_epsilon(rows: pd.DataFrame, column: str, label: str) -> Figure:
    figure, axes = panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for curve in _curves(here, column):
            means = [point.estimate for point in curve.points]
            axis.plot(curve.epsilons, means, marker=".", label=curve.label, **curve.look)  # type: ignore[arg-type]
            lows, highs = [point.low for point in curve.points], [point.high for point in curve.points]
            axis.fill_between(curve.epsilons, lows, highs, color=str(curve.look["color"]), alpha=0.1)
        _epsilons(axis, sorted(set(here.epsilon)))
        if column == "score":
            reference_lines(axis, game)
        axis.set_ylabel(label)
    common_legend(figure, list(axes.values()), 2)
    return figure


def _curves(rows: pd.DataFrame, column: str) -> list[Curve]:
    """One for each family and attack; training seeds are averaged, networks of other kinds are not."""
    rows = rows.assign(family=families(rows))
    found = in_order(rows.family)
    told, look = names(found), looks(found)
    curves = []
    for family in found:
        own = rows[rows.family == family]
        for seed, checkpoints in own.groupby("train_seed").checkpoint_id:
            require_single(checkpoints, f"checkpoint of {told[family]}, training seed {seed}")
        for attack in ("fgsm", "random-sign"):
            under = own[own.attack.isin([attack, "none"])]
            if not (under.attack == attack).any():
                continue
            sizes = sorted(set(under.epsilon))
            points = [
                stratified_interval(
                    [
                        seed[column].to_numpy()
                        for _, seed in under[under.epsilon == size].groupby("train_seed")
                    ],
                    mean_of_games,
                )
                for size in sizes
            ]
            source = under[under.attack == attack].gradient_source.iloc[0]
            seeds = under.train_seed.nunique()
            label = f"{told[family]}, {attack}" + (f" ({source})" if source else "")
            style = {**look[family], "linestyle": LINE_STYLES[attack]}
            curves.append(Curve(f"{label}, n = {seeds} x {points[0].n // seeds}", style, sizes, points))
    return curves


def _epsilons(axis: Axes, sizes: list[float]) -> None:
    """A horizontal axis of sizes in grey levels."""
    positive = [size for size in sizes if size > 0]
    axis.set_xscale("symlog", linthresh=positive[0] if positive else 1)
    axis.set_xticks(sizes, [f"{255 * size:.3g}" for size in sizes])
    axis.minorticks_off()
    axis.set_xlabel("epsilon (l_inf, in 1/255)")
