"""Command-line options that several commands have."""

from dataclasses import dataclass
from typing import Annotated

from core.choices import Device
from core.cli import OneOf
from core.ranges import EnvCount, Seed, Threads
from play.protocols import MAX_ENVS


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where a command computes."""

    device: Device = "auto"
    """Device that networks run on."""
    threads: Threads = 0
    """CPU threads; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(ComputeOptions):
    """Which episodes are played."""

    game: Annotated[
        str | None, OneOf("Game to play; the checkpoint's own if not given.", "core.games:GAMES")
    ] = None
    protocol: Annotated[
        str | None,
        OneOf("How play is scored; the usual protocol of the game if not given.", "play.protocols:PROTOCOLS"),
    ] = None
    seed: Seed = 0
    """Decides how every episode begins. Equal seeds give every agent the same episodes."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions(EpisodeOptions):
    """Which episodes are played, and how many side by side."""

    num_envs: EnvCount = MAX_ENVS
    """Games played side by side. This changes speed, and the last bit of Q-values."""
