"""Gates before the word "robust". Never imports torch.

The gradients of a spiking network may vanish or mislead. An attack may then fail although its victim is weak
(Athalye et al. 2018, arXiv 1802.00420; Carlini et al. 2019, arXiv 1902.06705). Each gate asks for one symptom of that.
What was not measured never passes, and a single gate that does not pass forbids every
claim.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.attackers import (
    AIMED,
    BOUNDED,
    AttackerKind,
    cells,
    described,
    how,
    kind_of,
    masking_gaps,
    on_the_same_states,
    share,
    strongest,
    threat_of,
)
from analysis.evidence import COLLAPSE_EPSILON, LEAST_EPISODES, LEAST_STATES, Evidence
from analysis.players import players
from analysis.statistics import mean_interval, share_interval
from analysis.words import percent, points, scored, size
from core.games import get_game, reference
from core.rows import StateAttackRow

CONVERGED = 0.02
"""By less than this share of states may twice the iterations change success."""
TOLERANCE = 0.02
"""By no more than this share of the same states may an attack lag behind one that it should reach."""
COLLAPSED = 0.05
"""No more than this share of its clean score above random play may an agent keep where every agent must break down."""
VANISHED = 0.05
"""On less than this share of states may the gradient of the strongest attack be zero everywhere."""
DIGITS = 9
"""Differences of shares are rounded to so many before they are compared with a limit, on which they may lie."""

Outcome = Literal["pass", "fail", "not measured"]


@dataclass(frozen=True)
class Gate:
    """One condition of a claim."""

    name: str
    outcome: Outcome
    numbers: str
    """What was measured, or what is missing."""


def gates(shown: Evidence) -> tuple[Gate, ...]:
    """Every gate of a claim about one network."""
    return (
        plays(shown),
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


def plays(shown: Evidence) -> Gate:
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
    measured: dict[float, set[AttackerKind]] = defaultdict(set)
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
