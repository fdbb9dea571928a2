"""The fast simulation of a converted network on the CPU, which computes only where there are spikes.

Spikes are sparse: a few neurons in a hundred fire at a step. So each spike's weights are added to the neurons that it
reaches, and nothing is multiplied by zero. There are no recurrent connections, so each layer is simulated for all steps
before the next one. The membranes of a group of neurons stay in registers, and their weights in the cache.

The spikes of a layer are kept for each simulation step, as the sorted numbers of the neurons that fired, channels last.
So an output pixel's inputs from one row of its kernel are contiguous in that list. `starts` holds the position of each
pixel's first spike.

The equations are those of torch_engine, and tests compare the two. Decisions may differ only if another order of
additions moves a membrane across the threshold.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from core.choices import FIRINGS, Firing
from core.compiled import compiled
from core.errors import Refusal
from core.layers import Layers, SameConv2d, apply_to_image, same_margins
from core.rate_coded.torch_engine import DEFAULT_NEURON, IFNeuron, Simulation, require_record_at

LANES = 64
"""Neurons of one pixel that are simulated together. A layer's channels are padded to a multiple of this number."""
EVENTS = 8
"""Spikes that are added together, so that membranes are read and written once for all of them."""
TAKEN_BACK = 1 << 15
"""Added to a neuron's number for a negative spike. It is also the bound on the neurons of a layer."""

_pool = ThreadPoolExecutor(thread_name_prefix="event")


@intrinsic
def _lowest_bit(context: Any, word: Any) -> Any:
    """Index of the lowest bit that is set in an unsigned 64-bit word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


class Prepared(NamedTuple):
    """A layer's weights in the layout of the compiled loops."""

    weights: np.ndarray
    """[G, (2 K + 1) * LANES] for G groups of output channels and K inputs of a pixel.

    A group has the weights of each input to its channels, a row of zeros, and the negated weights for negative spikes.
    The last part exists only for signed neurons.
    """
    bias: np.ndarray
    """[G, LANES] biases of each group of output channels."""
    kernel: int
    """Side of the kernel; 1 for a fully connected layer, whose input is one pixel with many channels."""
    stride: int
    margin: int
    """Pixels of padding to the left of the input and above it."""
    in_width: int
    """Pixels of a row of the square input."""
    in_channels: int
    """Channels of the input."""
    out_width: int
    """Pixels of a row of the square output."""
    out_channels: int
    """Channels of the output."""


@compiled()
def _fire_constantly(
    currents: np.ndarray, v_init: float, events: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> None:
    """Spikes of neurons [P, C] (pixels, channels) with constant currents, at every simulation step.

    A soft-reset IF neuron starts at v and receives c at each step. If c is at most 1, it has fired floor(v + c t) times
    after t steps, so its j-th spike comes at step ceil((j - v) / c). If c is larger, it fires at every step from its
    first spike on. Steps without a spike are skipped.
    """
    pixels, channels = currents.shape
    sim_steps = events.shape[0]
    lengths[:] = 0
    for pixel in range(pixels):
        starts[pixel, :] = lengths
        for channel in range(channels):
            current = np.float64(currents[pixel, channel])
            if current <= 0.0:
                continue
            neuron = pixel * channels + channel
            spike, t = 1, 0
            while True:
                t = max(t + 1, math.ceil((spike - v_init) / current))
                if t > sim_steps:
                    break
                events[t - 1, lengths[t - 1]] = neuron
                lengths[t - 1] += 1
                spike += 1
    starts[pixels, :] = lengths


def _compile(firing: Firing) -> Callable[..., None]:
    """Compile the loops of a layer for one kind of firing, without the branches of others."""
    signed, afterwards = firing == "signed", firing == "afterwards"

    @compiled(fastmath={"reassoc", "nsz"})
    def fire(
        events_in: np.ndarray,
        starts_in: np.ndarray,
        weights: np.ndarray,
        bias: np.ndarray,
        kernel: int,
        stride: int,
        margin: int,
        in_width: int,
        in_channels: int,
        out_width: int,
        out_channels: int,
        v_init: np.float32,
        events: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        record_at: np.ndarray,
        counts: np.ndarray,
        residuals: np.ndarray,
    ) -> None:
        """Spikes of a layer at every simulation step, given those of the layer before it.

        Args:
            events_in, starts_in: spikes of the previous layer. [T, N] neurons that fired; [P + 1, T] position of each
                pixel's first spike.
            weights, bias, kernel, stride, margin, in_width, in_channels, out_width, out_channels: see `Prepared`.
            v_init: membrane of every neuron before the first step.
            events, starts, lengths: spikes of this layer, to be filled. `lengths` [T] is the number of spikes.
            record_at: [R] ascending steps (from 1) at which results are recorded; empty but for a layer of one pixel.
            counts, residuals: [R, out_channels] spikes and membranes at these steps, to be filled.
        """
        sim_steps = events.shape[0]
        run = kernel * in_channels
        v = np.empty(LANES, np.float32)
        net = np.empty(LANES, np.float32)  # spikes so far, minus negative ones
        fired_bits = np.empty(LANES, np.uint32)
        fired = fired_bits.view(np.float32)
        zero, one = np.float32(0), np.float32(1)
        counted = signed or len(record_at) > 0
        arrived = np.empty(
            kernel * run + EVENTS, np.uint32
        )  # offsets of the weights of the spikes that arrive
        silent = np.uint32(kernel * run * LANES)
        negated = kernel * run + 1 - TAKEN_BACK
        lengths[:] = 0
        for pixel in range(out_width * out_width):
            row, column = pixel // out_width * stride - margin, pixel % out_width * stride - margin
            # The part of the kernel that is on the input and not on the padding.
            top, bottom = max(0, -row), min(kernel, in_width - row)
            left, right = max(0, -column), min(kernel, in_width - column)
            starts[pixel, :] = lengths
            for group in range(weights.shape[0]):
                first = group * LANES
                channels = min(LANES, out_channels - first)
                w, b = weights[group], bias[group]
                v[:channels] = v_init
                v[channels:] = 0.0
                net[:] = 0.0
                recorded = 0
                for step in range(2 * sim_steps if afterwards else sim_steps):
                    listens = not afterwards or step < sim_steps
                    t = step if listens else step - sim_steps
                    if listens:
                        n = 0
                        for k in range(top, bottom):
                            begin_pixel = (row + k) * in_width + column
                            begin, end = starts_in[begin_pixel + left, t], starts_in[begin_pixel + right, t]
                            # Offset of a neuron's weights: row of the kernel, then pixel and channel in the row.
                            offset = k * run - begin_pixel * in_channels
                            for at in range(begin, end):
                                event = np.int64(events_in[t, at])
                                if signed and event & TAKEN_BACK:
                                    event += negated
                                arrived[n] = (event + offset) * LANES
                                n += 1
                        for at in range(n, n + EVENTS):
                            arrived[at] = silent
                        for lane in range(LANES):
                            v[lane] += b[lane]
                        for at in range(0, n, EVENTS):
                            i0, i1, i2, i3 = arrived[at], arrived[at + 1], arrived[at + 2], arrived[at + 3]
                            i4, i5, i6, i7 = (
                                arrived[at + 4],
                                arrived[at + 5],
                                arrived[at + 6],
                                arrived[at + 7],
                            )
                            for lane in range(np.uint32(LANES)):
                                v[lane] += ((w[i0 + lane] + w[i1 + lane]) + (w[i2 + lane] + w[i3 + lane])) + (
                                    (w[i4 + lane] + w[i5 + lane]) + (w[i6 + lane] + w[i7 + lane])
                                )
                    if afterwards and listens:
                        continue
                    for lane in range(LANES):
                        fired[lane] = one if v[lane] >= one else zero
                    for lane in range(LANES):
                        v[lane] -= fired[lane]
                    if counted:
                        for lane in range(LANES):
                            net[lane] += fired[lane]
                    number = pixel * out_channels + first
                    length = lengths[t]
                    word = np.uint64(0)
                    for lane in range(LANES):
                        word |= np.uint64(fired_bits[lane] >> np.uint32(29)) << np.uint64(lane)
                    while word:
                        events[t, length] = number + _lowest_bit(word)  # type: ignore[call-arg]
                        word &= word - np.uint64(1)
                        length += 1
                    if signed:
                        for lane in range(LANES):
                            fired[lane] = one if v[lane] < zero and net[lane] > zero else zero
                        for lane in range(LANES):
                            v[lane] += fired[lane]
                            net[lane] -= fired[lane]
                        for lane in range(LANES):
                            word |= np.uint64(fired_bits[lane] >> np.uint32(29)) << np.uint64(lane)
                        while word:
                            events[t, length] = TAKEN_BACK + number + _lowest_bit(word)  # type: ignore[call-arg]
                            word &= word - np.uint64(1)
                            length += 1
                    lengths[t] = length
                    if recorded < len(record_at) and record_at[recorded] == t + 1:
                        for lane in range(channels):
                            counts[recorded, first + lane] = net[lane]
                            residuals[recorded, first + lane] = v[lane]
                        recorded += 1
        starts[out_width * out_width, :] = lengths

    return fire


_FIRE = {firing: _compile(firing) for firing in FIRINGS}


@torch.no_grad()
def prepare(layers: Layers, shapes: Sequence[tuple[int, ...]], signed: bool = False) -> list[Prepared]:
    """Weights of all layers but the first, in the layout of the compiled loops.

    Args:
        layers: layers of the network.
        shapes: output shape of each layer.
        signed: whether neurons fire negative spikes.

    Raises:
        Refusal: a layer has too many neurons.
    """
    if max(math.prod(shape) for shape in shapes) >= TAKEN_BACK:
        raise Refusal(
            f"layers of {shapes} have more than {TAKEN_BACK - 1} neurons, which events cannot number"
        )
    prepared = []
    for layer, before, after in zip(list(layers)[1:], shapes, shapes[1:], strict=False):
        if isinstance(layer, nn.Conv2d):
            weights = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # [K, out]
            kernel, stride, in_width, in_channels = (
                layer.kernel_size[0],
                layer.stride[0],
                before[2],
                before[0],
            )
            margin = same_margins(in_width, kernel, stride)[0] if isinstance(layer, SameConv2d) else 0
        else:  # inputs were flattened channels first; events number them channels last
            weights = layer.weight.unflatten(1, before).movedim(1, -1).flatten(1).T
            kernel, stride, in_width, in_channels = 1, 1, 1, math.prod(before)
            margin = 0
        channels = after[0]
        groups = -(-channels // LANES)
        bias = torch.zeros(channels) if layer.bias is None else layer.bias
        rows = [weights, torch.zeros(1, channels), *([-weights] if signed else []), bias[None]]
        padded = F.pad(torch.cat(rows), (0, groups * LANES - channels))
        grouped = padded.unflatten(1, (groups, LANES)).movedim(1, 0)  # [G, 2 K + 2, LANES]
        prepared.append(
            Prepared(
                grouped[:, :-1].flatten(1).contiguous().numpy(),
                grouped[:, -1].contiguous().numpy(),
                kernel,
                stride,
                margin,
                in_width,
                in_channels,
                after[2] if len(after) == 3 else 1,
                channels,
            )
        )
    return prepared


class _Spikes(NamedTuple):
    """Spikes of a layer (see `_compile`)."""

    events: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def of_neurons(self) -> np.ndarray:
        """[P C] number of spikes of each neuron, of either sign, over all simulation steps."""
        fired = [row[:length] for row, length in zip(self.events, self.lengths, strict=True)]
        return np.bincount(np.concatenate(fired) & (TAKEN_BACK - 1), minlength=self.events.shape[1])


def _no_spikes(sim_steps: int, pixels: int, channels: int) -> _Spikes:
    return _Spikes(
        np.empty((sim_steps, pixels * channels), np.uint16),
        np.empty((pixels + 1, sim_steps), np.int32),
        np.empty(sim_steps, np.int32),
    )


@torch.no_grad()
def simulate(
    layers: Layers,
    prepared: Sequence[Prepared],
    observations: Tensor,
    sim_steps: int,
    neuron: IFNeuron = DEFAULT_NEURON,
    *,
    record_at: Sequence[int] = (),
    image_bits: int | None = None,
    each_neuron: bool = False,
) -> Simulation:
    """Simulate a network with neurons behind every layer and a constant image as input.

    It must be on the CPU, and its neurons must not leak. The result is that of `torch_engine.simulate`.

    Args:
        layers: normalised convolutions and fully connected layers.
        prepared: what `prepare` made of them.
        observations: [B, *observation] float32, the input of every simulation step.
        sim_steps: number of simulation steps.
        neuron: options of all neurons.
        record_at: steps at which outputs are recorded; the last one if empty.
        image_bits: see `core.layers.apply_to_image`.
        each_neuron: whether to return the spikes of each neuron too (`Simulation.fired`).
    """
    steps = require_record_at(record_at, sim_steps, neuron)
    currents = apply_to_image(
        next(iter(layers)), observations, image_bits
    )  # [B, ...], the same at every step
    pixels_last = currents.flatten(2).mT if currents.ndim == 4 else currents.unsqueeze(1)
    images = pixels_last.contiguous().numpy()  # [B, P, C]
    batch, outputs = len(images), prepared[-1].out_channels
    counts = np.zeros((len(steps), batch, outputs), np.float32)
    residuals = np.zeros_like(counts)
    spikes = np.zeros((len(steps), batch, len(prepared) + 1), np.float32)
    until = np.array(steps) - 1
    sizes = [images.shape[1:], *((layer.out_width**2, layer.out_channels) for layer in prepared)]
    fired = [np.zeros((batch, *size), np.float32) for size in sizes] if each_neuron else []
    fire, threads = _FIRE[neuron.firing], min(torch.get_num_threads(), batch)

    def one(index: int, workspace: list[_Spikes]) -> None:
        before = workspace[0]
        # With a constant current there are no negative spikes, and no reason to fire afterwards.
        _fire_constantly(images[index], neuron.v_init, *before)
        spikes[:, index, 0] = before.lengths.cumsum()[until]
        for position, (layer, now) in enumerate(zip(prepared, workspace[1:], strict=True)):
            starts = before.starts if layer.kernel > 1 else before.starts[[0, -1]]
            is_output = position == len(prepared) - 1
            recorded = (
                np.array(steps if is_output else (), np.int64),
                counts[:, index],
                residuals[:, index],
            )
            fire(before.events, starts, *layer, np.float32(neuron.v_init), *now, *recorded)
            spikes[:, index, position + 1] = now.lengths.cumsum()[until]
            before = now
        for of_layer, spent in zip(fired, workspace, strict=False):  # empty unless each_neuron
            of_layer[index] = spent.of_neurons().reshape(of_layer.shape[1:])

    def share(first: int) -> None:
        workspace = [_no_spikes(sim_steps, *size) for size in sizes]
        for index in range(first, batch, threads):
            one(index, workspace)

    list(_pool.map(share, range(threads)))
    return Simulation(
        torch.from_numpy(counts),
        torch.from_numpy(residuals),
        torch.from_numpy(spikes),
        layer_counts=[],
        membranes=[],
        # Channels first, as elsewhere.
        fired=[torch.from_numpy(of_layer).mT.flatten(1) for of_layer in fired],
    )
