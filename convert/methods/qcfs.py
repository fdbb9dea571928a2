"""qcfs: a quantised network is distilled from its DQN, then simulated for as many steps as it has levels.

The quantisation is QCFS (Bu et al. 2022, arXiv 2303.04347). The student's activations have L levels,
h(z) = clip(floor(L z + 1/2), 0, L) / L in normalised weights, and gradients pass through the staircase as through
clip(z, 0, 1). Simulated for T = L steps from v_init = 1/2, its network has no expected error. Thresholds need no
parameter of their own: normalised weights hold them (theta W' / theta).

Training begins from the DQN's weights with searched thresholds, or from the neurons that `pursuit` chose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from convert.distillation import DistilUpdates, distil, distillation_bytes, distillation_work
from convert.method import METHODS, Converted, Method, Training
from convert.methods.pursuit import Pursuit, pursue, require_dense_end
from convert.methods.threshold_search import least_squares
from convert.scaling import scaled_network
from core.choices import Firing, Granularity
from core.dqn import DQN
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.workload import WorkPart
from play.expected import Expected

Start = Literal["threshold-search", "pursuit"]
OWN_PLAY = 0.5
"""States of the student's play that each round after the first adds, for each calibration state."""


@METHODS.register("qcfs")
@dataclass(frozen=True, kw_only=True)
class Qcfs(Method):
    """The DQN's own Q-values are distilled into a network with as many levels as simulation steps (Bu et al. 2022)."""

    firing: ClassVar[Firing] = "signed"
    v_init: ClassVar[float] = 0.5
    max_sim_steps: ClassVar[int | None] = 16
    training: ClassVar[str | None] = "qcfs"
    later: ClassVar[Mapping[str, Any]] = {"start": "threshold-search"}

    thresholds: Granularity = "channel"
    """One threshold a channel or a layer, before training."""
    distil_updates: DistilUpdates = 5000
    """Gradient steps of each of the four rounds."""
    start: Start = "threshold-search"
    """What training begins from: the DQN's weights with searched thresholds, or the neurons that pursuit chooses."""

    def require_convertible(self, dqn: DQN) -> None:
        if self.start == "pursuit":
            require_dense_end(dqn)

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        started = Pursuit().conversion_bytes(dqn, states) if self.start == "pursuit" else 0
        if not self.distil_updates:
            return started
        return max(started, distillation_bytes(dqn.game, states, OWN_PLAY))

    def work(self, snn: RateCodedNetwork, states: int, expected: Expected, taught: bool) -> list[WorkPart]:
        parts = super().work(snn, states, expected, taught)
        tier = snn.game.tier
        if self.start == "pursuit":
            parts.append(WorkPart("convert", tier, "pursuit", snn.sim_steps, states))
        if self.distil_updates and not taught:
            parts += distillation_work(snn.quantised(), states, OWN_PLAY, self.distil_updates, expected)
        return parts

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        snn, scales = self._started(dqn, states, coding)
        if training.taught is not None:
            snn.load_state_dict(training.taught.state_dict())
        elif self.distil_updates:
            student = snn.quantised()
            distil(student, dqn, states, OWN_PLAY, self.distil_updates, training.seed, training.held_out)
            snn.load_state_dict(student.state_dict())
        return Converted(snn, scales)

    def _started(
        self, dqn: DQN, states: np.ndarray, coding: RateCoding
    ) -> tuple[RateCodedNetwork, list[Tensor]]:
        """The network before training, and its scales."""
        sim_steps, v_init, by_channel = coding.sim_steps, coding.neuron.v_init, self.thresholds == "channel"
        if self.start == "threshold-search":
            scales = least_squares(dqn, states, sim_steps, v_init, by_channel)
            return scaled_network(dqn, scales, coding), scales
        # The student's levels are those of neurons that fire afterwards, whatever the neurons of the network do.
        levels = RateCoding(sim_steps, neuron=IFNeuron("afterwards", v_init))
        started, scales = pursue(dqn, states, levels, by_channel)
        snn = scaled_network(dqn, scales, coding)
        snn.load_state_dict(started.state_dict())
        return snn, scales
