"""The reference simulation of a converted network, in plain torch, on any device.

Layers do not feed back, so each can be run over a block of simulation steps before the next one starts:
the block's steps are folded into the batch of one convolution, and only the membranes live on from block
to block. Memory stays that of one block, however many steps are simulated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.errors import Refusal
from core.networks import Layers, apply_layer

BLOCK_ROWS = 128
"""Rows (batch x simulation steps) of one block: large enough to fill a convolution, small enough for a cache."""


class Simulation(NamedTuple):
    """What one simulation gave, at R recorded steps and at its end."""

    counts: Tensor
    """[R, B, A] output spikes so far."""
    residuals: Tensor
    """[R, B, A] output membranes, in units of the threshold."""
    spikes: Tensor
    """[B, L] spikes of each layer (the output layer is the last) over all steps."""


def require_record_at(record_at: Sequence[int], sim_steps: int) -> tuple[int, ...]:
    """The steps at which outputs are recorded: the last one if none is said; refused if they cannot be."""
    steps = tuple(record_at) or (sim_steps,)
    if list(steps) != sorted({step for step in steps if 1 <= step <= sim_steps}):
        raise Refusal(f"record_at is {list(steps)}: ascending steps from 1 to {sim_steps} are needed")
    return steps


@torch.no_grad()
def simulate(
    layers: Layers,
    observations: Tensor,
    sim_steps: int,
    *,
    layer_delay: bool = False,
    v_init: float = 0.0,
    record_at: Sequence[int] = (),
) -> Simulation:
    """Soft-reset IF neurons (threshold 1) after every layer, driven by a constant image.

    Args:
        layers: normalised convolutions and fully connected layers.
        observations: [B, *observation] float32, the current of every simulation step.
        sim_steps: how many steps to simulate.
        layer_delay: whether a spike takes one step to reach the next layer (the image too), while
            biases flow from the first step: how BindsNET, and so Tan et al. 2021, simulate.
        v_init: membrane of every neuron before the first step.
        record_at: steps (1 to sim_steps, ascending) at which outputs are recorded; the last one if empty.
    """
    record_at = require_record_at(record_at, sim_steps)
    batch = observations.shape[0]
    block = max(1, BLOCK_ROWS // batch)
    first = next(iter(layers))
    image_current = apply_layer(first, observations)  # [B, ...], the same at every step
    membranes: list[Tensor] = []
    previous: list[Tensor] = []  # each layer's spikes at the step before the block, for layer_delay
    spikes = torch.zeros(batch, len(layers), device=observations.device)
    counts: Tensor | None = None
    recorded_counts, recorded_residuals = [], []

    for start in range(0, sim_steps, block):
        steps = min(block, sim_steps - start)
        trains = image_current.expand(steps, *image_current.shape).clone()
        if layer_delay and start == 0:
            trains[0] = apply_layer(first, torch.zeros_like(observations))  # the bias alone
        for index, layer in enumerate(layers):
            if index > 0:
                arriving = trains
                if layer_delay:
                    before = torch.zeros_like(trains[:1]) if start == 0 else previous[index - 1]
                    arriving = torch.cat([before, trains[:-1]])
                    previous[index - 1 : index] = [trains[-1:].clone()]
                trains = apply_layer(layer, arriving.flatten(0, 1)).unflatten(0, (steps, batch))
            if start == 0:
                membranes.append(torch.full_like(trains[0], v_init))
            is_output = index == len(layers) - 1
            v = membranes[index]
            for step in range(steps):
                v += trains[step]
                torch.ge(v, 1.0, out=trains[step])
                v -= trains[step]
                if is_output:
                    counts = trains[step].clone() if counts is None else counts + trains[step]
                    if start + step + 1 in record_at:
                        recorded_counts.append(counts)
                        recorded_residuals.append(v.clone())
            spikes[:, index] += trains.sum(0).flatten(1).sum(1)
    return Simulation(torch.stack(recorded_counts), torch.stack(recorded_residuals), spikes)
