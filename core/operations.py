"""What each layer of an agent does in a decision: multiplications, additions, spikes, membranes stepped.

Counted are synapses really wired, from what each layer really hears (`core.agents.LayerTrace`); names are
NeuroBench's (Yik et al. 2023, arXiv 2304.04640). Three conventions are worth knowing:

- The image is a constant current, so the first layer is computed once a decision, spikes behind it or not. Where it
  holds only 0 and 1, as on MinAtar, that layer adds and never multiplies (`binary_input`).
- A layer that hears spikes adds, for each spike, one weight to each neuron that it reaches; a negative spike adds too.
  So does the output layer of a DSQN with the rate read-out: it is applied to a mean over simulation steps, which is
  linear, so it adds a column of weights for each spike and divides A sums at the end. (Applied once to the mean, as the
  software does, it would multiply once for each neuron that spiked at all.)
- Biases, the neurons' own arithmetic and a voltage read-out's integration are no synaptic operations; what they are
  proportional to is counted as `neuron_updates`. With `layer_delay`, spikes of the last simulation step count, though
  they arrive after the decision. Every state is met as an episode's first: nothing is carried into it.

What an operation costs is another matter: `analysis/energy.py`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.agents import Agent, LayerTrace
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.layers import Layer, padded
from core.quantised import QuantisedDQN
from core.rate_coded.network import RateCodedNetwork


class LayerOperations(NamedTuple):
    """What one layer does in each decision of a batch; `core.rows.OperationsRow` says what is what."""

    num_neurons: int
    binary_input: bool
    """In all decisions of the batch."""
    dense_macs: int
    effective_macs: Tensor
    """[B] float64, as all below."""
    acs: Tensor
    neuron_updates: Tensor
    spikes: Tensor


def fan_out(layer: Layer, input_shape: Sequence[int]) -> Tensor:
    """How many neurons of a layer each of its inputs reaches, [*input_shape].

    Inputs at the border of a convolution lie under fewer kernels than others, those that a stride passes over under
    none. Their sum is the number of synapses that a dense pass multiplies; zeros around the input are no inputs.
    """
    with torch.enable_grad():  # what one more in an input adds to the sum of outputs, if every weight is 1
        x = layer.weight.new_zeros(1, *input_shape).requires_grad_()
        ones = torch.ones_like(layer.weight)
        if isinstance(layer, nn.Conv2d):
            outputs = F.conv2d(padded(layer, x), ones, stride=layer.stride)
        else:
            outputs = F.linear(x.flatten(1), ones)
        (reached,) = torch.autograd.grad(outputs.sum(), x)
    return reached[0]


Layered = DQN | QuantisedDQN | DSQN | RateCodedNetwork
"""Agents that have layers: all but random play."""


def count_operations(agent: Agent, inputs: Tensor) -> list[LayerOperations]:
    """Of each layer, first to last, what it does in a batch of decisions.

    Args:
        agent: one that has layers.
        inputs: [B, *observation] float32, as the network sees them.

    Raises:
        Refusal: the agent has no layers.
    """
    if not isinstance(agent, Layered):
        raise Refusal(
            f"agent {agent.kind!r} has no layers to count: accepted are dqn, quantised, rate-coded, dsqn"
        )
    neurons = [math.prod(shape) for shape in agent.layer_shapes]
    return [
        _operations(layer, num_neurons, trace)
        for layer, num_neurons, trace in zip(agent.layers, neurons, agent.trace(inputs), strict=True)
    ]


def _operations(layer: Layer, num_neurons: int, trace: LayerTrace) -> LayerOperations:
    heard = trace.heard  # [B, *input]
    reached = fan_out(layer, heard.shape[1:]).double()  # [*input]
    arrivals = heard.double() if trace.hears_spikes else (heard != 0).double()
    operations = (arrivals * reached).flatten(1).sum(1)
    none = torch.zeros_like(operations)
    return LayerOperations(
        num_neurons=num_neurons,
        binary_input=trace.hears_spikes or bool(((heard == 0) | (heard == 1)).all()),
        dense_macs=round(reached.sum().item()),
        effective_macs=none if trace.hears_spikes else operations,
        acs=operations if trace.hears_spikes else none,
        neuron_updates=num_neurons * trace.neuron_sim_steps.double(),
        spikes=none if trace.fired is None else trace.fired.double().flatten(1).sum(1),
    )
