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
import torch.nn.functional as F
from torch import Tensor

from core.envs import bounds
from core.errors import Refusal
from core.games import Game
from core.networks import DSQN, Agent, QuantisedDQN
from core.rate_coded.network import RateCodedNetwork
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
    """Whose gradient is followed: own, straight-through (a quantised network's, through its staircases as through
    ramps), own-surrogate (a spiking network's training surrogate), or ann-twin (a converted network's weights with
    ReLU: for Tan's, the DQN it came from); empty for attacks that follow none."""
    surrogate: str = ""
    """Surrogate family and slope of that gradient, if any."""
    norm: str = "l_inf"
    scope: str = "whole stack, anew at every decision"
    loss: str = ""
    """What is increased."""
    quantised_8_bit: bool = False
    """Whether the perturbed input is rounded to what a screen can show."""


@dataclass(frozen=True)
class GradientSource:
    """A differentiable agent whose gradient stands for the victim's, and what it is called."""

    agent: Agent
    name: str
    surrogate: str = ""


def gradient_source(victim: Agent) -> GradientSource:
    """The best gradient of this bench for a victim so far."""
    if isinstance(victim, RateCodedNetwork):
        return GradientSource(victim.twin().requires_grad_(False), "ann-twin")
    if isinstance(victim, DSQN):
        neuron = victim.spiking.neuron
        return GradientSource(victim, "own-surrogate", f"{neuron.surrogate} slope {neuron.surrogate_slope:g}")
    return GradientSource(victim, "straight-through" if isinstance(victim, QuantisedDQN) else "own")


def fgsm(
    source: Agent, inputs: Tensor, actions: Tensor, epsilon: float, low: Tensor, high: Tensor
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
    x = inputs.detach().clone().requires_grad_()
    loss = F.cross_entropy(source(x), actions, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
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
