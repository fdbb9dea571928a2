"""Measures of learning over games and seeds, and how networks differ in them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import learning
from analysis.aggregates import mean_difference, mean_of_games, stratified_interval
from core.errors import Refusal
from tests.conftest import episode

BREAKOUT = {"game": "minatar/breakout"}
RANDOM = {"minatar/breakout": 0.534, "minatar/asterix": 0.474}
"""Scores of random play that core/data has."""
DSQN = {"agent": "dsqn", "network": "chen2022+sim_steps=4", "sim_steps": 4}


def curve(
    values: tuple[float, ...], seed: int = 0, episodes: int = 2, **changes: Any
) -> list[dict[str, Any]]:
    """Validation episodes after every 100 decisions, a little above and below the value."""
    return [
        {**changes, "train_seed": seed, "train_steps": 100 * (index + 1), "episode": number, "score": value + off}
        for index, value in enumerate(values)
        for number, off in enumerate((-1.0, 1.0) if episodes == 2 else (0.0,))
    ]  # fmt: skip


def frame(*curves: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([vars(episode(**row)) for rows in curves for row in rows])


def test_stability_by_hand() -> None:
    """Means 0, 10, 4, 10 of one seed and 2, 8, 8, 6 of another; Pong's random play scores -20.7."""
    rows = frame(curve((0.0, 10.0, 4.0, 10.0)), curve((2.0, 8.0, 8.0, 6.0), seed=1))
    measured = learning.stability(rows, (100, 200, 300, 400))
    assert list(measured.short_term_risk) == [6.0, 2.0]
    assert list(measured.long_term_risk) == [6.0, 2.0]
    assert list(measured.final_over_best) == pytest.approx([100.0, 100 * 26.7 / 28.7])
    # Two seeds: half of their distance at each evaluation (2, 2, 4, 4), on average.
    assert list(measured.across_runs) == [1.5]
    # Differences 10, -6, 6: quartiles 0 and 8. Differences 6, 0, -2: quartiles -1 and 3.
    assert list(measured.across_time) == [8.0, 4.0]
    assert list(measured.best_std) == [1.0, 1.0]


def test_what_a_seed_does_not_have_is_not_a_number() -> None:
    below = learning.stability(frame(curve((0.1, 0.3), episodes=1, **BREAKOUT)), (100, 200))
    for measure in ("final_over_best", "across_runs", "best_std"):
        assert np.isnan(getattr(below, measure)).all(), measure
    assert list(below.across_time) == [0.0]


def test_relative_measures_are_shares_of_what_a_run_gained() -> None:
    """Twice the gain with twice the falls is as steady, and a run that gained nothing has no measure."""
    random = RANDOM["minatar/breakout"]
    ups = np.array([0.0, 10.0, 4.0, 8.0])
    rows = frame(
        curve(tuple(random + ups), **BREAKOUT),
        curve(tuple(random + 2 * ups), seed=1, **BREAKOUT),
        curve((0.0, 0.1, 0.2, 0.1), seed=2, **BREAKOUT),
    )
    points = (100, 200, 300, 400)
    found = learning.relative_stability(rows[rows.train_seed < 2], points)
    assert list(found["short_term_risk"]) == pytest.approx([60.0, 60.0])
    assert list(found["long_term_risk"]) == pytest.approx([60.0, 60.0])
    assert list(found["final_over_best"]) == pytest.approx([20.0, 20.0])
    assert list(found["best_std"]) == pytest.approx([10.0, 5.0])
    # The seeds are 0, 10, 4 and 8 apart, so the range across them is 2.75; the mean gain is 15.
    assert list(found["across_runs"]) == pytest.approx([100 * 2.75 / 15])
    one_failed = learning.relative_stability(rows, points)
    assert list(one_failed["short_term_risk"]) == pytest.approx([60.0, 60.0])
    assert list(one_failed["final_over_best"]) == pytest.approx([20.0, 20.0])
    # Across seeds, the one that failed counts, with the gain of those that did not.
    across = learning.stability(rows, points).across_runs
    assert list(one_failed["across_runs"]) == pytest.approx(list(100 * across / 15))


def unsteady(falls: dict[int, float], **agent: Any) -> list[list[dict[str, Any]]]:
    """Curves on two games, whose seeds gain 10 and fall by a share of it at the end."""
    return [
        curve(
            (random, random + 10, random + 10 * (1 - fall)), seed, game=game, recipe="minatar-fast", **agent
        )
        for game, random in RANDOM.items()
        for seed, fall in falls.items()
    ]


def test_a_network_is_compared_with_the_dqn_of_its_recipe() -> None:
    rows = frame(*unsteady({0: 0.1, 1: 0.2, 2: 0.3}), *unsteady({0: 0.6, 1: 0.7}, **DSQN))
    dqn, dsqn = learning.steadiness(rows)
    assert (dqn.name, dqn.seeds, dsqn.name, dsqn.seeds) == ("DQN", 3, "DSQN", 2)
    assert list(dsqn.measures["final_over_best"]["minatar/asterix"]) == pytest.approx([60.0, 70.0])
    text = learning.stability_table([dqn, dsqn])
    assert "6 comparisons were made, and 4 have an interval that excludes 0" in text
    (line,) = [line for line in text.splitlines() if "best - final " in line and "DSQN" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:6] == ["DSQN", "DQN", "best - final", "2", "+45.0"]
    assert cells[7] == "yes"
    # Only the DQN: nothing is compared.
    assert "Differences" not in learning.stability_table([dqn])
    other = [{**row, "recipe": "nature"} for curves in unsteady({0: 0.6}, **DSQN) for row in curves]
    assert "Differences" not in learning.stability_table(
        learning.steadiness(frame(*unsteady({0: 0.1}), other))
    )


def test_only_evaluations_that_all_runs_of_a_game_have_count() -> None:
    longer = curve((0.5, 10.0, 1.0), **BREAKOUT)
    dqn, dsqn = learning.steadiness(frame(longer, curve((0.5, 8.0), **BREAKOUT, **DSQN)))
    assert list(dqn.measures["final_over_best"]["minatar/breakout"]) == [0.0]
    assert list(dsqn.measures["final_over_best"]["minatar/breakout"]) == [0.0]
    assert learning.steadiness(frame(longer, curve((0.5,), **BREAKOUT, **DSQN))) == []


def test_a_mean_difference_is_that_of_the_means_and_is_drawn_within_games() -> None:
    generator = np.random.default_rng(0)
    runs = [generator.normal(5.0, 1.0, 6), generator.normal(1.0, 1.0, 4)]
    others = [generator.normal(2.0, 1.0, 5), generator.normal(1.0, 1.0, 3)]
    found = mean_difference(runs, others)
    own, theirs = (stratified_interval(each, mean_of_games) for each in (runs, others))
    assert found.estimate == pytest.approx(own.estimate - theirs.estimate)
    assert found.n == 18
    # Of independent draws, squared widths add up.
    widths = [each.high - each.low for each in (found, own, theirs)]
    assert widths[0] == pytest.approx(np.hypot(widths[1], widths[2]), rel=0.1)
    assert found.excludes_zero
    assert not mean_difference(others, others).excludes_zero
    assert not mean_difference([np.ones(3)], [np.zeros(1)]).is_given
    with pytest.raises(Refusal, match="1 games compared with 2"):
        mean_difference(runs[:1], others)
