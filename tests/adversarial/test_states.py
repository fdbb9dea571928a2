"""Attacks on stored states: what is told of them, by hand on a victim whose every number is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adversarial.hook import make_attack
from adversarial.states import BATCH, attack_states
from analysis.attackers import flipped
from core import seeding
from core.agents import Decision
from core.checkpoint import Checkpoint, load_agent
from core.gradients import GradientSource
from core.rows import StateAttackRow
from play.rollout import Perturbed
from tests.conftest import AGENTS

SHIPPED = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors")


class Known(nn.Module):
    """Q_0 is half a unit, Q_1 the first element, and where the second one is set no input counts for anything."""

    def __init__(self) -> None:
        super().__init__()
        self.game, self.device, self.kind = SHIPPED.agent.game, torch.device("cpu"), "dqn"
        self.sim_steps = 0

    def forward(self, x: Tensor) -> Tensor:
        first, dead = x[:, 0, 0, 0], x[:, 0, 0, 1] > 0.9
        scores = torch.zeros(len(x), self.game.num_actions)
        return torch.cat(
            [torch.full((len(x), 1), 0.5), torch.where(dead, 0.0 * first, first)[:, None], scores[:, 2:]], 1
        )

    def decide(self, x: Tensor, carry: object = None) -> Decision:
        return Decision(self(x), None, None)

    def decision_bytes(self, rows: int) -> int:
        return 0


def states(number: int, first: float, dead: int = 0) -> np.ndarray:
    """Boards with one value at the first place, and the second one set on the last ones."""
    made = np.zeros((number, *SHIPPED.agent.game.observation_shape), dtype=np.float32)
    made[:, 0, 0, 0] = first
    made[number - dead :, 0, 0, 1] = 1.0
    return made


def attacked(victim: nn.Module, boards: np.ndarray, attack: str, epsilon: float) -> StateAttackRow:
    threat, perturb = make_attack(
        attack, epsilon, victim, SHIPPED.agent.game, GradientSource(victim, "own"), loss="margin"  # type: ignore[arg-type]
    )  # fmt: skip
    assert perturb is not None
    checkpoint = Checkpoint(victim, SHIPPED.provenance, SHIPPED.id)  # type: ignore[arg-type]
    return attack_states(checkpoint, boards, "another", threat, perturb, 7, 3 * len(boards))


def test_what_is_told_of_states_is_what_was_done_to_them() -> None:
    """FGSM lifts the first element from 0.45 by 0.1, over the half; on two of ten states there is no gradient."""
    row = attacked(Known(), states(10, 0.45, dead=2), "fgsm", 0.1)
    assert row.flip_share == 0.8
    assert (row.num_states, row.drawn_states, row.states_of, row.seed) == (10, 30, "another", 7)
    assert row.zero_gradient_share == 0.2
    flips = flipped(row)
    assert flips is not None
    assert flips.tolist() == [True] * 8 + [False] * 2
    assert row.q_drop == pytest.approx(0.8 * 0.05)  # clean Q: 0.5 of the greedy action, 0.45 of the one taken
    assert row.largest_perturbation == pytest.approx(0.1)
    # One element of the board of eight states.
    assert row.mean_perturbation == pytest.approx(0.8 * 0.1 / math.prod(SHIPPED.agent.game.observation_shape))
    assert row.attacked_share == 1.0


def test_chance_is_each_states_own_whatever_its_batch() -> None:
    seen: list[float] = []

    def look(
        inputs: Tensor, scores: Tensor, chances: list[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        seen.extend(chance.random() for chance in chances)
        return Perturbed(inputs, np.full(len(inputs), math.nan), np.ones(len(inputs), dtype=bool))

    threat, _ = make_attack("random-sign", 0.1, SHIPPED.agent, SHIPPED.agent.game)
    checkpoint = Checkpoint(Known(), SHIPPED.provenance, SHIPPED.id)  # type: ignore[arg-type]
    number = BATCH + 3
    attack_states(checkpoint, states(number, 0.0), "another", threat, look, 5, number)  # type: ignore[arg-type]
    assert seen == [seeding.generator(5, f"state {index}").random() for index in range(number)]
