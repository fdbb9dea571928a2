"""Figures of spikes and energy per decision, and of scores against energy. Never imports torch."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.energy import ACCOUNTS, by_agent, is_spiking, microjoules
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_PANELS,
    MAX_ROWS,
    TWO_COLUMNS,
    NothingToDraw,
    colour_of,
    ending,
    few_numbers,
    fill_of,
    foot,
    grid,
    label,
    marker_of,
    parts,
    reference_lines,
    row_labels,
)
from analysis.rows import EPISODES, OPERATIONS, typed
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
    agents = by_agent(typed(rows, OperationsRow))
    names = []
    for layers in agents:
        row = layers[0]
        steps = f", {row.mean_sim_steps:.4g} sim steps" if is_spiking(layers) else ""
        name = label(row.agent, row.train_seed, rows, row.variant)
        names.append(", ".join(filter(None, (name, row.variant))) + steps)
    alike = Counter(names)
    return [
        _Agent(name if alike[name] == 1 else f"{name} ({layers[0].checkpoint_id[:6]})", layers)
        for name, layers in zip(names, agents, strict=True)
    ]


@FIGURES.register("spikes_and_energy")
@draws(OPERATIONS, section="cost", position=220)
def spikes_and_energy(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
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
            "no operations of a spiking agent; spikeq evaluate probe --agent A [B ...] counts them"
        )
    for game in sorted(set(rows.game)):
        for number, agents in parts(_agents(rows[rows.game == game]), MAX_ROWS):
            yield ending(game, number), _operations_figure(game, agents)


def _operations_figure(game: str, agents: Sequence[_Agent]) -> Figure:
    """Spikes and energy side by side, with a row for each agent."""
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    spikes = {
        agent.name: [layer.spikes if is_spiking(agent.layers) else 0.0 for layer in agent.layers]
        for agent in agents
    }
    layers = [f"layer {layer.layer + 1}" for layer in agents[0].layers]
    _dots(left, spikes, dict(zip(layers, LAYER_SHADES, strict=False)))
    left.set_xlabel("spikes per decision")
    energies = {agent.name: microjoules(agent.layers) for agent in agents}
    _dots(right, energies, dict(zip(ACCOUNTS, ACCOUNT_SHADES, strict=False)))
    right.set_xlabel("microjoules per decision")
    row = row_labels(left, [agent.name for agent in agents], 1.7)
    figure.set_size_inches(TWO_COLUMNS, max(0.3, row) * len(agents) + 0.8)
    figure.suptitle(game)
    foot(figure, [left, right])
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
            found, at, s=14, marker=marker, color=shade, edgecolor="black", linewidth=0.4, label=part
        )
    axis.grid(axis="x", color="#E6E6E6", linewidth=0.5)
    axis.set_axisbelow(True)
    for border in np.arange(1, len(values)) - 0.5:
        axis.axhline(border, color="#E6E6E6", linewidth=0.5)
    axis.set_xscale("log")
    few_numbers(axis.xaxis)


class _Point(NamedTuple):
    """An agent in the plane of energy and score."""

    agent: _Agent
    energy: float
    """Microjoules per decision."""
    score: Interval


@FIGURES.register("score_against_energy")
@draws(OPERATIONS, EPISODES, section="cost", position=230)
def score_against_energy(operations: pd.DataFrame, episodes: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Which network scores most for so much energy: on the step line (Pareto front), none scores higher for less.
    Bars: 95 % over episodes.

    Args:
        operations: OperationsRows.
        episodes: EpisodeRows. Checkpoints without operations are left out.

    Raises:
        NothingToDraw: an agent with operations has no episodes.
        Refusal: the episodes of a game do not compare.
    """
    # If the best weights are the final ones, each of their games has two rows.
    episodes = episodes.drop_duplicates(
        ["game", "checkpoint_id", "protocol", "settings", "eval_seed", "episode"]
    )
    for number, games in parts(sorted(set(operations.game)), MAX_PANELS):
        yield number, _energy_figure(games, operations, episodes)


def _energy_figure(games: Sequence[str], operations: pd.DataFrame, episodes: pd.DataFrame) -> Figure:
    """A panel for each game, with a point for each agent."""
    figure, axes = grid(games)
    lacking: list[str] = []
    for game, axis in axes.items():
        points = []
        known = operations[operations.game == game]
        played = episodes[(episodes.game == game) & episodes.checkpoint_id.isin(known.checkpoint_id)]
        require_comparable(played)
        lacking += _without_operations(game, episodes, known)
        for agent in _agents(known):
            scores = played[played.checkpoint_id == agent.layers[0].checkpoint_id].score
            if scores.empty:
                raise NothingToDraw(
                    f"{agent.layers[0].checkpoint_id} on {game} has operations but no episodes; "
                    "spikeq evaluate run makes them"
                )
            energy = microjoules(agent.layers).first_layer_once
            points.append(_Point(agent, energy, mean_interval(scores.to_numpy())))
        _draw_points(axis, points)
        axis.set_xscale("log")
        few_numbers(axis.xaxis)
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
    foot(
        figure,
        list(axes.values()),
        f"Left out, because their operations were not counted: {'; '.join(lacking)}." if lacking else "",
    )
    return figure


def _without_operations(game: str, episodes: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """Networks of a game that played and whose operations were not counted at all, as in "DSQN, seed 2, on pong"."""
    networks = ["agent", "variant", "train_seed"]
    counted = set(known[networks].itertuples(index=False, name=None))
    played = episodes[(episodes.game == game) & (episodes.agent != "random")]
    found = sorted(set(played[networks].itertuples(index=False, name=None)) - counted)
    return [
        f"{', '.join(filter(None, (kinds.label(agent), variant, f'seed {seed}')))}, on {game}"
        for agent, variant, seed in found
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs (cost, score) with a higher score than all pairs of equal or lower cost, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _draw_points(axis: Axes, points: Sequence[_Point]) -> None:
    """Draw each agent's point. Simulation steps of one method differ in the filling of its marker."""
    for point in points:
        row, score = point.agent.layers[0], point.score
        name = row.variant.split(" ")[0] or kinds.label(row.agent)
        if is_spiking(point.agent.layers):
            name += f", {row.mean_sim_steps:.4g} sim steps"
        axis.errorbar(
            point.energy,
            score.estimate,
            yerr=[[score.estimate - score.low], [score.high - score.estimate]] if score.is_given else None,
            fmt=marker_of(row.agent),
            color=colour_of(row.agent, row.variant),
            fillstyle=fill_of(row.mean_sim_steps if row.variant else 0),
            markerfacecoloralt="white",
            capsize=1.5,
            linewidth=0.8,
            label=name,
        )
