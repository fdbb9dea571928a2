"""Operations of each layer of an agent in a decision: multiplications, additions, spikes and membrane updates.

They are counted from the layers' actual inputs (`core.layered.LayerTrace`) and actual synapses. The names are those of
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

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call


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


def fan_out(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Number of outputs that each input of a layer reaches, with the shape of the inputs.

    In a convolution, inputs at the border are covered by fewer kernels, and inputs that the stride skips by none. The
    sum over one input is the number of synapses, and so of multiplications in a dense pass. Zeros of the padding are
    not inputs.

    Args:
        layer: a linear layer or a convolution of any library; its only parameters are `weight` and perhaps `bias`.
        inputs: what it is called with. Only the shape matters.
    """
    filled = {
        name: (torch.ones_like if name == "weight" else torch.zeros_like)(parameter, dtype=torch.float32)
        for name, parameter in layer.named_parameters()
    }
    with torch.enable_grad():  # the gradient of the sum of outputs, with every weight 1
        x = torch.zeros_like(inputs, dtype=torch.float32, requires_grad=True)
        (reached,) = torch.autograd.grad(functional_call(layer, filled, (x,)).sum(), x)
    return reached
