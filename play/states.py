"""States of an agent's play, for calibrating and testing conversions, for attacks and for looking into agents."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core import seeding
from core.agents import Agent, RandomPlay, require_decidable
from core.errors import Refusal
from core.games import Game
from core.memory import require_fits
from core.ranges import StateCount, require
from play.environments import make_environments, network_input
from play.policies import exploring
from play.protocols import get_protocol
from play.rollout import Rollout

STATE_EPSILON = 0.05
"""Share of random actions while states are collected (Tan et al. 2021)."""
COLLECTING_ENVS = 4
"""Episodes played side by side while states are collected."""
PATIENCE = 10
"""Episodes, for each environment and each state that is asked for, after which a game counts as having no more."""


def require_room(game: Game, num_states: int, stream: str) -> None:
    """Refuse more states of a game than fit into memory; see `collect`."""
    require_fits(f"number of {stream} states", num_states, states_bytes(game, num_states), "keeping them")


def states_bytes(game: Game, num_states: int) -> int:
    """Memory that collected states take: twice their own, for a moment, and Python's where observations are small."""
    return 2 * num_states * (game.observation_bytes + 100)


class Reservoir:
    """A sample of observations that come one after the other, each kept with the same probability.

    Source: Vitter 1985 (doi 10.1145/3147.3165), algorithm R.

    Args:
        size: observations to keep.
        drawing: generator of which are kept.
    """

    def __init__(self, size: int, drawing: np.random.Generator):
        self._size, self._drawing = size, drawing
        self.kept: list[np.ndarray] = []
        self.met = 0
        """Observations offered."""

    def offer(self, observation: np.ndarray) -> None:
        """Keep an observation, perhaps in the place of another, or pass it over."""
        self.met += 1
        if len(self.kept) < self._size:
            self.kept.append(observation.copy())
        elif (place := int(self._drawing.integers(self.met))) < self._size:
            self.kept[place] = observation.copy()


def collect(
    agent: Agent,
    num_states: int,
    seed: int,
    stream: str,
    num_envs: int = COLLECTING_ENVS,
    apart_from: np.ndarray | None = None,
) -> np.ndarray:
    """Draw states evenly from whole episodes, so that late play counts as much as openings.

    Args:
        agent: the agent that plays, at epsilon 0.05, under its game's usual protocol. Random play plays at random.
        num_states: number of states.
        seed: of the episodes and of the drawing.
        stream: name of the purpose. States of different streams come from different episodes.
        num_envs: episodes played side by side. As many again are played while states are missing.
        apart_from: [N, *observation] states to leave out. On small boards, other episodes pass through the same states
            (half of the states of a minatar/breakout DQN).

    Returns:
        [num_states, *observation] as the environments gave them, in random order.

    Raises:
        Refusal: fewer than 1 state is asked for, or the game has not as many.
    """
    require(f"number of {stream} states", num_states, StateCount)
    require_room(agent.game, num_states, stream)
    require_decidable(agent, num_envs)
    dynamics = get_protocol(None, agent.game).dynamics
    epsilon = 1.0 if isinstance(agent, RandomPlay) else STATE_EPSILON
    environments = make_environments(agent.game, num_envs, dynamics)
    drawing = seeding.generator(seed, f"{stream} states")
    reservoir = Reservoir(num_states, drawing)
    passed_over = set() if apart_from is None else {state.tobytes() for state in apart_from}
    first_episode = 0
    try:
        while reservoir.met < num_states:
            if first_episode >= num_envs * PATIENCE * (1 + num_states):
                raise Refusal(
                    f"{num_states} {stream} states: {first_episode} episodes gave {reservoir.met} new ones"
                )
            for step in Rollout(
                environments,
                agent,
                episode_seed=lambda index: seeding.episode_seed(seed, stream, index),
                episodes=range(first_episode, first_episode + num_envs),
                policy=exploring(lambda steps: epsilon),
            ):
                for observation in step.observations:
                    if not (passed_over and observation.tobytes() in passed_over):
                        reservoir.offer(observation)
            first_episode += num_envs
    finally:
        environments.close()
    return np.stack([reservoir.kept[index] for index in drawing.permutation(num_states)])


def batches(agent: Agent, states: np.ndarray, size: int = 64) -> Iterator[Tensor]:
    """Network inputs [<= size, *observation] of stored states, batch by batch, on the agent's device."""
    require_decidable(agent, min(size, len(states)))
    for start in range(0, len(states), size):
        yield network_input(states[start : start + size], agent.game, agent.device)


@torch.no_grad()
def q_values(agent: Agent, states: np.ndarray) -> np.ndarray:
    """An agent's action scores [S, A] in states [S, *observation]."""
    return np.concatenate([agent(batch).cpu().numpy() for batch in batches(agent, states)])


def greedy_actions(agent: Agent, states: np.ndarray) -> np.ndarray:
    """An agent's greedy actions [S] in states [S, *observation]."""
    actions: np.ndarray = q_values(agent, states).argmax(1)
    return actions
