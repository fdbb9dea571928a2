"""Aggregates of scores over games: pure functions of arrays, with seeds. Never imports torch.

Scores of several games are `Runs`: an array of training runs for each game. Definitions are from Agarwal et al. 2021
(arXiv 2108.13264).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import Refusal

RESAMPLES = 2000
ROUNDING = 1e-9
"""Bounds that differ by less are equal."""
LEAST_RUNS = 2
"""Fewest training runs of a game for an interval over training runs. A single run has no spread."""

Runs = Sequence[np.ndarray]
"""The scores of the training runs (seeds) of each game: an array [runs] per game. Numbers of runs may differ."""
Aggregate = Callable[[Runs], np.ndarray]
"""A function from an array [..., runs] per game to an array [...]. Leading axes may be bootstrap resamples."""


class Interval(NamedTuple):
    """An estimate, its interval, and the number of values behind it."""

    estimate: float
    low: float
    """NaN, as `high` is, if there are too few values for an interval."""
    high: float
    n: int

    @property
    def is_given(self) -> bool:
        """Whether there were enough values for an interval."""
        return not math.isnan(self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval: whether a difference is significant.

        False without an interval, or if all values are equal, which says nothing about others.
        """
        return self.is_given and not self.is_tied and not self.low <= 0 <= self.high

    @property
    def is_tied(self) -> bool:
        """Whether the interval has no width, up to rounding, because all values are equal or in one proportion."""
        return math.isclose(self.low, self.high, rel_tol=ROUNDING, abs_tol=ROUNDING)


def mean_of_games(runs: Runs) -> np.ndarray:
    """Mean over games of the mean over runs (Agarwal et al. 2021).

    Args:
        runs: [..., runs] for each game, in units that compare between games, such as normalised scores.

    Returns:
        [...].

    Raises:
        Refusal: there is no game, a game has no runs, or a score is not finite.
    """
    means: np.ndarray = _game_means(runs).mean(-1)
    return means


def median_of_games(runs: Runs) -> np.ndarray:
    """Median over games of the mean over runs (Agarwal et al. 2021). Arguments as in `mean_of_games`."""
    medians: np.ndarray = np.median(_game_means(runs), -1)
    return medians


def iqm(runs: Runs) -> np.ndarray:
    """Interquartile mean: the 25 % trimmed mean of the runs of all games together (Agarwal et al. 2021).

    Each game has the same weight: with N runs in G games, a run of a game with n runs counts as N/(G n) runs. At each
    end floor(N/4) runs are cut off, possibly a fraction of a run. With equal numbers of runs this is SciPy's trim_mean.

    Arguments as in `mean_of_games`.
    """
    games = _games(runs, batched=True)
    sizes = np.array([game.shape[-1] for game in games])
    total = int(sizes.sum())
    cut = total // 4
    pooled = np.concatenate(games, -1)  # [..., total]
    order = np.argsort(pooled, -1)
    weights = np.repeat(total / (len(games) * sizes), sizes)[order]
    ends = np.cumsum(weights, -1)
    kept = np.clip(np.minimum(ends, total - cut) - np.maximum(ends - weights, cut), 0.0, None)
    means: np.ndarray = (kept * np.take_along_axis(pooled, order, -1)).sum(-1) / kept.sum(-1)
    return means


def optimality_gap(runs: Runs, gamma: float = 1.0) -> np.ndarray:
    """gamma - mean(min(x, gamma)): how far runs fall short of gamma (Agarwal et al. 2021). Smaller is better.

    Each game has the same weight. Arguments are as in `mean_of_games`; gamma is the score that is good enough.
    """
    return gamma - mean_of_games([np.minimum(game, gamma) for game in _games(runs, batched=True)])


def performance_profile(runs: Runs, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Share of runs that score above each threshold: the run-score distribution (Agarwal et al. 2021, section 4.2).

    It is the mean over games of each game's share, so each game has the same weight.

    Args:
        runs: as in `mean_of_games`.
        thresholds: [thresholds], in units of the scores.

    Returns:
        [..., thresholds].

    Raises:
        Refusal: as in `mean_of_games`, or a threshold is not finite.
    """
    tau = finite(thresholds, what="thresholds")
    # One game at a time to save memory: its comparisons are resamples x runs x thresholds.
    shares = [(game[..., None] > tau).mean(-2) for game in _games(runs, batched=True)]
    profile: np.ndarray = np.mean(shares, 0)  # [..., thresholds]
    return profile


def stratified_interval(
    runs: Runs,
    aggregate: Aggregate,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    least: int = LEAST_RUNS,
) -> Interval:
    """An aggregate over games with its stratified percentile-bootstrap interval (Agarwal et al. 2021).

    Runs are drawn with replacement within each game. The interval is therefore over training seeds, on these games
    only. The bootstrap's variance of a game's mean is (n - 1)/n of the true one, so few runs give too narrow an
    interval. A game with a single run would add nothing to its width, so none is given then.

    Args:
        runs: [runs] for each game.
        aggregate: such as `iqm`, or `functools.partial(optimality_gap, gamma=2.0)`.
        level, resamples, seed: as in `mean_interval`.
        least: fewest values of each game for which an interval is given.

    Returns:
        The interval in units of the aggregate; n is the number of runs of all games.

    Raises:
        Refusal: as in `mean_of_games`, or the level is outside (0, 1).
    """
    games = _games(runs)
    low, high = percentiles(aggregate(_resampled(games, resamples, seed)), level)
    return _interval(float(aggregate(games)), low, high, games, least)


def performance_profile_band(
    runs: Runs,
    thresholds: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise stratified-bootstrap band of `performance_profile`: each threshold has its own interval.

    Args:
        runs: [runs] for each game.
        thresholds: [thresholds].
        level, resamples, seed: as in `mean_interval`.

    Returns:
        Lower and upper bounds, each [thresholds]. NaN if a game has a single run.

    Raises:
        Refusal: as in `performance_profile`, or the level is outside (0, 1).
    """
    games = _games(runs)
    low, high = percentiles(performance_profile(_resampled(games, resamples, seed), thresholds), level)
    if min(game.size for game in games) < LEAST_RUNS:
        return np.full_like(low, np.nan), np.full_like(high, np.nan)
    return low, high


def probability_of_improvement(
    runs: Runs, others: Runs, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over games of P(X > Y) + P(X = Y)/2 for runs X of one method and Y of another (Agarwal et al. 2021).

    In each game it is the Mann-Whitney U statistic divided by the number of pairs. Within each game the runs of both
    methods are resampled independently.

    Args:
        runs: [n] for each game.
        others: [m] for each game, in the same units.
        level, resamples, seed: as in `mean_interval`.

    Returns:
        A probability in [0, 1]; n is the number of runs of both methods.

    Raises:
        Refusal: runs are missing or not finite, games differ, or the level is outside (0, 1).
    """
    games, opponents = same_games(runs, others)
    generator = np.random.default_rng(seed)
    estimates, resampled = [], []
    for mine, theirs in zip(games, opponents, strict=True):
        wins = (1 + np.sign(mine[:, None] - theirs)) / 2  # [n, m]
        # Counting how often each run was drawn avoids a table of pairs for each resample.
        drawn, drawn_theirs = (
            generator.multinomial(size, np.full(size, 1 / size), size=resamples) for size in wins.shape
        )  # [resamples, n], [resamples, m]
        estimates.append(wins.mean())
        resampled.append(((drawn @ wins) * drawn_theirs).sum(1) / wins.size)
    low, high = percentiles(np.mean(resampled, 0), level)
    return _interval(float(np.mean(estimates)), low, high, [*games, *opponents], LEAST_RUNS)


# Checks and resampling -------------------------------------------------------------------------------


def finite(scores: Sequence[float] | np.ndarray, name: str = "", what: str = "scores") -> np.ndarray:
    """The scores as a float64 array.

    Args:
        scores: any shape.
        name: begins the message of a refusal.
        what: what the values are, in that message.

    Raises:
        Refusal: there is no value, or a value is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise Refusal(
            f"{name}{values.size} {what}, {int((~np.isfinite(values)).sum())} of them not finite: "
            "one or more are needed, all finite"
        )
    return values


def _games(runs: Runs, batched: bool = False) -> list[np.ndarray]:
    """Checked scores in float64: [runs] for each game, or [..., runs] if batched."""
    if len(runs) == 0:
        raise Refusal("no game: an array of runs for each game is needed")
    games = [finite(game, name_of_game(index, runs)) for index, game in enumerate(runs)]
    for index, game in enumerate(games):
        if game.ndim == 0 or (game.ndim > 1 and not batched):
            raise Refusal(
                f"{name_of_game(index, runs)}scores of shape {game.shape}: one for each run is needed"
            )
    return games


def same_games(runs: Runs, others: Runs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Checked scores of two agents in float64, [runs] for each game. Refused if the numbers of games differ."""
    if len(runs) != len(others):
        raise Refusal(f"{len(runs)} games compared with {len(others)}: the same games are needed")
    return _games(runs), _games(others)


def require_random(games: Runs, random: Sequence[float]) -> None:
    """Check that there is a score of random play for each game."""
    if len(random) != len(games):
        raise Refusal(f"{len(games)} games, {len(random)} scores of random play: one for each game is needed")


def require_above(reference: np.ndarray, random: float, name: str = "") -> None:
    """Check that a reference is better than random play. `name` begins the message of a refusal."""
    if not reference.mean() > random:
        raise Refusal(
            f"{name}the reference's mean score {reference.mean():.4g} is not above random play's {random:.4g}"
        )


def name_of_game(index: int, runs: Runs) -> str:
    """The beginning of a refusal. A single game needs no number."""
    return f"game {index}: " if len(runs) > 1 else ""


def require_pairs(values: np.ndarray, others: np.ndarray, name: str = "") -> None:
    """Check that two arrays have the same shape. `name` begins the message of a refusal."""
    if values.shape != others.shape:
        raise Refusal(f"{name}{values.size} scores compared with {others.size}: pairs are needed")


def _game_means(runs: Runs) -> np.ndarray:
    """Means over the runs of each game: [..., games]."""
    return np.stack([game.mean(-1) for game in _games(runs, batched=True)], -1)


def _interval(estimate: float, low: float, high: float, games: Runs, least: int) -> Interval:
    """The interval, or none if a game has fewer values than needed."""
    sizes = [game.size for game in games]
    bounds = (float(low), float(high)) if min(sizes) >= least else (math.nan, math.nan)
    return Interval(estimate, *bounds, sum(sizes))


def _resampled(games: Runs, resamples: int, seed: int) -> list[np.ndarray]:
    """For each game, resamples of its runs with replacement: [resamples, runs]."""
    generator = np.random.default_rng(seed)
    return [game[resampled_indices(game.size, resamples, generator)] for game in games]


def resampled_indices(size: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Indices drawn with replacement: [resamples, size]."""
    return generator.integers(size, size=(resamples, size))


def require_level(level: float) -> None:
    """Check that the coverage of an interval is in (0, 1)."""
    if not 0 < level < 1:
        raise Refusal(f"level {level}: it must be in (0, 1)")


def percentiles(values: np.ndarray, level: float) -> np.ndarray:
    """Bounds [2, ...] of the middle share `level` of values [resamples, ...]."""
    require_level(level)
    if len(values) == 0:
        raise Refusal("no resample to take percentiles of: more resamples or more scores are needed")
    bounds: np.ndarray = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds
