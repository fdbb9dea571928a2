"""Tan, Patel & Kozma 2021 (arXiv 2009.14456): percentile weight normalisation of a DQN into IF neurons.

For every layer l, output layer included, lambda_l is a high percentile of what the layer gives on
calibration states (before the ReLU, which is the same for a positive percentile); then

    W_l <- W_l lambda_{l-1} / lambda_l,    b_l <- b_l / lambda_l,    lambda_0 = 1,

so that a neuron at the percentile fires at every simulation step with threshold 1.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches, q_values


@torch.no_grad()
def percentiles(dqn: DQN, states: np.ndarray, percentile: float) -> list[float]:
    """The exact percentile of every layer's outputs over all neurons and states, in one pass.

    Only the largest values that the percentile can depend on are kept, so 15,000 states of an Atari
    network need no gigabytes.

    Args:
        dqn: the network.
        states: [S, *observation] as the environments gave them.
        percentile: in (0, 100], linearly interpolated as NumPy does.

    Returns:
        One value a layer.
    """
    sizes = [math.prod(shape) * len(states) for shape in dqn.layer_shapes]
    positions = [(size - 1) * percentile / 100 for size in sizes]  # from the smallest value
    keep = [size - math.floor(position) for size, position in zip(sizes, positions, strict=True)]
    largest: list[Tensor] = [torch.empty(0)] * len(sizes)
    for batch in batches(dqn, states):
        for index, output in enumerate(dqn.preactivations(batch)):
            candidates = torch.cat([largest[index].to(output.device), output.flatten()])
            largest[index] = candidates.topk(min(keep[index], candidates.numel()), sorted=False).values
    found = []
    for values, position in zip(largest, positions, strict=True):
        lowest_two = values.double().sort().values[:2]
        below, above = lowest_two[0].item(), lowest_two[-1].item()
        found.append(below + (position - math.floor(position)) * (above - below))
    return found


@torch.no_grad()
def convert(
    dqn: DQN,
    scales: Sequence[float | Sequence[float] | Tensor],
    coding: RateCoding,
) -> RateCodedNetwork:
    """The spiking network of a DQN, given each layer's lambda.

    Args:
        dqn: the network to convert; it is not changed.
        scales: lambda of every layer, positive; or one of every channel, [C], of a hidden layer.
        coding: how the spiking network lives through a decision.
    """
    lambdas = [torch.as_tensor(scale, dtype=torch.float32, device=dqn.device).reshape(-1) for scale in scales]
    if len(scales) != len(dqn.layers) or not all(
        bool(((scale > 0) & scale.isfinite()).all()) for scale in lambdas
    ):
        raise Refusal(
            f"scales are {list(scales)}: one positive number for each of {len(dqn.layers)} layers is needed"
        )
    snn = RateCodedNetwork(dqn.game, coding, dqn.bias, dqn.padding, dqn.hidden)
    previous = torch.ones(1, device=dqn.device)
    before = dqn.game.observation_shape
    for mine, its, scale, shape in zip(snn.layers, dqn.layers, lambdas, dqn.layer_shapes, strict=True):
        weight = its.weight.unflatten(1, (before[0], -1)).flatten(2)  # [outputs, input channels, the rest]
        mine.weight.copy_((weight * previous[:, None] / scale[:, None, None]).reshape(its.weight.shape))
        if mine.bias is not None and its.bias is not None:
            mine.bias.copy_(its.bias / scale)
        previous, before = scale, shape
    snn.output_scale.fill_(lambdas[-1].item())
    return snn.to(dqn.device).requires_grad_(False).eval()


def activations(counts: Tensor, scale: Tensor, sim_steps: int) -> Tensor:
    """What spike counts [B, C, ...] of a layer stand for in the DQN's units, its lambda being [1] or [C]."""
    return counts * scale.to(counts.device).reshape(-1, *[1] * (counts.ndim - 2)) / sim_steps


@torch.no_grad()
def guarded_scales(dqn: DQN, states: np.ndarray, percentile: float) -> tuple[list[float], bool]:
    """Each layer's lambda, and whether the output layer's had to be replaced.

    An agent that expects to lose has only negative Q-values. Its output percentile is not positive, and
    dividing by it would turn the preferences round (Tan's code does that). The guard, ours, takes the
    percentile of the outputs' magnitude instead: a positive scale keeps their order.
    """
    scales = percentiles(dqn, states, percentile)
    for index, scale in enumerate(scales[:-1]):
        if not scale > 0:
            raise Refusal(
                f"layer {index + 1} is dead: percentile {percentile} of its outputs on {len(states)} states is "
                f"{scale:.4g}, a positive one is needed"
            )
    guarded = not scales[-1] > 0
    if guarded:
        magnitudes = np.abs(q_values(dqn, states)).astype(np.float64)
        scales[-1] = float(np.percentile(magnitudes, percentile))
        if not scales[-1] > 0:
            raise Refusal("the output layer is dead: every Q-value is 0 on the calibration states")
    return scales, guarded
