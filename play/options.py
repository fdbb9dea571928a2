"""Command-line options that several commands have."""

from dataclasses import dataclass
from typing import Annotated

from core.choices import Device
from core.cli import OneOf
from core.ranges import EnvCount, Seed, Threads
from core.registered import Listed
from play.protocols import MAX_ENVS


class AnAgent(OneOf):
    """Help of an option that takes agents. Every command takes them in the same ways (`play.entrants`).

    Args:
        text: what the agent is for, in whole sentences.
        weights: which weights of a run folder are taken.
        random: whether random play is taken.
    """

    def __init__(self, text: str, weights: str = "its best weights", random: bool = True):
        only = None if random else _plays_by_design
        super().__init__(text, "core.agents:AGENTS", words="others", only=only)
        self._weights = weights

    @property
    def documentation(self) -> str:  # type: ignore[override]  # read anew each time
        names = f" ({', '.join(self.names())})" if self.names() else ""
        return (
            f"{self._text} A checkpoint (.safetensors), a run folder of train_direct ({self._weights}), or a "
            f"registered agent{names}."
        )


def _plays_by_design(agent: Listed) -> bool:
    """Whether a registered agent is more than random play."""
    return agent.name != "random"


GameOfAgent = Annotated[
    str | None,
    OneOf(
        "Game of a registered agent, which needs one; a checkpoint's own if not given.", "core.games:GAMES"
    ),
]
"""The option --game of commands that play no games of their own choice."""


def of_game(game: str | None) -> dict[str, str]:
    """That option in a manifest. Manifests from before it existed must stay those of the same work."""
    return {} if game is None else {"game": game}


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
    """How many games are played side by side."""

    num_envs: EnvCount = MAX_ENVS
    """Games played side by side. This changes speed, and the last bit of Q-values."""
