"""Statistics of scores: pure, seeded functions of arrays. Never imports torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.errors import Refusal

RESAMPLES = 2000


class Interval(NamedTuple):
    """An estimate and the percentile-bootstrap interval around it."""

    estimate: float
    low: float
    high: float
    n: int


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
        Refusal: no score, or one that is NaN or infinite.
    """
    values = _finite(scores)
    means = values[_resamples(values.size, resamples, seed)].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), int(values.size))


def kept_interval(
    scores: Sequence[float] | np.ndarray,
    reference: Sequence[float] | np.ndarray,
    random: float,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Share of another agent's random-normalised score that is kept, with its paired percentile-bootstrap interval.

    (mean(scores) - random) / (mean(reference) - random), episodes being drawn in pairs; of several games it is averaged
    to the APR of Xu et al. 2026 (arXiv 2610.07808), who use best instead of mean returns.

    Args:
        scores: [n], finite.
        reference: [n] of the agent it is held against, on the same episodes in the same order.
        random: score of random play.
        level, resamples, seed: as in `mean_interval`.

    Raises:
        Refusal: scores are missing or not finite, are not pairs, or the reference is no better than random play.
    """
    values, others = _finite(scores), _finite(reference)
    if values.size != others.size:
        raise Refusal(f"{values.size} scores against {others.size}: pairs are needed")
    if not others.mean() > random:
        raise Refusal(
            f"the reference's mean score {others.mean():.4g} is not above random play's {random:.4g}"
        )
    drawn = _resamples(values.size, resamples, seed)
    gained, possible = values[drawn].mean(1) - random, others[drawn].mean(1) - random
    # A resample in which the reference is no better than random play says nothing of a share.
    shares = gained[possible > 0] / possible[possible > 0]
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    share = (values.mean() - random) / (others.mean() - random)
    return Interval(float(share), float(low), float(high), int(values.size))


def _finite(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise Refusal(
            f"{values.size} scores, {int((~np.isfinite(values)).sum())} of them not finite: finite ones are needed"
        )
    return values


def _resamples(size: int, resamples: int, seed: int) -> np.ndarray:
    """[resamples, size] indices, drawn with replacement."""
    return np.random.default_rng(seed).integers(size, size=(resamples, size))
