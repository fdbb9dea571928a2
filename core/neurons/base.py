"""Spiking neurons: their options, their populations, and facts for attacks and export.

To add a neuron, register a frozen dataclass of options that derives from `Neuron`, in one file. Its `population` may be
any module from currents to spikes. `SteppedPopulation` is a base class for neurons that are written step by step, with
any number of state variables and trainable parameters.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from core.errors import Refusal
from core.neurons.surrogates import SpikeDerivative
from core.ranges import require_ranges
from core.registry import Registry


@dataclass(frozen=True)
class NirNode:
    """A population as a node of a NIR graph (Pedersen et al. 2024, arXiv 2311.14641)."""

    type_name: str
    """Name of the node's class in the package nir, as in "LIF"."""
    parameters: Mapping[str, float]
    """Value of each parameter, the same for all neurons."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Further values that an executor needs and the node has no parameters for."""


class Population(nn.Module, abc.ABC):
    """The neurons behind one layer: a module from currents to spikes, without state between calls."""

    @abc.abstractmethod
    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        """Spikes [T, B, *shape], 0 or 1, in the dtype of the currents, and differentiable.

        Args:
            currents: [T, B, *shape], or [1, B, *shape] for a current that is the same at every simulation step.
            sim_steps: T.
        """

    def weighted_spikes(self, currents: Tensor, sim_steps: int, weights: Tensor) -> Tensor | None:
        """Weighted sum [B, *shape] of the spikes over simulation steps, faster than from the spike train.

        Args:
            currents: as for `forward`.
            sim_steps: T.
            weights: [T] float32.

        Returns:
            The sum, or None if there is no faster way.
        """
        return None


class SteppedPopulation(Population):
    """A population that is written one simulation step at a time."""

    @abc.abstractmethod
    def start(self, current: Tensor) -> tuple[Tensor, ...]:
        """The state variables before the first step, for a first current [B, *shape]."""

    @abc.abstractmethod
    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One simulation step: spikes [B, *shape] and the new state, from a current [B, *shape] and the old state."""

    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        # State is at least float32, even behind layers in bfloat16.
        precise = currents.to(torch.promote_types(currents.dtype, torch.float32))
        state = self.start(precise[0])
        train = []
        for current in precise.expand(sim_steps, *currents.shape[1:]):
            spikes, state = self.step(current, state)
            train.append(spikes)
        return torch.stack(train).to(currents.dtype)


class Neuron(abc.ABC):
    """Options of one kind of neuron. Subclasses are frozen dataclasses with a default for every field.

    Numbers declare what they accept (`core.ranges`), and others are refused.
    """

    def __post_init__(self) -> None:
        require_ranges(self)

    @abc.abstractmethod
    def population(self, shape: tuple[int, ...]) -> Population:
        """Neurons of this kind for a layer with an output shape."""

    def with_surrogate(self, derivative: SpikeDerivative) -> Self | None:
        """The same neuron with another surrogate gradient, for sweeps of attacks; None if the surrogate is fixed."""
        return None

    @property
    def surrogate_label(self) -> str:
        """Its own surrogate in words, for rows of attacks; empty if it has no name."""
        return ""

    @property
    def threshold_scale(self) -> float:
        """The threshold. Widths of swept surrogates are multiples of it."""
        return 1.0

    def rate_range(self) -> tuple[float, float] | None:
        """Two constant currents: the one above which it fires, and the one above which it fires at every step.

        Attacks take its rate for a ramp between them. None if a ramp does not describe this neuron. Then it has no
        gradient source of rates.
        """
        return None

    def nir_node(self) -> NirNode:
        """The population as a node of a NIR graph.

        Raises:
            Refusal: NIR has no node for this neuron.
        """
        raise Refusal(f"NIR has no node for the neuron {NEURONS.name_of(type(self))!r}")


NEURONS: Registry[type[Neuron]] = Registry("neuron", package="core.neurons")
"""All spiking neurons of directly trained networks, by name."""
