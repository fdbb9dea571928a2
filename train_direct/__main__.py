"""python -m train_direct dqn | dsqn | ppo | spiking-ppo | ship: train a network on a game, or shrink a trained one."""

import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar

from core.cli import OneOf, main
from core.errors import Refusal
from core.networks import Network
from train_direct.network_options import (
    NetworkOptions,
    SpikingOptions,
    relu_network,
    relu_networks,
    spiking_actors,
    spiking_network,
    spiking_networks,
)
from train_direct.options import QLearningOptions, RunOptions
from train_direct.recipe import PPO_RECIPES
from train_direct.ship import Ship
from train_direct.start import train_actor, train_q_network


@dataclass(frozen=True, kw_only=True)
class Dqn(NetworkOptions, QLearningOptions):
    """Train a DQN: a Q-network with ReLU."""

    kind: ClassVar[str] = "dqn"

    network: Annotated[str, OneOf(relu_networks, "Network to train, without spikes.")] = "relu"

    def run(self) -> None:
        network, changes = self.changed_layers(relu_network(self.network))
        train_q_network(self, "+".join([self.network, *changes]), network)


@dataclass(frozen=True, kw_only=True)
class Dsqn(SpikingOptions, QLearningOptions):
    """Train a deep spiking Q-network directly, with surrogate gradients through time."""

    kind: ClassVar[str] = "dsqn"

    network: Annotated[str, OneOf(spiking_networks, "Spiking network to train.")] = "chen2022"
    prune_sim_steps: list[int] | None = None
    """Temporal pruning: falling numbers of simulation steps that follow the first, each for an equal share of the run.
    Example: --sim-steps 8 --prune-sim-steps 4 2."""
    cmc: bool = False
    """Common-mode compensation (Xu et al. 2026), meant for 2 to 4 simulation steps. An auxiliary network learns what
    the values of all actions have in common. It is dropped after training."""

    def run(self) -> None:
        network, changes = self.changed(*spiking_network(self.network, "dqn"))
        if self.prune_sim_steps:
            changes.append(f"prune_sim_steps={'-'.join(map(str, self.prune_sim_steps))}")
        label = "+".join([self.network, *changes, *(["cmc"] if self.cmc else [])])
        train_q_network(self, label, network, self.cmc, self._sim_steps_in_turn(network))

    def _sim_steps_in_turn(self, network: Network) -> list[int]:
        """The numbers of simulation steps of temporal pruning, in turn; empty without pruning."""
        if not self.prune_sim_steps:
            return []
        if self.early_stop:
            raise Refusal(
                "prune_sim_steps and early_stop are both given: a run that ends early is not pruned"
            )
        assert network.spiking is not None
        sim_steps = network.spiking.sim_steps
        in_turn = [sim_steps, *self.prune_sim_steps]
        if any(after >= before or after < 1 for before, after in itertools.pairwise(in_turn)):
            raise Refusal(
                f"prune_sim_steps is {' '.join(map(str, self.prune_sim_steps))} after {sim_steps}: "
                f"accepted are falling numbers down to 1"
            )
        return in_turn


@dataclass(frozen=True, kw_only=True)
class Ppo(NetworkOptions, RunOptions):
    """Train an actor with ReLU by proximal policy optimisation (cartpole)."""

    kind: ClassVar[str] = "ppo"

    recipe: Annotated[
        str | None, OneOf(PPO_RECIPES.items, "How training is run; the game's usual recipe if not given.")
    ] = None

    def run(self) -> None:
        network, changes = self.changed_layers(relu_network("relu"))
        train_actor(self, "+".join(["relu", *changes]), network)


@dataclass(frozen=True, kw_only=True)
class SpikingPpo(SpikingOptions, Ppo):
    """Train a spiking actor, and a spiking critic with it, by proximal policy optimisation (cartpole)."""

    kind: ClassVar[str] = "spiking-ppo"

    network: Annotated[str, OneOf(spiking_actors, "Spiking network to train.")] = "tutorial"

    def run(self) -> None:
        network, changes = self.changed(*spiking_network(self.network, "ppo"))
        assert network.spiking is not None
        if network.spiking.readout.output_spikes:
            raise Refusal(
                f"network {self.network!r} answers with rates from 0 to 1, and a critic's values are larger: accepted "
                f"are {', '.join(name for name, _ in spiking_actors())}"
            )
        train_actor(self, "+".join([self.network, *changes]), network)


if __name__ == "__main__":
    main(
        "python -m train_direct",
        {"dqn": Dqn, "dsqn": Dsqn, "ppo": Ppo, "spiking-ppo": SpikingPpo, "ship": Ship},
        "Train networks with gradients. Spiking networks are trained by the same recipes as networks without spikes.",
    )
