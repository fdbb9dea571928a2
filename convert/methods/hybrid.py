"""hybrid: a converted network is trained further, as it is simulated.

qcfs trains a network of levels, which are what spikes count to if they arrive evenly. With few steps they do not, and
the simulated network chooses otherwise. Here the network that `pursuit` makes is simulated in every update. The loss is
that of its own Q-values, with all errors of early and late spikes. A spike has no derivative, so gradients pass through
a neuron's rate as through clip(z, 0, 1), z its mean current (`core.rate_coded.differentiable.RateGradient`). No
gradient goes through time, so memory does not grow with simulation steps.

Conversion first and training after it is the hybrid training of Rathi et al. 2020 (arXiv 2005.01807), who train on
labels and through time. Spikes forward and rates backward is the differentiation on spike representation of Meng et al.
2022 (arXiv 2205.00459). The labels are the DQN's Q-values, as in qcfs (convert/distillation.py).
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from convert.distillation import DistilUpdates, distil, distilling
from convert.method import METHODS, Converted, Training
from convert.methods.pursuit import Pursuit
from core.dqn import DQN
from core.rate_coded.differentiable import RateGradient
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import to_json
from core.workload import WorkPart
from play.expected import Expected


@METHODS.register("hybrid")
@dataclass(frozen=True, kw_only=True)
class Hybrid(Pursuit):
    """A network that pursuit makes is trained on the DQN's own Q-values, as it is simulated."""

    max_sim_steps: ClassVar[int | None] = 16
    training: ClassVar[str | None] = "hybrid"

    distil_updates: DistilUpdates = 5000
    """Gradient steps of each of the four rounds."""

    def work(self, snn: RateCodedNetwork, states: int, expected: Expected, taught: bool) -> list[WorkPart]:
        parts = super().work(snn, states, expected, taught)
        return parts if taught else parts + distilling(snn, states, self.distil_updates, expected)

    def training_key(self, coding: RateCoding) -> str:
        # The network learns as it is simulated, so every option of the simulation decides its weights.
        return to_json([super().training_key(coding), asdict(coding)])

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        converted = super().convert(dqn, states, coding, training)
        snn = converted.snn
        if training.taught is not None:
            snn.load_state_dict(training.taught.state_dict())
        else:
            distil(snn, RateGradient(snn), dqn, states, self.distil_updates, training.seed, training.held_out)
        return converted
