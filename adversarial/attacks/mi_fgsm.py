"""The iterative fast gradient sign method with momentum."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from adversarial.attack import ATTACKS, Found, Problem, SteppedAttack
from adversarial.gradient_ascent import worst_iterate
from analysis.attackers import AttackerKind
from core.ranges import Real


@ATTACKS.register("mi-fgsm")
@dataclass(frozen=True)
class MIFGSM(SteppedAttack):
    """Momentum iterative fast gradient sign method (Dong et al. 2018, arXiv 1710.06081, algorithm 1).

    g <- momentum g + grad / mean |grad|;  delta <- box(delta + step_size sign(g)), from the clean input.
    Each state keeps the worst iterate.
    """

    kind: ClassVar[AttackerKind] = "white-box"
    takes: ClassVar[tuple[str, ...]] = ("loss", "steps")
    stride: ClassVar[float] = 1.0

    momentum: Annotated[float, Real(0, 1000)] = 1.0
    """Share of the last direction that is kept (Dong et al.: 1)."""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.steps}"

    def recorded(self, epsilon: float) -> dict[str, Any]:
        return {**super().recorded(epsilon), "restarts": 1}

    def perturb(self, problem: Problem) -> Found:
        return worst_iterate(
            problem,
            steps=self.steps,
            step_size=self.step_length(problem.epsilon),
            momentum=self.momentum,
        )
