"""Answer the question of SpikeQ from rows: what survives of a DQN's play, at what cost, and under attack.

Intervals are over the episodes of one network, never over training seeds. Never imports torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.attackers import BOUNDED, AttackStrength, kind_of, setting_of, strength
from analysis.players import (
    Player,
    Share,
    by_network,
    chosen_conversions,
    each_network_once,
    has_learnt,
    is_preferred,
    network_key,
    paired_scores,
    player_order,
    players,
    score_pairs,
    shares,
)
from analysis.statistics import Interval, kept_interval
from analysis.tables import score_lines
from analysis.words import instead, percent, percents, scored, size, span
from core import kinds
from core.games import get_game, reference
from core.rows import AttackRow, ConversionRow, EpisodeRow
from core.words import count


@dataclass(frozen=True)
class Attacked:
    """The games of one network under one attack of one size."""

    rows: tuple[AttackRow, ...]
    score: Interval
    strength: AttackStrength
    kept: Interval | None
    """Share kept of the network's own clean score above random play, on the same starts.

    None without clean games on these starts, or if their score is no better than random play.
    """

    @property
    def first(self) -> AttackRow:
        return self.rows[0]

    @property
    def flip_share(self) -> float:
        return self.strength.flipped


@dataclass(frozen=True)
class Answer:
    """The answer of one study. Text in backquotes is code."""

    question: str
    """The part of SpikeQ's question that the rows answer."""
    lead: tuple[str, ...]
    """A few sentences."""
    kept: tuple[tuple[str, ...], ...]
    """Rows of cells below KEPT_HEADER, one for each network."""
    limits: tuple[str, ...]
    """Sentences about what cannot be claimed."""


MOST_NAMED = 3
"""Games whose numbers a sentence names one by one. Of more, it gives the range."""
KEPT_HEADER = ("game", "network", "score", "kept", "of the DQN", "sim steps", "spikes per decision", "remark")


def answer(
    episodes: Sequence[EpisodeRow],
    compared: Sequence[EpisodeRow],
    conversions: Sequence[ConversionRow],
    attacks: Sequence[AttackRow],
    counts_operations: bool = False,
) -> Answer:
    """The answer that the rows of a study give.

    Args:
        episodes: rows of `evaluate run`.
        compared: games of `convert compare`.
        conversions: measurements on states by `convert compare`, used to choose a method.
        attacks: rows of `adversarial run`.
        counts_operations: whether the study counts operations too.

    Raises:
        Refusal: the rows do not compare (see `analysis.tables.score_lines`).
    """
    everyone = players(episodes)
    found = [*shares(everyone), *chosen_conversions(compared, conversions, everyone)]
    attacked = under_attack(attacks, episodes)
    clean = players([row for row in attacks if row.attack == "none"])
    trained = {network_key(player.first) for player in [*everyone, *clean] if player.is_trained}
    bench = [cell for cell in attacked if network_key(cell.first) in trained]
    counted = [
        each
        for each in found
        if has_learnt(each.player) and not kinds.kind_of(each.player.first.agent).is_policy
    ]
    kept = [*_kept_in_play(counted)]
    lead = (*kept, *_left_under_attack(bench, bool(attacks)), *_seeds(everyone))
    return Answer(
        _question(bool(kept), counts_operations, bool(attacked), bool(everyone)),
        lead or ("No trained network was scored: these rows show training.",),
        tuple(map(_cells, sorted(counted, key=lambda each: each.player.first.game))),
        tuple(_limits(everyone, found, attacked, bool(kept))),
    )


def _question(kept: bool, counts_operations: bool, attacked: bool, played: bool) -> str:
    """The question that a study with such rows answers."""
    if not kept:
        if attacked:
            return "How do these networks hold up under attack?"
        return "What do these networks score?" if played else "How did these networks learn?"
    cost = "simulation steps and operations" if counts_operations else "simulation steps"
    under = ", and how does each hold up under attack" if attacked else ""
    return (
        "How much of a deep Q-network's play survives in a spiking network, converted from it or trained directly, at "
        f"what cost in {cost}{under}?"
    )


def under_attack(attacks: Sequence[AttackRow], episodes: Sequence[EpisodeRow]) -> list[Attacked]:
    """The results of every network under every attack and size, compared with its clean games on the same starts.

    Args:
        attacks: rows of `adversarial run`, including clean games.
        episodes: rows of `evaluate run`, used as clean games too.
    """
    clean = [*episodes, *(row for row in attacks if row.attack == "none")]
    cells: dict[tuple[object, ...], list[AttackRow]] = defaultdict(list)
    for group in by_network(row for row in attacks if row.attack != "none"):
        for row in group:
            cells[network_key(row), row.checkpoint, row.threat, row.epsilon].append(row)
    found = []
    for rows in cells.values():
        pairs = score_pairs(rows, [row for row in clean if network_key(row) == network_key(rows[0])])
        random = reference(get_game(rows[0].game)).random
        kept = None
        if random is not None and len(pairs) == len(rows):
            perturbed, unperturbed = np.array(pairs).T
            if unperturbed.mean() > random:
                kept = kept_interval(perturbed, unperturbed, random)
        (line,) = score_lines(rows)
        found.append(Attacked(tuple(rows), line.score, strength(rows), kept))

    def order(cell: Attacked) -> tuple[object, ...]:
        row = cell.first
        return (*player_order(row), row.attack, row.gradient_source, setting_of(row), row.epsilon)

    return sorted(found, key=order)


def _kept_in_play(counted: Sequence[Share]) -> Iterator[str]:
    """A sentence for each tier on what spiking networks keep: means over seeds, for a method at its simulation steps.

    Conversions that only `convert compare` scored are of one seed. They count if no other network was scored.
    """
    given = [each for each in counted if each.player.first.sim_steps and each.kept and each.kept.is_given]
    shown = [each for each in given if not each.how] or given
    rows = [each.player.first for each in shown]
    shown = [each for each in each_network_once(shown) if is_preferred(each.player.first, rows)]
    for tier in dict.fromkeys(get_game(row.game).tier for row in rows):
        here = [each for each in shown if get_game(each.player.first.game).tier == tier]
        games = sorted({each.player.first.game for each in here})
        methods: dict[tuple[object, ...], list[Share]] = defaultdict(list)
        for each in here:
            methods[_method(each.player)].append(each)
        alike = Counter(_label(found) for found in methods.values())
        parts = [
            f"{_label(found)}{f' ({key[-1]})' if alike[_label(found)] > 1 else ''}: {_kept_by_method(found, games)}"
            for key, found in sorted(methods.items())
        ]
        several = (
            any(len(each.dqns) > 1 for each in here)
            or len({each.player.first.train_seed for each in here}) > 1
        )
        on = _listed(games) if len(games) <= MOST_NAMED else count(len(games), "game")
        yield (
            f"Share of the DQN's score above random play that is kept on {on}"
            f"{', means over seeds' if several else ''}: {'; '.join(parts)}."
        )


def _method(player: Player) -> tuple[object, ...]:
    """The key of a kind of network: networks with equal keys are seeds of one method. Many steps come first."""
    method = player.first.variant.split(" T=")[0]
    apart = "" if player.first.variant else f"{player.first.network}, {player.first.recipe}"
    return (*kinds.order(player.first.agent), -player.first.sim_steps, method, apart)


def _label(found: Sequence[Share]) -> str:
    """As in "DSQN, 4 sim steps"."""
    first = found[0].player.first
    steps = span((each.player.mean_sim_steps for each in found), ",.3g")
    return f"{first.variant.split(' T=')[0] or kinds.label(first.agent)}, {steps} sim steps"


def _kept_by_method(found: Sequence[Share], games: Sequence[str]) -> str:
    """The mean over seeds on each game, as in "71 and 68 %"."""
    values, lacking = [], []
    for game in games:
        pairs = [
            paired_scores(each.player, each.dqns).mean(axis=0)
            for each in found
            if each.player.first.game == game
        ]
        if not pairs:
            lacking.append(game)
            continue
        own, other = np.mean(pairs, axis=0)
        random = reference(get_game(game)).random
        assert random is not None  # otherwise no share is given
        values.append(round(100 * (own - random) / (other - random)))
    if len(games) > MOST_NAMED:
        return f"{span(values, 'd')} %"
    return f"{_listed(map(str, values))} %" + (f" (not on {_listed(lacking)})" if lacking else "")


def _listed(names: Iterable[str]) -> str:
    """As in "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _left_under_attack(bench: Sequence[Attacked], any_attack: bool) -> Iterator[str]:
    """A sentence for each game on what agents keep under attack, or why there is no such result."""
    on_games = [
        *filter(None, (_left_on(game, bench) for game in dict.fromkeys(cell.first.game for cell in bench)))
    ]
    if on_games:
        yield (
            "Share of their own clean score above random play that agents keep under the attack that flips most "
            f"decisions, {on_games[0]}."
        )
        yield from (f"The same {told}." for told in on_games[1:MOST_NAMED])
    elif any_attack:
        yield (
            "These rows do not answer how the agents hold up under attack: no size of attack is common to all trained "
            "agents, with enough clean games on the same starts."
        )


def _left_on(game: str, bench: Sequence[Attacked]) -> str:
    """What the strongest attack leaves on a game, at the smallest size at which all networks were attacked.

    Empty if there is no such size.
    """
    met: dict[tuple[float, str], dict[tuple[object, ...], list[Attacked]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for cell in bench:
        given = cell.kept is not None and cell.kept.is_given
        if cell.first.game == game and given and kind_of(cell.first) in BOUNDED:
            met[cell.first.epsilon, setting_of(cell.first)][network_key(cell.first)].append(cell)
    networks = {network for of_networks in met.values() for network in of_networks}
    for epsilon, setting in sorted(met):
        if met[epsilon, setting].keys() != networks:
            continue
        worst = [max(cells, key=lambda cell: cell.strength) for cells in met[epsilon, setting].values()]
        worst.sort(
            key=lambda cell: (kinds.order(cell.first.agent), cell.first.variant, cell.first.train_seed)
        )
        several = len({other for _, other in met}) > 1
        within = f" in the setting `{setting}`" if several else ""
        return f"on {game} at {size(epsilon)}{within}: {_left_of(worst)}"
    return ""


def _left_of(worst: Sequence[Attacked]) -> str:
    """What each network keeps, with its interval, or one range if all intervals overlap."""
    kept = [(cell.first, cell.kept) for cell in worst if cell.kept]
    agents = [row.agent for row, _ in kept]
    if len(kept) > 1 and max(left.low for _, left in kept) <= min(left.high for _, left in kept):
        return (
            f"{percents([left for _, left in kept])}, and no order can be told, because the intervals of all "
            f"{len(kept)} networks overlap"
        )
    told = []
    for row, left in kept:
        method = f" ({row.variant})" if row.variant and agents.count(row.agent) > 1 else ""
        bounds = instead(left) or f"{round(100 * left.low)} to {round(100 * left.high)}"
        told.append(f"{kinds.label(row.agent)}{method} {round(100 * left.estimate)} % ({bounds})")
    return f"{', '.join(told)} (95 % intervals over {span((left.n for _, left in kept), 'd')} games)"


def _seeds(everyone: Sequence[Player]) -> Iterator[str]:
    """A sentence on how many trainings the answer rests on."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for player in everyone:
        if player.first.train_seed >= 0:
            seeds[player.first.game, player.first.agent].add(player.first.train_seed)
    by_game = {
        game: span((len(of) for (other, _), of in seeds.items() if other == game), "d") for game, _ in seeds
    }
    on: dict[str, list[str]] = defaultdict(list)
    for game, number in by_game.items():
        on[number].append(game)
    if on:
        parts = [
            f"{number}{(' seed' if number == '1' else ' seeds') if index == 0 else ''} on "
            + (_listed(games) if len(games) <= MOST_NAMED else count(len(games), "game"))
            for index, (number, games) in enumerate(sorted(on.items(), reverse=True))
        ]
        yield f"Each agent was trained with {_listed(parts)}."


def _cells(each: Share) -> tuple[str, ...]:
    """One row of the table: what a network keeps of a DQN's score."""
    player = each.player
    spiking = bool(player.first.sim_steps)
    return (
        player.first.game,
        player.name,
        scored(player.line.score),
        percent(each.kept) if each.kept else "",
        _of_seeds(each.dqns) if each.kept else "",
        f"{player.mean_sim_steps:,.3g}" if spiking else "",
        f"{player.line.spikes_per_decision:,.0f}" if spiking else "",
        "; ".join(filter(None, (each.how, each.reason))),
    )


def _of_seeds(dqns: Sequence[Player]) -> str:
    """Whose score a share is of, as in "seed 0" or "mean of seeds 0, 1, 2"."""
    seeds = ", ".join(str(dqn.first.train_seed) for dqn in dqns)
    return f"mean of seeds {seeds}" if len(dqns) > 1 else f"seed {seeds}"


def _limits(
    everyone: Sequence[Player], found: Sequence[Share], attacked: Sequence[Attacked], any_kept: bool
) -> Iterator[str]:
    """Sentences about what the rows do not show."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for player in [*everyone, *(each.player for each in found)]:
        seeds[player.first.game, player.first.agent].add(player.first.train_seed)
    if seeds:
        yield "Intervals (95 %) are over the episodes of one network, not over training seeds."
    if single := sorted(
        f"{kinds.label(agent)} on {game}" for (game, agent), of in seeds.items() if len(of) == 1
    ):
        yield f"Only one training seed, so no claim about a method: {'; '.join(single)}."
    for player in everyone:
        if not player.is_trained:
            yield (
                f"{player.first.game}, {player.name}: {player.line.note}. Score: {scored(player.line.score)}."
            )
    if any(player.first.sim_steps for player in everyone) and not any_kept:
        yield (
            "How much of a DQN's play survives is not answered: no trained spiking network shares episodes with a "
            "trained DQN."
        )
    if attacked:
        yield "Stronger attacks may exist. No agent is shown to be robust here."
    elif everyone:
        yield "No agent was attacked: `spikeq attack run` does that."
