"""Command-line options that several commands have."""

from dataclasses import dataclass

from core.device import Device
from play.episodes import MAX_ENVS


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

    game: str | None = None
    """Game to play; the checkpoint's own if not given."""
    protocol: str | None = None
    """Protocol, as in liu2022, chen2022, tan2021, nature, modern, minatar or cartpole; the tier's usual one if not
    given."""
    seed: int = 0
    """Decides how every episode begins. Equal seeds give every agent the same episodes."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions(EpisodeOptions):
    """Which episodes are played, and how many side by side."""

    num_envs: int = MAX_ENVS
    """Games played side by side. This changes speed, and the last bit of Q-values."""
