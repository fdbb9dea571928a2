"""Figures of the scores of trained agents. Never imports torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_PANELS,
    NothingToDraw,
    foot,
    grid,
    looks,
    parts,
    reference_lines,
    row_labels,
)
from analysis.rows import EPISODES, typed
from analysis.runs import (
    Family,
    in_order,
    is_double,
    names,
    single_q,
)
from analysis.tables import Line, score_lines
from core.games import PUBLISHED
from core.rows import EpisodeRow


@FIGURES.register("score_bars")
@draws(EPISODES, section="scores", position=10)
def score_bars(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Mean scores with their intervals over episodes. Lines: random and human play (the tables of Liu and Tan).

    The best and the final weights of a training run are two bars. The final one is hatched.
    """
    lines = _lines(rows)
    yield from _bar_figures(
        {game: [line for line in lines if line.game == game] for game in sorted(set(rows.game))}
    )


def _lines(rows: pd.DataFrame) -> list[Line]:
    return score_lines(typed(rows, EpisodeRow))


def _bar_figures(
    panels: Mapping[str, Sequence[Line]],
    label_of: Callable[[Family], str] | None = None,
    published: Callable[[Line], float | None] = lambda line: None,
    remark: str = "",
) -> Iterator[tuple[str, Figure]]:
    """Draw a panel for each title, with a bar for each network. Bars of one family and checkpoint share a label.

    Args:
        panels: for each title the lines of one game, in order.
        label_of: the label of a family; by default its short name.
        published: the published score of such a network, if there is one.
        remark: added to the note below the figures.

    Yields:
        The ending of the name and the figure.
    """
    for number, titles in parts(list(panels), MAX_PANELS):
        yield number, _bar_panels({title: panels[title] for title in titles}, label_of, published, remark)


def _bar_panels(
    panels: Mapping[str, Sequence[Line]],
    label_of: Callable[[Family], str] | None,
    published: Callable[[Line], float | None],
    remark: str,
) -> Figure:
    groups: dict[str, dict[tuple[Family, str, bool], list[Line]]] = {title: {} for title in panels}
    for title, lines in panels.items():
        for line in lines:
            imported = line.train_seed < 0 and line.agent != "random"
            groups[title].setdefault((line.family, line.checkpoint, imported), []).append(line)
    figure, axes = grid(list(panels))
    heights = []
    for title, of_panel in groups.items():
        axis, game = axes[title], panels[title][0].game
        found = in_order(family for family, *_ in of_panel)
        short, look = names(found), looks(found)
        labels = []
        for position, ((family, checkpoint, imported), group) in enumerate(of_panel.items()):
            thickness = 0.8 / len(group)
            for index, line in enumerate(group):
                at = position + thickness * (index - (len(group) - 1) / 2)
                _bar(axis, line, at, thickness, look[family]["color"])
            name = label_of(family) if label_of else short[family]
            described = ", ".join(filter(None, (name, "imported" if imported else "", checkpoint)))
            count = f"n\u00a0=\u00a0{len(group)}\u00a0x\u00a0{min(line.score.n for line in group)}"
            labels.append(f"{described}, {count}")
            known = published(group[0])
            if known is not None and checkpoint != "final":
                axis.plot(known, position, "D", color="black", markersize=3, zorder=3)
        axis.set_title(axis.get_title(), pad=9)
        row = row_labels(axis, labels, LABEL_WIDTH[min(len(panels), 3)])
        bars = max(0.11 * len(group) for group in of_panel.values())
        heights.append(max(0.2, bars, row) * len(labels) + 0.7)
        axis.margins(x=0.2)
        axis.axvline(0, color="black", linewidth=0.5)
        axis.set_xlabel("score")
        reference_lines(axis, game, upright=True)
    figure.set_figheight(max(heights) * math.ceil(len(panels) / 3))
    foot(
        figure,
        list(axes.values()),
        "Each bar is one network. n: networks (training seeds) x episodes. Intervals: 95 %, over the episodes of one "
        "network, not over training seeds. Hatched: final weights of a training run." + remark,
    )
    return figure


def _remark(line: Line) -> str:
    """What follows the score of a network that does not count as trained."""
    if not line.score.is_given:
        return " (too few games)"
    return " (not trained)" if line.note else ""


LABEL_WIDTH = {1: 1.1, 2: 1.1, 3: 0.95}
"""Inches for labels of bars, by the number of panels in a row."""


def _bar(axis: Axes, line: Line, at: float, thickness: float, colour: str) -> None:
    """Draw the bar of one network at a height, with its interval and its mean."""
    score, is_final = line.score, line.checkpoint == "final"
    axis.barh(
        at,
        score.estimate,
        0.9 * thickness,
        xerr=[[score.estimate - score.low], [score.high - score.estimate]] if score.is_given else None,
        color=colour,
        error_kw={"linewidth": 0.6, "capsize": 1.2},
        hatch="//////" if is_final else None,
        edgecolor="white" if is_final else colour,
        linewidth=0,
    )
    axis.annotate(
        f"{score.estimate:,.1f}{_remark(line)}",
        (max(score.high if score.is_given else score.estimate, 0), at),
        xytext=(2, 0),
        textcoords="offset points",
        va="center",
        fontsize=5,
        bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.2, "linewidth": 0},
    )


READOUT_ORDER = ("last-mem", "max-mem", "mean-mem", "max-abs-mem", "rate", "spike-rate")
READOUT_OF_NETWORK = {
    **{"chen2022": "max-mem", "liu2022": "rate", "liu2022-spike": "spike-rate", "liu2022-if": "rate"},
    **{"tutorial": "last-mem"},
}
"""Read-outs of the built-in networks, whose names in rows do not contain it (see core/networks.py)."""


def readout(family: Family) -> str:
    """The read-out of a DSQN. Rows do not tell which one a network of an extension has if none is chosen."""
    base, *changes = family.network.split("+")
    given = [change.removeprefix("readout=") for change in changes if change.startswith("readout=")]
    return given[0] if given else READOUT_OF_NETWORK.get(base, f"that of {base}")


def _readout_order(name: str) -> tuple[int, str]:
    """Sort key of read-outs: those of the papers in the order of READOUT_ORDER, then others by name."""
    known = READOUT_ORDER.index(name) if name in READOUT_ORDER else len(READOUT_ORDER)
    return known, name


@FIGURES.register("chen2022_table1_decoders")
@draws(EPISODES, section="scores", position=50)
def chen2022_table1_decoders(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Scores of DSQNs that differ only in their read-out, for each network and recipe (Chen et al. 2022, Table 1).
    Diamonds: means of Chen et al. on the same game.

    Raises:
        NothingToDraw: no two DSQNs differ only in their read-out.
    """
    by_panel: dict[str, list[Line]] = {}
    for line in _lines(rows):
        if line.agent == "dsqn":
            rest = [part for part in line.network.split("+") if not part.startswith("readout=")]
            by_panel.setdefault(f"{line.game}\n{'+'.join(rest)}, {line.recipe}", []).append(line)
    by_panel = {
        title: lines for title, lines in by_panel.items() if len({readout(line.family) for line in lines}) > 1
    }
    if not by_panel:
        raise NothingToDraw(
            "no two DSQNs differ only in their read-out; spikeq train dsqn --readout trains them"
        )
    for lines in by_panel.values():
        lines.sort(key=lambda line: _readout_order(readout(line.family)))
    published = pd.read_csv(PUBLISHED / "published_scores.csv")
    published = published[(published.paper == "chen2022") & (published.table == "Table 1")]
    theirs = {
        (game, agent.removeprefix("dsqn ")): float(mean)
        for game, agent, mean in published[["game", "agent", "mean"]].to_numpy()
    }
    played = {line.game for lines in by_panel.values() for line in lines} & set(published.game)
    yield from _bar_figures(
        by_panel,
        label_of=readout,
        published=lambda line: theirs.get((line.game, readout(line.family))),
        remark=" Diamonds: means of Chen et al. at 8 sim steps." if played else "",
    )


@FIGURES.register("liu2022_table8_double_dqn")
@draws(EPISODES, section="scores", position=60)
def liu2022_table8_double_dqn(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Scores of DQNs and DSQNs with and without Double Q-learning (Liu et al. 2022, Table VIII).

    Raises:
        NothingToDraw: no agent learnt by Double Q-learning.
    """
    lines = _lines(rows)
    doubled = {(line.game, single_q(line.family)) for line in lines if is_double(line.family)}
    lines = [line for line in lines if (line.game, single_q(line.family)) in doubled]
    if not lines:
        raise NothingToDraw(
            "no agent learnt by Double Q-learning; spikeq train dqn (dsqn) --double trains them"
        )
    games = sorted({line.game for line in lines})
    yield from _bar_figures({game: [line for line in lines if line.game == game] for game in games})
