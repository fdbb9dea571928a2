"""Atari games, by the Arcade Learning Environment. The only file that imports ale_py's vector environment."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

import numpy as np

from core.errors import Refusal
from core.games import FRAME_STACK, Game
from play.environments import ENVIRONMENTS, Environments, Outcome
from play.protocols import Dynamics

_WORKERS = 4
"""Threads that make emulators and begin episodes."""


def _lower_priority() -> None:
    """Give this thread and those that it starts the lowest priority. Only Linux has a priority for each thread."""
    if sys.platform == "linux":
        os.nice(19)


class _Begun(NamedTuple):
    """An emulator at the start of an episode."""

    emulator: Any
    observation: np.ndarray
    """[*observation] uint8."""
    lives: int


@ENVIRONMENTS.register("atari")
class AtariEnvironments(Environments):
    """The Arcade Learning Environment: grey 84x84 frames, skip 4, maximum of the last two, stack of 4.

    The defaults of ALE's vector environment serve training, not scores, so each of them is set here. Its automatic
    reset is not seeded for each episode, so it is not used.

    A seeded reset takes ALE about 90 ms, as long as a hundred decisions. Therefore every environment is a vector of
    one with a thread of its own, and an episode that `prepare` announced begins on a spare one while the others play.
    These threads have the lowest priority. At equal priority, a thread that is sent an action would take the core from
    the thread that sends the next one.
    """

    in_background: ClassVar[bool] = True

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        if dynamics.max_episode_frames is None:
            raise Refusal(f"{game.name} has no number of frames after which an episode is cut: one is needed")
        super().__init__(game, num_envs, dynamics)
        self._max_episode_frames = dynamics.max_episode_frames
        self._spare: list[Any] = []
        self._prepared: dict[int, Future[_Begun]] = {}
        self._workers = ThreadPoolExecutor(
            _WORKERS, thread_name_prefix="prepare", initializer=_lower_priority
        )
        self._playing: dict[int, Any] = {}  # by environment
        self._observations = np.zeros((num_envs, *game.observation_shape), dtype=np.uint8)
        self._lives = np.zeros(num_envs, dtype=np.int64)
        self._over = np.ones(num_envs, dtype=bool)
        self._sent: list[int] = []

    def _emulator(self) -> Any:
        from ale_py.vector_env import AtariVectorEnv

        emulator = AtariVectorEnv(
            self.game.name,
            1,
            num_threads=1,
            max_num_frames_per_episode=self._max_episode_frames,
            repeat_action_probability=self.dynamics.sticky_action_probability,
            full_action_space=False,
            frameskip=self.game.frames_per_decision,
            maxpool=True,
            stack_num=FRAME_STACK,
            grayscale=True,
            img_height=self.game.observation_shape[1],
            img_width=self.game.observation_shape[2],
            noop_max=self.dynamics.noop_max_frames,
            use_fire_reset=self.dynamics.fire_on_reset,
            reward_clipping=False,
            episodic_life=False,
            life_loss_info=False,
        )
        num_actions = len(emulator.ale.get_action_set())
        if num_actions != self.game.num_actions:
            raise Refusal(
                f"{self.game.name}: ALE offers {num_actions} actions, SpikeQ expects {self.game.num_actions}"
            )
        return emulator

    def _begin(self, seed: int) -> Future[_Begun]:
        """Begin an episode on a spare emulator, or on a new one."""
        spare = self._spare.pop() if self._spare else None

        def begin() -> _Begun:
            emulator = spare or self._emulator()
            observations, info = emulator.reset(seed=np.array([seed]))
            return _Begun(emulator, observations[0], int(info["lives"][0]))

        return self._workers.submit(begin)

    def prepare(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            if seed not in self._prepared:
                self._prepared[seed] = self._begin(seed)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        beginning: dict[int, Future[_Begun]] = {}
        for index in np.flatnonzero(mask).tolist():
            if index in self._playing:
                self._spare.append(self._playing.pop(index))
            seed = int(seeds[index])
            prepared = self._prepared.pop(seed) if seed in self._prepared else self._begin(seed)
            beginning[index] = prepared
        for index, future in beginning.items():
            begun = future.result()
            self._playing[index] = begun.emulator
            self._observations[index] = begun.observation
            self._lives[index] = begun.lives
            self._over[index] = False
        return self._observations.copy()

    def send(self, actions: np.ndarray) -> None:
        self._sent = np.flatnonzero(~self._over).tolist()
        for index in self._sent:
            self._playing[index].send(actions[index : index + 1])

    def receive(self) -> Outcome:
        rewards, frames = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=np.int64)
        terminated, truncated, life_lost = np.zeros((3, self.num_envs), dtype=bool)
        for index in self._sent:
            observation, reward, ended, cut, info = self._playing[index].recv()
            self._observations[index], rewards[index] = observation[0], reward[0]
            terminated[index], truncated[index] = ended[0], cut[0] and not ended[0]
            life_lost[index] = info["lives"][0] < self._lives[index]
            self._lives[index], frames[index] = info["lives"][0], info["episode_frame_number"][0]
        self._over |= terminated | truncated
        return Outcome(self._observations.copy(), rewards, terminated, truncated, life_lost, frames)

    def close(self) -> None:
        self._workers.shutdown()
        for kept in (self._playing, self._spare, self._prepared):
            kept.clear()  # an emulator and its thread end when nothing refers to it any more
