"""A neuron with two state variables, in one file: an adaptive threshold."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from core.choices import Surrogate
from core.neurons.base import NEURONS, Neuron, SteppedPopulation
from core.neurons.surrogates import SpikeDerivative, spike
from core.ranges import Real


@NEURONS.register("adaptive")
@dataclass(frozen=True, kw_only=True)
class Adaptive(Neuron):
    """Leaky integrate and fire whose threshold rises with every spike and decays back (Bellec et al. 2018, arXiv
    1803.09574).

    v[t] = a v[t-1] + x[t] - theta[t] s[t], b[t] = r b[t-1] + (1 - r) s[t-1], theta[t] = theta + beta b[t].
    """

    threshold: Annotated[float, Real(0, above=True)] = 1.0
    """Threshold without adaptation."""
    keep: Annotated[float, Real(0, 1)] = 0.5
    """Share a of the membrane that is kept from step to step."""
    decay: Annotated[float, Real(0, 1)] = 0.9
    """Share r of the adaptation that is kept from step to step."""
    beta: Annotated[float, Real(0)] = 1.8
    """Rise of the threshold for a full adaptation."""
    surrogate: Surrogate = "triangle"
    """Surrogate gradient."""
    surrogate_slope: Annotated[float, Real(0, above=True)] = 1.0
    """Slope of the surrogate."""

    def population(self, shape: tuple[int, ...]) -> "AdaptivePopulation":
        return AdaptivePopulation(self)

    def with_surrogate(self, derivative: SpikeDerivative) -> "Adaptive":
        options = {**vars(self), "surrogate": derivative.surrogate, "surrogate_slope": derivative.slope}
        return Adaptive(**options)

    @property
    def surrogate_label(self) -> str:
        return f"{self.surrogate} slope {self.surrogate_slope:g}"


class AdaptivePopulation(SteppedPopulation):
    """A population of adaptive neurons; its state is membrane and adaptation."""

    def __init__(self, neuron: Adaptive):
        super().__init__()
        self.neuron = neuron

    def start(self, current: Tensor) -> tuple[Tensor, ...]:
        zero = current.new_zeros(current.shape)
        return zero, zero

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        membrane, adaptation = state
        threshold = self.neuron.threshold + self.neuron.beta * adaptation
        charged = self.neuron.keep * membrane + current
        spikes = spike(charged - threshold, self.neuron.surrogate, self.neuron.surrogate_slope)
        rested = charged - threshold * spikes
        adapted = self.neuron.decay * adaptation + (1 - self.neuron.decay) * spikes
        return spikes, (rested, adapted)
