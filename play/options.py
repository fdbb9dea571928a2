"""Command-line options that commands have in common."""

from dataclasses import dataclass

from core.device import Device
from play.episodes import MAX_ENVS


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """On what."""

    device: Device = "auto"
    """Where networks run."""
    threads: int = 0
    """CPU threads; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(ComputeOptions):
    """Which episodes are played."""

    game: str | None = None
    """Game to play; the checkpoint's own if not given."""
    protocol: str | None = None
    """liu2022, chen2022, tan2021, nature, modern, minatar or cartpole; the tier's usual one if not given."""
    seed: int = 0
    """Decides every episode's start; equal seeds give every agent the same episodes."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions(EpisodeOptions):
    """Which episodes are played, and how."""

    num_envs: int = MAX_ENVS
    """Games played side by side. Speed; batches of another size round Q-values otherwise in the last bit."""
