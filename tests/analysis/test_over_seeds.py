"""Intervals over few training seeds: by hand, against SciPy, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis import over_seeds
from core.errors import Refusal

UNEQUAL = (4.0, 1.0, 0.2, 2.0, 4.0)
"""Spreads of scores on five games."""


def test_the_interval_of_one_sample_is_students() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    found = over_seeds.welch_interval(4.0, [values], 4)
    low, high = stats.t.interval(0.95, 3, loc=4.0, scale=stats.sem(values))
    assert found == pytest.approx((4.0, low, high, 4))


def test_the_interval_of_a_difference_is_welchs() -> None:
    own, others = np.array([1.0, 2.0, 4.0, 9.0]), np.array([0.0, 5.0, 1.0])
    found = over_seeds.mean_difference([own], [others], level=0.9)
    expected = stats.ttest_ind(own, others, equal_var=False).confidence_interval(0.9)
    assert found == pytest.approx((2.0, expected.low, expected.high, 7))
    # Over several games, variances add up: each game has a part of the mean.
    twice = over_seeds.mean_difference([own, own], [others, others], level=0.9)
    assert twice.estimate == found.estimate
    assert twice.high - twice.low < (found.high - found.low) / math.sqrt(2)
    with pytest.raises(Refusal, match="1 games compared with 2"):
        over_seeds.mean_difference([own], [others, others])


def test_a_share_by_hand() -> None:
    """The DQN gains 10 and 30 over random play, its conversion 4 and 16: together 20 of 40."""
    scores, dqns = [np.array([5.0, 17.0])], [np.array([11.0, 31.0])]
    found = over_seeds.share(scores, dqns, [1.0], paired=True)
    # Linearised: (score - share x DQN) / 20 is -0.05 and 0.05 off its mean. t of one degree: 12.7062.
    assert found == pytest.approx((0.5, 0.5 - 12.7062 * 0.05, 0.5 + 12.7062 * 0.05, 2), abs=1e-4)
    # Unpaired: the variances of 12/20/2 and, half as much for half the share, 20/20/2 add up.
    apart = over_seeds.share(scores, dqns, [1.0], paired=False)
    variances = np.array([(6 / 20) ** 2, (0.5 * 10 / 20) ** 2])
    freedom = variances.sum() ** 2 / (variances**2).sum()
    assert apart.high - 0.5 == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(variances.sum()))


def test_games_weigh_the_same() -> None:
    """Shares (2 - 1)/(5 - 1) and (30 - 10)/(20 - 10), of different numbers of seeds."""
    scores, dqns = [np.full(2, 2.0), np.full(3, 30.0)], [np.full(2, 5.0), np.full(3, 20.0)]
    assert over_seeds.share(scores, dqns, [1.0, 10.0], paired=True) == (1.125, 1.125, 1.125, 5)


def test_a_pair_deviates_together() -> None:
    """Whatever the DQN scores, half of it is half of it; the reference itself keeps all."""
    dqns = [np.array([10.0, 20.0, 30.0]), np.array([5.0, 6.0])]
    half = over_seeds.share([0.5 * each for each in dqns], dqns, [0.0, 0.0], paired=True)
    assert half[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert half.is_tied
    assert over_seeds.share(dqns, dqns, [1.0, 2.0], paired=True) == (1.0, 1.0, 1.0, 5)
    assert over_seeds.share(dqns, dqns, [1.0, 2.0], paired=False).low < 0.8


def test_the_difference_is_that_of_the_two_shares() -> None:
    generator = np.random.default_rng(0)
    dqns = [generator.normal(20.0, 3.0, size) for size in (4, 5)]
    own = [0.8 * each for each in dqns]
    others = [generator.normal(10.0, 3.0, 3), generator.normal(10.0, 3.0, 6)]
    random = [1.0, 0.0]
    found = over_seeds.share_difference(own, others, dqns, random, (True, False))
    first = over_seeds.share(own, dqns, random, paired=True)
    second = over_seeds.share(others, dqns, random, paired=False)
    assert found.estimate == pytest.approx(first.estimate - second.estimate)
    assert found.n == 18
    back = over_seeds.share_difference(others, own, dqns, random, (False, True))
    assert back[:3] == pytest.approx((-found.estimate, -found.high, -found.low))
    # The same network twice: paired there is no doubt; apart there is.
    same = over_seeds.share_difference(own, own, dqns, random, (True, True))
    assert same[:3] == pytest.approx((0.0, 0.0, 0.0))
    assert not same.excludes_zero
    apart = over_seeds.share_difference(own, own, dqns, random, (False, False))
    assert apart.low < -0.05 < 0.05 < apart.high


def test_the_dqn_of_two_trainings_counts_once() -> None:
    """Linearised by hand: their difference is a quarter of the DQN's mean score, so that much of it is drawn."""
    own, others, dqns = np.array([9.0, 11.0, 13.0]), np.array([5.0, 7.0]), np.array([10.0, 20.0, 30.0])
    found = over_seeds.share_difference([own], [others], [dqns], [0.0], (False, False))
    expected = over_seeds.welch_interval(0.25, [own / 20, others / 20, 0.25 * dqns / 20], 5)
    assert found == pytest.approx(expected)


def test_two_conversions_of_the_same_dqns_are_one_sample() -> None:
    """Their difference is that of a paired t-test, if the DQNs score the same."""
    dqns, own, others = np.full(4, 10.0), np.array([8.0, 9.0, 7.0, 9.0]), np.array([6.0, 8.0, 6.0, 7.0])
    found = over_seeds.share_difference([own], [others], [dqns], [0.0], (True, True))
    expected = stats.ttest_rel(own / 10, others / 10).confidence_interval()
    assert found[:3] == pytest.approx((0.15, expected.low, expected.high))


@pytest.mark.parametrize("few", [([1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0])], ids=["own", "reference"])
def test_one_seed_of_either_gives_no_interval(few: tuple[list[float], list[float]]) -> None:
    own, dqns = ([np.array(values), np.array([1.0, 2.0, 3.0])] for values in few)
    found = over_seeds.share(own, dqns, [0.0, 0.0], paired=False)
    assert not found.is_given
    assert found.n == len(few[0]) + 3
    assert not over_seeds.mean_difference(own, dqns).is_given


def test_equal_values_say_nothing_about_others() -> None:
    found = over_seeds.mean_difference([np.ones(3)], [np.zeros(3)])
    assert found == (1.0, 1.0, 1.0, 6)
    assert not found.excludes_zero


def test_shares_of_nothing_are_refused() -> None:
    one = [np.array([1.0])]
    with pytest.raises(Refusal, match="pairs are needed"):
        over_seeds.share_difference(one, one, [np.array([1.0, 2.0])], [0.0], (True, False))
    with pytest.raises(Refusal, match="is not above random"):
        over_seeds.share(one, one, [1.0], True)
    with pytest.raises(Refusal, match="game 1: the reference's mean score 1 is not above"):
        over_seeds.share(2 * one, 2 * one, [0.0, 1.0], True)
    with pytest.raises(Refusal, match="1 scores, 1 of them not finite"):
        over_seeds.share(one, [np.array([math.nan])], [0.0], True)
    with pytest.raises(Refusal, match="2 games compared with 1"):
        over_seeds.share(2 * one, one, [0.0], True)
    with pytest.raises(Refusal, match="1 games, 0 scores of random play"):
        over_seeds.share(one, one, [], True)
    with pytest.raises(Refusal, match="level 1"):
        over_seeds.mean_difference(one, one, level=1.0)


@pytest.mark.parametrize("seeds", [(2, 3, 2, 2, 2), (3,) * 5, (5,) * 5], ids=["2 to 3", "3", "5"])
def test_intervals_of_paired_shares_hold_the_truth_and_tell_no_equals_apart(seeds: tuple[int, ...]) -> None:
    """Games of unequal spread, where the percentiles of a bootstrap of two or three seeds hold it in three of four."""
    generator = np.random.default_rng(0)
    held = told = 0
    for _ in range(600):
        dqns = [generator.normal(10.0, 2.5, size) for size in seeds]
        own, others = (
            [
                0.8 * each + generator.normal(0.0, spread / 2, len(each))
                for each, spread in zip(dqns, UNEQUAL, strict=True)
            ]
            for _ in range(2)
        )
        found = over_seeds.share(own, dqns, [0.0] * 5, paired=True)
        held += found.low <= 0.8 <= found.high
        told += over_seeds.share_difference(own, others, dqns, [0.0] * 5, (True, True)).excludes_zero
    assert held / 600 > 0.92
    assert told / 600 < 0.07


def test_a_conversion_and_a_training_that_are_equal_are_told_apart_once_in_twenty() -> None:
    generator = np.random.default_rng(0)
    told = 0
    for _ in range(600):
        dqns = [generator.normal(10.0, 2.5, 4) for _ in UNEQUAL]
        own = [0.8 * each + generator.normal(0.0, 0.5, 4) for each in dqns]
        trained = [generator.normal(8.0, spread, 3) for spread in UNEQUAL]
        told += over_seeds.share_difference(own, trained, dqns, [0.0] * 5, (True, False)).excludes_zero
    assert 0.02 < told / 600 < 0.08
