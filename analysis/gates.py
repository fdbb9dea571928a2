"""Gates that must pass before an agent may be called robust. Never imports torch.

The gradients of a spiking network may vanish or mislead. An attack may then fail although its victim is weak
(Athalye et al. 2018, arXiv 1802.00420; Carlini et al. 2019, arXiv 1902.06705). Each gate checks for one symptom of
this. A gate that was not measured does not pass. One gate that does not pass forbids every claim.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
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
from analysis.evidence import COLLAPSE_EPSILON, LEAST_STATES, Evidence
from analysis.players import players
from analysis.statistics import LEAST_EPISODES, mean_interval, share_interval
from analysis.words import percent, points, scored, size
from core.games import get_game, reference
from core.rows import StateAttackRow

CONVERGED = 0.02
"""Twice the iterations must change success by less than this share of states."""
TOLERANCE = 0.02
"""An attack that should be at least as strong as another may flip fewer states by at most this share."""
COLLAPSED = 0.05
"""At COLLAPSE_EPSILON an agent may keep at most this share of its clean score above random play."""
VANISHED = 0.05
"""The gradient of the strongest attack must be zero everywhere on less than this share of states."""
DIGITS = 9
"""Differences of shares are rounded to this many digits before they are compared with a limit."""

Outcome = Literal["pass", "fail", "not measured"]


@dataclass(frozen=True)
class Gate:
    """One condition of a claim, and whether it holds."""

    name: str
    outcome: Outcome
    numbers: str
    """The measurement in words, or what is missing."""


def gates(shown: Evidence) -> tuple[Gate, ...]:
    """All gates for claims about one network."""
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
    """Whether claims may be made: every gate passed."""
    return bool(found) and all(gate.outcome == "pass" for gate in found)


def _gate(name: str, failed: Sequence[str], missing: Sequence[str], passed: Sequence[str]) -> Gate:
    """A gate that fails if anything failed, and is not measured if anything is missing."""
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
    """The agent must play better than random. Otherwise an attack has nothing to take away."""
    name = "plays when nobody attacks"
    clean, _ = shown.played
    if len(clean.rows) < LEAST_EPISODES:
        return Gate(
            name, "not measured", f"{len(clean.rows)} clean games (epsilon 0), {LEAST_EPISODES} are needed"
        )
    (player, *_) = players(clean.rows)
    score = player.line.score
    numbers = f"clean score {scored(score)}"
    if player.line.random is None:
        return Gate(name, "not measured", f"{numbers}; the score of random play is unknown")
    numbers += f", random play {player.line.random:.2f}"
    return (
        Gate(name, "pass", numbers)
        if player.is_trained
        else Gate(name, "fail", f"{numbers}; {player.line.note}")
    )


def _white_box_leads(shown: Evidence) -> Gate:
    """White-box attacks must be the strongest, because they know most. If others flip more, the gradient misleads."""
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
                (passed if _keeps_up(lead) else failed).append((lead, _compared(best, rival)))
    missing = [
        f"at {size(epsilon)} {', '.join(lacking)} and white-box on the same {LEAST_STATES} states or more"
        for epsilon in shown.sizes
        if (lacking := [kind for kind in rivals if kind not in measured[epsilon]])
    ]
    return _ordered("white-box leads", shown, failed, missing, passed)


def _black_box_beats_noise(shown: Evidence) -> Gate:
    """A black-box search must flip at least as much as noise with as many draws and the same loss.

    Each search is judged by itself. The better one of two searches would have used twice the queries.
    """
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
                    (passed if _keeps_up(lead) else failed).append((lead, _compared(search, noise)))
    missing = _lacking(
        shown,
        measured,
        f"a black-box attack and noise with as many queries and the same loss, on {LEAST_STATES} states or more",
    )
    return _ordered("black-box beats noise", shown, failed, missing, passed)


def _budget_and_loss(row: StateAttackRow) -> tuple[Any, Any]:
    """The number of queries of an attack and the loss that it uses."""
    threat = threat_of(row)
    return threat.get("queries"), threat.get("loss")


def _ordered(
    name: str,
    shown: Evidence,
    failed: Sequence[tuple[float, str]],
    missing: Sequence[str],
    passed: Sequence[tuple[float, str]],
    word: str = "closest",
) -> Gate:
    """A gate made of numbers with their texts. The smallest of those that passed is reported, after a word for it."""
    closest = [f"{word}: {text}" for _, text in sorted(passed)[:1]]
    return _gate(name, [text for _, text in sorted(failed)], missing, closest if shown.sizes else [])


def _lacking(shown: Evidence, measured: Set[float], text: str) -> list[str]:
    """What is missing at each size that was not measured."""
    return [f"at {size(epsilon)} {text}" for epsilon in shown.sizes if epsilon not in measured]


def _closest(rival: StateAttackRow, rows: Sequence[StateAttackRow]) -> tuple[float, StateAttackRow]:
    """The largest lead over a rival (a share of the common states), and the attack that has it."""
    leads = [_lead(row, rival) for row in rows]
    lead = max(leads)
    return lead, rows[leads.index(lead)]


def _lead(row: StateAttackRow, other: StateAttackRow) -> float:
    """The share of the common states that one attack flips, minus the other's share."""
    own, others = on_the_same_states(row, other)
    return float(own.mean() - others.mean())


def _keeps_up(lead: float) -> bool:
    """Whether an attack with this lead is as strong as its rival, within the tolerance."""
    return round(lead + TOLERANCE, DIGITS) >= 0


def _as_strong(row: StateAttackRow, other: StateAttackRow) -> bool:
    """Whether one attack is as strong as another on their common states, within the tolerance."""
    return _keeps_up(_lead(row, other))


def _compared(row: StateAttackRow, other: StateAttackRow) -> str:
    """What two attacks flip of their common states, and on how many states only one of them succeeds."""
    own, others = on_the_same_states(row, other)
    return (
        f"at {size(row.epsilon)} {described(row)} flips {percent(share(own))}, {described(other)} "
        f"{percent(share(others))}; states flipped only by the first {(own & ~others).sum()}, only by the second "
        f"{(others & ~own).sum()}"
    )


def _collapses(shown: Evidence) -> Gate:
    """At COLLAPSE_EPSILON, which allows any image, a white-box attack must reduce play to chance.

    This is judged in games, or on the attacked states if there are no games. Noise does not count: its success says
    nothing about the attack.
    """
    name = f"collapses at {COLLAPSE_EPSILON}"
    clean, played = shown.played
    led = [each for each in played.get(COLLAPSE_EPSILON, []) if kind_of(each.rows[0]) == "white-box"]
    random = reference(get_game(shown.network.game)).random
    if led and random is not None:
        least = min(led, key=lambda each: each.mean)  # One successful attack is enough.
        score = mean_interval([*least.scores.values()])
        most = random + COLLAPSED * max(0.0, clean.mean - random)
        numbers = f"score {scored(score)} under {described(least.rows[0])}, random play {random:.2f}"
        return Gate(name, "pass" if score.estimate <= most else "fail", numbers)
    best = strongest([row for row in shown.states if row.epsilon == COLLAPSE_EPSILON], "white-box")
    if best is None:
        return Gate(
            name, "not measured", f"no white-box attack at epsilon {COLLAPSE_EPSILON} in games or on states"
        )
    chance = 1 - 1 / get_game(shown.network.game).num_actions
    attacked = best.attacked_share if best.attacked_share > 0 else 1.0
    n = round(best.num_states * attacked)
    flipped = share_interval(round(best.flip_share * best.num_states), n)
    numbers = f"{described(best)} flips {percent(flipped)}, a random action would flip {100 * chance:.0f} %"
    return Gate(name, "pass" if _keeps_up(flipped.estimate - chance) else "fail", numbers)


def _converged(shown: Evidence) -> Gate:
    """Twice the iterations must find hardly more, for every iterated attack that is as strong as the best attack."""
    failed: list[tuple[float, str]] = []
    passed: list[tuple[float, str]] = []
    measured: set[float] = set()
    for (_, epsilon), cell in cells(shown.states).items():
        best = strongest(cell, "white-box")
        if best is None:
            continue
        # Weak attacks converge early, so only those as strong as the best are judged.
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
            numbers = f"{_compared(twice, row)}; {100 * change:+.2f} points with twice the steps"
            (passed if change < CONVERGED else failed).append((-change, numbers))
    text = "an iterated attack as strong as the best, with half its steps on as many states"
    missing = _lacking(shown, measured, text)
    return _ordered("iterations converged", shown, failed, missing, passed, "largest change")


def _doublings(cell: Sequence[StateAttackRow]) -> Iterator[tuple[StateAttackRow, StateAttackRow]]:
    """Pairs of an iterated attack and the same attack with twice the steps, on as many states.

    For each attack only the pair with the most steps is given.
    """
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
    """The gradient of the best white-box attack must rarely be zero everywhere, where the attack cannot move."""
    failed: list[tuple[float, str]] = []
    passed: list[tuple[float, str]] = []
    measured: set[float] = set()
    for (_, epsilon), cell in cells(shown.states).items():
        best = strongest(cell, "white-box")
        if best is None or not math.isfinite(best.zero_gradient_share):
            continue
        measured.add(epsilon)
        vanished = f"{100 * best.zero_gradient_share:.1f} % of states"
        numbers = f"at {size(epsilon)} zero gradient on {vanished} ({described(best)})"
        if best.zero_gradient_share < VANISHED:
            passed.append((-best.zero_gradient_share, numbers))
        else:
            required = f"less than {100 * VANISHED:.0f} % is required"
            failed.append((-best.zero_gradient_share, f"{numbers}, but {required}"))
    text = "the share of states with zero gradient under the best white-box attack"
    missing = _lacking(shown, measured, text)
    return _ordered("gradients are there", shown, failed, missing, passed, "most")


def _rests_on_the_best(shown: Evidence) -> Gate:
    """On states, an attack used in games must be as strong as the best white-box attack.

    The masking gap must be known too: how much the usual FGSM along the training gradient misses.
    """
    name = "rests on the best attack"
    _, played = shown.played
    failed, missing, passed = [], [], []
    # If there are several sets of states, the largest gap of each size counts.
    gaps = {gap.epsilon: gap.gap for gap in sorted(masking_gaps(shown.states), key=lambda gap: gap.gap)}
    for epsilon in shown.sizes:
        at_size = size(epsilon)
        if epsilon not in played:
            missing.append(
                f"at {at_size} an attack in {LEAST_EPISODES} games or more, on the episodes of the clean games"
            )
            continue
        known = {how(each.rows[0]) for each in played[epsilon]}
        here = [cell for (_, other), cell in cells(shown.states).items() if other == epsilon]
        judged = False
        for cell in here:
            best = strongest(cell, "white-box")  # Another gate compares it with other kinds.
            met = strongest([row for row in cell if how(row) in known], *AIMED)
            if best is None or met is None:
                continue
            judged = True
            if not _as_strong(met, best):
                failed.append(f"in games {_compared(met, best)}")
        if not judged:
            missing.append(f"at {at_size} an attack of the games on {LEAST_STATES} states or more")
        elif epsilon not in gaps:
            missing.append(f"at {at_size} FGSM along the training gradient on the same states (masking gap)")
        else:
            gap = gaps[epsilon]
            passed.append((-gap.estimate, f"largest masking gap: at {at_size} {points(gap)}"))
    return _gate(name, failed, missing, [text for _, text in sorted(passed)[:1]])
