"""Whose gradient an attack follows: of a victim without a usable one of its own, that of something close to it.

A spike has no derivative, so every gradient of a spiking network is of something else: a surrogate at each spike, the
rates that counts of spikes approach, or a network without spikes. Which of them leads an attack best cannot be told
beforehand, and a poor one makes a victim look robust that is not (Athalye et al. 2018, arXiv 1802.00420). So all
are tried, and the best is used and named.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adversarial.frozen import frozen
from adversarial.goals import Goal
from adversarial.gradient_ascent import input_gradient
from analysis.attackers import SOURCE_WEIGHTS
from core.agents import Agent, RandomPlay
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.layers import apply_layer
from core.neurons.surrogates import SURROGATES, SpikeDerivative, slope_of_width
from core.quantised import QuantisedDQN
from core.rate_coded.differentiable import MAX_SIM_STEPS, RateGradient, SurrogateSimulation, ramp
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.environments import bounds, scale
from play.states import batches

WIDTHS = tuple(2.0**exponent for exponent in range(-7, 3))
"""Distances from the threshold, in thresholds, at which a swept surrogate has fallen to half its height. Which one
leads depends on the victim and on the size of the attack: of MinAtar's shipped networks with spikes 1/16 to 1/4 do at a
thousandth, as they tell which spikes are about to change, and 1/2 to 1 at a twentieth; of Pong's the narrowest leads on
the DSQN, and 1 on the converted ones. Narrower ones led no better, but for what 128 states of Pong cannot tell apart;
wider ones make a nearly linear network of the victim."""


@dataclass(frozen=True)
class GradientSource:
    """A differentiable network whose gradient stands for the victim's, and what it is called."""

    agent: nn.Module
    """From inputs [B, *observation] to scores [B, A]."""
    name: str
    """own (a DQN's); straight-through (a quantised network's, through its staircases as through ramps); own-surrogate
    (a DSQN's, as it was trained); swept-surrogate (a spiking network's, through another surrogate); rate-gradient
    (simulated rates forward, clipped ReLUs backward); ann-twin (a network without spikes in the victim's place);
    transfer:KIND ID (another agent's)."""
    surrogate: str = ""
    """What stands for the derivative of a spike or stair, if anything does."""
    says_the_same: bool = False
    """Whether its scores are the victim's own, to the last bit."""

    @functools.cached_property
    def frozen(self) -> nn.Module:
        """The agent as attacks differentiate it, one copy for all of them."""
        return frozen(self.agent)

    @property
    def sim_steps(self) -> int:
        """Simulation steps that the gradient goes through; 0 without time."""
        match self.agent:
            case DSQN():
                return self.agent.spiking.sim_steps
            case SurrogateSimulation():
                return self.agent.network.coding.sim_steps
        return 0


# Sources ----------------------------------------------------------------------------------------------


def gradient_source(victim: Agent) -> GradientSource:
    """The gradient that costs no search: a victim's own, or of a converted network that of its weights with ReLU."""
    if isinstance(victim, RateCodedNetwork):
        return _own_twin(victim)
    if isinstance(victim, DSQN):
        surrogate = victim.spiking.neuron.surrogate_label
        return GradientSource(victim, "own-surrogate", surrogate, says_the_same=True)
    _require_opinion(victim)
    name = "straight-through" if isinstance(victim, QuantisedDQN) else "own"
    return GradientSource(victim, name, says_the_same=True)


def sources(victim: Agent, twin: Agent | None = None) -> list[GradientSource]:
    """Every white-box gradient of a victim, the one that costs no search first.

    Args:
        victim: any agent with an opinion.
        twin: of a quantised or converted network, the DQN that it came from.
    """
    found = [gradient_source(victim)]
    if isinstance(victim, QuantisedDQN):
        # Weights are named as a converted network's, which knows how to make a DQN of them.
        converted = RateCodedNetwork(
            victim.game, RateCoding(victim.levels), victim.bias, victim.padding, victim.hidden
        ).to(victim.device)
        converted.load_state_dict(victim.state_dict())
        found.append(_own_twin(converted))
    elif isinstance(victim, DSQN):
        if victim.spiking.neuron.rate_range() is not None and victim.spiking.normalisation is None:
            found.append(GradientSource(ClippedRates(victim, real=False), "ann-twin", "ramp"))
            found.append(GradientSource(ClippedRates(victim, real=True), "rate-gradient", "ramp"))
        found += _swept(victim)
    elif isinstance(victim, RateCodedNetwork):
        found.append(GradientSource(RateGradient(victim), "rate-gradient", "clipped relu"))
        if victim.coding.sim_steps <= MAX_SIM_STEPS:
            found += _swept(victim)
    if twin is not None:
        if not isinstance(victim, QuantisedDQN | RateCodedNetwork):
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
    """The gradient of another agent, which knows nothing of the victim."""
    name = f"transfer:{other.agent.kind} {other.id}"
    return replace(gradient_source(other.agent), name=name, says_the_same=False)


def _require_opinion(victim: Agent) -> None:
    if isinstance(victim, RandomPlay):
        raise Refusal("random play has no gradient: attacks that follow one need a trained agent")


def _own_twin(victim: RateCodedNetwork) -> GradientSource:
    return GradientSource(victim.twin().requires_grad_(False), "ann-twin", "relu, own weights")


def _swept(victim: DSQN | RateCodedNetwork) -> list[GradientSource]:
    """Every family at every width. Resets are detached: through them, gradients of narrow surrogates would explode."""
    found = []
    for family, width in itertools.product(SURROGATES, WIDTHS):
        agent: nn.Module
        # The engine that plays a converted network's games adds in another order than its differentiable simulation.
        says_the_same = isinstance(victim, DSQN)
        if isinstance(victim, RateCodedNetwork):
            agent = SurrogateSimulation(victim, family, width)
        else:
            neuron = victim.spiking.neuron
            slope = slope_of_width(family, width * neuron.threshold_scale)
            other = neuron.with_surrogate(SpikeDerivative(family, slope, detach_reset=True))
            if other is None:
                return []
            agent = DSQN(victim.game, replace(victim.spiking, neuron=other), victim.bias, victim.hidden)
            agent.layers, agent.normalisations = victim.layers, victim.normalisations
            agent.populations.load_state_dict(victim.populations.state_dict())
        found.append(GradientSource(agent, "swept-surrogate", f"{family} width {width:g}", says_the_same))
    return found


class ClippedRates(nn.Module):
    """A DSQN without time: every neuron's rate is a ramp of its mean current, so that it has a derivative.

    Under a constant current an IF neuron that starts at rest fires at every step from theta on; a LIF neuron is silent
    below theta and fires at every step from tau theta on (core/neurons.py). The ramp joins these ends; it is at least
    one theta wide, lest a neuron that keeps nothing have none. What the output layer hears is constant too.

    Args:
        dsqn: whose layers; they are shared, not copied.
        real: whether layers hear, forward, the rates that the simulated neurons before them had; else the ramps'.
    """

    def __init__(self, dsqn: DSQN, real: bool):
        super().__init__()
        self.dsqn = dsqn
        self.real = real
        rate_range = dsqn.spiking.neuron.rate_range()
        assert rate_range is not None
        self.low, self.high = rate_range

    def forward(self, observations: Tensor) -> Tensor:
        spiking = self.dsqn.spiking
        *hidden, output = self.dsqn.layers
        rates: Sequence[Tensor | None] = [None] * len(self.dsqn.layers)
        if self.real:
            traces = self.dsqn.trace(observations.detach())
            rates = [None if trace.fired is None else trace.fired / spiking.sim_steps for trace in traces]
        x = observations
        for layer, rate in zip(hidden, rates, strict=False):
            x = ramp(apply_layer(layer, x), self.low, self.high, rate)
        currents = apply_layer(output, x)  # [B, A]
        constant = _ConstantOutput(
            currents, spiking.sim_steps, lambda z: ramp(z, self.low, self.high, rates[-1])
        )
        return spiking.readout.scores(x, constant)


class _ConstantOutput:
    """An output layer whose current is the same at every simulation step (core.readouts.Output)."""

    def __init__(self, current: Tensor, sim_steps: int, rate: Callable[[Tensor], Tensor]):
        self._current, self._sim_steps, self._rate = current, sim_steps, rate

    def currents(self, train: Tensor) -> Tensor:
        return self._current.expand(self._sim_steps, *self._current.shape)

    def mean_current(self, train: Tensor) -> Tensor:
        return self._current

    def spikes(self, currents: Tensor) -> Tensor:
        return self._rate(self._current)[None]


# The best of them -------------------------------------------------------------------------------------


class Strength(NamedTuple):
    """How far one gradient source leads."""

    source: GradientSource
    flip_shares: tuple[float, ...]
    """For each epsilon, the share of states in which FGSM along it changes the victim's greedy action."""
    zero_gradient_share: float
    """Of states in which it is zero everywhere."""


def strengths(
    victim: Agent, states: np.ndarray, epsilons: Sequence[float], candidates: Sequence[GradientSource]
) -> list[Strength]:
    """FGSM (Goodfellow et al. 2015) along each candidate, against one victim on the same states.

    Args:
        victim: whose greedy actions are to change.
        states: [S, *observation] as the environments gave them.
        epsilons: l_inf radii above 0, in the game's scale.
        candidates: in whose order the result is.
    """
    if len(states) == 0 or not epsilons or not all(0.0 < epsilon < math.inf for epsilon in epsilons):
        raise Refusal(
            f"{len(states)} states at epsilons {[*epsilons]}: at least one state and finite epsilons above 0 are needed"
        )
    low, high = bounds(victim.game, victim.device)
    unit = scale(victim.game, victim.device)
    flips = np.zeros((len(candidates), len(epsilons)), dtype=np.int64)
    vanished = np.zeros(len(candidates), dtype=np.int64)
    for inputs in batches(victim, states):
        with torch.no_grad():
            actions = victim(inputs).argmax(1)
        for index, candidate in enumerate(candidates):
            gradient = input_gradient(candidate.agent, inputs, Goal("cross-entropy", actions))
            if not bool(torch.isfinite(gradient).all()):
                raise Refusal(
                    f"the gradient {candidate.name} ({candidate.surrogate}) is not finite: a wider surrogate is needed"
                )
            vanished[index] += int((gradient == 0).flatten(1).all(1).sum())
            for column, epsilon in enumerate(epsilons):
                with torch.no_grad():
                    moved = victim((inputs + epsilon * unit * gradient.sign()).clamp(low, high)).argmax(1)
                flips[index, column] += int((moved != actions).sum())
    return [
        Strength(candidate, tuple((of_candidate / len(states)).tolist()), float(zero / len(states)))
        for candidate, of_candidate, zero in zip(candidates, flips, vanished, strict=True)
    ]


def best_sources(
    victim: Agent, states: np.ndarray, epsilons: Sequence[float], twin: Agent | None = None
) -> dict[float, GradientSource]:
    """For each epsilon the white-box gradient along which FGSM of this size changes most greedy actions.

    Arguments are those of `strengths` and `sources`. The first of equals is taken. The states that it is chosen on are
    not those that a success may be reported on: the best of forty is flattered there.
    """
    candidates = sources(victim, twin)
    if len(candidates) == 1:
        return dict.fromkeys(epsilons, candidates[0])
    found = strengths(victim, states, epsilons, candidates)
    return {
        epsilon: max(found, key=lambda strength: strength.flip_shares[column]).source
        for column, epsilon in enumerate(epsilons)
    }
