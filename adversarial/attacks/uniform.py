"""Uniform noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adversarial.attack import ATTACKS
from adversarial.box import Box
from adversarial.noise import Noise, uniform_change


@ATTACKS.register("uniform")
@dataclass(frozen=True)
class Uniform(Noise):
    """Every element moves by a uniformly drawn amount of up to epsilon."""

    def draw(self, box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
        return box.shown(uniform_change(box, epsilon, generators))
