"""The share of a DQN's score above random play that each network keeps. Never imports torch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis.runs import CHECKPOINT_ORDER, TrainedAgent, longest_steps, own_dqns
from analysis.statistics import Interval, kept_interval
from analysis.tables import Line, score_lines
from analysis.trainings import told_apart
from core import kinds
from core.games import get_game, reference
from core.rows import AttackRow, ConversionRow, EpisodeRow
from core.words import count

GameRow = TypeVar("GameRow", EpisodeRow, AttackRow)


@dataclass(frozen=True)
class Player:
    """One network with the games that it played under one protocol."""

    rows: tuple[EpisodeRow, ...]
    line: Line

    @property
    def first(self) -> EpisodeRow:
        return self.rows[0]

    @property
    def name(self) -> str:
        """The network's name, as in "DSQN (seed 0, 500,000 decisions)"."""
        # In rows of `convert compare` the variant holds the simulation steps too. It is shown as the remark instead.
        method = f"{self.first.variant}, " if self.first.variant and " T=" not in self.first.variant else ""
        seed = f"seed {self.first.train_seed}" if self.first.train_seed >= 0 else "imported"
        decisions = f", {self.first.train_steps:,} decisions" if self.first.train_steps >= 0 else ""
        weights = f", {self.first.checkpoint} weights" if self.first.checkpoint else ""
        apart = told_apart(self.first.recipe)
        training = f", {apart}" if apart else ""
        return f"{kinds.label(self.first.agent)} ({method}{seed}{decisions}{weights}{training})"

    @property
    def is_trained(self) -> bool:
        return not self.line.note

    @property
    def mean_sim_steps(self) -> float:
        """Mean simulation steps per decision, over all decisions."""
        taken = [row.sim_steps if isnan(row.mean_sim_steps) else row.mean_sim_steps for row in self.rows]
        return float(np.average(taken, weights=[row.length_steps for row in self.rows]))


@dataclass(frozen=True)
class Share:
    """The share of the DQN's score above random play that a network keeps."""

    player: Player
    dqns: tuple[Player, ...]
    """The trained DQNs whose mean is the reference: of a conversion its source, of others one of each seed."""
    how: str
    """For a conversion chosen from `convert compare`: the method, and how it was chosen. Empty otherwise."""
    kept: Interval | None
    reason: str = ""
    """Why `kept` is None."""


def players(rows: Sequence[EpisodeRow]) -> list[Player]:
    """The networks that played, in the order used by all tables. Random play is not among them."""
    random = [row for row in rows if row.agent == "random"]
    longest = longest_steps(pd.DataFrame([vars(row) for row in rows])) if rows else {}
    found = []
    for group in by_network(row for row in rows if row.agent != "random"):
        random_play = [row for row in random if row.game == group[0].game]
        (line,) = [line for line in score_lines([*random_play, *group], longest) if line.agent != "random"]
        found.append(Player(tuple(group), line))
    return sorted(found, key=lambda player: player_order(player.first))


def shares(everyone: Sequence[Player]) -> list[Share]:
    """The share that each network keeps of the score of the DQNs that it is compared with."""
    dqns = [player for player in everyone if player.first.agent == "dqn"]
    return [share(player, dqns_of(player, dqns)) for player in everyone if player.first.agent != "dqn"]


def dqns_of(player: Player, dqns: Sequence[Player]) -> list[Player]:
    """The DQNs that a network is compared with (`runs.own_dqns`). Empty if the rows do not determine them.

    A converted network is compared with its source DQN. Others are compared with one DQN of each training seed: its
    best weights if they were evaluated, because a run may lose what it had learnt. Of several lengths it is the one
    nearest to the network's own.
    """
    own = own_dqns(_weights(player), ((_weights(dqn), dqn) for dqn in dqns))
    if kinds.kind_of(player.first.agent).is_conversion:
        return own[:1] if len({dqn.first.checkpoint_id for dqn in own}) == 1 else []
    return [
        min(
            (dqn for dqn in own if dqn.first.train_seed == seed),
            key=lambda dqn: (
                CHECKPOINT_ORDER.index(dqn.first.checkpoint),
                abs(dqn.first.train_steps - player.first.train_steps),
            ),
        )
        for seed in sorted({dqn.first.train_seed for dqn in own})
    ]


def _weights(player: Player) -> TrainedAgent:
    row = player.first
    untrained = player.line.family.untrained
    return TrainedAgent(
        row.game, row.agent, row.network, row.recipe, untrained, row.train_seed, row.train_steps
    )


def share(player: Player, dqns: Sequence[Player], how: str = "") -> Share:
    """The share that a network keeps of the mean score of some DQNs above random play, on episodes that all played."""
    trained = tuple(dqn for dqn in dqns if dqn.is_trained)

    def without(reason: str) -> Share:
        return Share(player, trained, how, None, reason)

    if not dqns:
        return without("no matching DQN was evaluated")
    if not trained:
        return without(f"the {dqns[0].name} is {dqns[0].line.note.partition(':')[0]}")
    random = reference(get_game(player.first.game)).random
    if random is None:
        return without("the score of random play is unknown")
    pairs = paired_scores(player, trained)
    if not len(pairs):
        return without(f"it shares no episode with the {trained[0].name}")
    own, other = pairs.T
    if not other.mean() > random:
        return without(f"on these episodes the {trained[0].name} is no better than random play")
    return Share(player, trained, how, kept_interval(own, other, random))


def paired_scores(player: Player, dqns: Sequence[Player]) -> np.ndarray:
    """A network's scores beside the mean scores of some DQNs, on the same starts: [episodes, 2]."""
    of_dqns = [{(row.settings, row.episode_seed): row.score for row in dqn.rows} for dqn in dqns]
    pairs = []
    for row in player.rows:
        others = [scores.get((row.settings, row.episode_seed)) for scores in of_dqns]
        known = [score for score in others if score is not None]
        if len(known) == len(dqns):
            pairs.append((row.score, np.mean(known)))
    return np.array(pairs).reshape(-1, 2)


def chosen_conversions(
    compared: Sequence[EpisodeRow], conversions: Sequence[ConversionRow], everyone: Sequence[Player]
) -> list[Share]:
    """Two conversions of each DQN in `convert compare`. Neither is chosen by the reported scores.

    The first has the least regret on validation states. It is taken at the simulation steps of the game's DSQN, or at
    the most simulation steps if no DSQN was evaluated. The second is the method of Tan et al. at its most simulation
    steps.
    """
    found = []
    for game, seed, training in sorted({(row.game, row.train_seed, row.training) for row in compared}):
        by_variant: dict[str, list[EpisodeRow]] = defaultdict(list)
        for row in compared:
            if (row.game, row.train_seed, row.training) == (game, seed, training):
                by_variant[row.variant].append(row)
        dqns = players(by_variant.pop("dqn", []))
        lengths: dict[int, set[str]] = defaultdict(set)
        for label in by_variant:
            variant, _, fires_for = label.rpartition(" T=")
            lengths[int(fires_for)].add(variant)
        of_dsqns = {
            player.first.sim_steps
            for player in everyone
            if (player.first.game, player.first.agent) == (game, "dsqn")
        }
        taken: dict[str, str] = {}
        for length in sorted(of_dsqns & lengths.keys()) or sorted(lengths)[-1:]:
            regrets = {
                row.variant: row.regret
                for row in conversions
                if (row.game, row.train_seed, row.training) == (game, seed, training)
                and row.sim_steps == length
                and row.states == "validation"
                and row.variant in lengths[length]
            }
            if regrets:
                best = min(sorted(regrets), key=lambda name: regrets[name])
                taken[f"{best} T={length}"] = (
                    f"{best}: least regret of {count(len(regrets), 'method')} on validation states at T={length}"
                )
        of_tan = [length for length, named in lengths.items() if "tan2021" in named]
        if of_tan:
            taken.setdefault(f"tan2021 T={max(of_tan)}", "tan2021 at its most sim steps")
        for label, how in taken.items():
            (player,) = players(by_variant[label])
            found.append(share(player, dqns[:1], how))
    return found


def each_network_once(found: Sequence[Share]) -> list[Share]:
    """Drop second evaluations of a conversion. `evaluate run` and `convert compare` may both have scored it."""
    first: dict[tuple[object, ...], Player] = {}
    for each in found:
        first.setdefault(_conversion(each.player.first), each.player)
    return [each for each in found if first[_conversion(each.player.first)] is each.player]


def _conversion(row: EpisodeRow) -> tuple[object, ...]:
    """The key of a conversion, whichever command evaluated it. Other networks have their usual key."""
    if not kinds.kind_of(row.agent).is_conversion:
        return network_key(row)
    method = row.variant.split(" T=")[0]
    return row.game, row.agent, row.recipe, row.train_seed, row.train_steps, method, row.sim_steps


def has_learnt(player: Player) -> bool:
    """Whether a network's score counts in the answer: always for conversions, for a DSQN only if it learnt."""
    return player.first.agent != "dsqn" or player.is_trained


def network_key(row: EpisodeRow) -> tuple[str, str, int, str]:
    """Identifies a network within a study."""
    return row.game, row.agent, row.train_seed, row.checkpoint_id


def player_order(row: EpisodeRow) -> tuple[Any, ...]:
    """Sort key of networks, the same in all tables."""
    return row.game, kinds.order(row.agent), row.train_seed, row.train_steps, row.checkpoint


def is_preferred(row: EpisodeRow, rows: Sequence[EpisodeRow]) -> bool:
    """Whether a row's checkpoint comes first in CHECKPOINT_ORDER among those of its training run."""
    rank = CHECKPOINT_ORDER.index
    return all(rank(row.checkpoint) <= rank(other.checkpoint) for other in rows if _run(other) == _run(row))


def _run(row: EpisodeRow) -> tuple[object, ...]:
    return row.game, row.agent, row.network, row.recipe, row.variant, row.sim_steps, row.train_seed


def by_network(rows: Iterable[GameRow]) -> Iterator[list[GameRow]]:
    """The rows of each network. Best and final checkpoints are kept apart."""
    groups: dict[tuple[object, ...], list[GameRow]] = defaultdict(list)
    for row in rows:
        groups[network_key(row), row.checkpoint].append(row)
    yield from groups.values()


def score_pairs(rows: Sequence[EpisodeRow], others: Sequence[EpisodeRow]) -> list[tuple[float, float]]:
    """Pairs of scores of two agents, on episodes with the same start and the same settings."""
    scores = {(row.settings, row.episode_seed): row.score for row in others}
    return [
        (row.score, scores[row.settings, row.episode_seed])
        for row in rows
        if (row.settings, row.episode_seed) in scores
    ]
