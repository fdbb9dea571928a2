"""How steadily networks learnt: measures of their validation curves, over games and training seeds.

Never imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.aggregates import Interval, mean_difference, mean_of_games, stratified_interval
from analysis.runs import Family, in_order, names, trained_alike, training_families
from analysis.stability import (
    dispersion_across_runs,
    dispersion_across_time,
    final_over_best,
    long_term_risk,
    short_term_risk,
)
from analysis.tables import aligned
from analysis.words import comparisons_told
from core.errors import Refusal
from core.games import Tier, get_game, reference


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
    curves = _curves(rows, points)
    values = curves.to_numpy().T  # [seeds, points]
    random = reference(get_game(rows.game.iloc[0])).random
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


def _curves(rows: pd.DataFrame, points: Sequence[int]) -> pd.DataFrame:
    return seed_curves(rows[rows.train_steps.isin(points)], "score")


# Over games ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steadiness:
    """How unsteadily one network learnt the games of a tier. In every measure, less is steadier.

    Measures are in per cent of what a training run gained: its best evaluation minus random play. Without that, a
    network that learns little would count as steady. `final_over_best` holds what was lost until the end.
    """

    family: Family
    name: str
    tier: Tier
    measures: Mapping[str, Mapping[str, np.ndarray]]
    """For each measure and game, the values of training seeds [seeds] that have one."""

    @property
    def seeds(self) -> int:
        """Training seeds of each game, the fewest."""
        return min((len(values) for values in self.measures["across_time"].values()), default=0)


def relative_stability(rows: pd.DataFrame, points: Sequence[int]) -> dict[str, np.ndarray]:
    """`stability` in per cent of each training run's gain, its best evaluation minus random play.

    Dispersion across seeds is relative to the mean gain of the seeds that gained something. The share of the best score
    that was kept until the end becomes the share that was lost.

    Args:
        rows, points: as in `stability`.

    Returns:
        For each of `MEASURES`, the values that there are. Seeds without an evaluation above random play have none.
    """
    random = reference(get_game(rows.game.iloc[0])).random
    measured = stability(rows, points)
    best = _curves(rows, points).max().to_numpy()
    gain = best - np.nan if random is None else np.where(best > random, best - random, np.nan)
    relative = {measure: 100 * getattr(measured, measure) / gain for measure in MEASURES}
    known = gain[~np.isnan(gain)]
    relative["across_runs"] = 100 * measured.across_runs / (known.mean() if len(known) else np.nan)
    relative["final_over_best"] = 100 - measured.final_over_best
    return {measure: values[~np.isnan(values)] for measure, values in relative.items()}


def steadiness(validation: pd.DataFrame) -> list[Steadiness]:
    """How unsteadily every network learnt, by tier, in the order of tables.

    Of each game, evaluations count after numbers of decisions that all its training runs have in common. A game with
    fewer than two of them is left out.

    Args:
        validation: EpisodeRows of training runs.
    """
    rows = validation.assign(family=training_families(validation))
    found = []
    for tier in get_args(Tier):
        here = rows[rows.game.map(lambda game: get_game(game).tier) == tier]
        name_of = names(here.family)
        measures: dict[Family, dict[str, dict[str, np.ndarray]]] = {
            family: {measure: {} for measure in MEASURES} for family in in_order(here.family)
        }
        for game, of_game in here.groupby("game"):
            points = shared_points(of_game)
            for family, own in of_game.groupby("family") if len(points) > 1 else ():
                for measure, values in relative_stability(own, points).items():
                    if len(values):
                        measures[family][measure][str(game)] = values
        found += [
            Steadiness(family, name_of[family], tier, each)
            for family, each in measures.items()
            if each["across_time"]
        ]
    return found


def stability_table(found: Sequence[Steadiness]) -> str:
    """Measures over games, and how each network differs from the DQN, as Markdown.

    Args:
        found: from `steadiness`.
    """
    labels = {**MEASURES, "final_over_best": "best - final"}
    text = (
        "# Stability of learning\n\n"
        "Mean over games, in per cent of what each training run gained (its best validation mean minus random play).\n"
        "Less is steadier. Measures are those of Chan et al. 2020 and the spread of scores of Liu et al. 2022.\n"
        "Intervals: 95 %, bootstrap over training seeds, stratified by game; two seeds a game are needed.\n\n"
    ) + aligned(
        [
            ("tier", "network", "games", "seeds", *labels.values()),
            *(
                (
                    each.tier,
                    each.name,
                    str(len(each.measures["across_time"])),
                    str(each.seeds),
                    *(_cell(each.measures[measure]) for measure in labels),
                )
                for each in found
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
            labels[measure],
            str(games),
            f"{difference.estimate:+.1f}",
            f"{difference.low:+.1f} to {difference.high:+.1f}" if difference.is_given else "",
            "yes" if difference.excludes_zero else "no",
        )
        for network, dqn, measure, games, difference in compared
    ]
    made = comparisons_told([difference for *_, difference in compared])
    return (
        f"{text}\n## Differences from the DQN\n\n{made} A positive difference is less steady than the DQN.\n\n"
    ) + aligned([("tier", "network", "minus", "measure", "games", "points", "95 %", "told"), *cells])


def _cell(games: Mapping[str, np.ndarray]) -> str:
    if not games:
        return ""
    mean = stratified_interval([*games.values()], mean_of_games)
    bounds = f" ({mean.low:.1f} to {mean.high:.1f})" if mean.is_given else ""
    return f"{mean.estimate:.1f}{bounds}"


def _differences(found: Sequence[Steadiness]) -> Iterator[tuple[Steadiness, Steadiness, str, int, Interval]]:
    """Each network, a DQN that was trained alike, the measure, the number of games, and the difference over them."""
    for network in found:
        for dqn in found:
            is_dqn = dqn.family.agent == "dqn" and network.family.agent != "dqn"
            if not is_dqn or dqn.tier != network.tier or not trained_alike(dqn.family, network.family):
                continue
            for measure in MEASURES:
                own, others = network.measures[measure], dqn.measures[measure]
                games = [game for game in own if game in others]
                if games:
                    difference = mean_difference(
                        [own[game] for game in games], [others[game] for game in games]
                    )
                    yield network, dqn, measure, len(games), difference
