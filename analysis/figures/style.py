"""Shared style of figures: colours and markers of agents, panels, axes and legends. Never imports torch."""

import colorsys
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from analysis.runs import Family
from core import kinds
from core.errors import Refusal
from core.games import get_game, reference
from core.records import digest


class NothingToDraw(Refusal):
    """The rows hold nothing for a figure to draw. The message names the command that makes such rows."""


ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0
"""Widths of figures in inches: one column of a paper, or both."""
PANEL_HEIGHT = 1.9
"""Height of a panel with curves, in inches."""
MAX_PANELS, MAX_LINES, MAX_ROWS = 6, 6, 20
"""The most panels, lines in a panel, and rows of points or bars that one figure shows. More becomes several figures."""
SMALL = 6
"""Small print, in points. Other text has 7."""
LINE = 1.3 * SMALL / 72
"""Height of a line of small print, in inches."""
COLOURS = {
    **{"random": "#999999", "dqn": "#0072B2", "quantised": "#56B4E9"},
    **{"rate-coded": "#E69F00", "dsqn": "#009E73", "adapted": "#F0E442"},
    **{"actor": "#CC79A7", "spiking-actor": "#D55E00"},
}
"""Colours of kinds of agents, from Okabe and Ito's palette for colour-blind readers. Other kinds: `colour_of`."""
METHOD_COLOURS = {
    **{"tan2021": "#882255", "max": "#CC6677", "v-init": "#661100", "threshold-search": "#AA4499"},
    **{"presteps": "#DDCC77", "signed": "#999933", "reconstruct": "#332288", "residual": "#6699CC"},
    **{"anytime": "#44AA99", "afterwards": "#117733", "pursuit": "#911EB4", "pursuit-afterwards": "#9A6324"},
    **{"qcfs": "#E7298A", "exact": "#7570B3", "qcfs-pursuit": "#F58231", "exact-pursuit": "#66A61E"},
    "hybrid": "#E31A1C",
}
"""Colours of conversion methods, which no kind of agent has, in the order of legends. Mostly Paul Tol's palettes."""
MARKERS = {
    **{"dqn": "s", "quantised": "D", "rate-coded": "o", "dsqn": "^", "adapted": "X"},
    **{"actor": "P", "spiking-actor": "v"},
}
"""Markers of kinds of agents, which differ without colour too. Other kinds: `marker_of`."""
ATTACKERS = {
    **{"best white-box": ("#000000", "o"), "FGSM, training gradient": ("#CA0020", "s")},
    **{"transfer": ("#A6611A", "^"), "black-box": ("#80CDC1", "D"), "noise": ("#BABABA", "x")},
}
"""Colours and markers of attackers. No agent and no method has these colours. Their lines are solid."""
_DASHES: tuple[tuple[float, Any], ...] = (
    *((2, (0, (1, 1))), (4, (0, (3, 1))), (8, (0, (3, 1, 1, 1))), (16, (0, (3, 1, 1, 1, 1, 1)))),
    *((64, (0, (6, 1.5))), (math.inf, "-")),
)
"""Line styles of spiking networks, up to so many simulation steps."""

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        **{"font.size": 7, "axes.titlesize": 7, "figure.titlesize": 7},
        **{"xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL},
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6},
        **{
            "lines.linewidth": 1.0,
            "lines.markersize": 4,
            "legend.frameon": False,
            "legend.handlelength": 3.0,
        },
        **{"xtick.major.width": 0.6, "ytick.major.width": 0.6, "pdf.fonttype": 42},
    }
)


def colour_of(agent: str, variant: str = "") -> str:
    """The colour of a kind of agent, or of a conversion method, equal in all figures.

    Args:
        agent: kind of agent.
        variant: conversion method and its options, by which converted spiking networks are coloured.

    Returns:
        A colour from the tables above. Kinds and methods that they lack get a hue derived from their name.
    """
    method = variant if agent == "rate-coded" else ""
    known = METHOD_COLOURS.get(method.split(" ")[0]) if method else COLOURS.get(agent)
    hue = int(digest((method or agent).encode())[:8], 16) / 16**8
    return known or to_hex(colorsys.hsv_to_rgb(hue, 0.65, 0.75))


def marker_of(agent: str) -> str:
    """The marker of a kind of agent, equal in all figures. Unknown kinds get a marker derived from their name."""
    others = "*<>phHd"
    return MARKERS.get(agent) or others[int(digest(agent.encode())[8:16], 16) % len(others)]


def dashes_of(sim_steps: float) -> Any:
    """The line style of a number of simulation steps, equal in all figures; a solid line without spikes."""
    return next(dashes for most, dashes in _DASHES if sim_steps <= most) if sim_steps else "-"


def fill_of(sim_steps: float) -> Any:
    """How markers of a number of simulation steps are filled, where a method has several; full without spikes."""
    fills = ((4, "full"), (8, "left"), (16, "bottom"), (64, "none"), (math.inf, "full"))
    return next(fill for most, fill in fills if sim_steps <= most)


def grid(titles: Sequence[str], height: float = PANEL_HEIGHT) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel for each title, three in a row. One panel is as wide as a column of a paper.

    Args:
        titles: of the panels, `MAX_PANELS` at most.
        height: of a panel with its labels, in inches.
    """
    columns = min(len(titles), 3)
    lines = math.ceil(len(titles) / columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, height * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[len(titles) :]:
        axis.remove()
    for title, axis in zip(titles, axes, strict=False):
        axis.set_title(wrapped(title, width / columns - 0.4))
    return figure, dict(zip(titles, axes, strict=False))


def wrapped(text: str, inches: float, points: float = 7) -> str:
    """Text broken into lines that are about so wide. Letters are taken to be 0.58 times as wide as high.

    A word that is wider than a line is broken behind signs, as in replay_capacity_steps=10000.
    """
    letters = max(8, int(72 * inches / (0.58 * points)))

    def broken(word: re.Match[str]) -> str:
        lines = [""]
        for piece in re.findall(r"[^_=+,]*[_=+,]?", word[0]):
            if len(lines[-1]) + len(piece) > letters:
                lines.append("")
            lines[-1] += piece
        return " ".join(filter(None, lines))

    return "\n".join(
        textwrap.fill(re.sub(rf"\S{{{letters + 1},}}", broken, line), letters, break_on_hyphens=False)
        for line in text.splitlines()
    )


Part = TypeVar("Part")


def parts(whole: Sequence[Part], most: int) -> Iterator[tuple[str, Sequence[Part]]]:
    """A sequence in parts of at most so many, evenly filled, with the ending of the figure that shows the part.

    The ending is empty if there is one part, and otherwise its number.
    """
    count = max(1, math.ceil(len(whole) / most))
    for number in range(count):
        begin, end = (len(whole) * each // count for each in (number, number + 1))
        yield (str(number + 1) if count > 1 else ""), whole[begin:end]


def ending(*words: str) -> str:
    """The ending of a figure's name from words such as a game and a number; empty words are left out."""
    return "-".join(word.replace("/", "-") for word in words if word)


def runs(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Agent, label and rows of every trained network. Training seeds are separate."""
    for agent in sorted(set(rows.agent), key=kinds.order):
        for seed in sorted(set(rows[rows.agent == agent].train_seed)):
            yield agent, label(agent, seed, rows), rows[(rows.agent == agent) & (rows.train_seed == seed)]


def label(agent: str, seed: int, rows: pd.DataFrame, variant: str = "") -> str:
    """The agent's name, with its training seed if there are several. Variant: as in `kinds.label`."""
    several = rows[rows.agent == agent].train_seed.nunique() > 1
    name, of_seed = kinds.label(agent, variant), "imported" if seed < 0 else f"seed {seed}"
    return f"{name}, {of_seed}" if several else name


def decisions(axis: Axes) -> None:
    """Label the horizontal axis with decisions."""
    axis.set_xlabel("decisions")
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))


def few_numbers(axis: Axis) -> None:
    """Let a logarithmic axis, on which everything is drawn, have few and plain numbers."""
    axis.axes.autoscale_view()
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    subs = (1,) if decades > 1.5 else (1, 3) if decades > 0.7 else (1, 2, 3, 5)
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs, numticks=5))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def sim_steps(axis: Axes, values: list[int]) -> None:
    """Make the horizontal axis a logarithmic one of simulation steps."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(each) for each in values], rotation=90 if len(values) > 6 else 0)
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
            fontsize=SMALL,
            color=colour,
        )


def steps_of(rows: pd.DataFrame) -> dict[Family, int]:
    """The simulation steps of each family in rows with columns `family` and `sim_steps`."""
    return {family: int(rows[rows.family == family].sim_steps.max()) for family in set(rows.family)}


def looks(
    found: Sequence[Family], sim_steps: Mapping[Family, int] | None = None
) -> dict[Family, dict[str, Any]]:
    """Colour and line style of each family.

    The colour is that of the kind of agent or of the conversion method. The line style is that of the simulation steps.
    Families that share both have lighter shades of the colour.

    Args:
        found: the families.
        sim_steps: simulation steps of families whose name does not hold them (`steps_of`).
    """
    result: dict[Family, dict[str, Any]] = {}
    alike: Counter[str] = Counter()
    for family in found:
        colour = colour_of(family.agent, family.variant)
        dashes = dashes_of(family.sim_steps or (sim_steps or {}).get(family, 0))
        shade = lighter(colour, alike[f"{colour} {dashes}"])
        result[family] = {"color": shade, "linestyle": dashes}
        alike[f"{colour} {dashes}"] += 1
    return result


def lighter(colour: str, steps: int) -> str:
    """A shade of a colour, by a number of ever smaller steps towards white."""
    if steps == 0:
        return colour
    share = 0.75 * (1 - 0.6**steps)
    red, green, blue = (value + (1 - value) * share for value in to_rgb(colour))
    return to_hex((red, green, blue))


def foot(figure: Figure, axes: Sequence[Axes], text: str = "") -> None:
    """Add one legend for all panels below them, and a note in small print above it.

    Args:
        figure: the figure; panels and labels are complete.
        axes: its panels.
        text: the note.
    """
    handles: dict[str, Artist] = {}
    for axis in axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    width = figure.get_figwidth()
    filled = wrapped(text, width - 0.2, SMALL) if text else None
    # Legend and note come on top of the height that the panels have.
    added = 1 + filled.count("\n") if filled else 0
    if handles:
        labels = [wrapped(label, width - 0.6, SMALL) for label in handles]
        letters = max(len(line) for label in labels for line in label.splitlines())
        columns = max(1, min(len(labels), int((width - 0.1) / (letters * 0.55 * SMALL / 72 + 0.5))))
        added += math.ceil(len(labels) / columns) * max(1 + label.count("\n") for label in labels)
        figure.legend(
            handles.values(),
            labels,
            loc="outside lower left" if filled else "outside lower center",
            ncols=columns,
            title=filled,
            title_fontsize=SMALL,
            alignment="left",
            columnspacing=1.0,
            borderaxespad=0.2,
        )
    elif filled:
        figure.supxlabel(filled, fontsize=SMALL, x=0.01, ha="left")
    figure.set_figheight(figure.get_figheight() + LINE * added + 0.05)


def row_labels(axis: Axes, labels: Sequence[str], inches: float) -> float:
    """Label rows from the top down, and return the height in inches that a row needs for its label."""
    lines = [wrapped(label, inches, SMALL) for label in labels]
    axis.set_yticks(range(len(lines)), lines, linespacing=0.95)
    axis.set_ylim(len(lines) - 0.5, -0.5)
    return LINE * max(1 + label.count("\n") for label in lines) + 0.06
