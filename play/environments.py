"""Environments: what a decision leads to, how environments are made, and what a network sees of them.

N environments advance together, one decision a call. Nothing here clips a reward, ends an episode on a lost life or
starts the next episode by itself. An `Outcome` says what happened. Training decides what to make of it
(`train_direct/replay.py`); scoring counts raw rewards. How each game is played is in `play/libraries/`.
"""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, assert_never

import numpy as np
import torch

from core.errors import Refusal
from core.games import Game
from core.ranges import EnvCount, require
from core.registry import Registry
from play.protocols import Dynamics

PIXEL_MAX = 255.0
"""Largest grey level of a frame."""


class Outcome(NamedTuple):
    """What one decision in each of N environments led to."""

    observations: np.ndarray
    """[N, *observation] uint8 (CartPole: float32). Where an episode ended, this is its last observation."""
    rewards: np.ndarray
    """[N] float64: the game's raw rewards."""
    terminated: np.ndarray
    """[N] bool: the game is over."""
    truncated: np.ndarray
    """[N] bool: the frame limit cut the game short. The state that was reached still has a value."""
    life_lost: np.ndarray
    """[N] bool: a life was lost in this decision, the last life included."""
    episode_frames: np.ndarray
    """[N] int64: emulator frames since the episode began, no-op frames included."""


class Environments(abc.ABC):
    """N copies of one game.

    An environment plays one episode between two calls of `reset`. After the episode has ended, the outcomes for that
    environment mean nothing until it is reset.

    Args:
        game: the game.
        num_envs: number N of environments.
        dynamics: stickiness, frame limit and starts.
    """

    in_background: ClassVar[bool] = False
    """Whether environments compute by themselves between `send` and `receive`, while an agent can decide elsewhere."""

    def __init__(self, game: Game, num_envs: int, dynamics: Dynamics):
        self.game = game
        self.num_envs = num_envs
        self.dynamics = dynamics

    @abc.abstractmethod
    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Begin an episode in each environment that `mask` selects.

        An episode depends on its seed and its actions only. What was played before, or in other environments, must not
        change it.

        Args:
            mask: [N] bool.
            seeds: [N] int64, used where the mask is true.

        Returns:
            [N, *observation]. Rows outside the mask hold the environment's current observation.
        """

    def prepare(self, seeds: Sequence[int]) -> None:  # noqa: B027 (most need no preparation)
        """Announce seeds of episodes that will begin soon. This can change speed, never play."""

    @abc.abstractmethod
    def send(self, actions: np.ndarray) -> None:
        """Begin one decision in every environment.

        Args:
            actions: [N] int64.
        """

    @abc.abstractmethod
    def receive(self) -> Outcome:
        """Wait for the outcome of the decision that was sent."""

    def step(self, actions: np.ndarray) -> Outcome:
        """Take one decision in every environment, with [N] int64 actions."""
        self.send(actions)
        return self.receive()

    @abc.abstractmethod
    def close(self) -> None:
        """Release what the environments hold."""


ENVIRONMENTS: Registry[type[Environments]] = Registry("environment", package="play.libraries")
"""Environments, by the name of a game, or of a tier for the games of the tier that have no entry of their own."""


def environments_of(game: Game) -> type[Environments]:
    """The environments that play a game."""
    return ENVIRONMENTS[game.name if game.name in ENVIRONMENTS else game.tier]


def make_environments(game: Game, num_envs: int, dynamics: Dynamics) -> Environments:
    """N environments of a game.

    Args:
        game: the game.
        num_envs: number of environments that advance together.
        dynamics: stickiness, frame limit and starts, from a protocol or a recipe.

    Raises:
        Refusal: a value is out of range, or the game does not have what `dynamics` asks for.
    """
    require("num_envs", num_envs, EnvCount)
    return environments_of(game)(game, num_envs, dynamics)


def network_input(observations: np.ndarray | torch.Tensor, game: Game, device: torch.device) -> torch.Tensor:
    """Observations as a network sees them. This is the only place where pixels are divided by 255.

    Args:
        observations: [B, *observation] from the environments: uint8 grey levels 0..255 (Atari), uint8 planes of 0 and 1
            (MinAtar), float32 states (CartPole).
        game: the game that they are of.
        device: the network's device. Pixels are sent there as bytes and become floats there.

    Returns:
        [B, *observation] float32 within the game's bounds.

    Raises:
        Refusal: observations have another shape than the game's, or frames are no bytes.
    """
    tensor = torch.as_tensor(observations).to(device)
    if tuple(tensor.shape[1:]) != game.observation_shape:
        raise Refusal(
            f"observations of shape {tuple(tensor.shape[1:])} given to {game.name}, "
            f"whose observations are {game.observation_shape}"
        )
    match game.tier:
        case "atari":
            if tensor.dtype != torch.uint8:
                raise Refusal(f"{game.name} frames are uint8 before they are scaled, got {tensor.dtype}")
            return tensor / PIXEL_MAX  # bytes divide to float32, in one pass
        case "minatar" | "control":
            return tensor.float()
    assert_never(game.tier)


def bounds(game: Game, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest value of each element of `network_input`; both broadcast to [B, *observation]."""
    low = torch.tensor(game.low, dtype=torch.float32, device=device)
    high = torch.tensor(game.high, dtype=torch.float32, device=device)
    return low, high


def scale(game: Game, device: torch.device) -> torch.Tensor:
    """The unit in which changes of each element are measured; it broadcasts to [B, *observation]."""
    return torch.tensor(game.scale, dtype=torch.float32, device=device)


def require_in_bounds(inputs: torch.Tensor, game: Game) -> None:
    """Refuse network inputs outside the game's bounds, as from a faulty attack; NaN is outside too."""
    low, high = bounds(game, inputs.device)
    inside = (inputs >= low) & (inputs <= high)
    if not bool(inside.all()):
        worst = inputs[~inside].flatten()[0].item()
        raise Refusal(f"{game.name}: a network input of {worst} lies outside {_interval(game)}")


def _interval(game: Game) -> str:
    def shown(values: tuple[float, ...]) -> str:
        return ", ".join("inf" if math.isinf(value) else f"{value:g}" for value in values)

    return f"[{shown(game.low)}] to [{shown(game.high)}]"
