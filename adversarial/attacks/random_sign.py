"""Noise of full size: the control of FGSM."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adversarial.attack import ATTACKS
from adversarial.box import Box
from adversarial.noise import Noise, drawn


@ATTACKS.register("random-sign")
@dataclass(frozen=True)
class RandomSign(Noise):
    """The control of FGSM: every element moves by epsilon, up or down at random."""

    def draw(self, box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
        bits = drawn(box, generators, lambda generator, shape: generator.integers(2, size=shape))
        return box.shown(epsilon * (2 * bits - 1))
