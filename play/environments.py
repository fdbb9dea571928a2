"""The only environment factory, and the one transition contract.

N environments advance together, one decision a call. Nothing here clips a reward, ends an episode on
a lost life or starts the next episode by itself: an `Outcome` says what happened, and who learns from
it decides what to make of that (`train_direct/replay.py`), who scores it counts raw rewards.
"""

import abc
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from core.errors import Refusal
from core.games import FRAME_STACK, Game
from core.registry import Registry
from play.protocols import Dynamics

PIXEL_MAX = 255.0


class Outcome(NamedTuple):
    """What one decision in each of N environments led to."""

    observations: np.ndarray
    """[N, *observation], uint8 (CartPole: float32). Where an episode ended: its last observation."""
    rewards: np.ndarray
    """[N] float64, raw: as the game gave them."""
    terminated: np.ndarray
    """[N] bool: the game is over."""
    truncated: np.ndarray
    """[N] bool: the frame limit cut the game short; the state it reached still has a value."""
    life_lost: np.ndarray
    """[N] bool: a life was lost by this decision, the last one included."""
    episode_frames: np.ndarray
    """[N] int64: emulator frames since the episode began, no-ops included."""


class Environments(abc.ABC):
    """N copies of one game.

    An environment plays one episode between two `reset`s. After an episode ended, what further
    `step`s give for it is meaningless until it is reset.
    """

    def __init__(self, game: Game, num_envs: int):
        self.game = game
        self.num_envs = num_envs

    @abc.abstractmethod
    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Begin an episode in each environment that `mask` selects.

        Args:
            mask: [N] bool.
            seeds: [N] int64, read where the mask is true; an episode is a function of its seed and
                the actions, whatever was played before and whatever the other environments play.

        Returns:
            [N, *observation]; rows outside the mask keep the environment's current observation.
        """

    def prepare(self, seeds: Sequence[int]) -> None:  # noqa: B027 (most need no preparation)
        """A hint that episodes of these seeds will begin soon; it changes speed, never play."""

    @abc.abstractmethod
    def send(self, actions: np.ndarray) -> None:
        """Begin one decision in every environment; where they can, they compute it by themselves.

        Args:
            actions: [N] int64.
        """

    @abc.abstractmethod
    def receive(self) -> Outcome:
        """What came of the decision that was sent."""

    def step(self, actions: np.ndarray) -> Outcome:
        """Take one decision in every environment: [N] int64 actions are sent, and what comes of them received."""
        self.send(actions)
        return self.receive()

    @abc.abstractmethod
    def close(self) -> None:
        """Free what the environments hold."""


ENVIRONMENTS: Registry[Callable[[Game, int, Dynamics], Environments]] = Registry("environment")
"""How a game is played, by the name of the game, or by its tier for all games of the tier that have no entry."""

_WORKERS = 4
"""Threads on which emulators are made and episodes begun."""


def _be_polite() -> None:
    """Give this thread, and those that it starts, the lowest priority: on Linux, where threads have one each."""
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

    ALE's vector environment has defaults that serve training, not scores, so each is set here; and its own
    autoreset is not seeded per episode, so it is never relied on. A seeded reset takes ALE some 90 ms, as
    long as a hundred decisions; so every environment is a vector of one, with a thread of its own, and an
    episode that was announced by `prepare` begins on a spare one while the others play. These threads are polite:
    at equal priority each one that is sent an action takes the core from whoever sends the next.
    """

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        super().__init__(game, num_envs)
        self._dynamics = dynamics
        self._spare: list[Any] = []
        self._prepared: dict[int, Future[_Begun]] = {}
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prepare", initializer=_be_polite)
        self._playing: dict[int, Any] = {}  # by environment
        self._observations = np.zeros((num_envs, *game.observation_shape), dtype=np.uint8)
        self._lives = np.zeros(num_envs, dtype=np.int64)
        self._over = np.ones(num_envs, dtype=bool)
        self._sent: list[int] = []

    def _emulator(self) -> Any:
        from ale_py.vector_env import AtariVectorEnv

        assert self._dynamics.max_episode_frames is not None  # make_environments refuses that
        emulator = AtariVectorEnv(
            self.game.name,
            1,
            num_threads=1,
            max_num_frames_per_episode=self._dynamics.max_episode_frames,
            repeat_action_probability=self._dynamics.sticky_action_probability,
            full_action_space=False,
            frameskip=self.game.frames_per_decision,
            maxpool=True,
            stack_num=FRAME_STACK,
            grayscale=True,
            img_height=self.game.observation_shape[1],
            img_width=self.game.observation_shape[2],
            noop_max=self._dynamics.noop_max_frames,
            use_fire_reset=self._dynamics.fire_on_reset,
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
        """An episode that begins on a spare emulator, or on a new one."""
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
            kept.clear()  # an emulator and its thread end with the last reference to it


class _LoopedEnvironments(Environments):
    """N single environments stepped one after the other: right where a step costs microseconds."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics, dtype: type):
        super().__init__(game, num_envs)
        if dynamics.noop_max_frames or dynamics.fire_on_reset:
            raise Refusal(
                f"{game.name} has no no-op starts and no FIRE: noop_max_frames must be 0, fire_on_reset off"
            )
        self._max_episode_frames = dynamics.max_episode_frames
        self._over = np.ones(num_envs, dtype=bool)
        self._frames = np.zeros(num_envs, dtype=np.int64)
        self._observations: np.ndarray = np.zeros((num_envs, *game.observation_shape), dtype=dtype)
        self._sent: np.ndarray = np.zeros(num_envs, dtype=np.int64)

    @abc.abstractmethod
    def _reset_one(self, index: int, seed: int) -> np.ndarray: ...

    @abc.abstractmethod
    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        """Observation, reward, game over."""

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
        if self._max_episode_frames is not None:
            truncated = (self._frames >= self._max_episode_frames) & ~terminated
        self._over |= terminated | truncated
        return Outcome(
            self._observations.copy(), rewards, terminated, truncated, terminated, self._frames.copy()
        )

    def close(self) -> None:
        pass


@ENVIRONMENTS.register("minatar")
class MinAtarEnvironments(_LoopedEnvironments):
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
        game.last_action = 0  # MinAtar lets a sticky action leak into the next episode
        game.reset()
        return game.state().transpose(2, 0, 1)

    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        game = self._games[index]
        reward, terminated = game.act(action)
        return game.state().transpose(2, 0, 1), float(reward), bool(terminated)


@ENVIRONMENTS.register("cartpole")
class CartPoleEnvironments(_LoopedEnvironments):
    """Gymnasium's CartPole-v1 without its own time limit (ours is the protocol's)."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        from gymnasium.envs.classic_control import CartPoleEnv

        if dynamics.sticky_action_probability:
            raise Refusal("cartpole has no sticky actions: sticky_action_probability must be 0")
        super().__init__(game, num_envs, dynamics, np.float32)
        self._poles: Any = [CartPoleEnv() for _ in range(num_envs)]

    def _reset_one(self, index: int, seed: int) -> np.ndarray:
        return self._poles[index].reset(seed=seed)[0]

    def _step_one(self, index: int, action: int) -> tuple[np.ndarray, float, bool]:
        observation, reward, terminated, _, _ = self._poles[index].step(action)
        return observation, float(reward), bool(terminated)


def make_environments(game: Game, num_envs: int, dynamics: Dynamics) -> Environments:
    """N environments of a game.

    Args:
        game: which game.
        num_envs: how many are stepped together.
        dynamics: stickiness, caps and starts, from a protocol or a recipe.
    """
    if num_envs < 1:
        raise Refusal(f"num_envs is {num_envs}: at least 1 is needed")
    if not 0.0 <= dynamics.sticky_action_probability < 1.0:
        raise Refusal(
            f"sticky action probability is {dynamics.sticky_action_probability}: accepted is 0 up to, not with, 1"
        )
    if dynamics.noop_max_frames < 0:
        raise Refusal(f"noop_max_frames is {dynamics.noop_max_frames}: accepted is 0 or more")
    if dynamics.max_episode_frames is None and game.tier == "atari":
        raise Refusal(f"{game.name} has no number of frames after which an episode is cut: one is needed")
    if dynamics.max_episode_frames is not None and dynamics.max_episode_frames < 1:
        raise Refusal(f"max_episode_frames is {dynamics.max_episode_frames}: at least 1 is needed")
    environments = ENVIRONMENTS[game.name if game.name in ENVIRONMENTS else game.tier]
    return environments(game, num_envs, dynamics)


def network_input(observations: np.ndarray | torch.Tensor, game: Game, device: torch.device) -> torch.Tensor:
    """What a network sees: the one place where pixels are divided by 255.

    Args:
        observations: [B, *observation] as the environments gave them: uint8 grey levels 0..255 (Atari),
            uint8 planes of 0 and 1 (MinAtar), float32 state (CartPole).
        game: whose observations they are.
        device: where the network lives; bytes travel, floats are made there.

    Returns:
        [B, *observation] float32 within the game's bounds.
    """
    tensor = torch.as_tensor(observations).to(device)
    if tuple(tensor.shape[1:]) != game.observation_shape:
        raise Refusal(
            f"observations of shape {tuple(tensor.shape[1:])} given to {game.name}, "
            f"whose observations are {game.observation_shape}"
        )
    if game.tier == "atari":
        if tensor.dtype != torch.uint8:
            raise Refusal(f"{game.name} frames are uint8 before they are scaled, got {tensor.dtype}")
        return tensor / PIXEL_MAX  # bytes divide to float32, in one pass
    return tensor.float()


def bounds(game: Game, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest value of each element of `network_input`, broadcastable to [B, *observation]."""
    low = torch.tensor(game.low, dtype=torch.float32, device=device)
    high = torch.tensor(game.high, dtype=torch.float32, device=device)
    return low, high


def scale(game: Game, device: torch.device) -> torch.Tensor:
    """The unit in which changes of each element are counted, broadcastable to [B, *observation]."""
    return torch.tensor(game.scale, dtype=torch.float32, device=device)


def require_in_bounds(inputs: torch.Tensor, game: Game) -> None:
    """Refuse network inputs outside the game's bounds (pixels not divided, a broken attack, NaN)."""
    low, high = bounds(game, inputs.device)
    inside = (inputs >= low) & (inputs <= high)
    if not bool(inside.all()):
        worst = inputs[~inside].flatten()[0].item()
        raise Refusal(f"{game.name}: a network input of {worst} lies outside {_interval(game)}")


def _interval(game: Game) -> str:
    def shown(values: tuple[float, ...]) -> str:
        return ", ".join("inf" if math.isinf(value) else f"{value:g}" for value in values)

    return f"[{shown(game.low)}] to [{shown(game.high)}]"
