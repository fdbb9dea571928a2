"""What tests of conversions share: a DQN with its first weights, and states that it meets."""

import numpy as np
import pytest

from convert.states import collect
from core import seeding
from core.games import Game, get_game
from core.networks import DQN, make_agent, preset

GAME = get_game("minatar/breakout")


def make_dqn(seed: int, game: Game = GAME) -> DQN:
    agent = make_agent(game, preset("relu"), seeding.torch_generator(seed, "weights"))
    assert isinstance(agent, DQN)
    return agent.requires_grad_(False)


@pytest.fixture(scope="package")
def dqn() -> DQN:
    return make_dqn(0)


@pytest.fixture(scope="package")
def states(dqn: DQN) -> np.ndarray:
    return collect(dqn, 300, seed=0, stream="calibration")
