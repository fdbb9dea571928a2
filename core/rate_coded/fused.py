"""The CPU's fast path of `differentiable.spike_train`: all simulation steps of a converted layer in one compiled pass.

core/neurons/compiled.py is the same for the neurons of directly trained networks. Here the threshold is 1 with soft
reset, membranes may start above 0, and spikes may be negative. core/rate_coded/differentiable.py has the equations, and
the reference that tests compare this with.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.choices import SURROGATES
from core.compiled import compiled
from core.neurons.compiled import LANES, derivatives, inverse, on_threads, order_in_memory
from core.neurons.surrogates import SpikeDerivative
from core.rate_coded.torch_engine import IFNeuron


@compiled(inline="always")
def _step(
    h: np.ndarray,
    v: np.ndarray,
    count: np.ndarray,
    fired: np.ndarray,
    x: np.ndarray,
    may_fire: np.ndarray,
    lanes: int,
    signed: bool,
    leak: np.float32,
) -> None:
    """One simulation step of a block: membranes before firing (h), spikes (fired) and membranes after reset (v)."""
    zero, one = np.float32(0), np.float32(1)
    for lane in range(lanes):
        charged = v[lane] * leak + x[lane]
        s = one if charged >= one else zero
        if signed:
            s -= one if charged < zero and count[lane] > zero else zero
        s *= may_fire[lane]
        h[lane] = charged
        fired[lane] = s
        v[lane] = charged - s
        count[lane] += s


@compiled()
def _forward(
    currents: np.ndarray,
    may_fire: np.ndarray,
    spikes: np.ndarray,
    membranes: np.ndarray,
    start: int,
    stop: int,
    signed: bool,
    leak: np.float32,
    v_init: np.float32,
) -> None:
    """Spikes [T, N] and last membranes [N] of the neurons from start to stop.

    `currents` are [T, N], or [1, N] if constant. `may_fire` [N] is 1 or 0, or empty if all neurons may fire.
    """
    h, v, count = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    may = np.ones(LANES, np.float32)
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        if may_fire.shape[0] > 0:
            may[:lanes] = may_fire[first : first + lanes]
        v[:] = v_init
        count[:] = np.float32(0)
        for t in range(spikes.shape[0]):
            x = currents[min(t, currents.shape[0] - 1), first : first + lanes]
            _step(h, v, count, spikes[t, first : first + lanes], x, may, lanes, signed, leak)
        membranes[first : first + lanes] = v[:lanes]


@compiled()
def _backward(
    currents: np.ndarray,
    may_fire: np.ndarray,
    grad_spikes: np.ndarray,
    grad_membranes: np.ndarray,
    grad_currents: np.ndarray,
    start: int,
    stop: int,
    signed: bool,
    leak: np.float32,
    v_init: np.float32,
    detach: bool,
    family: int,
    slope: np.float32,
) -> None:
    """Gradient of the currents, given those of the spikes [T, N] and of the last membranes [N].

    It is [T, N], or [1, N] summed over steps if currents are constant. `family` is an index of `SURROGATES`.
    """
    sim_steps = grad_spikes.shape[0]
    zero, one = np.float32(0), np.float32(1)
    through_reset = zero if detach else one
    h, v, count = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    fired, back, grad_v = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    may = np.ones(LANES, np.float32)
    power_bits = np.empty(LANES, np.uint32)
    power = power_bits.view(np.float32)
    slopes = np.empty((sim_steps, LANES), np.float32)  # d s / d h
    for first in range(start, stop, LANES):
        lanes = min(LANES, stop - first)
        if may_fire.shape[0] > 0:
            may[:lanes] = may_fire[first : first + lanes]
        v[:] = v_init
        count[:] = zero
        for t in range(sim_steps):
            x = currents[min(t, currents.shape[0] - 1), first : first + lanes]
            its = slopes[t]
            if signed:
                for lane in range(lanes):
                    its[lane] = one if count[lane] > zero else zero
            _step(h, v, count, fired, x, may, lanes, signed, leak)
            if signed:
                derivatives(back, h, zero, lanes, family, slope, power_bits, power)
                for lane in range(lanes):
                    back[lane] *= its[lane]
                derivatives(its, h, one, lanes, family, slope, power_bits, power)
                for lane in range(lanes):
                    its[lane] += back[lane]
            else:
                derivatives(its, h, one, lanes, family, slope, power_bits, power)
            for lane in range(lanes):
                its[lane] *= may[lane]
        grad_v[:lanes] = grad_membranes[first : first + lanes]
        if currents.shape[0] == 1:
            grad_currents[0, first : first + lanes] = zero
        for t in range(sim_steps - 1, -1, -1):
            grad_s, its = grad_spikes[t, first : first + lanes], slopes[t]
            grad_x = grad_currents[min(t, currents.shape[0] - 1), first : first + lanes]
            for lane in range(lanes):
                grad_h = grad_v[lane] + its[lane] * (grad_s[lane] - through_reset * grad_v[lane])
                if currents.shape[0] == 1:
                    grad_x[lane] += grad_h
                else:
                    grad_x[lane] = grad_h
                grad_v[lane] = leak * grad_h


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        currents: Tensor,
        may_fire: Tensor,
        sim_steps: int,
        neuron: IFNeuron,
        derivative: SpikeDerivative,
    ) -> tuple[Tensor, Tensor]:
        neurons = currents.shape[1]
        ctx.save_for_backward(currents, may_fire)
        ctx.neuron = (neuron.firing == "signed", np.float32(neuron.leak), np.float32(neuron.v_init))
        surrogate, slope, detach_reset = derivative
        ctx.derivative = (detach_reset, SURROGATES.index(surrogate), np.float32(slope))
        spikes, membranes = currents.new_empty(sim_steps, neurons), currents.new_empty(neurons)
        arrays = (each.numpy() for each in (currents, may_fire, spikes, membranes))
        on_threads(_forward, neurons, *arrays, *ctx.neuron)
        return spikes, membranes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        currents, may_fire = ctx.saved_tensors
        grad_currents = torch.empty_like(currents)
        given = (currents, may_fire, grads[0].contiguous(), grads[1].contiguous(), grad_currents)
        arrays = (each.numpy() for each in given)
        on_threads(_backward, currents.shape[1], *arrays, *ctx.neuron, *ctx.derivative)
        return grad_currents, None, None, None, None


def run(
    currents: Tensor,
    sim_steps: int,
    silent: Tensor | None,
    neuron: IFNeuron,
    derivative: SpikeDerivative,
) -> tuple[Tensor, Tensor]:
    """Spikes and last membranes as from `differentiable.spike_train`, for float32 currents on the CPU."""
    order = order_in_memory(currents)
    in_memory = currents.permute(order)
    may_fire = currents.new_empty(0)
    if silent is not None:
        may_fire = (~silent)[None].permute(order).flatten().float()
    spikes, membranes = _Run.apply(in_memory.flatten(1).contiguous(), may_fire, sim_steps, neuron, derivative)
    spikes = spikes.view(-1, *in_memory.shape[1:]).permute(inverse(order))
    return spikes, membranes.view(1, *in_memory.shape[1:]).permute(inverse(order))[0]
