"""How often a bootstrap interval of a mean holds the mean, by the number of episodes: what LEAST_EPISODES rests on.

The scores of a network in results/ stand for all its games, and n of them are drawn again and again. Networks with tied
scores are left out. Exponential scores are an example of skewed ones. The interval says 0.95.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from analysis.aggregates import mean_of_games, stratified_interval
from analysis.rows import EPISODES, StudyRows
from benchmarks.report import Measurement, report

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (2, 3, 4, 5, 8, 10, 20)
LEAST_SCORES = 30
"""Networks with fewer games are left out."""
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


def measure() -> Iterator[Measurement]:
    """The share of intervals that hold the mean, for each number of episodes."""
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


if __name__ == "__main__":
    report(measure(), __doc__)
