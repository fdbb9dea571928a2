"""Command-line options that several commands have."""

from dataclasses import dataclass
from typing import Annotated

from core.cli import OneOf
from core.device import Device
from core.games import GAMES
from play.episodes import MAX_ENVS
from play.protocols import PROTOCOLS


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where a command computes."""

    device: Device = "auto"
    """Device that networks run on."""
    threads: int = 0
    """CPU threads; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(ComputeOptions):
    """Which episodes are played."""

    game: Annotated[str | None, OneOf(GAMES.items, "Game to play; the checkpoint's own if not given.")] = None
    protocol: Annotated[
        str | None, OneOf(PROTOCOLS.items, "How play is scored; the usual protocol of the game if not given.")
    ] = None
    seed: int = 0
    """Decides how every episode begins. Equal seeds give every agent the same episodes."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions(EpisodeOptions):
    """Which episodes are played, and how many side by side."""

    num_envs: int = MAX_ENVS
    """Games played side by side. This changes speed, and the last bit of Q-values."""
