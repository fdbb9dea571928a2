"""Measures of learning curves: pure functions of arrays. Never imports torch.

Definitions are from Chan et al. 2020 (arXiv 1912.05663).
"""

from collections.abc import Sequence

import numpy as np

from analysis.aggregates import finite
from core.errors import Refusal


def dispersion_across_time(curves: Sequence[float] | np.ndarray) -> np.ndarray:
    """Interquartile range of a learning curve's differences (Chan et al. 2020). It is 0 for a constant slope.

    Differencing removes the trend. One window spans the whole curve.

    Args:
        curves: [..., points], scores at equally spaced evaluations.

    Returns:
        [...], in units of the score per step between evaluations.

    Raises:
        Refusal: a curve has fewer than two points, or a score is not finite.
    """
    return _interquartile_range(np.diff(_curves(curves)), -1)


def dispersion_across_runs(curves: np.ndarray) -> float:
    """Interquartile range across runs at each point, averaged over points (Chan et al. 2020).

    Chan et al. smooth the curves first. Here they are not smoothed.

    Args:
        curves: [runs, points], scores at the same evaluations.

    Returns:
        The range in units of the score.

    Raises:
        Refusal: there are fewer than two runs or points, or a score is not finite.
    """
    values = _curves(curves)
    if values.ndim != 2 or len(values) < 2:
        raise Refusal(f"curves of shape {values.shape}: two or more runs are needed, [runs, points]")
    return float(_interquartile_range(values, 0).mean())


def short_term_risk(curves: Sequence[float] | np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Conditional value at risk of the drops from each point to the next: the mean of the worst (Chan et al. 2020).

    Args:
        curves: [..., points], scores at equally spaced evaluations.
        alpha: share of the steps that count as the worst, in (0, 1).

    Returns:
        [...], in units of the score per step between evaluations. A loss is positive, as in `long_term_risk`. In Chan
        et al. it is negative.

    Raises:
        Refusal: a curve has fewer than two points, a score is not finite, or alpha is outside (0, 1).
    """
    return _mean_of_largest(-np.diff(_curves(curves)), alpha)


def long_term_risk(curves: Sequence[float] | np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """Conditional value at risk of the drawdown, the fall below the best score so far (Chan et al. 2020).

    Args:
        curves: [..., points], scores.
        alpha: share of the points that count as the worst, in (0, 1).

    Returns:
        [...], in units of the score; 0 for a curve that never falls.

    Raises:
        Refusal: as in `short_term_risk`.
    """
    values = _curves(curves)
    return _mean_of_largest(np.maximum.accumulate(values, -1) - values, alpha)


def final_over_best(curves: Sequence[float] | np.ndarray, random: float) -> np.ndarray:
    """Share of its best score above random play that a training run kept until its end.

    It is (last - random) / (best - random) of a learning curve.

    Args:
        curves: [..., points], scores.
        random: score of random play. Scores may be negative, so their plain ratio would have no meaning.

    Returns:
        [...], at most 1; negative if the last score is below random play.

    Raises:
        Refusal: a curve has fewer than two points, a score is not finite, or a best score is not above random play.
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
        raise Refusal(f"a learning curve has {values.shape[-1]} point: two or more are needed")
    return values


def _interquartile_range(values: np.ndarray, axis: int) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75], axis=axis)
    ranges: np.ndarray = high - low
    return ranges


def _mean_of_largest(values: np.ndarray, alpha: float) -> np.ndarray:
    """Mean of the values at or above their (1 - alpha) quantile: [..., n] to [...]."""
    if not 0 < alpha < 1:
        raise Refusal(f"alpha {alpha}: it must be in (0, 1)")
    bound = np.quantile(values, 1 - alpha, axis=-1, keepdims=True)
    means: np.ndarray = values.mean(-1, where=values >= bound)
    return means
