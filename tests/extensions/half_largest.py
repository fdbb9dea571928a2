"""A conversion method in one file: each layer's threshold is a share of its largest output."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from convert.method import METHODS, Converted, Method, Training
from convert.methods.tan2021 import Tan2021
from convert.scaling import scaled_network
from core.dqn import DQN
from core.ranges import Real
from core.rate_coded.network import RateCoding


@METHODS.register("half-largest")
@dataclass(frozen=True, kw_only=True)
class HalfLargest(Method):
    """Thresholds at a share of each layer's largest output, with membranes that start half full."""

    v_init: ClassVar[float] = 0.5
    depends_on_sim_steps: ClassVar[bool] = False

    share: Annotated[float, Real(0, 1, above=True)] = 0.5
    """Share of the largest output that a rate of 1 stands for."""

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        largest = Tan2021(percentile=100.0).convert(dqn, states, coding, training)
        scales = [self.share * scale for scale in largest.scales]
        return Converted(scaled_network(dqn, scales, coding), scales, largest.guarded)
