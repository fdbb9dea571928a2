"""python -m train_direct dqn, dsqn, ppo, spiking-ppo, ship: train a network on a game; make a trained one small."""

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from core import seeding
from core.cli import Switch, main
from core.device import pick_device, set_up_torch
from core.dsqn import Readout, Spiking
from core.errors import Refusal
from core.games import get_game
from core.networks import Preset, make_actor, preset
from core.neurons import Surrogate
from core.records import to_json
from train_direct.options import QLearningOptions, RunOptions
from train_direct.ppo import PPO, critic_game
from train_direct.recipes import PPO_RECIPE
from train_direct.run import Algorithm, Plan
from train_direct.ship import Ship

_SPIKING = ("sim_steps", "readout")
_NEURON = ("reset", "detach_reset", "threshold", "tau", "surrogate", "surrogate_slope")
"""Options of a DSQN, by the dataclass whose fields they replace."""


def _spiking_preset(name: str, verb: str) -> tuple[Preset, Spiking]:
    """A preset that spikes, and how; others are refused, for the verb that trains them."""
    network = preset(name)
    if network.spiking is None:
        raise Refusal(f"network {name!r} does not spike: train it with the verb {verb}")
    return network, network.spiking


@dataclass(frozen=True, kw_only=True)
class Dqn(QLearningOptions):
    """Train a DQN: the Q-network with ReLU."""

    kind: ClassVar[str] = "dqn"

    def run(self) -> None:
        self.train("relu", preset("relu"))


@dataclass(frozen=True, kw_only=True)
class Dsqn(QLearningOptions):
    """Train a deep spiking Q-network directly, with surrogate gradients through time."""

    kind: ClassVar[str] = "dsqn"

    network: str = "chen2022"
    """chen2022, liu2022, liu2022-spike, liu2022-if or tutorial."""
    sim_steps: int | None = None
    """Simulation steps a decision, in place of the network's own (chen2022: 8, tutorial: 16, liu2022: 64)."""
    prune_sim_steps: list[int] | None = None
    """Temporal pruning: fewer and fewer simulation steps that follow, each for an equal share of the run, as in
    --sim-steps 8 --prune-sim-steps 4 2."""
    readout: Readout | None = None
    """How Q-values are read, in place of the network's own: rate (Liu; Chen's fr-mlp), spike-rate, or a
    statistic of the output voltage (Chen: last-mem, max-mem, mean-mem, max-abs-mem)."""
    reset: Literal["hard", "soft"] | None = None
    """Membrane after a spike: hard (to rest) or soft (threshold subtracted)."""
    detach_reset: Switch = None
    """Whether gradients leave out the path through the reset."""
    threshold: float | None = None
    """Firing threshold."""
    tau: float | None = None
    """Membrane time constant in simulation steps (LIF)."""
    surrogate: Surrogate | None = None
    """Surrogate gradient: atan, sigmoid, triangle or rectangle."""
    surrogate_slope: float | None = None
    """Its slope."""
    bias: Switch = None
    """Whether layers have biases (Chen's paper: False, its code: True)."""
    cmc: bool = False
    """Common-mode compensation (Xu et al. 2026): an auxiliary network, dropped after training, takes what all
    actions' values have in common. Made for 2 to 4 simulation steps."""

    def run(self) -> None:
        changes = [f"{name}={value}" for name, value in self._given(*_SPIKING, *_NEURON, "bias").items()]
        if self.prune_sim_steps:
            changes.append(f"prune_sim_steps={'-'.join(map(str, self.prune_sim_steps))}")
        label = "+".join([self.network, *changes, *(["cmc"] if self.cmc else [])])
        self.train(label, self.resolved_network(), self.cmc, self._sim_steps_in_turn())

    def _sim_steps_in_turn(self) -> list[int]:
        """The numbers of simulation steps that follow one another, if they are to be pruned."""
        if not self.prune_sim_steps:
            return []
        if self.early_stop:
            raise Refusal(
                "prune_sim_steps and early_stop are both given: a run that ends early is not pruned"
            )
        spiking = self.resolved_network().spiking
        assert spiking is not None
        in_turn = [spiking.sim_steps, *self.prune_sim_steps]
        if any(after >= before or after < 1 for before, after in itertools.pairwise(in_turn)):
            raise Refusal(
                f"prune_sim_steps is {' '.join(map(str, self.prune_sim_steps))} after {spiking.sim_steps}: "
                f"accepted are falling numbers down to 1"
            )
        return in_turn

    def resolved_network(self) -> Preset:
        """The network with what this command replaces in it."""
        network, spiking = _spiking_preset(self.network, "dqn")
        neuron = replace(spiking.neuron, **self._given(*_NEURON))
        spiking = replace(spiking, neuron=neuron, **self._given(*_SPIKING))
        return replace(network, spiking=spiking, **self._given("bias"))

    def _given(self, *names: str) -> dict[str, Any]:
        """The options among these that the command line gave."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class Ppo(RunOptions):
    """Train an actor with ReLU by proximal policy optimisation (cartpole)."""

    kind: ClassVar[str] = "ppo"

    def run(self) -> None:
        self.train("relu", preset("relu"))

    def train(self, network_name: str, network: Preset) -> None:
        """Train, resume, or say that it is done."""
        set_up_torch(self.threads)
        self._require_numbers()
        game = get_game(self.game)
        if game.tier != PPO_RECIPE.tier:
            raise Refusal(f"{self.kind} plays {PPO_RECIPE.tier} games: cartpole; {game.name} is {game.tier}")
        recipe = replace(PPO_RECIPE, **self._replaced(PPO_RECIPE))
        device = pick_device(self.device)
        spec = {
            **self._spec(game, recipe),
            "network": network_name,
            "network_settings": to_json(asdict(network)),
        }

        def make() -> tuple[Algorithm, Plan]:
            actor, critic = (
                make_actor(whose, network, seeding.torch_generator(self.seed, stream)).to(device)
                for whose, stream in ((game, "weights"), (critic_game(game), "critic"))
            )
            algorithm = PPO(actor, critic, game, recipe, self.seed)
            return algorithm, self._plan(game, PPO_RECIPE, recipe, network_name, scores_are_q_values=False)

        self._work(spec, ("total_steps",), make)


@dataclass(frozen=True, kw_only=True)
class SpikingPpo(Ppo):
    """Train a spiking actor, and a spiking critic with it, by proximal policy optimisation (cartpole)."""

    kind: ClassVar[str] = "spiking-ppo"

    network: str = "tutorial"
    """tutorial, chen2022, liu2022 or liu2022-if."""
    sim_steps: int | None = None
    """Simulation steps a decision, in place of the network's own (tutorial: 16)."""

    def run(self) -> None:
        network, spiking = _spiking_preset(self.network, "ppo")
        if spiking.readout == "spike-rate":
            raise Refusal(
                f"network {self.network!r} answers with rates from 0 to 1, and a critic's values are larger: accepted "
                f"are tutorial, chen2022, liu2022, liu2022-if"
            )
        label = self.network
        if self.sim_steps is not None:
            spiking = replace(spiking, sim_steps=self.sim_steps)
            label += f"+sim_steps={self.sim_steps}"
        self.train(label, replace(network, spiking=spiking))


if __name__ == "__main__":
    main(
        "python -m train_direct",
        {"dqn": Dqn, "dsqn": Dsqn, "ppo": Ppo, "spiking-ppo": SpikingPpo, "ship": Ship},
        "Train networks with gradients; each spiking one by the recipe of its twin without spikes.",
    )
