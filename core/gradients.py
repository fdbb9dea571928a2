"""Gradient sources: differentiable networks whose gradient replaces an agent's.

A spike has no derivative, so the gradient of a spiking network is always that of something else. It may be a surrogate
at each spike, the rates that spike counts approach, or a network without spikes. Which one is best for an attack is not
known in advance. A poor one makes an agent look robust that is not (Athalye et al. 2018, arXiv 1802.00420). So an agent
offers all that it has (`Agent.gradient_sources`), and attacks try them.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from core.choices import SURROGATES, Surrogate

WIDTHS = tuple(2.0**exponent for exponent in range(-7, 3))
"""Widths of swept surrogates: distances from the threshold at which they fall to half their height, in thresholds.

The best width depends on the victim and on the attack's size. On the shipped spiking networks of MinAtar, 1/16 to 1/4
are best at a size of a thousandth, where it matters which spikes are about to change. At a twentieth, 1/2 to 1 are. On
Pong the narrowest is best on the DSQN, and 1 on the converted networks. Narrower ones were no better on 128 states of
Pong; wider ones make the network nearly linear.
"""


@dataclass(frozen=True)
class GradientSource:
    """A differentiable network whose gradient replaces an agent's, and its name in rows."""

    network: nn.Module
    """From inputs [B, *observation] to scores [B, A]."""
    name: str
    """What kind of source it is.

    own: a DQN's own gradient.
    straight-through: a quantised network's, through its staircases as through ramps.
    own-surrogate: a DSQN's, as it was trained.
    swept-surrogate: a spiking network's, through another surrogate.
    rate-gradient: simulated rates forward, clipped ReLUs backward.
    ann-twin: a network without spikes in the agent's place.
    transfer:KIND ID: another agent's.
    """
    surrogate: str = ""
    """What replaces the derivative of a spike or step; empty if nothing does."""
    same_scores: bool = False
    """Whether its scores equal the agent's own, bit for bit."""
    sim_steps: int = 0
    """Simulation steps that the gradient goes through; 0 without any."""


def swept(
    network: Callable[[Surrogate, float], nn.Module | None], sim_steps: int, same_scores: bool
) -> Iterator[GradientSource]:
    """A spiking network through every surrogate family at every width.

    Args:
        network: (family, width in thresholds) -> the network with that surrogate. Resets should be detached: through
            them, gradients of narrow surrogates explode. None: surrogates cannot be exchanged.
        sim_steps: simulation steps of a decision.
        same_scores: whether its scores equal the agent's own, bit for bit.
    """
    for family, width in itertools.product(SURROGATES, WIDTHS):
        exchanged = network(family, width)
        if exchanged is None:
            return
        label = f"{family} width {width:g}"
        yield GradientSource(exchanged, "swept-surrogate", label, same_scores, sim_steps)
