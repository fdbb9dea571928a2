"""tan2021: percentile weight normalisation of a DQN into IF neurons (Tan, Patel & Kozma 2021, arXiv 2009.14456).

For every layer l, the output layer included, the scale lambda_l is a high percentile of the layer's outputs on
calibration states. Outputs are those before the ReLU, which makes no difference to a positive percentile. Then

    W_l <- W_l lambda_{l-1} / lambda_l,    b_l <- b_l / lambda_l,    lambda_0 = 1,

so that a neuron at the percentile fires at every simulation step with threshold 1.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from convert.method import METHODS, Converted, Method, Training
from convert.scaling import scaled_network
from core.dqn import DQN
from core.errors import Refusal
from core.ranges import Real
from core.rate_coded.network import RateCoding
from play.states import batches, q_values


@METHODS.register("tan2021")
@dataclass(frozen=True, kw_only=True)
class Tan2021(Method):
    """The scale of each layer is a percentile of its outputs (Tan et al. 2021)."""

    depends_on_sim_steps: ClassVar[bool] = False

    percentile: Annotated[float, Real(0, 100, above=True)] = 99.9
    """Percentile of a layer's outputs that fires at every simulation step, above 0 and up to 100."""

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        found, guarded = guarded_scales(dqn, states, self.percentile)
        scales = [torch.tensor([scale]) for scale in found]
        return Converted(scaled_network(dqn, scales, coding), scales, guarded)


@torch.no_grad()
def percentiles(dqn: DQN, states: np.ndarray, percentile: float) -> list[float]:
    """The exact percentile of every layer's outputs over all neurons and states, in one pass.

    Only the largest values that the percentile can depend on are kept, so 15,000 states of an Atari network fit in
    memory.

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
def guarded_scales(dqn: DQN, states: np.ndarray, percentile: float) -> tuple[list[float], bool]:
    """The scale of each layer, and whether that of the output layer had to be replaced.

    An agent that expects to lose has only negative Q-values. Its output percentile is not positive, and dividing by it
    would reverse the preferences (Tan's code does that). The guard, which is not in the paper, takes the percentile of
    the outputs' magnitudes instead. It is positive, so the order of Q-values is kept.

    Raises:
        Refusal: the percentile of a hidden layer's outputs is not positive, or every Q-value is 0.
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
