"""Read-outs: how Q-values are computed from the last hidden layer's spikes.

To add one, register a frozen dataclass that derives from `Readout`, in one file. It gets the spike train of the last
hidden layer and the output layer, and returns one score per action.
"""

import abc
import functools
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import torch
from torch import Tensor

from core.neurons.integrator import leaky_integral, leaky_kernel
from core.ranges import Real, require_ranges
from core.registry import Registry


class Output(Protocol):
    """The output layer, as a read-out uses it."""

    def currents(self, train: Tensor) -> Tensor:
        """Currents [T, B, A] for spikes [T, B, ...]."""
        ...

    def mean_current(self, train: Tensor) -> Tensor:
        """Mean current [B, A] over simulation steps. The layer is linear, so it is applied once, to the mean spikes."""
        ...

    def spikes(self, currents: Tensor) -> Tensor:
        """Spikes [T, B, A] of neurons behind the output layer, for read-outs with `output_spikes` only."""
        ...


class Readout(abc.ABC):
    """Options of one read-out. Subclasses are frozen dataclasses with a default for every field.

    Numbers declare what they accept (`core.ranges`), and others are refused.
    """

    output_spikes: ClassVar[bool] = False
    """Whether the output layer has spiking neurons."""
    output_has_membrane: ClassVar[bool] = True
    """Whether the output layer has a membrane or integrator, whose steps count as neuron updates."""
    q_values: ClassVar[str] = ""
    """How Q-values follow from the output of a NIR graph, in words; empty if they do not."""

    def __post_init__(self) -> None:
        require_ranges(self, "the read-out")

    @abc.abstractmethod
    def scores(self, train: Tensor, output: Output) -> Tensor:
        """Q-values [B, A].

        Args:
            train: [T, B, ...] spikes of the last hidden layer.
            output: the output layer.
        """

    def weights(self, sim_steps: int) -> Tensor | None:
        """[T] float32: weight of each simulation step's current, if the score is a weighted sum of currents.

        Then integrator and output layer can change places, so that no spike train is stored. None for other read-outs.
        """
        return None

    @property
    def integrator_tau(self) -> float | None:
        """Time constant of the leaky integrator behind the output layer, in simulation steps; None without one."""
        return None


READOUTS: Registry[type[Readout]] = Registry("read-out")
"""All read-outs of directly trained networks, by name."""


@READOUTS.register("rate")
@dataclass(frozen=True, kw_only=True)
class Rate(Readout):
    """The output layer applied to the mean of the last hidden spikes (Liu et al. 2022; Chen's fr-mlp)."""

    output_has_membrane: ClassVar[bool] = False
    q_values: ClassVar[str] = "mean output over sim_steps"

    def scores(self, train: Tensor, output: Output) -> Tensor:
        return output.mean_current(train)


@READOUTS.register("spike-rate")
@dataclass(frozen=True, kw_only=True)
class SpikeRate(Readout):
    """The output layer spikes too, and Q is its rate, from 0 to 1 (DsqnSpike of Liu et al. 2022's code)."""

    output_spikes: ClassVar[bool] = True
    q_values: ClassVar[str] = "output spikes / sim_steps"

    def scores(self, train: Tensor, output: Output) -> Tensor:
        return output.spikes(output.currents(train)).mean(0)


@dataclass(frozen=True, kw_only=True)
class Voltage(Readout):
    """A statistic over simulation steps of a leaky integrator's voltage (Chen et al. 2022, section 3)."""

    tau: Annotated[float, Real(1)] = 2.0
    """Time constant of the integrator in simulation steps, at least 1."""

    @property
    def integrator_tau(self) -> float:
        return self.tau

    def scores(self, train: Tensor, output: Output) -> Tensor:
        return self.read(leaky_integral(output.currents(train), self.tau))

    @abc.abstractmethod
    def read(self, voltages: Tensor) -> Tensor:
        """The statistic [...] of voltages [T, ...]."""


@READOUTS.register("last-mem")
@dataclass(frozen=True, kw_only=True)
class LastVoltage(Voltage):
    """The integrator's last voltage (Chen et al. 2022)."""

    q_values: ClassVar[str] = "output of the last step"

    def read(self, voltages: Tensor) -> Tensor:
        return voltages[-1]

    def weights(self, sim_steps: int) -> Tensor:
        return _last_weights(sim_steps, self.tau)


@READOUTS.register("max-mem")
@dataclass(frozen=True, kw_only=True)
class LargestVoltage(Voltage):
    """The integrator's largest voltage, which Chen et al. 2022 choose."""

    q_values: ClassVar[str] = "largest output of all steps"

    def read(self, voltages: Tensor) -> Tensor:
        return voltages.max(0).values


@READOUTS.register("mean-mem")
@dataclass(frozen=True, kw_only=True)
class MeanVoltage(Voltage):
    """The integrator's mean voltage (Chen et al. 2022)."""

    q_values: ClassVar[str] = "mean output over sim_steps"

    def read(self, voltages: Tensor) -> Tensor:
        return voltages.mean(0)

    def weights(self, sim_steps: int) -> Tensor:
        return _mean_weights(sim_steps, self.tau)


@READOUTS.register("max-abs-mem")
@dataclass(frozen=True, kw_only=True)
class LargestMagnitude(Voltage):
    """The integrator's voltage of the largest magnitude, with its sign (Chen et al. 2022's code)."""

    q_values: ClassVar[str] = "of all steps, the output of the largest magnitude, with its sign"

    def read(self, voltages: Tensor) -> Tensor:
        index = voltages.abs().max(0, keepdim=True).indices
        return voltages.gather(0, index).squeeze(0)


@functools.lru_cache(maxsize=64)
def _last_weights(sim_steps: int, tau: float) -> Tensor:
    return leaky_kernel(sim_steps, tau, torch.float32, torch.device("cpu"))[-1].contiguous()


@functools.lru_cache(maxsize=64)
def _mean_weights(sim_steps: int, tau: float) -> Tensor:
    return leaky_kernel(sim_steps, tau, torch.float32, torch.device("cpu")).mean(0)
