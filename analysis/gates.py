"""Gates before the word "robust", and comparisons of agents under attack: pure functions of rows. Never imports torch.

A spiking network's gradients may vanish or lie, so that an attack fails for reasons that are no strength of its victim
(Athalye et al. 2018, arXiv 1802.00420; Carlini et al. 2019, arXiv 1902.06705). Each gate asks for a symptom. What was
not measured never passes, and one gate that does not pass forbids the claim.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from analysis.answer import percent, players, scored, size
from analysis.attackers import (
    AIMED,
    BOUNDED,
    Drawing,
    Kind,
    Network,
    cells,
    described,
    drawing_of,
    flips,
    how,
    kind_of,
    masking_gaps,
    network_of,
    on_the_same_states,
    setting_of,
    share,
    strength,
    strongest,
    threat_of,
)
from analysis.statistics import (
    Interval,
    kept_difference,
    kept_interval,
    mean_interval,
    paired_difference,
    share_interval,
)
from core.errors import Refusal
from core.games import get_game, reference
from core.records import AttackRow, StateAttackRow

LEAST_STATES = 100
"""Fewer attacked states are no evidence: the interval of a share would be too wide."""
LEAST_EPISODES = 10
"""Nor are fewer games."""
COLLAPSE_EPSILON = 0.5
"""At this size an attacker can make any picture grey: an agent that still plays was not really attacked."""
CONVERGED = 0.02
"""By less than this share of states may twice the iterations change success."""
TOLERANCE = 0.02
"""By no more than this share of the same states may an attack lag behind one that it should reach."""
COLLAPSED = 0.05
"""No more than this share of its clean score above random play may an agent keep where every agent must break down."""
VANISHED = 0.05
"""On less than this share of states may the gradient of the strongest attack be zero everywhere."""
ROUNDING = 1e-6
"""Of a perturbation's size in float32."""
DIGITS = 9
"""Differences of shares are rounded to so many before they are compared with a limit, on which they may lie."""

Outcome = Literal["pass", "fail", "not measured"]
GameKey = tuple[str, int]
"""Settings and seed of an episode: the same ones are the same start."""
Row = TypeVar("Row", AttackRow, StateAttackRow)


@dataclass(frozen=True)
class Gate:
    """One condition of a claim."""

    name: str
    outcome: Outcome
    numbers: str
    """What was measured, or what is missing."""


@dataclass(frozen=True)
class Evidence:
    """All that was measured of one network in one setting of attacks (see `analysis.attackers.SETTING`)."""

    network: Network
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
    def played(self) -> tuple["Played", dict[float, list["Played"]]]:
        """As `_played`."""
        return _played(self)


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
class Comparison:
    """One network held against another."""

    network: Network
    other: Network
    contrasts: tuple[Contrast, ...]
    refused: str
    """Why they do not compare; empty if they do."""


# Rows ------------------------------------------------------------------------------------------------


def evidence(states: Sequence[StateAttackRow], games: Sequence[AttackRow]) -> list[Evidence]:
    """What was measured, network by network and setting by setting, in the order of all tables.

    Clean games belong to every setting, controls to none. A row whose share is no number is no evidence.

    Raises:
        Refusal: a perturbation larger than its size; a threat that cannot be read.
    """
    of_states, of_games = _by_setting(states), _by_setting(games)
    clean: dict[Network, dict[GameKey, AttackRow]] = defaultdict(dict)
    sim_steps: dict[Network, int] = defaultdict(int)
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


def _by_setting(rows: Iterable[Row]) -> dict[tuple[Network, str], list[Row]]:
    found: dict[tuple[Network, str], list[Row]] = defaultdict(list)
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


def _any(network: Network, *found: Iterable[tuple[Network, str]]) -> bool:
    return any(network == other for keys in found for other, _ in keys)


def _game(row: AttackRow) -> GameKey:
    return row.settings, row.episode_seed


@dataclass(frozen=True)
class Played:
    """One attack in games: its rows, and its scores by episode."""

    rows: tuple[AttackRow, ...]

    @functools.cached_property
    def scores(self) -> dict[GameKey, float]:
        return {_game(row): row.score for row in self.rows}

    @property
    def mean(self) -> float:
        return float(np.mean([*self.scores.values()]))


def _played(shown: Evidence) -> tuple[Played, dict[float, list[Played]]]:
    """The clean games, and by size those of each attack, the strongest first; all on the same episodes: those that the
    clean games and every attack of LEAST_EPISODES or more of these have in common.

    What is strongest, `analysis.attackers.Strength` says.
    """
    clean = Played(shown.clean)
    attacks: dict[tuple[float, str], list[AttackRow]] = defaultdict(list)
    for row in shown.games:
        if _game(row) in clean.scores:
            attacks[row.epsilon, how(row)].append(row)
    episodes = {
        key: Played(tuple(rows)).scores.keys()
        for key, rows in attacks.items()
        if len({_game(row) for row in rows}) >= LEAST_EPISODES
    }
    common = set(clean.scores).intersection(*episodes.values())
    found: dict[float, list[Played]] = defaultdict(list)
    for epsilon, attack in episodes if len(common) >= LEAST_EPISODES else ():
        rows = attacks[epsilon, attack]
        found[epsilon].append(Played(tuple(row for row in rows if _game(row) in common)))
    for of_size in found.values():
        of_size.sort(key=lambda played: strength(played.rows), reverse=True)
    return Played(tuple(row for row in shown.clean if _game(row) in common)), found


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


# Gates -----------------------------------------------------------------------------------------------


def gates(shown: Evidence) -> tuple[Gate, ...]:
    """Every gate of a claim about one network."""
    return (
        _plays(shown),
        _white_box_leads(shown),
        _black_box_beats_noise(shown),
        _collapses(shown),
        _converged(shown),
        _gradients(shown),
        _rests_on_the_best(shown),
    )


def is_allowed(found: Sequence[Gate]) -> bool:
    """Whether any claim may be made."""
    return bool(found) and all(gate.outcome == "pass" for gate in found)


def _gate(name: str, failed: Sequence[str], missing: Sequence[str], passed: Sequence[str]) -> Gate:
    """Fail if anything failed; otherwise what is missing stands in the way."""
    if failed:
        return Gate(name, "fail", _first(failed))
    if missing or not passed:
        return Gate(
            name, "not measured", f"missing: {_first(missing)}" if missing else "nothing was measured"
        )
    return Gate(name, "pass", passed[0])


def _first(texts: Sequence[str]) -> str:
    return texts[0] + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else "")


def _plays(shown: Evidence) -> Gate:
    """An agent that plays no better than random play has nothing to lose."""
    name = "plays when nobody attacks"
    clean, _ = shown.played
    if len(clean.rows) < LEAST_EPISODES:
        return Gate(
            name, "not measured", f"{len(clean.rows)} clean games (epsilon 0); {LEAST_EPISODES} are needed"
        )
    (player, *_) = players(clean.rows)
    score = player.line.score
    numbers = f"clean score {scored(score)}"
    if player.line.random is None:
        return Gate(name, "not measured", f"{numbers}; no score of random play is known")
    numbers += f", random play {player.line.random:.2f}"
    return (
        Gate(name, "pass", numbers)
        if player.is_trained
        else Gate(name, "fail", f"{numbers}; {player.line.note}")
    )


def _white_box_leads(shown: Evidence) -> Gate:
    """Who knows the victim's weights can do whatever others can: if these do more, its gradient misleads."""
    rivals = [kind for kind in BOUNDED if kind != "white-box"]
    failed: list[tuple[float, str]] = []
    passed: list[tuple[float, str]] = []
    measured: dict[float, set[Kind]] = defaultdict(set)
    for (_, epsilon), cell in cells(shown.states).items():
        own = [row for row in cell if kind_of(row) == "white-box"]
        for rival in cell if own else ():
            if kind_of(rival) in rivals:
                measured[epsilon].add(kind_of(rival))
                lead, best = _closest(rival, own)
                (passed if _keeps_up(lead) else failed).append((lead, _beside(best, rival)))
    missing = [
        f"at {size(epsilon)} {', '.join(lacking)} beside white-box on {LEAST_STATES} states or more"
        for epsilon in shown.sizes
        if (lacking := [kind for kind in rivals if kind not in measured[epsilon]])
    ]
    return _ordered("white-box leads", shown, failed, missing, passed)


def _black_box_beats_noise(shown: Evidence) -> Gate:
    """A search that finds less than as many draws of noise do, judged by the same loss, is no witness; each kind of
    search by itself, for the better one of two has asked twice as often."""
    failed: list[tuple[float, str]] = []
    passed: list[tuple[float, str]] = []
    measured: set[float] = set()
    for (_, epsilon), cell in cells(shown.states).items():
        searches = [row for row in cell if kind_of(row) == "black-box"]
        for noise in (row for row in cell if kind_of(row) == "noise"):
            for search in searches:
                if _budget_and_loss(search) == _budget_and_loss(noise):
                    measured.add(epsilon)
                    lead = _lead(search, noise)
                    (passed if _keeps_up(lead) else failed).append((lead, _beside(search, noise)))
    missing = [
        f"at {size(epsilon)} noise of as many draws as a black-box attack asks, judged by its loss, on {LEAST_STATES} "
        "states or more"
        for epsilon in shown.sizes
        if epsilon not in measured
    ]
    return _ordered("black-box beats noise", shown, failed, missing, passed)


def _budget_and_loss(row: StateAttackRow) -> tuple[Any, Any]:
    """How often a victim is asked, and what its answers are judged by."""
    threat = threat_of(row)
    return threat.get("queries"), threat.get("loss")


def _ordered(
    name: str,
    shown: Evidence,
    failed: Sequence[tuple[float, str]],
    missing: Sequence[str],
    passed: Sequence[tuple[float, str]],
) -> Gate:
    """The gate of leads, of which the smallest is told."""
    closest = [f"closest: {text}" for _, text in sorted(passed)[:1]]
    return _gate(name, [text for _, text in sorted(failed)], missing, closest if shown.sizes else [])


def _closest(rival: StateAttackRow, rows: Sequence[StateAttackRow]) -> tuple[float, StateAttackRow]:
    """Of some attacks the one that leads a rival by most, on the states of both, and by how much (a share)."""
    leads = [_lead(row, rival) for row in rows]
    lead = max(leads)
    return lead, rows[leads.index(lead)]


def _lead(row: StateAttackRow, other: StateAttackRow) -> float:
    own, others = on_the_same_states(row, other)
    return float(own.mean() - others.mean())


def _keeps_up(lead: float) -> bool:
    """Whether an attack reaches another, but for the tolerance."""
    return round(lead + TOLERANCE, DIGITS) >= 0


def _as_strong(row: StateAttackRow, other: StateAttackRow) -> bool:
    """Whether one attack's success reaches another's on the states of both."""
    return _keeps_up(_lead(row, other))


def _beside(row: StateAttackRow, other: StateAttackRow) -> str:
    """What two attacks flip of the same states, and in how many of these only one of them succeeds."""
    own, others = on_the_same_states(row, other)
    return (
        f"at {size(row.epsilon)} flipped by {described(row)} {percent(share(own))}, by {described(other)} "
        f"{percent(share(others))}; by the first alone {(own & ~others).sum()}, by the second alone "
        f"{(others & ~own).sum()}"
    )


def _collapses(shown: Evidence) -> Gate:
    """At a size that allows any picture, the attack that knows the victim brings play down to that of chance: in games,
    or without these state by state, of the states that were attacked. Noise that does so tells nothing of it."""
    name = f"collapses at {COLLAPSE_EPSILON}"
    clean, played = shown.played
    led = [each for each in played.get(COLLAPSE_EPSILON, []) if kind_of(each.rows[0]) == "white-box"]
    random = reference(get_game(shown.network.game)).random
    if led and random is not None:
        least = min(led, key=lambda each: each.mean)  # whether any attack does
        score = mean_interval([*least.scores.values()])
        most = random + COLLAPSED * max(0.0, clean.mean - random)
        numbers = f"score {scored(score)} under {described(least.rows[0])}, random play {random:.2f}"
        return Gate(name, "pass" if score.estimate <= most else "fail", numbers)
    best = strongest([row for row in shown.states if row.epsilon == COLLAPSE_EPSILON], "white-box")
    if best is None:
        return Gate(
            name, "not measured", f"no white-box attack of epsilon {COLLAPSE_EPSILON} in games or on states"
        )
    chance = 1 - 1 / get_game(shown.network.game).num_actions
    attacked = best.attacked_share if best.attacked_share > 0 else 1.0
    n = round(best.num_states * attacked)
    share = share_interval(round(best.flip_share * best.num_states), n)
    numbers = f"{described(best)} flips {percent(share)}, a random action {100 * chance:.0f} %"
    return Gate(name, "pass" if _keeps_up(share.estimate - chance) else "fail", numbers)


def _converged(shown: Evidence) -> Gate:
    """Twice the iterations find hardly more, in every iterated attack that is as strong as the best."""
    failed: list[tuple[float, str]] = []
    passed: list[tuple[float, str]] = []
    measured: set[float] = set()
    for (_, epsilon), cell in cells(shown.states).items():
        best = strongest(cell, "white-box")
        if best is None:
            continue
        # A weak attack converges early: only one that is as strong as the best tells something.
        pairs = [
            (row, twice)
            for row, twice in _doublings(cell)
            if _as_strong(twice, best) and kind_of(row) == "white-box"
        ]
        if not pairs:
            continue
        measured.add(epsilon)
        for row, twice in pairs:
            change = round(twice.flip_share - row.flip_share, DIGITS)
            numbers = f"{_beside(twice, row)}, {100 * change:+.2f} points over half the steps"
            (passed if change < CONVERGED else failed).append((-change, numbers))
    missing = [
        f"at {size(epsilon)} no iterated attack as strong as the best, with as many states at half its steps"
        for epsilon in shown.sizes
        if epsilon not in measured
    ]
    largest = [f"largest change: {text}" for _, text in sorted(passed)[:1]]
    failures = [text for _, text in sorted(failed)]
    return _gate("iterations converged", failures, missing, largest if shown.sizes else [])


def _doublings(cell: Sequence[StateAttackRow]) -> Iterator[tuple[StateAttackRow, StateAttackRow]]:
    """Every iterated attack and the same with twice the steps on as many states; of each the longest such pair."""
    iterated: dict[tuple[str, int], dict[int, StateAttackRow]] = defaultdict(dict)
    for row in cell:
        steps = threat_of(row).get("steps") or 0
        if steps >= 2:
            iterated[how(row, "steps"), row.num_states][steps] = row
    for by_steps in iterated.values():
        longest = max((steps for steps in by_steps if 2 * steps in by_steps), default=None)
        if longest is not None:
            yield by_steps[longest], by_steps[2 * longest]


def _gradients(shown: Evidence) -> Gate:
    """Where the gradient is zero everywhere, an attack that follows it stands still."""
    failed, passed, measured = [], [], set()
    for (_, epsilon), cell in cells(shown.states).items():
        best = strongest(cell, "white-box")
        if best is None or not math.isfinite(best.zero_gradient_share):
            continue
        measured.add(epsilon)
        numbers = (
            f"at {size(epsilon)} zero on {100 * best.zero_gradient_share:.1f} % of states ({described(best)})"
        )
        if best.zero_gradient_share < VANISHED:
            passed.append((-best.zero_gradient_share, numbers))
        else:
            failed.append(f"{numbers}, less than {100 * VANISHED:.0f} % is asked")
    missing = [
        f"at {size(epsilon)} the share of states without a gradient under the best white-box attack"
        for epsilon in shown.sizes
        if epsilon not in measured
    ]
    most = [f"most: {text}" for _, text in sorted(passed)[:1]]
    return _gate("gradients are there", failed, missing, most if shown.sizes else [])


def _rests_on_the_best(shown: Evidence) -> Gate:
    """What was met in games is as strong, state by state, as the best white-box attack; and how much the usual FGSM
    along the training gradient misses is known too (the masking gap)."""
    name = "rests on the best attack"
    _, played = shown.played
    failed, missing, passed = [], [], []
    # On several sets of states the largest gap of a size counts.
    gaps = {gap.epsilon: gap.gap for gap in sorted(masking_gaps(shown.states), key=lambda gap: gap.gap)}
    for epsilon in shown.sizes:
        told = size(epsilon)
        if epsilon not in played:
            missing.append(
                f"at {told} no attack in {LEAST_EPISODES} games or more, on the episodes of the clean ones"
            )
            continue
        known = {how(each.rows[0]) for each in played[epsilon]}
        here = [cell for (_, other), cell in cells(shown.states).items() if other == epsilon]
        judged = False
        for cell in here:
            best = strongest(cell, "white-box")  # whether others do more is another gate's question
            met = strongest([row for row in cell if how(row) in known], *AIMED)
            if best is None or met is None:
                continue
            judged = True
            if not _as_strong(met, best):
                failed.append(f"in games {_beside(met, best)}")
        if not judged:
            missing.append(f"at {told} no attack of the games on {LEAST_STATES} states or more")
        elif epsilon not in gaps:
            missing.append(f"at {told} no masking gap: FGSM along the training gradient on the same states")
        else:
            gap = gaps[epsilon]
            passed.append((-gap.estimate, f"largest masking gap: at {told} {points(gap)}"))
    return _gate(name, failed, missing, [text for _, text in sorted(passed)[:1]])


# Comparisons -----------------------------------------------------------------------------------------


def compare(shown: Evidence, other: Evidence) -> Comparison:
    """One network held against another at every size that both met, or why they do not compare.

    Each is held under the attack that flips most of its decisions, so that neither looks the worse for having met more
    attacks, and the first must be better under every other attack that it met too. An attack on the other that was too
    weak only makes the other look better, so a claim asks for the gates of the network that it is about.
    """
    contrasts: list[Contrast] = []

    def refused(reason: str) -> Comparison:
        return Comparison(shown.network, other.network, (), reason)

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
    if not all(gate.outcome == "pass" for gate in (_plays(shown), _plays(other))):
        return refused(f"both must play better than random in {LEAST_EPISODES} clean games or more")
    common = sorted({*shown.sizes, *other.sizes} & played.keys() & others_played.keys())
    if not common:
        return refused("no size of attack was met by both in games, on the episodes of the clean ones")

    def scores(games: Played) -> np.ndarray:
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
    return Comparison(shown.network, other.network, tuple(contrasts), "")


def _on_the_same_states(
    rows: Sequence[StateAttackRow], others: Sequence[StateAttackRow], epsilon: float
) -> tuple[StateAttackRow, StateAttackRow] | None:
    """The strongest attacks of a size on both victims, on the largest set of states that was attacked in both."""

    def sets(rows: Sequence[StateAttackRow]) -> dict[tuple[int, Drawing], list[StateAttackRow]]:
        found: dict[tuple[int, Drawing], list[StateAttackRow]] = defaultdict(list)
        for row in rows:
            if row.epsilon == epsilon:
                found[row.num_states, drawing_of(row)].append(row)
        return found

    own, theirs = sets(rows), sets(others)
    for key in sorted(own.keys() & theirs.keys(), reverse=True):
        best, others_best = strongest(own[key], *BOUNDED), strongest(theirs[key], *BOUNDED)
        if best is not None and others_best is not None:
            return best, others_best
    return None


# Words -----------------------------------------------------------------------------------------------


def points(difference: Interval) -> str:
    """A difference of shares, as in "+12.0 points (+3.1 to +20.4, n = 512)"."""
    estimate, low, high = (100 * value for value in difference[:3])
    return f"{estimate:+.1f} points ({low:+.1f} to {high:+.1f}, n = {difference.n})"
