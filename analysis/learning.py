"""How steadily networks learnt: measures of their validation curves, over games and training seeds.

Never imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis import over_seeds, statistics
from analysis.aggregates import Interval, mean_of_games
from analysis.runs import Family, dqn_family, in_order, names, whole_runs
from analysis.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    final_over_best,
    long_term_risk,
    short_term_risk,
)
from analysis.tables import aligned
from analysis.words import comparisons_made, significant, span
from core.errors import Refusal
from core.games import Tier, get_game, reference
from core.records import require_single


class Stability(NamedTuple):
    """How steadily one network learnt one game: values of its training seeds, in order. NaN where there is none."""

    across_time: np.ndarray
    short_term_risk: np.ndarray
    long_term_risk: np.ndarray
    final_over_best: np.ndarray
    """In per cent. NaN for a seed without an evaluation above random play."""
    across_runs: np.ndarray
    """One value for all seeds together. NaN with one seed."""
    best_std: np.ndarray
    """NaN for a seed whose best evaluation is a single episode."""


MEASURES = {
    "across_time": "dispersion across time",
    "short_term_risk": "short-term risk",
    "long_term_risk": "long-term risk",
    "final_over_best": "final / best (%)",
    "across_runs": "dispersion across seeds",
    "best_std": "std of scores (Liu et al.)",
}


def seed_curves(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over the episodes of each evaluation of one network.

    Returns:
        A frame with decisions trained as index and training seeds as columns. NaN where a seed was not evaluated.

    Raises:
        Refusal: an episode occurs twice, so one name stands for two training runs.
    """
    twice = rows[rows.duplicated(["train_seed", "train_steps", "episode"])]
    if not twice.empty:
        first = twice.iloc[0]
        raise Refusal(
            f"{first.game} {first.agent} {first.network}, training seed {first.train_seed}: validation episode "
            f"{first.episode} after {first.train_steps} decisions occurs twice"
        )
    return rows.pivot_table(index="train_steps", columns="train_seed", values=column, aggfunc="mean")


def shared_points(rows: pd.DataFrame) -> list[int]:
    """Numbers of decisions after which every training run of a game was evaluated.

    Args:
        rows: validation episodes of one game, with a column `family`.
    """
    runs = [set(run.train_steps) for _, run in rows.groupby(["family", "train_seed"])]
    return sorted(set.intersection(*runs))


def stability(rows: pd.DataFrame, points: Sequence[int]) -> Stability:
    """The measures of Chan et al. 2020, and the spread of scores of Liu et al. 2022.

    The spread is the population standard deviation over the episodes of a run's best evaluation. Among equal ones it is
    the last, as in the code of Liu et al.

    Args:
        rows: validation episodes of one network on one game.
        points: equally spaced numbers of decisions at which all seeds were evaluated, two or more.
    """
    curves = seed_curves(rows[rows.train_steps.isin(points)], "score")
    values = curves.to_numpy().T  # [seeds, points]
    random = _random(str(rows.game.iloc[0]))
    kept = np.full(len(values), np.nan)
    if random is not None and (learnt := values.max(1) > random).any():
        kept[learnt] = 100 * final_over_best(values[learnt], random)
    spreads = []
    for seed in curves:
        best = curves.index[np.flatnonzero(curves[seed] == curves[seed].max())[-1]]
        scores = rows[(rows.train_seed == seed) & (rows.train_steps == best)].score
        spreads.append(statistics.spread_of_scores(scores.to_numpy()) if len(scores) > 1 else np.nan)
    return Stability(
        across_time=dispersion_across_time(values),
        short_term_risk=short_term_risk(values),
        long_term_risk=long_term_risk(values),
        final_over_best=kept,
        across_runs=np.array([dispersion_across_runs(values) if len(values) > 1 else np.nan]),
        best_std=np.array(spreads),
    )


# Over games ------------------------------------------------------------------------------------------

COMPARED = {
    "across_time": MEASURES["across_time"],
    "short_term_risk": MEASURES["short_term_risk"],
    "long_term_risk": MEASURES["long_term_risk"],
    "lost": "best - final",
    "best_std": MEASURES["best_std"],
}
"""Measures with a value for each seed, so that differences over seeds can be told. In all of them, less is steadier.

Dispersion across seeds is one number for all of them, and grows with their number.
"""
CLEAR = 4.0
"""Standard errors by which the best evaluation of a run that learnt exceeds random play.

Of some hundred evaluations of random play itself, the best hardly ever does.
"""


@dataclass(frozen=True)
class OverGames:
    """How steadily a network learnt the games of a tier."""

    gains: Mapping[str, np.ndarray]
    """For each game, the best evaluation minus random play [seeds], of the seeds that learnt."""
    measures: Mapping[str, Mapping[str, np.ndarray]]
    """For each of COMPARED and each game, values of these seeds [seeds] in units of the score; NaN where none."""
    runs: int
    """Training runs on all games, those that did not learn included."""
    points: Mapping[str, Sequence[int]]
    """Of each game, the numbers of decisions after which all runs were evaluated."""

    @property
    def learnt(self) -> int:
        """Training runs that learnt."""
        return sum(map(len, self.gains.values()))

    def known(self, measure: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each game, the values of a measure and the gains of the same runs, [seeds] each. `measure`: of COMPARED.

        Runs without a value are left out, as are games without such a run.
        """
        found = {}
        for game, values in self.measures[measure].items():
            is_known = ~np.isnan(values)
            if is_known.any():
                found[game] = values[is_known], self.gains[game][is_known]
        return found

    def relative(self, measure: str) -> dict[str, np.ndarray]:
        """For each game, the values of a measure [seeds], in per cent of the gain of each run. As in `known`."""
        return {game: 100 * values / gains for game, (values, gains) in self.known(measure).items()}


@dataclass(frozen=True)
class LearningCurves:
    """The validation episodes of one network on the games of a tier."""

    family: Family
    name: str
    tier: Tier
    games: Mapping[str, pd.DataFrame]

    def over_games(self, other: "LearningCurves | None" = None) -> OverGames:
        """How steadily it learnt.

        Measures grow with the number of evaluations. Beside another network, only those count that both have.

        Args:
            other: if given, games and evaluations that only one of the two has do not count.
        """
        points = {}
        for game, rows in self.games.items():
            if other is not None and game in other.games:
                rows = pd.concat([rows, other.games[game]])
            if other is None or game in other.games:
                points[game] = shared_points(rows)
        return _over_games(self.games, {game: common for game, common in points.items() if len(common) > 1})


def learning_curves(validation: pd.DataFrame) -> list[LearningCurves]:
    """The networks of training runs that were not cut short (`runs.whole_runs`), by tier, in the order of tables.

    A game without a known score of random play is left out, as is one that a network was evaluated on less than twice.

    Args:
        validation: EpisodeRows of training runs.

    Raises:
        Refusal: evaluations of one game have different protocols or numbers of episodes, whose noise is part of every
            measure, or an episode occurs twice.
    """
    rows = whole_runs(validation)
    found = []
    for tier in get_args(Tier):
        here = rows[rows.game.map(lambda game: get_game(game).tier) == tier]
        name_of = names(here.family)
        games = {
            str(game): of_game for game, of_game in here.groupby("game") if _random(str(game)) is not None
        }
        for game, of_game in games.items():
            require_single(of_game.protocol, f"protocol of {game}")
            episodes = of_game.groupby(["family", "train_seed", "train_steps"]).size()
            require_single(episodes, f"number of episodes in an evaluation of {game}")
        for family in in_order(here.family):
            played = {game: of_game[of_game.family == family] for game, of_game in games.items()}
            enough = {game: own for game, own in played.items() if len(own) and len(shared_points(own)) > 1}
            if enough:
                found.append(LearningCurves(family, name_of[family], tier, enough))
    return found


def _over_games(played: Mapping[str, pd.DataFrame], points: Mapping[str, Sequence[int]]) -> OverGames:
    """The measures of a network's validation episodes by game, at some numbers of decisions."""
    gains: dict[str, np.ndarray] = {}
    measures: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in COMPARED}
    for game, of_game in points.items():
        random = _random(game)
        assert random is not None
        rows = played[game]
        rows = rows[rows.train_steps.isin(of_game)]
        curves = seed_curves(rows, "score")
        best = curves.max().to_numpy()
        measured = stability(rows, of_game)._asdict()
        measured["lost"] = best - curves.iloc[-1].to_numpy()
        # With one episode the error is unknown.
        errors = np.nan_to_num(measured["best_std"]) / np.sqrt(rows.episode.nunique())
        learnt = (best > random) & (best >= random + CLEAR * errors)
        if not learnt.any():
            continue
        gains[game] = best[learnt] - random
        for measure in COMPARED:
            measures[measure][game] = measured[measure][learnt]
    runs = sum(played[game].train_seed.nunique() for game in points)
    return OverGames(gains, measures, runs, points)


def _random(game: str) -> float | None:
    return reference(get_game(game)).random


def stability_table(found: Sequence[LearningCurves]) -> str:
    """Measures over games, and how each network differs from the DQN, as Markdown. Empty if no game has two runs that
    learnt.

    Args:
        found: from `learning_curves`.
    """
    alone = [each.over_games() for each in found]
    if not any(len(gains) > 1 for each in alone for gains in each.gains.values()):
        return ""
    text = (
        "# Stability of learning\n\n"
        "Mean over games and seeds, in per cent of what each training run gained: its best validation mean minus\n"
        "random play. Less is steadier. Dispersion and risk are those of Chan et al. 2020, within each run. The last\n"
        "column is the spread of scores over the episodes of the best evaluation. All hold the noise of evaluations.\n"
        "Runs that did not learn are left out, as are those that were cut short.\n\n"
    ) + aligned(
        [
            ("tier", "network", "games", "runs that learnt", "evaluations", *COMPARED.values()),
            *(
                (
                    each.tier,
                    each.name,
                    str(len(measured.points)),
                    f"{measured.learnt} of {measured.runs}",
                    span(map(len, measured.points.values()), "d"),
                    *(_cell(measured.relative(measure)) for measure in COMPARED),
                )
                for each, measured in zip(found, alone, strict=True)
            ),
        ]
    )
    compared = [*_differences(found)]
    if not compared:
        return text
    cells = [
        (
            network.tier,
            network.name,
            dqn.name,
            COMPARED[measure],
            unit,
            str(games),
            f"{difference.estimate:+.1f}",
            f"{difference.low:+.1f} to {difference.high:+.1f}" if difference.is_given else "",
            significant(difference),
        )
        for network, dqn, measure, unit, games, difference in compared
    ]
    return (
        f"{text}\n## Differences from the DQN\n\n"
        f"{comparisons_made([difference for *_, difference in compared])} Measures of a run are related.\n\n"
        "A positive difference is less steady than the DQN. In per cent of its own gain, a network that learns less\n"
        "is less steady if its score falls as far. In per cent of the DQN's mean gain on the game, it is not. The\n"
        "first says how much of what was learnt is lost, the second how much score. Evaluations count that both\n"
        "networks have. Intervals: 95 %, t-intervals over training seeds, stratified by game. Two seeds a game are\n"
        "needed.\n\n"
    ) + aligned(
        [
            ("tier", "network", "minus", "measure", "per cent of", "games", "points", "95 %", "significant"),
            *cells,
        ]
    )


def _cell(games: Mapping[str, np.ndarray]) -> str:
    return f"{mean_of_games([*games.values()]):.1f}" if games else ""


def _differences(
    found: Sequence[LearningCurves],
) -> Iterator[tuple[LearningCurves, LearningCurves, str, str, int, Interval]]:
    """Each network, its DQN, the measure, what is 100 %, the number of games, and the difference over them."""
    for network in found:
        of_tier = {each.family: each for each in found if each.tier == network.tier}
        family = dqn_family(network.family, of_tier)
        if family is None:
            continue
        dqn = of_tier[family]
        measured, of_dqn = network.over_games(dqn), dqn.over_games(network)
        for measure in COMPARED:
            own, others = measured.known(measure), of_dqn.known(measure)
            games = [game for game in own if game in others]
            if games:
                for unit, of_games in (("own gain", _of_own_gain), ("the DQN's", _of_the_dqns)):
                    difference = of_games([own[game] for game in games], [others[game] for game in games])
                    yield network, dqn, measure, unit, len(games), difference


_Known = Sequence[tuple[np.ndarray, np.ndarray]]
"""For each game, values of a measure and the gains of the same runs."""


def _of_own_gain(own: _Known, dqns: _Known) -> Interval:
    """The difference in per cent of the gain of each run itself."""
    first, second = ([100 * values / gains for values, gains in each] for each in (own, dqns))
    return over_seeds.mean_difference(first, second)


def _of_the_dqns(own: _Known, dqns: _Known) -> Interval:
    """The difference in per cent of the DQN's mean gain on each game, of whose runs its measures are too."""
    values, others = ([100 * values for values, _ in each] for each in (own, dqns))
    gains = [gains for _, gains in dqns]
    return over_seeds.share_difference(values, others, gains, [0.0] * len(gains), (False, True))
