"""The fast gradient sign method."""

from dataclasses import dataclass
from typing import Any, ClassVar

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.gradient_ascent import worst_iterate
from analysis.attackers import AttackerKind


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method (Goodfellow et al. 2015; on policies: Huang et al. 2017, arXiv 1702.02284).

    x' = clip(x + epsilon sign(grad_x loss)).
    """

    kind: ClassVar[AttackerKind] = "white-box"

    @property
    def asks(self) -> bool:
        return False  # there is one input

    def recorded(self, epsilon: float) -> dict[str, Any]:
        return {**super().recorded(epsilon), "steps": 1, "restarts": 1, "step_size": epsilon}

    def perturb(self, problem: Problem) -> Found:
        return worst_iterate(problem, steps=1, step_size=problem.epsilon)
