"""One decision in numbers: all that a frame shows."""

from typing import NamedTuple

import numpy as np
import torch

from core.agents import Agent
from core.games import Game
from play.environments import network_input
from play.episodes import Played
from play.rollout import Step


class Frame(NamedTuple):
    """One decision, in numbers."""

    seen: np.ndarray
    """[*observation] float32: what the agent saw, attacked if there is an attack."""
    clean: np.ndarray
    """[*observation] float32: the observation without any attack."""
    scores: np.ndarray
    """[A] action scores of what the agent saw."""
    clean_scores: np.ndarray | None
    """[A] action scores of the clean observation; None without an attack."""
    action: int
    """The action that was taken."""
    rates: np.ndarray
    """[L] firing rate of each spiking layer: spikes per neuron and simulation step. Empty without spikes."""
    sim_steps: int
    """Simulation steps of the decision; 0 without spikes."""
    decisions: int
    """Decisions of the episode so far, with this one."""
    score: float
    """Score of the episode so far, with this decision's reward."""
    reward: float
    """Reward of this decision."""
    flips: int
    """Decisions of the episode so far whose greedy action the attack changed."""
    episode: int
    """Index of the episode."""
    ending: str
    """How the episode ended; empty while it goes on."""
    hidden: tuple[np.ndarray, ...]
    """[C, H, W] or [N] for each hidden layer: firing rate or activation of each neuron in this decision.

    Empty where no `NeuronPanel` is drawn.
    """


def frame_of(
    step: Step, row: int, played: Played, agent: Agent, game: Game, hidden: tuple[np.ndarray, ...] = ()
) -> Frame:
    """The frame of one decision.

    Args:
        step: a step of a rollout.
        row: which of the step's decisions.
        played: the decision's episode up to and including it.
        agent: the agent that decided.
        game: the game that is played.
        hidden: see `Frame`.
    """
    clean = network_input(step.observations[row : row + 1], game, torch.device("cpu"))[0].numpy()
    seen, clean_scores = clean, None
    if step.attack is not None:
        seen = step.attack.inputs[row].cpu().numpy()
        clean_scores = step.attack.clean_scores[row].cpu().numpy()
    rates, sim_steps = np.zeros(0), 0
    if step.activity is not None:
        sim_steps = int(step.activity.sim_steps[row])
        rates = step.activity.spikes[row].double().numpy() / (np.array(agent.neuron_counts) * sim_steps)
    ending = "game over" if step.outcome.terminated[row] else "cut short"
    return Frame(
        seen=seen,
        clean=clean,
        scores=step.scores[row],
        clean_scores=clean_scores,
        action=int(step.actions[row]),
        rates=rates,
        sim_steps=sim_steps,
        decisions=played.length_steps,
        score=played.score,
        reward=float(step.outcome.rewards[row]),
        flips=int(played.flips),
        episode=played.episode,
        ending=ending if step.ended[row] else "",
        hidden=hidden,
    )
