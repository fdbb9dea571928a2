"""Curves of training. Never imports torch."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import COLOURS, decisions, panels, reference_lines, runs


def liu2022_fig7_learning_curves(rows: pd.DataFrame) -> Figure:
    """Score of validation episodes while training (Liu et al. 2022, Fig 7; Chen et al. 2022, Fig 6)."""
    figure, axes = panels(rows)
    for game, axis in axes.items():
        for agent, label, run in runs(rows[rows.game == game]):
            scores = run.groupby("train_steps").score
            means = scores.mean()
            axis.plot(means.index, means, color=COLOURS[agent], label=label, marker=".")
            low, high = scores.quantile(0.25), scores.quantile(0.75)
            axis.fill_between(means.index, low, high, color=COLOURS[agent], alpha=0.2)
        reference_lines(axis, game)
        decisions(axis)
        axis.set_ylabel("validation score\n(mean, quartiles)")
    return figure


def training_loss(rows: pd.DataFrame) -> Figure:
    """Loss of the updates while training."""
    figure, axes = panels(rows)
    for game, axis in axes.items():
        for agent, label, run in runs(rows[(rows.game == game) & rows.loss.notna()]):
            axis.plot(run.steps, run.loss, color=COLOURS[agent], label=label)
        decisions(axis)
        axis.set_ylabel("loss")
        axis.set_yscale("log")
    return figure
