"""An attack from outside in one file: an extension that tests load."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.queries import worst_of
from analysis.attackers import AttackerKind


@ATTACKS.register("plus-minus")
@dataclass(frozen=True)
class PlusMinus(Attack):
    """Half of all elements move up and the others down, in stripes or the other way round, whichever is worse."""

    kind: ClassVar[AttackerKind] = "black-box"

    period: int = 2
    """Width of two stripes, in elements."""
    queries: int = 2
    """Queries about each state."""

    def perturb(self, problem: Problem) -> Found:
        center = problem.box.center
        up = torch.arange(center[0].numel(), device=center.device) % self.period < self.period / 2
        stripes = torch.where(up, problem.epsilon, -problem.epsilon).view(center.shape[1:]).expand_as(center)
        both = (problem.box.shown(stripes), problem.box.shown(-stripes))
        return Found(worst_of(problem.victim, problem.goal, both))
