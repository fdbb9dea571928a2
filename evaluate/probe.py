"""Looking into neurons and networks: what a neuron gives to an input, how an agent represents the states it meets."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from core import neurons, seeding
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.dsqn import DSQN, Readout, Spiking, read_voltage
from core.errors import Refusal
from core.networks import preset
from core.neurons import Neuron
from core.quantised import QuantisedDQN
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork
from core.records import EmbeddingRow, ResponseRow, to_json
from play.states import batches, q_values

# Responses of neurons --------------------------------------------------------------------------------

_CURRENTS = (torch.arange(-32, 160, dtype=torch.float64) + 0.5) / 64
"""Constant inputs between -0.5 and 2.5. They lie between the multiples of 1/64, where counts of 64 simulation steps
jump, so that no rounding decides whether a neuron fires."""
_DISTANCES = torch.arange(-64, 65, dtype=torch.float64) / 32
"""Membrane minus threshold, from -2 to 2."""
_SLOPES: dict[neurons.Surrogate, tuple[float, ...]] = {"atan": (1.0, 2.0, 4.0), "sigmoid": (2.0, 4.0, 8.0)}
"""The middle ones are those of Liu et al. 2022's code; in pairs they are equally steep at the threshold."""
_FEWER_SIM_STEPS = (4, 16)
"""Beside Liu et al.'s 64, to show what so many are good for."""
_THRESHOLDS = (0.2, 0.5, 1.0)
"""Liu et al. 2022, Fig 5."""


def neuron_responses() -> list[ResponseRow]:
    """The curves of Liu et al. 2022, Figs 3 to 5 (arXiv 2201.07211), and of Chen et al. 2022, Fig 4 (arXiv 2201.09754).

    All come from the reference in core/neurons.py, in double precision, with the papers' own parameters (the presets
    liu2022 and chen2022).
    """
    liu, chen = _spiking("liu2022"), _spiking("chen2022")
    rows: list[ResponseRow] = []
    for surrogate, slopes in _SLOPES.items():
        for slope in slopes:
            neuron = replace(liu.neuron, surrogate=surrogate, surrogate_slope=slope)
            rows += _rows(neuron, "surrogate", 0, _DISTANCES, surrogate_derivatives(neuron, _DISTANCES))
    # An IF neuron whose threshold 1 is subtracted, which conversion puts in place of ReLU.
    soft_if = replace(liu.neuron, charge="if", reset="soft")
    rows += _rows(None, "relu", 0, _CURRENTS, _CURRENTS.relu())
    for sim_steps in _FEWER_SIM_STEPS:
        rows += _rows(soft_if, "rate", sim_steps, _CURRENTS, firing_rates(soft_if, sim_steps, _CURRENTS))
    kinds = (
        replace(soft_if, reset="hard"),
        soft_if,
        replace(liu.neuron, reset="hard"),
        replace(liu.neuron, reset="soft"),
    )
    for kind, threshold in itertools.product(kinds, _THRESHOLDS):
        neuron = replace(kind, threshold=threshold)
        rates = firing_rates(neuron, liu.sim_steps, _CURRENTS)
        rows += _rows(neuron, "rate", liu.sim_steps, _CURRENTS, rates)
    statistics: tuple[Readout, ...] = ("last-mem", "max-mem", "mean-mem")
    for readout in statistics:
        voltages = voltage_statistics(replace(chen, readout=readout), _CURRENTS)
        rows += _rows(chen.neuron, readout, chen.sim_steps, _CURRENTS, voltages)
    return rows


def surrogate_derivatives(neuron: Neuron, distances: Tensor) -> Tensor:
    """What a neuron passes back as the derivative of its spike [N], at membranes so far [N] above its threshold."""
    membranes = (neuron.threshold + distances).requires_grad_()
    (derivatives,) = torch.autograd.grad(neurons.fire(membranes, neuron).sum(), membranes)
    return derivatives


def firing_rates(neuron: Neuron, sim_steps: int, currents: Tensor) -> Tensor:
    """Spikes a simulation step [N] of a neuron driven from rest by each of [N] constant currents."""
    return neurons.run([currents] * sim_steps, neuron).mean(0)


def voltage_statistics(spiking: Spiking, currents: Tensor) -> Tensor:
    """What is read [N] from a leaky integrator behind one neuron (weight 1), which hears each of [N] currents."""
    spikes = neurons.run([currents] * spiking.sim_steps, spiking.neuron)
    return read_voltage(neurons.leaky_integral(spikes, spiking.readout_tau), spiking.readout)


def _spiking(network: str) -> Spiking:
    spiking = preset(network).spiking
    assert spiking is not None
    return spiking


def _rows(
    neuron: Neuron | None, quantity: str, sim_steps: int, inputs: Tensor, responses: Tensor
) -> list[ResponseRow]:
    """One row a point; a curve of no neuron names none."""
    name = "" if neuron is None else to_json(asdict(neuron))
    return [
        ResponseRow(name, quantity, sim_steps, given, response)
        for given, response in zip(inputs.tolist(), responses.tolist(), strict=True)
    ]


# Representations of states ---------------------------------------------------------------------------

_PERPLEXITY = 30
"""How many neighbours of a state count, roughly: scikit-learn's and the authors' usual value."""


@torch.no_grad()
def last_hidden(agent: Agent, observations: Tensor) -> Tensor:
    """What an agent's output layer hears, as its mean over simulation steps where it has time.

    Args:
        agent: any with layers.
        observations: [B, *observation] float32; each is taken as an episode's first.

    Returns:
        [B, F] float32: activations (DQN, its quantised twin) or firing rates.
    """
    require_embeddable(agent, _PERPLEXITY + 1)
    batch = len(observations)
    if isinstance(agent, RateCodedNetwork):
        coding = agent.coding
        simulation = torch_engine.simulate(
            agent.layers,
            observations,
            coding.sim_steps,
            coding.neuron,
            layer_delay=coding.layer_delay,
            image_bits=coding.image_bits,
        )
        return simulation.layer_counts[-2][-1].reshape(batch, -1) / coding.sim_steps
    assert isinstance(agent, DQN | QuantisedDQN | DSQN)
    heard = agent.trace(observations)[-1].heard.reshape(batch, -1)
    return heard / agent.spiking.sim_steps if isinstance(agent, DSQN) else heard


def require_embeddable(agent: Agent, num_states: int) -> None:
    """Refuse what `embed` cannot draw, before anything is played."""
    if num_states <= _PERPLEXITY:
        raise Refusal(f"number of states is {num_states}: t-SNE needs more than {_PERPLEXITY}")
    if not isinstance(agent, DQN | QuantisedDQN | DSQN | RateCodedNetwork):
        raise Refusal(f"agent {agent.kind!r} has no hidden layer: dqn, quantised, rate-coded and dsqn have")
    if isinstance(agent, RateCodedNetwork) and agent.coding.presteps:
        raise Refusal(f"presteps is {agent.coding.presteps}: rates are told of networks with 0 only")


def embed(checkpoint: Checkpoint, states: np.ndarray, states_of: str, seed: int) -> list[EmbeddingRow]:
    """An agent's representations of states, drawn in the plane by t-SNE (van der Maaten & Hinton 2008).

    The plane begins as the first two principal components, so that what lies far apart has a meaning too (Kobak &
    Berens 2019). Equal arguments give equal bits on equal numbers of threads.

    Args:
        checkpoint: the agent that looks at the states.
        states: [N, *observation] uint8 as the environments gave them, more than 30.
        states_of: checkpoint id of the agent whose play they are of.
        seed: of what t-SNE draws.

    Returns:
        One row a state, in their order.
    """
    agent = checkpoint.agent
    require_embeddable(agent, len(states))
    hidden = torch.cat([last_hidden(agent, batch) for batch in batches(agent, states)]).cpu().numpy()
    random_state = int(seeding.generator(seed, "t-sne").integers(2**32))
    if (hidden == hidden[0]).all():  # a silent layer: to such an agent all states are one
        plane = np.zeros((len(states), 2))
    else:
        # More threads add up in another order, and on a busy machine they wait for one another.
        with threadpool_limits(1):
            plane = TSNE(perplexity=_PERPLEXITY, init="pca", random_state=random_state).fit_transform(hidden)
    scores = q_values(agent, states)
    has_q_values = checkpoint.provenance["scores_are_q_values"]
    return [
        EmbeddingRow(
            game=agent.game.name,
            agent=agent.kind,
            checkpoint_id=checkpoint.id,
            train_seed=checkpoint.provenance["train_seed"],
            states_of=states_of,
            state=state,
            x=float(x),
            y=float(y),
            value=float(scores[state].max()) if has_q_values else math.nan,
            action=int(scores[state].argmax()),
        )
        for state, (x, y) in enumerate(plane)
    ]
