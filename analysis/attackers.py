"""Who attacks, from rows alone: kinds of attackers, the strongest of each, and the masking gap. Never imports torch."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np

from analysis.statistics import Interval, share_difference, share_interval
from core import kinds
from core.errors import Refusal
from core.records import to_json
from core.rows import AttackRow, StateAttackRow

AttackerKind = Literal["clean", "white-box", "transfer", "black-box", "noise", "control"]
AIMED: tuple[AttackerKind, ...] = ("white-box", "transfer", "black-box")
"""Kinds that seek what changes a choice; noise does not."""
BOUNDED: tuple[AttackerKind, ...] = (*AIMED, "noise")
"""Kinds that keep to the l_inf ball, so that attacks of one size compare."""
OF_ATTACK: Mapping[str, AttackerKind] = {
    "none": "clean",
    **dict.fromkeys(("random-sign", "uniform", "gaussian"), "noise"),
    **dict.fromkeys(("spsa", "square"), "black-box"),
    **dict.fromkeys(("occlusion", "brightness"), "control"),
}
"""Attacks without a gradient, for rows from before there was a column `attacker`."""
SOURCE_WEIGHTS = "relu, weights before conversion"
"""What stands for spikes in the DQN that a network was converted from, where its gradient is followed."""
SETTING = ("scope", "eight_bit", "frequency")
"""What of a threat says what the attacker may do; the rest says how it goes about it. Attacks compare within one."""
OF_A_RUN = ("epsilon", "step_size", "gap_threshold", "seed")
"""What of a threat two runs of one attack may differ in: a step size belongs to a size, a threshold to a frequency."""


@dataclass(frozen=True, order=True)
class Victim:
    """One network that was attacked."""

    game: str
    agent: str
    train_seed: int
    train_steps: int
    variant: str
    checkpoint_id: str
    sim_steps: int = field(compare=False)
    """The most that were met: a network that may stop early is one network, whatever it took."""

    @property
    def name(self) -> str:
        """As in "DSQN (seed 0, 500,000 decisions, 4 sim steps, 3f0a91c2d4e5)"."""
        parts = (
            self.variant,
            f"seed {self.train_seed}" if self.train_seed >= 0 else "imported",
            f"{self.train_steps:,} decisions" if self.train_steps >= 0 else "",
            f"{self.sim_steps} sim steps" if self.sim_steps else "",
            self.checkpoint_id,
        )
        return f"{kinds.label(self.agent)} ({', '.join(filter(None, parts))})"


@dataclass(frozen=True)
class MaskingGap:
    """How much of an attack's success the usual attack misses, on the same states and at the same size."""

    epsilon: float
    best: StateAttackRow
    """The one that does most beyond the usual one, of all: the victim's gradient, another's, queries, noise."""
    usual: StateAttackRow
    """FGSM along the gradient that trained the victim."""
    flips: Interval
    """Share of the states of both that the best flipped, and ..."""
    usual_flips: Interval
    """... that the usual one did."""
    gap: Interval
    """Their difference. It is the largest of many, which its interval does not know."""
    iterated: StateAttackRow
    """The most successful attack along the gradient of the usual one: what more steps and starts alone are worth."""


def network_of(row: AttackRow | StateAttackRow) -> Victim:
    """Whom a row's attack was on."""
    return Victim(**{each.name: getattr(row, each.name) for each in fields(Victim)})


def kind_of(row: AttackRow | StateAttackRow) -> AttackerKind:
    """What an attacker knows of its victim: what the row says, or for older rows what its attack's name implies.

    Raises:
        Refusal: an unknown kind of attacker, or an older row whose attack needs a gradient and names none.
    """
    if row.attacker:
        if row.attacker not in get_args(AttackerKind):
            raise Refusal(
                f"attacker {row.attacker!r} is unknown: accepted are {', '.join(get_args(AttackerKind))}"
            )
        return cast(AttackerKind, row.attacker)
    if row.attack in OF_ATTACK:
        return OF_ATTACK[row.attack]
    if not row.gradient_source:
        raise Refusal(
            f"attack {row.attack!r} follows no gradient: known without one are {', '.join(OF_ATTACK)}"
        )
    return "transfer" if row.gradient_source.startswith("transfer:") else "white-box"


def threat_of(row: AttackRow | StateAttackRow) -> dict[str, Any]:
    """A row's threat model; refused as `made` refuses it."""
    return _parsed(row.threat)


def _parsed(threat: str) -> dict[str, Any]:
    try:
        parsed = json.loads(threat)
    except json.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Refusal(f"threat {threat!r} is no JSON object")
    return parsed


def setting_of(row: AttackRow | StateAttackRow) -> str:
    """JSON: what the attacker may do."""
    threat = threat_of(row)
    return to_json({name: threat[name] for name in SETTING if name in threat})


def how(row: AttackRow | StateAttackRow, *without: str) -> str:
    """`made` of a row's threat."""
    return made(row.threat, *without)


def made(threat: str, *without: str) -> str:
    """JSON: how the attack of a threat (JSON) is made, whatever its size, less what is named.

    Raises:
        Refusal: the threat is no JSON object.
    """
    return to_json(
        {name: value for name, value in _parsed(threat).items() if name not in (*OF_A_RUN, *without)}
    )


def described(row: AttackRow | StateAttackRow) -> str:
    """As in "pgd (margin, 50 steps, 2 restarts) through own-surrogate (atan slope 2)"."""
    threat = threat_of(row)
    counts = [f"{threat[name]} {name}" for name in ("steps", "restarts") if threat.get(name, 0) > 1]
    if kind_of(row) == "noise" and threat.get("queries", 0) > 1:
        counts.append(f"worst of {threat['queries']}")
    loss = threat.get("loss", "") if kind_of(row) in AIMED else ""
    details = ", ".join(filter(None, [loss, *counts]))
    text = row.attack + (f" ({details})" if details else "")
    text += f" through {row.gradient_source}" if row.gradient_source else ""
    return text + (f" ({threat['surrogate']})" if threat.get("surrogate") else "")


def flips(row: StateAttackRow) -> Interval:
    """The share of states that an attack flipped, with its binomial interval."""
    return share_interval(round(row.flip_share * row.num_states), row.num_states)


def flipped(row: StateAttackRow) -> np.ndarray:
    """[S] bool: which states an attack flipped.

    Raises:
        Refusal: the row does not tell.
    """
    bits = np.frombuffer(bytes.fromhex(row.flipped), dtype=np.uint8)
    if len(bits) != -(-row.num_states // 8):
        raise Refusal(
            f"{network_of(row).name}: {row.attack} of epsilon {row.epsilon:g} tells of {8 * len(bits)} states which of "
            f"them it flipped; {row.num_states} were attacked"
        )
    return np.unpackbits(bits, count=row.num_states).astype(bool)


def on_the_same_states(row: StateAttackRow, other: StateAttackRow) -> tuple[np.ndarray, np.ndarray]:
    """Which of the states that both met, of one drawing the first ones, each of two attacks flipped: [n] bool."""
    n = min(row.num_states, other.num_states)
    return flipped(row)[:n], flipped(other)[:n]


class AttackStrength(NamedTuple):
    """What orders attacks on one network in the same games: the largest is the strongest.

    Scores come second: of few games each, the lowest of several means is the most unlucky one as soon as the worst.
    """

    flipped: float
    """Share of all decisions whose greedy action was changed."""
    loss: float
    """Minus the mean score."""


def strength(rows: Iterable[AttackRow]) -> AttackStrength:
    """Of one attack, by its games."""
    each = [(row.flip_share * row.length_steps, row.length_steps, row.score) for row in rows]
    flips, decisions, score = map(sum, zip(*each, strict=True))
    return AttackStrength(float(flips / decisions), float(-score / len(each)))


def share(those: np.ndarray) -> Interval:
    """The share of n states that are among those, [n] bool, with its binomial interval."""
    return share_interval(int(those.sum()), len(those))


def strongest(rows: Iterable[StateAttackRow], *kinds: AttackerKind) -> StateAttackRow | None:
    """The row of some kinds that flips most; of equal ones that with the most states, then the first."""
    return max((row for row in rows if kind_of(row) in kinds), key=_success, default=None)


def _success(row: StateAttackRow) -> tuple[float, int]:
    return row.flip_share, row.num_states


def follows_training_gradient(row: AttackRow | StateAttackRow) -> bool:
    """Whether an attack follows the gradient that trained its victim. The DQN that a converted network came from has
    other weights, and its gradient is another one."""
    return (
        row.gradient_source == kinds.kind_of(row.agent).training_gradient
        and threat_of(row).get("surrogate") != SOURCE_WEIGHTS
    )


def is_usual(row: AttackRow | StateAttackRow) -> bool:
    """Whether an attack is FGSM along the gradient that trained its victim."""
    return row.attack == "fgsm" and follows_training_gradient(row)


class StateSample(NamedTuple):
    """Where attacked states are from: rows of one drawing are of the same states, or of the first of them."""

    states_of: str
    seed: int
    drawn_states: int


def sample_of(row: StateAttackRow) -> StateSample:
    """Of which states a row is."""
    return StateSample(row.states_of, row.seed, row.drawn_states)


def cells(rows: Iterable[StateAttackRow]) -> dict[tuple[StateSample, float], list[StateAttackRow]]:
    """Rows by the states that were attacked and size, in order of size."""
    found: dict[tuple[StateSample, float], list[StateAttackRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.epsilon, sample_of(row))):
        found[sample_of(row), row.epsilon].append(row)
    return dict(found)


def masking_gaps(rows: Sequence[StateAttackRow]) -> list[MaskingGap]:
    """The masking gap at every size at which the usual attack was made, over all attacks beside it.

    Args:
        rows: of one network under one setting.

    Returns:
        In order of size; of several usual attacks of a size (other losses) the most successful one counts.
    """
    found = []
    for (_, epsilon), cell in cells(rows).items():
        usual = strongest(filter(is_usual, cell), "white-box")
        if usual is None:
            continue
        along = [row for row in cell if follows_training_gradient(row)]
        pairs = [(row, *on_the_same_states(row, usual)) for row in cell if kind_of(row) in BOUNDED]
        best, own, usuals = max(pairs, key=lambda pair: pair[1].mean() - pair[2].mean())
        found.append(
            MaskingGap(
                epsilon,
                best,
                usual,
                share(own),
                share(usuals),
                share_difference(own, usuals),
                max(along, key=_success),
            )
        )
    return found
