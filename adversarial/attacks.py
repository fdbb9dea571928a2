"""The attacks of the command line: whose gradient stands for a victim's, and the hook that a rollout takes."""

from dataclasses import dataclass
from typing import Any

from adversarial.threats import WHITE_BOX, Threat, make_threat, perturber
from core.games import Game
from core.networks import DSQN, Agent, QuantisedDQN
from core.rate_coded.network import RateCodedNetwork
from evaluate.rollout import Perturb


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


def make_attack(
    attack: str, epsilon: float, victim: Agent, game: Game, **changes: Any
) -> tuple[Threat, Perturb | None]:
    """The threat model of an attack on a victim (`changes` are fields of it), and the hook that carries it out.

    At epsilon 0 the game is clean: no hook, and the threat is "none".
    """
    if attack not in WHITE_BOX:
        threat = make_threat(attack, epsilon, game, **changes)
        return threat, perturber(threat, game, victim)
    source = gradient_source(victim)
    threat = make_threat(
        attack, epsilon, game, **{"gradient_source": source.name, "surrogate": source.surrogate, **changes}
    )
    return threat, perturber(threat, game, victim, source.agent)
