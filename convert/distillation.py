"""A quantised DQN taught by the DQN it came from: QCFS (Bu et al. 2022, arXiv 2303.04347) for policies.

The student's activations have L levels, h(z) = clip(floor(L z + 1/2), 0, L) / L in normalised weights, and gradients
go through the staircase as through clip(z, 0, 1). Simulated for T = L steps from v_init = 1/2 its network has no
expected error. Thresholds need no parameter of their own: normalised weights hold them (theta W' / theta).

No reward is needed: the teacher's Q-values are the labels. Fitting them wastes the few levels on differences that
decide nothing, so the loss is mostly what a choice costs in the teacher's eyes, the regret of a softmax over the
student's Q-values, and lightly their squared error. After a first round on the teacher's play, each further one adds
states that the student itself meets (DAgger: Ross et al. 2011, arXiv 1011.0686).
"""

import math

import numpy as np
import torch
from torch import Tensor

from core import seeding
from core.dqn import DQN
from core.errors import Refusal
from core.progress import Progress
from core.quantised import QuantisedDQN
from play.environments import network_input
from play.states import collect, q_values

ROUNDS = 4
BATCH = 64
LEARNING_RATE = 1e-3
# The rest in units of the standard deviation of the teacher's advantages, so that they serve every game.
TEMPERATURE = 0.2
ADVANTAGE_WEIGHT, COMMON_WEIGHT = 0.3, 0.03
"""Of the mean squared errors, against the regret's 1: of advantages and of what all actions have in common."""


def distil(
    student: QuantisedDQN,
    teacher: DQN,
    states: np.ndarray,
    updates: int,
    seed: int,
    held_out: np.ndarray | None = None,
) -> None:
    """Train a quantised DQN, in place, to choose as its teacher would.

    Args:
        student: starts from converted weights.
        teacher: the DQN.
        states: [S, *observation] of the teacher's play; half as many of the student's join at each further round.
        updates: gradient steps a round, whose size falls to 0 along half a cosine.
        seed: of the student's episodes and of what is drawn.
        held_out: states that the student's own may not be among.
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
    wanted = torch.from_numpy(q_values(teacher, states)).to(student.device)
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
    """Of the student's and the teacher's Q-values [B, A], in units."""
    preference = (q / TEMPERATURE).softmax(1)
    regret = (preference * (wanted.amax(1, keepdim=True) - wanted)).sum(1).mean()
    error = q - wanted
    common = error.mean(1, keepdim=True)
    squares = ADVANTAGE_WEIGHT * (error - common).square().mean() + COMMON_WEIGHT * common.square().mean()
    return regret + squares
