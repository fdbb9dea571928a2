"""Agents and episodes as far as they are known before anything is run, for forecasts."""

import csv
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.agents import Agent
from core.games import PUBLISHED, Game
from core.workload import WorkPart
from play.entrants import entrants
from play.environments import environments_of
from play.protocols import MAX_ENVS, Protocol, get_protocol
from play.states import COLLECTING_ENVS


@dataclass(frozen=True)
class Expected:
    """What commands may ask for when they tell their workload."""

    measured_steps: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Mean decisions of an episode by game and kind of agent, where they were measured."""
    made: dict[str, list[Agent]] = field(default_factory=dict)
    """Agents of earlier commands by the path that names them. They have the shape of the real ones, and no training.
    A run folder has two, its best weights and its last."""

    def agents(self, word: str, game: Game | None = None) -> Sequence[Agent]:
        """The agents that a word of a command line names: made by an earlier command, read from a file, or registered.

        Raises:
            Refusal: there are none.
        """
        key = f"{word} {game.name}" if game else word
        if word in self.made:
            return self.made[word]
        if key not in self.made:
            found = entrants(word, game)
            self.made[key] = [entrant.checkpoint.agent for entrant in found]
        return self.made[key]

    def episode_steps(self, game: Game, kind: str, protocol: Protocol | None = None) -> float:
        """Mean decisions of an episode: measured, or the typical number, within the protocol's limit."""
        typical = _typical_steps()
        keys = [(where, which) for which in (kind, "") for where in (game.name, game.tier)]
        steps = self.measured_steps.get(keys[0]) or next(typical[key] for key in keys if key in typical)
        most = (protocol or get_protocol(None, game)).dynamics.max_episode_frames
        return min(steps, (most or 10**9) / game.frames_per_decision)


def playing(agent: Agent, decisions: float, at_once: float) -> Iterable[WorkPart]:
    """The parts of so many decisions of an agent in its game.

    Args:
        agent: who plays.
        decisions: number of them.
        at_once: games in which it decides at the same time.
    """
    tier = agent.game.tier
    yield WorkPart("environment", tier, "", 1, decisions)
    if agent.kind != "random":
        yield WorkPart("decide", tier, agent.kind, agent.sim_steps, decisions, at_once)


def side_by_side(game: Game, episodes: int, num_envs: int = MAX_ENVS) -> float:
    """Games in which `play.episodes.play` decides at the same time, where nobody attacks."""
    return max(1.0, min(episodes, num_envs) / (2 if environments_of(game).in_background else 1))


def collecting(agent: Agent, states: int, expected: Expected) -> Iterable[WorkPart]:
    """The parts of `play.states.collect`: whole episodes, a few at a time, until there are enough states."""
    round_steps = COLLECTING_ENVS * expected.episode_steps(agent.game, agent.kind)
    yield from playing(agent, math.ceil(states / round_steps) * round_steps, COLLECTING_ENVS)


@functools.cache
def _typical_steps() -> Mapping[tuple[str, str], float]:
    """Decisions of an episode by game, or by tier for all games without a row, and by kind of agent or "" for all."""
    with open(PUBLISHED / "episode_lengths.csv", encoding="utf-8", newline="") as file:
        return {(row["game"], row["agent"]): float(row["decisions"]) for row in csv.DictReader(file)}
