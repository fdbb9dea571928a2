"""The fast path on the CPU for neurons with one membrane: all simulation steps of a population in one compiled pass.

Neurons of a population do not depend on each other. So a block of them is simulated for all steps while its membranes
stay in registers. Only the input currents are kept for the backward pass, which simulates the steps again.
core/neurons/membrane.py has the equations, and the reference that tests compare this with.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.choices import SURROGATES
from core.compiled import compiled

if TYPE_CHECKING:
    from core.neurons.membrane import MembraneNeuron

LANES = 256
"""Neurons in one block of the compiled loops: a few vector registers per variable, all in the first-level cache."""
ATAN, SIGMOID, TRIANGLE = (SURROGATES.index(family) for family in ("atan", "sigmoid", "triangle"))

_pool = ThreadPoolExecutor(thread_name_prefix="fused")


@compiled(inline="always")
def _load(row: np.ndarray, bits: np.ndarray, values: np.ndarray, lanes: int, bfloat16: bool) -> None:
    """Read a row as float32 into `values`, which shares memory with `bits`. A bfloat16 row has 16-bit words."""
    if bfloat16:
        for lane in range(lanes):
            bits[lane] = np.uint32(row[lane]) << np.uint32(16)
    else:
        for lane in range(lanes):
            values[lane] = row[lane]


@compiled(inline="always")
def _store(row: np.ndarray, bits: np.ndarray, values: np.ndarray, lanes: int, bfloat16: bool) -> None:
    """Write `values` to a row, rounded to the nearest bfloat16 (ties to even) if the row has 16-bit words."""
    if bfloat16:
        for lane in range(lanes):
            odd = (bits[lane] >> np.uint32(16)) & np.uint32(1)
            row[lane] = (bits[lane] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    else:
        for lane in range(lanes):
            row[lane] = values[lane]


@compiled(inline="always")
def derivatives(
    slopes: np.ndarray,
    h: np.ndarray,
    threshold: np.float32,
    lanes: int,
    family: int,
    slope: np.float32,
    power_bits: np.ndarray,
    power: np.ndarray,
) -> None:
    """Write the derivatives of a surrogate at h - threshold to `slopes`.

    `family` is an index of `SURROGATES`. `power_bits` and `power` are working memory for LANES values, the same memory
    as uint32 and as float32.
    """
    zero, one = np.float32(0), np.float32(1)
    half_slope, pi_slope = slope * np.float32(0.5), slope * np.float32(np.pi / 2)
    # The loops have no branches on options, so that they compile to vector instructions.
    if family == ATAN:
        for lane in range(lanes):
            z = pi_slope * (h[lane] - threshold)
            slopes[lane] = half_slope / (one + z * z)
    elif family == SIGMOID:
        # sigma (1 - sigma) = e / (1 + e)^2 with e = exp(-|a x|) = 2^-k exp(k ln 2 - |a x|). With libm's exp, calls
        # would take most of the backward pass and prevent vector instructions. The polynomial is that of Cephes' expf;
        # its error is in the last bits.
        for lane in range(lanes):
            z = min(abs(slope * (h[lane] - threshold)), np.float32(87))
            k = np.floor(z * np.float32(1.44269504) + np.float32(0.5))
            r = (k * np.float32(0.693359375) - z) - k * np.float32(2.12194440e-4)
            p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
            p = p * r + np.float32(8.3334519073e-3)
            p = p * r + np.float32(4.1665795894e-2)
            p = p * r + np.float32(1.6666665459e-1)
            p = p * r + np.float32(5.0000001201e-1)
            slopes[lane] = p * (r * r) + r + one
            power_bits[lane] = np.uint32(np.int32(127) - np.int32(k)) << np.uint32(23)  # 2^-k
        for lane in range(lanes):
            e = slopes[lane] * power[lane]
            slopes[lane] = slope * e / ((one + e) * (one + e))
    elif family == TRIANGLE:
        for lane in range(lanes):
            slopes[lane] = slope * max(zero, one - slope * abs(h[lane] - threshold))
    else:
        for lane in range(lanes):
            inside = abs(h[lane] - threshold) * slope < np.float32(0.5)
            slopes[lane] = slope if inside else zero


@compiled()
def _forward(
    currents: np.ndarray,
    spikes: np.ndarray,
    weights: np.ndarray,
    start: int,
    stop: int,
    summed: bool,
    bfloat16: bool,
    leaky: bool,
    soft: bool,
    tau: np.float32,
    threshold: np.float32,
) -> None:
    """Spikes [T, N] of the neurons from start to stop; if `summed`, their weighted sums [1, N].

    `currents` are [T, N], or [1, N] if constant. `weights` are [T].
    """
    sim_steps, given = weights.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    v = np.empty(LANES, np.float32)
    x_bits, s_bits = np.empty(LANES, np.uint32), np.empty(LANES, np.uint32)
    x, s = x_bits.view(np.float32), s_bits.view(np.float32)
    sum_bits = np.empty(LANES, np.uint32)
    total = sum_bits.view(np.float32)
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        v[:] = zero
        total[:] = zero
        for t in range(sim_steps):
            if t < given:
                _load(currents[t, first : first + lanes], x_bits, x, lanes, bfloat16)
            for lane in range(lanes):
                h = v[lane] + (x[lane] - v[lane]) / tau if leaky else v[lane] + x[lane]
                fired = h >= threshold
                s[lane] = one if fired else zero
                rest = h - threshold if soft else zero
                v[lane] = rest if fired else h
            if summed:
                for lane in range(lanes):
                    total[lane] += weights[t] * s[lane]
            else:
                _store(spikes[t, first : first + lanes], s_bits, s, lanes, bfloat16)
        if summed:
            _store(spikes[0, first : first + lanes], sum_bits, total, lanes, bfloat16)


@compiled()
def _backward(
    currents: np.ndarray,
    grad_spikes: np.ndarray,
    grad_currents: np.ndarray,
    weights: np.ndarray,
    start: int,
    stop: int,
    summed: bool,
    bfloat16: bool,
    leaky: bool,
    soft: bool,
    detach: bool,
    family: int,
    tau: np.float32,
    threshold: np.float32,
    slope: np.float32,
) -> None:
    """Gradient of the currents, given that of the spikes [T, N] or of their weighted sums [1, N].

    It is [T, N], or [1, N] summed over steps if currents are constant. `family` is an index of `SURROGATES`.
    """
    sim_steps, given = weights.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    kept_by_spike = one if soft else zero
    # How much a spike lowers the membrane (by h or by the threshold), if gradients pass through the reset.
    hard_path = zero if soft or detach else one
    soft_path = threshold if soft and not detach else zero
    v = np.empty(LANES, np.float32)
    grad_v = np.empty(LANES, np.float32)
    surrogate = np.empty(LANES, np.float32)
    x_bits, s_bits, h_bits = (
        np.empty(LANES, np.uint32),
        np.empty(LANES, np.uint32),
        np.empty(LANES, np.uint32),
    )
    x, grad_s, grad_h = x_bits.view(np.float32), s_bits.view(np.float32), h_bits.view(np.float32)
    power_bits = np.empty(LANES, np.uint32)
    power = power_bits.view(np.float32)
    sum_bits = np.empty(LANES, np.uint32)
    grad_sum = sum_bits.view(np.float32)
    total_bits = np.empty(LANES, np.uint32)
    grad_total = total_bits.view(np.float32)
    membranes = np.empty((sim_steps, LANES), np.float32)  # before the reset
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        v[:] = zero
        for t in range(sim_steps):
            if t < given:
                _load(currents[t, first : first + lanes], x_bits, x, lanes, bfloat16)
            for lane in range(lanes):
                h = v[lane] + (x[lane] - v[lane]) / tau if leaky else v[lane] + x[lane]
                membranes[t, lane] = h
                rest = h - threshold if soft else zero
                v[lane] = rest if h >= threshold else h
        grad_v[:] = zero
        grad_sum[:] = zero
        if summed:
            _load(grad_spikes[0, first : first + lanes], total_bits, grad_total, lanes, bfloat16)
        for t in range(sim_steps - 1, -1, -1):
            h_t = membranes[t]
            if summed:
                for lane in range(lanes):
                    grad_s[lane] = weights[t] * grad_total[lane]
            else:
                _load(grad_spikes[t, first : first + lanes], s_bits, grad_s, lanes, bfloat16)
            derivatives(surrogate, h_t, threshold, lanes, family, slope, power_bits, power)
            for lane in range(lanes):
                kept = kept_by_spike if h_t[lane] >= threshold else one  # d v / d h
                lost = h_t[lane] * hard_path + soft_path  # - d v / d s
                grad_h[lane] = (grad_s[lane] - grad_v[lane] * lost) * surrogate[lane] + grad_v[lane] * kept
            if leaky:
                for lane in range(lanes):
                    grad_in = grad_h[lane] / tau
                    grad_v[lane] = grad_h[lane] - grad_in
                    grad_h[lane] = grad_in
            else:
                for lane in range(lanes):
                    grad_v[lane] = grad_h[lane]
            if given > 1:
                _store(grad_currents[t, first : first + lanes], h_bits, grad_h, lanes, bfloat16)
            else:
                for lane in range(lanes):
                    grad_sum[lane] += grad_h[lane]
        if given == 1:
            _store(grad_currents[0, first : first + lanes], sum_bits, grad_sum, lanes, bfloat16)


def on_threads(work: Callable[..., None], neurons: int, *arguments: Any, least: int = 16 * LANES) -> None:
    """Run a compiled loop on as many threads as torch has, each for a range of neurons.

    Args:
        work: the loop, called with the arrays, start, stop and the other arguments.
        neurons: number of neurons.
        arguments: arrays first, then the other arguments.
        least: number of neurons that are worth a thread.
    """
    threads = min(torch.get_num_threads(), max(1, neurons // least))
    arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    rest = arguments[len(arrays) :]
    if threads == 1:
        work(*arrays, 0, neurons, *rest)
        return
    share = -(-neurons // threads // LANES) * LANES
    ranges = [(start, min(start + share, neurons)) for start in range(0, neurons, share)]
    list(_pool.map(lambda bounds: work(*arrays, *bounds, *rest), ranges))


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as an array. NumPy has no bfloat16, so that becomes 16-bit words."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, sim_steps: int, neuron: "MembraneNeuron", weights: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(currents)
        ctx.neuron, ctx.summed = neuron, weights is not None
        ctx.weights = _array(torch.ones(sim_steps) if weights is None else weights)
        spikes = torch.empty((1 if ctx.summed else sim_steps, currents.shape[1]), dtype=currents.dtype)
        on_threads(
            _forward,
            currents.shape[1],
            _array(currents),
            _array(spikes),
            ctx.weights,
            ctx.summed,
            currents.dtype == torch.bfloat16,
            neuron.leak_tau is not None,
            neuron.reset == "soft",
            np.float32(neuron.leak_tau or 1.0),
            np.float32(neuron.threshold),
        )
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (currents,) = ctx.saved_tensors
        neuron: MembraneNeuron = ctx.neuron
        grad_currents = torch.empty_like(currents)
        on_threads(
            _backward,
            currents.shape[1],
            _array(currents),
            _array(grads[0].contiguous()),
            _array(grad_currents),
            ctx.weights,
            ctx.summed,
            currents.dtype == torch.bfloat16,
            neuron.leak_tau is not None,
            neuron.reset == "soft",
            neuron.detach_reset,
            SURROGATES.index(neuron.surrogate),
            np.float32(neuron.leak_tau or 1.0),
            np.float32(neuron.threshold),
            np.float32(neuron.surrogate_slope),
        )
        return grad_currents, None, None, None


def run(currents: Tensor, sim_steps: int, neuron: "MembraneNeuron", weights: Tensor | None = None) -> Tensor:
    """Spikes [T, ...] of a population from rest; in float32 they equal those of `membrane.run`.

    Args:
        currents: [T, ...] on the CPU, or [1, ...] for a current that is the same at every step. float32 or bfloat16;
            membranes are float32 for both.
        sim_steps: T.
        neuron: options of the neurons.
        weights: [T] float32. If given, the weighted sums [1, ...] of the spikes are returned, and no spike train is
            stored.
    """
    order = order_in_memory(currents)
    in_memory = currents.permute(order)
    spikes = _Run.apply(in_memory.flatten(1).contiguous(), sim_steps, neuron, weights)
    return spikes.view(-1, *in_memory.shape[1:]).permute(inverse(order))


def order_in_memory(currents: Tensor) -> list[int]:
    """The axes of currents [T, ...], those of the neurons in the order of the memory.

    Flattened in this order, a channels-last tensor is not copied.
    """
    return [0, *sorted(range(1, currents.ndim), key=currents.stride, reverse=True)]


def inverse(order: list[int]) -> list[int]:
    """The permutation that undoes another."""
    return [order.index(axis) for axis in range(len(order))]
