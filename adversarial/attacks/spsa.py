"""Simultaneous perturbation stochastic approximation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from adversarial.attack import ATTACKS, Found, Problem, SteppedAttack
from adversarial.box import Box
from adversarial.noise import drawn
from adversarial.queries import worst_of_judged
from adversarial.ranges import MOST_QUERIES
from analysis.attackers import AttackerKind
from core.choices import Loss
from core.errors import Refusal
from core.ranges import Whole


@ATTACKS.register("spsa")
@dataclass(frozen=True)
class SPSA(SteppedAttack):
    """Simultaneous perturbation stochastic approximation (Spall 1992; as an attack: Uesato et al. 2018,
    arXiv 1802.05666). The gradient is estimated from the victim's scores, and followed as PGD follows one.

    g = sum over pairs of (L(x + epsilon v) - L(x - epsilon v)) v, with random signs v. Of all that the victim was asked
    about, and the last iterate, the worst is taken.
    """

    kind: ClassVar[AttackerKind] = "black-box"

    loss: Loss | Literal[""] = "margin"
    queries: Annotated[int, Whole(3, MOST_QUERIES)] = 1280
    """Queries about each state: shared evenly by the steps, two a pair, and one about the last iterate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries <= 2 * self.steps:
            raise Refusal(
                f"queries of {self.name} is {self.queries}: each of its {self.steps} steps needs 2, and the last "
                f"iterate 1, so at least {2 * self.steps + 1}"
            )

    @torch.no_grad()
    def perturb(self, problem: Problem) -> Found:
        return Found(worst_of_judged(problem.goal, self._judged(problem)))

    def _judged(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """What the victim is asked about [2 K or K, *observation], with its scores."""
        goal, box, probe = problem.goal, problem.box, problem.epsilon
        delta = torch.zeros_like(box.center)
        for _ in range(self.steps):
            gradient = torch.zeros_like(delta)
            for _ in range((self.queries - 1) // (2 * self.steps)):
                signs = _random_signs(box, problem.generators)
                both = torch.cat((box.shown(delta + probe * signs), box.shown(delta - probe * signs)))
                scores = problem.victim(both)
                yield both, scores
                values = goal.value(scores.unflatten(0, (2, len(delta))))  # [2, K]
                gradient += (values[0] - values[1]).view(-1, *[1] * (delta.dim() - 1)) * signs
            delta = box.change(delta + self.step_length(problem.epsilon) * gradient.sign())
        last = box.shown(delta)
        yield last, problem.victim(last)


def _random_signs(box: Box, generators: Sequence[np.random.Generator]) -> Tensor:
    """+1 or -1 for each element, [K, *observation], from one random bit each."""
    count = box.center[0].numel()

    def bits(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        octets = np.frombuffer(generator.bytes(-(-count // 8)), dtype=np.uint8)
        return np.unpackbits(octets, count=count).reshape(shape)

    return 2 * drawn(box, generators, bits) - 1
