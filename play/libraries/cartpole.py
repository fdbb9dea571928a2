"""CartPole, by Gymnasium."""

from typing import Any

import numpy as np

from core.errors import Refusal
from core.games import Game
from play.environments import ENVIRONMENTS
from play.libraries.looped import LoopedEnvironments
from play.protocols import Dynamics


@ENVIRONMENTS.register("cartpole")
class CartPoleEnvironments(LoopedEnvironments):
    """Gymnasium's CartPole-v1 without its time limit; the protocol sets one."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        from gymnasium.envs.classic_control import CartPoleEnv

        if dynamics.sticky_action_probability:
            raise Refusal("cartpole has no sticky actions: sticky_action_probability must be 0")
        super().__init__(game, num_envs, dynamics, np.float32)
        self._poles: Any = [CartPoleEnv() for _ in range(num_envs)]

    def _reset_one(self, index: int, seed: int) -> np.ndarray:
        observation: np.ndarray = self._poles[index].reset(seed=seed)[0]
        return observation

    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        observation, reward, terminated, _, _ = self._poles[index].step(action)
        return observation, float(reward), bool(terminated)
