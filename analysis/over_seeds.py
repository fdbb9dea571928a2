"""Intervals over training seeds, of which there are few: t-intervals, stratified by game. Never imports torch.

A bootstrap of two or three values does not see their spread. These intervals hold the truth about as often as they say,
also with two seeds and with games of unequal spread (`python -m benchmarks.intervals`). Of two or three DQNs, one that
fails altogether makes them too narrow.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from analysis.aggregates import (
    LEAST_RUNS,
    Interval,
    Runs,
    mean_of_games,
    name_of_game,
    require_above,
    require_level,
    require_pairs,
    require_random,
    same_games,
)


def share(
    scores: Runs, reference: Runs, random: Sequence[float], paired: bool, level: float = 0.95
) -> Interval:
    """The average performance ratio (APR) of training runs, with its interval.

    It is the mean over games of (mean(scores) - random) / (mean(reference) - random), as in Xu et al. 2026 (arXiv
    2610.07808), who use the best returns of training runs. The caller chooses which scores to pass.

    Args:
        scores: [n] for each game, a score of each training run.
        reference: [m] for each game, those of the reference agent.
        random: the score of random play for each game.
        paired: whether each score belongs to the reference's score at its place (m = n), as a conversion's to its
            DQN's.
        level: coverage of the interval, in (0, 1).

    Returns:
        The share, 1 for the reference itself; n is the number of scores without the reference's. There is no interval
        if a game has fewer than LEAST_RUNS of either.

    Raises:
        Refusal: scores are missing or not finite, games differ, pairs are incomplete, the reference is no better than
            random play in a game, or the level is outside (0, 1).
    """
    return _sum_of_shares([_Term(1, scores, paired)], reference, random, level)


def share_difference(
    scores: Runs,
    others: Runs,
    reference: Runs,
    random: Sequence[float],
    paired: tuple[bool, bool],
    level: float = 0.95,
) -> Interval:
    """The difference between two agents' shares of the same reference, with its interval.

    Args:
        scores: [n] for each game.
        others: [k] for each game, of the agent that is subtracted.
        reference: [m] for each game, scores of the reference agent.
        random: the score of random play for each game.
        paired: for each of the two agents, as in `share`. Two agents that are both paired are paired with each other.
        level: coverage of the interval, in (0, 1).

    Returns:
        The difference; n is the number of scores of both agents.

    Raises:
        Refusal: as in `share`.
    """
    terms = [_Term(1, scores, paired[0]), _Term(-1, others, paired[1])]
    return _sum_of_shares(terms, reference, random, level)


def mean_difference(runs: Runs, others: Runs, level: float = 0.95) -> Interval:
    """Mean over games of mean(runs) - mean(others), of independent runs, with its interval.

    Args:
        runs: [n] for each game.
        others: [m] for each game, in the same units.
        level: coverage of the interval, in (0, 1).

    Returns:
        The difference in units of the scores; n is the number of runs of both methods.

    Raises:
        Refusal: runs are missing or not finite, games differ, or the level is outside (0, 1).
    """
    both = [*same_games(runs, others)]
    samples = [game / len(runs) for games in both for game in games]
    estimate = float(mean_of_games(both[0]) - mean_of_games(both[1]))
    return welch_interval(estimate, samples, sum(sample.size for sample in samples), level)


def welch_interval(estimate: float, samples: Sequence[np.ndarray], n: int, level: float = 0.95) -> Interval:
    """The t-interval of a sum of means of independent samples.

    Variances s^2/n of the means add up. The degrees of freedom are those of Welch 1947 and Satterthwaite 1946:
    (sum v)^2 / sum(v^2/(n - 1)), with v the variance of each mean.

    Args:
        estimate: the sum. For a function of means, samples are its linearisation: values times its derivative.
        samples: [values] each, in units of the estimate, up to a constant and the sign.
        n: the number of values to tell.
        level: coverage of the interval, in (0, 1).

    Returns:
        No interval if a sample has fewer than LEAST_RUNS values. If all samples are constant, it has no width.

    Raises:
        Refusal: the level is outside (0, 1).
    """
    require_level(level)
    sizes = np.array([sample.size for sample in samples])
    if sizes.min() < LEAST_RUNS:
        return Interval(estimate, math.nan, math.nan, n)
    variances = np.array([sample.var(ddof=1) for sample in samples]) / sizes
    if not variances.any():
        return Interval(estimate, estimate, estimate, n)
    # Relative to the largest, so that the squares of small variances do not vanish.
    relative = variances / variances.max()
    freedom = relative.sum() ** 2 / (relative**2 / (sizes - 1)).sum()
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variances.sum())
    return Interval(estimate, estimate - half, estimate + half, n)


class _Term(NamedTuple):
    """An agent's share in a sum of shares."""

    sign: int
    scores: Runs
    paired: bool


def _sum_of_shares(
    terms: Sequence[_Term], reference: Runs, random: Sequence[float], level: float
) -> Interval:
    """The mean over games of sum(sign * (mean(scores) - random)) / (mean(reference) - random), linearised."""
    of_terms = []
    for term in terms:
        games, references = same_games(term.scores, reference)
        of_terms.append(games)
    require_random(references, random)
    shares, samples = [], []
    for index, (others, floor) in enumerate(zip(references, random, strict=True)):
        name = name_of_game(index, references)
        require_above(others, floor, name)
        possible = float(others.mean()) - floor
        gained = sum(
            term.sign * (float(games[index].mean()) - floor)
            for term, games in zip(terms, of_terms, strict=True)
        )
        shares.append(gained / possible)
        # Whatever belongs to the reference's runs deviates with them: together they are one sample.
        drawn_together = -shares[-1] * others
        for term, games in zip(terms, of_terms, strict=True):
            if term.paired:
                require_pairs(games[index], others, name)
                drawn_together = drawn_together + term.sign * games[index]
            else:
                samples.append(games[index] / possible)
        samples.append(drawn_together / possible)
    samples = [sample / len(references) for sample in samples]
    n = sum(game.size for games in of_terms for game in games)
    return welch_interval(float(np.mean(shares)), samples, n, level)
