"""What measurements are forecast to do."""

from core.games import named_game
from core.workload import PROCESS_BYTES, Workload, WorkPart
from evaluate.__main__ import Probe, Run
from play.expected import Expected, collecting, playing, side_by_side
from play.protocols import get_protocol


def of_games(options: Run, expected: Expected) -> Workload:
    """What `evaluate run` is forecast to do."""
    game = named_game(options.game)
    agents = [agent for word in options.agent for agent in expected.agents(word, game)]
    protocols = [get_protocol(options.protocol, game or agent.game) for agent in agents]
    parts: list[WorkPart] = []
    for agent, protocol in zip(agents, protocols, strict=True):
        episodes = protocol.episodes if options.episodes is None else options.episodes
        decisions = episodes * expected.episode_steps(agent.game, agent.kind, protocol)
        parts += playing(agent, decisions, side_by_side(game or agent.game, episodes, options.num_envs))
    return Workload(parts, PROCESS_BYTES + max(agent.decision_bytes(options.num_envs) for agent in agents))


def of_probe(options: Probe, expected: Expected) -> Workload:
    """What `evaluate probe` is forecast to do."""
    game = named_game(options.game)
    agents = [expected.agents(word, game)[0] for word in options.agent]
    shown = agents if options.embedding else []
    first = {agent.kind: agent for agent in reversed(shown)}
    # Twice for operations and activity, once to be represented.
    judged = [*agents, *agents, *first.values()]
    parts = [part for agent in (*shown[:1], *agents) for part in collecting(agent, options.states, expected)]
    for agent in judged:
        parts.append(WorkPart("decide", agent.game.tier, agent.kind, agent.sim_steps, options.states))
    parts += [WorkPart("embed", agent.game.tier, "", 1, options.states) for agent in first.values()]
    return Workload(parts, PROCESS_BYTES + max((agent.decision_bytes(64) for agent in agents), default=0))
