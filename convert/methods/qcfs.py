"""qcfs: a quantised network is distilled from its DQN, then simulated for as many steps as it has levels.

The quantisation is QCFS (Bu et al. 2022, arXiv 2303.04347). The student's activations have L levels,
h(z) = clip(floor(L z + 1/2), 0, L) / L in normalised weights, and gradients pass through the staircase as through
clip(z, 0, 1). Simulated for T = L steps from v_init = 1/2, its network has no expected error. Thresholds need no
parameter of their own: normalised weights hold them (theta W' / theta).

Training begins from the DQN's weights with searched thresholds, or from the neurons that `pursuit` chose.

No reward is needed, because the teacher's Q-values are the labels. A fit of the Q-values alone would spend the few
levels on differences that decide nothing. So the loss is mostly the regret of a softmax over the student's Q-values,
in the teacher's Q, and only lightly their squared error. The first round learns on the teacher's play. Each further
one adds states of the student's own play (DAgger: Ross et al. 2011, arXiv 1011.0686).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from convert.method import METHODS, Converted, Method, Training
from convert.methods.pursuit import Pursuit, pursue, require_dense_end
from convert.methods.threshold_search import least_squares
from convert.scaling import scaled_network
from core import seeding
from core.choices import Firing, Granularity
from core.dqn import DQN
from core.errors import Refusal
from core.progress import Progress
from core.quantised import QuantisedDQN
from core.ranges import Whole
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.workload import WorkPart
from play.environments import network_input
from play.expected import Expected, collecting
from play.states import collect, q_values

Start = Literal["threshold-search", "pursuit"]
ROUNDS = 4
BATCH = 64
LEARNING_RATE = 1e-3
# The following are in units of the standard deviation of the teacher's advantages, so that it serves every game.
TEMPERATURE = 0.2
ADVANTAGE_WEIGHT, COMMON_WEIGHT = 0.3, 0.03
"""Weights of two mean squared errors, where the regret has weight 1: of advantages, and of the mean over actions."""


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
    distil_updates: Annotated[int, Whole(1, 1_000_000)] = 5000
    """Gradient steps of each of the four rounds."""
    start: Start = "threshold-search"
    """What training begins from: the DQN's weights with searched thresholds, or the neurons that pursuit chooses."""

    def require_convertible(self, dqn: DQN) -> None:
        if self.start == "pursuit":
            require_dense_end(dqn)

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        return Pursuit().conversion_bytes(dqn, states) if self.start == "pursuit" else 0

    def work(self, snn: RateCodedNetwork, states: int, expected: Expected, taught: bool) -> list[WorkPart]:
        parts = super().work(snn, states, expected, taught)
        tier = snn.game.tier
        if self.start == "pursuit":
            parts.append(WorkPart("convert", tier, "pursuit", snn.sim_steps, states))
        if self.distil_updates and not taught:
            parts.append(WorkPart("update", tier, "quantised", 1, ROUNDS * self.distil_updates * BATCH))
            for _ in range(1, ROUNDS):
                parts += collecting(snn.quantised(), states // 2, expected)
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
            distil(student, dqn, states, self.distil_updates, training.seed, training.held_out)
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


def distil(
    student: QuantisedDQN,
    teacher: DQN,
    states: np.ndarray,
    updates: int,
    seed: int,
    held_out: np.ndarray | None = None,
) -> None:
    """Train a quantised DQN, in place, to choose as its teacher does.

    Args:
        student: starts from converted weights.
        teacher: the DQN.
        states: [S, *observation] of the teacher's play. Each further round adds half as many of the student's.
        updates: gradient steps in a round, at least 1. The learning rate falls to 0 along half a cosine.
        seed: seed of the student's episodes and of the batches.
        held_out: states that must not be among the student's own.
    """
    if updates < 1:
        raise Refusal(f"distil_updates is {updates}: at least 1 is needed")
    drawing = seeding.generator(seed, "distillation")
    own_states = max(1, len(states) // 2)
    with Progress(f"distil {student.levels} levels", ROUNDS * updates, "updates") as progress:
        for number in range(ROUNDS):
            if number > 0:
                own = collect(student, own_states, seed, f"distillation {number}", apart_from=held_out)
                states = np.concatenate([states, own])
            _round(student, teacher, states, updates, drawing, progress)


def _round(
    student: QuantisedDQN,
    teacher: DQN,
    states: np.ndarray,
    updates: int,
    drawing: np.random.Generator,
    progress: Progress,
) -> None:
    wanted = torch.from_numpy(q_values(teacher, states)).to(student.device)  # [S, A]
    unit = (wanted - wanted.mean(1, keepdim=True)).std().clamp(min=1e-6)
    student.requires_grad_(True)
    optimiser = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * update / updates))
        drawn = drawing.integers(len(states), size=BATCH)
        inputs = network_input(states[drawn], student.game, student.device)
        loss = _loss(student(inputs) / unit, wanted[torch.from_numpy(drawn).to(wanted.device)] / unit)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.advance(1, f"loss {loss.item():.4f}")
    student.requires_grad_(False)


def _loss(q: Tensor, wanted: Tensor) -> Tensor:
    """[] loss of the student's Q-values against the teacher's, [B, A] each, in units of the teacher's advantages."""
    preference = (q / TEMPERATURE).softmax(1)
    regret = (preference * (wanted.amax(1, keepdim=True) - wanted)).sum(1).mean()
    error = q - wanted
    common = error.mean(1, keepdim=True)
    squares = ADVANTAGE_WEIGHT * (error - common).square().mean() + COMMON_WEIGHT * common.square().mean()
    return regret + squares
