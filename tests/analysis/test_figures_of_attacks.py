"""Figures of attacks on stored states, and the check of their rows, by rows made by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.check import findings
from analysis.figures import attacks
from analysis.figures.style import NothingToDraw
from analysis.statistics import share_interval
from core.errors import Refusal
from core.records import to_json, write_rows
from core.rows import StateAttackRow
from tests.conftest import only, told

BASE = StateAttackRow(
    **{"game": "pong", "agent": "dsqn", "checkpoint_id": "s0", "train_seed": 0, "train_steps": 1000},
    **{"recipe_steps": 1000, "network": "chen2022", "recipe": "atari-fast", "sim_steps": 4, "variant": ""},
    **{"states_of": "d0", "num_states": 200, "seed": 7, "attack": "fgsm", "epsilon": 0.01},
    **{"gradient_source": "own-surrogate", "threat": to_json({"scope": "whole-stack"}), "flip_share": 0.25},
    **{"q_drop": 0.1, "zero_gradient_share": 0.0, "largest_perturbation": 0.01, "mean_perturbation": 0.01},
)


def row(attack: str, source: str, flip_share: float, epsilon: float = 0.01, **changes: Any) -> StateAttackRow:
    changed = replace(
        BASE, attack=attack, gradient_source=source, flip_share=flip_share, epsilon=epsilon, **changes
    )
    return told(changed)


ROWS = [
    row("none", "", 0.0, 0.0),
    row("random-sign", "", 0.05),
    row("fgsm", "own-surrogate", 0.25),
    row("fgsm", "own-surrogate", 0.40, 0.02),
    row("fgsm", "transfer:dqn d0", 0.30),
    row("pgd", "swept-surrogate", 0.50),
    row("pgd", "swept-surrogate", 0.90, 0.02),
    row("square", "", 0.35, num_states=100),
    row("occlusion", "", 1.0, 0.3),
]


def frame(rows: list[StateAttackRow]) -> pd.DataFrame:
    return pd.DataFrame([vars(each) for each in rows])


def lines(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Points by label; those without one are hollow markers of fewer states."""
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
        if not str(line.get_label()).startswith("_")
    }


def test_the_strongest_of_each_kind_is_drawn() -> None:
    figure = only(attacks.flips_of_states(frame(ROWS)))
    (axis,) = figure.axes
    assert (figure.get_suptitle(), axis.get_title()) == ("pong", "DSQN, 4 sim steps")
    assert lines(axis) == {
        "best white-box": ([0.01, 0.02], pytest.approx([50.0, 90.0])),
        "FGSM, training gradient": ([0.01, 0.02], pytest.approx([25.0, 40.0])),
        "transfer": ([0.01], pytest.approx([30.0])),
        "black-box": ([0.01], pytest.approx([35.0])),
        "noise": ([0.01], pytest.approx([5.0])),
    }
    # Square met fewer states.
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_ydata()) for line in hollow if len(line.get_xdata())] == [pytest.approx([35.0])]
    # The band of the 35 of 100 states that Square flips.
    band = axis.collections[3].get_paths()[0].vertices[:, 1]
    _, low, high, _ = share_interval(35, 100)
    assert (band.min(), band.max()) == (pytest.approx(100 * low), pytest.approx(100 * high))


def test_the_masking_gap_is_drawn_for_each_network() -> None:
    dqn = {"agent": "dqn", "checkpoint_id": "d0", "network": "relu", "sim_steps": 0}
    others = [row("fgsm", "own", 0.8, **dqn), row("pgd", "own", 0.9, **dqn)]
    (axis,) = only(attacks.masking_gap(frame([*ROWS, *others]))).axes
    found = lines(axis)
    assert found["DSQN, 4 sim steps"] == ([0.01, 0.02], pytest.approx([25.0, 50.0]))
    assert found["DQN"] == ([0.01], pytest.approx([10.0]))
    # Two of a kind are told apart by all there is to say.
    second = [replace(each, checkpoint_id="d1", train_seed=1) for each in others]
    (axis,) = only(attacks.masking_gap(frame([*ROWS, *others, *second]))).axes
    assert {
        "DSQN, 4 sim steps",
        "DQN (seed 0, 1,000 decisions, d0)",
        "DQN (seed 1, 1,000 decisions, d1)",
    } <= set(lines(axis))


def test_a_game_without_the_usual_attack_has_no_gap() -> None:
    breakout = row("pgd", "own", 0.9, game="minatar/breakout")
    assert [axis.get_title() for axis in only(attacks.masking_gap(frame([*ROWS, breakout]))).axes] == ["pong"]
    with pytest.raises(NothingToDraw, match="no FGSM along a training gradient"):
        attacks.masking_gap(frame([breakout]))
    with pytest.raises(NothingToDraw, match="no l_inf attack"):
        attacks.flips_of_states(frame([ROWS[0], ROWS[-1]]))


def test_two_drawings_of_states_do_not_mix() -> None:
    with pytest.raises(Refusal, match="more than one set of states of pong, DSQN"):
        attacks.flips_of_states(frame([*ROWS, row("pgd", "swept-surrogate", 0.5, seed=8)]))


def test_settings_have_panels_of_their_own() -> None:
    newest = [replace(each, threat=to_json({"scope": "newest-frame"})) for each in ROWS]
    titles = [axis.get_title() for axis in only(attacks.flips_of_states(frame([*ROWS, *newest]))).axes]
    assert len(titles) == 2
    assert "newest-frame" in titles[0]
    assert "whole-stack" in titles[1]


def test_only_a_gradient_that_nobody_followed_and_a_drop_of_no_q_values_may_be_no_number(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state_attacks.parquet"
    write_rows(path, StateAttackRow, [replace(ROWS[1], zero_gradient_share=math.nan, q_drop=math.nan)])
    assert list(findings(tmp_path)) == ["state_attacks.parquet: not listed in a finished manifest"]
    write_rows(path, StateAttackRow, [ROWS[1], replace(ROWS[1], mean_perturbation=math.nan)])
    assert "state_attacks.parquet: mean_perturbation is not finite in 1 of 2 rows, first in row 1" in list(
        findings(tmp_path)
    )
