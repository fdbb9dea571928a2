"""A neuron and a conversion method in one file. `--extension adaptive_extension` makes both known to every command."""

from dataclasses import dataclass

import torch

from spikeq import (
    METHODS,
    NEURONS,
    Converted,
    Method,
    Neuron,
    SteppedPopulation,
    percentiles,
    scaled_network,
    spike,
)


class AdaptivePopulation(SteppedPopulation):
    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def start(self, current):
        return torch.zeros_like(current), torch.zeros_like(current)

    def step(self, current, state):
        v, rise = state
        v = v + (current - v) / 2.0
        spikes = spike(v - 1.0 - rise, "atan", 2.0)
        return spikes, ((1.0 - spikes) * v, rise + (self.neuron.height * spikes - rise) / 8.0)


@NEURONS.register("adaptive")
@dataclass(frozen=True, kw_only=True)
class Adaptive(Neuron):
    """A leaky neuron whose threshold rises with every spike and falls again."""

    height: float = 0.5
    """What the threshold's rise moves towards at a spike."""

    def population(self, shape):
        return AdaptivePopulation(self)


@METHODS.register("widened")
@dataclass(frozen=True, kw_only=True)
class Widened(Method):
    """Scales are the 99th percentile of each layer's outputs, times a gain."""

    gain: float = 1.2
    """What the percentile is multiplied by."""

    def convert(self, dqn, states, coding, training):
        scales = [torch.tensor([self.gain * max(value, 1e-3)]) for value in percentiles(dqn, states, 99.0)]
        return Converted(scaled_network(dqn, scales, coding), scales)
