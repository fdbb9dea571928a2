"""What decisions cost, and what is scored for it. Never imports torch."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.errors import Refusal
from core.records import OperationsRow, require_single
from evaluate.energy import ACCOUNTS, by_agent, is_spiking, microjoules
from evaluate.figures.style import (
    COLOURS,
    LABELS,
    PANEL_INCHES,
    common_legend,
    label,
    panels,
    reference_lines,
)
from evaluate.statistics import Interval, mean_interval

MARKERS = {"dqn": "s", "quantised": "D", "rate-coded": "o", "dsqn": "^"}
"""The same agent has the same one everywhere, so that it is told without its colour too."""
SHADES = ("#D0D0D0", "#9E9E9E", "#6A6A6A", "#3D3D3D", "#000000")
"""Of layers, first to last, and of accounts."""


class _Agent(NamedTuple):
    """One agent's rows, and what it is called beside the others of its game."""

    name: str
    layers: Sequence[OperationsRow]


def _agents(rows: pd.DataFrame) -> list[_Agent]:
    """The agents of a game, each with a name of its own."""
    typed = (
        OperationsRow(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")
    )
    agents = by_agent(typed)
    names = []
    for layers in agents:
        row = layers[0]
        steps = f", {row.mean_sim_steps:.4g} sim steps" if is_spiking(layers) else ""
        names.append(label(row.agent, row.train_seed, rows) + steps)
    alike = Counter(names)
    return [
        _Agent(name if alike[name] == 1 else f"{name} ({layers[0].checkpoint_id[:6]})", layers)
        for name, layers in zip(names, agents, strict=True)
    ]


def spikes_and_energy(rows: pd.DataFrame) -> Figure:
    """Spikes a decision by layer, and microjoules a decision in the three accounts that give a number, by agent.

    Args:
        rows: columns of OperationsRow.
    """
    games = {game: _agents(rows[rows.game == game]) for game in sorted(set(rows.game))}
    spiking = {
        game: [agent for agent in agents if is_spiking(agent.layers)] for game, agents in games.items()
    }
    heights = [max(map(len, each.values())) + 1.5 for each in (spiking, games)]
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), 0.42 * sum(heights) + 0.8), layout="constrained")
    axes = figure.subplots(2, len(games), squeeze=False, height_ratios=heights)
    for (above, below), (game, agents) in zip(axes.T, games.items(), strict=True):
        above.set_title(game)
        _bars(
            above,
            [agent.name for agent in spiking[game]],
            [[layer.spikes for layer in agent.layers] for agent in spiking[game]],
            [f"layer {layer + 1}" for layer in range(len(agents[0].layers))],
        )
        above.set_xlabel("spikes a decision")
        _bars(
            below,
            [agent.name for agent in agents],
            [list(microjoules(agent.layers)) for agent in agents],
            list(ACCOUNTS)[:3],
        )
        below.set_xlabel("microjoules a decision")
        for axis in (above, below):
            axis.legend(frameon=False, fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.3), ncols=3)
    return figure


def _bars(axis: Axes, names: Sequence[str], values: Sequence[Sequence[float]], parts: Sequence[str]) -> None:
    """Horizontal bars on a logarithmic axis, one group a name, the first at the top; none where the value is 0."""
    thickness = 0.8 / len(parts)
    for index, (part, shade) in enumerate(zip(parts, SHADES[-len(parts) :], strict=True)):
        offset = (index - (len(parts) - 1) / 2) * thickness
        at = np.arange(len(names)) + offset
        widths = [row[index] or np.nan for row in values]
        axis.barh(at, widths, height=0.9 * thickness, color=shade, label=part)
    axis.set_xscale("log")
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.invert_yaxis()


class _Point(NamedTuple):
    """An agent in the plane of energy and score."""

    agent: _Agent
    energy: float
    """Microjoules a decision."""
    score: Interval


def score_against_energy(operations: pd.DataFrame, episodes: pd.DataFrame) -> Figure:
    """Score, with its interval over episodes, against microjoules a decision (first layer computed once); the step line
    is the Pareto front: the best mean score that so much energy buys.

    Args:
        operations: columns of OperationsRow.
        episodes: columns of EpisodeRow; those of other checkpoints, and of the games of `convert compare`, are left out.

    Raises:
        Refusal: an agent whose operations were counted has no episodes, or a game's episodes do not compare.
    """
    figure, axes = panels(operations)
    episodes = episodes[episodes.variant == ""]
    for game, axis in axes.items():
        points = []
        known = operations[operations.game == game]
        played = episodes[(episodes.game == game) & episodes.checkpoint_id.isin(known.checkpoint_id)]
        for column in ("protocol", "eval_seed", "settings"):
            require_single(played[column], f"{column.replace('_', ' ')} of {game}")
        for agent in _agents(known):
            scores = played[played.checkpoint_id == agent.layers[0].checkpoint_id].score
            if scores.empty:
                raise Refusal(
                    f"{agent.layers[0].checkpoint_id} on {game} has operations but no episodes: "
                    "python -m evaluate run plays them"
                )
            energy = microjoules(agent.layers).first_layer_once
            points.append(_Point(agent, energy, mean_interval(scores.to_numpy())))
        _draw_points(axis, points)
        axis.set_xscale("log")
        axis.margins(x=0.12)
        reference_lines(axis, game)
        left, right = axis.get_xlim()
        front = pareto_front([(point.energy, point.score.estimate) for point in points])
        axis.plot(
            [energy for energy, _ in front] + [right],
            [score for _, score in front] + [front[-1][1]],
            drawstyle="steps-post",
            color="black",
            linewidth=0.8,
            zorder=1,
            label="Pareto front",
        )
        axis.set_xlim(left, right)
        axis.set_xlabel("microjoules a decision, first layer once")
        axis.set_ylabel("score")
    common_legend(figure, list(axes.values()), 3)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, score) pairs that no other one beats in score at no more cost, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _draw_points(axis: Axes, points: Sequence[_Point]) -> None:
    for point in points:
        row, score = point.agent.layers[0], point.score
        axis.errorbar(
            point.energy,
            score.estimate,
            yerr=[[score.estimate - score.low], [score.high - score.estimate]],
            fmt=MARKERS[row.agent],
            color=COLOURS[row.agent],
            markersize=4,
            capsize=2,
            linewidth=0.8,
            label=LABELS[row.agent] + (" (number: sim steps)" if is_spiking(point.agent.layers) else ""),
        )
        if is_spiking(point.agent.layers):
            axis.annotate(
                f"{row.mean_sim_steps:.4g}",
                (point.energy, score.estimate),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=6,
            )
