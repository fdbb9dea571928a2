"""Statistics of scores and curves: values by hand, properties, coverage on numbers whose truth is known."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from analysis.aggregates import (
    Aggregate,
    iqm,
    mean_of_games,
    median_of_games,
    optimality_gap,
    performance_profile,
    performance_profile_band,
    probability_of_improvement,
    stratified_interval,
)
from analysis.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    final_over_best,
    long_term_risk,
    short_term_risk,
)
from analysis.statistics import (
    LEAST_EPISODES,
    Interval,
    kept_difference,
    kept_interval,
    mean_interval,
    normalised,
    paired_difference,
    share_difference,
    share_interval,
    spread_of_scores,
)
from core.errors import Refusal

NAN = float("nan")
AGGREGATES = (mean_of_games, median_of_games, iqm, optimality_gap)


def games(*runs: list[float]) -> list[np.ndarray]:
    """Runs written by hand, one list for each game."""
    return [np.array(scores) for scores in runs]


def random_games(seed: int, counts: tuple[int, ...] = (5, 3, 4, 7)) -> list[np.ndarray]:
    """Scores around 0.8 of games whose counts of runs differ."""
    generator = np.random.default_rng(seed)
    return [generator.normal(0.8, 0.5, size=count) for count in counts]


# Scores of one game ----------------------------------------------------------------------------------


def test_constant_scores_have_an_interval_without_width() -> None:
    assert mean_interval([7.5] * 10) == (7.5, 7.5, 7.5, 10)


@pytest.mark.parametrize("n", [1, 2, 3, LEAST_EPISODES - 1, LEAST_EPISODES])
@pytest.mark.parametrize("tied", [False, True])
def test_few_episodes_have_a_mean_and_no_interval(n: int, tied: bool) -> None:
    scores = np.full(n, 3.0) if tied else np.arange(n) + 1.0
    of_reference = 2 * scores
    shares = (
        (mean_interval(scores), scores.mean()),
        (paired_difference(scores, of_reference), -scores.mean()),
        (kept_interval(scores, of_reference, 0.0), 0.5),
        (kept_difference(scores, of_reference, scores, scores, 0.0), -0.5),
    )
    for found, estimate in shares:
        assert found.estimate == pytest.approx(estimate)
        assert found.n == n
        assert found.is_given == (n >= LEAST_EPISODES)
        assert math.isnan(found.low) == math.isnan(found.high) == (n < LEAST_EPISODES)


def test_no_interval_is_over_a_single_training_run() -> None:
    alone, several = games([1, 2], [3]), games([1, 2], [3, 4])
    for runs, given in ((alone, False), (several, True)):
        assert stratified_interval(runs, iqm).is_given == given
        assert probability_of_improvement(runs, several).is_given == given
        assert probability_of_improvement(several, runs).is_given == given
        assert all(np.isfinite(band).all() == given for band in performance_profile_band(runs, [0.5, 3.5]))


def test_the_mean_is_that_of_the_scores_and_lies_inside() -> None:
    interval = mean_interval(3 * [1.0, 2.0, 3.0, 10.0])
    assert interval.estimate == 4.0
    assert interval.n == 12
    assert 1.0 <= interval.low < 4.0 < interval.high <= 10.0


def test_two_scores_have_the_interval_made_by_hand() -> None:
    # Means of resamples are 0, 1/2, 1 with probability 1/4, 1/2, 1/4: 95 % of them span everything, and
    # the middle 40 % are all 1/2.
    scores = games([0.0, 1.0])
    assert stratified_interval(scores, mean_of_games)[:3] == (0.5, 0.0, 1.0)
    assert stratified_interval(scores, mean_of_games, level=0.4)[:3] == (0.5, 0.5, 0.5)


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


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, NAN])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(Refusal, match=r"level .*\(0, 1\)"):
        mean_interval([1.0, 2.0], level=level)


def test_the_spread_is_over_n_and_does_not_shrink() -> None:
    # Deviations 3, 1, 1, 3: 20 / 4 is 5; over n - 1 it would be 20 / 3.
    assert spread_of_scores([1.0, 3.0, 5.0, 7.0]) == pytest.approx(math.sqrt(5.0))
    assert spread_of_scores([1.0, 3.0, 5.0, 7.0] * 10) == pytest.approx(math.sqrt(5.0))
    with pytest.raises(Refusal, match="2 scores, 1 of them"):
        spread_of_scores([1.0, NAN])


def test_normalised_scores_by_hand() -> None:
    # Random play -20, a human 10: their scores are 0 and 1.
    assert normalised([-20.0, 10.0, -5.0, 40.0, -23.0], -20.0, 10.0).tolist() == [0.0, 1.0, 0.5, 2.0, -0.1]
    assert normalised(np.ones((2, 3)), 0.0, 2.0).tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize(
    ("scores", "low", "high", "complaint"),
    [
        ([1.0], 2.0, 2.0, "low 2.0, high 2.0"),
        ([1.0], 3.0, 2.0, "and high above low"),
        ([1.0], NAN, 2.0, "low nan"),
        ([1.0], 0.0, math.inf, "high inf"),
        ([1.0, NAN], 0.0, 2.0, "2 scores, 1 of them not finite"),
    ],
)
def test_scores_that_have_no_norm_are_refused(
    scores: list[float], low: float, high: float, complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        normalised(scores, low, high)


# Shares of states ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17: 857), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_shares_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    interval = share_interval(successes, n)
    assert interval == (successes / n, pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5), n)


@pytest.mark.parametrize(("successes", "n"), [(1, 1), (3, 10), (511, 512)])
def test_a_shares_bounds_are_where_the_score_test_turns(successes: int, n: int) -> None:
    """(p - bound)^2 = z^2 bound (1 - bound)/n, with z^2 = 2.7055 for 90 %."""
    share, low, high, _ = share_interval(successes, n, level=0.9)
    for bound in {low, high} - {1.0}:
        assert (share - bound) ** 2 == pytest.approx(2.705543 * bound * (1 - bound) / n, rel=1e-5)


def test_a_share_at_an_end_has_an_interval_that_ends_there() -> None:
    for n in range(1, 200):
        assert share_interval(0, n).low == 0.0 < share_interval(0, n).high
        assert share_interval(n, n).low < 1.0 == share_interval(n, n).high


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_are_none_are_refused(successes: int, n: int) -> None:
    with pytest.raises(Refusal, match="the count must be from 0 to n"):
        share_interval(successes, n)
    with pytest.raises(Refusal, match=r"level 1\.0"):
        share_interval(1, 2, level=1.0)


def pairs(both: int, alone: int, others_alone: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Of two groups of successes so many have both, the first, the second and none."""
    counts = (both, alone, others_alone, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_difference_of_two_shares_has_the_published_interval() -> None:
    # Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33: 2850): 2 of 21 less 8 of 21, one in common.
    difference = share_difference(*pairs(1, 1, 7, 12))
    assert difference == (pytest.approx(-6 / 21), *(pytest.approx(x, abs=5e-4) for x in (-0.507, -0.026)), 21)
    # Where all of one and none of the other succeed, nothing tells of a correlation: the interval of independent shares
    # of 10/10 - 0/10 in Newcombe 1998 (Statistics in Medicine 17: 873, table II, method 10).
    widest = share_difference(*pairs(0, 10, 0, 0))
    assert widest[:3] == (1.0, pytest.approx(0.6075, abs=5e-5), 1.0)


def test_shares_that_fall_together_differ_by_less_for_certain() -> None:
    together, apart = share_difference(*pairs(50, 10, 0, 40)), share_difference(*pairs(30, 30, 20, 20))
    assert together.estimate == apart.estimate == pytest.approx(0.1)
    assert apart.low < 0 < together.low
    assert share_difference(*pairs(50, 0, 10, 40)).low == pytest.approx(-together.high)
    equal = share_difference(*pairs(40, 0, 0, 60))
    assert equal.low == pytest.approx(-equal.high)
    with pytest.raises(Refusal, match="3 scores compared with 2: pairs are needed"):
        share_difference([True] * 3, [True] * 2)


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says() -> None:
    """Of 100 states 30 % and 40 % fall, 25 % to both."""
    drawn = np.random.default_rng(0).multinomial(100, (0.25, 0.05, 0.15, 0.55), 2000)
    covered = [
        interval.low <= -0.1 <= interval.high
        for interval in (share_difference(*pairs(*map(int, counts))) for counts in drawn)
    ]
    assert 0.935 < np.mean(covered) < 0.975


# Aggregates over games -------------------------------------------------------------------------------


def test_aggregates_of_two_games_by_hand() -> None:
    runs = games([0, 1, 2, 3], [4, 5, 6, 9])
    assert mean_of_games(runs) == (1.5 + 6) / 2
    assert median_of_games(runs) == (1.5 + 6) / 2
    # Of 0 1 2 3 4 5 6 9 the middle four.
    assert iqm(runs) == (2 + 3 + 4 + 5) / 4
    # min(x, 1) is 0 1 1 1 and four times 1; min(x, 5) is 0 1 2 3 4 5 5 5.
    assert optimality_gap(runs) == pytest.approx(1 / 8)
    assert optimality_gap(runs, gamma=5.0) == pytest.approx(5 - 25 / 8)


def test_the_median_is_that_of_games_and_not_of_runs() -> None:
    runs = games([0, 0, 9], [5, 5, 5], [4, 4, 4])
    assert median_of_games(runs) == 4
    assert mean_of_games(runs) == 4
    assert median_of_games(games([0, 0, 9], [0, 0, 30], [1, 1, 1])) == 3  # the median run scores 1


def test_each_game_weighs_the_same_whatever_its_number_of_runs() -> None:
    runs = games([10], [0, 1, 2, 3, 4])
    assert mean_of_games(runs) == 6
    assert median_of_games(runs) == 6
    assert optimality_gap(runs) == pytest.approx(1 - (1 + 4 / 5) / 2)
    # Six runs, so one run's worth is cut at each end. The 10 counts as 6/2 runs, the others as 6/10 each. From below go
    # 0 and two thirds of 1, from above a third of the 10: 0.2, 0.6, 0.6, 0.6 and 2 runs' worth stay, four in all.
    assert iqm(runs) == pytest.approx((0.2 * 1 + 0.6 * (2 + 3 + 4) + 2 * 10) / 4)


def test_runs_said_twice_change_nothing_where_no_run_is_cut_in_two() -> None:
    # Twelve runs and sixteen: a quarter of either is a whole number of runs' worth.
    runs = games([0, 1, 2, 3], [4, 5, 6, 9], [2, 2, 7, 8])
    doubled = [np.repeat(runs[0], 2), *runs[1:]]
    for aggregate in AGGREGATES:
        assert aggregate(doubled) == pytest.approx(float(aggregate(runs)))


@pytest.mark.parametrize(("num_games", "num_runs"), [(17, 5), (5, 3), (2, 1), (1, 7), (3, 4)])
def test_with_equal_counts_the_iqm_is_the_trimmed_mean_of_all_runs(num_games: int, num_runs: int) -> None:
    runs = np.random.default_rng(0).normal(size=(num_games, num_runs))
    pooled = sorted(Fraction(score) for score in runs.ravel())
    cut = len(pooled) // 4
    kept = pooled[cut : len(pooled) - cut]
    assert iqm(list(runs)) == pytest.approx(float(sum(kept) / len(kept)), rel=1e-12)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_order_of_runs_and_of_games_says_nothing(aggregate: Aggregate) -> None:
    runs = random_games(0)
    shuffled = [np.random.default_rng(1).permutation(game) for game in reversed(runs)]
    assert aggregate(shuffled) == pytest.approx(float(aggregate(runs)))


@pytest.mark.parametrize("tied", [[[1, 1, 1], [1, 1], [0, 2]], [[0, 1], [0, 1, 1, 1, 0]]])
def test_ties_between_games_are_no_order(tied: list[list[float]]) -> None:
    assert iqm(games(*tied)) == pytest.approx(float(iqm(games(*reversed(tied)))))


@pytest.mark.parametrize("aggregate", [mean_of_games, median_of_games, iqm])
def test_an_aggregate_lies_among_the_scores_and_moves_with_them(aggregate: Aggregate) -> None:
    for seed in range(20):
        runs = random_games(seed)
        value = float(aggregate(runs))
        assert min(game.min() for game in runs) <= value <= max(game.max() for game in runs)
        assert aggregate([3 * game - 2 for game in runs]) == pytest.approx(3 * value - 2)


def test_the_optimality_gap_lies_between_nothing_and_the_worst_shortfall() -> None:
    for seed in range(20):
        runs = random_games(seed)
        assert 0 <= optimality_gap(runs) <= 1 - min(game.min() for game in runs)
        assert optimality_gap(runs) >= 1 - mean_of_games(runs)
    assert optimality_gap(games([1, 2], [7])) == 0


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_batch_holds_the_aggregate_of_each_of_its_rows(aggregate: Aggregate) -> None:
    generator = np.random.default_rng(0)
    batch = [generator.normal(size=(6, 2, count)) for count in (5, 3, 4)]
    values = aggregate(batch)
    assert values.shape == (6, 2)
    for row, column in product(range(6), range(2)):
        assert values[row, column] == pytest.approx(float(aggregate([game[row, column] for game in batch])))


@pytest.mark.parametrize(
    ("runs", "complaint"),
    [
        (games([1, 2], [3, NAN, 4]), "game 1: 3 scores, 1 of them not finite"),
        (games([math.inf], [3]), "game 0: 1 scores, 1 of them not finite"),
        (games([1], [2], []), "game 2: 0 scores"),
        ([], "no game"),
        ([1.0, 2.0], r"game 0: scores of shape \(\)"),
    ],
)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_runs_that_have_no_aggregate_are_refused(
    aggregate: Aggregate, runs: list[np.ndarray], complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        aggregate(runs)
    with pytest.raises(Refusal, match=complaint):
        stratified_interval(runs, aggregate)


def test_a_profile_by_hand() -> None:
    runs = games([0, 1, 2, 3], [1, 5])
    # A run that scores just the threshold is not above it.
    profile = performance_profile(runs, [-1, 0, 1, 4, 5])
    assert profile.tolist() == [1.0, (3 / 4 + 1) / 2, (2 / 4 + 1 / 2) / 2, (0 + 1 / 2) / 2, 0.0]


def test_a_profile_falls_from_one_to_nothing_and_its_area_is_the_mean() -> None:
    thresholds = np.linspace(-3, 5, 8001)
    for seed in range(5):
        runs = random_games(seed)
        profile = performance_profile(runs, thresholds)
        assert (np.diff(profile) <= 0).all()
        assert (profile[0], profile[-1]) == (1.0, 0.0)
        assert thresholds[0] + profile.mean() * 8.0 == pytest.approx(float(mean_of_games(runs)), abs=3e-3)


def test_the_band_lies_around_its_profile_and_falls_too() -> None:
    runs, thresholds = random_games(0), np.linspace(-1, 3, 41)
    profile = performance_profile(runs, thresholds)
    low, high = performance_profile_band(runs, thresholds, seed=3)
    assert ((low >= 0) & (low <= profile) & (profile <= high) & (high <= 1)).all()
    assert (np.diff(low) <= 0).all()
    assert (np.diff(high) <= 0).all()
    again = performance_profile_band(runs, thresholds, seed=3)
    assert np.array_equal(again, (low, high))


def test_a_band_by_hand() -> None:
    # One of two runs is above 1: resamples hold 0, 1 or 2 of it with probability 1/4, 1/2, 1/4.
    low, high = performance_profile_band(games([0, 2]), [-1.0, 1.0, 2.0])
    assert (low.tolist(), high.tolist()) == ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])
    low, high = performance_profile_band(games([0, 2]), [1.0], level=0.4)
    assert (low.tolist(), high.tolist()) == ([0.5], [0.5])


def test_thresholds_that_are_not_finite_are_refused() -> None:
    with pytest.raises(Refusal, match="2 thresholds, 1 of them not finite"):
        performance_profile(games([1.0]), [0.0, NAN])


def test_resamples_stay_within_their_game() -> None:
    # Runs of a game are alike, so whatever is drawn within games leaves each as it was.
    assert stratified_interval(games([0, 0, 0], [6, 6]), mean_of_games) == (3, 3, 3, 5)
    assert stratified_interval(games([0, 0], [6, 6], [7, 7]), median_of_games) == (6, 6, 6, 6)


def test_a_stratified_interval_by_hand() -> None:
    # Means of resamples of [0, 1] are 0, 1/2, 1; beside a game that is always 1 the mean of games is 1/2, 3/4, 1.
    runs = games([0, 1], [1, 1, 1])
    assert stratified_interval(runs, mean_of_games) == (0.75, 0.5, 1.0, 5)
    assert stratified_interval(runs, mean_of_games, level=0.4) == (0.75, 0.75, 0.75, 5)


def test_the_interval_of_one_game_is_that_of_its_mean() -> None:
    scores = np.random.default_rng(0).normal(size=30)
    assert stratified_interval([scores], mean_of_games, seed=7) == mean_interval(scores, seed=7)


@pytest.mark.parametrize("aggregate", [*AGGREGATES, functools.partial(optimality_gap, gamma=2.0)])
def test_equal_seeds_give_equal_stratified_intervals(aggregate: Aggregate) -> None:
    runs = random_games(0)
    interval = stratified_interval(runs, aggregate, seed=4)
    assert interval == stratified_interval([game.tolist() for game in runs], aggregate, seed=4)
    assert interval != stratified_interval(runs, aggregate, seed=5)
    assert interval.low < interval.estimate < interval.high
    assert interval.n == 19


def covered(
    interval: Callable[[np.random.Generator], Interval], truth: float, repetitions: int = 200
) -> float:
    """Share of synthetic repetitions whose interval holds the truth."""
    generator = np.random.default_rng(0)
    held = [interval(generator) for _ in range(repetitions)]
    return sum(low <= truth <= high for _, low, high, _ in held) / repetitions


@pytest.mark.parametrize("aggregate", [mean_of_games, median_of_games, iqm])
def test_a_stratified_interval_covers_the_truth_about_as_often_as_it_says(aggregate: Aggregate) -> None:
    # Games lie symmetrically around 1, which is then the truth of all three; counts differ.
    centres, counts = (0.0, 0.5, 1.0, 1.5, 2.0), (20, 30, 25, 30, 20)

    def interval(generator: np.random.Generator) -> Interval:
        runs = [
            generator.normal(centre, 0.5, size=count) for centre, count in zip(centres, counts, strict=True)
        ]
        return stratified_interval(runs, aggregate, resamples=300)

    # The median is the middle game's mean, of 25 runs: its bootstrap covers 93 %; the standard error here is 1.8 %.
    assert 0.88 < covered(interval, 1.0) < 0.99


# One method against another --------------------------------------------------------------------------


def test_a_share_kept_by_hand() -> None:
    # (2 - 1) / (5 - 1): a quarter; pairs that are all alike leave no doubt.
    assert kept_interval([2.0] * 10, [5.0] * 10, 1.0) == (0.25, 0.25, 0.25, 10)
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


def test_resamples_without_a_reference_are_left_out() -> None:
    # k of ten drawn games of the reference are at -1: its mean is 1.5 - k/4, above random play for k up to 5 only.
    found = kept_interval(10 * [2.0], 5 * [-1.0] + 5 * [1.5], 0.0)
    # Of those resamples k is 1 or less in 1.7 %, 2 or less in 8.8 %, and 5 in 39 %.
    assert found == pytest.approx((2 / 0.25, 2 / 1.0, 2 / 0.25, 10))


def test_the_difference_of_pairs_by_hand() -> None:
    assert paired_difference(4 * [3.0, 8.0, 1.0], 4 * [1.0, 6.0, -1.0]) == (2.0, 2.0, 2.0, 12)
    assert paired_difference([1.0, 2.0, 9.0], [4.0, 4.0, 4.0]).estimate == 0.0


def test_the_difference_turns_its_sign_with_its_sides() -> None:
    generator = np.random.default_rng(0)
    scores, others = generator.normal(size=30), generator.normal(size=30)
    there, back = paired_difference(scores, others), paired_difference(others, scores)
    assert there[:3] == pytest.approx((-back.estimate, -back.high, -back.low))


@pytest.mark.parametrize(
    ("scores", "others", "complaint"),
    [
        ([1.0], [1.0, 2.0], "1 scores compared with 2: pairs are needed"),
        ([NAN], [1.0], "1 scores"),
        ([], [], "0 scores"),
    ],
)
def test_differences_of_no_pairs_are_refused(
    scores: list[float], others: list[float], complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        paired_difference(scores, others)


def test_the_probability_of_improvement_by_hand() -> None:
    # Pairs won of [1, 3] against [0, 2, 3]: 1 wins one of three; 3 wins two and ties one. The second game is lost.
    assert probability_of_improvement(games([1, 3]), games([0, 2, 3])).estimate == pytest.approx(3.5 / 6)
    interval = probability_of_improvement(games([1, 3], [0]), games([0, 2, 3], [1, 2]))
    assert interval.estimate == pytest.approx((3.5 / 6 + 0) / 2)
    assert interval.n == 8
    assert probability_of_improvement(games([5, 6]), games([1, 2])) == (1, 1, 1, 4)
    assert probability_of_improvement(games([4, 4]), games([4, 4])) == (0.5, 0.5, 0.5, 4)


def test_improvement_has_an_interval_made_by_hand() -> None:
    # Of [0, 2] against 1, a resample holds 0, 1 or 2 winners with probability 1/4, 1/2, 1/4.
    assert probability_of_improvement(games([0, 2]), games([1, 1]))[:3] == (0.5, 0.0, 1.0)
    assert probability_of_improvement(games([0, 2]), games([1, 1]), level=0.4)[:3] == (0.5, 0.5, 0.5)


def test_what_improves_on_the_one_is_not_improved_on_by_the_other() -> None:
    runs, others = random_games(0), random_games(1, counts=(4, 6, 5, 3))
    there, back = probability_of_improvement(runs, others), probability_of_improvement(others, runs)
    assert there.estimate == pytest.approx(1 - back.estimate)
    assert 0 <= there.low <= there.estimate <= there.high <= 1
    backwards = probability_of_improvement(runs[::-1], [game[::-1] for game in others[::-1]])
    assert backwards.estimate == pytest.approx(there.estimate)
    # It is about order alone.
    grown = probability_of_improvement([np.exp(game) for game in runs], [np.exp(game) for game in others])
    assert grown == there
    assert probability_of_improvement(runs, others, seed=1) != there


def test_improvement_covers_the_truth_about_as_often_as_it_says() -> None:
    # X - Y is normal with mean 1 and variance 2: P(X > Y) = Phi(1 / sqrt(2)).
    truth = 0.5 * (1 + math.erf(0.5))

    def interval(generator: np.random.Generator) -> Interval:
        runs = [generator.normal(1.0, 1.0, size=count) for count in (10, 12, 8)]
        others = [generator.normal(0.0, 1.0, size=count) for count in (12, 8, 10)]
        return probability_of_improvement(runs, others, resamples=300)

    assert 0.88 < covered(interval, truth) < 0.99


def test_methods_on_other_games_are_refused() -> None:
    with pytest.raises(Refusal, match="1 games compared with 2"):
        probability_of_improvement(games([1]), games([1], [2]))
    with pytest.raises(Refusal, match="game 1: 2 scores, 1 of them"):
        probability_of_improvement(games([1], [2]), games([1], [2, NAN]))


def test_what_two_agents_keep_of_their_own_scores_is_compared_episode_by_episode() -> None:
    # Above random play (1) one keeps 6 of 8, the other 1 of 4, in every episode: 3/4 - 1/4.
    assert kept_difference([7.0] * 10, [9.0] * 10, [2.0] * 10, [5.0] * 10, 1.0) == (0.5, 0.5, 0.5, 10)
    # Constant references leave the bootstrap of a paired difference, in their unit.
    scores, others = np.arange(12.0), np.arange(12.0)[::-1] / 2
    kept = kept_difference(scores, np.full(12, 10.0), others, np.full(12, 10.0), 0.0, seed=3)
    assert kept == pytest.approx([*(x / 10 for x in paired_difference(scores, others, seed=3)[:3]), 12])
    # What both lose in the same hard episodes is no difference.
    clean = np.random.default_rng(0).uniform(5.0, 50.0, size=30)
    assert kept_difference(clean / 2, clean, clean / 4, clean / 2, 0.0)[:3] == pytest.approx([0.0] * 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (([1.0], [2.0], [1.0, 1.0], [2.0]), "pairs are needed"),
        (([1.0], [2.0], [1.0], [0.5]), "not above random play's 0.5"),
        (([1.0], [NAN], [1.0], [2.0]), "not finite"),
    ],
)
def test_what_does_not_pair_or_has_no_share_is_not_compared(
    arrays: tuple[list[float], ...], words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        kept_difference(*arrays, random=0.5)  # type: ignore[misc]


# Learning curves -------------------------------------------------------------------------------------


def test_stability_of_a_curve_by_hand() -> None:
    curve = [0.0, 4.0, 10.0, 7.0, 8.0, 6.0]
    # Differences 4 6 -3 1 -2: sorted -3 -2 1 4 6, quartiles -2 and 4.
    assert dispersion_across_time(curve) == 6
    # The 95 % quantile of the drops -4 -6 3 -1 2 lies between 2 and 3; 60 % is the third of five, -1.
    assert short_term_risk(curve) == 3
    assert short_term_risk(curve, alpha=0.5) == pytest.approx((3 + 2 - 1) / 3)
    # Drawdowns 0 0 0 3 2 4.
    assert long_term_risk(curve) == 4
    assert long_term_risk(curve, alpha=0.5) == pytest.approx((3 + 2 + 4) / 3)
    assert final_over_best(curve, random=0.0) == pytest.approx(0.6)
    assert final_over_best(curve, random=-10.0) == pytest.approx(16 / 20)


def test_the_worst_twentieth_of_many_steps_is_averaged() -> None:
    # Drops of 1 to 100 in some order: at or above the 95 % quantile, 95.05, are 96 to 100.
    drops = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert short_term_risk(-np.concatenate([[0.0], drops.cumsum()])) == pytest.approx(98.0)


def test_a_steady_rise_is_without_dispersion_and_without_long_term_risk() -> None:
    rise = np.arange(20.0) * 0.5
    assert dispersion_across_time(rise) == 0
    assert short_term_risk(rise) == -0.5
    assert long_term_risk(rise) == 0
    assert final_over_best(rise, random=0.0) == 1


def test_dispersion_across_runs_by_hand() -> None:
    # Quartiles of 0 1 2 3 are 0.75 and 2.25; at the second point all runs agree.
    assert dispersion_across_runs(np.array([[3.0, 5.0], [0.0, 5.0], [2.0, 5.0], [1.0, 5.0]])) == 1.5 / 2


def test_curves_that_run_apart_evenly_disperse_across_runs_alone() -> None:
    curves = np.arange(10.0) + np.array([[0.0], [4.0], [8.0]])
    assert dispersion_across_runs(curves) == 4
    assert dispersion_across_time(curves).tolist() == [0, 0, 0]


CURVE_STATISTICS = (
    dispersion_across_time,
    short_term_risk,
    long_term_risk,
    functools.partial(final_over_best, random=-9.0),
)


@pytest.mark.parametrize("statistic", CURVE_STATISTICS)
def test_each_curve_stands_for_itself(statistic: Callable[[np.ndarray], np.ndarray]) -> None:
    curves = np.random.default_rng(0).normal(size=(4, 30))
    assert statistic(curves).tolist() == [pytest.approx(float(statistic(curve))) for curve in curves]


@pytest.mark.parametrize("statistic", [*CURVE_STATISTICS[:3], dispersion_across_runs])
def test_stability_is_in_units_of_the_score(statistic: Callable[[np.ndarray], np.ndarray]) -> None:
    curves = np.random.default_rng(0).normal(size=(4, 30))
    assert statistic(3 * curves + 7) == pytest.approx(3 * np.asarray(statistic(curves)))


@pytest.mark.parametrize("statistic", [*CURVE_STATISTICS, dispersion_across_runs])
def test_curves_that_are_none_are_refused(statistic: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(Refusal, match="has 1 point: two or more"):
        statistic(np.zeros((2, 1)))
    with pytest.raises(Refusal, match="6 scores, 1 of them not finite"):
        statistic(np.array([[1.0, 2.0, NAN], [1.0, 2.0, 3.0]]))


def test_one_run_has_no_dispersion_across_runs() -> None:
    with pytest.raises(Refusal, match=r"shape \(1, 3\): two or more runs"):
        dispersion_across_runs(np.array([[1.0, 2.0, 3.0]]))


def test_a_best_score_below_random_play_has_no_share() -> None:
    with pytest.raises(Refusal, match=r"best score -21 is not above random play's -20\.7"):
        final_over_best([-21.0, -21.0], random=-20.7)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_a_worst_share_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(Refusal, match=f"alpha {alpha}"):
        short_term_risk([1.0, 2.0, 3.0], alpha)
