"""Attack identity: rows of one attack compare, whatever later versions add to threat models."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adversarial.attack import ATTACKS
from adversarial.attacks.pgd import PGD
from adversarial.threat import Threat, make_threat
from core.errors import Refusal
from core.games import get_game
from core.records import read_rows
from core.rows import AttackRow, StateAttackRow

BREAKOUT = get_game("minatar/breakout")
ATTACKED = Path(__file__).parents[2] / "results" / "attacked"


@dataclass(frozen=True)
class LaterThreat(Threat):
    """A threat model of a later version, with one more field."""

    patience: float = 0.5


@dataclass(frozen=True)
class LaterPGD(PGD):
    """PGD of a later version, with one more option."""

    decay: float = 1.0


def committed() -> Iterator[str]:
    """Every threat model among the committed rows."""
    for file in sorted(ATTACKED.rglob("state_attacks.parquet")):
        yield from {row.threat for row in read_rows(file, StateAttackRow)}
    for file in sorted(ATTACKED.rglob("attacks.parquet")):
        yield from {row.threat for row in read_rows(file, AttackRow)}


@pytest.mark.parametrize("version", [Threat, LaterThreat])
def test_a_committed_threat_model_is_written_as_it_was_read(
    version: type[Threat], monkeypatch: pytest.MonkeyPatch
) -> None:
    if version is LaterThreat:
        monkeypatch.setattr(ATTACKS, "_entries", {**dict(ATTACKS.items()), "pgd": LaterPGD})
    attacks = set()
    for key in set(committed()):
        threat = version.from_key(key)
        assert threat.key == key
        attacks.add(threat.name)
    assert attacks == {"none", "fgsm", "pgd", "random-sign", "square"}


def test_a_later_field_is_written_where_it_differs_from_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS, "_entries", {**dict(ATTACKS.items()), "pgd": LaterPGD})
    usual = LaterThreat(LaterPGD(), 0.1)
    assert usual.record.keys() == make_threat("square", 0.1, BREAKOUT).record.keys()
    other = LaterThreat(LaterPGD(decay=0.5), 0.1, patience=0.25)
    assert json.loads(other.key) == {**usual.record, "decay": 0.5, "patience": 0.25}
    assert LaterThreat.from_key(other.key) == LaterThreat(
        LaterPGD(decay=0.5, step_size=0.025), 0.1, patience=0.25
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_can_be_made_again_from_its_row(attack: str) -> None:
    threat = make_threat(attack, 0.1, BREAKOUT, seed=3)
    again = Threat.from_key(threat.key)
    assert (again.key, again.attacker, again.label) == (threat.key, threat.attacker, threat.label)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "is not the JSON of a threat model"),
        ("[]", "is not the JSON of a threat model"),
        ('{"attack": 3}', "is not the JSON of a threat model"),
        ('{"attack": "fgms"}', "unknown attack 'fgms': did you mean 'fgsm'"),
        ('{"attack": "none"}', "lacks 'epsilon'"),
        ('{"attack": "none", "epsilon": "much"}', "epsilon of threat 'none' is 'much'"),
        ('{"attack": "pgd", "epsilon": 0.1, "steps": 2.5}', "steps of threat 'pgd' is 2.5"),
        ('{"attack": "pgd", "epsilon": 0.1, "steps": 2}', "holds values that this version does not know"),
    ],
)
def test_a_row_that_tells_no_threat_model_is_refused(key: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        Threat.from_key(key)


def test_a_value_that_this_version_does_not_know_is_refused() -> None:
    key = json.dumps({**make_threat("fgsm", 0.1, BREAKOUT).record, "patience": 0.25}, sort_keys=True)
    with pytest.raises(Refusal, match="does not know"):
        Threat.from_key(key)
