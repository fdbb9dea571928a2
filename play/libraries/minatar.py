"""MinAtar's games."""

from typing import Any

import numpy as np

from core.games import Game
from play.environments import ENVIRONMENTS
from play.libraries.looped import LoopedEnvironments
from play.protocols import Dynamics


@ENVIRONMENTS.register("minatar")
class MinAtarEnvironments(LoopedEnvironments):
    """MinAtar (Young & Tian 2019): binary planes, 6 actions, difficulty ramping on."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        from minatar import Environment

        super().__init__(game, num_envs, dynamics, np.uint8)
        self._games: Any = [
            Environment(
                game.name.removeprefix("minatar/"),
                sticky_action_prob=dynamics.sticky_action_probability,
                difficulty_ramping=True,
            )
            for _ in range(num_envs)
        ]

    def _reset_one(self, index: int, seed: int) -> np.ndarray:
        game = self._games[index]
        game.seed(seed)
        game.last_action = 0  # otherwise a sticky action could come from the episode before
        game.reset()
        observation: np.ndarray = game.state().transpose(2, 0, 1)
        return observation

    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        game = self._games[index]
        reward, terminated = game.act(action)
        return game.state().transpose(2, 0, 1), float(reward), bool(terminated)
