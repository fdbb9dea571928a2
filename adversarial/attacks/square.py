"""The square attack."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.queries import random_search
from adversarial.ranges import Queries
from analysis.attackers import AttackerKind
from core.choices import Loss

FIRST_SHARE = 0.8
"""Share of the frame that a square covers at first (Croce & Hein 2020, AutoAttack)."""
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries that share is halved (Andriushchenko et al. 2020, section 3.1)."""


@ATTACKS.register("square")
@dataclass(frozen=True)
class Square(Attack):
    """Square attack (Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 and 2 for l_inf).

    It begins with vertical stripes of +-epsilon. Each query puts a square of +-epsilon at a random place, and the
    square stays if the loss rose. A state whose goal is reached is asked about no more.
    """

    kind: ClassVar[AttackerKind] = "black-box"
    needs_image: ClassVar[bool] = True

    loss: Loss | Literal[""] = "margin"
    queries: Queries = 500
    """Queries about each state, at most."""

    def perturb(self, problem: Problem) -> Found:
        box, generators = problem.box, problem.generators
        rows, channels, height, width = box.center.shape

        def signs(row: int, columns: int) -> Tensor:
            random = generators[row].integers(2, size=(channels, 1, columns))
            return problem.epsilon * torch.as_tensor(2 * random - 1, device=box.center.device).to(
                box.center.dtype
            )

        def with_a_square(query: int, worst: Tensor, left: list[int]) -> Tensor:
            side = square_side(query, self.queries, height, width)
            for place, row in enumerate(left):
                top, edge = (int(generators[row].integers(size - side + 1)) for size in (height, width))
                worst[place, :, top : top + side, edge : edge + side] = signs(row, 1)
            return worst

        stripes = torch.stack([signs(row, width).expand(-1, height, -1) for row in range(rows)])
        return Found(random_search(problem.victim, problem.goal, box, stripes, with_a_square, self.queries))


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side of the square that a query tries.

    Args:
        query: number of the query, from 0.
        queries: of the whole attack.
        height, width: of the frame.
    """
    halvings = sum(query * 10_000 > queries * when for when in HALVINGS)
    side = round(math.sqrt(FIRST_SHARE / 2**halvings * height * width))
    return min(max(side, 1), height, width)
