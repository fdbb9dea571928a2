"""How often a bootstrap interval of a mean holds the mean, by the number of episodes: what LEAST_EPISODES rests on.
How often a difference between equal networks is told, by the number of seeds: what `expanded_level` rests on.

The scores of a network in results/ stand for all its games, and n of them are drawn again and again. Networks with tied
scores are left out. Exponential scores are an example of skewed ones. The interval says 0.95.

Scores of equal networks are drawn from one distribution, for two networks with equally many training seeds. Their
difference is judged by the percentiles of a plain bootstrap, and by those that are widened for few seeds. One in twenty
should be told.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from analysis.aggregates import Runs, mean_difference, mean_of_games, stratified_interval
from analysis.rows import EPISODES, StudyRows
from benchmarks.report import Measurement, report

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (2, 3, 4, 5, 8, 10, 20)
LEAST_SCORES = 30
"""Networks with fewer games are left out."""
SEEDS = (2, 3, 5, 10)
GAMES = (1, 2, 5)
COMPARED = 1000
"""Comparisons of each kind."""
DRAWS = 100
"""For each network and number of episodes. Of the skewed scores there are as many draws as of all networks together."""


def networks() -> list[np.ndarray]:
    """The scores of each network of the committed studies, on each game."""
    rows = StudyRows(RESULTS).frame(EPISODES).drop_duplicates(["game", "checkpoint_id", "episode"])
    found = [group.score.to_numpy() for _, group in rows.groupby(["game", "checkpoint_id"])]
    return [scores for scores in found if len(scores) >= LEAST_SCORES and scores.std() > 0]


def holds(draw: Callable[[], np.ndarray], mean: float, draws: int) -> list[bool]:
    """Whether the interval of each drawing holds the mean."""
    intervals = (stratified_interval([draw()], mean_of_games, resamples=1000, seed=i) for i in range(draws))
    return [each.low <= mean <= each.high for each in intervals]


def plain_is_told(scores: list[np.ndarray], others: list[np.ndarray], seed: int) -> bool:
    """Whether the percentiles of a plain bootstrap of the difference exclude 0. Arguments as in `mean_difference`."""

    def difference(runs: Runs) -> np.ndarray:
        return mean_of_games(runs[: len(scores)]) - mean_of_games(runs[len(scores) :])

    return stratified_interval([*scores, *others], difference, seed=seed).excludes_zero


def measure() -> Iterator[Measurement]:
    """The share of intervals that hold the mean, and of differences between equal networks that are told."""
    everyone = networks()
    generator = np.random.default_rng(0)
    for n in SIZES:
        of_networks = [
            hold
            for scores in everyone
            for hold in holds(lambda: generator.choice(scores, n), scores.mean(), DRAWS)  # noqa: B023
        ]
        yield f"scores_{n}_episodes", float(np.mean(of_networks)), "coverage"
        skewed = holds(lambda: generator.exponential(size=n), 1.0, DRAWS * len(everyone))  # noqa: B023
        yield f"exponential_{n}_episodes", float(np.mean(skewed)), "coverage"
    for games, seeds in itertools.product(GAMES, SEEDS):
        for name, draw in (("normal", generator.normal), ("exponential", generator.exponential)):
            pairs = [[list(draw(size=(games, seeds))) for _ in range(2)] for _ in range(COMPARED)]
            widened = [mean_difference(*pair, seed=i).excludes_zero for i, pair in enumerate(pairs)]
            plain = [plain_is_told(*pair, seed=i) for i, pair in enumerate(pairs)]
            for how, told in (("plain", plain), ("widened", widened)):
                yield f"{name}_{seeds}_seeds_{games}_games_{how}", float(np.mean(told)), "told of equals"


if __name__ == "__main__":
    report(measure(), __doc__)
