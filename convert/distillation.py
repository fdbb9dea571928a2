"""Distillation: a student learns to choose as its DQN does, on states of both networks' play.

No reward is needed, because the teacher's Q-values are the labels. A fit of the Q-values alone would spend the few
levels of a student on differences that decide nothing. So the loss is mostly the regret of a softmax over the student's
Q-values, in the teacher's Q, and only lightly their squared error. The first round learns on the teacher's play. Each
further one adds states of the student's own play (DAgger: Ross et al. 2011, arXiv 1011.0686).
"""

import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from core import seeding
from core.dqn import DQN
from core.errors import Refusal
from core.games import Game
from core.layered import Layered
from core.progress import Progress
from core.ranges import Whole
from core.workload import WorkPart
from play.environments import network_input
from play.expected import Expected, collecting
from play.states import collect, q_values, states_bytes

DistilUpdates = Annotated[int, Whole(1, 1_000_000)]
"""Gradient steps of a round."""
ROUNDS = 4
BATCH = 64
LEARNING_RATE = 1e-3
# The following are in units of the standard deviation of the teacher's advantages, so that it serves every game.
TEMPERATURE = 0.2
ADVANTAGE_WEIGHT, COMMON_WEIGHT = 0.3, 0.03
"""Weights of two mean squared errors, where the regret has weight 1: of advantages, and of the mean over actions."""


def distillation_work(
    student: Layered, states: int, own_play: float, updates: int, expected: Expected
) -> list[WorkPart]:
    """What `distil` is forecast to do, with so many states of the teacher's play."""
    sim_steps = max(1, student.sim_steps)
    parts = [WorkPart("update", student.game.tier, student.kind, sim_steps, ROUNDS * updates * BATCH)]
    for _ in range(1, ROUNDS):
        parts += collecting(student, _own_states(states, own_play), expected)
    return parts


def distillation_bytes(game: Game, states: int, own_play: float) -> int:
    """Forecast of the memory that `distil` takes beside so many states of the teacher's play."""
    own = _own_states(states, own_play)
    return (states + (ROUNDS - 1) * own) * game.observation_bytes + states_bytes(game, own)


def _own_states(states: int, own_play: float) -> int:
    return max(1, int(own_play * states))


def distil(
    student: Layered,
    teacher: DQN,
    states: np.ndarray,
    own_play: float,
    updates: int,
    seed: int,
    held_out: np.ndarray | None = None,
    *,
    through: nn.Module | None = None,
) -> None:
    """Train a network, in place, to choose as its teacher does.

    Args:
        student: starts from converted weights.
        teacher: the DQN.
        states: [S, *observation] of the teacher's play.
        own_play: states of the student's play that each further round adds, for each of the teacher's.
        updates: gradient steps in a round, at least 1. The learning rate falls to 0 along half a cosine.
        seed: seed of the student's episodes and of the batches.
        held_out: states that must not be among the student's own.
        through: the student's Q-values [B, A], differentiable in the student's weights; None if the student's own are.
    """
    if updates < 1:
        raise Refusal(f"distil_updates is {updates}: at least 1 is needed")
    drawing = seeding.generator(seed, "distillation")
    own_states = _own_states(len(states), own_play)
    seen = np.empty((len(states) + (ROUNDS - 1) * own_states, *states.shape[1:]), states.dtype)
    seen[: len(states)] = states
    number_seen = len(states)
    with Progress("distil", ROUNDS * updates, "updates") as progress:
        for number in range(ROUNDS):
            if number > 0:
                own = collect(student, own_states, seed, f"distillation {number}", apart_from=held_out)
                seen[number_seen : number_seen + own_states] = own
                number_seen += own_states
            learn(student, through or student, teacher, seen[:number_seen], updates, drawing, progress)


def learn(
    student: Layered,
    through: nn.Module,
    teacher: DQN,
    states: np.ndarray,
    updates: int,
    drawing: np.random.Generator,
    progress: Progress,
) -> None:
    """One round of `distil`, on states that both networks met. The batches come from `drawing`."""
    wanted = torch.from_numpy(q_values(teacher, states)).to(student.device)  # [S, A]
    unit = (wanted - wanted.mean(1, keepdim=True)).std().clamp(min=1e-6)
    student.requires_grad_(True)
    optimiser = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * update / updates))
        drawn = drawing.integers(len(states), size=BATCH)
        inputs = network_input(states[drawn], student.game, student.device)
        loss = _loss(through(inputs) / unit, wanted[torch.from_numpy(drawn).to(wanted.device)] / unit)
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
