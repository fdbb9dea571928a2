"""Statistics of scores: pure, seeded functions of arrays. Never imports torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.errors import Refusal

RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean and the percentile-bootstrap interval around it."""

    mean: float
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
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise Refusal(
            f"{values.size} scores, {int((~np.isfinite(values)).sum())} of them not finite: finite ones are needed"
        )
    generator = np.random.default_rng(seed)
    means = values[generator.integers(values.size, size=(resamples, values.size))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), int(values.size))
