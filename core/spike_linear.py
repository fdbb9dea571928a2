"""A fully connected layer on spikes, by products that visit only the inputs that fired.

Where few neurons fire, a dense product multiplies mostly by zero. Here each row of the output is the sum of the weights
of the inputs that fired. Each row of the weight gradient is the sum of the output's gradients in the rows where that
input fired. The gradient of the inputs is dense, because a surrogate gradient is.

Sums are in another order than in a dense product, so results are equal to tolerance. Whether a product is sparse
depends on its inputs alone, so equal inputs give equal bits.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.compiled import compiled
from core.neurons.compiled import on_threads

BREAK_EVEN = 0.2
"""Share of inputs that fire from which on the dense product is faster. benchmarks/training.py measures trainings with
and without sparse products."""
LEAST_ROWS = 64
"""Rows below which the dense product is used."""

_SET_BITS = np.array(
    [[bit for bit in range(8) if byte >> bit & 1] + [0] * (8 - byte.bit_count()) for byte in range(256)],
    np.int32,
)
"""[256, 8] positions of the bits that are set in a byte, filled up with zeros."""
_COUNTS = np.array([byte.bit_count() for byte in range(256)])
"""[256] number of bits that are set in a byte."""


@compiled()
def _pack_down(spikes: np.ndarray, packed: np.ndarray, start: int, stop: int) -> None:
    """Columns of spikes [R, N] from start to stop as bits [R / 8, N]. numpy.packbits is slow along this axis."""
    for place in range(packed.shape[0]):
        bits = packed[place, start:stop]
        bits[:] = 0
        for bit in range(8):
            row = spikes[8 * place + bit, start:stop]
            for column in range(len(bits)):
                bits[column] |= np.uint8(row[column] != 0) << np.uint8(bit)


@compiled(fastmath={"contract"})
def _sums(
    packed: np.ndarray,
    vectors: np.ndarray,
    sums: np.ndarray,
    set_bits: np.ndarray,
    counts: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Sums [M, D] of the vectors [8 P, D] that bits [M, P] choose, for the rows from start to stop."""
    places, width = packed.shape[1], vectors.shape[1]
    chosen = np.empty(8 * places + 8, np.int32)
    for row in range(start, stop):
        found = 0
        for place in range(places):
            byte = packed[row, place]
            if byte:
                for bit in range(8):
                    chosen[found + bit] = set_bits[byte, bit] + np.int32(8 * place)
                found += counts[byte]
        total = sums[row]
        for lane in range(width):
            total[lane] = 0
        whole = found // 4 * 4
        # Four vectors at a time: the total is read and written less often.
        for first in range(0, whole, 4):
            a, b = vectors[chosen[first]], vectors[chosen[first + 1]]
            c, d = vectors[chosen[first + 2]], vectors[chosen[first + 3]]
            for lane in range(width):
                total[lane] += (a[lane] + b[lane]) + (c[lane] + d[lane])
        for last in range(whole, found):
            a = vectors[chosen[last]]
            for lane in range(width):
                total[lane] += a[lane]


def _summed(packed: np.ndarray, vectors: Tensor) -> Tensor:
    """Sums [M, D] of the vectors [8 P, D] that bits [M, P] choose."""
    sums = torch.empty(len(packed), vectors.shape[1])
    arrays = (packed, vectors.contiguous().numpy(), sums.numpy(), _SET_BITS, _COUNTS)
    on_threads(_sums, len(packed), *arrays, least=LEAST_ROWS)
    return sums


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(spikes, weight)
        packed = np.packbits(spikes.numpy() != 0, axis=1, bitorder="little")
        output = _summed(packed, weight.t())
        return output if bias is None else output.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (spikes, weight), (grad,) = ctx.saved_tensors, grads
        of_spikes, of_weight, of_bias = ctx.needs_input_grad
        grad_weight = None
        if of_weight:
            packed = np.empty((len(spikes) // 8, spikes.shape[1]), np.uint8)
            on_threads(_pack_down, spikes.shape[1], spikes.numpy(), packed)
            grad_weight = _summed(packed.T, grad).t()
        return grad @ weight if of_spikes else None, grad_weight, grad.sum(0) if of_bias else None


def spike_linear(layer: nn.Linear, spikes: Tensor) -> Tensor:
    """Output [R, O] of a layer for spikes [R, N], 0 or 1. The product is sparse where that is faster.

    It is fastest if `lay_out_by_input` was called on the layer.
    """
    rows, inputs = spikes.shape
    on_cpu = spikes.device.type == "cpu" and spikes.dtype == layer.weight.dtype == torch.float32
    if (
        not on_cpu
        or rows < LEAST_ROWS
        or rows % 8
        or inputs % 8
        or spikes.sum() > BREAK_EVEN * spikes.numel()
    ):
        output: Tensor = layer(spikes)
        return output
    product: Tensor = _Product.apply(spikes.contiguous(), layer.weight, layer.bias)
    return product


def lay_out_by_input(layer: nn.Linear) -> None:
    """Let a layer's weights lie in memory input by input, as sparse products read them. No value changes."""
    layer.weight.data = layer.weight.data.t().contiguous().t()
