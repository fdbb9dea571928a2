"""States that a DQN meets: to calibrate a conversion with, and, from other episodes, to test it on."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core import seeding
from core.envs import make_environments, network_input
from core.errors import Refusal
from core.networks import Agent
from evaluate.protocols import get_protocol
from evaluate.rollout import Rollout

STATE_EPSILON = 0.05
"""Random actions while states are collected (Tan et al. 2021)."""


def collect(agent: Agent, num_states: int, seed: int, stream: str, num_envs: int = 8) -> np.ndarray:
    """The states of whole-protocol play, in the order in which they are met.

    Args:
        agent: what plays, at epsilon 0.05, under its game's usual protocol.
        num_states: how many to collect.
        seed: of the episodes.
        stream: what for; states of different streams come from different episodes.
        num_envs: environments side by side.

    Returns:
        [num_states, *observation] as the environments gave them.
    """
    if num_states < 1:
        raise Refusal(f"number of {stream} states is {num_states}: at least 1 is needed")
    dynamics = get_protocol(None, agent.game).dynamics
    environments = make_environments(agent.game, num_envs, dynamics, torch.get_num_threads())
    collected, count = [], 0
    try:
        for step in Rollout(
            environments,
            agent,
            episode_seed=lambda index: seeding.episode_seed(seed, stream, index),
            episodes=None,
            epsilon=lambda steps: STATE_EPSILON,
        ):
            collected.append(step.observations.copy())
            count += len(step.observations)
            if count >= num_states:
                break
    finally:
        environments.close()
    return np.concatenate(collected)[:num_states]


def batches(agent: Agent, states: np.ndarray, size: int = 64) -> Iterator[Tensor]:
    """Network inputs [<= size, *observation] of states, on the agent's device."""
    for start in range(0, len(states), size):
        yield network_input(states[start : start + size], agent.game, agent.device)


@torch.no_grad()
def greedy_actions(agent: Agent, states: np.ndarray) -> np.ndarray:
    """The greedy action [S] of an agent in each state."""
    return np.concatenate([agent(batch).argmax(1).cpu().numpy() for batch in batches(agent, states)])
