"""All games: tier, observation and its bounds, actions, and reference scores.

Users name games as in `GAMES`, and not by environment ids.
"""

import csv
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.registry import Registry

Tier = Literal["control", "minatar", "atari"]

PUBLISHED = Path(__file__).resolve().parent / "data"
"""Folder of the numbers that no study of this project measured: scores of papers, of random and of human play."""
FRAME_STACK = 4
FRAMES_PER_DECISION: Mapping[Tier, int] = {"control": 1, "minatar": 1, "atari": 4}
"""Emulator frames of one decision (Mnih et al. 2015 repeat each action 4 times)."""


@dataclass(frozen=True)
class Game:
    """Facts about a game that an agent's network depends on."""

    name: str
    tier: Tier
    observation_shape: tuple[int, ...]
    """Channels first: (4, 84, 84) stacked grey frames, (C, 10, 10) MinAtar planes, or a state vector."""
    num_actions: int
    low: tuple[float, ...] = (0.0,)
    """Lower bound of the network's input: one value for all elements, or one for each."""
    high: tuple[float, ...] = (1.0,)
    """Upper bound of the network's input: one value for all elements, or one for each."""
    scale: tuple[float, ...] = (1.0,)
    """Unit of an attack's epsilon: one value for all elements of the network's input, or one for each."""
    stop_score: float | None = None
    """Mean validation score at which training may stop early, as in the code of Chen et al. 2022 (--early_stop).

    Some cannot be reached: Boxing ends at 100.
    """

    @property
    def frames_per_decision(self) -> int:
        return FRAMES_PER_DECISION[self.tier]

    @property
    def observation_dtype(self) -> Literal["float32", "uint8"]:
        """Type of an observation's elements, as the environments give them."""
        return "float32" if self.tier == "control" else "uint8"

    @property
    def observation_bytes(self) -> int:
        """Bytes of one observation."""
        return math.prod(self.observation_shape) * (4 if self.observation_dtype == "float32" else 1)


def _atari(name: str, num_actions: int, stop_score: float) -> Game:
    return Game(name, "atari", (FRAME_STACK, 84, 84), num_actions, stop_score=stop_score)


def _minatar(name: str, channels: int) -> Game:
    # MinAtar's own benchmark gives every game the full set of 6 actions (Young & Tian 2019).
    return Game(f"minatar/{name}", "minatar", (channels, 10, 10), 6)


_ALL = (
    # Bounds as CartPole-v1 declares them: position, velocity, angle (rad), angular velocity.
    Game(
        "cartpole",
        "control",
        (4,),
        2,
        low=(-4.8, -math.inf, -0.41887903, -math.inf),
        high=(4.8, math.inf, 0.41887903, math.inf),
        # The scale is the bound. Velocities have no bound. Theirs is the largest that 10,000 episodes of random play
        # reached, rounded (3.52 and 3.34 in 222,182 decisions).
        scale=(4.8, 3.5, 0.41887903, 3.3),
    ),
    _minatar("asterix", 4),
    _minatar("breakout", 4),
    _minatar("freeway", 7),
    _minatar("seaquest", 10),
    _minatar("space_invaders", 6),
    # The 17 games of Liu et al. 2022 and Tan et al. 2021: ALE's minimal action sets, Chen et al.'s stop scores.
    _atari("atlantis", 4, 5e5),
    _atari("beam_rider", 9, 15e3),
    _atari("boxing", 18, 150),
    _atari("breakout", 4, 1000),
    _atari("crazy_climber", 9, 2e5),
    _atari("gopher", 8, 20e3),
    _atari("jamesbond", 18, 1000),
    _atari("kangaroo", 18, 25e3),
    _atari("krull", 18, 10e3),
    _atari("name_this_game", 6, 20e3),
    _atari("pong", 6, 20.5),
    _atari("road_runner", 18, 1e5),
    _atari("space_invaders", 6, 5000),
    _atari("star_gunner", 18, 1e5),
    _atari("tennis", 18, 20),
    _atari("tutankham", 8, 500),
    _atari("video_pinball", 9, 5e5),
)


def _spelled(name: str) -> str:
    """How a name is spelled here: environment ids such as "ALE/BeamRider-v5" and "PongNoFrameskip-v4" name games."""
    bare = re.sub(r"(NoFrameskip|Deterministic)?(-v\d+)?$", "", name.removeprefix("ALE/"))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare).lower()


GAMES: Registry[Game] = Registry("game", spelling=_spelled)
"""All games. An extension that adds one also registers its environment (play/environments.py)."""
for _game in _ALL:
    GAMES.register(_game.name)(_game)


def get_game(name: str) -> Game:
    """The game of a name.

    Raises:
        Refusal: there is no such game; the message suggests the nearest one, also for environment ids.
    """
    return GAMES[name]


def named_game(name: str | None) -> Game | None:
    """The game of a name, as in `get_game`; None if none was named."""
    return None if name is None else get_game(name)


@dataclass(frozen=True)
class Reference:
    """Reference scores of a game; None for one that nobody measured."""

    random: float | None
    human: float | None
    source: str


def reference(game: Game) -> Reference:
    """Scores of random and human play, with their source.

    Atari: the 57-game table, with random play and the 30-minute human starts. The human scores of Nature 2015 differ on
    most games. MinAtar and CartPole: random play as measured by this project. Nobody published human scores. A game of
    an extension has no reference scores.
    """
    published = _table("atari_random_human.csv").get(game.name)
    if published is not None:
        return Reference(float(published["random"]), float(published["human"]), "57-game table")
    measured = _table("random_play.csv").get(game.name)
    if measured is not None:
        return Reference(float(measured["mean"]), None, f"measured here over {measured['episodes']} episodes")
    return Reference(None, None, "not measured")


@functools.cache
def _table(file_name: str) -> dict[str, dict[str, str]]:
    with open(PUBLISHED / file_name, newline="", encoding="utf-8") as file:
        return {row["game"]: row for row in csv.DictReader(file)}
