"""An attack that one file adds goes the whole way: rows, verdict, figure."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.text import Text

from analysis.figures.attacks import flips_of_states
from core.records import read_rows
from core.rows import AttackRow, StateAttackRow
from tests.conftest import AGENTS, Command, only
from tests.test_refusals import is_refused

DQN = AGENTS / "minatar-breakout-dqn-s0.safetensors"
EXTENSION = "tests.extensions.plus_minus"


def test_an_attack_of_an_extension_runs_and_is_judged(
    command: Command, tmp_path: Path, forget_extensions: None
) -> None:
    built_in = ("--agent", DQN, "--attack", "fgsm", "random-sign", "--epsilon", 0.02, "--threads", 1)
    named = (
        "--agent",
        DQN,
        "--attack",
        "fgsm",
        "random-sign",
        "plus-minus",
        "--epsilon",
        0.02,
        "--threads",
        1,
    )
    is_refused(
        command("adversarial", "states", *named, "--out", tmp_path / "none"), "unknown attack 'plus-minus'"
    )

    study = tmp_path / "study" / "minatar-breakout"
    extended = (*named, "--extension", EXTENSION)
    done = command(
        "adversarial", "states", *extended, "--set", "period=4", "--states", 40, "--out", study / "states"
    )
    assert done.code == 0, done.err
    assert "plus-minus epsilon 0.02" in done.out
    done = command("adversarial", "run", *extended, "--episodes", 1, "--out", study / "games")
    assert done.code == 0, done.err

    states = read_rows(study / "states" / "state_attacks.parquet", StateAttackRow)
    games = read_rows(study / "games" / "attacks.parquet", AttackRow)
    for rows in (states, games):
        assert [(row.attack, row.attacker) for row in rows] == [
            ("fgsm", "white-box"),
            ("random-sign", "noise"),
            ("plus-minus", "black-box"),
        ]
    threats = [json.loads(rows[-1].threat) for rows in (states, games)]
    # The default of an option that the first rows did not have is left out.
    assert [threat.get("period") for threat in threats] == [4, None]
    assert threats[0]["queries"] == 2
    assert 0.0 < states[-1].largest_perturbation <= 0.02 + 1e-6

    # The built-in attacks are not changed by an extension that stands beside them.
    done = command("adversarial", "states", *built_in, "--states", 40, "--out", tmp_path / "alone")
    assert done.code == 0, done.err
    assert str(read_rows(tmp_path / "alone" / "state_attacks.parquet", StateAttackRow)) == str(states[:2])

    judged = command("adversarial", "verdict", tmp_path / "study")
    assert judged.code == 0, judged.err
    assert (tmp_path / "study" / "verdict.md").is_file()
    drawn = only(flips_of_states(pd.DataFrame([vars(row) for row in states])))
    # It is the only attack of its kind here.
    assert "black-box" in " ".join(text.get_text() for text in drawn.findobj(Text))
