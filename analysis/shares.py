"""The share of the DQN's score that networks keep, over games and training seeds, and what can be told apart.

The share is the average performance ratio of Xu et al. 2026 (`aggregates.average_performance_ratio`). Never imports
torch.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from analysis.aggregates import Interval, average_performance_ratio, performance_ratio_difference
from analysis.energy import by_agent, dqn_of
from analysis.runs import (
    Family,
    dqn_family,
    in_order,
    is_untrained,
    names,
    own_dqn,
    prefer_best,
    training_families,
    training_runs,
)
from analysis.tables import aligned
from analysis.words import comparisons_told, told
from core.games import Tier, get_game, reference
from core.kinds import kind_of
from core.rows import OperationsRow

Scores = Mapping[str, Mapping[int, float]]
"""The mean score of each training run: by game, then by training seed."""


EQUAL_OPERATIONS = 0.1
"""Operations of two networks that differ by no more than this share are taken as equal."""


@dataclass(frozen=True)
class Kept:
    """What one network keeps of its DQN's score, over the games of a tier."""

    family: Family
    name: str
    tier: Tier
    sim_steps: int
    """0 for a network without spikes."""
    runs: Scores
    """Its own scores."""
    dqns: Scores
    """The scores of the DQNs that it is compared with, on the same games."""
    share: Interval
    """1 for the DQN itself. The interval is over training seeds, stratified by game."""
    operations: float | None = None
    """Operations of a decision relative to its DQN's, the mean over games. None if they were not counted.

    Operations are additions and multiply-accumulates. The DQN's are those of a dense pass.
    """

    @property
    def is_conversion(self) -> bool:
        """Whether each of its runs was made from the DQN of the same training seed."""
        return kind_of(self.family.agent).is_conversion

    @property
    def games(self) -> tuple[str, ...]:
        """The games that it played."""
        return tuple(self.runs)

    @property
    def by_game(self) -> dict[str, float]:
        """The share on each game. Their mean is `share`."""
        games = zip(_arrays(self.runs), _arrays(self.dqns), _random(self.runs), strict=True)
        shares = [float((own.mean() - random) / (dqn.mean() - random)) for own, dqn, random in games]
        return dict(zip(self.runs, shares, strict=True))

    @property
    def seeds(self) -> int:
        """Training seeds of each game, the fewest."""
        return min(map(len, self.runs.values()))


@dataclass(frozen=True)
class Difference:
    """The share that one network keeps minus that of another, on the games that both played."""

    network: Kept
    other: Kept
    share: Interval


def shares_kept(episodes: pd.DataFrame, operations: Sequence[OperationsRow] = ()) -> list[Kept]:
    """What every trained network keeps of the DQN of its recipe. The best checkpoint of each training run counts.

    Args:
        episodes: EpisodeRows of `evaluate run`.
        operations: rows of `evaluate probe`, if there are any.

    Returns:
        Networks in the order of tables. One without a DQN above random play on any game is left out.

    Raises:
        Refusal: the rows do not compare (see `runs.training_runs`).
    """
    played = episodes[episodes.agent != "random"]
    if played.empty:
        return []
    checkpoints = training_runs(played)
    trained = checkpoints[[not family.untrained for family in checkpoints.family]]
    counted = _relative_operations(operations)
    found = []
    for tier in get_args(Tier):
        here = trained[trained.game.map(lambda game: get_game(game).tier) == tier]
        if here.empty:
            continue
        name_of, runs = names(here.family), prefer_best(here)
        for family in in_order(runs.family):
            if family.agent != "dqn":
                kept = _kept(here, runs[runs.family == family], name_of[family], counted)
                found += [] if kept is None else [kept]
    return found


def _kept(
    runs: pd.DataFrame, own: pd.DataFrame, name: str, operations: Mapping[tuple[str, Family, int], float]
) -> Kept | None:
    """What one network keeps; None without a DQN above random play.

    Args:
        runs: all trained runs of the tier.
        own: those of the network, one checkpoint of each.
        name: its name.
        operations: from `_relative_operations`.
    """
    family = own.family.iloc[0]
    pairs = {str(game): _with_dqn(runs, group) for game, group in own.groupby("game")}
    pairs = {game: pair for game, pair in pairs.items() if pair[0] and _is_above_random(game, pair[1])}
    if not pairs:
        return None
    scores = {game: pair[0] for game, pair in pairs.items()}
    dqns = {game: pair[1] for game, pair in pairs.items()}
    keys = [(game, family, seed) for game, of_game in scores.items() for seed in of_game]
    counted = [operations[key] for key in keys if key in operations]
    return Kept(
        family,
        name,
        get_game(next(iter(pairs))).tier,
        int(own.sim_steps.max()),
        scores,
        dqns,
        _share(scores, dqns, kind_of(family.agent).is_conversion),
        float(np.mean(counted)) if len(counted) == len(keys) else None,
    )


def _with_dqn(runs: pd.DataFrame, own: pd.DataFrame) -> tuple[dict[int, float], dict[int, float]]:
    """The scores of a network on a game and those of its DQN, by training seed."""
    dqns = _by_seed(prefer_best(own_dqn(runs, own)))
    scores = _by_seed(own)
    if kind_of(own.family.iloc[0].agent).is_conversion:
        both = sorted(scores.keys() & dqns.keys())
        return {seed: scores[seed] for seed in both}, {seed: dqns[seed] for seed in both}
    return scores, dqns


def _by_seed(runs: pd.DataFrame) -> dict[int, float]:
    return {int(seed): float(mean) for seed, mean in zip(runs.train_seed, runs["mean"], strict=True)}


def _is_above_random(game: str, dqns: Mapping[int, float]) -> bool:
    random = reference(get_game(game)).random
    return random is not None and bool(dqns) and float(np.mean([*dqns.values()])) > random


def _share(runs: Scores, dqns: Scores, paired: bool) -> Interval:
    return average_performance_ratio(_arrays(runs), _arrays(dqns), _random(runs), paired, expanded=True)


def _arrays(scores: Scores) -> list[np.ndarray]:
    return [np.array([of_game[seed] for seed in sorted(of_game)]) for of_game in scores.values()]


def _random(games: Iterable[str]) -> list[float]:
    found = [reference(get_game(game)).random for game in games]
    return [score for score in found if score is not None]


def _relative_operations(rows: Sequence[OperationsRow]) -> dict[tuple[str, Family, int], float]:
    """Operations of a decision relative to the DQN's: by game, family and training seed."""
    agents, found = by_agent(rows), {}
    for layers in agents:
        dqn, row = dqn_of(layers, agents), layers[0]
        if row.agent != "dqn" and dqn is not None:
            shown = row.sim_steps if kind_of(row.agent).is_conversion else 0
            family = Family(row.agent, row.network, row.recipe, shown, row.variant)
            counted = sum(layer.effective_macs + layer.acs for layer in layers)
            found[row.game, family, row.train_seed] = counted / sum(layer.dense_macs for layer in dqn)
    return found


def differences(kept: Sequence[Kept], are_equal: Callable[[Kept, Kept], bool]) -> list[Difference]:
    """Every comparison that is made: all pairs of networks of equal cost.

    Shares are of the DQNs of those seeds that both have, if one of them is a conversion. So a difference need not be
    that of two shares in the table.

    Args:
        kept: from `shares_kept`.
        are_equal: whether two networks cost the same: `equal_sim_steps` or `equal_operations`.
    """
    found = []
    for network, other in itertools.combinations(kept, 2):
        is_spiking = network.sim_steps and other.sim_steps
        if network.tier != other.tier or not is_spiking or not are_equal(network, other):
            continue
        share = _difference(network, other)
        if share is not None:
            found.append(Difference(network, other, share))
    return found


def equal_sim_steps(network: Kept, other: Kept) -> bool:
    """Whether two networks take equally many simulation steps."""
    return network.sim_steps == other.sim_steps


def equal_operations(network: Kept, other: Kept) -> bool:
    """Whether the operations of two networks were counted, and differ by at most `EQUAL_OPERATIONS`."""
    if network.operations is None or other.operations is None:
        return False
    less, more = sorted((network.operations, other.operations))
    return more <= (1 + EQUAL_OPERATIONS) * less


def _difference(network: Kept, other: Kept) -> Interval | None:
    """The difference of shares on the games that both played; None if they have no game or no DQN in common."""
    games = [game for game in network.games if game in other.games]
    own: list[np.ndarray] = []
    others: list[np.ndarray] = []
    dqns_of: list[np.ndarray] = []
    for game in games:
        dqns = {**network.dqns[game], **other.dqns[game]}
        for each in (network, other):
            if each.is_conversion:
                dqns = {seed: score for seed, score in dqns.items() if seed in each.runs[game]}
        if not _is_above_random(game, dqns):
            return None
        for side, each in ((own, network), (others, other)):
            scores = each.runs[game]
            seeds = dqns if each.is_conversion else scores
            side.append(np.array([scores[seed] for seed in sorted(seeds)]))
        dqns_of.append(np.array([dqns[seed] for seed in sorted(dqns)]))
    if not games:
        return None
    paired = (network.is_conversion, other.is_conversion)
    return performance_ratio_difference(own, others, dqns_of, _random(games), paired)


def maximum_returns(validation: pd.DataFrame) -> pd.DataFrame:
    """The largest mean score of validation episodes that each training run reached. Untrained agents do not count.

    Its mean over seeds is the average maximum return that papers on MinAtar print (Xu et al. 2026). It is larger than
    the score of the best checkpoint on other episodes, because the maximum picks luck too.

    Args:
        validation: EpisodeRows of training runs.

    Returns:
        Columns: game, agent, network, recipe, train_seed, mean.
    """
    run = ["game", "agent", "network", "recipe", "train_seed"]
    made = validation.groupby(run).train_steps.transform("max")
    trained = validation[~is_untrained(made, validation.recipe_steps)]
    means = trained.groupby([*run, "train_steps"], as_index=False).score.mean()
    return means.groupby(run, as_index=False).score.max().rename(columns={"score": "mean"})


def shares_table(kept: Sequence[Kept], validation: pd.DataFrame | None = None) -> str:
    """Shares, the differences between them, and maximum returns, as Markdown.

    Args:
        kept: from `shares_kept`.
        validation: EpisodeRows of training runs, if there are any.
    """
    cells = [
        ("tier", "network", "sim steps", "games", "seeds", "share of the DQN (%)", "95 %", "operations / DQN")
    ]
    for each in kept:
        cells.append(
            (
                each.tier,
                each.name,
                str(each.sim_steps or ""),
                str(len(each.games)),
                str(each.seeds),
                f"{100 * each.share.estimate:.1f}",
                _bounds(each.share),
                "" if each.operations is None else f"{each.operations:.3g}",
            )
        )
    text = (
        "# Share of the DQN's score\n\n"
        "Mean over games of (score - random) / (DQN's score - random), best checkpoints. Intervals: stratified\n"
        "bootstrap over training seeds, widened for few of them (Hesterberg 2015); a conversion is drawn with its own\n"
        "DQN. An interval needs two seeds a game.\n\n" + aligned(cells)
    )
    text += _games_tables(kept)
    text += _differences_table("equal sim steps", differences(kept, equal_sim_steps))
    about = f"equal operations, within {round(100 * EQUAL_OPERATIONS)} %"
    text += _differences_table(about, differences(kept, equal_operations))
    if validation is not None and len(validation):
        text += (
            "\n## Average maximum return\n\n"
            "The largest validation mean of each training run, averaged over seeds, as papers on MinAtar print it.\n\n"
        ) + aligned([*_maximum_cells(validation)])
    return text


def _games_tables(kept: Sequence[Kept]) -> str:
    """Shares by game, a table for each tier of several games."""
    text = ""
    for tier in dict.fromkeys(each.tier for each in kept):
        here = [each for each in kept if each.tier == tier]
        games = sorted({game for each in here for game in each.games})
        if len(games) > 1:
            cells = [("network", *games)]
            for each in here:
                shares = each.by_game
                cells.append(
                    (each.name, *(f"{100 * shares[game]:.0f}" if game in shares else "" for game in games))
                )
            text += f"\n## Shares by game, {tier} (%)\n\n{aligned(cells)}"
    return text


def _differences_table(about: str, compared: Sequence[Difference]) -> str:
    """Differences at something equal, under a heading of their own; nothing if there are none."""
    if not compared:
        return ""
    return (
        f"\n## Differences at {about}\n\n{comparisons_told([each.share for each in compared])}\n"
        "A conversion is compared on the DQNs that it was made from, so shares may be of fewer seeds than above. Runs\n"
        "are those of both networks.\n\n"
    ) + aligned(
        [
            ("tier", "network", "minus", "games", "runs", "points", "95 %", "told"),
            *map(_difference_cells, compared),
        ]
    )


def _bounds(share: Interval, sign: str = "") -> str:
    return f"{100 * share.low:{sign}.1f} to {100 * share.high:{sign}.1f}" if share.is_given else ""


def _difference_cells(each: Difference) -> tuple[str, ...]:
    games = len([game for game in each.network.games if game in each.other.games])
    points = f"{100 * each.share.estimate:+.1f}"
    names_of = (each.network.name, each.other.name)
    return (
        each.network.tier,
        *names_of,
        str(games),
        str(each.share.n),
        points,
        _bounds(each.share, "+"),
        told(each.share),
    )


def maximum_share(maxima: pd.DataFrame, family: Family) -> Interval | None:
    """The share of the DQN's average maximum return that directly trained networks reach, as Xu et al. 2026 print it.

    Args:
        maxima: from `maximum_returns`, of one tier.
        family: the networks.

    Returns:
        The interval over training seeds, stratified by game. None without a DQN above random play that was trained
        alike, if there are several, and for the DQN itself.
    """
    families = training_families(maxima)
    dqn = dqn_family(family, families)
    if dqn is None:
        return None
    scores, others = (
        {str(game): _by_seed(rows) for game, rows in maxima[families == each].groupby("game")}
        for each in (family, dqn)
    )
    games = [game for game in scores if game in others and _is_above_random(game, others[game])]
    if not games:
        return None
    return _share({game: scores[game] for game in games}, {game: others[game] for game in games}, False)


def _maximum_cells(validation: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    found = maximum_returns(validation)
    games = sorted(set(found.game))
    yield ("tier", "network", "recipe", *games, "share of the DQN (%)", "95 %")
    for tier, of_tier in found.groupby(found.game.map(lambda game: get_game(game).tier)):
        families = training_families(of_tier)
        for family in in_order(families):
            rows = of_tier[families == family]
            share = maximum_share(of_tier, family)
            yield (
                str(tier),
                family.network,
                family.recipe,
                *(_mean_and_spread(rows[rows.game == game]["mean"]) for game in games),
                "" if share is None else f"{100 * share.estimate:.1f}",
                "" if share is None else _bounds(share),
            )


def _mean_and_spread(scores: pd.Series) -> str:
    """The mean over seeds, their sample standard deviation, and their number."""
    if scores.empty:
        return ""
    spread = f" ± {scores.std(ddof=1):,.2f}" if len(scores) > 1 else ""
    return f"{scores.mean():,.2f}{spread} ({len(scores)})"
