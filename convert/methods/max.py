"""max: the largest output of each layer is its scale (Diehl et al. 2015, doi 10.1109/IJCNN.2015.7280696).

It is percentile normalisation at 100 %. On the calibration states no neuron needs to fire more than once a simulation
step. A single large output makes all others fire rarely.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convert.method import METHODS, Converted, Method, Training
from convert.methods.tan2021 import Tan2021
from core.dqn import DQN
from core.rate_coded.network import RateCoding


@METHODS.register("max")
@dataclass(frozen=True, kw_only=True)
class Max(Method):
    """The scale of each layer is its largest output (Diehl et al. 2015)."""

    depends_on_sim_steps: ClassVar[bool] = False

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        return Tan2021(percentile=100.0).convert(dqn, states, coding, training)
