"""The CPU's fast path of `neurons.run`: all simulation steps of a population in one compiled pass.

A population's neurons do not talk to each other, so a block of them can live through all its steps while its
membranes stay in registers. Nothing but the input currents is kept for the backward pass, which lives through
the steps once more. The equations, and the reference that this is tested against, stand in core/neurons.py.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from core.neurons import SURROGATES, Neuron

LANES = 256
"""Neurons that one block of the compiled loops holds: a few vector registers a variable, all in the first cache."""
ATAN, SIGMOID, TRIANGLE = (SURROGATES.index(family) for family in ("atan", "sigmoid", "triangle"))

_pool = ThreadPoolExecutor(thread_name_prefix="fused")


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _load(row: np.ndarray, bits: np.ndarray, values: np.ndarray, lanes: int, bfloat16: bool) -> None:
    """A row as float32 in `values`, which shares its memory with `bits`; bfloat16 comes as its 16 bits."""
    if bfloat16:
        for lane in range(lanes):
            bits[lane] = np.uint32(row[lane]) << np.uint32(16)
    else:
        for lane in range(lanes):
            values[lane] = row[lane]


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _store(row: np.ndarray, bits: np.ndarray, values: np.ndarray, lanes: int, bfloat16: bool) -> None:
    """The reverse, rounded to the nearest, ties to even."""
    if bfloat16:
        for lane in range(lanes):
            odd = (bits[lane] >> np.uint32(16)) & np.uint32(1)
            row[lane] = (bits[lane] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    else:
        for lane in range(lanes):
            row[lane] = values[lane]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _forward(
    currents: np.ndarray,
    spikes: np.ndarray,
    start: int,
    stop: int,
    bfloat16: bool,
    leaky: bool,
    soft: bool,
    tau: np.float32,
    threshold: np.float32,
) -> None:
    """Spikes [T, N] of neurons start to stop; currents are [T, N], or [1, N] if constant."""
    sim_steps, given = spikes.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    v = np.empty(LANES, np.float32)
    x_bits, s_bits = np.empty(LANES, np.uint32), np.empty(LANES, np.uint32)
    x, s = x_bits.view(np.float32), s_bits.view(np.float32)
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        v[:] = zero
        for t in range(sim_steps):
            if t < given:
                _load(currents[t, first : first + lanes], x_bits, x, lanes, bfloat16)
            for lane in range(lanes):
                h = v[lane] + (x[lane] - v[lane]) / tau if leaky else v[lane] + x[lane]
                fired = h >= threshold
                s[lane] = one if fired else zero
                rest = h - threshold if soft else zero
                v[lane] = rest if fired else h
            _store(spikes[t, first : first + lanes], s_bits, s, lanes, bfloat16)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backward(
    currents: np.ndarray,
    grad_spikes: np.ndarray,
    grad_currents: np.ndarray,
    start: int,
    stop: int,
    bfloat16: bool,
    leaky: bool,
    soft: bool,
    detach: bool,
    family: int,
    tau: np.float32,
    threshold: np.float32,
    slope: np.float32,
) -> None:
    """Gradient of the currents, [T, N], or [1, N] summed over steps if they are constant; the family is an index of
    `SURROGATES`."""
    sim_steps, given = grad_spikes.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    half_slope, pi_slope = slope * np.float32(0.5), slope * np.float32(np.pi / 2)
    kept_by_spike = one if soft else zero
    # What a spike takes from the membrane (h, or the threshold), where gradients pass through the reset.
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
    sum_bits = np.empty(LANES, np.uint32)
    grad_sum = sum_bits.view(np.float32)
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
        for t in range(sim_steps - 1, -1, -1):
            h_t = membranes[t]
            _load(grad_spikes[t, first : first + lanes], s_bits, grad_s, lanes, bfloat16)
            # The loops below have no branches on options, so that they compile to vector instructions.
            if family == ATAN:
                for lane in range(lanes):
                    z = pi_slope * (h_t[lane] - threshold)
                    surrogate[lane] = half_slope / (one + z * z)
            elif family == SIGMOID:
                for lane in range(lanes):
                    sigma = one / (one + np.exp(-slope * (h_t[lane] - threshold)))
                    surrogate[lane] = slope * sigma * (one - sigma)
            elif family == TRIANGLE:
                for lane in range(lanes):
                    surrogate[lane] = slope * max(zero, one - slope * abs(h_t[lane] - threshold))
            else:
                for lane in range(lanes):
                    inside = abs(h_t[lane] - threshold) * slope < np.float32(0.5)
                    surrogate[lane] = slope if inside else zero
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


def _on_threads(work: Callable[..., None], neurons: int, *arguments: Any) -> None:
    """Share neurons out to as many threads as torch has; a call is (first arguments, start, stop, the rest)."""
    threads = min(torch.get_num_threads(), max(1, neurons // (16 * LANES)))
    arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    rest = arguments[len(arrays) :]
    if threads == 1:
        work(*arrays, 0, neurons, *rest)
        return
    share = -(-neurons // threads // LANES) * LANES
    ranges = [(start, min(start + share, neurons)) for start in range(0, neurons, share)]
    list(_pool.map(lambda bounds: work(*arrays, *bounds, *rest), ranges))


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory; NumPy knows no bfloat16, so of that its bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
        ctx.save_for_backward(currents)
        ctx.neuron = neuron
        spikes = torch.empty((sim_steps, currents.shape[1]), dtype=currents.dtype)
        _on_threads(
            _forward,
            currents.shape[1],
            _array(currents),
            _array(spikes),
            currents.dtype == torch.bfloat16,
            neuron.charge == "lif",
            neuron.reset == "soft",
            np.float32(neuron.tau),
            np.float32(neuron.threshold),
        )
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (currents,) = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        grad_currents = torch.empty_like(currents)
        _on_threads(
            _backward,
            currents.shape[1],
            _array(currents),
            _array(grads[0].contiguous()),
            _array(grad_currents),
            currents.dtype == torch.bfloat16,
            neuron.charge == "lif",
            neuron.reset == "soft",
            neuron.detach_reset,
            SURROGATES.index(neuron.surrogate),
            np.float32(neuron.tau),
            np.float32(neuron.threshold),
            np.float32(neuron.surrogate_slope),
        )
        return grad_currents, None, None


def run(currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
    """Spikes [T, ...] of a population driven from rest; in float32 equal to `neurons.run` to the last spike.

    Args:
        currents: [T, ...] on the CPU, or [1, ...] for a current that is the same at every step; float32, or
            bfloat16, whose membranes are float32 all the same and whose spikes are exact.
        sim_steps: T.
        neuron: the population's parameters.
    """
    # Neurons are taken in the order in which they lie in memory, so a channels-last tensor is not copied.
    order = [0, *sorted(range(1, currents.ndim), key=currents.stride, reverse=True)]
    in_memory = currents.permute(order)
    spikes = _Run.apply(in_memory.flatten(1).contiguous(), sim_steps, neuron)
    return spikes.view(sim_steps, *in_memory.shape[1:]).permute(
        [order.index(axis) for axis in range(currents.ndim)]
    )
