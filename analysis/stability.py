"""Measures of learning curves: pure functions of arrays. Never imports torch.

Definitions are those of Chan et al. 2020 (arXiv 1912.05663).
"""

from collections.abc import Sequence

import numpy as np

from analysis.aggregates import finite
from core.errors import Refusal


def dispersion_across_time(curves: Sequence[float] | np.ndarray) -> np.ndarray:
    """Interquartile range of a learning curve's differences (Chan et al. 2020; 0 is a curve of constant slope).

    Differencing takes the trend away. One window spans the whole curve.

    Args:
        curves: [..., points], scores at evaluations that are equally far apart.

    Returns:
        [...], in units of the score for one step between evaluations.

    Raises:
        Refusal: a curve of fewer than two points, or a score that is not finite.
    """
    return _interquartile_range(np.diff(_curves(curves)), -1)


def dispersion_across_runs(curves: np.ndarray) -> float:
    """Interquartile range across runs at each point, averaged over points (Chan et al. 2020; they smooth curves first).

    Args:
        curves: [runs, points], scores at the same evaluations.

    Returns:
        In units of the score.

    Raises:
        Refusal: fewer than two runs or points, or a score that is not finite.
    """
    values = _curves(curves)
    if values.ndim != 2 or len(values) < 2:
        raise Refusal(f"curves of shape {values.shape}: two or more runs are needed, [runs, points]")
    return float(_interquartile_range(values, 0).mean())


def short_term_risk(curves: Sequence[float] | np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Conditional value at risk of the drops from each point to the next (Chan et al. 2020): the mean of the worst.

    Args:
        curves: [..., points], scores at evaluations that are equally far apart.
        alpha: share of the steps that counts as the worst, in (0, 1).

    Returns:
        [...], in units of the score for one step between evaluations. A loss is positive, as in `long_term_risk`; Chan
        et al. give it the sign of the difference.

    Raises:
        Refusal: a curve of fewer than two points, or a score that is not finite; alpha outside (0, 1).
    """
    return _mean_of_largest(-np.diff(_curves(curves)), alpha)


def long_term_risk(curves: Sequence[float] | np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Conditional value at risk of the drawdown, the fall below the best score so far (Chan et al. 2020).

    Args:
        curves: [..., points], scores.
        alpha: share of the points that counts as the worst, in (0, 1).

    Returns:
        [...], in units of the score, 0 where a curve never falls.

    Raises:
        Refusal: as `short_term_risk`.
    """
    values = _curves(curves)
    return _mean_of_largest(np.maximum.accumulate(values, -1) - values, alpha)


def final_over_best(curves: Sequence[float] | np.ndarray, random: float) -> np.ndarray:
    """(last - random) / (best - random) of a learning curve: what of the best score training kept.

    Args:
        curves: [..., points], scores.
        random: score of random play; without it a ratio of scores that may be negative says nothing.

    Returns:
        [...], a share of at most 1; negative where the last score is below random play.

    Raises:
        Refusal: a curve of fewer than two points, a score that is not finite, or a best one not above random play.
    """
    values = _curves(curves)
    best = values.max(-1)
    if not (best > random).all():
        raise Refusal(f"the best score {best.min():.4g} is not above random play's {random:.4g}")
    shares: np.ndarray = (values[..., -1] - random) / (best - random)
    return shares


def _curves(curves: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.atleast_1d(finite(curves))
    if values.shape[-1] < 2:
        raise Refusal(f"a learning curve of {values.shape[-1]} point: two or more are needed")
    return values


def _interquartile_range(values: np.ndarray, axis: int) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75], axis=axis)
    ranges: np.ndarray = high - low
    return ranges


def _mean_of_largest(values: np.ndarray, alpha: float) -> np.ndarray:
    """Mean of those of [..., n] at or above their (1 - alpha) quantile: [...]."""
    if not 0 < alpha < 1:
        raise Refusal(f"alpha {alpha}: one in (0, 1) is needed")
    bound = np.quantile(values, 1 - alpha, axis=-1, keepdims=True)
    means: np.ndarray = values.mean(-1, where=values >= bound)
    return means
