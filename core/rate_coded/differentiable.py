"""Gradients of a converted network with respect to its input, for attacks.

A spike has no derivative, so another one replaces it. It is a surrogate's at every simulation step, with gradients
through time. For many simulation steps it is the slope of the clipped ReLU that a neuron's rate approaches. The forward
pass is that of the converted network itself.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from core.choices import SURROGATES, Surrogate
from core.errors import Refusal
from core.layers import apply_layer, apply_to_image
from core.neurons.surrogates import DERIVATIVES, SpikeDerivative, slope_of_width
from core.rate_coded import fused
from core.rate_coded.network import RateCodedNetwork
from core.rate_coded.torch_engine import BLOCK_ROWS, IFNeuron, IFPopulation

MAX_SIM_STEPS = 16
"""Largest number of simulation steps for gradients through time. Their memory grows with each step."""


class Fire(torch.autograd.Function):
    """T simulation steps of neurons: from currents [T, B, ...] to spikes [T, B, ...] and last membranes [B, ...].

    With h the membrane before firing, d the leak and g' the surrogate's derivative, backward in time:

        d s / d h = g'(h - 1), plus g'(h) for signed neurons that may take a spike back
        grad_h[t] = (1 - ds/dh) grad_v[t] + ds/dh grad_s[t]     (detached reset: grad_v[t] + ds/dh grad_s[t])
        grad_x[t] = grad_h[t]        grad_v[t-1] = d grad_h[t]
    """

    @staticmethod
    def forward(
        ctx: Any,
        currents: Tensor,
        silent: Tensor | None,
        neuron: IFNeuron,
        derivative: SpikeDerivative,
    ) -> tuple[Tensor, Tensor]:
        population = IFPopulation.at_rest(currents[0], neuron)
        population.silent = silent
        spikes, slopes = currents.clone(), torch.empty_like(currents)
        surrogate = DERIVATIVES[derivative.surrogate]
        for x, slope in zip(spikes, slopes, strict=True):
            fired_before = population.count > 0.0
            population.step(x)
            h = population.v + x
            slope.copy_(surrogate(h - 1.0, derivative.slope))
            if neuron.firing == "signed":
                slope.add_(surrogate(h, derivative.slope) * fired_before)
            if silent is not None:
                slope.masked_fill_(silent, 0.0)
        ctx.save_for_backward(slopes)
        ctx.leak, ctx.detach_reset = neuron.leak, derivative.detach_reset
        return spikes, population.v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        grad_spikes, grad_v = grads
        grad_currents = torch.empty_like(slopes)
        for t in range(len(slopes) - 1, -1, -1):
            through_spike = grad_spikes[t] if ctx.detach_reset else grad_spikes[t] - grad_v
            torch.addcmul(grad_v, slopes[t], through_spike, out=grad_currents[t])
            grad_v = ctx.leak * grad_currents[t]
        return grad_currents, None, None, None


def spike_train(
    currents: Tensor,
    sim_steps: int,
    silent: Tensor | None,
    neuron: IFNeuron,
    derivative: SpikeDerivative,
) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, ...] of a layer's neurons, negative ones as -1, and last membranes [B, ...].

    The CPU uses the compiled pass, other devices the reference. The spikes are the same.

    Args:
        currents: [T, B, ...], or [1, B, ...] if they are the same at every simulation step.
        sim_steps: T.
        silent: [B, ...] bool, neurons that must not fire; None if all may.
        neuron: options of all neurons.
        derivative: what replaces the derivative of a spike.
    """
    if currents.device.type == "cpu" and currents.dtype == torch.float32:
        return fused.run(currents, sim_steps, silent, neuron, derivative)
    at_every_step = currents.expand(sim_steps, *currents.shape[1:])
    spikes, membranes = Fire.apply(at_every_step, silent, neuron, derivative)
    return spikes, membranes


class SurrogateSimulation(nn.Module):
    """A converted network with differentiable scores [B, A]: a surrogate gradient through all simulation steps.

    Spikes and scores equal those of the reference engine. Every decision is taken as the first of its episode, without
    membranes of earlier decisions.

    Args:
        network: the converted network. Its weights are shared, not copied.
        surrogate: family of surrogate gradients.
        width: distance from the threshold at which the surrogate falls to half its height, in thresholds.
        detach_reset: whether gradients leave out the path through the reset. Then they cannot grow from step to step,
            for surrogates of any width. An output layer whose charge is read keeps the path, because it makes the
            charge's gradient exact.

    Raises:
        Refusal: the network fires for more than 16 simulation steps.
    """

    def __init__(
        self, network: RateCodedNetwork, surrogate: Surrogate, width: float, detach_reset: bool = True
    ):
        super().__init__()
        if surrogate not in SURROGATES:
            raise Refusal(f"surrogate {surrogate!r}: accepted are {', '.join(SURROGATES)}")
        if not 0.0 < width < float("inf"):
            raise Refusal(f"surrogate width is {width}: accepted is any finite number above 0, in thresholds")
        if network.coding.sim_steps > MAX_SIM_STEPS:
            raise Refusal(
                f"sim_steps is {network.coding.sim_steps}: gradients go through up to {MAX_SIM_STEPS} simulation "
                f"steps; RateGradient takes more"
            )
        self.network = network
        self.derivative = SpikeDerivative(surrogate, slope_of_width(surrogate, width), detach_reset)

    def forward(self, observations: Tensor) -> Tensor:
        return _by_sim_steps(self.network, observations, self._scores)

    def trains(self, observations: Tensor, sim_steps: int) -> tuple[list[Tensor], Tensor]:
        """Spikes [T, B, ...] of every layer, negative ones as -1, and last membranes [B, A] of the output layer."""
        network, coding = self.network, self.network.coding
        silent: Sequence[Tensor | None] = [None] * len(network.layers)
        if coding.presteps:
            silent = network.silenced(observations)[1]
        derivatives = [self.derivative] * len(network.layers)
        if coding.readout != "spikes":  # the charge is read
            derivatives[-1] = self.derivative._replace(detach_reset=False)
        trains: list[Tensor] = []
        membranes = observations
        for index, layer in enumerate(network.layers):
            if index == 0:
                currents = apply_to_image(layer, observations, coding.image_bits)[None]
                if coding.layer_delay:  # before the image arrives there is only the bias
                    bias = apply_layer(layer, torch.zeros_like(observations))
                    currents = torch.cat([bias[None], currents.expand(sim_steps - 1, *bias.shape)])
            else:
                heard = trains[-1]
                if coding.layer_delay:
                    heard = torch.cat([torch.zeros_like(heard[:1]), heard[:-1]])
                # In the blocks of the reference engine, so that sums are rounded alike.
                parts = [
                    apply_layer(layer, part.flatten(0, 1)).unflatten(0, part.shape[:2])
                    for part in heard.split(max(1, BLOCK_ROWS // len(observations)))
                ]
                if coding.neuron.firing == "afterwards":  # all input arrives before the first spike
                    listened = reduce(torch.add, [part.sum(0) for part in parts])
                    silence = listened.new_zeros(sim_steps - 1, *listened.shape)
                    currents = torch.cat([listened[None], silence])
                else:
                    currents = torch.cat(parts)
            spikes, membranes = spike_train(
                currents, sim_steps, silent[index], coding.neuron, derivatives[index]
            )
            trains.append(spikes)
        return trains, membranes

    def _scores(self, observations: Tensor, sim_steps: int) -> Tensor:
        trains, membranes = self.trains(observations, sim_steps)
        charge = trains[-1].sum(0)
        if self.network.coding.readout != "spikes":
            charge = charge + membranes - self.network.coding.neuron.v_init
        return self.network.output_scale * charge / sim_steps


def ramp(currents: Tensor, low: float, high: float, rates: Tensor | None = None) -> Tensor:
    """clip((z - low) / (high - low), 0, 1). With `rates`, it returns these and keeps the ramp's derivative."""
    relaxed = ((currents - low) / (high - low)).clamp(0.0, 1.0)
    return relaxed if rates is None else relaxed + (rates - relaxed).detach()


class RateGradient(nn.Module):
    """A converted network with differentiable scores [B, A]: its neurons' rates are taken for clipped ReLUs.

    In the forward pass, a layer's inputs are the simulated rates of the previous layer (spikes per simulation step). In
    the backward pass, the derivative of a neuron's rate is that of clip(z, 0, 1), with z its mean current. Memory does
    not grow with simulation steps.

    Args:
        network: the converted network. Its weights are shared, not copied.
    """

    def __init__(self, network: RateCodedNetwork):
        super().__init__()
        self.network = network

    def forward(self, observations: Tensor) -> Tensor:
        return _by_sim_steps(self.network, observations, self._scores)

    def _scores(self, observations: Tensor, sim_steps: int) -> Tensor:
        network, coding = self.network, self.network.coding
        first, *others, output = network.layers
        rates = [counts / sim_steps for counts in network.layer_counts(observations.detach(), sim_steps)]
        x = ramp(apply_to_image(first, observations, coding.image_bits), 0.0, 1.0, rates[0])
        for layer, rate in zip(others, rates[1:], strict=False):
            x = ramp(apply_layer(layer, x), 0.0, 1.0, rate)
        charge = apply_layer(output, x)
        if coding.readout == "spikes":
            charge = ramp(charge, 0.0, 1.0, rates[-1])
        return network.output_scale * charge


def _by_sim_steps(
    network: RateCodedNetwork, observations: Tensor, scores: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Scores [B, A], each row after the simulation steps that its decision takes, which `stop_gap` may reduce."""
    coding = network.coding
    if coding.stop_gap is None:
        return scores(observations, coding.sim_steps)
    taken = network.sim_steps_taken(observations)
    rows, parts = [], []
    for sim_steps in sorted({int(each) for each in taken.tolist()}):
        rows.append((taken == sim_steps).nonzero()[:, 0])
        parts.append(scores(observations[rows[-1]], sim_steps))
    return torch.cat(parts)[torch.cat(rows).argsort()]
