r"""Neurons with one membrane: charge, fire, reset.

One simulation step of a neuron with membrane v, input x and threshold theta; membranes start at rest, v = 0:

    charge   h[t] from v[t-1] and x[t]; LIF and IF differ in this
    fire     s[t] = 1 if h[t] >= theta else 0
    reset    hard  v[t] = (1 - s[t]) h[t]
             soft  v[t] = h[t] - theta s[t]
"""

import abc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from torch import Tensor

from core.choices import SURROGATES, Surrogate
from core.errors import Refusal
from core.neurons import compiled
from core.neurons.base import Neuron, NirNode, Population
from core.neurons.surrogates import SpikeDerivative, spike
from core.ranges import Real


@dataclass(frozen=True, kw_only=True)
class MembraneNeuron(Neuron):
    """Options that neurons with one membrane share."""

    threshold: Annotated[float, Real(0, above=True)] = 1.0
    """Membrane from which on the neuron fires."""
    reset: Literal["hard", "soft"] = "hard"
    """Membrane after a spike. hard: back to rest. soft: the threshold is subtracted."""
    detach_reset: bool = False
    """Whether gradients leave out the path through the reset."""
    surrogate: Surrogate = "atan"
    """Surrogate gradient: atan, sigmoid, triangle or rectangle."""
    surrogate_slope: Annotated[float, Real(0, above=True)] = 2.0
    """Slope of the surrogate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, accepted in (
            ("reset", self.reset, ("hard", "soft")),
            ("surrogate", self.surrogate, SURROGATES),
        ):
            if value not in accepted:
                raise Refusal(f"{name} is {value!r}: accepted are {', '.join(accepted)}")

    @property
    @abc.abstractmethod
    def leak_tau(self) -> float | None:
        """Time constant of the leak in simulation steps; None without one."""

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Membrane after input and before firing, of any common shape."""
        return v + x if self.leak_tau is None else v + (x - v) / self.leak_tau

    def fire(self, h: Tensor) -> Tensor:
        """Spikes, 0 or 1 in h's dtype; the gradient is the surrogate's."""
        return spike(h - self.threshold, self.surrogate, self.surrogate_slope)

    def after(self, h: Tensor, spikes: Tensor) -> Tensor:
        """Membrane after the reset."""
        if self.detach_reset:
            spikes = spikes.detach()
        return (1.0 - spikes) * h if self.reset == "hard" else h - self.threshold * spikes

    @property
    def has_these_equations(self) -> bool:
        """Whether charge, fire, reset and population are those of this class.

        The compiled pass computes only these equations. The rate range and the NIR node hold only for them. A subclass
        with other equations takes the reference path.
        """
        return all(
            getattr(type(self), name) is getattr(MembraneNeuron, name)
            for name in ("charge", "fire", "after", "population")
        )

    def population(self, shape: tuple[int, ...]) -> Population:
        return MembranePopulation(self)

    def with_surrogate(self, derivative: SpikeDerivative) -> Self:
        return replace(
            self,
            surrogate=derivative.surrogate,
            surrogate_slope=derivative.slope,
            detach_reset=derivative.detach_reset,
        )

    @property
    def surrogate_label(self) -> str:
        return f"{self.surrogate} slope {self.surrogate_slope:g}"

    @property
    def threshold_scale(self) -> float:
        return self.threshold

    def rate_range(self) -> tuple[float, float] | None:
        if not self.has_these_equations:
            return None
        # An IF neuron that starts at rest fires at every step for currents of theta and more. A LIF neuron is silent
        # below theta and fires at every step from tau theta on. The range is at least one theta wide: with tau = 1 the
        # ramp would otherwise have no slope.
        high = self.threshold * (self.leak_tau or 1.0)
        return min(self.threshold, high - self.threshold), high

    def nir_node(self) -> NirNode:
        if not self.has_these_equations:
            return super().nir_node()
        # h = v + (x - v) / tau divides the input by tau too: R = 1.
        metadata = {"reset": self.reset, "v_init": 0.0}
        same = {"r": 1.0, "v_threshold": self.threshold, "v_reset": 0.0}
        if self.leak_tau is None:
            return NirNode("IF", same, metadata)
        return NirNode("LIF", {**same, "tau": self.leak_tau, "v_leak": 0.0}, metadata)


class MembranePopulation(Population):
    """A population of neurons with one membrane each.

    On the CPU, all simulation steps are one compiled pass (core/neurons/compiled.py). Other devices use the reference.
    The spikes are the same.
    """

    def __init__(self, neuron: MembraneNeuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        if self._is_compiled(currents, torch.float32, torch.bfloat16):
            return compiled.run(currents, sim_steps, self.neuron)
        # Membranes are float32, even behind layers in bfloat16.
        precise = currents.to(torch.promote_types(currents.dtype, torch.float32))
        return run(precise.expand(sim_steps, *currents.shape[1:]), self.neuron).to(currents.dtype)

    def weighted_spikes(self, currents: Tensor, sim_steps: int, weights: Tensor) -> Tensor | None:
        if not self._is_compiled(currents, torch.float32):
            return None
        return compiled.run(currents, sim_steps, self.neuron, weights)[0]

    def _is_compiled(self, currents: Tensor, *dtypes: torch.dtype) -> bool:
        return currents.device.type == "cpu" and currents.dtype in dtypes and self.neuron.has_these_equations


def run(currents: Iterable[Tensor], neuron: MembraneNeuron) -> Tensor:
    """The reference simulation of a population from rest, step by step.

    Args:
        currents: one tensor [...] per simulation step, all of the same shape, or a tensor [T, ...].
        neuron: options of the neurons.

    Returns:
        Spikes [T, ...], differentiable by the surrogate gradient.
    """
    spikes = []
    v: Tensor | None = None
    for x in currents:
        h = neuron.charge(torch.zeros_like(x) if v is None else v, x)
        s = neuron.fire(h)
        v = neuron.after(h, s)
        spikes.append(s)
    return torch.stack(spikes)
