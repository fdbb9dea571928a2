"""What all figures have in common: one look for each agent, panels, axes and legends. Never imports torch."""

from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.games import get_game, reference
from evaluate.runs import AGENT_ORDER, LABELS

PANEL_INCHES = (3.5, 2.6)
# Okabe & Ito's colours, which the colour-blind tell apart; the same agent has the same one everywhere.
COLOURS = {
    **{"random": "#999999", "dqn": "#0072B2", "quantised": "#56B4E9"},
    **{"rate-coded": "#E69F00", "dsqn": "#009E73"},
}
LINE_STYLES = {"fgsm": "-", "random-sign": ":", "robust": "-", "spikes": "--"}

matplotlib.use("Agg")
matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})


def panels(rows: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """One panel a game, side by side."""
    games = sorted(set(rows.game))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, len(games), squeeze=False)[0]
    for game, axis in zip(games, axes, strict=True):
        axis.set_title(game)
    return figure, dict(zip(games, axes, strict=True))


def runs(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Agent, label and rows of every trained network, one training seed apart from the next."""
    for agent in AGENT_ORDER:
        for seed in sorted(set(rows[rows.agent == agent].train_seed)):
            yield agent, label(agent, seed, rows), rows[(rows.agent == agent) & (rows.train_seed == seed)]


def checkpoints(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The same of every checkpoint: several of one training run, or of other lengths, are not averaged."""
    for agent, label, run in runs(rows):
        trained = {str(name): group.train_steps.iloc[0] for name, group in run.groupby("checkpoint_id")}
        for checkpoint, steps in sorted(trained.items(), key=lambda each: each[1]):
            longer = f"{label}, {steps:,} decisions" if len(trained) > 1 else label
            yield agent, longer, run[run.checkpoint_id == checkpoint]


def label(agent: str, seed: int, rows: pd.DataFrame) -> str:
    """The agent's name, with its training seed where there are several."""
    several = rows[rows.agent == agent].train_seed.nunique() > 1
    name = "imported" if seed < 0 else f"seed {seed}"
    return f"{LABELS[agent]}, {name}" if several else LABELS[agent]


def decisions(axis: Axes) -> None:
    """A horizontal axis of decisions, and the legend of what is drawn over it."""
    axis.set_xlabel("decisions")
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.legend(frameon=False)


def sim_steps(axis: Axes, values: list[int]) -> None:
    """A horizontal axis of simulation steps."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(each) for each in values], fontsize=6)
    axis.minorticks_off()
    axis.set_xlabel("sim steps until the decision")


def reference_lines(axis: Axes, game: str) -> None:
    """Published or measured random play, and human play where there is a number."""
    references = reference(get_game(game))
    if references.random is not None:
        axis.axhline(references.random, color=COLOURS["random"], linestyle=":", linewidth=1)
    if references.human is not None:
        axis.axhline(references.human, color="black", linestyle="--", linewidth=0.8)
        axis.annotate(
            "human",
            (1, references.human),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=6,
        )


def common_legend(figure: Figure, axes: list[Axes], columns: int) -> None:
    """One legend below the panels, because they draw the same things."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=6,
    )
