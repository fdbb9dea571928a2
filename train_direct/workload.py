"""What a training is forecast to do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from core import seeding
from core.agents import Agent
from core.games import get_game
from core.networks import Network
from core.workload import PROCESS_BYTES, Workload, WorkPart
from play.expected import Expected, playing, side_by_side
from play.protocols import get_protocol
from train_direct.options import QLearningOptions, RunOptions
from train_direct.q_learning import slack_steps
from train_direct.recipe import BaseRecipe, get_ppo_recipe, get_recipe
from train_direct.replay import replay_bytes


def of_q_learning(
    options: QLearningOptions,
    network: Network,
    expected: Expected,
    addition: str = "",
    sim_steps_in_turn: Sequence[int] = (),
) -> Workload:
    """What a training by Q-learning is forecast to do. The agent that it makes is added to what is expected.

    Args:
        options: of the command.
        network: the network to train.
        expected: what is known before.
        addition: to the agent's kind, for what makes updates dearer.
        sim_steps_in_turn: simulation steps of temporal pruning.
    """
    game = get_game(options.game)
    recipe = options.choose(get_recipe(options.recipe, game), game).recipe
    agent = network.make(game, seeding.torch_generator(0, "weights"))
    if options.precision != "fp32":
        addition += f"+{options.precision}"
    updates = max(0, recipe.total_steps - recipe.warmup_steps) / recipe.train_interval_steps
    in_turn = sim_steps_in_turn or [agent.sim_steps]
    parts = [
        WorkPart("environment", game.tier, "", 1, recipe.total_steps),
        *(
            WorkPart(
                "decide",
                game.tier,
                agent.kind,
                sim_steps,
                recipe.total_steps / len(in_turn),
                recipe.num_envs,
            )
            for sim_steps in in_turn
        ),
        *(
            WorkPart(
                "update",
                game.tier,
                agent.kind + addition,
                sim_steps,
                updates * recipe.batch_size / len(in_turn),
            )
            for sim_steps in in_turn
        ),
        *_validation(agent, recipe, expected),
    ]
    if len(in_turn) > 1:
        network = replace(
            network, spiking=network.spiking and replace(network.spiking, sim_steps=in_turn[-1])
        )
        made = network.make(game, seeding.torch_generator(0, "weights"))
    else:
        made = agent
    slack = slack_steps(recipe, options.checkpoint_interval_steps)
    replay = replay_bytes(game, recipe.num_envs, recipe.replay_capacity_steps, slack)
    _expect(options, made, expected)
    return Workload(
        parts,
        PROCESS_BYTES + replay + agent.gradient_bytes(recipe.batch_size),
        replay + _files_bytes(agent),
    )


def of_ppo(options: RunOptions, network: Network, expected: Expected) -> Workload:
    """What a training by PPO is forecast to do. The agent that it makes is added to what is expected."""
    game = get_game(options.game)
    recipe = options.choose(get_ppo_recipe(options.recipe, game), game).recipe
    agent = network.make_actor(game, seeding.torch_generator(0, "weights"))
    parts = [
        *playing(agent, recipe.total_steps, recipe.num_envs),
        # Actor and critic.
        WorkPart("update", game.tier, agent.kind, agent.sim_steps, 2.0 * recipe.epochs * recipe.total_steps),
        *_validation(agent, recipe, expected),
    ]
    _expect(options, agent, expected)
    return Workload(parts, PROCESS_BYTES + agent.gradient_bytes(recipe.batch_size), _files_bytes(agent))


def _validation(agent: Agent, recipe: BaseRecipe, expected: Expected) -> Iterator[WorkPart]:
    """The games of all validations."""
    validations = -(-recipe.total_steps // recipe.eval_interval_steps)
    protocol = get_protocol(recipe.protocol, agent.game)
    steps = expected.episode_steps(agent.game, agent.kind, protocol)
    at_once = side_by_side(agent.game, recipe.eval_episodes)
    yield from playing(agent, validations * recipe.eval_episodes * steps, at_once)


def _expect(options: RunOptions, agent: Agent, expected: Expected) -> None:
    """Add the agent that a training makes, by its run folder and by its files."""
    folder = Path(options.out)
    expected.made[str(folder)] = [agent, agent]
    for name in ("best", "agent"):
        expected.made[str(folder / f"{name}.safetensors")] = [agent]


def _files_bytes(agent: Agent) -> int:
    """Bytes of weights and states: the weights twice, and a state with two networks and two moments of Adam."""
    return 6 * sum(tensor.nbytes for tensor in agent.state_dict().values())
