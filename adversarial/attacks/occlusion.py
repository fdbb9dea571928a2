"""A covered part of the frame: a control outside the l_p balls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.queries import worst_of
from adversarial.ranges import Queries
from analysis.attackers import AttackerKind
from core.choices import Loss


@ATTACKS.register("occlusion")
@dataclass(frozen=True)
class Occlusion(Attack):
    """A square of the lowest value covers all channels, at the worst of some random places.

    Pixels turn black, planes empty. Epsilon is the share of the frame's area that the square covers, up to 1; its side
    is rounded.
    """

    kind: ClassVar[AttackerKind] = "control"
    norm: ClassVar[Literal["l_inf", "patch"]] = "patch"
    needs_image: ClassVar[bool] = True
    most_epsilon: ClassVar[float] = 1.0

    loss: Loss | Literal[""] = "margin"
    queries: Queries = 16
    """Number of places that are tried."""

    def perturb(self, problem: Problem) -> Found:
        box = problem.box
        height, width = box.center.shape[2:]
        side = min(round(math.sqrt(problem.epsilon * height * width)), height, width)

        def covered() -> Iterator[Tensor]:
            for _ in range(self.queries):
                delta = torch.zeros_like(box.center)
                for row, generator in enumerate(problem.generators):
                    top, edge = (int(generator.integers(size - side + 1)) for size in (height, width))
                    delta[row, :, top : top + side, edge : edge + side] = -math.inf
                yield box.shown(delta)

        return Found(worst_of(problem.victim, problem.goal, covered()))
