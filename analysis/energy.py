"""What a decision would cost in energy: four accounts of the same operations, side by side. Never imports torch.

No account is a measurement: operations (`evaluate/operations.py`) are priced as 45 nm silicon would do them in float32,
and memory, routing and the neurons themselves are left out of the first three. They differ in what they assume, and a
spiking network that wins in one may lose in the next; so all are printed, and so is a loss.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analysis.runs import TrainedAgent, own_dqns
from analysis.tables import aligned
from core import kinds
from core.errors import Refusal
from core.records import require_single
from core.rows import OperationsRow

MAC_PICOJOULES = 4.6
AC_PICOJOULES = 0.9
"""A float32 multiplication with its addition, and an addition: 3.7 + 0.9 pJ and 0.9 pJ at 45 nm, 0.9 V (Horowitz 2014,
"Computing's energy problem (and what we can do about it)", ISSCC, fig. 1.1.9), as the spiking literature uses them."""

WINNING_RATE = 0.057
WINNING_SIM_STEPS = (5, 10)
"""A spiking network needs less energy than the quantised network of equal capacity only below this rate, memory and
routing counted (Yan, Bai, Tang & Wong, "Reconsidering the energy efficiency of spiking neural networks", arXiv
2409.08290v4, abstract: 5.7 % at 5 simulation steps on typical neuromorphic hardware; versions 2 and 3 said 6.4 %,
version 2 for 5 to 10 steps). Taken from the abstracts; their model was not computed again here."""

ACCOUNTS: Mapping[str, str] = {
    "first layer once": (
        "a network without spikes multiplies and skips nothing; a spiking one adds for each spike, and its first layer "
        "multiplies the whole image once a decision (or adds its ones, if it holds only 0 and 1)"
    ),
    "first layer every sim step": "the same, but the first layer is computed again at every simulation step",
    "effective operations": (
        "every network skips zeros, and adds instead of multiplying what is only 0 and 1; "
        "the first layer is computed once"
    ),
    "memory-aware": (
        "no energy but a published bound: at 5 to 10 simulation steps, memory and routing counted, a spiking network "
        f"can win only below {WINNING_RATE:.1%} spikes a neuron and step, against a quantised network of "
        "ceil(log2(sim steps + 1)) bits"
    ),
}
"""What each account assumes."""


class Energy(NamedTuple):
    """Microjoules a decision, in the accounts that give a number; see ACCOUNTS."""

    first_layer_once: float
    first_layer_every_sim_step: float
    effective: float


def by_agent(rows: Iterable[OperationsRow]) -> list[list[OperationsRow]]:
    """The rows of each agent, layer by layer, agents in the order of all tables.

    Raises:
        Refusal: an agent's rows are not those of one count: a layer is missing or there twice.
    """
    groups: dict[tuple[str, str], list[OperationsRow]] = defaultdict(list)
    for row in rows:
        groups[row.game, row.checkpoint_id].append(row)
    for (game, checkpoint), group in groups.items():
        group.sort(key=lambda row: row.layer)
        if [row.layer for row in group] != list(range(len(group))):
            raise Refusal(
                f"operations of {checkpoint} on {game} are of layers {[row.layer for row in group]}: "
                "each once, from 0, is needed"
            )
        require_single((row.sim_steps for row in group), f"number of sim steps of {checkpoint} on {game}")

    def order(group: Sequence[OperationsRow]) -> tuple[object, ...]:
        row = group[0]
        return row.game, kinds.order(row.agent), row.train_seed, row.sim_steps, row.checkpoint_id

    return sorted(groups.values(), key=order)


def is_spiking(layers: Sequence[OperationsRow]) -> bool:
    """Whether these are the layers of a network with spikes."""
    return layers[0].sim_steps > 0


def window_sim_steps(layers: Sequence[OperationsRow]) -> float:
    """Simulation steps, on average over decisions, in which a neuron of a spiking network may fire: those that its
    first layer lives through. A decision takes longer where layers wait for each other."""
    return layers[0].neuron_updates / layers[0].num_neurons


def firing_rate(layers: Sequence[OperationsRow]) -> float:
    """Spikes a neuron and simulation step, over all layers whose neurons may fire: an output layer that never does only
    integrates."""
    firing = layers if layers[-1].spikes > 0 else layers[:-1]
    neurons = sum(layer.num_neurons for layer in firing if layer.neuron_updates > 0)
    return sum(layer.spikes for layer in layers) / (neurons * window_sim_steps(layers))


def microjoules(layers: Sequence[OperationsRow]) -> Energy:
    """Energy of a decision.

    Args:
        layers: one agent's rows, first layer first.
    """
    effective = [
        AC_PICOJOULES * (layer.acs + layer.effective_macs * layer.binary_input)
        + MAC_PICOJOULES * layer.effective_macs * (not layer.binary_input)
        for layer in layers
    ]
    if not is_spiking(layers):
        dense = 1e-6 * MAC_PICOJOULES * sum(layer.dense_macs for layer in layers)
        return Energy(dense, dense, 1e-6 * sum(effective))
    first = effective[0] if layers[0].binary_input else MAC_PICOJOULES * layers[0].dense_macs
    spikes = AC_PICOJOULES * sum(layer.acs for layer in layers)
    return Energy(
        1e-6 * (first + spikes),
        1e-6 * (window_sim_steps(layers) * first + spikes),
        1e-6 * sum(effective),
    )


def dqn_of(
    layers: Sequence[OperationsRow], agents: Iterable[Sequence[OperationsRow]]
) -> Sequence[OperationsRow] | None:
    """The DQN that an agent is held against: of its own ones (`runs.own_dqns`) that of its training seed, and of those
    the one of as many decisions, or else the one trained longest; None if there is none among the agents.
    """
    mine = layers[0]
    dqns = [(_weights(other), other) for other in agents if other[0].agent == "dqn"]
    found = [other for other in own_dqns(_weights(layers), dqns) if other[0].train_seed == mine.train_seed]

    def nearness(other: Sequence[OperationsRow]) -> tuple[bool, int]:
        return other[0].train_steps == mine.train_steps, other[0].train_steps

    return max(found, key=nearness, default=None)


def _weights(layers: Sequence[OperationsRow]) -> TrainedAgent:
    row = layers[0]
    # These rows do not say what a recipe asks for, so nobody is called untrained here.
    return TrainedAgent(row.game, row.agent, row.recipe, False, row.train_seed, row.train_steps)


def verdict(energy: float, of_dqn: float) -> str:
    """In words, what an agent costs beside its DQN."""
    if math.isclose(energy, of_dqn, rel_tol=1e-9):
        return "costs as much as its DQN"
    if energy < of_dqn:
        return f"costs {of_dqn / energy:.3g} times less"
    return f"costs more than its DQN: {energy / of_dqn:.3g} times as much"


def memory_verdict(layers: Sequence[OperationsRow]) -> str:
    """In words, what the published bound says of a spiking network; empty for one without spikes."""
    if not is_spiking(layers):
        return ""
    sim_steps, rate = window_sim_steps(layers), firing_rate(layers)
    twin = f"a {math.ceil(math.log2(sim_steps + 1))}-bit network"
    shortest, longest = WINNING_SIM_STEPS
    if sim_steps < shortest:
        return f"the bound says nothing below {shortest} sim steps"
    if rate >= WINNING_RATE:  # more steps cost more, so the bound of fewer holds for them too
        return f"loses to {twin}: rate {rate:.1%}"
    if sim_steps > longest:
        return f"the bound says nothing above {longest} sim steps at rate {rate:.1%}"
    return f"may win against {twin}: rate {rate:.1%}"


def energy_table(rows: Iterable[OperationsRow]) -> str:
    """Every agent's energy in the four accounts beside its DQN's, as a Markdown table with the assumptions below it.

    Raises:
        Refusal: an agent's layers are not each there once.
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
        priced = [f"{each:.3g} uJ" for each in energy]
        spiking = is_spiking(layers)
        if row.agent != "dqn":
            dqn = dqn_of(layers, agents)
            words = (
                ["no DQN of its recipe and seed to compare with"] * len(energy)
                if dqn is None
                else [verdict(*pair) for pair in zip(energy, microjoules(dqn), strict=True)]
            )
            priced = [f"{price}, {word}" for price, word in zip(priced, words, strict=True)]
        cells.append(
            (
                *(row.game, row.agent, row.variant or row.network),
                "" if row.train_seed < 0 else str(row.train_seed),
                f"{row.mean_sim_steps:.4g}" if spiking else "",
                f"{sum(layer.spikes for layer in layers):,.0f}" if spiking else "",
                f"{firing_rate(layers):.1%}" if spiking else "",
                *(*priced, memory_verdict(layers)),
            )
        )
    texts = [
        f"({letter}) {name}: {text}." for letter, (name, text) in zip("abcd", ACCOUNTS.items(), strict=True)
    ]
    prices = (
        f"Estimates, not measurements: {MAC_PICOJOULES} pJ a multiply-accumulate, {AC_PICOJOULES} pJ an addition "
        "(45 nm, float32; Horowitz 2014)."
    )
    if any(layers[0].agent == "quantised" for layers in agents):
        prices += " A quantised network is priced in float32 as well, not at its width."
    return aligned(cells) + "\n" + "\n".join([prices, *texts]) + "\n"
