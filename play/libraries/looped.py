"""Environments that are stepped one after the other: right where a step takes microseconds."""

import abc

import numpy as np

from core.errors import Refusal
from core.games import Game
from play.environments import Environments, Outcome
from play.protocols import Dynamics


class LoopedEnvironments(Environments):
    """N single environments that are stepped one after the other."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics, dtype: type):
        super().__init__(game, num_envs, dynamics)
        if dynamics.noop_max_frames or dynamics.fire_on_reset:
            raise Refusal(
                f"{game.name} has no no-op starts and no FIRE: noop_max_frames must be 0, fire_on_reset off"
            )
        self._over = np.ones(num_envs, dtype=bool)
        self._frames = np.zeros(num_envs, dtype=np.int64)
        self._observations: np.ndarray = np.zeros((num_envs, *game.observation_shape), dtype=dtype)
        self._sent: np.ndarray = np.zeros(num_envs, dtype=np.int64)

    @abc.abstractmethod
    def _reset_one(self, index: int, seed: int) -> np.ndarray:
        """Begin an episode in one environment; its first observation."""

    @abc.abstractmethod
    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        """Take one decision in one environment: observation, reward, and whether the game is over."""

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        for index in np.flatnonzero(mask):
            self._observations[index] = self._reset_one(int(index), int(seeds[index]))
            self._frames[index] = 0
            self._over[index] = False
        return self._observations.copy()

    def send(self, actions: np.ndarray) -> None:
        self._sent = actions

    def receive(self) -> Outcome:
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=bool)
        for index in np.flatnonzero(~self._over).tolist():
            observation, rewards[index], terminated[index] = self._step_one(index, int(self._sent[index]))
            self._observations[index] = observation
        self._frames += ~self._over
        truncated = np.zeros(self.num_envs, dtype=bool)
        limit = self.dynamics.max_episode_frames
        if limit is not None:
            truncated = (self._frames >= limit) & ~terminated
        self._over |= terminated | truncated
        return Outcome(
            self._observations.copy(), rewards, terminated, truncated, terminated, self._frames.copy()
        )

    def close(self) -> None:
        pass
