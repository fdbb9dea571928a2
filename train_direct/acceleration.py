"""Faster updates: flat parameters, working copies in bfloat16, CUDA graphs."""

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.layers import halve_precision

Module = TypeVar("Module", bound=nn.Module)


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes. A part of a network may have others, which it does not let learn."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    """The gradient of each parameter, zero of one that the loss does not depend on."""
    return torch.autograd.grad(loss, parameters, materialize_grads=True)


class FlatParameters:
    """A network's trainable parameters as one tensor, of which they become views.

    An optimiser step, or a copy into the target network, is then one operation instead of one for each parameter. On a
    small network these operations are most of what an update costs.

    Args:
        network: whose parameters; they keep their values, shapes and memory layouts.
    """

    def __init__(self, network: nn.Module):
        parameters = trainable(network)
        self.tensor = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
        """All parameters, one after the other. An optimiser steps this one."""
        for parameter, view in zip(parameters, _views(self.tensor.detach(), parameters), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        self.tensor.grad = self.gradient = torch.zeros_like(self.tensor)
        """The gradient that the optimiser sees, in the same order."""
        self.strides = [[*parameter.stride()] for parameter in parameters]
        """How each parameter lies in memory, which the order of the elements follows."""
        self._gradients = _views(self.gradient, parameters)

    def relaid(self, flat: Tensor, strides: Sequence[Sequence[int]]) -> Tensor:
        """Values of all parameters in this order, from a tensor in which they lie by other strides."""
        if strides == self.strides:
            return flat
        result = torch.empty_like(flat)
        for view, stride in zip(_views(result, self._gradients), strides, strict=True):
            offset = flat.storage_offset() + view.storage_offset()
            view.copy_(torch.as_strided(flat, view.shape, stride, offset))
        return result

    def set_gradients(self, found: Sequence[Tensor]) -> None:
        """Copy the gradients of all parameters, in the network's order, to where the optimiser sees them."""
        torch._foreach_copy_(self._gradients, list(found))


def _views(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Views of one tensor in the shapes and memory layouts of some dense ones, one after the other."""
    offsets = itertools.accumulate((parameter.numel() for parameter in parameters), initial=0)
    return [
        torch.as_strided(flat, parameter.shape, parameter.stride(), offset)
        for parameter, offset in zip(parameters, offsets, strict=False)
    ]


def make_moments(optimizer: torch.optim.Optimizer, flat: FlatParameters) -> None:
    """Make an optimiser's moments by a step with no gradient. From here on every tensor stays where it is."""
    with warnings.catch_warnings(action="ignore"):  # on a GPU: that this step is not part of a CUDA graph
        optimizer.step()
    for moment in optimizer.state[flat.tensor].values():
        moment.zero_()


def half_copy(network: Module) -> Module:
    """A copy of a network whose hidden layers compute in bfloat16."""
    working = copy.deepcopy(network)
    halve_precision(working)
    return working


def refresh(working: nn.Module, network: nn.Module) -> None:
    """Copy the network's weights into its working copy, if it has one."""
    if working is not network:
        torch._foreach_copy_(list(working.parameters()), list(network.parameters()))


class Captured:
    """A function of tensors, recorded as a CUDA graph at its first call and replayed from then on.

    On a GPU an update is some hundred small kernels, and launching them one by one takes longer than they run.

    Args:
        function: its arguments keep their shapes, and it changes tensors only in place.
        changed: the tensors that it changes. What the rehearsals before the recording did to them is undone.
    """

    def __init__(self, function: Callable[..., Tensor], changed: Sequence[Tensor]):
        self._function, self._changed = function, changed
        self._arguments: list[Tensor] = []
        self._graph: Any = None

    def __call__(self, *arguments: Tensor) -> Tensor:
        if self._graph is None:
            self._record(arguments)
        torch._foreach_copy_(self._arguments, arguments)
        self._graph.replay()
        return self._result

    def _record(self, arguments: Sequence[Tensor]) -> None:
        self._arguments = [argument.clone() for argument in arguments]
        before = [tensor.detach().clone() for tensor in self._changed]
        side: Any = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels choose their algorithms before they are recorded
            for _ in range(3):
                self._function(*self._arguments)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._function(*self._arguments)
        with torch.no_grad():
            torch._foreach_copy_(list(self._changed), before)
