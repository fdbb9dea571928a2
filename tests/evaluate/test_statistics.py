"""Intervals of means: constants by hand, coverage on numbers whose mean is known."""

import math

import numpy as np
import pytest

from core.errors import Refusal
from evaluate.statistics import kept_interval, mean_interval


def test_constant_scores_have_an_interval_without_width() -> None:
    assert mean_interval([7.5] * 10) == (7.5, 7.5, 7.5, 10)


def test_one_score_is_its_own_interval() -> None:
    assert mean_interval([-3.0]) == (-3.0, -3.0, -3.0, 1)


def test_the_mean_is_that_of_the_scores_and_lies_inside() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 10.0])
    assert interval.estimate == 4.0
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


def test_a_share_kept_by_hand() -> None:
    # (2 - 1) / (5 - 1): a quarter; pairs that are all alike leave no doubt.
    assert kept_interval([2.0] * 4, [5.0] * 4, 1.0) == (0.25, 0.25, 0.25, 4)
    assert kept_interval([1.0, 3.0], [3.0, 7.0], 1.0).estimate == 0.25


def test_pairs_that_rise_and_fall_together_leave_less_doubt() -> None:
    reference = np.random.default_rng(0).gamma(2.0, 5.0, size=200)
    paired = kept_interval(0.5 * reference, reference, 0.0)
    shuffled = kept_interval(0.5 * np.random.default_rng(1).permutation(reference), reference, 0.0)
    assert paired.estimate == pytest.approx(0.5)
    assert paired.high - paired.low < 1e-9
    assert shuffled.high - shuffled.low > 0.05


def test_a_95_percent_interval_of_a_share_covers_it_about_as_often() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        reference = generator.normal(10.0, 2.0, size=40)
        interval = kept_interval(
            0.8 * reference + generator.normal(0.0, 1.0, size=40), reference, 0.0, resamples=400
        )
        covered += interval.low <= 0.8 <= interval.high
    assert 0.90 < covered / 400 < 0.98


@pytest.mark.parametrize(
    ("scores", "reference", "complaint"),
    [
        ([1.0], [1.0, 2.0], "pairs are needed"),
        ([1.0, 1.0], [0.5, 0.5], "not above random play"),
        ([float("nan")], [1.0], "1 scores"),
    ],
)
def test_shares_of_nothing_are_refused(scores: list[float], reference: list[float], complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        kept_interval(scores, reference, 0.5)
