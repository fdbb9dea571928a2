"""What was measured of each attacked network, on states and in games. Never imports torch."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from analysis.attackers import BOUNDED, Victim, described, how, kind_of, network_of, setting_of, strength
from analysis.statistics import Interval, kept_interval, mean_interval
from core.errors import Refusal
from core.games import get_game, reference
from core.rows import AttackRow, StateAttackRow

LEAST_STATES = 100
"""Fewer attacked states are no evidence: the interval of a share would be too wide."""
LEAST_EPISODES = 10
"""Nor are fewer games."""
COLLAPSE_EPSILON = 0.5
"""At this size an attacker can make any picture grey: an agent that still plays was not really attacked."""
ROUNDING = 1e-6
"""Of a perturbation's size in float32."""
GameKey = tuple[str, int]
"""Settings and seed of an episode: the same ones are the same start."""
Row = TypeVar("Row", AttackRow, StateAttackRow)


@dataclass(frozen=True)
class Evidence:
    """All that was measured of one network in one setting of attacks (see `analysis.attackers.SETTING`)."""

    network: Victim
    setting: str
    states: tuple[StateAttackRow, ...]
    """Of LEAST_STATES or more states, without the controls."""
    games: tuple[AttackRow, ...]
    clean: tuple[AttackRow, ...]
    """Each once, however often it was played."""

    @property
    def sizes(self) -> list[float]:
        """Where a claim could be made, and every gate must be measured: the sizes met in games, or without games those
        met on states. What is meant to break any agent is not among them."""
        rows: Sequence[AttackRow | StateAttackRow] = self.games or self.states
        return sorted({row.epsilon for row in rows if 0.0 < row.epsilon < COLLAPSE_EPSILON})

    @functools.cached_property
    def played(self) -> tuple["AttackedGames", dict[float, list["AttackedGames"]]]:
        """As `_played`."""
        return _played(self)


def evidence(states: Sequence[StateAttackRow], games: Sequence[AttackRow]) -> list[Evidence]:
    """What was measured, network by network and setting by setting, in the order of all tables.

    Clean games belong to every setting, controls to none. A row whose share is no number is no evidence.

    Raises:
        Refusal: a perturbation larger than its size; a threat that cannot be read.
    """
    of_states, of_games = _by_setting(states), _by_setting(games)
    clean: dict[Victim, dict[GameKey, AttackRow]] = defaultdict(dict)
    sim_steps: dict[Victim, int] = defaultdict(int)
    for row in games:
        if kind_of(row) == "clean":
            clean[network_of(row)].setdefault(_game(row), row)
    for network in (*map(network_of, states), *map(network_of, games)):
        sim_steps[network] = max(sim_steps[network], network.sim_steps)
    keys = {
        *of_states,
        *of_games,
        *((network, "{}") for network in clean if not _any(network, of_states, of_games)),
    }
    return [
        Evidence(
            replace(network, sim_steps=sim_steps[network]),
            setting,
            tuple(row for row in of_states.get((network, setting), ()) if row.num_states >= LEAST_STATES),
            tuple(of_games.get((network, setting), ())),
            tuple(clean[network].values()),
        )
        for network, setting in sorted(keys)
    ]


def _by_setting(rows: Iterable[Row]) -> dict[tuple[Victim, str], list[Row]]:
    found: dict[tuple[Victim, str], list[Row]] = defaultdict(list)
    for row in rows:
        if kind_of(row) not in BOUNDED or not math.isfinite(row.flip_share):
            continue
        if not row.largest_perturbation <= row.epsilon + ROUNDING * max(1.0, row.epsilon):
            raise Refusal(
                f"{network_of(row).name}: {row.attack} of epsilon {row.epsilon:g} changed an input by "
                f"{row.largest_perturbation:g}; no more than epsilon is an attack of that size"
            )
        found[network_of(row), setting_of(row)].append(row)
    return found


def _any(network: Victim, *found: Iterable[tuple[Victim, str]]) -> bool:
    return any(network == other for keys in found for other, _ in keys)


def _game(row: AttackRow) -> GameKey:
    return row.settings, row.episode_seed


@dataclass(frozen=True)
class AttackedGames:
    """One attack in games: its rows, and its scores by episode."""

    rows: tuple[AttackRow, ...]

    @functools.cached_property
    def scores(self) -> dict[GameKey, float]:
        return {_game(row): row.score for row in self.rows}

    @property
    def mean(self) -> float:
        return float(np.mean([*self.scores.values()]))


def _played(shown: Evidence) -> tuple[AttackedGames, dict[float, list[AttackedGames]]]:
    """The clean games, and by size those of each attack, the strongest first; all on the same episodes: those that the
    clean games and every attack of LEAST_EPISODES or more of these have in common.

    What is strongest, `analysis.attackers.AttackStrength` says.
    """
    clean = AttackedGames(shown.clean)
    attacks: dict[tuple[float, str], list[AttackRow]] = defaultdict(list)
    for row in shown.games:
        if _game(row) in clean.scores:
            attacks[row.epsilon, how(row)].append(row)
    episodes = {
        key: AttackedGames(tuple(rows)).scores.keys()
        for key, rows in attacks.items()
        if len({_game(row) for row in rows}) >= LEAST_EPISODES
    }
    common = set(clean.scores).intersection(*episodes.values())
    found: dict[float, list[AttackedGames]] = defaultdict(list)
    for epsilon, attack in episodes if len(common) >= LEAST_EPISODES else ():
        rows = attacks[epsilon, attack]
        found[epsilon].append(AttackedGames(tuple(row for row in rows if _game(row) in common)))
    for of_size in found.values():
        of_size.sort(key=lambda played: strength(played.rows), reverse=True)
    return AttackedGames(tuple(row for row in shown.clean if _game(row) in common)), found


class Left(NamedTuple):
    """What the strongest attack in games of one size leaves."""

    attack: str
    attacks: int
    """Of how many it is the strongest."""
    score: Interval
    kept: Interval | None
    """Share of the clean score above random play; None if that is no better than random play."""
    least: float
    """The lowest mean score of them all: of few games, one that is low by luck too."""


def attacked_scores(shown: Evidence) -> dict[float, Left]:
    """By size, what is left in games."""
    random = reference(get_game(shown.network.game)).random
    clean, played = shown.played
    found = {}
    for epsilon, attacks in sorted(played.items()):
        own, unperturbed = [attacks[0].scores[key] for key in clean.scores], [*clean.scores.values()]
        kept = None
        if random is not None and clean.mean > random:
            kept = kept_interval(own, unperturbed, random)
        least = min(played.mean for played in attacks)
        found[epsilon] = Left(described(attacks[0].rows[0]), len(attacks), mean_interval(own), kept, least)
    return found
