"""Two attacked networks held against each other. Never imports torch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.attackers import BOUNDED, StateSample, Victim, described, flips, sample_of, strongest
from analysis.evidence import LEAST_EPISODES, AttackedGames, Evidence
from analysis.gates import plays
from analysis.statistics import Interval, kept_difference, kept_interval, mean_interval, paired_difference
from analysis.words import size
from core.games import get_game, reference
from core.rows import StateAttackRow


@dataclass(frozen=True)
class Contrast:
    """Two networks in games of one size, on the same episodes, each under the strongest attack that it met in games."""

    epsilon: float
    kept: Interval
    """Share of its own clean score above random play."""
    others_kept: Interval
    score: Interval
    others_score: Interval
    kept_difference: Interval
    score_difference: Interval
    flips: Interval
    """Share of states flipped by the strongest attack on these, the same states for both."""
    others_flips: Interval
    not_under: str
    """The strongest of the attacks that the first met under which it is not better; empty if there is none."""

    @property
    def is_better(self) -> bool:
        """Whether it is so under every attack that it met."""
        return not self.not_under

    @property
    def is_better_under_the_strongest(self) -> bool:
        return _all_above_0(self.kept, self.kept_difference, self.score_difference)


def _all_above_0(kept: Interval, kept_difference: Interval, score_difference: Interval) -> bool:
    """Whether what is kept and both differences lie above 0: a share alone favours whoever has little to lose, a score
    alone whoever began higher, and below random play nobody is robust."""
    return min(kept.low, kept_difference.low, score_difference.low) > 0


@dataclass(frozen=True)
class RobustnessComparison:
    """One network held against another."""

    network: Victim
    other: Victim
    contrasts: tuple[Contrast, ...]
    refused: str
    """Why they do not compare; empty if they do."""


def compare(shown: Evidence, other: Evidence) -> RobustnessComparison:
    """One network held against another at every size that both met, or why they do not compare.

    Each is held under the attack that flips most of its decisions, so that neither looks the worse for having met more
    attacks, and the first must be better under every other attack that it met too. An attack on the other that was too
    weak only makes the other look better, so a claim asks for the gates of the network that it is about.
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
        return refused("their clean games are not of the same episodes and settings")
    random = reference(get_game(shown.network.game)).random
    if random is None:
        return refused("no score of random play is known")
    if not all(gate.outcome == "pass" for gate in (plays(shown), plays(other))):
        return refused(f"both must play better than random in {LEAST_EPISODES} clean games or more")
    common = sorted({*shown.sizes, *other.sizes} & played.keys() & others_played.keys())
    if not common:
        return refused("no size of attack was met by both in games, on the episodes of the clean ones")

    def scores(games: AttackedGames) -> np.ndarray:
        return np.array([games.scores[key] for key in episodes])

    own_clean, theirs_clean = scores(clean), scores(others_clean)
    if not min(own_clean.mean(), theirs_clean.mean()) > random:
        return refused("on the clean games of the same episodes one is no better than random play")
    for epsilon in common:
        of_states = _on_the_same_states(shown.states, other.states, epsilon)
        if of_states is None:
            return refused(f"at {size(epsilon)} no states are common to the attacks on both")
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
                others_kept=kept_interval(theirs, theirs_clean, random),
                score=mean_interval(scores(played[epsilon][0])),
                others_score=mean_interval(theirs),
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
    """The strongest attacks of a size on both victims, on the largest set of states that was attacked in both."""

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
