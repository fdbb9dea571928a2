"""Responses of single neurons: firing rates, surrogate gradients, and voltages of an integrator behind a neuron.

These are the curves of Liu et al. 2022, Figs 3 to 5 (arXiv 2201.07211), and Chen et al. 2022, Fig 4 (arXiv 2201.09754).
"""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from core.choices import Surrogate
from core.dsqn import Spiking
from core.networks import NETWORKS
from core.neurons.base import NEURONS
from core.neurons.integrate_and_fire import IF
from core.neurons.integrator import leaky_integral
from core.neurons.membrane import MembraneNeuron, run
from core.options import to_config
from core.readouts import READOUTS, Voltage
from core.records import to_json
from core.rows import ResponseRow

_CURRENTS = (torch.arange(-32, 160, dtype=torch.float64) + 0.5) / 64
"""Constant inputs between -0.5 and 2.5.

Spike counts of 64 simulation steps change at multiples of 1/64. The inputs lie between these, so rounding never decides
whether a neuron fires.
"""
_DISTANCES = torch.arange(-64, 65, dtype=torch.float64) / 32
"""Membrane minus threshold, from -2 to 2."""
_SLOPES: dict[Surrogate, tuple[float, ...]] = {"atan": (1.0, 2.0, 4.0), "sigmoid": (2.0, 4.0, 8.0)}
"""The middle ones are those of Liu et al. 2022's code. Each pair is equally steep at the threshold."""
_FEWER_SIM_STEPS = (4, 16)
"""Numbers of simulation steps, besides the 64 of Liu et al."""
_THRESHOLDS = (0.2, 0.5, 1.0)
"""Liu et al. 2022, Fig 5."""


def neuron_responses() -> list[ResponseRow]:
    """All curves, by the reference in core/neurons/membrane.py, in double precision.

    Parameters are those of the papers, as in the networks liu2022 and chen2022.
    """
    liu, lif = _spiking("liu2022")
    chen, chen_lif = _spiking("chen2022")
    rows: list[ResponseRow] = []
    for surrogate, slopes in _SLOPES.items():
        for slope in slopes:
            neuron = replace(lif, surrogate=surrogate, surrogate_slope=slope)
            rows += _rows(neuron, "surrogate", 0, _DISTANCES, surrogate_derivatives(neuron, _DISTANCES))
    # An IF neuron with threshold 1 and soft reset, which conversion uses in place of a ReLU.
    soft_if = IF(reset="soft")
    rows += _rows(None, "relu", 0, _CURRENTS, _CURRENTS.relu())
    for sim_steps in _FEWER_SIM_STEPS:
        rows += _rows(soft_if, "rate", sim_steps, _CURRENTS, firing_rates(soft_if, sim_steps, _CURRENTS))
    neurons: tuple[MembraneNeuron, ...] = (
        replace(soft_if, reset="hard"),
        soft_if,
        replace(lif, reset="hard"),
        replace(lif, reset="soft"),
    )
    for each, threshold in itertools.product(neurons, _THRESHOLDS):
        neuron = replace(each, threshold=threshold)
        rates = firing_rates(neuron, liu.sim_steps, _CURRENTS)
        rows += _rows(neuron, "rate", liu.sim_steps, _CURRENTS, rates)
    for name in ("last-mem", "max-mem", "mean-mem"):
        readout = READOUTS[name]()
        assert isinstance(readout, Voltage)
        voltages = voltage_statistics(chen_lif, readout, chen.sim_steps, _CURRENTS)
        rows += _rows(chen_lif, name, chen.sim_steps, _CURRENTS, voltages)
    return rows


def surrogate_derivatives(neuron: MembraneNeuron, distances: Tensor) -> Tensor:
    """The surrogate derivative [N] of a neuron, at membranes with given distances [N] from its threshold."""
    membranes = (neuron.threshold + distances).requires_grad_()
    (derivatives,) = torch.autograd.grad(neuron.fire(membranes).sum(), membranes)
    return derivatives


def firing_rates(neuron: MembraneNeuron, sim_steps: int, currents: Tensor) -> Tensor:
    """Spikes per simulation step [N] of a neuron driven from rest by constant currents [N]."""
    return run([currents] * sim_steps, neuron).mean(0)


def voltage_statistics(neuron: MembraneNeuron, readout: Voltage, sim_steps: int, currents: Tensor) -> Tensor:
    """A statistic [N] of the voltage of a leaky integrator behind one neuron (weight 1).

    Args:
        neuron: driven from rest.
        readout: time constant of the integrator, and the statistic.
        sim_steps: simulation steps.
        currents: [N] constant currents into the neuron.
    """
    return readout.read(leaky_integral(run([currents] * sim_steps, neuron), readout.tau))


def parameters(neuron: MembraneNeuron | None) -> str:
    """A neuron as written in rows: JSON of its parameters; empty for None."""
    if neuron is None:
        return ""
    return to_json(to_config(NEURONS, neuron))


def _spiking(network: str) -> tuple[Spiking, MembraneNeuron]:
    """How a network spikes, and its neuron."""
    spiking = NETWORKS[network].spiking
    assert spiking is not None
    assert isinstance(spiking.neuron, MembraneNeuron)
    return spiking, spiking.neuron


def _rows(
    neuron: MembraneNeuron | None, quantity: str, sim_steps: int, inputs: Tensor, responses: Tensor
) -> list[ResponseRow]:
    """One row for each point of a curve."""
    return [
        ResponseRow(parameters(neuron), quantity, sim_steps, given, response)
        for given, response in zip(inputs.tolist(), responses.tolist(), strict=True)
    ]
