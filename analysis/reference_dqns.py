"""DQNs of other libraries, and which of ours stand far below one of them. Never imports torch."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.games import PUBLISHED

LEAST_SHARE = 0.8
"""Share of a reference's score above random play below which a DQN of ours is marked."""


@dataclass(frozen=True)
class ReferenceDqn:
    """One DQN of another library on one game."""

    source: str
    game: str
    score: float
    std: float | None
    decisions: int
    protocol: Mapping[str, float | None]
    """Values of the protocol by name, as in `play.protocols.Dynamics`, and epsilon. None was not published."""
    measure: str
    """What the score is a mean of, and what is not said."""

    @property
    def agent(self) -> str:
        """Its name in tables."""
        return f"{self.source} DQN"

    @property
    def note(self) -> str:
        """Protocol and measure in words."""
        named = {
            "sticky_action_probability": "sticky actions {:g}",
            "noop_max_frames": "up to {:g} no-op frames",
            "epsilon": "epsilon {:g}",
            "max_episode_frames": "at most {:,.0f} frames",
        }
        told = [words.format(self.protocol[name]) for name, words in named.items() if self.protocol[name]]
        return f"{self.decisions:,} decisions; {', '.join(told)}. {self.measure.rstrip('.')}"

    def is_like(self, settings: str) -> bool:
        """Whether scores compare: equal starts, sticky actions and epsilon, and a limit that is not shorter.

        A game with a shorter limit than the reference's may have a smaller score for that reason alone. What was not
        published is like nothing.

        Args:
            settings: of an EpisodeRow.
        """
        ours: dict[str, Any] = json.loads(settings).get("protocol", {})
        ours = {**ours, **ours.get("dynamics", {})}
        limit, its = ours.get("max_episode_frames"), self.protocol["max_episode_frames"]
        same = ("sticky_action_probability", "noop_max_frames", "epsilon")
        return (
            its is not None
            and (limit or 0) >= its
            and all(ours.get(name) == self.protocol[name] for name in same)
        )


@functools.cache
def reference_dqns() -> tuple[ReferenceDqn, ...]:
    """All of core/data/dqn_references.csv."""
    rows: list[dict[Any, Any]] = pd.read_csv(PUBLISHED / "dqn_references.csv").to_dict("records")

    def known(value: float) -> float | None:
        return None if pd.isna(value) else float(value)

    return tuple(
        ReferenceDqn(
            source=row["source"],
            game=row["game"],
            score=float(row["score"]),
            std=known(row["std_over_episodes"]),
            decisions=int(row["decisions"]),
            protocol={
                "sticky_action_probability": known(row["sticky"]),
                "noop_max_frames": known(row["noop_max_frames"]),
                "epsilon": known(row["epsilon"]),
                "max_episode_frames": known(row["max_episode_frames"]),
            },
            measure=row["measure"],
        )
        for row in rows
    )


def stands_below(game: str, score: float, random: float | None, settings: str) -> str:
    """The source of a reference DQN that a score lies more than a fifth below; "" if there is none of a like protocol.

    Args:
        game: the game.
        score: of a DQN of ours.
        random: score of random play, from which both are counted; None for a game without one.
        settings: of an EpisodeRow of that score.
    """
    if random is None:
        return ""
    like = (dqn for dqn in reference_dqns() if dqn.game == game and dqn.is_like(settings))
    return next((dqn.source for dqn in like if score - random < LEAST_SHARE * (dqn.score - random)), "")
