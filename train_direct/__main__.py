"""python -m train_direct dqn | dsqn | ppo | spiking-ppo | ship: train a network on a game, or shrink a trained one."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from core.cli import OneOf, main
from core.errors import Refusal
from core.games import named_game
from core.ranges import SimSteps
from core.registered import Listed, listed
from play.options import AnAgent, GameOfAgent
from train_direct.network_options import (
    NetworkOptions,
    SpikingOptions,
    is_relu,
    is_spiking,
    is_spiking_actor,
    relu_network,
    spiking_network,
)
from train_direct.options import QLearningOptions, RunOptions

if TYPE_CHECKING:
    from core.networks import Network
    from core.workload import Workload
    from play.expected import Expected

NETWORKS = "core.networks:NETWORKS"


@dataclass(frozen=True, kw_only=True)
class Dqn(NetworkOptions, QLearningOptions):
    """Train a DQN: a Q-network with ReLU.

    Examples:
        spikeq train dqn --game cartpole --out runs/dqn
        spikeq train dqn --game minatar/breakout --recipe minatar-fast --seed 1 --out runs/breakout-s1
        spikeq train dqn --game cartpole --set learning_rate=1e-3 batch_size=64 --double --out runs/double
    """

    kind: ClassVar[str] = "dqn"

    network: Annotated[str, OneOf("Network to train, without spikes.", NETWORKS, only=is_relu)] = "relu"

    def named_network(self) -> "tuple[str, Network]":
        network, changes = self.changed_layers(relu_network(self.network))
        return "+".join([self.network, *changes]), network

    def run(self) -> None:
        from train_direct.start import train_q_network

        train_q_network(self, *self.named_network())

    def workload(self, expected: "Expected") -> "Workload":
        from train_direct.workload import of_q_learning

        return of_q_learning(self, self.named_network()[1], expected)


@dataclass(frozen=True, kw_only=True)
class Dsqn(SpikingOptions, QLearningOptions):
    """Train a deep spiking Q-network directly, with surrogate gradients through time.

    Examples:
        spikeq train dsqn --game cartpole --out runs/dsqn
        spikeq train dsqn --game minatar/breakout --sim-steps 4 --neuron lif tau=4 --out runs/lif
        spikeq train dsqn --game minatar/breakout --sim-steps 8 --prune-sim-steps 4 2 --out runs/pruned
    """

    kind: ClassVar[str] = "dsqn"

    network: Annotated[str, OneOf("Spiking network to train.", NETWORKS, only=is_spiking)] = "chen2022"
    prune_sim_steps: list[SimSteps] | None = None
    """Temporal pruning: falling numbers of simulation steps that follow the first, each for an equal share of the run.
    Example: --sim-steps 8 --prune-sim-steps 4 2."""
    cmc: bool = False
    """Common-mode compensation (Xu et al. 2026), meant for 2 to 4 simulation steps. An auxiliary network learns what
    the values of all actions have in common. It is dropped after training."""

    def named_network(self) -> "tuple[str, Network]":
        network, changes = self.changed(*spiking_network(self.network, "dqn"))
        if self.prune_sim_steps:
            changes.append(f"prune_sim_steps={'-'.join(map(str, self.prune_sim_steps))}")
        return "+".join([self.network, *changes, *(["cmc"] if self.cmc else [])]), network

    def run(self) -> None:
        from train_direct.start import train_q_network

        label, network = self.named_network()
        train_q_network(self, label, network, self.cmc, self._sim_steps_in_turn(network))

    def workload(self, expected: "Expected") -> "Workload":
        from train_direct.workload import of_q_learning

        network = self.named_network()[1]
        in_turn = self._sim_steps_in_turn(network)
        return of_q_learning(self, network, expected, "+cmc" if self.cmc else "", in_turn)

    def _sim_steps_in_turn(self, network: "Network") -> list[int]:
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
        if any(after >= before for before, after in itertools.pairwise(in_turn)):
            raise Refusal(
                f"prune_sim_steps is {' '.join(map(str, self.prune_sim_steps))} after {sim_steps}: "
                f"accepted are falling numbers down to 1"
            )
        return in_turn


def _has_ppo_recipe(game: Listed) -> bool:
    """Whether a recipe of PPO trains the game. One that was not imported is judged by its source code."""
    tier = getattr(game.entry, "tier", "")
    recipes = listed("train_direct.recipe:PPO_RECIPES")
    return any(
        f'tier="{tier}"' in each.source or getattr(each.entry, "tier", None) == tier for each in recipes
    )


@dataclass(frozen=True, kw_only=True)
class Ppo(NetworkOptions, RunOptions):
    """Train an actor with ReLU by proximal policy optimisation (cartpole).

    Examples:
        spikeq train ppo --game cartpole --out runs/ppo
        spikeq train ppo --game cartpole --layers "64 64" --seed 1 --out runs/wider
    """

    kind: ClassVar[str] = "ppo"

    game: Annotated[str, OneOf("Game to train on.", "core.games:GAMES", only=_has_ppo_recipe)]
    recipe: Annotated[
        str | None,
        OneOf(
            "How training is run; the game's usual recipe if not given.", "train_direct.recipe:PPO_RECIPES"
        ),
    ] = None

    def named_network(self) -> "tuple[str, Network]":
        network, changes = self.changed_layers(relu_network("relu"))
        return "+".join(["relu", *changes]), network

    def run(self) -> None:
        from train_direct.start import train_actor

        train_actor(self, *self.named_network())

    def workload(self, expected: "Expected") -> "Workload":
        from train_direct.workload import of_ppo

        return of_ppo(self, self.named_network()[1], expected)


@dataclass(frozen=True, kw_only=True)
class SpikingPpo(SpikingOptions, Ppo):
    """Train a spiking actor, and a spiking critic with it, by proximal policy optimisation (cartpole).

    Examples:
        spikeq train spiking-ppo --game cartpole --out runs/spiking-ppo
        spikeq train spiking-ppo --game cartpole --sim-steps 8 --out runs/eight
    """

    kind: ClassVar[str] = "spiking-ppo"

    network: Annotated[str, OneOf("Spiking network to train.", NETWORKS, only=is_spiking_actor)] = "tutorial"

    def named_network(self) -> "tuple[str, Network]":
        network, changes = self.changed(*spiking_network(self.network, "ppo"))
        assert network.spiking is not None
        if network.spiking.readout.output_spikes:
            raise Refusal(
                f"network {self.network!r} answers with rates from 0 to 1, and a critic's values are larger: accepted "
                f"are {', '.join(each.name for each in listed(NETWORKS) if is_spiking_actor(each))}"
            )
        return "+".join([self.network, *changes]), network


@dataclass(frozen=True, kw_only=True)
class Ship:
    """Make a small copy of a trained agent, or of a whole training run: weights in half precision.

    The copy is another agent than the original, and is evaluated as such. A study goes on from the copy of a run.

    Examples:
        spikeq train ship --agent runs/dqn --out my-dqn.safetensors
        spikeq train ship --agent results/agents/cartpole-dqn-s0.safetensors --out half.safetensors
        spikeq train ship --agent runs/dqn --out runs/small-dqn
    """

    agent: Annotated[str, AnAgent("The agent to copy.")]
    out: Path
    """File to write (.safetensors): the best weights of a run. Or a folder: the whole run, curves included."""
    game: GameOfAgent = None

    def run(self) -> None:
        from train_direct.ship import ENDING, ship, ship_run

        if self.out.suffix == ENDING:
            made = ship(self.agent, self.out, named_game(self.game))
            files = [self.out]
        else:
            made = ship_run(self.agent, self.out)
            files = [*self.out.iterdir()]
        size = sum(file.stat().st_size for file in files)
        print(f"{self.out}: {f'{size / 2**20:.1f} MiB' if made else 'already done'}")


if __name__ == "__main__":
    main(
        "python -m train_direct",
        {"dqn": Dqn, "dsqn": Dsqn, "ppo": Ppo, "spiking-ppo": SpikingPpo, "ship": Ship},
        "Train networks with gradients. Spiking networks are trained by the same recipes as networks without spikes.",
    )
