"""The attacks of the command line: a threat model, whose gradient it follows, and the hook that a rollout takes."""

from typing import Any

from adversarial.sources import GradientSource, gradient_source
from adversarial.threats import WHITE_BOX, Threat, make_threat, perturber
from core.agents import Agent
from core.games import Game
from play.rollout import Perturb


def make_attack(
    attack: str,
    epsilon: float,
    victim: Agent,
    game: Game,
    source: GradientSource | None = None,
    **changes: Any,
) -> tuple[Threat, Perturb | None]:
    """The threat model of an attack on a victim, and the hook that carries it out.

    At epsilon 0 the game is clean: no hook, and the threat is "none".

    Args:
        attack, epsilon, game, changes: as `make_threat` takes them.
        victim: who is attacked.
        source: whose gradient is followed by attacks that follow one; the one that costs no search if None.
    """
    if attack not in WHITE_BOX:
        threat = make_threat(attack, epsilon, game, **changes)
        return threat, perturber(threat, game, victim)
    source = source or gradient_source(victim)
    followed = {
        "gradient_source": source.name,
        "surrogate": source.surrogate,
        "sim_steps": source.sim_steps,
    }
    threat = make_threat(attack, epsilon, game, **{**followed, **changes})
    return threat, perturber(threat, game, victim, source.frozen, says_the_same=source.says_the_same)
