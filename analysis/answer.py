"""Answer the question of SpikeQ from rows: what survives of a DQN's play, at what cost, and under attack.

Intervals are over the episodes of one network, never over training seeds. Never imports torch.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
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
    player_order,
    players,
    score_pairs,
    shares,
)
from analysis.statistics import Interval, kept_interval
from analysis.tables import score_lines
from analysis.words import count, percent, percents, scored, size, span
from core import kinds
from core.games import get_game, reference
from core.rows import AttackRow, ConversionRow, EpisodeRow


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

    lead: tuple[str, ...]
    """At most three sentences."""
    kept: tuple[tuple[str, ...], ...]
    """Rows of cells below KEPT_HEADER, one for each network and the DQN that it is compared with."""
    limits: tuple[str, ...]
    """Sentences about what cannot be claimed."""


KEPT_HEADER = ("game", "network", "score", "kept", "of the DQN", "sim steps", "spikes per decision", "remark")


def answer(
    episodes: Sequence[EpisodeRow],
    compared: Sequence[EpisodeRow],
    conversions: Sequence[ConversionRow],
    attacks: Sequence[AttackRow],
) -> Answer:
    """The answer that the rows of a study give.

    Args:
        episodes: rows of `evaluate run`.
        compared: games of `convert compare`.
        conversions: measurements on states by `convert compare`, used to choose a method.
        attacks: rows of `adversarial run`.

    Raises:
        Refusal: the rows do not compare (see `analysis.tables.score_lines`).
    """
    everyone = players(episodes)
    found = [*shares(everyone), *chosen_conversions(compared, conversions, everyone)]
    attacked = under_attack(attacks, episodes)
    clean = players([row for row in attacks if row.attack == "none"])
    trained = {network_key(player.first) for player in [*everyone, *clean] if player.is_trained}
    bench = [cell for cell in attacked if network_key(cell.first) in trained]
    counted = [each for each in found if has_learnt(each.player)]
    return Answer(
        (_kept_in_play(counted), _left_under_attack(bench, bool(attacks)), *_seeds(everyone)),
        tuple(map(_cells, sorted(counted, key=lambda each: each.player.first.game))),
        tuple(_limits(everyone, found, attacked)),
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


def _kept_in_play(counted: Sequence[Share]) -> str:
    """A sentence on what spiking networks keep, as ranges over networks. Nothing is averaged over games or seeds."""
    parts = []
    spiking = [each for each in counted if each.player.first.sim_steps]
    for agent in sorted({each.player.first.agent for each in spiking}, key=kinds.order):
        of_agent = [each for each in spiking if each.player.first.agent == agent]
        rows = [each.player.first for each in of_agent]
        here = each_network_once(
            [
                each
                for each in of_agent
                if each.kept and each.kept.is_given and is_preferred(each.player.first, rows)
            ]
        )
        kept = [each.kept for each in here if each.kept]
        networks = {id(each.player): each.player for each in here}.values()
        if kept:
            sim_steps = span((player.mean_sim_steps for player in networks), ",.3g")
            games = count(len({player.first.game for player in networks}), "game")
            parts.append(
                f"the {kinds.label(agent)} keeps {percents(kept)} at {sim_steps} sim steps "
                f"({count(len(networks), 'network')}, {games})"
            )
    if parts:
        return f"Of a DQN's score above random play, {'; '.join(parts)}."
    return (
        "These rows do not answer how much of a DQN's play survives: no trained spiking network shares episodes with a "
        "trained DQN."
    )


def _left_under_attack(bench: Sequence[Attacked], any_attack: bool) -> str:
    """A sentence on what agents keep under attack on each game, or why there is no such result."""
    on_games = [
        *filter(None, (_left_on(game, bench) for game in dict.fromkeys(cell.first.game for cell in bench)))
    ]
    if on_games:
        others = f" ({count(len(on_games) - 1, 'more game')} in the tables)" if len(on_games) > 1 else ""
        return (
            "Share of their own clean score above random play that agents keep under the attack that flips most "
            f"decisions: {on_games[0]}{others}."
        )
    if any_attack:
        return (
            "These rows do not answer how the agents hold up under attack: no size of attack is common to all trained "
            "agents and has clean games on the same starts."
        )
    return "No agent was attacked: `python -m adversarial run` does that."


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
        of_agents = []
        for agent in sorted({cell.first.agent for cell in worst}, key=kinds.order):
            left = [cell.kept for cell in worst if cell.first.agent == agent and cell.kept]
            of_agents.append(f"{kinds.label(agent)} {percents(left)}")
        several = len({other for _, other in met}) > 1
        within = f" in the setting `{setting}`" if several else ""
        return f"on {game} at {size(epsilon)}{within} {', '.join(of_agents)}"
    return ""


def _seeds(everyone: Sequence[Player]) -> Iterator[str]:
    """A sentence on how many trainings the answer rests on."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for player in everyone:
        if player.first.train_seed >= 0:
            seeds[player.first.game, player.first.agent].add(player.first.train_seed)
    if seeds:
        found = span((len(of) for of in seeds.values()), "d")
        yield f"An agent was trained with {found} seed{'' if found == '1' else 's'} on each game."


def _cells(each: Share) -> tuple[str, ...]:
    """One row of the table: what a network keeps of a DQN's score."""
    player = each.player
    spiking = bool(player.first.sim_steps)
    return (
        player.first.game,
        player.name,
        scored(player.line.score),
        percent(each.kept) if each.kept else "",
        f"seed {each.dqn.first.train_seed}" if each.kept and each.dqn else "",
        f"{player.mean_sim_steps:,.3g}" if spiking else "",
        f"{player.line.spikes_per_decision:,.0f}" if spiking else "",
        "; ".join(filter(None, (each.how, each.reason))),
    )


def _limits(
    everyone: Sequence[Player], found: Sequence[Share], attacked: Sequence[Attacked]
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
    if attacked:
        yield "Stronger attacks may exist. No agent is shown to be robust here."
