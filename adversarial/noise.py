"""Random changes of inputs, and the base of attacks that know nothing of the victim but how large they may be."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from adversarial.attack import Attack, Found, Problem
from adversarial.box import Box
from adversarial.queries import random_search
from adversarial.ranges import MOST_QUERIES
from analysis.attackers import AttackerKind
from core.choices import Loss
from core.errors import Refusal
from core.ranges import Whole


def drawn(
    box: Box,
    generators: Sequence[np.random.Generator],
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> Tensor:
    """One draw for each state, [K, *observation].

    Args:
        box: for the shape of an observation.
        generators: one for each state, so that no state depends on its neighbours.
        draw: (generator, shape of an observation) -> array of that shape.
    """
    shape = tuple(box.center.shape[1:])
    arrays = np.stack([draw(generator, shape) for generator in generators])
    return torch.as_tensor(arrays, device=box.center.device).to(box.center.dtype)


def uniform_change(box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """A change [K, *observation] of up to epsilon in every element, drawn uniformly and brought into the box."""
    shares = drawn(
        box, generators, lambda generator, shape: generator.random(shape, dtype=np.float32)
    )  # [0, 1)
    return box.change(epsilon * (2 * shares - 1))


@dataclass(frozen=True)
class Noise(Attack, abc.ABC):
    """Random noise, which ignores the victim. With several draws, each state keeps the worst by the victim's scores.

    The worst of many draws is the control of attacks that ask the victim as often.
    """

    kind: ClassVar[AttackerKind] = "noise"
    takes: ClassVar[tuple[str, ...]] = ("draws",)

    loss: Loss | Literal[""] = ""
    """Loss by which the worst draw is found; empty for a single draw."""
    queries: Annotated[int, Whole(0, MOST_QUERIES)] = 0
    """Number of draws that the victim is asked about; 0 draws once and asks nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries > 0 and not self.loss:
            raise Refusal(
                f"queries of {self.name} is {self.queries}: a loss is needed to find the worst draw"
            )

    @classmethod
    def variant(cls, **values: Any) -> Self:
        draws = values.pop("draws", 1)
        return cls(**values) if draws == 1 else cls(**{"loss": "margin", "queries": draws, **values})

    @property
    def asks(self) -> bool:
        return self.queries > 1

    @abc.abstractmethod
    def draw(self, box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
        """Noisy inputs [K, *observation] within the box.

        Args:
            box: where the inputs may lie.
            epsilon: size of the noise.
            generators: one for each state.
        """

    def perturb(self, problem: Problem) -> Found:
        box, epsilon, generators = problem.box, problem.epsilon, problem.generators
        if self.queries <= 1:
            return Found(self.draw(box, epsilon, generators))

        def again(query: int, worst: Tensor, left: list[int]) -> Tensor:
            chosen = torch.tensor(left, device=box.center.device)
            chances = [generators[row] for row in left]
            return self.draw(box.rows(chosen), epsilon, chances) - box.center[chosen]

        first = self.draw(box, epsilon, generators) - box.center
        return Found(random_search(problem.victim, problem.goal, box, first, again, self.queries))
