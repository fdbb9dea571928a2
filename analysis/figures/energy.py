"""Figures of spikes and energy per decision, and of scores against energy. Never imports torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter

from analysis.energy import ACCOUNTS, by_agent, is_spiking, microjoules
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    PANEL_INCHES,
    NothingToDraw,
    colour_of,
    common_legend,
    label,
    marker_of,
    panels,
    reference_lines,
)
from analysis.rows import EPISODES, OPERATIONS
from analysis.runs import require_comparable
from analysis.statistics import Interval, mean_interval
from core import kinds
from core.rows import OperationsRow

LAYER_SHADES = ("#FFFFFF", "#C8C8C8", "#909090", "#505050", "#000000")
"""Shades from the first layer to the last."""
ACCOUNT_SHADES = ("#D8B8DF", "#A06CB5", "#5B1F73")
"""Shades in the order of ACCOUNTS. The last account gives no number and has none."""


class _Agent(NamedTuple):
    """One agent's rows, and its name among the agents of its game."""

    name: str
    layers: Sequence[OperationsRow]


def _agents(rows: pd.DataFrame) -> list[_Agent]:
    """The agents of a game, with distinct names."""
    typed = (
        OperationsRow(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")
    )
    agents = by_agent(typed)
    names = []
    for layers in agents:
        row = layers[0]
        steps = f", {row.mean_sim_steps:.4g} sim steps" if is_spiking(layers) else ""
        name = label(row.agent, row.train_seed, rows)
        if row.variant:  # The method's name already implies "converted".
            name = f"{name.removeprefix('converted ')}, {row.variant}"
        names.append(name + steps)
    alike = Counter(names)
    return [
        _Agent(name if alike[name] == 1 else f"{name} ({layers[0].checkpoint_id[:6]})", layers)
        for name, layers in zip(names, agents, strict=True)
    ]


@FIGURES.register("spikes_and_energy")
@draws(OPERATIONS, position=220)
def spikes_and_energy(rows: pd.DataFrame) -> Figure:
    """Spikes per decision by layer, and microjoules per decision in the three accounts that give a number, for games
    that a spiking agent plays.

    Args:
        rows: OperationsRows.

    Raises:
        NothingToDraw: no agent spikes.
    """
    rows = rows[rows.game.isin(rows[rows.sim_steps > 0].game)]
    if rows.empty:
        raise NothingToDraw(
            "no operations of a spiking agent; python -m evaluate probe --agent A [B ...] counts them"
        )
    games = {game: _agents(rows[rows.game == game]) for game in sorted(set(rows.game))}
    spiking = {
        game: [agent for agent in agents if is_spiking(agent.layers)] for game, agents in games.items()
    }
    heights = [0.42 * max(map(len, each.values())) + 0.5 for each in (spiking, games)]
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(2, len(games), squeeze=False, height_ratios=heights)
    for (above, below), (game, agents) in zip(axes.T, games.items(), strict=True):
        above.set_title(game)
        spikes = {agent.name: [layer.spikes for layer in agent.layers] for agent in spiking[game]}
        parts = [f"layer {layer.layer + 1}" for layer in agents[0].layers]
        _dots(above, spikes, dict(zip(parts, LAYER_SHADES, strict=False)))
        above.set_xlabel("spikes per decision")
        energies = {agent.name: microjoules(agent.layers) for agent in agents}
        _dots(below, energies, dict(zip(ACCOUNTS, ACCOUNT_SHADES, strict=False)))
        below.set_xlabel("microjoules per decision")
    common_legend(figure, [*axes[0], *axes[1]], 3)
    return figure


def _dots(axis: Axes, values: Mapping[str, Sequence[float]], parts: Mapping[str, str]) -> None:
    """Draw dots on a logarithmic axis, where lengths of bars would have no meaning. Zeros have no dot.

    Args:
        values: for each name one value per part. The first name is at the top.
        parts: name and shade of each part.
    """
    for index, ((part, shade), marker) in enumerate(zip(parts.items(), "os^Dv", strict=False)):
        at = np.arange(len(values)) + (index - (len(parts) - 1) / 2) * 0.7 / len(parts)
        found = [of_name[index] or np.nan for of_name in values.values()]
        axis.scatter(
            found, at, s=22, marker=marker, color=shade, edgecolor="black", linewidth=0.4, label=part
        )
    axis.set_yticks(range(len(values)), list(values), fontsize=6)
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.grid(axis="x", color="#E6E6E6", linewidth=0.5)
    axis.set_axisbelow(True)
    for border in np.arange(1, len(values)) - 0.5:
        axis.axhline(border, color="#E6E6E6", linewidth=0.5)
    _logarithmic(axis)


def _logarithmic(axis: Axes) -> None:
    """Make the horizontal axis logarithmic, with plain numbers. Within one decade, minor ticks get labels too."""
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(LogFormatter())


class _Point(NamedTuple):
    """An agent in the plane of energy and score."""

    agent: _Agent
    energy: float
    """Microjoules per decision."""
    score: Interval


@FIGURES.register("score_against_energy")
@draws(OPERATIONS, EPISODES, position=230)
def score_against_energy(operations: pd.DataFrame, episodes: pd.DataFrame) -> Figure:
    """Score, with its interval over episodes, against microjoules per decision (first layer computed once). The step
    line is the Pareto front: the best mean score for so much energy.

    Args:
        operations: OperationsRows.
        episodes: EpisodeRows. Checkpoints without operations are left out.

    Raises:
        NothingToDraw: an agent with operations has no episodes.
        Refusal: the episodes of a game do not compare.
    """
    figure, axes = panels(operations)
    # If the best weights are the final ones, each of their games has two rows.
    episodes = episodes.drop_duplicates(
        ["game", "checkpoint_id", "protocol", "settings", "eval_seed", "episode"]
    )
    for game, axis in axes.items():
        points = []
        known = operations[operations.game == game]
        played = episodes[(episodes.game == game) & episodes.checkpoint_id.isin(known.checkpoint_id)]
        require_comparable(played)
        for agent in _agents(known):
            scores = played[played.checkpoint_id == agent.layers[0].checkpoint_id].score
            if scores.empty:
                raise NothingToDraw(
                    f"{agent.layers[0].checkpoint_id} on {game} has operations but no episodes; "
                    "python -m evaluate run makes them"
                )
            energy = microjoules(agent.layers).first_layer_once
            points.append(_Point(agent, energy, mean_interval(scores.to_numpy())))
        _draw_points(axis, points)
        _logarithmic(axis)
        axis.margins(x=0.25)
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
        axis.set_xlabel("microjoules per decision, first layer once")
        axis.set_ylabel("score")
    common_legend(figure, list(axes.values()), 3)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs (cost, score) with a higher score than all pairs of equal or lower cost, cheapest first."""
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
            yerr=[[score.estimate - score.low], [score.high - score.estimate]] if score.is_given else None,
            fmt=marker_of(row.agent),
            color=colour_of(row.agent),
            markersize=4,
            capsize=2,
            linewidth=0.8,
            label=kinds.label(row.agent) + (" (number: sim steps)" if is_spiking(point.agent.layers) else ""),
        )
        if is_spiking(point.agent.layers):
            axis.annotate(
                f"{row.mean_sim_steps:.4g}",
                (point.energy, score.estimate),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=6,
            )
