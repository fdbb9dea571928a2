"""Threat models: who perturbs what, how much, and knowing what.

A threat model is a value. The attack is made from it, and every row carries it whole, so no row can claim another one.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, Self

from adversarial.attack import ATTACKS, Attack
from adversarial.ranges import Epsilon, Frequency
from analysis.attackers import AttackerKind
from core.choices import SCOPES, Scope
from core.errors import Refusal, shown
from core.games import Game
from core.options import checked
from core.ranges import Real, Seed, Whole, require, require_ranges
from core.reading import parse_json
from core.records import to_json

CLEAN = "none"
"""The attack that rows of clean games name."""
TRANSFER = "transfer:"
"""How the name of a gradient source begins that is another agent's."""

FIRST_VERSION: Mapping[str, Any] = {
    "loss": "",
    "norm": "l_inf",
    "targeted": False,
    "steps": 0,
    "step_size": 0.0,
    "momentum": 0.0,
    "random_start": False,
    "restarts": 0,
    "queries": 0,
}
"""Options of attacks that rows always tell, and what stands there for an attack without the option."""
FIRST_FIELDS = (
    "epsilon", "bounds", "scope", "eight_bit", "gradient_source", "surrogate", "sim_steps", "frequency",
    "gap_threshold", "seed",
)  # fmt: skip
"""Fields of `Threat` that rows always tell, beside the attack."""


@dataclass(frozen=True)
class Threat:
    """One threat model. `make_threat` makes the usual one of an attack.

    Raises:
        Refusal: a value is out of range.
    """

    attack: Attack | None
    """What is done, with its options; None for the clean game."""
    epsilon: Epsilon
    """Size of the attack in the game's scale (core/games.py), which is 1 for pixels.

    It is the radius of the l_inf ball; of brightness the shift, of occlusion the share of the frame that is covered.
    """
    bounds: str = ""
    """Lowest and highest value of the perturbed inputs, and the unit of epsilon where it is not 1."""
    scope: Scope = "whole-stack"
    eight_bit: bool = False
    """Whether perturbed inputs are rounded to the grey levels that a screen can show."""
    gradient_source: str = ""
    """Whose gradient is followed (adversarial/sources.py); empty for attacks that follow none."""
    surrogate: str = ""
    """Surrogate family and width of that gradient, if it has one."""
    sim_steps: Annotated[int, Whole(0, 10_000)] = 0
    """Simulation steps that the gradient goes through; 0 without time."""
    frequency: Frequency = 1.0
    """Share of decisions that are attacked: those in which most is at stake."""
    gap_threshold: Annotated[float, Real(0)] = 0.0
    """Least gap of the clean scores at which a decision is attacked; see adversarial/timing.py."""
    seed: Seed = 0
    """Seed of the attack's randomness, from which every episode or state has its own."""

    def __post_init__(self) -> None:
        require_ranges(self)
        if self.scope not in SCOPES:
            raise Refusal(f"scope {self.scope!r}: accepted are {', '.join(SCOPES)}")

    @property
    def name(self) -> str:
        """Name of the attack, as rows tell it."""
        return CLEAN if self.attack is None else self.attack.name

    @property
    def attacker(self) -> AttackerKind:
        """What the attacker knows of the victim, as rows tell it."""
        if self.attack is None:
            return "clean"
        return "transfer" if self.gradient_source.startswith(TRANSFER) else self.attack.kind

    @property
    def queries(self) -> int:
        """How often an attack by scores asks the victim about each state, at most; 0 for attacks by gradients.

        Those of several steps or starts ask too, about every iterate, to show the worst.
        """
        return int(self.record["queries"])

    @property
    def label(self) -> str:
        """The threat model in a few words, for progress lines."""
        source = f" through {self.gradient_source}" if self.gradient_source else ""
        surrogate = f" ({self.surrogate})" if self.surrogate else ""
        attack = CLEAN if self.attack is None else self.attack.label
        return f"{attack}{source}{surrogate} epsilon {self.epsilon:.4g}"

    @functools.cached_property
    def record(self) -> Mapping[str, Any]:
        """What rows tell of the threat model, as JSON-able values.

        Rows of one attack must stay comparable when a later version adds an option or a field. So what the first rows
        held is always here, and anything added since only where it differs from its default.
        """
        own: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        record = {"attack": self.name, **FIRST_VERSION, **_told(own, fields(self), FIRST_FIELDS)}
        if self.attack is not None:
            options = self.attack.recorded(self.epsilon)
            record |= _told(options, fields(self.attack), tuple(FIRST_VERSION))
        return record

    @functools.cached_property
    def key(self) -> str:
        """The record as JSON: equal threat models have equal keys."""
        return to_json(self.record)

    @classmethod
    def from_key(cls, key: str) -> Self:
        """The threat model of a row, so that its attack can be made again.

        Args:
            key: the row's JSON.

        Raises:
            Refusal: it is no threat model, or its attack or an option is not known.
        """
        try:
            record = parse_json(key)
        except Refusal:
            record = {}
        if not isinstance(record.get("attack"), str):
            raise Refusal(f"threat {shown(key)} is not the JSON of a threat model")
        what = f"threat {record['attack']!r}"
        attack = None
        if record["attack"] != CLEAN:
            attack_type = ATTACKS[record["attack"]]
            attack = attack_type(**checked(attack_type, _picked(record, attack_type), what))
        threat = cls(**checked(cls, {**_picked(record, cls), "attack": attack}, what))
        if threat.key != key:
            raise Refusal(f"threat {shown(key)} holds values that this version does not know")
        return threat


def _told(
    values: Mapping[str, Any], declared: tuple[Field[Any], ...], always: tuple[str, ...]
) -> dict[str, Any]:
    """Values that are always told, and others where they differ from their field's default."""
    defaults = {each.name: each.default for each in declared}
    return {
        name: value
        for name, value in values.items()
        if name != "attack" and (name in always or value != defaults.get(name))
    }


def _picked(record: Mapping[str, Any], options: type) -> dict[str, Any]:
    """The values of a record that are fields of a dataclass."""
    names = {each.name for each in fields(options)}
    return {name: value for name, value in record.items() if name in names}


def make_threat(attack: str | Attack, epsilon: float, game: Game, **changes: Any) -> Threat:
    """The threat model of an attack.

    At epsilon 0 nothing is done, and the threat model is that of the clean game.

    Args:
        attack: with its options; or its registered name, for its usual options but for `changes`.
        epsilon: its size, in the game's scale.
        game: whose observations are perturbed.
        changes: fields of `Threat`, and options of an attack that is given by name.

    Raises:
        Refusal: a value is out of range, an option is unknown, or the attack cannot be made on the game.
    """
    require("epsilon", epsilon, Epsilon)
    own = {name: value for name, value in changes.items() if name in {each.name for each in fields(Threat)}}
    options = {name: value for name, value in changes.items() if name not in own}
    if isinstance(attack, str):
        attack = _chosen(attack, options)
    elif options:
        raise Refusal(f"{', '.join(options)}: options of {attack.name} are chosen where it is made")
    bounds = _bounds(game)
    if epsilon == 0.0:
        return Threat(None, 0.0, bounds=bounds)
    threat = Threat(attack, epsilon, **{"bounds": bounds, **own})
    require_fit(threat, game)
    return threat


def _chosen(name: str, options: Mapping[str, Any]) -> Attack:
    """A registered attack with some of its options."""
    attack_type = ATTACKS[name]
    accepted = [each.name for each in fields(attack_type)]
    for option in options:
        if option not in accepted:
            raise Refusal(f"{name} has no option {option!r}: accepted are {', '.join(accepted)}")
    return attack_type(**options)


def _bounds(game: Game) -> str:
    """The bounds of a game's observations, and the unit of epsilon, in words."""
    low, high = (
        ", ".join("unbounded" if math.isinf(value) else f"{value:g}" for value in side)
        for side in (game.low, game.high)
    )
    bounds = f"{low} to {high}"
    if game.scale != (1.0,):
        bounds += f"; epsilon in units of {', '.join(f'{unit:g}' for unit in game.scale)}"
    return bounds


def require_fit(threat: Threat, game: Game) -> None:
    """Refuse a threat model that does not fit a game's observations."""
    if game.tier != "atari" and threat.scope == "newest-frame":
        raise Refusal(f"{game.name} shows no stack of frames: its scope is whole-stack")
    if game.tier != "atari" and threat.eight_bit:
        raise Refusal(f"{game.name} shows no grey levels: eight_bit is for Atari games")
    if threat.attack is not None:
        threat.attack.require_fit(game, threat.epsilon)
