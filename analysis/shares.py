"""The share of the DQN's score that networks keep, over games and training seeds, and what can be told apart.

The share is the average performance ratio of Xu et al. 2026. Never imports torch.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis import over_seeds
from analysis.aggregates import Interval
from analysis.energy import by_agent, dqn_of
from analysis.runs import (
    Family,
    dqn_family,
    in_order,
    names,
    own_dqn,
    prefer_best,
    training_families,
    training_runs,
    whole_runs,
)
from core.games import Tier, get_game, reference
from core.kinds import kind_of
from core.rows import OperationsRow

ByRun = Mapping[str, Mapping[int, float]]
"""A number for each training run: by game, then by training seed."""
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
    runs: ByRun
    """Its mean scores."""
    dqns: ByRun
    """The mean scores of the DQNs that it is compared with, on the same games. A conversion's have its seeds."""
    dqn_steps: Mapping[str, Mapping[int, int]]
    """Decisions that the weights of these DQNs were trained on, which tell the best weights of a run from the last."""
    dqn_of: Mapping[str, Family]
    """The family of these DQNs on each game."""
    counted: ByRun = field(default_factory=dict)
    """Operations of a decision relative to the DQN's, of the runs for which they were counted.

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
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most training seeds of a game."""
        sizes = [len(of_game) for of_game in self.runs.values()]
        return min(sizes), max(sizes)

    @property
    def share(self) -> Interval:
        """Its share of the DQN's score. The interval is over training seeds, stratified by game."""
        return _share(self.runs, self.dqns, self.is_conversion)

    @property
    def by_game(self) -> dict[str, float]:
        """The share on each game. Their mean is `share`."""
        return {game: self.on([game]).share.estimate for game in self.games}

    @property
    def operations(self) -> float | None:
        """Operations relative to the DQN's: the mean over games of that over the runs that were counted.

        None if a game has no such run.
        """
        if not all(self.counted.get(game) for game in self.games):
            return None
        return float(np.mean([np.mean([*self.counted[game].values()]) for game in self.games]))

    def on(self, games: Sequence[str]) -> "Kept":
        """The same network, on some of its games only."""
        return replace(
            self,
            runs={game: self.runs[game] for game in games},
            dqns={game: self.dqns[game] for game in games},
        )


class LeftOut(NamedTuple):
    """Runs of a network on a game that have no share: no DQN that was trained alike scored above random play, or
    several DQNs were trained alike."""

    tier: Tier
    name: str
    game: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """The share that one network keeps minus that of another, on the games that both played."""

    network: Kept
    other: Kept
    share: Interval

    @property
    def games(self) -> tuple[str, ...]:
        """The games of the comparison. Both networks are given on these alone."""
        return self.network.games


class Shares(NamedTuple):
    """What networks keep, and the runs that have no share, each in the order of tables."""

    kept: list[Kept]
    left_out: list[LeftOut]


def shares_kept(episodes: pd.DataFrame, operations: Sequence[OperationsRow] = ()) -> list[Kept]:
    """`shares` without what was left out."""
    return shares(episodes, operations).kept


def shares(episodes: pd.DataFrame, operations: Sequence[OperationsRow] = ()) -> Shares:
    """What every trained network keeps of the DQN of its recipe. The best checkpoint of each training run counts.

    Args:
        episodes: EpisodeRows of `evaluate run`.
        operations: rows of `evaluate probe`, if there are any.

    Raises:
        Refusal: the rows do not compare (see `runs.training_runs`).
    """
    counted = _relative_operations(operations)
    found = Shares([], [])
    for name, runs, own in _networks(episodes):
        kept = _kept(name, runs, own, counted)
        used = {} if kept is None else kept.runs
        found.kept.extend([] if kept is None else [kept])
        for game, of_game in own.groupby("game"):
            seeds = sorted({int(seed) for seed in of_game.train_seed} - used.get(str(game), {}).keys())
            if seeds:
                found.left_out.append(LeftOut(get_game(str(game)).tier, name, str(game), tuple(seeds)))
    return found


def _networks(episodes: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """For each trained network but DQNs: its name, all trained runs of its tier, and its own, one checkpoint each."""
    played = episodes[episodes.agent != "random"]
    if played.empty:
        return
    checkpoints = training_runs(played)
    trained = checkpoints[[not family.untrained for family in checkpoints.family]]
    for tier in get_args(Tier):
        here = trained[trained.game.map(lambda game: get_game(game).tier) == tier]
        name_of, runs = names(here.family), prefer_best(here)
        for family in in_order(here.family):
            if family.agent != "dqn":
                yield name_of[family], here, runs[runs.family == family]


def _kept(
    name: str, runs: pd.DataFrame, own: pd.DataFrame, counted: Mapping[tuple[str, str], float]
) -> Kept | None:
    """What one network keeps; None without a DQN above random play.

    Args:
        name, runs, own: from `_networks`.
        counted: from `_relative_operations`.
    """
    family = own.family.iloc[0]
    scores: dict[str, dict[int, float]] = {}
    dqns: dict[str, dict[int, float]] = {}
    dqn_steps: dict[str, dict[int, int]] = {}
    dqn_families: dict[str, Family] = {}
    for game, of_game in own.groupby("game"):
        found = prefer_best(own_dqn(runs, of_game))
        mine, theirs = _by_seed(of_game), _by_seed(found)
        if kind_of(family.agent).is_conversion:
            both = sorted(mine.keys() & theirs.keys())
            mine, theirs = ({seed: of[seed] for seed in both} for of in (mine, theirs))
        if is_above_random(str(game), theirs.values()):
            scores[str(game)], dqns[str(game)] = mine, theirs
            steps = dict(zip(found.train_seed, found.train_steps, strict=True))
            dqn_steps[str(game)] = {seed: int(steps[seed]) for seed in theirs}
            dqn_families[str(game)] = found.family.iloc[0]
    if not scores:
        return None
    tier = get_game(next(iter(scores))).tier
    operations: dict[str, dict[int, float]] = {game: {} for game in scores}
    for game, seed, weights in zip(own.game, own.train_seed, own.checkpoint_id, strict=True):
        if seed in scores.get(game, ()) and (game, weights) in counted:
            operations[game][int(seed)] = counted[game, weights]
    return Kept(
        family, name, tier, int(own.sim_steps.max()), scores, dqns, dqn_steps, dqn_families, operations
    )


def _by_seed(runs: pd.DataFrame) -> dict[int, float]:
    return {int(seed): float(mean) for seed, mean in zip(runs.train_seed, runs["mean"], strict=True)}


def is_above_random(game: str, scores: Collection[float]) -> bool:
    """Whether the mean score of some training runs is above that of random play, so that there is a share of it."""
    random = reference(get_game(game)).random
    return random is not None and len(scores) > 0 and float(np.mean([*scores])) > random


def _share(runs: ByRun, dqns: ByRun, paired: bool) -> Interval:
    return over_seeds.share(_arrays(runs), _arrays(dqns), _random(runs), paired)


def _arrays(scores: ByRun) -> list[np.ndarray]:
    return [np.array([of_game[seed] for seed in sorted(of_game)]) for of_game in scores.values()]


def _random(games: ByRun) -> list[float]:
    """Scores of random play on games of which it is known (see `is_above_random`)."""
    found = [reference(get_game(game)).random for game in games]
    return [score for score in found if score is not None]


def _relative_operations(rows: Sequence[OperationsRow]) -> dict[tuple[str, str], float]:
    """Operations of a decision relative to a dense pass of the DQN: by game and id of the weights."""
    agents, found = by_agent(rows), {}
    for layers in agents:
        dqn, row = dqn_of(layers, agents), layers[0]
        if row.agent != "dqn" and dqn is not None:
            found[row.game, row.checkpoint_id] = _operations(layers) / sum(layer.dense_macs for layer in dqn)
    return found


def sparse_dqns(rows: Sequence[OperationsRow]) -> dict[Tier, float]:
    """Operations of a DQN that skips zeros relative to its dense pass, by tier: means over games of those over DQNs."""
    found: dict[Tier, dict[str, list[float]]] = {}
    for layers in by_agent(rows):
        if layers[0].agent == "dqn":
            of_tier = found.setdefault(get_game(layers[0].game).tier, {})
            share = _operations(layers) / sum(layer.dense_macs for layer in layers)
            of_tier.setdefault(layers[0].game, []).append(share)
    return {
        tier: float(np.mean([np.mean(shares) for shares in games.values()])) for tier, games in found.items()
    }


def _operations(layers: Sequence[OperationsRow]) -> float:
    """Additions and multiply-accumulates of a decision that are not by zero."""
    return sum(layer.effective_macs + layer.acs for layer in layers)


# Differences -----------------------------------------------------------------------------------------


def differences(kept: Sequence[Kept], are_equal: Callable[[Kept, Kept], bool]) -> list[Difference]:
    """Every comparison that is made: all pairs of networks of equal cost.

    If one of two networks is a conversion, both shares are of the DQNs that it was made from. So a difference need not
    be that of two shares in the table. Games on which the two have other DQNs do not count.

    Args:
        kept: from `shares_kept`.
        are_equal: whether two networks cost the same on the games that they are compared on: `equal_sim_steps` or
            `equal_operations`.
    """
    found = []
    for network, other in itertools.combinations(kept, 2):
        if network.tier != other.tier or not (network.sim_steps and other.sim_steps):
            continue
        compared = _matched(network, other)
        if compared is not None and are_equal(*compared):
            first, second = compared
            share = over_seeds.share_difference(
                _arrays(first.runs),
                _arrays(second.runs),
                _arrays(first.dqns),
                _random(first.runs),
                (first.is_conversion, second.is_conversion),
            )
            found.append(Difference(first, second, share))
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


def _matched(network: Kept, other: Kept) -> tuple[Kept, Kept] | None:
    """Two networks on the games and DQNs that they have in common; None if there are none."""
    runs: tuple[dict[str, Mapping[int, float]], ...] = ({}, {})
    counted: tuple[dict[str, Mapping[int, float]], ...] = ({}, {})
    dqns: dict[str, Mapping[int, float]] = {}
    for game in network.games:
        if game not in other.games or network.dqn_of[game] != other.dqn_of[game]:
            continue
        own, theirs = network.dqns[game], other.dqns[game]
        shared: Mapping[int, float] = own if network.is_conversion else theirs
        if network.is_conversion and other.is_conversion:
            # Of the same training, one may have been made from the best weights and one from the last.
            steps, other_steps = network.dqn_steps[game], other.dqn_steps[game]
            shared = {seed: own[seed] for seed in own if steps[seed] == other_steps.get(seed)}
        if not is_above_random(game, shared.values()):
            continue
        dqns[game] = shared
        for each, its_runs, its_counted in zip((network, other), runs, counted, strict=True):
            seeds = shared if each.is_conversion else each.runs[game]
            its_runs[game] = {seed: each.runs[game][seed] for seed in seeds}
            known = each.counted.get(game, {})
            its_counted[game] = {seed: known[seed] for seed in seeds if seed in known}
    if not dqns:
        return None
    first, second = (
        replace(each, runs=its_runs, dqns=dqns, counted=its_counted)
        for each, its_runs, its_counted in zip((network, other), runs, counted, strict=True)
    )
    return first, second


# Maximum returns -------------------------------------------------------------------------------------


def maximum_returns(validation: pd.DataFrame) -> pd.DataFrame:
    """The largest mean score of validation episodes that each training run reached (see `runs.whole_runs`).

    Its mean over seeds is the average maximum return that papers on MinAtar print (Xu et al. 2026). It is larger than
    the score of the best checkpoint on other episodes, because the maximum picks luck too.

    Args:
        validation: EpisodeRows of training runs.

    Returns:
        Columns: game, agent, network, recipe, train_seed, mean.
    """
    run = ["game", "agent", "network", "recipe", "train_seed"]
    means = whole_runs(validation).groupby([*run, "train_steps"], as_index=False).score.mean()
    return means.groupby(run, as_index=False).score.max().rename(columns={"score": "mean"})


def maximum_share(maxima: pd.DataFrame, family: Family) -> tuple[int, Interval] | None:
    """The share of the DQN's average maximum return that directly trained networks reach, as Xu et al. 2026 print it.

    Args:
        maxima: from `maximum_returns`, of one tier.
        family: the networks.

    Returns:
        The number of games that both have, and the share over them with its interval over training seeds. None without
        a DQN above random play that was trained alike, if there are several, and for the DQN itself.
    """
    families = training_families(maxima)
    dqn = dqn_family(family, families)
    if dqn is None:
        return None
    scores, others = (
        {str(game): _by_seed(rows) for game, rows in maxima[families == each].groupby("game")}
        for each in (family, dqn)
    )
    games = [game for game in scores if game in others and is_above_random(game, others[game].values())]
    if not games:
        return None
    own, dqns = ({game: each[game] for game in games} for each in (scores, others))
    return len(games), _share(own, dqns, False)
