"""Shared style of figures: colours and markers of agents, panels, axes and legends. Never imports torch."""

import colorsys
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.runs import Family
from core import kinds
from core.errors import Refusal
from core.games import get_game, reference
from core.records import digest


class NothingToDraw(Refusal):
    """The rows hold nothing for a figure to draw. The message names the command that makes such rows."""


PANEL_INCHES = (3.5, 2.6)
COLOURS = {
    **{"random": "#999999", "dqn": "#0072B2", "quantised": "#56B4E9"},
    **{"rate-coded": "#E69F00", "dsqn": "#009E73", "adapted": "#F0E442"},
    **{"actor": "#CC79A7", "spiking-actor": "#D55E00"},
}
"""Colours of kinds of agents, from Okabe and Ito's palette for colour-blind readers. Other kinds: `colour_of`."""
MARKERS = {
    **{"dqn": "s", "quantised": "D", "rate-coded": "o", "dsqn": "^", "adapted": "X"},
    **{"actor": "P", "spiking-actor": "v"},
}
"""Markers of kinds of agents, which differ without colour too. Other kinds: `marker_of`."""
LINE_STYLES = {"robust": "-", "spikes": "--"}
"""Line styles of the read-outs of converted networks."""

matplotlib.use("Agg")
matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})


def colour_of(agent: str) -> str:
    """The colour of a kind of agent, equal in all figures. Unknown kinds get a hue derived from their name."""
    hue = int(digest(agent.encode())[:8], 16) / 16**8
    return COLOURS.get(agent) or to_hex(colorsys.hsv_to_rgb(hue, 0.65, 0.75))


def marker_of(agent: str) -> str:
    """The marker of a kind of agent, equal in all figures. Unknown kinds get a marker derived from their name."""
    others = "*<>phHd"
    return MARKERS.get(agent) or others[int(digest(agent.encode())[8:16], 16) % len(others)]


def panels(rows: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel for each game."""
    return grid(sorted(set(rows.game)))


def grid(titles: Sequence[str], height: float = PANEL_INCHES[1]) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel for each title, three in a row. `height` of a panel is in inches."""
    columns = min(len(titles), 3)
    lines = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, height * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[len(titles) :]:
        axis.remove()
    for title, axis in zip(titles, axes, strict=False):
        axis.set_title(title)
    return figure, dict(zip(titles, axes, strict=False))


def runs(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Agent, label and rows of every trained network. Training seeds are separate."""
    for agent in sorted(set(rows.agent), key=kinds.order):
        for seed in sorted(set(rows[rows.agent == agent].train_seed)):
            yield agent, label(agent, seed, rows), rows[(rows.agent == agent) & (rows.train_seed == seed)]


def label(agent: str, seed: int, rows: pd.DataFrame) -> str:
    """The agent's name, with its training seed if there are several."""
    several = rows[rows.agent == agent].train_seed.nunique() > 1
    name = "imported" if seed < 0 else f"seed {seed}"
    return f"{kinds.label(agent)}, {name}" if several else kinds.label(agent)


def decisions(axis: Axes) -> None:
    """Label the horizontal axis with decisions, and add a legend."""
    axis.set_xlabel("decisions")
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.legend(frameon=False)


def sim_steps(axis: Axes, values: list[int]) -> None:
    """Make the horizontal axis a logarithmic one of simulation steps."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(each) for each in values], fontsize=6)
    axis.minorticks_off()
    axis.set_xlabel("sim steps per decision")


def reference_lines(axis: Axes, game: str, upright: bool = False) -> None:
    """Draw the scores of random play, and of human play if known, as lines.

    Args:
        axis: where to draw.
        game: name of a registered game.
        upright: draw vertical lines, for a horizontal axis of scores.
    """
    references = reference(get_game(game))
    for name, score, colour, dashes in (
        ("random", references.random, "#666666", ":"),
        ("human", references.human, "black", "--"),
    ):
        if score is None:
            continue
        (axis.axvline if upright else axis.axhline)(score, color=colour, linestyle=dashes, linewidth=0.8)
        # The labels are on different sides of their lines, because the lines may be close together.
        above = name == "human"
        axis.annotate(
            name,
            (score, 1) if upright else (1, score),
            xytext=(1 if above else -1, 1) if upright else (2, 0),
            xycoords=("data", "axes fraction") if upright else ("axes fraction", "data"),
            textcoords="offset points",
            ha=("left" if above else "right") if upright else "left",
            va="bottom" if upright or above else "top",
            fontsize=6,
            color=colour,
        )


def common_legend(figure: Figure, axes: list[Axes], columns: int) -> None:
    """Add one legend for all panels below them."""
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


def looks(found: Sequence[Family]) -> dict[Family, dict[str, Any]]:
    """Colour and line style of each family. The first family of a kind of agent has the colour of that kind."""
    others = tuple(
        colour
        for colour in ("#D55E00", "#CC79A7", "#555555", "#882255", "#332288", "#AA4499")
        if colour not in {colour_of(family.agent) for family in found}
    )
    dashes = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)), ":")
    result: dict[Family, dict[str, Any]] = {}
    taken = 0
    for family in found:
        siblings = [each for each in found if each.agent == family.agent]
        position = siblings.index(family)
        colour = colour_of(family.agent)
        if position:
            colour = others[taken % len(others)]
            taken += 1
        result[family] = {"color": colour, "linestyle": dashes[position % len(dashes)]}
    return result


def legend_below(axis: Axes, columns: int = 2) -> None:
    """Add the legend of one panel below it."""
    columns = min(columns, len(axis.get_legend_handles_labels()[1]))
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
        ncols=columns,
        frameon=False,
        fontsize=6,
        handlelength=2.5,
    )


def bar_labels(axis: Axes, labels: Sequence[str]) -> None:
    """Label bars below the axis. Labels are rotated if they are too long to fit."""
    labels = [label.replace("n = ", "n\u00a0=\u00a0") for label in labels]
    letters = int(60 / len(labels))
    upright = max(len(word) for label in labels for word in label.split()) > letters
    lines = [label if upright else textwrap.fill(label, letters, break_on_hyphens=False) for label in labels]
    axis.set_xticks(range(len(labels)), lines, fontsize=6, rotation=90 if upright else 0)


def note(figure: Figure, text: str) -> None:
    """Add a note in small print below all panels."""
    characters = int(22 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(text, characters), fontsize=6, x=0.01, ha="left")
