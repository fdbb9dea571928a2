"""Intervals of scores, of shares and of their differences: pure, seeded functions. Never imports torch.

Aggregates over games are in analysis/aggregates.py, measures of learning curves in analysis/stability.py.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from analysis.aggregates import (
    RESAMPLES,
    average_performance_ratio,
    finite,
    mean_of_games,
    percentiles,
    require_level,
    require_pairs,
    resampled_indices,
    stratified_interval,
)
from analysis.aggregates import Interval as Interval
from core.errors import Refusal


class NonInferiority(NamedTuple):
    """Whether scores are shown to be no worse than others by as much as a margin, which is in units of the score."""

    holds: bool
    margin: float
    difference: Interval


# Scores of one game ----------------------------------------------------------------------------------


def mean_interval(
    scores: Sequence[float] | np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of n scores with its percentile-bootstrap interval (Efron 1979).

    Over the episodes of one network this is the spread that the papers print, not the one over training
    seeds that a claim about a method needs.

    Args:
        scores: [n], finite.
        level: coverage of the interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        Refusal: no score, or one that is NaN or infinite; a level outside (0, 1).
    """
    return stratified_interval([np.asarray(scores)], mean_of_games, level, resamples, seed)


def spread_of_scores(scores: Sequence[float] | np.ndarray) -> float:
    """Population standard deviation (over n, not n - 1) of one evaluation's scores, as Liu et al. 2022 print it.

    It is of the episodes of one network and in units of the score, and no interval: it does not shrink with n.

    Raises:
        Refusal: no score, or one that is not finite.
    """
    return float(finite(scores).std())


def normalised(scores: Sequence[float] | np.ndarray, low: float, high: float) -> np.ndarray:
    """(x - low) / (high - low): 0 is the score `low` and 1 is `high`, as random play and a human's or a DQN's.

    Args:
        scores: any shape, of one game.
        low, high: in units of the score.

    Raises:
        Refusal: something is not finite, or high is not above low.
    """
    if not (np.isfinite([low, high]).all() and high > low):
        raise Refusal(f"low {low}, high {high}: finite ones are needed, the high above the low")
    return (finite(scores) - low) / (high - low)


# Shares of states ------------------------------------------------------------------------------------


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """A share of n states with its score interval (Wilson 1927), which has width at 0 and at 1 too.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes/n and z the normal quantile.

    Args:
        successes: how many of them, from 0 to n.
        n: at least 1.
        level: coverage of the interval, in (0, 1).

    Raises:
        Refusal: counts that are none, or a level outside (0, 1).
    """
    if not 0 <= successes <= n or n < 1:
        raise Refusal(f"{successes} of {n}: a count from 0 to n is needed, and n of 1 or more")
    require_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the bound is exactly the share; rounding must not push it past.
    return Interval(share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share), n)


def share_difference(
    successes: Sequence[bool] | np.ndarray, others: Sequence[bool] | np.ndarray, level: float = 0.95
) -> Interval:
    """Difference of two shares of the same n states, with its interval (Newcombe 1998, Statistics in Medicine 17: 2635,
    his method 10).

    It is made of the intervals of both shares and of phi, the correlation of the two, with Newcombe's correction for
    continuity: shares that rise and fall together differ by less than shares of other states would.

    Args:
        successes, others: [n] bool, the same states in the same order.
        level: as in `share_interval`.

    Raises:
        Refusal: as `share_interval`, or other numbers of states.
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
    """Share of another agent's random-normalised score that is kept, with its paired percentile-bootstrap interval.

    `average_performance_ratio` of one game, episodes being drawn in pairs.

    Args:
        scores: [n], finite.
        reference: [n] of the agent it is held against, on the same episodes in the same order.
        random: score of random play.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing or not finite, are not pairs, or the reference is no better than random play.
    """
    return average_performance_ratio(
        [np.asarray(scores)],
        [np.asarray(reference)],
        [random],
        paired=True,
        level=level,
        resamples=resamples,
        seed=seed,
    )


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
    """How much more of its own random-normalised score one agent keeps than another does of its own.

    (mean(scores) - random) / (mean(reference) - random) less the same of the other agent. All four are drawn together,
    episode by episode.

    Args:
        scores, reference: [n] of one agent on the same episodes, under attack and clean.
        others, others_reference: [n] of the other, on these episodes too, in the same order.
        random: score of random play.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing or not finite, are not pairs, or a reference is no better than random play.
    """
    values = [finite(each) for each in (scores, reference, others, others_reference)]
    for each in values[1:]:
        require_pairs(values[0], each)
    for each in (values[1], values[3]):
        if not each.mean() > random:
            raise Refusal(
                f"the reference's mean score {each.mean():.4g} is not above random play's {random:.4g}"
            )
    drawn = resampled_indices(values[0].size, resamples, np.random.default_rng(seed))
    attacked, clean, attacked_other, clean_other = (each[drawn].mean(1) - random for each in values)
    # A resample in which a reference is no better than random play says nothing of a share.
    telling = (clean > 0) & (clean_other > 0)
    shares = attacked[telling] / clean[telling] - attacked_other[telling] / clean_other[telling]
    means = [each.mean() - random for each in values]
    low, high = percentiles(shares, level)
    return Interval(float(means[0] / means[1] - means[2] / means[3]), float(low), float(high), values[0].size)


def paired_difference(
    scores: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of scores - others over n pairs, with its percentile-bootstrap interval in units of the score.

    Args:
        scores: [n], finite.
        others: [n], on the same episodes or of the same training seeds, in the same order.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing or not finite, or are not pairs.
    """
    values, others = finite(scores), finite(others)
    require_pairs(values, others)
    return mean_interval(values - others, level, resamples, seed)


def non_inferior(difference: Interval, margin: float) -> NonInferiority:
    """Non-inferiority: the interval of the difference lies above -margin.

    With the two-sided 95 % interval of `paired_difference` this is a one-sided test at 2.5 %.

    Args:
        difference: of the scores in question minus those they are held against.
        margin: the loss that would still be accepted, in units of the score, chosen before the scores are seen.

    Raises:
        Refusal: a margin that is negative or not finite.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise Refusal(f"margin {margin}: a finite one of 0 or more is needed")
    return NonInferiority(difference.low > -margin, margin, difference)
