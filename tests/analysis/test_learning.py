"""Measures of learning over games and seeds, and how networks differ in them."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import learning
from analysis.learning import OverGames
from analysis.over_seeds import welch_interval
from analysis.runs import Family, dqn_family
from core.errors import Refusal
from tests.conftest import episode

BREAKOUT = {"game": "minatar/breakout"}
RANDOM = {"minatar/breakout": 0.534, "minatar/asterix": 0.474}
"""Scores of random play that core/data has."""
DQN = {"agent": "dqn", "network": "relu"}
DSQN = {"agent": "dsqn", "network": "chen2022+sim_steps=4", "sim_steps": 4}
POINTS = (100, 200, 300, 400)


def curve(
    values: tuple[float, ...], seed: int = 0, off: tuple[float, ...] = (-1.0, 1.0), **changes: Any
) -> list[dict[str, Any]]:
    """Validation episodes after every 100 decisions, as far off the value as is said."""
    return [
        {**changes, "train_seed": seed, "train_steps": 100 * (index + 1), "episode": number, "score": value + each}
        for index, value in enumerate(values)
        for number, each in enumerate(off)
    ]  # fmt: skip


def frame(*curves: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [vars(episode(**{"recipe_steps": 400, **row})) for rows in curves for row in rows]  # type: ignore[arg-type]
    )


def over_games(rows: pd.DataFrame) -> list[OverGames]:
    return [each.over_games() for each in learning.learning_curves(rows)]


def test_stability_by_hand() -> None:
    """Means 0, 10, 4, 10 of one seed and 2, 8, 8, 6 of another; Pong's random play scores -20.7."""
    rows = frame(curve((0.0, 10.0, 4.0, 10.0)), curve((2.0, 8.0, 8.0, 6.0), seed=1))
    measured = learning.stability(rows, POINTS)
    assert list(measured.short_term_risk) == [6.0, 2.0]
    assert list(measured.long_term_risk) == [6.0, 2.0]
    assert list(measured.final_over_best) == pytest.approx([100.0, 100 * 26.7 / 28.7])
    # Two seeds: half of their distance at each evaluation (2, 2, 4, 4), on average.
    assert list(measured.across_runs) == [1.5]
    # Differences 10, -6, 6: quartiles 0 and 8. Differences 6, 0, -2: quartiles -1 and 3.
    assert list(measured.across_time) == [8.0, 4.0]
    assert list(measured.best_std) == [1.0, 1.0]


def test_of_equal_evaluations_the_last_has_the_spread() -> None:
    rows = frame([*curve((5.0,), off=(-3.0, 3.0)), *curve((0.0, 5.0))[2:]])
    assert list(learning.stability(rows, (100, 200)).best_std) == [1.0]


def test_what_a_seed_does_not_have_is_not_a_number() -> None:
    below = learning.stability(frame(curve((0.1, 0.3), off=(0.0,), **BREAKOUT)), (100, 200))
    for measure in ("final_over_best", "across_runs", "best_std"):
        assert np.isnan(getattr(below, measure)).all(), measure
    assert list(below.across_time) == [0.0]


def test_measures_are_shares_of_what_a_run_gained_or_of_what_others_gained() -> None:
    """Twice the gain with twice the falls is as steady. In units of the score it is not."""
    ups, random = np.array([0.0, 20.0, 8.0, 16.0]), RANDOM["minatar/breakout"]
    rows = frame(curve(tuple(random + ups), **BREAKOUT), curve(tuple(random + 2 * ups), seed=1, **BREAKOUT))
    (found,) = over_games(rows)
    assert (found.learnt, found.runs, len(found.points["minatar/breakout"])) == (2, 2, 4)
    own = {measure: list(found.relative(measure)["minatar/breakout"]) for measure in learning.COMPARED}
    # Differences 20, -12, 8: quartiles -2 and 14.
    assert own["across_time"] == pytest.approx([80.0, 80.0])
    assert own["short_term_risk"] == pytest.approx([60.0, 60.0])
    assert own["long_term_risk"] == pytest.approx([60.0, 60.0])
    assert own["lost"] == pytest.approx([20.0, 20.0])
    assert own["best_std"] == pytest.approx([5.0, 2.5])
    values, gains = found.known("lost")["minatar/breakout"]
    assert (list(values), list(gains)) == (pytest.approx([4.0, 8.0]), pytest.approx([20.0, 40.0]))


def test_in_per_cent_of_the_dqns_gain_its_measures_and_gains_are_of_the_same_runs() -> None:
    """The DQN gains 10, 20 and 30 and loses a fifth of it. The network gains 20 and loses 13, 14 and 15."""
    random = RANDOM["minatar/breakout"]
    dqns, dsqns = (
        [
            curve((random, random + gain, random + gain - loss), seed, **BREAKOUT, **agent)
            for seed, (gain, loss) in enumerate(zip(gains, losses, strict=True))
        ]
        for agent, gains, losses in (
            (DQN, (10.0, 20.0, 30.0), (2.0, 4.0, 6.0)),
            (DSQN, (20.0, 20.0, 20.0), (13.0, 14.0, 15.0)),
        )
    )
    text = learning.stability_table(learning.learning_curves(frame(*dqns, *dsqns)))
    own, of_the_dqns = cells(text, "DSQN", "DQN", "best - final")
    assert own[6:8] == ["+50.0", "+37.6 to +62.4"]  # 65, 70 and 75 %, against 20 %
    # (14 - 4) / 20: to first order the network's loss / 20, and -(the DQN's loss + a half of its gain) / 20.
    samples = [100 * np.array(each) / 20 for each in ((13.0, 14.0, 15.0), (7.0, 14.0, 21.0))]
    expected = welch_interval(50.0, samples, 6)
    assert of_the_dqns[6:8] == ["+50.0", f"{expected.low:+.1f} to {expected.high:+.1f}"]


def test_evaluations_of_a_network_with_more_than_the_dqn_count_as_far_as_the_dqns() -> None:
    dqns = [curve((0.5, 8.0), seed, **BREAKOUT, **DQN) for seed in (0, 1)]
    longer = [curve((0.5, 8.0, 3.0), seed, **BREAKOUT, **DSQN) for seed in (0, 1)]
    text = learning.stability_table(learning.learning_curves(frame(*dqns, *longer)))
    assert [line[6] for line in cells(text, "DSQN", "DQN", "best - final")] == ["+0.0", "+0.0"]


def test_a_run_that_does_not_learn_has_no_stability() -> None:
    """The best of many evaluations of random play is above random play too."""
    random = np.random.default_rng(0).poisson(RANDOM["minatar/breakout"], (80, 30)).astype(float)
    played = [
        {**BREAKOUT, "train_seed": 1, "train_steps": 100 * step, "episode": number, "score": score}
        for step, scores in enumerate(random, 1)
        for number, score in enumerate(scores)
    ]
    learnt = curve(tuple(np.linspace(0.5, 10.0, 80)), off=(-1.0, 1.0) * 15, **BREAKOUT)
    (found,) = over_games(frame(learnt, played))
    assert (found.learnt, found.runs) == (1, 2)
    assert len(found.gains["minatar/breakout"]) == 1
    (failed,) = over_games(frame(played))
    assert (failed.learnt, failed.runs) == (0, 1)
    others = [
        curve(tuple(np.linspace(0.5, 10.0, 80)), seed, (-1.0, 1.0) * 15, **BREAKOUT, **DSQN)
        for seed in (0, 1)
    ]
    assert "0 of 1" in learning.stability_table(learning.learning_curves(frame(played, *others)))
    # A table of no game with two runs that learnt would say nothing.
    assert learning.stability_table(learning.learning_curves(frame(learnt, played))) == ""


def unsteady(
    falls: dict[int, float], agent: dict[str, Any], games: tuple[str, ...] = (*RANDOM,), **more: Any
) -> Any:
    """Curves on some games, whose seeds gain 20 and fall by a share of it at the end."""
    return itertools.chain.from_iterable(
        curve((RANDOM[game], RANDOM[game] + 20, RANDOM[game] + 20 * (1 - fall)), seed, game=game,
              **{"recipe": "minatar-fast", **agent, **more})
        for game in games
        for seed, fall in falls.items()
    )  # fmt: skip


def cells(text: str, *words: str) -> list[list[str]]:
    """The cells of each line of a table that has all these words."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in lines if set(words) <= set(line)]


def test_a_network_is_compared_with_the_dqn_of_its_recipe() -> None:
    rows = frame([*unsteady({0: 0.1, 1: 0.2, 2: 0.3}, DQN)], [*unsteady({0: 0.6, 1: 0.7}, DSQN)])
    curves = learning.learning_curves(rows)
    learnt = [(each.name, each.over_games().learnt) for each in curves]
    assert learnt == [("DQN", 6), ("DSQN", 4)]
    text = learning.stability_table(curves)
    assert "10 comparisons were made. 10 have seeds enough for an interval, and 8 of these exclude 0." in text
    assert cells(text, "DQN", "6 of 6")[0][-2] == "20.0"
    told, in_score = cells(text, "DSQN", "DQN", "best - final")
    assert (told[4:7], told[-1]) == (["own gain", "2", "+45.0"], "yes")
    assert in_score[4:7] == ["the DQN's", "2", "+45.0"]
    assert cells(text, "DSQN", "DQN", "std of scores (Liu et al.)")[0][-1] == "tied"
    assert "Differences" not in learning.stability_table(curves[:1])


def test_with_one_seed_nothing_is_told() -> None:
    rows = frame([*unsteady({0: 0.1}, DQN)], [*unsteady({0: 0.6, 1: 0.7}, DSQN)])
    text = learning.stability_table(learning.learning_curves(rows))
    assert "10 comparisons were made. 0 have seeds enough for an interval, and 0 of these exclude 0." in text
    assert {line[-1] for line in cells(text, "DSQN", "DQN")} == {""}


def test_a_difference_is_over_the_games_of_both() -> None:
    falls = {0: 0.1, 1: 0.2}
    rows = frame([*unsteady(falls, DQN)], [*unsteady(falls, DSQN, ("minatar/asterix",))])
    text = learning.stability_table(learning.learning_curves(rows))
    assert {line[5] for line in cells(text, "DSQN", "DQN")} == {"1"}


def test_a_dqn_of_another_tier_recipe_or_training_is_not_compared() -> None:
    found = learning.learning_curves(
        frame([*unsteady({0: 0.1, 1: 0.1}, DQN)], [*unsteady({0: 0.6}, DSQN, recipe="nature")])
    )
    assert "Differences" not in learning.stability_table(found)
    pong = {"game": "pong", "recipe": "minatar-fast"}
    dqns, dsqn = [*unsteady({0: 0.1, 1: 0.1}, DQN)], curve((0.0, 5.0, 1.0), **pong, **DSQN)
    found = learning.learning_curves(frame(dqns, dsqn))
    assert [each.tier for each in found] == ["minatar", "atari"]
    assert "Differences" not in learning.stability_table(found)
    # The DQN of one name learnt games of both tiers: that of the network's tier counts.
    found = learning.learning_curves(frame(dqns, dsqn, curve((0.0, 5.0, 5.0), **pong, **DQN)))
    lost = [line for line in cells(learning.stability_table(found), "DSQN") if "best - final" in line]
    assert [(line[0], line[4], line[6]) for line in lost] == [
        ("atari", "own gain", "+15.6"),
        ("atari", "the DQN's", "+15.6"),
    ]


def test_of_several_dqns_that_of_the_same_recipe_is_taken_and_none_if_there_are_two() -> None:
    def family(agent: str, recipe: str, network: str = "relu") -> Family:
        return Family(agent, network, recipe, 0)

    dsqn = family("dsqn", "minatar-fast", "chen2022")
    plain, bf16 = family("dqn", "minatar-fast"), family("dqn", "minatar-fast+bf16")
    assert dqn_family(dsqn, [bf16, plain, dsqn]) == plain
    assert dqn_family(dsqn, [bf16, dsqn]) == bf16
    assert dqn_family(dsqn, [plain, family("dqn", "minatar-fast", "wide")]) is None
    trainings = [family("dqn", f"minatar-fast+training={digest}") for digest in ("aaaaaa", "bbbbbb")]
    assert dqn_family(dsqn, trainings) is None
    assert dqn_family(dsqn, [*trainings[:1], bf16]) == trainings[0]
    assert dqn_family(plain, [plain]) is None
    assert dqn_family(dsqn, [family("dqn", "nature")]) is None


def test_evaluations_count_that_both_networks_have() -> None:
    """A network that is still being trained does not cut the others short, and is compared as far as it got."""
    longer = [curve((0.5, 10.0, 1.0), seed, **BREAKOUT) for seed in (0, 1)]
    rows = frame(*longer, curve((0.5, 8.0), **BREAKOUT, **DSQN))
    dqn, dsqn = learning.learning_curves(rows)
    assert list(dqn.over_games().measures["lost"]["minatar/breakout"]) == [9.0, 9.0]
    assert list(dqn.over_games(dsqn).measures["lost"]["minatar/breakout"]) == [0.0, 0.0]
    assert [*dqn.over_games(dsqn).points.values()] == [*dsqn.over_games().points.values()] == [[100, 200]]
    text = learning.stability_table([dqn, dsqn])
    assert [line[4] for line in cells(text, "DQN", "2 of 2") + cells(text, "DSQN", "1 of 1")] == ["3", "2"]
    lost = cells(text, "DSQN", "DQN", "best - final", "own gain")
    assert [line[6] for line in lost] == ["+0.0"]
    # One evaluation in common has no measures.
    short = learning.learning_curves(frame(*longer, curve((0.5,), **BREAKOUT, **DSQN)))
    assert [each.name for each in short] == ["DQN"]


def test_runs_too_short_for_their_recipe_do_not_count() -> None:
    whole, short = (
        curve((0.5, 10.0, 1.0), seed, **BREAKOUT, recipe_steps=steps) for seed, steps in ((0, 300), (1, 9000))
    )
    (found,) = over_games(frame(whole, short[:4]))
    assert (found.runs, len(found.points["minatar/breakout"])) == (1, 3)


def test_an_interrupted_run_does_not_cut_the_others_short() -> None:
    whole = [curve((0.5, 3.0, 10.0, 9.0), seed, **BREAKOUT) for seed in (0, 1)]
    (found,) = over_games(frame(*whole, curve((0.5, 3.0), 2, **BREAKOUT)))
    assert (found.runs, found.learnt, len(found.points["minatar/breakout"])) == (2, 2, 4)


def test_a_game_without_a_score_of_random_play_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame([*unsteady({0: 0.1}, DQN)])
    known = learning._random
    monkeypatch.setattr(learning, "_random", lambda game: None if "asterix" in game else known(game))
    (found,) = over_games(rows)
    assert [*found.gains] == ["minatar/breakout"]


def test_evaluations_of_different_protocols_or_lengths_do_not_compare() -> None:
    rows = frame(
        [*unsteady({0: 0.1}, DQN, protocol="minatar")], [*unsteady({0: 0.1}, DSQN, protocol="other")]
    )
    with pytest.raises(Refusal, match="protocol of minatar/asterix"):
        learning.learning_curves(rows)
    rows = frame(curve((0.5, 9.0), **BREAKOUT), curve((0.5, 9.0), off=(-1.0, 0.0, 1.0), **BREAKOUT, **DSQN))
    with pytest.raises(Refusal, match="number of episodes in an evaluation of minatar/breakout"):
        learning.learning_curves(rows)


def test_over_games_holds_what_was_measured() -> None:
    found = OverGames(
        {"a": np.array([10.0, 20.0]), "b": np.array([5.0])},
        {"lost": {"a": np.array([1.0, np.nan]), "b": np.array([np.nan])}},
        4,
        {"a": (1, 2), "b": (1, 2)},
    )
    assert found.learnt == 3
    assert {game: list(values) for game, values in found.relative("lost").items()} == {"a": [10.0]}
