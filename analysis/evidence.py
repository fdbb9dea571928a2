"""Collect the measurements of each attacked network, on states and in games. Never imports torch."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from analysis.attackers import BOUNDED, Victim, described, how, kind_of, network_of, setting_of, strength
from analysis.statistics import LEAST_EPISODES, Interval, kept_interval, mean_interval
from core.errors import Refusal
from core.games import get_game, reference
from core.rows import AttackRow, StateAttackRow

LEAST_STATES = 100
"""Rows with fewer attacked states are ignored, because the interval of their share would be too wide."""
COLLAPSE_EPSILON = 0.5
"""At this size an attacker can turn any image grey. If the agent still plays, the attack is broken."""
ROUNDING = 1e-6
"""Tolerance for float32 rounding of a perturbation's size."""
GameKey = tuple[str, int]
"""Settings and seed of an episode. Equal keys mean the same start."""
Row = TypeVar("Row", AttackRow, StateAttackRow)


@dataclass(frozen=True)
class Evidence:
    """All measurements of one network in one setting of attacks (see `analysis.attackers.SETTING`)."""

    network: Victim
    setting: str
    states: tuple[StateAttackRow, ...]
    """Attacks on LEAST_STATES or more states, without controls."""
    games: tuple[AttackRow, ...]
    """Games under attack, without controls."""
    clean: tuple[AttackRow, ...]
    """Games without attack. Each start occurs once, even if it was played repeatedly."""

    @property
    def sizes(self) -> list[float]:
        """The sizes at which claims can be made and every gate must be measured.

        They are the sizes of attacks in games, or on states if there are no games. COLLAPSE_EPSILON and larger sizes
        are left out.
        """
        rows: Sequence[AttackRow | StateAttackRow] = self.games or self.states
        return sorted({row.epsilon for row in rows if 0.0 < row.epsilon < COLLAPSE_EPSILON})

    @functools.cached_property
    def played(self) -> tuple["AttackedGames", dict[float, list["AttackedGames"]]]:
        """The clean games, and the attacks in games by size; see `_played`."""
        return _played(self)


def evidence(states: Sequence[StateAttackRow], games: Sequence[AttackRow]) -> list[Evidence]:
    """The measurements of every network in every setting, in the order used by all tables.

    Clean games belong to every setting, controls to none. Rows whose share of flips is NaN are ignored.

    Raises:
        Refusal: a perturbation is larger than its epsilon, or a threat cannot be read.
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
                f"{network_of(row).name}: {row.attack} at epsilon {row.epsilon:g} changed an input by "
                f"{row.largest_perturbation:g}, which is more than epsilon"
            )
        found[network_of(row), setting_of(row)].append(row)
    return found


def _any(network: Victim, *found: Iterable[tuple[Victim, str]]) -> bool:
    return any(network == other for keys in found for other, _ in keys)


def _game(row: AttackRow) -> GameKey:
    return row.settings, row.episode_seed


@dataclass(frozen=True)
class AttackedGames:
    """The games under one attack, and their scores by start."""

    rows: tuple[AttackRow, ...]

    @functools.cached_property
    def scores(self) -> dict[GameKey, float]:
        return {_game(row): row.score for row in self.rows}

    @property
    def mean(self) -> float:
        return float(np.mean([*self.scores.values()]))


def _played(shown: Evidence) -> tuple[AttackedGames, dict[float, list[AttackedGames]]]:
    """The clean games, and the games of each attack by size, the strongest attack first.

    All games are on the same episodes: those common to the clean games and to every attack with at least
    LEAST_EPISODES of them. Attacks are ordered by `analysis.attackers.AttackStrength`.
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
    """What the strongest attack in games leaves of a network's score at one size."""

    attack: str
    """The strongest attack in words."""
    attacks: int
    """Number of attacks in games at this size."""
    score: Interval
    kept: Interval | None
    """Share kept of the clean score above random play. None if the clean score is no better than random play."""
    least: float
    """The lowest mean score under any attack. Over few games it may be low by chance."""


def attacked_scores(shown: Evidence) -> dict[float, Left]:
    """What the strongest attack in games leaves at each size."""
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
