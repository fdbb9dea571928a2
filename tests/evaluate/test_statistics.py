"""Intervals of means: constants by hand, coverage on numbers whose mean is known."""

import math

import numpy as np
import pytest

from core.errors import Refusal
from evaluate.statistics import mean_interval


def test_constant_scores_have_an_interval_without_width() -> None:
    assert mean_interval([7.5] * 10) == (7.5, 7.5, 7.5, 10)


def test_one_score_is_its_own_interval() -> None:
    assert mean_interval([-3.0]) == (-3.0, -3.0, -3.0, 1)


def test_the_mean_is_that_of_the_scores_and_lies_inside() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 10.0])
    assert interval.mean == 4.0
    assert interval.n == 4
    assert 1.0 <= interval.low < 4.0 < interval.high <= 10.0


def test_two_scores_have_the_interval_made_by_hand() -> None:
    # Means of resamples are 0, 1/2, 1 with probability 1/4, 1/2, 1/4: 95 % of them span everything, and
    # the middle 40 % are all 1/2.
    assert mean_interval([0.0, 1.0])[:3] == (0.5, 0.0, 1.0)
    assert mean_interval([0.0, 1.0], level=0.4)[:3] == (0.5, 0.5, 0.5)


def test_the_interval_is_as_wide_as_the_normal_one_for_many_normal_scores() -> None:
    scores = np.random.default_rng(0).normal(100.0, 15.0, size=2000)
    interval = mean_interval(scores)
    half_width = 1.96 * scores.std() / math.sqrt(2000)
    assert interval.low == pytest.approx(scores.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(scores.mean() + half_width, abs=0.1 * half_width)


def test_a_95_percent_interval_covers_the_true_mean_about_as_often() -> None:
    generator = np.random.default_rng(0)
    repetitions = 600
    covered = 0
    for _ in range(repetitions):
        interval = mean_interval(generator.normal(3.0, 2.0, size=40), resamples=500)
        covered += interval.low <= 3.0 <= interval.high
    # The bootstrap of 40 scores is a little too narrow (94 %); its standard error here is 0.9 %.
    assert 0.91 < covered / repetitions < 0.975


def test_a_higher_level_gives_a_wider_interval() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    narrow, wide = mean_interval(scores, level=0.5), mean_interval(scores, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_seeds_give_equal_intervals() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    assert mean_interval(scores, seed=4) == mean_interval(scores.tolist(), seed=4)
    assert mean_interval(scores, seed=4) != mean_interval(scores, seed=5)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf"), 2.0]])
def test_scores_that_have_no_mean_are_refused(scores: list[float]) -> None:
    with pytest.raises(Refusal, match=f"{len(scores)} scores"):
        mean_interval(scores)
