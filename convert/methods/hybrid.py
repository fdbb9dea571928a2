"""hybrid: a converted network is distilled further, as it is simulated.

qcfs trains a network whose activations have T levels. These are the rates of spikes that arrive evenly. With few steps
they do not, and the simulated network chooses otherwise. Here the network that `pursuit` makes is simulated in every
update, and the loss is that of the Q-values that its own spikes give. A spike has no derivative, so each neuron's rate
has that of clip(z, 0, 1) in its mean current z (`core.rate_coded.differentiable.RateGradient`). No gradient goes
through time, so memory does not grow with simulation steps.

Conversion first and training after it is the hybrid training of Rathi et al. 2020 (arXiv 2005.01807), who train on
labels and through time. Spike counts forward, and a network of activations with the same weights backward, is the
tandem learning of Wu et al. 2019 (arXiv 1907.01167); Meng et al. 2022 (arXiv 2205.00459) derive it for clipped rates.
Labels here are the DQN's Q-values, as in qcfs (convert/distillation.py).
"""

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

import numpy as np

from convert.distillation import DistilUpdates, distil, distillation_bytes, distillation_work
from convert.method import METHODS, Converted, Training
from convert.methods.pursuit import Pursuit
from core.dqn import DQN
from core.errors import Refusal
from core.ranges import Real
from core.rate_coded.differentiable import RateGradient
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import to_json
from core.workload import WorkPart
from play.expected import Expected


@METHODS.register("hybrid")
@dataclass(frozen=True, kw_only=True)
class Hybrid(Pursuit):
    """The network that pursuit makes is distilled from the DQN's own Q-values, as it is simulated."""

    max_sim_steps: ClassVar[int | None] = 16
    training: ClassVar[str | None] = "hybrid"

    distil_updates: DistilUpdates = 5000
    """Gradient steps of each of the four rounds."""
    own_play: Annotated[float, Real(0, 100, above=True)] = 5.0
    """States of the student's play that each round after the first adds, for each calibration state.

    With few, the student learns them by heart. Measured on two DQNs of the study `minatar` (asterix, seed 1, and
    breakout, seed 4) at T = 4: in new states of its own play, the student chooses as its DQN does in 78 and 87 % if it
    adds a half for each, in 80 and 91 % if 2, and in 84 and 90 % if 6.
    """

    def require_sound(self, coding: RateCoding) -> None:
        super().require_sound(coding)
        for name, value in (("tau", coding.neuron.tau), ("residual_alpha", coding.residual_alpha)):
            if value:
                raise Refusal(
                    f"{name} is {value}: hybrid goes with no leak and no carried membranes, because it learns from "
                    "rates of single decisions"
                )

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        return max(
            super().conversion_bytes(dqn, states),
            distillation_bytes(dqn.game, states, self.own_play),
        )

    def work(self, snn: RateCodedNetwork, states: int, expected: Expected, taught: bool) -> list[WorkPart]:
        parts = super().work(snn, states, expected, taught)
        if taught:
            return parts
        return parts + distillation_work(snn, states, self.own_play, self.distil_updates, expected)

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
            through, seed, held_out = RateGradient(snn), training.seed, training.held_out
            distil(snn, dqn, states, self.own_play, self.distil_updates, seed, held_out, through=through)
        return converted
