"""What attacks are forecast to do."""

from collections.abc import Iterator
from typing import Literal

from adversarial.attack import ATTACKS, Attack
from adversarial.command import SEARCH_STATES, AskedAttacks
from adversarial.options import AttackOptions, Run, States
from adversarial.states import BATCH, MANY_QUERIES
from core.agents import Agent
from core.games import named_game
from core.workload import PROCESS_BYTES, Workload, WorkPart
from play.expected import Expected, collecting, playing, side_by_side
from play.protocols import get_protocol


def of_games(options: Run, expected: Expected) -> Workload:
    """What `adversarial run` is forecast to do."""
    game = named_game(options.game)
    victim = expected.agents(options.agent, game)[0]
    lenders = [expected.agents(word, game)[0] for word in options.transfer]
    protocol = get_protocol(options.protocol, victim.game)
    decisions = options.episodes * expected.episode_steps(victim.game, victim.kind, protocol)
    at_once = min(options.num_envs, options.episodes)
    parts = [*_search(options, victim, expected)]
    if 0.0 in options.epsilon:
        parts += playing(victim, decisions, side_by_side(victim.game, options.episodes, options.num_envs))
    for attack, lender in _attacks(options, victim, lenders):
        parts += [
            *playing(victim, decisions, at_once),
            *_asking(attack, victim, lender, options.frequency * decisions, at_once),
        ]
    return Workload(parts, _memory(options, victim, lenders, at_once))


def of_states(options: States, expected: Expected) -> Workload:
    """What `adversarial states` is forecast to do."""
    game = named_game(options.game)
    victim = expected.agents(options.agent, game)[0]
    lenders = [expected.agents(word, game)[0] for word in options.transfer]
    player = expected.agents(options.states_of, game)[0] if options.states_of else victim
    parts = [*collecting(player, options.states, expected), *_search(options, victim, expected)]
    for attack, lender in _attacks(options, victim, lenders):
        states = (
            min(options.query_states, options.states)
            if _told(attack, "queries") >= MANY_QUERIES
            else options.states
        )
        parts += _asking(attack, victim, lender, states, states)
        parts.append(WorkPart("decide", victim.game.tier, victim.kind, victim.sim_steps, states))
    return Workload(parts, _memory(options, victim, lenders, min(BATCH, options.states)))


def _attacks(options: AttackOptions, victim: Agent, lenders: list[Agent]) -> Iterator[tuple[Attack, Agent]]:
    """Every attack, and the agent whose gradient it follows, once for each size."""
    asked = AskedAttacks(**{name: value for name, value in vars(options).items() if name in _FIELDS})
    for name in options.attack:
        for attack in asked.variants(name):
            sources = [victim]
            if attack.kind == "white-box":
                sources += [victim] * options.best_source + lenders
            for _ in {*options.epsilon} - {0.0}:
                for lender in sources:
                    yield attack, lender


_FIELDS = frozenset(AskedAttacks.__dataclass_fields__)


def _told(attack: Attack, number: Literal["steps", "restarts", "queries"]) -> int:
    """A number that rows tell of an attack; 0 if it has none."""
    return int(attack.recorded(0.0).get(number, 0))


def _asking(
    attack: Attack, victim: Agent, lender: Agent, states: float, at_once: float
) -> Iterator[WorkPart]:
    """The gradients or queries of an attack on so many states, some of them at once."""
    tier = victim.game.tier
    if attack.kind == "white-box":
        steps = max(1, _told(attack, "steps"))
        gradients = states * steps * max(1, _told(attack, "restarts"))
        yield WorkPart("gradient", tier, lender.kind, lender.sim_steps, gradients, at_once)
        judged = gradients if steps > 1 else 0
    else:
        judged = states * _told(attack, "queries")
    if judged:
        yield WorkPart("decide", tier, victim.kind, victim.sim_steps, judged, at_once)


def _search(options: AttackOptions, victim: Agent, expected: Expected) -> Iterator[WorkPart]:
    """The search for the gradient that changes most choices, and for the decisions in which most is at stake."""
    if options.best_source or options.frequency < 1.0:
        yield from collecting(victim, SEARCH_STATES, expected)
    if options.best_source and any(ATTACKS[name].kind == "white-box" for name in options.attack):
        sources = len([*victim.gradient_sources()])
        sizes = len({*options.epsilon} - {0.0})
        tier, kind, sim_steps = victim.game.tier, victim.kind, victim.sim_steps
        yield WorkPart("gradient", tier, kind, sim_steps, SEARCH_STATES * sources)
        yield WorkPart("decide", tier, kind, sim_steps, SEARCH_STATES * sources * sizes)


def _memory(options: AttackOptions, victim: Agent, lenders: list[Agent], rows: int) -> int:
    """A gradient for each state and start, as `AskedAttacks.require_room` counts it."""
    starts = max(options.restarts)
    return PROCESS_BYTES + max(agent.gradient_bytes(rows * starts) for agent in (victim, *lenders))
