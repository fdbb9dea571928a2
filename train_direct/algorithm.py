"""What the skeleton of a training run needs of a learning algorithm."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from core.agents import Agent
from play.rollout import Step


class Means(NamedTuple):
    """Means over the updates since the previous point of the curve; NaN without updates."""

    loss: float
    q_mean: float
    """Mean Q-value of the replayed actions. For PPO, the critic's mean value of the replayed states."""


class EpisodeScores:
    """Raw scores of the training episodes that are being played.

    Args:
        num_envs: episodes played side by side.
    """

    def __init__(self, num_envs: int):
        self.running = np.zeros(num_envs)

    def add(self, step: Step) -> list[float]:
        """Count one decision.

        Returns:
            The scores of the episodes that ended with it.
        """
        self.running[step.slots] += step.outcome.rewards
        over = step.slots[step.ended]
        ended: list[float] = self.running[over].tolist()
        self.running[over] = 0.0
        return ended


class Algorithm(Protocol):
    """A learning algorithm on one game."""

    @property
    def agent(self) -> Agent:
        """The network that is trained."""
        ...

    @property
    def steps(self) -> int:
        """Decisions made."""
        ...

    @property
    def updates(self) -> int:
        """Gradient steps made."""
        ...

    @property
    def epsilon(self) -> float:
        """Share of random actions now; NaN if it explores otherwise."""
        ...

    def advance(self) -> Sequence[float]:
        """Make one decision in every environment.

        Returns:
            The raw scores of the training episodes that ended.
        """
        ...

    def means(self) -> Means:
        """Means over the updates since the previous call."""
        ...

    def diagnostics(self) -> Mapping[str, float]:
        """Values of the last update by name, for TensorBoard; empty without updates."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and JSON-able values, from which `restore` continues with the same bits."""
        ...

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from a state."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...
