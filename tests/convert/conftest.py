"""What tests of conversions share: a DQN with its first weights, and states that it meets."""

from pathlib import Path

import numpy as np
import pytest

from convert.method import Converted, Method, Training
from convert.options import CodingOptions
from core import seeding
from core.checkpoint import save_agent
from core.dqn import DQN
from core.games import Game, get_game
from core.networks import NETWORKS
from play.states import collect

GAME = get_game("minatar/breakout")


def make_dqn(seed: int, game: Game = GAME) -> DQN:
    agent = NETWORKS["relu"].make(game, seeding.torch_generator(seed, "weights"))
    assert isinstance(agent, DQN)
    return agent.requires_grad_(False)


def converted(
    dqn: DQN,
    states: np.ndarray,
    method: Method,
    sim_steps: int,
    coding: CodingOptions | None = None,
    seed: int = 0,
) -> Converted:
    """A method's network with the method's own neurons, unless a coding says otherwise."""
    return method.convert(dqn, states, (coding or CodingOptions()).coding(sim_steps, method), Training(seed))


@pytest.fixture(scope="package")
def dqn() -> DQN:
    return make_dqn(0)


@pytest.fixture(scope="package")
def states(dqn: DQN) -> np.ndarray:
    return collect(dqn, 300, seed=0, stream="calibration")


PROVENANCE = {
    "train_seed": 5,
    "train_steps": 10,
    "recipe_steps": 100,
    "recipe": "minatar-fast",
    "network": "relu",
    "scores_are_q_values": True,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_agent(tmp_path / "dqn.safetensors", make_dqn(0), PROVENANCE)
    return tmp_path / "dqn.safetensors"
