"""How often intervals hold the truth, and tell equal networks apart: what LEAST_EPISODES and over_seeds.py rest on.

Episodes: the scores of a network in results/ stand for all its games, and n of them are drawn again and again. Networks
with tied scores are left out. Exponential scores are an example of skewed ones. The interval says 0.95.

Training seeds: scores of equal networks are drawn from one distribution, with equally many seeds for each of two. The
difference is judged by the percentiles of a bootstrap, and by a t-interval (`over_seeds.mean_difference`). One in
twenty should be told. Shares are of DQNs whose scores have a spread of a quarter. Conversions keep four fifths of each,
with a spread that is the same on all games, or not.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from analysis import over_seeds
from analysis.aggregates import (
    RESAMPLES,
    Interval,
    Runs,
    mean_of_games,
    percentiles,
    resampled_indices,
    stratified_interval,
)
from analysis.rows import EPISODES, StudyRows
from benchmarks.report import Measurement, report

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (2, 3, 4, 5, 8, 10, 20)
LEAST_SCORES = 30
"""Networks with fewer games are left out."""
SEEDS = (2, 3, 5, 10)
GAMES = (1, 2, 5)
SPREADS = {"equal": (1.0, 1.0, 1.0, 1.0, 1.0), "unequal": (2.0, 0.3, 0.1, 0.5, 1.0)}
"""Of conversions' scores on five games, on which DQNs score 10."""
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


def bootstrap_tells(scores: list[np.ndarray], others: list[np.ndarray], seed: int) -> bool:
    """Whether the percentiles of a bootstrap of the difference exclude 0. Arguments as in `mean_difference`."""

    def difference(runs: Runs) -> np.ndarray:
        return mean_of_games(runs[: len(scores)]) - mean_of_games(runs[len(scores) :])

    return stratified_interval([*scores, *others], difference, seed=seed).excludes_zero


def bootstrapped_share(scores: list[np.ndarray], dqns: list[np.ndarray], seed: int) -> Interval:
    """The mean over games of mean(scores) / mean(dqns), with the percentiles of a bootstrap of pairs."""
    generator = np.random.default_rng(seed)
    shares = []
    for own, dqn in zip(scores, dqns, strict=True):
        drawn = resampled_indices(own.size, RESAMPLES, generator)
        shares.append(own[drawn].mean(1) / dqn[drawn].mean(1))
    low, high = percentiles(np.mean(shares, 0), 0.95)
    estimate = np.mean([own.mean() / dqn.mean() for own, dqn in zip(scores, dqns, strict=True)])
    return Interval(float(estimate), float(low), float(high), sum(own.size for own in scores))


def of_episodes(generator: np.random.Generator) -> Iterator[Measurement]:
    """The share of intervals over episodes that hold the mean."""
    everyone = networks()
    for n in SIZES:
        of_networks = [
            hold
            for scores in everyone
            for hold in holds(lambda: generator.choice(scores, n), scores.mean(), DRAWS)  # noqa: B023
        ]
        yield f"scores_{n}_episodes", float(np.mean(of_networks)), "coverage"
        skewed = holds(lambda: generator.exponential(size=n), 1.0, DRAWS * len(everyone))  # noqa: B023
        yield f"exponential_{n}_episodes", float(np.mean(skewed)), "coverage"


def of_seeds(generator: np.random.Generator) -> Iterator[Measurement]:
    """The share of differences between equal networks that are told."""
    for games, seeds in itertools.product(GAMES, SEEDS):
        for name, draw in (("normal", generator.normal), ("exponential", generator.exponential)):
            pairs = [[list(draw(size=(games, seeds))) for _ in range(2)] for _ in range(COMPARED)]
            by_t = [over_seeds.mean_difference(*pair).excludes_zero for pair in pairs]
            by_bootstrap = [bootstrap_tells(*pair, seed=i) for i, pair in enumerate(pairs)]
            for how, told in (("bootstrap", by_bootstrap), ("t", by_t)):
                yield f"{name}_{seeds}_seeds_{games}_games_{how}", float(np.mean(told)), "told of equals"


def of_shares(
    name: str, spreads: tuple[float, ...], seeds: int, generator: np.random.Generator
) -> Iterator[Measurement]:
    """How often intervals hold the share that conversions keep, and how often two equal ones are told apart."""
    kept, floors = 0.8, [0.0] * len(spreads)
    held: dict[str, list[bool]] = {"bootstrap": [], "t": []}
    told = []
    for seed in range(COMPARED):
        dqns = [generator.normal(10.0, 2.5, seeds) for _ in spreads]
        own, others = (
            [
                kept * dqn + generator.normal(0.0, spread, seeds)
                for dqn, spread in zip(dqns, spreads, strict=True)
            ]
            for _ in range(2)
        )
        found = {
            "bootstrap": bootstrapped_share(own, dqns, seed),
            "t": over_seeds.share(own, dqns, floors, True),
        }
        for how, interval in found.items():
            held[how].append(interval.low <= kept <= interval.high)
        told.append(over_seeds.share_difference(own, others, dqns, floors, (True, True)).excludes_zero)
    for how, hold in held.items():
        yield f"{name}_{how}", float(np.mean(hold)), "coverage"
    yield f"{name}_difference_t", float(np.mean(told)), "told of equals"


def of_trainings(seeds: int, generator: np.random.Generator) -> Iterator[Measurement]:
    """How often intervals hold the share of trained networks on five games; and if one run in four learns nothing."""
    mean, floors = 8.0, [0.0] * 5
    for failing in (0.0, 0.25):
        held = []
        for _ in range(COMPARED):
            dqns = [generator.normal(10.0, 2.5, seeds) for _ in floors]
            own = [generator.normal(mean, 2.0, seeds) * (generator.random(seeds) >= failing) for _ in floors]
            found = over_seeds.share(own, dqns, floors, False)
            held.append(found.low <= mean * (1 - failing) / 10 <= found.high)
        yield f"trainings_{failing:g}_failing_{seeds}_seeds_t", float(np.mean(held)), "coverage"


def measure() -> Iterator[Measurement]:
    """How often intervals hold the truth, and how often equal networks are told apart."""
    generator = np.random.default_rng(0)
    yield from of_episodes(generator)
    yield from of_seeds(generator)
    for (spread, spreads), seeds in itertools.product(SPREADS.items(), SEEDS):
        yield from of_shares(f"shares_{spread}_{seeds}_seeds", spreads, seeds, generator)
    for seeds in SEEDS:
        yield from of_trainings(seeds, generator)


if __name__ == "__main__":
    report(measure(), __doc__)
