"""Experience replay: a ring of frames on disk that holds every frame once.

A row is one observation of one environment. It becomes a transition when an action is taken from it and the observation
that follows is in the next row. So the last observation of an episode is never sampled, and no transition crosses from
one episode into the next. Stacks of frames are put together when a batch is drawn.
"""

import math
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import Refusal, naming
from core.games import FRAME_STACK, Game
from core.memory import available_bytes, gib
from core.records import require_no_link
from play.rollout import Step

DISK_SHARE = 0.8
"""Share of the free disk that a replay may take."""
MEMORY_TIMES = 2
"""How often a replay may be as large as the available memory."""


class Batch(NamedTuple):
    """B transitions, as the learner needs them."""

    obs_tm1: np.ndarray | Tensor
    """[B, *observation] observations in which actions were chosen, as the environments give them (uint8 frames)."""
    action_tm1: np.ndarray
    """[B] int64 actions that were taken."""
    reward_t: np.ndarray
    """[B] float32 rewards, summed over n decisions and discounted to the first."""
    discount_t: np.ndarray
    """[B] float32 factors of the value of `obs_t`; 0 where the return ends."""
    obs_t: np.ndarray | Tensor
    """[B, *observation] observations n decisions later."""


class Replay:
    """The last transitions of N environments, in files that survive the process.

    The files hold more rows than can be drawn. So a run that resumes from an older state finds all rows that this state
    points at, unless more than `slack_steps` decisions were added since.

    Args:
        folder: where the files lie.
        game: whose observations are kept.
        num_envs: number of environments that are recorded.
        capacity_steps: transitions that can be drawn, of all environments together.
        slack_steps: decisions that may be added after a state was taken before that state is lost.
        discount: of the returns.
        n_step: rewards that are added up before the rest of the return is estimated. They are fewer where an episode
            ends or nothing newer has been recorded.
        clip_rewards: whether the sign of a reward is stored instead of the reward.
        life_loss_terminal: whether a lost life ends a return.
        truncation_terminal: whether the time limit ends a return.
        mirror: device that holds a copy of the frames, if they fit, and puts batches together. If None, batches are put
            together from the files, on the CPU.

    Raises:
        Refusal: disk or memory have no room. All of it is allocated here, so a run does not fail later.
    """

    def __init__(
        self,
        folder: Path,
        game: Game,
        num_envs: int,
        capacity_steps: int,
        slack_steps: int,
        discount: float,
        n_step: int = 1,
        *,
        clip_rewards: bool,
        life_loss_terminal: bool,
        truncation_terminal: bool,
        mirror: torch.device | None = None,
    ):
        self._folder = folder
        self._discount = discount
        self._n_step = n_step
        self._clip_rewards = clip_rewards
        self._life_loss_terminal = life_loss_terminal
        self._truncation_terminal = truncation_terminal
        self._stack = _stack(game)
        self._window, self._length = _rows(game, num_envs, capacity_steps, slack_steps)
        self._env = np.arange(num_envs)
        self._written = np.zeros(num_envs, dtype=np.int64)  # rows ever written, by environment

        columns, row_bytes = _columns(game), _row_bytes(game)
        self.size_bytes = replay_bytes(game, num_envs, capacity_steps, slack_steps)
        """Bytes on the disk. The system keeps as much of them in memory as there is room for."""
        slack = num_envs * row_bytes * (self._length - self._window)
        _require_room(folder, self.size_bytes, capacity_steps, (slack_steps - num_envs) // 2, slack)
        self._rings = {
            name: _memory_map(folder / name, dtype, (num_envs, self._length, *shape))
            for name, (dtype, shape) in columns.items()
        }
        self._frames, self._ages, self._actions, self._rewards, self._terminals, self._is_transition = (
            self._rings.values()
        )
        self._checksums = np.zeros((num_envs, self._length), dtype=np.int64)  # of rows that were in a state
        self._checked = np.zeros(
            num_envs, dtype=np.int64
        )  # rows with a checksum that are final, by environment
        self._mirror: Tensor | None = None
        if mirror is not None and (
            mirror.type == "cpu" or self.size_bytes < 0.8 * torch.cuda.mem_get_info(mirror)[0]
        ):
            self._mirror = torch.as_tensor(self._frames[:, :0]).to(mirror).new_zeros(self._frames.shape)

    def __len__(self) -> int:
        """Number of rows that can be drawn. The few that are not transitions count too."""
        return int(self._sizes().sum())

    def _sizes(self) -> np.ndarray:
        return np.minimum(self._written - 1, self._window).clip(min=0)  # [N]; the newest row has no successor

    def add(self, step: Step) -> None:
        """Record one decision of each environment."""
        if step.starts.any():
            starting = step.slots[step.starts]
            self._append(starting, step.observations[step.starts], np.zeros(len(starting), dtype=np.uint8))
        outcome, rows = step.outcome, (self._written[step.slots] - 1) % self._length
        terminal = outcome.terminated.copy()
        if self._life_loss_terminal:
            terminal |= outcome.life_lost
        if self._truncation_terminal:
            terminal |= outcome.truncated
        self._actions[step.slots, rows] = step.actions
        self._rewards[step.slots, rows] = np.sign(outcome.rewards) if self._clip_rewards else outcome.rewards
        self._terminals[step.slots, rows] = terminal
        self._is_transition[step.slots, rows] = True
        ages = np.minimum(self._ages[step.slots, rows] + 1, self._stack)
        self._append(step.slots, outcome.observations, ages)

    def _append(self, envs: np.ndarray, observations: np.ndarray, ages: np.ndarray) -> None:
        rows = self._written[envs] % self._length
        newest = observations[:, -1] if self._stack > 1 else observations
        self._frames[envs, rows] = newest
        if self._mirror is not None:
            self._mirror[torch.as_tensor(envs), torch.as_tensor(rows)] = torch.as_tensor(newest).to(
                self._mirror.device, non_blocking=True
            )
        self._ages[envs, rows] = ages
        self._is_transition[envs, rows] = False
        self._written[envs] += 1

    def _require_rows(self) -> None:
        """Refuse to go on without the rows that can be drawn, or with other ones."""
        for env, written in enumerate(self._written.tolist()):
            rows = np.arange(max(0, written - self._window - self._stack), written)
            changed = self._checksums[env, rows % self._length] != self._checksums_of(env, rows, written)
            if changed.any():
                raise Refusal(
                    f"{self._folder} was changed after the state was saved: {changed.sum():,} of {len(rows):,} "
                    f"transitions are others or missing; remove {self._folder.parent} to start again"
                )

    def _checksums_of(self, env: int, rows: np.ndarray, written: int) -> np.ndarray:
        """CRC-32 of rows of an environment, all columns; of the newest row only what will not change any more."""
        if not len(rows):
            return np.empty(0, dtype=np.int64)
        places = rows % self._length
        frames, (ages, *others) = self._frames[env], list(self._rings.values())[1:]
        small = np.concatenate(
            [ring[env, places].view(np.uint8).reshape(len(rows), -1) for ring in (ages, *others)], axis=1
        )
        found = [zlib.crc32(small[row], zlib.crc32(frames[place])) for row, place in enumerate(places)]
        if rows[-1] == written - 1:
            found[-1] = zlib.crc32(ages[env, places[-1]], zlib.crc32(frames[places[-1]]))
        return np.array(found, dtype=np.int64)

    def sample(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """Transitions drawn uniformly with replacement from the last `capacity_steps` rows."""
        sizes = self._sizes()
        ends = np.cumsum(sizes)
        envs = np.empty(batch_size, dtype=np.int64)
        rows = np.empty(batch_size, dtype=np.int64)
        missing = np.arange(batch_size)
        while len(missing):  # rows that are not transitions are drawn again, about one per episode
            drawn = generator.integers(ends[-1], size=len(missing))
            env = np.searchsorted(ends, drawn, side="right")
            # The newest row, written - 1, cannot be drawn; the oldest lies sizes[env] before it.
            row = self._written[env] - 1 - (ends[env] - drawn)
            envs[missing], rows[missing] = env, row
            missing = missing[~self._is_transition[env, row % self._length]]
        rewards, discounts, later = self._returns(envs, rows)
        return Batch(
            obs_tm1=self._observations(envs, rows),
            action_tm1=self._actions[envs, rows % self._length].astype(np.int64),
            reward_t=rewards,
            discount_t=discounts,
            obs_t=self._observations(envs, later),
        )

    def _returns(self, envs: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards over n decisions from rows, the discount of what follows, and the row where it follows."""
        rewards = np.zeros(len(rows), dtype=np.float32)
        discounts = np.ones(len(rows), dtype=np.float32)
        later = rows.copy()
        goes_on = np.ones(len(rows), dtype=np.bool_)
        for _ in range(self._n_step):
            ring_rows = later % self._length
            goes_on &= self._is_transition[envs, ring_rows]  # not at an episode's last row, nor at the newest
            rewards += np.where(goes_on, discounts * self._rewards[envs, ring_rows], 0)
            discounts *= np.where(goes_on, np.float32(self._discount), 1)
            later += goes_on
            ended = goes_on & self._terminals[envs, ring_rows]
            discounts[ended] = 0
            goes_on &= ~ended
        return rewards, discounts, later

    def _observations(self, envs: np.ndarray, rows: np.ndarray) -> np.ndarray | Tensor:
        """The observations [B, *observation] whose newest frames are in some rows."""
        if self._stack == 1:
            return self._gather(envs, rows % self._length)
        back = np.arange(-self._stack + 1, 1)  # [stack]: -3 ... 0
        frames = self._gather(envs[:, None], (rows[:, None] + back) % self._length)  # [B, stack, H, W]
        # Frames from before the episode began are zero, as in the environments' own stacks.
        ages = self._ages[envs, rows % self._length].astype(np.int64)
        before = -back > ages[:, None]
        frames[before if self._mirror is None else torch.as_tensor(before)] = 0
        return frames

    def _gather(self, envs: np.ndarray, rows: np.ndarray) -> np.ndarray | Tensor:
        if self._mirror is None:
            frames: np.ndarray = self._frames[envs, rows]
            return frames
        return self._mirror[torch.as_tensor(envs), torch.as_tensor(rows)]

    def flush(self) -> None:
        """Write all rows to the disk. A state must not be saved before the rows that it points at."""
        for ring in self._rings.values():
            ring.flush()

    def state(self) -> tuple[Tensor, dict[str, Any]]:
        """A checksum of every row, and JSON-able values, which `restore` needs besides the files."""
        for env, written in enumerate(self._written.tolist()):
            rows = np.arange(max(self._checked[env], written - self._length), written)
            self._checksums[env, rows % self._length] = self._checksums_of(env, rows, written)
            self._checked[env] = max(0, written - 1)  # the action in the newest row is not taken yet
        return torch.from_numpy(self._checksums), {"written": self._written.tolist()}

    def restore(self, checksums: Tensor, state: dict[str, Any]) -> None:
        """Forget everything that was added after the state was taken.

        Args:
            checksums: of all rows.
            state: the other values of the state.

        Raises:
            Refusal: rows of the state are missing or were changed.
        """
        self._written = np.array(state["written"], dtype=np.int64)
        self._checksums[:] = checksums.numpy()
        self._checked = (self._written - 1).clip(min=0)
        self._require_rows()
        begun = self._env[self._written > 0]
        self._is_transition[begun, (self._written[begun] - 1) % self._length] = False
        if self._mirror is not None:
            self._mirror.copy_(torch.from_numpy(self._frames))


def replay_bytes(game: Game, num_envs: int, capacity_steps: int, slack_steps: int) -> int:
    """Bytes of a replay with these arguments, which are those of `Replay`."""
    return num_envs * _rows(game, num_envs, capacity_steps, slack_steps)[1] * _row_bytes(game)


def _stack(game: Game) -> int:
    """Frames of an observation, each of which is kept once."""
    return FRAME_STACK if game.tier == "atari" else 1


def _columns(game: Game) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Type and shape of what is kept of one decision."""
    frame_shape = game.observation_shape[1:] if _stack(game) > 1 else game.observation_shape
    return {
        "frames": (np.dtype(game.observation_dtype).type, frame_shape),
        "ages": (np.uint8, ()),  # decisions since the episode began, up to the stack's depth
        "actions": (np.min_scalar_type(game.num_actions - 1).type, ()),
        "rewards": (np.float32, ()),
        "terminals": (np.bool_, ()),
        "is_transition": (np.bool_, ()),
    }


def _row_bytes(game: Game) -> int:
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in _columns(game).values())


def _rows(game: Game, num_envs: int, capacity_steps: int, slack_steps: int) -> tuple[int, int]:
    """Decisions of each environment that can be drawn, and that are kept."""
    window = max(1, capacity_steps // num_envs)
    return window, window + slack_steps // num_envs + _stack(game) + 2


def _require_room(
    folder: Path, needed: int, capacity_steps: int, checkpoint_interval_steps: int, slack: int
) -> None:
    """Refuse a replay that the disk or the memory cannot hold, and say what size would fit.

    Transitions are drawn at random, so most of it should be in memory. Twice the available memory is still bearable.

    Args:
        folder: where its files will lie.
        needed: bytes of all of it.
        capacity_steps: transitions that can be drawn from it.
        checkpoint_interval_steps: decisions between two states to resume from.
        slack: bytes of it that do not depend on `capacity_steps`.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    there = sum(file.stat().st_size for file in folder.glob("*"))
    free = DISK_SHARE * (shutil.disk_usage(existing).free + there)
    available = MEMORY_TIMES * available_bytes()
    room = min(free, available)
    if needed <= room:
        return
    name, value, least = "replay_steps", capacity_steps, slack
    if slack > needed - slack:
        name, value, least = "checkpoint_interval_steps", checkpoint_interval_steps, needed - slack
    fitting = int(value * max(0.0, room - least) / (needed - least))
    limit = (
        f"{folder} has {gib(free)} of disk for it"
        if free < available
        else f"{gib(available)} suit the memory"
    )
    raise Refusal(
        f"{name} is {value}: the replay would take {gib(needed)}, and {limit}: "
        f"{f'about {fitting:,} would fit' if fitting else 'none would fit'}"
    )


def _memory_map(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A file-backed array. Its disk space is allocated now: a full disk under a memory map kills the process."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    path.parent.mkdir(parents=True, exist_ok=True)
    require_no_link(path)
    with naming(path), open(path, "r+b" if path.exists() else "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
