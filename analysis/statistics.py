"""Intervals of scores, of shares and of their differences: pure functions with seeds. Never imports torch.

Aggregates over games are in analysis/aggregates.py, and measures of learning curves in analysis/stability.py.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from analysis.aggregates import (
    RESAMPLES,
    finite,
    mean_of_games,
    percentiles,
    require_above,
    require_level,
    require_pairs,
    resampled_indices,
    stratified_interval,
)
from analysis.aggregates import Interval as Interval
from core.errors import Refusal

LEAST_EPISODES = 10
"""Fewest episodes for an interval over them, and for any claim.

With few values the bootstrap does not see the spread. Of 95 % intervals over scores of our networks, 47 of 100 hold the
mean at 2 episodes, 79 at 5, 87 at 10 and 90 at 20 (`python -m benchmarks.intervals`). From 10 on they miss it less than
three times as often as they say.
"""


# Scores of one game ----------------------------------------------------------------------------------


def mean_interval(
    scores: Sequence[float] | np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of n scores with its percentile-bootstrap interval (Efron 1979). Below LEAST_EPISODES there is no interval.

    If the scores are of one network's episodes, the interval says nothing about other training seeds. A claim about a
    method needs an interval over training seeds.

    Args:
        scores: [n], finite.
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        Refusal: there is no score, a score is NaN or infinite, or the level is outside (0, 1).
    """
    return stratified_interval([np.asarray(scores)], mean_of_games, level, resamples, seed, LEAST_EPISODES)


def spread_of_scores(scores: Sequence[float] | np.ndarray) -> float:
    """Population standard deviation (over n, not n - 1) of one evaluation's scores, as in Liu et al. 2022.

    It is in units of the score and over the episodes of one network. It is not an interval and does not shrink with n.

    Raises:
        Refusal: there is no score, or a score is not finite.
    """
    return float(finite(scores).std())


def normalised(scores: Sequence[float] | np.ndarray, low: float, high: float) -> np.ndarray:
    """Normalise scores to (x - low) / (high - low), so that `low` becomes 0 and `high` becomes 1.

    Usually `low` is the score of random play and `high` that of a human or a DQN.

    Args:
        scores: any shape, of one game.
        low, high: in units of the score.

    Raises:
        Refusal: a value is not finite, or high is not above low.
    """
    if not (np.isfinite([low, high]).all() and high > low):
        raise Refusal(f"low {low}, high {high}: both must be finite, and high above low")
    return (finite(scores) - low) / (high - low)


# Shares of states ------------------------------------------------------------------------------------


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """A share of n states with its score interval (Wilson 1927), which has a width at 0 and 1 too.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes/n and z the normal quantile.

    Args:
        successes: number of successes, from 0 to n.
        n: number of states, at least 1.
        level: coverage of the interval, in (0, 1).

    Raises:
        Refusal: the counts are invalid, or the level is outside (0, 1).
    """
    if not 0 <= successes <= n or n < 1:
        raise Refusal(f"{successes} of {n}: the count must be from 0 to n, and n at least 1")
    require_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At 0 and 1 one bound equals the share. Rounding must not push it past.
    return Interval(share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share), n)


def share_difference(
    successes: Sequence[bool] | np.ndarray, others: Sequence[bool] | np.ndarray, level: float = 0.95
) -> Interval:
    """Difference of two shares of the same n states, with its interval.

    Method 10 of Newcombe 1998, Statistics in Medicine 17: 2635. The interval combines those of both shares with phi,
    their correlation, with correction for continuity. Correlated shares give a narrower interval.

    Args:
        successes, others: [n] bool, the same states in the same order.
        level: as in `share_interval`.

    Raises:
        Refusal: as in `share_interval`, or the numbers of states differ.
    """
    own, theirs = np.asarray(successes, dtype=bool), np.asarray(others, dtype=bool)
    require_pairs(own, theirs)
    n = own.size
    share, other = (share_interval(int(each.sum()), n, level) for each in (own, theirs))
    both, neither = int((own & theirs).sum()), int((~own & ~theirs).sum())
    alone, others_alone = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    agreement = float(both * neither - alone * others_alone)
    if agreement > 0:
        agreement = max(agreement - n / 2, 0.0)
    margins = math.prod((both + alone, others_alone + neither, both + others_alone, alone + neither))
    phi = agreement / math.sqrt(margins) if margins else 0.0
    difference = share.estimate - other.estimate

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    below = reach(share.estimate - share.low, other.high - other.estimate)
    above = reach(share.high - share.estimate, other.estimate - other.low)
    return Interval(difference, difference - below, difference + above, n)


# Differences --------------------------------------------------------------------------


def kept_interval(
    scores: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    random: float,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Share of a reference agent's score above random play that an agent keeps, with its paired bootstrap interval.

    It is (mean(scores) - random) / (mean(reference) - random). Both scores of an episode are drawn together (percentile
    bootstrap). Below LEAST_EPISODES there is no interval.

    Args:
        scores: [n], finite.
        reference: [n], scores of the reference agent on the same episodes in the same order.
        random: score of random play.
        level, resamples, seed: as in `mean_interval`.

    Returns:
        The share, 1 for the reference itself.

    Raises:
        Refusal: scores are missing, not finite or not in pairs, or the reference is no better than random play.
    """
    values, others = finite(scores), finite(reference)
    require_pairs(values, others)
    require_above(others, random)
    drawn = resampled_indices(values.size, resamples, np.random.default_rng(seed))
    gained, possible = values[drawn].mean(1) - random, others[drawn].mean(1) - random
    # Without a reference above random play, a resample has no share.
    telling = possible > 0
    estimate = (values.mean() - random) / (others.mean() - random)
    return _paired_interval(float(estimate), gained[telling] / possible[telling], values.size, level)


def kept_difference(
    scores: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    others_reference: Sequence[float] | np.ndarray,
    random: float,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Difference between the shares that two agents keep of their own scores above random play, with its interval.

    A share is (mean(scores) - random) / (mean(reference) - random). All four scores of an episode are drawn together
    (percentile bootstrap). Below LEAST_EPISODES there is no interval.

    Args:
        scores, reference: [n], scores of the first agent under attack and clean, on the same episodes.
        others, others_reference: [n], scores of the second agent on these episodes, in the same order.
        random: score of random play.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing, not finite or not in pairs, or a reference is no better than random play.
    """
    values = [finite(each) for each in (scores, reference, others, others_reference)]
    for each in values[1:]:
        require_pairs(values[0], each)
    for each in (values[1], values[3]):
        require_above(each, random)
    drawn = resampled_indices(values[0].size, resamples, np.random.default_rng(seed))
    attacked, clean, attacked_other, clean_other = (each[drawn].mean(1) - random for each in values)
    # Without a reference above random play, a resample has no share.
    telling = (clean > 0) & (clean_other > 0)
    shares = attacked[telling] / clean[telling] - attacked_other[telling] / clean_other[telling]
    means = [each.mean() - random for each in values]
    estimate = float(means[0] / means[1] - means[2] / means[3])
    return _paired_interval(estimate, shares, values[0].size, level)


def paired_difference(
    scores: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of scores - others over n pairs, with its percentile-bootstrap interval, in units of the score.

    Below LEAST_EPISODES there is no interval.

    Args:
        scores: [n], finite.
        others: [n], on the same episodes in the same order.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing, not finite or not in pairs.
    """
    values, others = finite(scores), finite(others)
    require_pairs(values, others)
    return mean_interval(values - others, level, resamples, seed)


def _paired_interval(estimate: float, resampled: np.ndarray, n: int, level: float) -> Interval:
    """The percentile interval of what was computed on resamples of n pairs, or none below LEAST_EPISODES."""
    low, high = percentiles(resampled, level) if n >= LEAST_EPISODES else (math.nan, math.nan)
    return Interval(estimate, float(low), float(high), n)
