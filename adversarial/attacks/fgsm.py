"""The fast gradient sign method."""

from dataclasses import dataclass
from typing import Any, ClassVar

from adversarial.attack import ATTACKS, Attack, Found, Problem
from adversarial.box import Box
from adversarial.goals import Goal, Scores
from adversarial.gradient_ascent import Iterate, last_iterate
from analysis.attackers import AttackerKind


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method (Goodfellow et al. 2015; on policies: Huang et al. 2017, arXiv 1702.02284).

    x' = clip(x + epsilon sign(grad_x loss)).
    """

    kind: ClassVar[AttackerKind] = "white-box"

    def recorded(self, epsilon: float) -> dict[str, Any]:
        return {**super().recorded(epsilon), "steps": 1, "restarts": 1, "step_size": epsilon}

    def perturb(self, problem: Problem) -> Found:
        found = fgsm(problem.gradient_source, problem.goal, problem.box, problem.epsilon)
        return Found(problem.box.rounded(found.inputs), found.zero_gradient)


def fgsm(source: Scores, goal: Goal, box: Box, epsilon: float) -> Iterate:
    """One step of epsilon from the centre of the box.

    Args:
        source: whose gradient is followed.
        goal: whose loss is increased.
        box: where the inputs may lie.
        epsilon: length of the step.
    """
    return last_iterate(source, goal, box, steps=1, step_size=epsilon)
