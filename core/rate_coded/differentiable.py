"""A converted network with gradients with respect to what it sees, for attacks that follow them.

A spike has no derivative, so one is put in its place: either a surrogate's at every simulation step, through which
gradients go back in time, or, where there are too many steps for that, the slope of the clipped ReLU that a neuron's
rate approaches. What is computed forward is the converted network itself.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import Refusal
from core.layers import apply_layer, apply_to_image
from core.neurons.surrogates import DERIVATIVES, SURROGATES, SpikeDerivative, Surrogate, slope_of_width
from core.rate_coded import fused
from core.rate_coded.network import RateCodedNetwork
from core.rate_coded.torch_engine import BLOCK_ROWS, IFNeuron, IFPopulation

MAX_SIM_STEPS = 16
"""Up to so many simulation steps gradients go through each of them; the memory they need grows with every one."""


class Fire(torch.autograd.Function):
    """Neurons [B, ...] through T simulation steps: from currents [T, B, ...], their spikes [T, B, ...] and their last
    membranes [B, ...].

    With h the membrane as it decides, d the leak and g' the surrogate's derivative, backward in time

        d s / d h = g'(h - 1), and where neurons are signed and may take a spike back, + g'(h)
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
    """Spikes [T, B, ...], those taken back as -1, and last membranes [B, ...] of a layer's neurons.

    On the CPU by the compiled pass, elsewhere by the reference: the spikes are the same.

    Args:
        currents: [T, B, ...], or [1, B, ...] if they are the same at every simulation step.
        sim_steps: T.
        silent: [B, ...] bool, neurons that may not fire, if any.
        neuron: what every neuron is.
        derivative: what stands for that of a spike.
    """
    if currents.device.type == "cpu" and currents.dtype == torch.float32:
        return fused.run(currents, sim_steps, silent, neuron, derivative)
    at_every_step = currents.expand(sim_steps, *currents.shape[1:])
    spikes, membranes = Fire.apply(at_every_step, silent, neuron, derivative)
    return spikes, membranes


class SurrogateSimulation(nn.Module):
    """A converted network whose scores [B, A] can be differentiated, by a surrogate and through all simulation steps.

    Spikes are those of the reference engine, one for one, and so are scores. What an episode's earlier decisions
    left in the membranes is not looked at: every decision is taken as its episode's first.

    Args:
        network: whose weights and coding; they are shared, not copied.
        surrogate: family.
        width: at which distance from the threshold the surrogate has fallen to half its height, in thresholds.
        detach_reset: whether gradients leave out the path through the reset. They cannot grow from step to step then,
            however narrow the surrogate is. An output layer whose whole charge is read keeps that path: with it,
            the charge's gradient is exact.

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
        """Spikes [T, B, ...] of every layer, those taken back as -1, and the output's last membranes [B, A]."""
        network, coding = self.network, self.network.coding
        silent: Sequence[Tensor | None] = [None] * len(network.layers)
        if coding.presteps:
            silent = network.silenced(observations)[1]
        derivatives = [self.derivative] * len(network.layers)
        if coding.readout != "spikes":  # all charge is read
            derivatives[-1] = self.derivative._replace(detach_reset=False)
        trains: list[Tensor] = []
        membranes = observations
        for index, layer in enumerate(network.layers):
            if index == 0:
                currents = apply_to_image(layer, observations, coding.image_bits)[None]
                if coding.layer_delay:  # before the image arrives, the bias alone
                    bias = apply_layer(layer, torch.zeros_like(observations))
                    currents = torch.cat([bias[None], currents.expand(sim_steps - 1, *bias.shape)])
            else:
                heard = trains[-1]
                if coding.layer_delay:
                    heard = torch.cat([torch.zeros_like(heard[:1]), heard[:-1]])
                # In the engine's blocks, so that sums are rounded as there.
                parts = [
                    apply_layer(layer, part.flatten(0, 1)).unflatten(0, part.shape[:2])
                    for part in heard.split(max(1, BLOCK_ROWS // len(observations)))
                ]
                if coding.neuron.firing == "afterwards":  # all of it arrives before the first spike
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
    """clip((z - low) / (high - low), 0, 1); with `rates`, these forward and the ramp's derivative backward."""
    relaxed = ((currents - low) / (high - low)).clamp(0.0, 1.0)
    return relaxed if rates is None else relaxed + (rates - relaxed).detach()


class RateGradient(nn.Module):
    """A converted network whose scores [B, A] can be differentiated, its neurons' rates being taken for clipped ReLUs.

    Forward, each layer hears the rates that the simulated one before it had (spike counts a step); backward, where a
    neuron's mean current z lies in [0, 1], its rate's derivative is that of clip(z, 0, 1), else 0. Memory does not
    grow with simulation steps.

    Args:
        network: whose weights and coding; they are shared, not copied.
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
    """Scores [B, A] of each row after the simulation steps that its decision takes: fewer where a gap stops it."""
    coding = network.coding
    if coding.stop_gap is None:
        return scores(observations, coding.sim_steps)
    with torch.no_grad():
        activity = network.decide(observations).activity
    assert activity is not None
    taken = activity.sim_steps - (network.latency_sim_steps - coding.sim_steps)
    rows, parts = [], []
    for sim_steps in sorted({int(each) for each in taken.tolist()}):
        rows.append((taken == sim_steps).nonzero()[:, 0])
        parts.append(scores(observations[rows[-1]], sim_steps))
    return torch.cat(parts)[torch.cat(rows).argsort()]
