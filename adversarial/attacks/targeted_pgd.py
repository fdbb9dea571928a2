"""Projected gradient descent towards the worst action."""

from dataclasses import dataclass
from typing import ClassVar

from adversarial.attack import ATTACKS
from adversarial.attacks.pgd import PGD


@ATTACKS.register("targeted-pgd")
@dataclass(frozen=True)
class TargetedPGD(PGD):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083) towards the worst action of the clean scores.

    As PGD, with the loss of that action decreased.
    """

    targeted: ClassVar[bool] = True
