"""Compare two attacked networks. Never imports torch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.attackers import BOUNDED, StateSample, Victim, described, flips, sample_of, strongest
from analysis.evidence import AttackedGames, Evidence
from analysis.gates import plays
from analysis.statistics import (
    LEAST_EPISODES,
    Interval,
    kept_difference,
    kept_interval,
    paired_difference,
)
from analysis.words import size
from core.games import get_game, reference
from core.rows import StateAttackRow


@dataclass(frozen=True)
class Contrast:
    """Two networks at one size of attack, on the same episodes, each under the strongest attack made on it in games."""

    epsilon: float
    kept: Interval
    """Share that the first network keeps of its own clean score above random play."""
    kept_difference: Interval
    """`kept` minus the same share of the other network."""
    score_difference: Interval
    """The first network's score minus the other's."""
    flips: Interval
    """Share of states flipped by the strongest attack on states. Both networks were attacked on the same states."""
    others_flips: Interval
    """The same share of the other network."""
    not_under: str
    """The strongest attack under which the first network is not better. Empty if there is none."""

    @property
    def is_better(self) -> bool:
        """Whether the first network is better under every attack that was made on it."""
        return not self.not_under

    @property
    def is_better_under_the_strongest(self) -> bool:
        """Whether the first network is better under the strongest attack that was made on it."""
        return _all_above_0(self.kept, self.kept_difference, self.score_difference)


def _all_above_0(kept: Interval, kept_difference: Interval, score_difference: Interval) -> bool:
    """Whether the kept share and both differences lie above 0.

    The share alone favours a network with a low clean score. The score alone favours one with a high clean score. A
    network that falls to random play is not robust.
    """
    return all(each.low > 0 for each in (kept, kept_difference, score_difference))


@dataclass(frozen=True)
class RobustnessComparison:
    """The comparison of one network with another."""

    network: Victim
    other: Victim
    contrasts: tuple[Contrast, ...]
    """One for each size of attack."""
    refused: str
    """Why the networks do not compare. Empty if they do."""


def compare(shown: Evidence, other: Evidence) -> RobustnessComparison:
    """Compare two networks at every size at which both were attacked in games.

    Each network is taken under the attack that flips most of its decisions, so that more attacks on one of them are no
    disadvantage. The first network must also be better under every other attack made on it. The other network's gates
    are not required: weak attacks on it only make it look better.
    """
    contrasts: list[Contrast] = []

    def refused(reason: str) -> RobustnessComparison:
        return RobustnessComparison(shown.network, other.network, (), reason)

    if shown.network.game != other.network.game:
        return refused(f"they play different games, {shown.network.game} and {other.network.game}")
    if shown.setting != other.setting:
        return refused(f"they were attacked in different settings, {shown.setting} and {other.setting}")
    (clean, played), (others_clean, others_played) = shown.played, other.played
    episodes = [key for key in clean.scores if key in others_clean.scores]
    if len(episodes) < LEAST_EPISODES:
        return refused("their clean games have different episodes or settings")
    random = reference(get_game(shown.network.game)).random
    if random is None:
        return refused("the score of random play is unknown")
    if not all(gate.outcome == "pass" for gate in (plays(shown), plays(other))):
        return refused(f"both must play better than random in at least {LEAST_EPISODES} clean games")
    common = sorted({*shown.sizes, *other.sizes} & played.keys() & others_played.keys())
    if not common:
        return refused("no size of attack in games is common to both, on the episodes of the clean games")

    def scores(games: AttackedGames) -> np.ndarray:
        return np.array([games.scores[key] for key in episodes])

    own_clean, theirs_clean = scores(clean), scores(others_clean)
    if not min(own_clean.mean(), theirs_clean.mean()) > random:
        return refused("one of them is no better than random play in the clean games that both played")
    for epsilon in common:
        of_states = _on_the_same_states(shown.states, other.states, epsilon)
        if of_states is None:
            return refused(f"at {size(epsilon)} they were not attacked on the same states")
        theirs = scores(others_played[epsilon][0])
        each = [
            (
                kept_interval(own, own_clean, random),
                kept_difference(own, own_clean, theirs, theirs_clean, random),
                paired_difference(own, theirs),
            )
            for own in map(scores, played[epsilon])
        ]
        kept, more_kept, more_scored = each[0]
        worse = (
            described(attack.rows[0])
            for attack, intervals in zip(played[epsilon], each, strict=True)
            if not _all_above_0(*intervals)
        )
        contrasts.append(
            Contrast(
                epsilon=epsilon,
                kept=kept,
                kept_difference=more_kept,
                score_difference=more_scored,
                flips=flips(of_states[0]),
                others_flips=flips(of_states[1]),
                not_under=next(worse, ""),
            )
        )
    return RobustnessComparison(shown.network, other.network, tuple(contrasts), "")


def _on_the_same_states(
    rows: Sequence[StateAttackRow], others: Sequence[StateAttackRow], epsilon: float
) -> tuple[StateAttackRow, StateAttackRow] | None:
    """The strongest attack of one size on each victim, on the largest set of states that both were attacked on."""

    def sets(rows: Sequence[StateAttackRow]) -> dict[tuple[int, StateSample], list[StateAttackRow]]:
        found: dict[tuple[int, StateSample], list[StateAttackRow]] = defaultdict(list)
        for row in rows:
            if row.epsilon == epsilon:
                found[row.num_states, sample_of(row)].append(row)
        return found

    own, theirs = sets(rows), sets(others)
    for key in sorted(own.keys() & theirs.keys(), reverse=True):
        best, others_best = strongest(own[key], *BOUNDED), strongest(theirs[key], *BOUNDED)
        if best is not None and others_best is not None:
            return best, others_best
    return None
