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

from core.neurons import Neuron

LANES = 256
"""Neurons that one block of the compiled loops holds: a few vector registers a variable, all in the first cache."""

_pool = ThreadPoolExecutor(thread_name_prefix="fused")


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _forward(
    currents: np.ndarray,
    spikes: np.ndarray,
    start: int,
    stop: int,
    leaky: bool,
    soft: bool,
    tau: np.float32,
    threshold: np.float32,
) -> None:
    """Spikes [T, N] of neurons start to stop; currents are [T, N], or [1, N] if constant."""
    sim_steps, given = spikes.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    v = np.empty(LANES, np.float32)
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        v[:] = zero
        for t in range(sim_steps):
            x = currents[t if given > 1 else 0, first : first + lanes]
            s = spikes[t, first : first + lanes]
            for lane in range(lanes):
                h = v[lane] + (x[lane] - v[lane]) / tau if leaky else v[lane] + x[lane]
                fired = h >= threshold
                s[lane] = one if fired else zero
                rest = h - threshold if soft else zero
                v[lane] = rest if fired else h


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backward(
    currents: np.ndarray,
    grad_spikes: np.ndarray,
    grad_currents: np.ndarray,
    start: int,
    stop: int,
    leaky: bool,
    soft: bool,
    detach: bool,
    atan: bool,
    tau: np.float32,
    threshold: np.float32,
    slope: np.float32,
) -> None:
    """Gradient of the currents, [T, N], or [1, N] summed over steps if they are constant."""
    sim_steps, given = grad_spikes.shape[0], currents.shape[0]
    zero, one = np.float32(0), np.float32(1)
    half_slope, pi_slope = slope * np.float32(0.5), slope * np.float32(np.pi / 2)
    kept_by_spike = one if soft else zero
    # What a spike takes from the membrane (h, or the threshold), where gradients pass through the reset.
    hard_path = zero if soft or detach else one
    soft_path = threshold if soft and not detach else zero
    v = np.empty(LANES, np.float32)
    grad_v = np.empty(LANES, np.float32)
    grad_h = np.empty(LANES, np.float32)
    surrogate = np.empty(LANES, np.float32)
    membranes = np.empty((sim_steps, LANES), np.float32)  # before the reset
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        v[:] = zero
        for t in range(sim_steps):
            x = currents[t if given > 1 else 0, first : first + lanes]
            for lane in range(lanes):
                h = v[lane] + (x[lane] - v[lane]) / tau if leaky else v[lane] + x[lane]
                membranes[t, lane] = h
                rest = h - threshold if soft else zero
                v[lane] = rest if h >= threshold else h
        grad_v[:] = zero
        for t in range(sim_steps - 1, -1, -1):
            h = membranes[t]
            grad_s = grad_spikes[t, first : first + lanes]
            # The loops below have no branches on options, so that they compile to vector instructions.
            if atan:
                for lane in range(lanes):
                    z = pi_slope * (h[lane] - threshold)
                    surrogate[lane] = half_slope / (one + z * z)
            else:
                for lane in range(lanes):
                    sigma = one / (one + np.exp(-slope * (h[lane] - threshold)))
                    surrogate[lane] = slope * sigma * (one - sigma)
            for lane in range(lanes):
                kept = kept_by_spike if h[lane] >= threshold else one  # d v / d h
                lost = h[lane] * hard_path + soft_path  # - d v / d s
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
                grad_currents[t, first : first + lanes] = grad_h[:lanes]
            else:
                grad_x = grad_currents[0, first : first + lanes]
                for lane in range(lanes):
                    grad_x[lane] += grad_h[lane]


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


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
        ctx.save_for_backward(currents)
        ctx.neuron = neuron
        spikes = torch.empty((sim_steps, currents.shape[1]), dtype=torch.float32)
        _on_threads(
            _forward,
            currents.shape[1],
            currents.numpy(),
            spikes.numpy(),
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
        grad_spikes = grads[0].contiguous()
        grad_currents = torch.zeros_like(currents)
        _on_threads(
            _backward,
            currents.shape[1],
            currents.numpy(),
            grad_spikes.numpy(),
            grad_currents.numpy(),
            neuron.charge == "lif",
            neuron.reset == "soft",
            neuron.detach_reset,
            neuron.surrogate == "atan",
            np.float32(neuron.tau),
            np.float32(neuron.threshold),
            np.float32(neuron.surrogate_slope),
        )
        return grad_currents, None, None


def run(currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
    """Spikes [T, ...] of a population driven from rest; equal to `neurons.run` to the last spike.

    Args:
        currents: [T, ...] float32 on the CPU, or [1, ...] for a current that is the same at every step.
        sim_steps: T.
        neuron: the population's parameters.
    """
    flat = currents.flatten(1).contiguous()
    return _Run.apply(flat, sim_steps, neuron).view(sim_steps, *currents.shape[1:])
