"""Operations of each layer of an agent in a decision: multiplications, additions, spikes and membrane updates.

They are counted from the layers' actual inputs (`core.agents.LayerTrace`) and actual synapses. The names are those of
NeuroBench (Yik et al. 2023, arXiv 2304.04640). The conventions:

- The image is a constant current, so the first layer is computed once per decision, in spiking networks too. If the
  image holds only 0 and 1, as on MinAtar, the layer only adds (`binary_input`).
- A layer with spikes as inputs adds one weight to each neuron that a spike reaches. Negative spikes count as additions.
- The output layer of a DSQN with the rate read-out counts the same. It is linear, so it can add a column of weights for
  each spike and divide A sums at the end. (The software applies it once to the mean. That would be one multiplication
  for each neuron that spiked.)
- Biases, the arithmetic of neurons and the integration of voltage read-outs are not synaptic operations. They are
  proportional to `neuron_updates`.
- With `layer_delay`, spikes of the last simulation step count, although they arrive after the decision.
- Every state is taken as the first of an episode: no state is carried into it.

`analysis/energy.py` has the costs of operations.
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
    """Operations of one layer in each decision of a batch; `core.rows.OperationsRow` explains the fields."""

    num_neurons: int
    binary_input: bool
    """Whether all inputs are 0 or 1 in all decisions of the batch."""
    dense_macs: int
    effective_macs: Tensor
    """[B] float64."""
    acs: Tensor
    """[B] float64."""
    neuron_updates: Tensor
    """[B] float64."""
    spikes: Tensor
    """[B] float64."""


def fan_out(layer: Layer, input_shape: Sequence[int]) -> Tensor:
    """Number of neurons of a layer that each of its inputs reaches, [*input_shape].

    In a convolution, inputs at the border are covered by fewer kernels, and inputs that the stride skips by none. The
    sum is the number of synapses, and so of multiplications in a dense pass. Zeros of the padding are not inputs.
    """
    with torch.enable_grad():  # the gradient of the sum of outputs, with every weight 1
        x = layer.weight.new_zeros(1, *input_shape).requires_grad_()
        ones = torch.ones_like(layer.weight)
        if isinstance(layer, nn.Conv2d):
            outputs = F.conv2d(padded(layer, x), ones, stride=layer.stride)
        else:
            outputs = F.linear(x.flatten(1), ones)
        (reached,) = torch.autograd.grad(outputs.sum(), x)
    return reached[0]


Layered = DQN | QuantisedDQN | DSQN | RateCodedNetwork
"""Built-in agents that have layers: all but random play."""


def count_operations(agent: Agent, inputs: Tensor) -> list[LayerOperations]:
    """Operations of each layer, first to last, in a batch of decisions.

    Args:
        agent: an agent with layers.
        inputs: [B, *observation] float32, the network's input.

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
