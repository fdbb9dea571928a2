"""Four estimates of the energy of a decision, from the same operation counts. Never imports torch.

No account is a measurement. Operations (counted by `evaluate/operations.py`) are priced for float32 at 45 nm. The first
three accounts leave out memory, routing and neuron updates. A spiking network may win in one account and lose in
another, so all four are always printed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analysis.runs import TrainedAgent, own_dqns
from analysis.tables import aligned
from analysis.trainings import changes
from analysis.words import tenths
from core import kinds
from core.errors import Refusal
from core.records import require_single
from core.rows import OperationsRow

MAC_PICOJOULES = 4.6
AC_PICOJOULES = 0.9
"""Picojoules of a float32 multiply-accumulate (3.7 + 0.9) and of an addition (0.9), at 45 nm and 0.9 V.

Source: Horowitz 2014, "Computing's energy problem (and what we can do about it)", ISSCC, fig. 1.1.9. The literature on
spiking networks uses these values.
"""

WINNING_RATE = 0.057
WINNING_SIM_STEPS = (5, 10)
"""The firing rate below which a spiking network can need less energy than a quantised one of equal capacity, and the
simulation steps for which this was published. Memory and routing are counted.

Source: Yan, Bai, Tang & Wong, "Reconsidering the energy efficiency of spiking neural networks", arXiv 2409.08290v4,
abstract: 5.7 % at 5 simulation steps on typical neuromorphic hardware. Versions 2 and 3 said 6.4 %; version 2 gave 5 to
10 steps. The numbers are from the abstracts. Their model was not recomputed here.
"""

ACCOUNTS: Mapping[str, str] = {
    "first layer once": (
        "a network without spikes multiplies every input, zeros included; a spiking network adds once for each spike, "
        "and its first layer multiplies the whole image once per decision (of a binary image, it adds the ones)"
    ),
    "first layer every sim step": "as before, but the first layer is computed again at every simulation step",
    "effective operations": (
        "every network skips zeros and adds binary inputs instead of multiplying them; "
        "the first layer is computed once"
    ),
    "memory-aware": (
        "a published bound instead of an energy: with memory and routing counted, at 5 to 10 simulation steps, a "
        f"spiking network can win only below {tenths(WINNING_RATE)} spikes per neuron and step, against a quantised "
        "network of ceil(log2(sim steps + 1)) bits"
    ),
}
"""The assumptions of each account."""


class Energy(NamedTuple):
    """Microjoules per decision in the three accounts that give a number (see ACCOUNTS)."""

    first_layer_once: float
    first_layer_every_sim_step: float
    effective: float


def by_agent(rows: Iterable[OperationsRow]) -> list[list[OperationsRow]]:
    """The rows of each agent, in order of layers. Agents are in the order used by all tables.

    Raises:
        Refusal: a layer of an agent is missing or occurs twice, or its rows have different simulation steps.
    """
    groups: dict[tuple[str, str], list[OperationsRow]] = defaultdict(list)
    for row in rows:
        groups[row.game, row.checkpoint_id].append(row)
    for (game, checkpoint), group in groups.items():
        group.sort(key=lambda row: row.layer)
        if [row.layer for row in group] != list(range(len(group))):
            raise Refusal(
                f"operations of {checkpoint} on {game} have layers {[row.layer for row in group]}: "
                "each layer is needed once, counted from 0"
            )
        require_single((row.sim_steps for row in group), f"number of sim steps of {checkpoint} on {game}")

    def order(group: Sequence[OperationsRow]) -> tuple[object, ...]:
        row = group[0]
        return row.game, kinds.order(row.agent), row.train_seed, row.sim_steps, row.checkpoint_id

    return sorted(groups.values(), key=order)


def is_spiking(layers: Sequence[OperationsRow]) -> bool:
    """Whether the layers belong to a spiking network."""
    return layers[0].sim_steps > 0


def window_sim_steps(layers: Sequence[OperationsRow]) -> float:
    """Mean simulation steps per decision in which a neuron of a spiking network may fire.

    They are counted at the first layer with membranes. A decision takes longer if layers wait for each other.
    """
    return next((layer.neuron_updates / layer.num_neurons for layer in layers if layer.neuron_updates), 0.0)


def firing_rate(layers: Sequence[OperationsRow]) -> float:
    """Spikes per neuron and simulation step, over all layers that may fire.

    An output layer without spikes only integrates and is left out.
    """
    firing = layers if layers[-1].spikes > 0 else layers[:-1]
    neurons = sum(layer.num_neurons for layer in firing if layer.neuron_updates > 0)
    possible = neurons * window_sim_steps(layers)
    return sum(layer.spikes for layer in layers) / possible if possible else 0.0


def microjoules(layers: Sequence[OperationsRow]) -> Energy:
    """Energy of one decision in microjoules.

    Args:
        layers: the rows of one agent, in order of layers.
    """
    effective = [
        AC_PICOJOULES * (layer.acs + layer.effective_macs * layer.binary_input)
        + MAC_PICOJOULES * layer.effective_macs * (not layer.binary_input)
        for layer in layers
    ]
    if not is_spiking(layers):
        dense = 1e-6 * MAC_PICOJOULES * sum(layer.dense_macs for layer in layers)
        return Energy(dense, dense, 1e-6 * sum(effective))
    # The first layer, and later ones whose inputs are no spikes, as behind a pooling of means, multiply every input.
    first, *others = (
        energy
        if layer.binary_input or (index and not layer.effective_macs)
        else MAC_PICOJOULES * layer.dense_macs
        for index, (layer, energy) in enumerate(zip(layers, effective, strict=True))
    )
    later = sum(others)
    return Energy(
        1e-6 * (first + later),
        1e-6 * (window_sim_steps(layers) * first + later),
        1e-6 * sum(effective),
    )


def dqn_of(
    layers: Sequence[OperationsRow], agents: Iterable[Sequence[OperationsRow]]
) -> Sequence[OperationsRow] | None:
    """The DQN that an agent is compared with: one of `runs.own_dqns` with the agent's training seed.

    Among several, it is the one with as many decisions as the agent, or else the one trained longest. None if no DQN
    matches.
    """
    mine = layers[0]
    dqns = [(_weights(other), other) for other in agents if other[0].agent == "dqn"]
    found = [other for other in own_dqns(_weights(layers), dqns) if other[0].train_seed == mine.train_seed]

    def nearness(other: Sequence[OperationsRow]) -> tuple[bool, int]:
        return other[0].train_steps == mine.train_steps, other[0].train_steps

    return max(found, key=nearness, default=None)


def _weights(layers: Sequence[OperationsRow]) -> TrainedAgent:
    row = layers[0]
    # Operation rows do not hold the length of a recipe, so no agent is called untrained here.
    return TrainedAgent(row.game, row.agent, row.network, row.recipe, False, row.train_seed, row.train_steps)


def verdict(energy: float, of_dqn: float) -> str:
    """An agent's energy compared with its DQN's, in words."""
    if math.isclose(energy, of_dqn, rel_tol=1e-9):
        return "costs as much as its DQN"
    if energy < of_dqn:
        return f"costs 1/{of_dqn / energy:.3g} of its DQN"
    return f"costs more than its DQN: {energy / of_dqn:.3g} times as much"


def memory_verdict(layers: Sequence[OperationsRow]) -> str:
    """What the published bound says about a spiking network, in words. Empty for a network without spikes."""
    if not is_spiking(layers):
        return ""
    sim_steps, rate = window_sim_steps(layers), firing_rate(layers)
    twin = f"a {math.ceil(math.log2(sim_steps + 1))}-bit network"
    shortest, longest = WINNING_SIM_STEPS
    if sim_steps < shortest:
        return f"no bound is known below {shortest} sim steps"
    if rate >= WINNING_RATE:  # More steps cost more, so the bound also holds above the longest.
        return f"loses to {twin}: rate {tenths(rate)}"
    if sim_steps > longest:
        return f"no bound is known above {longest} sim steps at rate {tenths(rate)}"
    return f"may win against {twin}: rate {tenths(rate)}"


def energy_table(rows: Iterable[OperationsRow]) -> str:
    """The energy of every agent in the four accounts, compared with its DQN: a Markdown table and its assumptions.

    Raises:
        Refusal: as in `by_agent`.
    """
    agents = by_agent(rows)
    cells: list[tuple[str, ...]] = [
        (
            *("game", "agent", "network", "seed", "sim steps", "spikes/decision", "rate"),
            *(f"({letter}) {name}" for letter, name in zip("abcd", ACCOUNTS, strict=True)),
        )
    ]
    for layers in agents:
        row, energy = layers[0], microjoules(layers)
        priced = [f"{each:.3g} µJ" for each in energy]
        spiking = is_spiking(layers)
        if row.agent != "dqn":
            dqn = dqn_of(layers, agents)
            words = (
                ["no DQN with this recipe and seed"] * len(energy)
                if dqn is None
                else [verdict(*pair) for pair in zip(energy, microjoules(dqn), strict=True)]
            )
            priced = [f"{price}, {word}" for price, word in zip(priced, words, strict=True)]
        cells.append(
            (
                *(row.game, row.agent),
                ", ".join([row.variant or row.network, *changes(row.recipe)]),
                "" if row.train_seed < 0 else str(row.train_seed),
                f"{row.mean_sim_steps:.4g}" if spiking else "",
                f"{sum(layer.spikes for layer in layers):,.0f}" if spiking else "",
                tenths(firing_rate(layers)) if spiking else "",
                *(*priced, memory_verdict(layers)),
            )
        )
    texts = [
        f"({letter}) {name}: {text}." for letter, (name, text) in zip("abcd", ACCOUNTS.items(), strict=True)
    ]
    prices = (
        f"Estimates, not measurements: {MAC_PICOJOULES} pJ per multiply-accumulate, {AC_PICOJOULES} pJ per addition "
        "(45 nm, float32; Horowitz 2014)."
    )
    if any(layers[0].agent == "quantised" for layers in agents):
        prices += " Quantised networks are priced in float32 too, not at their own bit width."
    return aligned(cells) + "\n" + "\n".join([prices, *texts]) + "\n"
