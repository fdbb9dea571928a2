"""A change of brightness: a control outside the search for small perturbations."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.queries import worst_of
from analysis.attackers import AttackerKind
from core.choices import Loss


@ATTACKS.register("brightness")
@dataclass(frozen=True)
class Brightness(Attack):
    """The whole input brighter by epsilon, or darker, whichever is worse for the victim."""

    kind: ClassVar[AttackerKind] = "control"

    loss: Loss | Literal[""] = "margin"

    def recorded(self, epsilon: float) -> dict[str, Any]:
        return {**super().recorded(epsilon), "queries": 2}

    def perturb(self, problem: Problem) -> Found:
        box = problem.box
        everywhere = torch.full_like(box.center, problem.epsilon)
        both = (box.shown(everywhere), box.shown(-everywhere))
        return Found(worst_of(problem.victim, problem.goal, both))
