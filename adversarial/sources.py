"""Whose gradient an attack follows: what the victim offers, its twin's, or another agent's; and the best of them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from adversarial.frozen import frozen
from adversarial.goals import Goal
from adversarial.gradient_ascent import input_gradient
from adversarial.threat import TRANSFER
from analysis.attackers import SOURCE_WEIGHTS
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.errors import Refusal
from core.gradients import GradientSource
from core.kinds import kind_of
from play.environments import bounds, scale
from play.states import batches

# Sources ----------------------------------------------------------------------------------------------


def gradient_source(victim: Agent) -> GradientSource:
    """The gradient that costs no search: the first that the victim offers."""
    return next(iter(victim.gradient_sources()))


def sources(victim: Agent, twin: Agent | None = None) -> list[GradientSource]:
    """Every white-box gradient of a victim, the one that costs no search first.

    Args:
        victim: any agent that has gradients.
        twin: the DQN that a quantised or converted victim was made from.

    Raises:
        Refusal: the victim has no gradient, or the twin is none.
    """
    found = [*victim.gradient_sources()]
    if twin is not None:
        if not kind_of(victim.kind).is_conversion:
            raise Refusal(
                f"a twin is given for a {victim.kind} agent: only quantised and converted ones have one"
            )
        if twin.kind != DQN.kind or twin.game.observation_shape != victim.game.observation_shape:
            raise Refusal(
                f"the twin is a {twin.kind} agent of {twin.game.name}: a dqn of {victim.game.name} is needed"
            )
        found.insert(1, GradientSource(twin, "ann-twin", SOURCE_WEIGHTS))
    return found


def transfer(other: Checkpoint) -> GradientSource:
    """The gradient of another agent. Of its iterates, the victim's scores choose the worst."""
    name = f"{TRANSFER}{other.agent.kind} {other.id}"
    return replace(gradient_source(other.agent), name=name, same_scores=False)


def freeze(source: GradientSource) -> GradientSource:
    """A source with a copy of its network that gives gradients of inputs faster; see adversarial/frozen.py."""
    return replace(source, network=frozen(source.network))


# The best of them -------------------------------------------------------------------------------------


class SourceTrial(NamedTuple):
    """How many greedy actions FGSM along one gradient source changes."""

    source: GradientSource
    flip_shares: tuple[float, ...]
    """For each epsilon, the share of states whose greedy action changes."""


def try_sources(
    victim: Agent, states: np.ndarray, epsilons: Sequence[float], candidates: Sequence[GradientSource]
) -> list[SourceTrial]:
    """FGSM (Goodfellow et al. 2015) along each candidate, against one victim on the same states.

    Args:
        victim: whose greedy actions are to change.
        states: [S, *observation] as the environments gave them.
        epsilons: l_inf radii above 0, in the game's scale.
        candidates: the sources, in the order of the result.

    Raises:
        Refusal: there are no states or epsilons, an epsilon is invalid, or a gradient is not finite.
    """
    if len(states) == 0 or not epsilons or not all(0.0 < epsilon < math.inf for epsilon in epsilons):
        raise Refusal(
            f"{len(states)} states at epsilons {[*epsilons]}: at least one state and finite epsilons above 0 are needed"
        )
    low, high = bounds(victim.game, victim.device)
    unit = scale(victim.game, victim.device)
    flips = np.zeros((len(candidates), len(epsilons)), dtype=np.int64)
    for inputs in batches(victim, states):
        with torch.no_grad():
            actions = victim(inputs).argmax(1)
        for index, candidate in enumerate(candidates):
            gradient = input_gradient(candidate.network, inputs, Goal("cross-entropy", actions))
            if not bool(torch.isfinite(gradient).all()):
                raise Refusal(
                    f"the gradient {candidate.name} ({candidate.surrogate}) is not finite: a wider surrogate is needed"
                )
            for column, epsilon in enumerate(epsilons):
                with torch.no_grad():
                    moved = victim((inputs + epsilon * unit * gradient.sign()).clamp(low, high)).argmax(1)
                flips[index, column] += int((moved != actions).sum())
    return [
        SourceTrial(candidate, tuple((flipped / len(states)).tolist()))
        for candidate, flipped in zip(candidates, flips, strict=True)
    ]


def best_sources(
    victim: Agent, states: np.ndarray, epsilons: Sequence[float], twin: Agent | None = None
) -> dict[float, GradientSource]:
    """For each epsilon, the white-box gradient along which FGSM of this size changes most greedy actions.

    FGSM takes cross-entropy and changes all frames here, whatever the loss and scope of the attack that follows.

    The first of equals is taken. Report successes on other states than these: the best of forty is flattered here.

    Args:
        victim, twin: as in `sources`.
        states, epsilons: as in `try_sources`.
    """
    candidates = sources(victim, twin)
    if len(candidates) == 1:
        return dict.fromkeys(epsilons, candidates[0])
    trials = try_sources(victim, states, epsilons, candidates)
    return {
        epsilon: max(trials, key=lambda trial: trial.flip_shares[column]).source
        for column, epsilon in enumerate(epsilons)
    }
