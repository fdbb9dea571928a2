"""Perturbations of what an agent sees, within an l_inf ball and the bounds of the observation.

An attack is gradient, sign, step, clip. It is given the network input (after the division by 255), so
epsilon is in network-input units, and the victim's own scores there. What it returns is judged again by
the evaluator: size, bounds and the victim's new decision are measured, not believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from adversarial.sources import gradient_source, input_gradient
from core.envs import bounds
from core.errors import Refusal
from core.games import Game
from core.networks import Agent
from evaluate.rollout import Perturb, Perturbed

Attack = Literal["fgsm", "random-sign"]


@dataclass(frozen=True)
class Threat:
    """Who perturbs what, how much, knowing what: stored whole with every row."""

    attack: str
    """fgsm, random-sign, or none for the clean game."""
    epsilon: float
    """Radius of the l_inf ball, in network-input units."""
    gradient_source: str = ""
    """Whose gradient is followed, see `sources.GradientSource`; empty for attacks that follow none."""
    surrogate: str = ""
    """Surrogate family and slope of that gradient, if any."""
    norm: str = "l_inf"
    scope: str = "whole stack, anew at every decision"
    loss: str = ""
    """What is increased."""
    quantised_8_bit: bool = False
    """Whether the perturbed input is rounded to what a screen can show."""


def fgsm(
    source: nn.Module, inputs: Tensor, actions: Tensor, epsilon: float, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Fast gradient sign method (Goodfellow et al. 2015; on policies: Huang et al. 2017, arXiv 1702.02284).

    x' = clip(x + epsilon sign(grad_x CE(softmax Q(x), a)), low, high).

    Args:
        source: whose gradient is followed.
        inputs: [K, *observation] clean x.
        actions: [K] the victim's clean greedy actions a.
        epsilon: radius, at least 0.
        low, high: bounds of an input, broadcastable to inputs.

    Returns:
        x' [K, *observation], and the gradient [K, *observation].
    """
    gradient = input_gradient(source, inputs, actions)
    return (inputs + epsilon * gradient.sign()).clamp(low, high), gradient


def random_sign(
    inputs: Tensor, epsilon: float, low: Tensor, high: Tensor, generators: Sequence[np.random.Generator]
) -> Tensor:
    """The control of FGSM: every element moves by epsilon, up or down by chance."""
    signs = np.stack(
        [generator.integers(2, size=inputs.shape[1:]) for generator in generators]
    )  # [K, *observation]
    noise = torch.as_tensor(signs, dtype=inputs.dtype, device=inputs.device) * 2 - 1
    return (inputs + epsilon * noise).clamp(low, high)


def require_epsilon(epsilon: float) -> None:
    """Refuse sizes that are no size."""
    if not 0.0 <= epsilon < float("inf"):
        raise Refusal(
            f"epsilon is {epsilon}: accepted is 0 or more, in network-input units (1/255 is one grey level)"
        )


def make_attack(attack: Attack, epsilon: float, victim: Agent, game: Game) -> tuple[Threat, Perturb | None]:
    """The hook that applies an attack to a victim, and the threat model that says what it does.

    At epsilon 0 the game is clean: no hook, and the threat is "none".
    """
    require_epsilon(epsilon)
    if epsilon == 0.0:
        return Threat("none", 0.0), None
    low, high = bounds(game, victim.device)
    if attack == "random-sign":

        def perturb_by_chance(
            inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator]
        ) -> Perturbed:
            return Perturbed(
                random_sign(inputs, epsilon, low, high, generators), np.full(len(inputs), np.nan)
            )

        return Threat(attack, epsilon), perturb_by_chance

    source = gradient_source(victim)

    def perturb_by_gradient(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator]
    ) -> Perturbed:
        perturbed, gradient = fgsm(source.agent, inputs, scores.argmax(1), epsilon, low, high)
        vanished = (gradient == 0).flatten(1).all(1)
        return Perturbed(perturbed, vanished.double().cpu().numpy())

    threat = Threat(
        attack, epsilon, source.name, source.surrogate, loss="cross-entropy against the clean greedy action"
    )
    return threat, perturb_by_gradient
