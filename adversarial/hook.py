"""From a threat model to the hook that a rollout takes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adversarial.attack import ATTACKS, Attack, Problem
from adversarial.box import ball, newest_frame_only
from adversarial.goals import Scores
from adversarial.sources import freeze, gradient_source
from adversarial.threat import Threat, make_threat, require_fit
from adversarial.timing import gaps
from core.agents import Agent
from core.errors import Refusal
from core.games import Game
from core.gradients import GradientSource
from play.environments import bounds, scale
from play.rollout import Perturb, Perturbed


def make_attack(
    attack: str | Attack,
    epsilon: float,
    victim: Agent,
    game: Game,
    source: GradientSource | None = None,
    **changes: Any,
) -> tuple[Threat, Perturb | None]:
    """The threat model of an attack on a victim, and the hook that carries it out.

    At epsilon 0 the game is clean: there is no hook.

    Args:
        attack: its registered name, or the attack with its options.
        epsilon: its size, in the game's scale.
        victim: who is attacked.
        game: whose observations are perturbed.
        source: whose gradient a white-box attack follows, fastest if frozen (`adversarial.sources.freeze`). None
            takes the one that costs no search.
        changes: as `make_threat` takes them.
    """
    kind = ATTACKS[attack].kind if isinstance(attack, str) else attack.kind
    if kind != "white-box":
        threat = make_threat(attack, epsilon, game, **changes)
        return threat, perturber(threat, game, victim)
    source = source or freeze(gradient_source(victim))
    followed = {
        "gradient_source": source.name,
        "surrogate": source.surrogate,
        "sim_steps": source.sim_steps,
    }
    threat = make_threat(attack, epsilon, game, **{**followed, **changes})
    return threat, perturber(threat, game, victim, source.network, same_scores=source.same_scores)


def perturber(
    threat: Threat,
    game: Game,
    victim: nn.Module,
    source: nn.Module | None = None,
    *,
    same_scores: bool = False,
) -> Perturb | None:
    """The hook of a rollout that carries out a threat model; None for the clean game.

    The evaluator judges what the hook returns again: it measures size, bounds and the victim's new decision.

    Args:
        threat: see `make_threat`.
        game: whose observations are perturbed.
        victim: [B, *observation] -> [B, A] scores. It is asked as at an episode's start, whatever it carries from
            decision to decision.
        source: the network whose gradient a white-box attack follows; fastest if `adversarial.frozen` made it.
        same_scores: whether the source's scores are the victim's, which then need not be asked again.

    Raises:
        Refusal: the threat model does not fit the game, or a white-box attack has no source.
    """
    attack = threat.attack
    if attack is None:
        return None
    require_fit(threat, game)
    if attack.kind == "white-box" and source is None:
        raise Refusal(f"{attack.name} follows a gradient: a source of gradients is needed")
    device = next((parameter.device for parameter in victim.parameters()), torch.device("cpu"))
    low, high = bounds(game, device)
    radius = math.inf if attack.norm == "patch" else threat.epsilon
    judge: Scores = victim
    followed: Scores | None = source
    # Attacks know one size for all elements. Where elements have scales of their own, attacks work on inputs divided
    # by these scales.
    unit = None if game.scale == (1.0,) else scale(game, device)
    if unit is not None:
        low, high = low / unit, high / unit
        judge, followed = _of_scaled(victim, unit), None if followed is None else _of_scaled(followed, unit)

    def perturb(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        box = ball(inputs if unit is None else inputs / unit, radius, low, high)
        box = box._replace(grey_levels=threat.eight_bit)
        if threat.scope == "newest-frame":
            box = newest_frame_only(box, previous)
        perturbed = inputs if unit is not None else box.center
        zero_gradient = np.full(len(inputs), math.nan)
        chosen = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        if threat.frequency < 1.0:
            chosen = gaps(scores) >= threat.gap_threshold
        if not bool(chosen.any()):
            return Perturbed(perturbed, zero_gradient, chosen.cpu().numpy())
        goal = attack.goal(scores)
        everyone = bool(chosen.all())
        if not everyone:
            goal, box = goal.rows(chosen), box.rows(chosen)
            generators = [each for each, taken in zip(generators, chosen.tolist(), strict=True) if taken]
        found = attack.perturb(Problem(goal, box, threat.epsilon, generators, judge, followed, same_scores))
        if found.inputs.shape != box.center.shape:
            raise Refusal(
                f"attack {attack.name} gives inputs {tuple(found.inputs.shape)} for {tuple(box.center.shape)}"
            )
        shown = found.inputs if unit is None else (found.inputs * unit).clamp(*bounds(game, device))
        if everyone:
            perturbed = shown
        else:
            perturbed = perturbed.clone()
            perturbed[chosen] = shown
        if found.zero_gradient is not None:
            zero_gradient[chosen.cpu().numpy()] = found.zero_gradient.double().cpu().numpy()
        return Perturbed(perturbed, zero_gradient, chosen.cpu().numpy())

    return perturb


def _of_scaled(network: Scores, unit: Tensor) -> Scores:
    """A network's scores of inputs that were divided by a unit."""
    return lambda scaled: network(scaled * unit)
