"""Projected gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

from adversarial.attack import ATTACKS, Found, Problem, SteppedAttack
from adversarial.gradient_ascent import worst_iterate
from adversarial.ranges import Restarts
from analysis.attackers import AttackerKind
from core.errors import Refusal


@ATTACKS.register("pgd")
@dataclass(frozen=True)
class PGD(SteppedAttack):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083) from random starts.

    delta <- box(delta + step_size sign(grad loss)). Each state keeps the worst iterate of all starts.
    """

    kind: ClassVar[AttackerKind] = "white-box"
    takes: ClassVar[tuple[str, ...]] = ("loss", "steps", "restarts")

    restarts: Restarts = 1
    """Number of starts."""
    random_start: bool = True
    """Begin at a random point of the ball, and not at its centre."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts > 1 and not self.random_start:
            raise Refusal(f"restarts is {self.restarts}: without a random start all would be the same")

    @property
    def label(self) -> str:
        return f"{self.name}-{self.steps}" + (f" x {self.restarts}" if self.restarts > 1 else "")

    def perturb(self, problem: Problem) -> Found:
        return worst_iterate(
            problem,
            steps=self.steps,
            step_size=self.step_length(problem.epsilon),
            starts=self.restarts,
            random_start=self.random_start,
        )
