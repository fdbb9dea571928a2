"""The interface of agents, on which evaluation, attacks and conversion rely."""

import abc
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from core.errors import Refusal
from core.games import Game
from core.gradients import GradientSource
from core.memory import require_fits
from core.operations import LayerOperations
from core.ranges import SimSteps, require
from core.registry import Registry


class Activity(NamedTuple):
    """Spikes and simulation steps of a spiking agent in one batch of decisions."""

    spikes: Tensor
    """[B, L] float32: spikes of each of the L spiking layers, summed over neurons and simulation steps."""
    sim_steps: Tensor
    """[B] float32: simulation steps each decision took."""


class Decision(NamedTuple):
    """An agent's answer to a batch of observations."""

    scores: Tensor
    """[B, A] float32: Q-values."""
    carry: tuple[Tensor, ...] | None
    """[B, ...] each: state for the next decision of the same episodes; None for an agent without such state.

    A row of zeros is the state at the start of an episode.
    """
    activity: Activity | None
    """None for an agent without spikes."""


def count_spikes(train: Tensor) -> Tensor:
    """Total spikes [B] of a spike train [T, B, ...]."""
    return train.sum(0, dtype=torch.float32).flatten(1).sum(1)


class Agent(nn.Module, abc.ABC):
    """Base class of agents: torch modules that score the actions of a game."""

    kind: str
    """Kind of agent, as in "dqn" or "rate-coded"; `core.kinds` lists those that are built in."""
    game: Game
    scores_are_q_values: bool = True
    """Whether its scores are Q-values. Measures of Q-values are not made of others."""
    registered_as: str = ""
    """Its name, if it was named as a registered agent; empty for an agent from a file."""
    neuron_counts: tuple[int, ...] = ()
    """Neurons of each spiking layer, in the order of `Activity.spikes`; empty without spikes."""

    @property
    def sim_steps(self) -> int:
        """Simulation steps of a decision; 0 without spikes."""
        return 0

    @abc.abstractmethod
    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        """Score the actions, and count the spikes and simulation steps of doing so.

        Args:
            observations: [B, *observation] float32 within the game's bounds.
            carry: `Decision.carry` of the previous decision of the same episodes, with zeros in the rows of episodes
                that start; None if all episodes start.
        """

    def forward(self, observations: Tensor) -> Tensor:
        """Action scores [B, A]."""
        return self.decide(observations).scores

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able values, besides the game, from which `from_config` makes the same agent without its weights."""

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        """An agent as `config` described it, its weights not yet filled in.

        Only agents that checkpoints hold need it (`AGENT_CLASSES`).

        Raises:
            Refusal: the configuration, which may come from a file, cannot be one of this agent.
        """
        raise Refusal(f"an agent of kind {cls.kind!r} cannot be made from a file")

    def gradient_sources(self) -> Iterator[GradientSource]:
        """Every differentiable network that an attack on the agent can take its gradient from, the usual one first.

        By default, the agent itself.

        Raises:
            Refusal: the agent has no gradient.
        """
        yield GradientSource(self, "own", same_scores=True, sim_steps=self.sim_steps)

    def operations(self, observations: Tensor) -> list[LayerOperations]:
        """Operations of each layer, first to last, in a batch of decisions.

        Each is taken as the first decision of an episode.

        Args:
            observations: [B, *observation] float32, the network's input.

        Raises:
            Refusal: the agent has no layers that can be counted.
        """
        raise Refusal(f"agent {self.kind!r} has no layers to count: agents of core.layered.Layered have")

    def representation(self, observations: Tensor) -> Tensor:
        """The input of the output layer, [B, F]: activations, or spikes per simulation step.

        Each observation [B, *observation] is taken as the first of an episode.

        Raises:
            Refusal: the agent has no hidden layer that is known.
        """
        raise Refusal(
            f"agent {self.kind!r} has no hidden layer that is known: agents of core.layered.Layered have"
        )

    def decision_bytes(self, rows: int) -> int:
        """Forecast of the memory that a decision on so many observations takes, in bytes; 0 if it is small."""
        return 0

    def gradient_bytes(self, rows: int) -> int:
        """Forecast of the memory that scores of so many observations and their gradient take, in bytes."""
        return 9 * 4 * rows * math.prod(self.game.observation_shape)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))


AGENT_CLASSES: Registry[type[Agent]] = Registry(
    "kind of agent",
    modules=("core.dqn", "core.quantised", "core.rate_coded.network", "core.dsqn", "core.adapt.adapted"),
)
"""Classes of agents that checkpoints hold, by kind."""
AGENTS: Registry[Callable[[Game], Agent]] = Registry("agent")
"""Agents that can be named instead of a checkpoint: functions from a game to an agent."""


@AGENTS.register("random")
class RandomPlay(Agent):
    """Random play. Every action scores 0; protocols play it with epsilon 1."""

    kind = "random"
    scores_are_q_values = False

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


def require_decidable(agent: Agent, rows: int) -> None:
    """Refuse an agent whose decisions on so many observations at once do not fit into memory.

    It may come from a file, which can ask for any number of simulation steps.

    Raises:
        Refusal: the message has a number of simulation steps that would fit.
    """
    if agent.device.type == "cpu":
        needed = agent.decision_bytes(rows)
        require_fits("sim_steps of the agent", agent.sim_steps, needed, f"{rows} decisions at once")


def require_sim_steps(sim_steps: int) -> None:
    """Refuse a number of simulation steps that is not an integer in range. It may come from a file."""
    require("sim_steps", sim_steps, SimSteps)
