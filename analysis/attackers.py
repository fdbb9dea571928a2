"""Classify attacks from their rows: kinds of attackers, the strongest attacks, the masking gap. Never imports torch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np

from analysis.statistics import Interval, share_difference, share_interval
from core import kinds
from core.errors import Refusal, shown
from core.reading import parse_json
from core.records import to_json
from core.rows import AttackRow, StateAttackRow

AttackerKind = Literal["clean", "white-box", "transfer", "black-box", "noise", "control"]
AIMED: tuple[AttackerKind, ...] = ("white-box", "transfer", "black-box")
"""Kinds that search for a perturbation that changes the action. Noise does not search."""
BOUNDED: tuple[AttackerKind, ...] = (*AIMED, "noise")
"""Kinds that stay within the l_inf ball, so attacks of equal size compare."""
OF_ATTACK: Mapping[str, AttackerKind] = {
    "none": "clean",
    **dict.fromkeys(("random-sign", "uniform", "gaussian"), "noise"),
    **dict.fromkeys(("spsa", "square"), "black-box"),
    **dict.fromkeys(("occlusion", "brightness"), "control"),
}
"""Kinds of the attacks without a gradient. Needed for older rows, which have no column `attacker`."""
SOURCE_WEIGHTS = "relu, weights before conversion"
"""The value of `surrogate` in threats that follow the gradient of the DQN that a network was converted from."""
SETTING = ("scope", "eight_bit", "frequency")
"""Fields of a threat that say what the attacker may do. Only attacks with equal settings compare."""
OF_A_RUN = ("epsilon", "step_size", "gap_threshold", "seed")
"""Fields of a threat in which two runs of the same attack may differ.

The step size depends on epsilon, and the threshold on the frequency of attacks.
"""


@dataclass(frozen=True, order=True)
class Victim:
    """An attacked network."""

    game: str
    agent: str
    train_seed: int
    train_steps: int
    variant: str
    checkpoint_id: str
    sim_steps: int = field(compare=False)
    """The largest number in the rows. It identifies no network, because a network may stop early."""

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
    """How much more the best attack flips than the usual attack, on the same states and at the same size."""

    epsilon: float
    best: StateAttackRow
    """The attack of any kind that flips the most beyond the usual one."""
    usual: StateAttackRow
    """FGSM along the gradient that trained the victim."""
    flips: Interval
    """Share of the common states that the best attack flipped."""
    usual_flips: Interval
    """Share of the common states that the usual attack flipped."""
    gap: Interval
    """`flips` minus `usual_flips`. The interval ignores that the best attack was selected among many."""
    iterated: StateAttackRow
    """The best attack along the training gradient. It shows what more steps and restarts alone achieve."""


def network_of(row: AttackRow | StateAttackRow) -> Victim:
    """The network that a row's attack was made on."""
    return Victim(**{each.name: getattr(row, each.name) for each in fields(Victim)})


def kind_of(row: AttackRow | StateAttackRow) -> AttackerKind:
    """The kind of a row's attacker: its column `attacker`, or for older rows the kind implied by the attack's name.

    Raises:
        Refusal: the kind is unknown, or an older row has an unknown attack without a gradient source.
    """
    if row.attacker:
        if row.attacker not in get_args(AttackerKind):
            raise Refusal(f"unknown attacker {row.attacker!r}: known are {', '.join(get_args(AttackerKind))}")
        return cast(AttackerKind, row.attacker)
    if row.attack in OF_ATTACK:
        return OF_ATTACK[row.attack]
    if not row.gradient_source:
        raise Refusal(
            f"attack {row.attack!r} follows no gradient: known attacks without one are {', '.join(OF_ATTACK)}"
        )
    return "transfer" if row.gradient_source.startswith("transfer:") else "white-box"


def threat_of(row: AttackRow | StateAttackRow) -> dict[str, Any]:
    """The threat model of a row.

    Raises:
        Refusal: the threat is not a JSON object.
    """
    return _parsed(row.threat)


def _parsed(threat: str) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = parse_json(threat, not_finite=True)
    except Refusal:
        raise Refusal(f"threat {shown(threat)} is not a JSON object")
    return parsed


def setting_of(row: AttackRow | StateAttackRow) -> str:
    """What the attacker may do (see SETTING), as JSON."""
    threat = threat_of(row)
    return to_json({name: threat[name] for name in SETTING if name in threat})


def how(row: AttackRow | StateAttackRow, *without: str) -> str:
    """How a row's attack was made; see `made`."""
    return made(row.threat, *without)


def made(threat: str, *without: str) -> str:
    """How an attack was made, whatever its size: the threat without the fields of OF_A_RUN, as JSON.

    Args:
        threat: JSON.
        without: more fields to leave out.

    Raises:
        Refusal: the threat is not a JSON object.
    """
    return to_json(
        {name: value for name, value in _parsed(threat).items() if name not in (*OF_A_RUN, *without)}
    )


def described(row: AttackRow | StateAttackRow) -> str:
    """An attack in words, as in "pgd (margin, 50 steps, 2 restarts) through own-surrogate (atan slope 2)"."""
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
    """Which of the attacked states changed their greedy action: [S] bool.

    Raises:
        Refusal: the row does not hold one bit for each state.
    """
    bits = np.frombuffer(bytes.fromhex(row.flipped), dtype=np.uint8)
    if len(bits) != -(-row.num_states // 8):
        raise Refusal(
            f"{network_of(row).name}: {row.attack} at epsilon {row.epsilon:g} holds flips of {8 * len(bits)} states, "
            f"but {row.num_states} were attacked"
        )
    return np.unpackbits(bits, count=row.num_states).astype(bool)


def on_the_same_states(row: StateAttackRow, other: StateAttackRow) -> tuple[np.ndarray, np.ndarray]:
    """Which states each of two attacks flipped, over the n states that both attacked: two arrays [n] bool.

    Both rows must be of the same drawing of states. The shorter row is of its first states.
    """
    n = min(row.num_states, other.num_states)
    return flipped(row)[:n], flipped(other)[:n]


class AttackStrength(NamedTuple):
    """Orders attacks on one network in the same games. The largest is the strongest.

    Flipped decisions come before scores. Over few games, the lowest of several mean scores may just be bad luck.
    """

    flipped: float
    """Share of all decisions whose greedy action was changed."""
    loss: float
    """Minus the mean score."""


def strength(rows: Iterable[AttackRow]) -> AttackStrength:
    """The strength of one attack, from its games."""
    each = [(row.flip_share * row.length_steps, row.length_steps, row.score) for row in rows]
    flips, decisions, score = map(sum, zip(*each, strict=True))
    return AttackStrength(float(flips / decisions), float(-score / len(each)))


def share(those: np.ndarray) -> Interval:
    """The share of n states that are true in `those`, [n] bool, with its binomial interval."""
    return share_interval(int(those.sum()), len(those))


def strongest(rows: Iterable[StateAttackRow], *kinds: AttackerKind) -> StateAttackRow | None:
    """The row of some kinds that flips the largest share of states. Ties go to more states, then to the first row."""
    return max((row for row in rows if kind_of(row) in kinds), key=_success, default=None)


def _success(row: StateAttackRow) -> tuple[float, int]:
    return row.flip_share, row.num_states


def follows_training_gradient(row: AttackRow | StateAttackRow) -> bool:
    """Whether an attack follows the gradient that trained its victim.

    The gradient of a converted network's source DQN does not count, because conversion changes the weights.
    """
    return (
        row.gradient_source == kinds.kind_of(row.agent).training_gradient
        and threat_of(row).get("surrogate") != SOURCE_WEIGHTS
    )


def is_usual(row: AttackRow | StateAttackRow) -> bool:
    """Whether an attack is FGSM along the gradient that trained its victim."""
    return row.attack == "fgsm" and follows_training_gradient(row)


class StateSample(NamedTuple):
    """The drawing that attacked states come from. Rows of one drawing share their first states."""

    states_of: str
    seed: int
    drawn_states: int


def sample_of(row: StateAttackRow) -> StateSample:
    """The drawing that a row's states come from."""
    return StateSample(row.states_of, row.seed, row.drawn_states)


def cells(rows: Iterable[StateAttackRow]) -> dict[tuple[StateSample, float], list[StateAttackRow]]:
    """Rows grouped by drawing of states and by size, in order of size."""
    found: dict[tuple[StateSample, float], list[StateAttackRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.epsilon, sample_of(row))):
        found[sample_of(row), row.epsilon].append(row)
    return dict(found)


def masking_gaps(rows: Sequence[StateAttackRow]) -> list[MaskingGap]:
    """The masking gap at every size for which the usual attack was made.

    Args:
        rows: of one network in one setting.

    Returns:
        Gaps in order of size. If several usual attacks have one size (with different losses), the best one counts.
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
