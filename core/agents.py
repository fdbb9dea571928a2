"""The agent contract: what evaluation, attack and conversion know of any agent."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from core.errors import Refusal
from core.games import Game
from core.gradients import GradientSource
from core.registry import Registry


class Activity(NamedTuple):
    """What a spiking agent spent on one batch of decisions."""

    spikes: Tensor
    """[B, L] float32: spikes of each of the L spiking layers, summed over neurons and simulation steps."""
    sim_steps: Tensor
    """[B] float32: simulation steps each decision took."""


class Decision(NamedTuple):
    """What an agent answers to a batch of observations."""

    scores: Tensor
    """[B, A] float32: Q-values."""
    carry: tuple[Tensor, ...] | None
    """[B, ...] each: what the next decision of the same episodes begins with, zero rows being an episode's start;
    None for an agent that keeps nothing."""
    activity: Activity | None
    """None for an agent without spikes."""


class LayerTrace(NamedTuple):
    """What one layer of an agent heard and did in one batch of decisions: all that its operations are counted from.

    Agents with layers have a method `trace`, which takes what `decide` takes and gives one for each layer, first to
    last. It is slower than `decide`, whose spikes these are, neuron by neuron.
    """

    heard: Tensor
    """[B, *its input]: the image, activations, or how many spikes (of either sign) of each input arrived in all."""
    hears_spikes: bool
    fired: Tensor | None
    """[B, *its output]: spikes (of either sign) of each of its own neurons; None if they do not spike."""
    neuron_sim_steps: Tensor
    """[B] float32: simulation steps in which its neurons' membranes were stepped; 0 if they have none."""


def layer_traces(
    observations: Tensor, fired: Sequence[Tensor], neuron_sim_steps: Sequence[Tensor]
) -> list[LayerTrace]:
    """Traces of a network whose first layer hears the image, and each later one the spikes of the one before.

    Args:
        observations: [B, *observation].
        fired: of every layer that spikes, see `LayerTrace`; all do but perhaps the last.
        neuron_sim_steps: of every layer, see `LayerTrace`.
    """
    heard = [observations, *fired]
    return [
        LayerTrace(heard[index], index > 0, fired[index] if index < len(fired) else None, steps)
        for index, steps in enumerate(neuron_sim_steps)
    ]


def count_spikes(train: Tensor) -> Tensor:
    """Total spikes [B] of a spike train [T, B, ...]."""
    return train.sum(0, dtype=torch.float32).flatten(1).sum(1)


class Agent(nn.Module, abc.ABC):
    """What evaluation, attack and conversion know of any agent."""

    kind: str
    """What it is: "dqn", "quantised", "rate-coded", "dsqn", "actor", "spiking-actor" or "random"."""
    game: Game
    neuron_counts: tuple[int, ...] = ()
    """Neurons of each spiking layer, in the order of `Activity.spikes`; empty without spikes."""

    @property
    def sim_steps(self) -> int:
        """Simulation steps of a decision; 0 without spikes."""
        return 0

    @abc.abstractmethod
    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        """Score actions, and say what that took.

        Args:
            observations: [B, *observation] float32 within the game's bounds.
            carry: what the previous decision of the same episodes returned, zero rows where one starts; None if all do.
        """

    def forward(self, observations: Tensor) -> Tensor:
        """Action scores [B, A]."""
        return self.decide(observations).scores

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able values, besides the game, from which `from_config` makes an agent like this one."""

    @classmethod
    @abc.abstractmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        """An agent as `config` described it, its weights not yet filled in.

        Raises:
            Refusal: the configuration, which may come from a file, cannot be one of this agent.
        """

    def gradient_sources(self) -> Iterator[GradientSource]:
        """Every differentiable network whose gradient may lead an attack on the agent, the usual one first.

        By default its own scores are differentiated.

        Raises:
            Refusal: it has no gradient.
        """
        yield GradientSource(self, "own", same_scores=True, sim_steps=self.sim_steps)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))


AGENT_CLASSES: Registry[type[Agent]] = Registry(
    "kind of agent", modules=("core.dqn", "core.quantised", "core.rate_coded.network", "core.dsqn")
)
"""Classes of agents that checkpoints hold, by kind."""
AGENTS: Registry[Callable[[Game], Agent]] = Registry("agent")
"""Agents that can be named instead of a checkpoint: functions from a game to an agent."""


@AGENTS.register("random")
class RandomPlay(Agent):
    """Random play: every action scores 0, and it is played with epsilon 1."""

    kind = "random"

    def __init__(self, game: Game):
        super().__init__()
        self.game = game

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        return Decision(observations.new_zeros(len(observations), self.game.num_actions), None, None)

    def gradient_sources(self) -> Iterator[GradientSource]:
        raise Refusal("random play has no gradient: attacks that follow one need a trained agent")

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        return cls(game)


MOST_SIM_STEPS = 10_000
"""Twenty times what Tan et al. 2021 needs; some read-outs take memory by its square."""


def require_sim_steps(sim_steps: int) -> None:
    """Refuse a number of simulation steps that is none; it may come from a file, where nothing is typed."""
    if not isinstance(sim_steps, int) or isinstance(sim_steps, bool) or not 1 <= sim_steps <= MOST_SIM_STEPS:
        raise Refusal(f"sim_steps is {sim_steps}: accepted are integers from 1 to {MOST_SIM_STEPS}")
