"""Statistics of scores and of learning curves: pure, seeded functions of arrays. Never imports torch.

Scores of several games are `Runs`, one array of training runs for each game. Definitions are those of Agarwal et al.
2021 (arXiv 2108.13264) and, for learning curves, of Chan et al. 2020 (arXiv 1912.05663).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from core.errors import Refusal

RESAMPLES = 2000

Runs = Sequence[np.ndarray]
"""For each game [runs], the scores of its training runs (seeds). Games may differ in their number of runs."""
Aggregate = Callable[[Runs], np.ndarray]
"""From an array [..., runs] for each game to one number [...] for each leading index, such as a bootstrap resample."""


class Interval(NamedTuple):
    """An estimate, the interval around it (percentile bootstrap, where nothing else is said), and the number of scores
    that it rests on."""

    estimate: float
    low: float
    high: float
    n: int


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
    return float(_finite(scores).std())


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
    return (_finite(scores) - low) / (high - low)


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
    _require_level(level)
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
    _require_pairs(own, theirs)
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


# Aggregates over games -------------------------------------------------------------------------------


def mean_of_games(runs: Runs) -> np.ndarray:
    """Mean over games of the mean over runs (Agarwal et al. 2021).

    Args:
        runs: for each game [..., runs], in units that compare between games, such as normalised scores.

    Returns:
        [...].

    Raises:
        Refusal: no game, a game without runs, or a score that is not finite.
    """
    return _game_means(runs).mean(-1)


def median_of_games(runs: Runs) -> np.ndarray:
    """Median over games of the mean over runs (Agarwal et al. 2021). Arguments as in `mean_of_games`."""
    return np.median(_game_means(runs), -1)


def iqm(runs: Runs) -> np.ndarray:
    """Interquartile mean: the 25 % trimmed mean of the runs of all games together (Agarwal et al. 2021).

    Each game weighs the same: of N runs in G games, one of a game with n runs counts as N/(G n) runs. At each end
    floor(N/4) runs are cut off, if need be a fraction of one. With equal counts that is SciPy's trim_mean of all runs.

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
    return (kept * np.take_along_axis(pooled, order, -1)).sum(-1) / kept.sum(-1)


def optimality_gap(runs: Runs, gamma: float = 1.0) -> np.ndarray:
    """gamma - mean(min(x, gamma)): by how much runs fall short of gamma, smaller being better (Agarwal et al. 2021).

    Each game weighs the same. Arguments as in `mean_of_games`, and gamma, the score that is enough.
    """
    return gamma - mean_of_games([np.minimum(game, gamma) for game in _games(runs, batched=True)])


def performance_profile(runs: Runs, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Share of runs that score above each threshold: the run-score distribution (Agarwal et al. 2021, section 4.2).

    The mean over games of each game's share, so that each game weighs the same.

    Args:
        runs: as in `mean_of_games`.
        thresholds: [thresholds], in units of the scores.

    Returns:
        [..., thresholds], falling as thresholds rise.

    Raises:
        Refusal: as `mean_of_games`, or a threshold that is not finite.
    """
    tau = _finite(thresholds, what="thresholds")
    # Game by game: the comparisons of one are resamples x runs x thresholds already.
    shares = [(game[..., None] > tau).mean(-2) for game in _games(runs, batched=True)]
    return np.mean(shares, 0)  # [..., thresholds]


def stratified_interval(
    runs: Runs,
    aggregate: Aggregate,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """An aggregate over games with its stratified percentile-bootstrap interval (Agarwal et al. 2021).

    Runs are drawn with replacement within each game, so the interval is over training seeds on just these games. The
    bootstrap's variance of a game's mean is (n - 1)/n of what it should be: few runs make an interval too narrow, and a
    game with a single run adds nothing to its width.

    Args:
        runs: for each game [runs].
        aggregate: such as `iqm`, or `functools.partial(optimality_gap, gamma=2.0)`.
        level, resamples, seed: as in `mean_interval`.

    Returns:
        In units of the aggregate; n counts the runs of all games.

    Raises:
        Refusal: as `mean_of_games`, or a level outside (0, 1).
    """
    games = _games(runs)
    low, high = _percentiles(aggregate(_resampled(games, resamples, seed)), level)
    return Interval(float(aggregate(games)), float(low), float(high), _count(games))


def performance_profile_band(
    runs: Runs,
    thresholds: Sequence[float] | np.ndarray,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise stratified-bootstrap band of `performance_profile`: each threshold has its own interval.

    Args:
        runs: for each game [runs].
        thresholds: [thresholds].
        level, resamples, seed: as in `mean_interval`.

    Returns:
        Its lower and its upper bound, each [thresholds].

    Raises:
        Refusal: as `performance_profile`, or a level outside (0, 1).
    """
    drawn = _resampled(_games(runs), resamples, seed)
    low, high = _percentiles(performance_profile(drawn, thresholds), level)
    return low, high


# One method against another --------------------------------------------------------------------------


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
    values = [_finite(each) for each in (scores, reference, others, others_reference)]
    for each in values[1:]:
        _require_pairs(values[0], each)
    for each in (values[1], values[3]):
        if not each.mean() > random:
            raise Refusal(
                f"the reference's mean score {each.mean():.4g} is not above random play's {random:.4g}"
            )
    drawn = _resamples(values[0].size, resamples, np.random.default_rng(seed))
    attacked, clean, attacked_other, clean_other = (each[drawn].mean(1) - random for each in values)
    # A resample in which a reference is no better than random play says nothing of a share.
    telling = (clean > 0) & (clean_other > 0)
    shares = attacked[telling] / clean[telling] - attacked_other[telling] / clean_other[telling]
    means = [each.mean() - random for each in values]
    low, high = _percentiles(shares, level)
    return Interval(float(means[0] / means[1] - means[2] / means[3]), float(low), float(high), values[0].size)


def average_performance_ratio(
    scores: Runs,
    reference: Runs,
    random: Sequence[float],
    paired: bool,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """APR of Xu et al. 2026 (arXiv 2610.07808) with its percentile-bootstrap interval, stratified by game.

    Mean over games of (mean(scores) - random) / (mean(reference) - random). Their scores are the best returns of
    training runs; which scores these are is the caller's to say.

    Args:
        scores: for each game [n].
        reference: for each game [m], of the agent that the scores are held against.
        random: for each game the score of random play.
        paired: scores and reference are of the same episodes or seeds in the same order (m = n) and are drawn
            together. Otherwise each is drawn by itself.
        level, resamples, seed: as in `mean_interval`.

    Returns:
        Shares (1 is the reference's own). n counts the scores, not the reference's.

    Raises:
        Refusal: scores are missing or not finite, are not of the same games, are not pairs where they should be, or
            the reference is no better than random play in some game.
    """
    games, references = _same_games(scores, reference)
    if len(random) != len(games):
        raise Refusal(f"{len(games)} games, {len(random)} scores of random play: one for each game is needed")
    generator = np.random.default_rng(seed)
    estimates, resampled = [], []
    for index, (values, others, floor) in enumerate(zip(games, references, random, strict=True)):
        if paired:
            _require_pairs(values, others, _name(index, games))
        if not others.mean() > floor:
            raise Refusal(
                f"{_name(index, games)}the reference's mean score {others.mean():.4g} is not above "
                f"random play's {floor:.4g}"
            )
        drawn = _resamples(values.size, resamples, generator)
        others_drawn = drawn if paired else _resamples(others.size, resamples, generator)
        gained, possible = values[drawn].mean(1) - floor, others[others_drawn].mean(1) - floor
        # A resample in which the reference is no better than random play says nothing of a share.
        resampled.append(gained[possible > 0] / possible[possible > 0])
        estimates.append((values.mean() - floor) / (others.mean() - floor))
    # Games are drawn independently of each other, so any resample of one may stand beside any of another.
    left = min(len(shares) for shares in resampled)
    low, high = _percentiles(np.mean([shares[:left] for shares in resampled], 0), level)
    return Interval(float(np.mean(estimates)), float(low), float(high), _count(games))


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
    values, others = _finite(scores), _finite(others)
    _require_pairs(values, others)
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


def probability_of_improvement(
    runs: Runs, others: Runs, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over games of P(X > Y) + P(X = Y)/2, a run X of one method against a run Y of another (Agarwal et al. 2021).

    In each game it is the Mann-Whitney U statistic over the number of pairs. Both methods' runs are resampled within
    each game, each by itself.

    Args:
        runs: for each game [n].
        others: for each game [m], in the same units.
        level, resamples, seed: as in `mean_interval`.

    Returns:
        In [0, 1]; n counts the runs of both methods.

    Raises:
        Refusal: runs are missing or not finite, or not of the same games; a level outside (0, 1).
    """
    games, opponents = _same_games(runs, others)
    generator = np.random.default_rng(seed)
    estimates, resampled = [], []
    for mine, theirs in zip(games, opponents, strict=True):
        wins = (1 + np.sign(mine[:, None] - theirs)) / 2  # [n, m]
        # How often each run was drawn says all about a resample, and a table of pairs for each is never made.
        drawn, drawn_theirs = (
            generator.multinomial(size, np.full(size, 1 / size), size=resamples) for size in wins.shape
        )  # [resamples, n], [resamples, m]
        estimates.append(wins.mean())
        resampled.append(((drawn @ wins) * drawn_theirs).sum(1) / wins.size)
    low, high = _percentiles(np.mean(resampled, 0), level)
    return Interval(float(np.mean(estimates)), float(low), float(high), _count(games) + _count(opponents))


# Learning curves -------------------------------------------------------------------------------------


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
    return (values[..., -1] - random) / (best - random)


# Checks and resampling -------------------------------------------------------------------------------


def _finite(scores: Sequence[float] | np.ndarray, name: str = "", what: str = "scores") -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise Refusal(
            f"{name}{values.size} {what}, {int((~np.isfinite(values)).sum())} of them not finite: "
            "finite ones are needed"
        )
    return values


def _games(runs: Runs, batched: bool = False) -> list[np.ndarray]:
    """Checked, in float64: for each game [runs], or [..., runs] where batches are welcome."""
    if len(runs) == 0:
        raise Refusal("no game: an array of runs for each game is needed")
    games = [_finite(game, _name(index, runs)) for index, game in enumerate(runs)]
    for index, game in enumerate(games):
        if game.ndim == 0 or (game.ndim > 1 and not batched):
            raise Refusal(f"{_name(index, runs)}scores of shape {game.shape}: one for each run is needed")
    return games


def _same_games(runs: Runs, others: Runs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(runs) != len(others):
        raise Refusal(f"{len(runs)} games against {len(others)}: the same games are needed")
    return _games(runs), _games(others)


def _name(index: int, runs: Runs) -> str:
    """How a refusal begins; one game needs no number."""
    return f"game {index}: " if len(runs) > 1 else ""


def _require_pairs(values: np.ndarray, others: np.ndarray, name: str = "") -> None:
    if values.shape != others.shape:
        raise Refusal(f"{name}{values.size} scores against {others.size}: pairs are needed")


def _game_means(runs: Runs) -> np.ndarray:
    """[..., games] means over runs."""
    return np.stack([game.mean(-1) for game in _games(runs, batched=True)], -1)


def _count(games: Runs) -> int:
    return sum(game.size for game in games)


def _resampled(games: Runs, resamples: int, seed: int) -> list[np.ndarray]:
    """For each game [resamples, runs], drawn from its own runs with replacement."""
    generator = np.random.default_rng(seed)
    return [game[_resamples(game.size, resamples, generator)] for game in games]


def _resamples(size: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """[resamples, size] indices, drawn with replacement."""
    return generator.integers(size, size=(resamples, size))


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise Refusal(f"level {level}: one in (0, 1) is needed")


def _percentiles(values: np.ndarray, level: float) -> np.ndarray:
    """[2, ...] bounds of the middle `level` of values [resamples, ...]."""
    _require_level(level)
    if len(values) == 0:
        raise Refusal("no resample to take percentiles of: more resamples or more scores are needed")
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _curves(curves: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.atleast_1d(_finite(curves))
    if values.shape[-1] < 2:
        raise Refusal(f"a learning curve of {values.shape[-1]} point: two or more are needed")
    return values


def _interquartile_range(values: np.ndarray, axis: int) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75], axis=axis)
    return high - low


def _mean_of_largest(values: np.ndarray, alpha: float) -> np.ndarray:
    """Mean of those of [..., n] at or above their (1 - alpha) quantile: [...]."""
    if not 0 < alpha < 1:
        raise Refusal(f"alpha {alpha}: one in (0, 1) is needed")
    bound = np.quantile(values, 1 - alpha, axis=-1, keepdims=True)
    return values.mean(-1, where=values >= bound)
