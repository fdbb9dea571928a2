"""Networks that can be trained, by name. Each has the neuron, simulation steps and read-out of a paper.

To add one, register a `Network` in one file: `NETWORKS.register("my-network")(Network(...))`.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from core.dqn import DQN, Actor
from core.dsqn import DSQN, Spiking, SpikingActor
from core.games import Game
from core.layers import Hidden, format_layers, initialise
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.readouts import LargestVoltage, LastVoltage, Rate, SpikeRate
from core.registry import Registry
from core.soundness import require_sound_parts

N = TypeVar("N", bound=DQN | DSQN)


@dataclass(frozen=True)
class Network:
    """A network to train: biases, spiking part and layers."""

    bias: bool
    """Whether layers have biases."""
    spiking: Spiking | None
    """Neuron, simulation steps and read-out; None for ReLU."""
    layers: Hidden | None = None
    """Hidden layers; None for those that the game's tier usually has."""

    def make(self, game: Game, generator: torch.Generator) -> DQN | DSQN:
        """A new Q-network. With equal generators, networks with ReLU and with spikes get equal weights.

        Raises:
            Refusal: the layers do not fit the game, or a part of the spiking network breaks its contract.
        """
        agent: DQN | DSQN
        with _seeded(generator):
            if self.spiking is None:
                agent = DQN(game, self.bias, hidden=self.layers)
            else:
                agent = DSQN(game, self.spiking, self.bias, self.layers)
        return _initialised(agent, generator)

    def make_actor(self, game: Game, generator: torch.Generator) -> Actor | SpikingActor:
        """A new actor of PPO. For a game with one action it is a critic: its score [B, 1] is the state's value.

        Raises:
            Refusal: as of `make`.
        """
        actor: Actor | SpikingActor
        with _seeded(generator):
            if self.spiking is None:
                actor = Actor(game, self.bias, hidden=self.layers)
            else:
                actor = SpikingActor(game, self.spiking, self.bias, self.layers)
        return _initialised(actor, generator)

    def config(self) -> dict[str, Any]:
        """JSON-able values for manifests, which differ between any two networks."""
        config: dict[str, Any] = {
            "bias": self.bias,
            "spiking": None if self.spiking is None else self.spiking.config(),
        }
        if self.layers is not None:
            config["layers"] = format_layers(self.layers)
        return config


@contextlib.contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Make torch's own random numbers follow from a generator's seed. Parts of a network may start from them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        yield


def _initialised(agent: N, generator: torch.Generator) -> N:
    """The network with initial weights, after its parts were tried."""
    initialise(agent.layers, generator)
    if isinstance(agent, DSQN):
        require_sound_parts(agent)
    return agent


NETWORKS: Registry[Network] = Registry("network")
"""All networks that can be trained, by name."""
NETWORKS.register("relu")(Network(bias=True, spiking=None))
# Liu et al. 2022 (arXiv 2201.07211), section IV-A and the released code's defaults.
NETWORKS.register("liu2022")(Network(True, Spiking(LIF(detach_reset=False), 64, Rate())))
# The released code's variants DsqnSpike and DsqnIF.
NETWORKS.register("liu2022-spike")(Network(True, Spiking(LIF(detach_reset=False), 64, SpikeRate())))
NETWORKS.register("liu2022-if")(Network(True, Spiking(IF(detach_reset=False), 64, Rate())))
# Chen et al. 2022 (arXiv 2201.09754), Table 1; biases as in its code (the paper says none).
NETWORKS.register("chen2022")(Network(True, Spiking(LIF(detach_reset=True), 8, LargestVoltage())))
# SpikingJelly 2.0.0's CartPole tutorials (examples/spiking_dqn_state.py and spiking_ppo.py), whose neurons are its
# IFNode's defaults (threshold 1, hard reset, Sigmoid surrogate with alpha 4).
NETWORKS.register("tutorial")(
    Network(True, Spiking(IF(surrogate="sigmoid", surrogate_slope=4.0), 16, LastVoltage(tau=2.0)))
)
