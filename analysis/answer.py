"""The question's answer in words, from rows alone: what is kept of a DQN's play, at what cost, and under attack.

A sentence is only there where the rows for it are; it names its number of episodes and its interval, which is over the
episodes of one network and never over training seeds. Never imports torch.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isnan
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis.attackers import BOUNDED, Strength, kind_of, setting_of, strength
from analysis.runs import CHECKPOINT_ORDER, Weights, longest_steps, own_dqns
from analysis.statistics import Interval, kept_interval
from analysis.tables import Line, score_lines
from core import kinds
from core.games import get_game, reference
from core.records import AttackRow, ConversionRow, EpisodeRow

Played = TypeVar("Played", EpisodeRow, AttackRow)
_ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "random-sign": "random signs"}


@dataclass(frozen=True)
class Player:
    """One network and the whole games that it played under one protocol."""

    rows: tuple[EpisodeRow, ...]
    line: Line

    @property
    def first(self) -> EpisodeRow:
        return self.rows[0]

    @property
    def name(self) -> str:
        """As in "DSQN (seed 0, 500,000 decisions)"."""
        # A comparison's variant says its length too, and is told where it was chosen.
        method = f"{self.first.variant}, " if self.first.variant and " T=" not in self.first.variant else ""
        seed = f"seed {self.first.train_seed}" if self.first.train_seed >= 0 else "imported"
        decisions = f", {self.first.train_steps:,} decisions" if self.first.train_steps >= 0 else ""
        weights = f", {self.first.checkpoint} weights" if self.first.checkpoint else ""
        return f"{kinds.label(self.first.agent)} ({method}{seed}{decisions}{weights})"

    @property
    def is_trained(self) -> bool:
        return not self.line.note

    @property
    def mean_sim_steps(self) -> float:
        """Simulation steps that pass until a decision, over all decisions."""
        taken = [row.sim_steps if isnan(row.mean_sim_steps) else row.mean_sim_steps for row in self.rows]
        return float(np.average(taken, weights=[row.length_steps for row in self.rows]))


@dataclass(frozen=True)
class Share:
    """What a network keeps of a DQN's score above random play."""

    player: Player
    dqn: Player | None
    how: str
    """Of a conversion in a comparison: the method and how it was chosen; empty elsewhere."""
    kept: Interval | None
    reason: str = ""
    """Why there is no share."""


@dataclass(frozen=True)
class Attacked:
    """One network under one attack of one size."""

    rows: tuple[AttackRow, ...]
    score: Interval
    strength: Strength
    kept: Interval | None
    """Of its own score above random play in the clean games of the same starts; None without such games, or if they
    were no better than random play."""

    @property
    def first(self) -> AttackRow:
        return self.rows[0]

    @property
    def flip_share(self) -> float:
        return self.strength.flipped


@dataclass(frozen=True)
class Answer:
    """Sentences; what is between backquotes is to be typed."""

    lead: tuple[str, ...]
    games: tuple[tuple[str, tuple[str, ...]], ...]
    limits: tuple[str, ...]


def answer(
    episodes: Sequence[EpisodeRow],
    compared: Sequence[EpisodeRow],
    conversions: Sequence[ConversionRow],
    attacks: Sequence[AttackRow],
) -> Answer:
    """What the rows of a study answer.

    Args:
        episodes: of `evaluate run`.
        compared: the games of `convert compare`.
        conversions: the states of `convert compare`, on which a method is chosen.
        attacks: of `adversarial run`.

    Raises:
        Refusal: rows that do not compare (see `analysis.tables.score_lines`).
    """
    everyone = players(episodes)
    found = [*shares(everyone), *chosen_conversions(compared, conversions, everyone)]
    attacked = under_attack(attacks, episodes)
    clean = players([row for row in attacks if row.attack == "none"])
    trained = {_network(player.first) for player in [*everyone, *clean] if player.is_trained}
    bench = [cell for cell in attacked if _network(cell.first) in trained]
    names = sorted({row.game for row in (*episodes, *compared, *attacks)})
    games = tuple((name, tuple(_of_game(name, everyone, found, bench))) for name in names)
    return Answer(tuple(_lead(found, bench, bool(attacks))), games, tuple(_limits(everyone, found, attacked)))


# Numbers ---------------------------------------------------------------------------------------------


def players(rows: Sequence[EpisodeRow]) -> list[Player]:
    """The networks that played, in the order of all tables; random play is what they are held against."""
    random = [row for row in rows if row.agent == "random"]
    longest = longest_steps(pd.DataFrame([vars(row) for row in rows])) if rows else {}
    found = []
    for group in _grouped(row for row in rows if row.agent != "random"):
        beside = [row for row in random if row.game == group[0].game]
        (line,) = [line for line in score_lines([*beside, *group], longest) if line.agent != "random"]
        found.append(Player(tuple(group), line))
    return sorted(found, key=lambda player: _order(player.first))


def shares(everyone: Sequence[Player]) -> list[Share]:
    """What each spiking or quantised network keeps of the score of each DQN that it is held against."""
    dqns = [player for player in everyone if player.first.agent == "dqn"]
    found = []
    for player in everyone:
        if player.first.agent != "dqn":
            against = dqns_of(player, dqns)
            found += [share(player, dqn) for dqn in against] if against else [share(player, None)]
    return found


def dqns_of(player: Player, dqns: Sequence[Player]) -> list[Player]:
    """The DQNs that a network is held against (`runs.own_dqns`); none if the rows leave it open.

    A conversion meets the one DQN that it came from, a DSQN one of every seed: the one whose decisions are nearest to
    its own.
    """
    own = own_dqns(_weights(player), ((_weights(dqn), dqn) for dqn in dqns))
    if kinds.kind_of(player.first.agent).is_conversion:
        return own[:1] if len({dqn.first.checkpoint_id for dqn in own}) == 1 else []
    return [
        min(
            (dqn for dqn in own if dqn.first.train_seed == seed),
            key=lambda dqn: (
                dqn.first.checkpoint != player.first.checkpoint,
                abs(dqn.first.train_steps - player.first.train_steps),
            ),
        )
        for seed in sorted({dqn.first.train_seed for dqn in own})
    ]


def _weights(player: Player) -> Weights:
    row = player.first
    return Weights(
        row.game, row.agent, row.recipe, player.line.family.untrained, row.train_seed, row.train_steps
    )


def share(player: Player, dqn: Player | None, how: str = "") -> Share:
    """What a network keeps of a DQN's score above random play, on the episodes that both played."""

    def without(reason: str) -> Share:
        return Share(player, dqn, how, None, reason)

    if dqn is None:
        return without("no DQN that it could be held against was evaluated")
    if not dqn.is_trained:
        return without(f"the {dqn.name} is not a trained agent")
    random = reference(get_game(player.first.game)).random
    if random is None:
        return without("no score of random play is known")
    pairs = _pairs(player.rows, dqn.rows)
    if not pairs:
        return without(f"no episode was played by the {dqn.name} too")
    own, other = np.array(pairs).T
    if not other.mean() > random:
        return without(f"on these episodes the {dqn.name} is no better than random play")
    return Share(player, dqn, how, kept_interval(own, other, random))


def chosen_conversions(
    compared: Sequence[EpisodeRow], conversions: Sequence[ConversionRow], everyone: Sequence[Player]
) -> list[Share]:
    """Of each compared DQN two conversions, neither chosen by the scores that are reported.

    One has the least regret on validation states, at the simulation steps of the game's DSQN where one was evaluated,
    and at the longest elsewhere. The other is Tan et al.'s at its longest.
    """
    found = []
    for game, seed in sorted({(row.game, row.train_seed) for row in compared}):
        by_variant: dict[str, list[EpisodeRow]] = defaultdict(list)
        for row in compared:
            if (row.game, row.train_seed) == (game, seed):
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
                if (row.game, row.train_seed, row.sim_steps) == (game, seed, length)
                and row.states == "validation"
                and row.variant in lengths[length]
            }
            if regrets:
                best = min(sorted(regrets), key=lambda name: regrets[name])
                taken[f"{best} T={length}"] = (
                    f"by `{best}` (of {_count(len(regrets), 'method')} whose layers fire for {length} simulation steps "
                    f"it has the least regret on validation states)"
                )
        of_tan = [length for length, named in lengths.items() if "tan2021" in named]
        if of_tan:
            taken.setdefault(f"tan2021 T={max(of_tan)}", "by `tan2021` at its longest")
        for label, how in taken.items():
            (player,) = players(by_variant[label])
            found.append(share(player, dqns[0] if dqns else None, how))
    return found


def under_attack(attacks: Sequence[AttackRow], episodes: Sequence[EpisodeRow]) -> list[Attacked]:
    """Every network under every attack and size, beside its clean games of the same starts.

    Clean games are the attack bench's and the evaluator's: both are the same episodes of the same loop.
    """
    clean = [*episodes, *(row for row in attacks if row.attack == "none")]
    cells: dict[tuple[object, ...], list[AttackRow]] = defaultdict(list)
    for group in _grouped(row for row in attacks if row.attack != "none"):
        for row in group:
            cells[_network(row), row.checkpoint, row.threat, row.epsilon].append(row)
    found = []
    for rows in cells.values():
        pairs = _pairs(rows, [row for row in clean if _network(row) == _network(rows[0])])
        random = reference(get_game(rows[0].game)).random
        kept = None
        if random is not None and len(pairs) == len(rows):
            perturbed, unperturbed = np.array(pairs).T
            if unperturbed.mean() > random:
                kept = kept_interval(perturbed, unperturbed, random)
        (line,) = score_lines(rows)
        found.append(Attacked(tuple(rows), line.score, strength(rows), kept))
    return sorted(found, key=lambda cell: (*_order(cell.first), *_followed(cell), cell.first.epsilon))


# Words -----------------------------------------------------------------------------------------------


def percent(share: Interval) -> str:
    """As in "58 % (49 to 69 %, n = 100)"."""
    estimate, low, high = (round(100 * value) for value in share[:3])
    return f"{estimate} % ({low} to {high} %, n = {share.n})"


def size(epsilon: float) -> str:
    """A perturbation's size, in grey levels where it is a whole number of them."""
    levels = Fraction(epsilon).limit_denominator(255) * 255
    return (
        f"{levels}/255" if levels.denominator == 1 and abs(levels / 255 - epsilon) < 1e-9 else f"{epsilon:g}"
    )


def _lead(found: Sequence[Share], bench: Sequence[Attacked], any_attack: bool) -> Iterator[str]:
    """The answer over all games as ranges over networks: nothing is averaged over games or seeds."""
    parts = []
    for agent, words in (
        ("rate-coded", "networks converted from it keep"),
        ("dsqn", "directly trained DSQNs keep"),
    ):
        told = [each for each in found if each.player.first.agent == agent and _tells(each.player)]
        here = _each_network_once(
            [
                each
                for each in told
                if each.kept and _is_preferred(each.player.first, [other.player.first for other in told])
            ]
        )
        kept = [each.kept for each in here if each.kept]
        networks = {id(each.player): each.player for each in here}.values()
        if kept:
            sim_steps = _range((player.mean_sim_steps for player in networks), ",.3g")
            spikes = _range((player.line.spikes_per_decision for player in networks), ",.0f")
            games = len({player.first.game for player in networks})
            parts.append(
                f"{words} {_percents(kept)} at {sim_steps} simulation steps and {spikes} spikes a decision "
                f"({_count(len(networks), 'network')}, {_count(games, 'game')}, {_doubt(kept)})"
            )
    if parts:
        yield f"Of a DQN's score above random play, {'; '.join(parts)}."
    else:
        yield (
            "These rows do not answer how much of a DQN's play survives: they hold no trained spiking network beside "
            "a trained DQN on the same episodes."
        )
    on_games = [_left_on(game, bench) for game in dict.fromkeys(cell.first.game for cell in bench)]
    if under := "; ".join(filter(None, on_games)):
        yield (
            "Under the strongest attack that each met in games, which flips most decisions, this is left of an agent's "
            f"own score above random play: {under}. What that allows to be said, `python -m adversarial verdict` tells."
        )
    elif any_attack:
        yield (
            "How they hold up under attack, these rows do not answer: the trained agents met no attack of a common "
            "size beside clean games of the same starts."
        )
    else:
        yield "How they hold up under attack was not asked: `python -m adversarial run` makes such rows."


def _each_network_once(found: Sequence[Share]) -> list[Share]:
    """Without a conversion's second evaluation: `evaluate run` and `convert compare` may both have scored it."""
    first: dict[tuple[object, ...], Player] = {}
    for each in found:
        first.setdefault(_conversion(each.player.first), each.player)
    return [each for each in found if first[_conversion(each.player.first)] is each.player]


def _conversion(row: EpisodeRow) -> tuple[object, ...]:
    """What names a conversion, whichever command made it; another network's name is its own."""
    if not kinds.kind_of(row.agent).is_conversion:
        return _network(row)
    method = row.variant.split(" T=")[0]
    return row.game, row.agent, row.recipe, row.train_seed, row.train_steps, method, row.sim_steps


def _of_game(
    game: str, everyone: Sequence[Player], found: Sequence[Share], bench: Sequence[Attacked]
) -> Iterator[str]:
    references = reference(get_game(game))
    known = [
        f"{words} {value:,.1f}"
        for words, value in (("random play", references.random), ("a human", references.human))
        if value is not None
    ]
    if known:
        yield f"For comparison: {', '.join(known)} ({references.source})."
    for player in everyone:
        if (player.first.game, player.first.agent) == (game, "dqn") and player.is_trained:
            yield f"The {player.name} scores {scored(player.line.score)}."
    here = [each for each in found if each.player.first.game == game]
    for player in {id(each.player): each.player for each in here}.values():
        if _tells(player):
            yield _kept([each for each in here if each.player is player])
    agents = {player.first.agent for player in everyone if player.first.game == game}
    agents |= {each.player.first.agent for each in here}
    if "rate-coded" not in agents:
        yield "No converted network was evaluated: `python -m convert run` makes one."
    if "dsqn" not in agents:
        yield "No DSQN was evaluated: `python -m train_direct dsqn` trains one."
    yield from _attacks([cell for cell in bench if cell.first.game == game and cell.kept])


def _tells(player: Player) -> bool:
    """Whether a network's score says something of its kind: a conversion's always, a DSQN's only if it learnt."""
    return player.first.agent != "dsqn" or player.is_trained


def _kept(of_player: Sequence[Share]) -> str:
    """What one network keeps of each DQN that it is held against."""
    player, how = of_player[0].player, of_player[0].how
    subject = f"The {player.name}" + (f", converted {how}," if how else "")
    costs = (
        f", with {player.mean_sim_steps:,.3g} simulation steps and {player.line.spikes_per_decision:,.0f} spikes "
        "a decision"
        if player.first.sim_steps
        else ""
    )
    kept = [
        f"{percent(each.kept)} of what the DQN of seed {each.dqn.first.train_seed} scores"
        for each in of_player
        if each.kept and each.dqn
    ]
    if kept:
        return f"{subject} keeps {' and '.join(kept)} above random play{costs}."
    return (
        f"{subject} scores {scored(player.line.score)}{costs}; {of_player[0].reason}, so there is no share."
    )


def _left_on(game: str, bench: Sequence[Attacked]) -> str:
    """What the strongest attack of the smallest size that all networks of a game met leaves; empty if there is none."""
    met: dict[tuple[float, str], dict[tuple[object, ...], list[Attacked]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for cell in bench:
        if cell.first.game == game and cell.kept and kind_of(cell.first) in BOUNDED:
            met[cell.first.epsilon, setting_of(cell.first)][_network(cell.first)].append(cell)
    networks = {network for of_networks in met.values() for network in of_networks}
    for epsilon, setting in sorted(met):
        if met[epsilon, setting].keys() != networks:
            continue
        strongest = [_strongest(cells) for cells in met[epsilon, setting].values()]
        of_agents = []
        for agent in sorted({cell.first.agent for cell in strongest}, key=kinds.order):
            cells = [cell for cell in strongest if cell.first.agent == agent]
            left = [cell.kept for cell in cells if cell.kept]
            if left:
                of_agents.append(
                    f"{kinds.label(agent)} {_percents(left)} ({_count(len(cells), 'network')}, {_doubt(left)})"
                )
        within = _within(setting, {other for _, other in met})
        return f"on {game} at {size(epsilon)}{within} {', '.join(of_agents)}"
    return ""


def _attacks(cells: Sequence[Attacked]) -> Iterator[str]:
    """Each network at the smallest and at the largest size of each attack, with the loss, steps and starts that flip
    most decisions there."""
    for network in dict.fromkeys(_network(cell.first) for cell in cells):
        of_network = [cell for cell in cells if _network(cell.first) == network]
        settings = {setting_of(cell.first) for cell in of_network}
        parts = []
        for attack, source, setting in dict.fromkeys(map(_followed, of_network)):
            by_size: dict[float, list[Attacked]] = defaultdict(list)
            for cell in of_network:
                if _followed(cell) == (attack, source, setting):
                    by_size[cell.first.epsilon].append(cell)
            ends = [_strongest(by_size[epsilon]) for epsilon in dict.fromkeys((min(by_size), max(by_size)))]
            left = [f"{percent(cell.kept)} at {size(cell.first.epsilon)}" for cell in ends if cell.kept]
            along = f" along the gradient `{source}`" if source else ""
            within = _within(setting, settings)
            parts.append(f"under {_ATTACKS.get(attack, attack)}{along}{within} {' and '.join(left)}")
        (player,) = players(of_network[0].rows)
        yield f"Of its own clean score above random play, the {player.name} keeps {'; '.join(parts)}."


def _followed(cell: Attacked) -> tuple[str, str, str]:
    return cell.first.attack, cell.first.gradient_source, setting_of(cell.first)


def _within(setting: str, settings: Collection[str]) -> str:
    """What the attacker may do, where that differs."""
    return f" in the setting `{setting}`" if len(settings) > 1 else ""


def _strongest(cells: Iterable[Attacked]) -> Attacked:
    return max(cells, key=lambda cell: cell.strength)


def _limits(
    everyone: Sequence[Player], found: Sequence[Share], attacked: Sequence[Attacked]
) -> Iterator[str]:
    """What these rows cannot claim."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for player in [*everyone, *(each.player for each in found)]:
        seeds[player.first.game, player.first.agent].add(player.first.train_seed)
    if seeds:
        yield "Intervals (95 %) are over the episodes of one network, not over training seeds."
        single = [f"{kinds.label(agent)} on {game}" for (game, agent), of in seeds.items() if len(of) == 1]
        if single:
            yield (
                "One training seed claims nothing about a method: the same agent trained anew may score otherwise. "
                f"One seed only stands behind: {'; '.join(sorted(single))}."
            )
    for player in everyone:
        if not player.is_trained:
            yield (
                f"{player.first.game}, {player.name}: {player.line.note}. It scores "
                f"{scored(player.line.score)}."
            )
    if attacked:
        yield (
            "An attack that follows a spiking network's surrogate gradient, or the gradient of the network that it was "
            "converted from, may miss what a better one would find: nothing here says that an agent is robust."
        )


def scored(score: Interval) -> str:
    """As in "16.00 (15.13 to 16.80, n = 30)"."""
    return f"{score.estimate:,.2f} ({score.low:,.2f} to {score.high:,.2f}, n = {score.n})"


def _percents(shares: Sequence[Interval]) -> str:
    return f"{_range((round(100 * share.estimate) for share in shares), 'd')} %"


def _doubt(shares: Sequence[Interval]) -> str:
    """How far the intervals reach, and of how many episodes they are."""
    ends = [round(100 * end) for share in shares for end in (share.low, share.high)]
    return f"intervals within {_range(ends, 'd')} %, n = {_range((share.n for share in shares), 'd')}"


def _range(values: Iterable[float], form: str) -> str:
    """The smallest and the largest of some numbers, or the one that they are when written down."""
    ordered = sorted(values)
    low, high = f"{ordered[0]:{form}}", f"{ordered[-1]:{form}}"
    return low if low == high else f"{low} to {high}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


# Rows ------------------------------------------------------------------------------------------------


def _network(row: EpisodeRow) -> tuple[str, str, int, str]:
    return row.game, row.agent, row.train_seed, row.checkpoint_id


def _order(row: EpisodeRow) -> tuple[Any, ...]:
    return row.game, kinds.order(row.agent), row.train_seed, row.train_steps, row.checkpoint


def _is_preferred(row: EpisodeRow, rows: Sequence[EpisodeRow]) -> bool:
    """Whether its weights are the first in CHECKPOINT_ORDER of those of its training run."""
    rank = CHECKPOINT_ORDER.index
    return all(rank(row.checkpoint) <= rank(other.checkpoint) for other in rows if _run(other) == _run(row))


def _run(row: EpisodeRow) -> tuple[object, ...]:
    return row.game, row.agent, row.network, row.recipe, row.variant, row.sim_steps, row.train_seed


def _grouped(rows: Iterable[Played]) -> Iterator[list[Played]]:
    """Rows of one network each; what is called best and what is called final are kept apart."""
    groups: dict[tuple[object, ...], list[Played]] = defaultdict(list)
    for row in rows:
        groups[_network(row), row.checkpoint].append(row)
    yield from groups.values()


def _pairs(rows: Sequence[EpisodeRow], others: Sequence[EpisodeRow]) -> list[tuple[float, float]]:
    """Scores [n, 2] of two agents on the episodes of the same start and the same settings."""
    scores = {(row.settings, row.episode_seed): row.score for row in others}
    return [
        (row.score, scores[row.settings, row.episode_seed])
        for row in rows
        if (row.settings, row.episode_seed) in scores
    ]
