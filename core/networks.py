"""Networks by name: what is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from core.dqn import DQN, Actor
from core.dsqn import DSQN, Spiking, SpikingActor
from core.errors import Refusal
from core.games import Game
from core.layers import initialise
from core.neurons import Neuron


@dataclass(frozen=True)
class Preset:
    """A network of the papers: what stands between the layers, and whether layers have biases."""

    bias: bool
    spiking: Spiking | None


PRESETS: Mapping[str, Preset] = {
    "relu": Preset(bias=True, spiking=None),
    # Liu et al. 2022 (arXiv 2201.07211), section IV-A and the released code's defaults.
    "liu2022": Preset(True, Spiking(Neuron("lif", detach_reset=False), 64, "rate")),
    # The released code's variants DsqnSpike and DsqnIF.
    "liu2022-spike": Preset(True, Spiking(Neuron("lif", detach_reset=False), 64, "spike-rate")),
    "liu2022-if": Preset(True, Spiking(Neuron("if", detach_reset=False), 64, "rate")),
    # Chen et al. 2022 (arXiv 2201.09754), Table 1; biases as in its code (the paper says none).
    "chen2022": Preset(True, Spiking(Neuron("lif", detach_reset=True), 8, "max-mem")),
    # SpikingJelly 2.0.0's CartPole tutorials (examples/spiking_dqn_state.py and spiking_ppo.py), whose neurons are its
    # IFNode's defaults (threshold 1, hard reset, Sigmoid surrogate with alpha 4).
    "tutorial": Preset(
        True, Spiking(Neuron("if", surrogate="sigmoid", surrogate_slope=4.0), 16, "last-mem", readout_tau=2.0)
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name, or a Refusal that lists them."""
    if name not in PRESETS:
        raise Refusal(f"unknown network {name!r}: networks are {', '.join(PRESETS)}")
    return PRESETS[name]


def make_agent(game: Game, network: Preset, generator: torch.Generator) -> DQN | DSQN:
    """A fresh, initialised network: the ReLU and the spiking one draw the same weights from equal generators."""
    agent = DQN(game, network.bias) if network.spiking is None else DSQN(game, network.spiking, network.bias)
    initialise(agent.layers, generator)
    return agent


def make_actor(game: Game, network: Preset, generator: torch.Generator) -> Actor | SpikingActor:
    """A fresh, initialised actor; of a game with one action it is a critic, whose score [B, 1] is the state's value."""
    if network.spiking is None:
        agent: Actor | SpikingActor = Actor(game, network.bias)
    else:
        agent = SpikingActor(game, network.spiking, network.bias)
    initialise(agent.layers, generator)
    return agent
