"""The iterative fast gradient sign method with momentum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from adversarial.attack import ATTACKS, Found, Problem, SteppedAttack
from adversarial.gradient_ascent import worst_iterate
from analysis.attackers import AttackerKind
from core.errors import Refusal


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
    least: ClassVar[Mapping[str, int]] = {"steps": 1}

    momentum: float = 1.0
    """Share of the last direction that is kept (Dong et al.: 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.momentum < math.inf:
            raise Refusal(f"momentum of {self.name} is {self.momentum}: accepted is 0 or more")

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
