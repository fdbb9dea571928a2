"""Normal noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adversarial.attack import ATTACKS
from adversarial.box import Box
from adversarial.noise import Noise, drawn


@ATTACKS.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Noise):
    """Normal noise of standard deviation epsilon, clipped at epsilon, which a third of all elements reach."""

    def draw(self, box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
        noise = drawn(
            box, generators, lambda generator, shape: generator.standard_normal(shape, dtype=np.float32)
        )
        return box.shown(epsilon * noise)
