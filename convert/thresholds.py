"""Thresholds that make a network of few simulation steps compute what its DQN computes.

An IF neuron with threshold theta that starts at v_init theta turns a constant input z into

    h(z) = theta / T clip(floor(T z / theta + v_init), 0, T),

a staircase under ReLU(z): a high threshold makes its steps coarse, a low one cuts off large inputs. Here each
layer, or each of its channels, gets the threshold with the least mean squared error on calibration states
(Li et al. 2021, arXiv 2106.06984, search a clipping value for quantisation in the same way).
"""

import numpy as np
import torch
from torch import Tensor

from convert.states import batches
from core.errors import Refusal
from core.networks import DQN

CANDIDATES = 64
"""Thresholds that are compared, evenly spaced up to the largest output on the calibration states."""


@torch.no_grad()
def least_squares(
    dqn: DQN, states: np.ndarray, sim_steps: int, v_init: float, by_channel: bool
) -> list[Tensor]:
    """The threshold of every hidden layer (or channel) with the least squared error; of the output, its largest.

    Args:
        dqn: the network.
        states: [S, *observation] to calibrate on.
        sim_steps: T, for which the thresholds are best.
        v_init: where membranes start, in thresholds.
        by_channel: one threshold a channel (a neuron, in fully connected layers) instead of one a layer.

    Returns:
        [C] or [1] positive thresholds a layer; [1] for the output layer, whose read-out depends on no threshold.
    """
    *shapes, _ = dqn.layer_shapes
    largest = [torch.zeros(shape[0], device=dqn.device) for shape in shapes]
    largest_q = torch.zeros(1, device=dqn.device)
    for batch in batches(dqn, states):
        *hidden, q = dqn.preactivations(batch)
        for index, z in enumerate(hidden):
            largest[index] = torch.maximum(largest[index], _by_channel(z).amax(1))
        largest_q = torch.maximum(largest_q, q.abs().amax())
    for index, peak in enumerate(largest):
        if not bool((peak > 0).any()):
            raise Refusal(
                f"layer {index + 1} is dead: none of its outputs on {len(states)} states is positive"
            )
    peaks = [peak if by_channel else peak.amax().expand(1) for peak in largest]
    # A channel that never fired has no scale of its own; any will do, and the layer's keeps its bias harmless.
    peaks = [torch.where(peak > 0, peak, peak.amax()) for peak in peaks]
    fractions = torch.arange(1, CANDIDATES + 1, device=dqn.device) / CANDIDATES
    errors = [torch.zeros(CANDIDATES, len(peak), device=dqn.device) for peak in peaks]
    for batch in batches(dqn, states):
        *hidden, _ = dqn.preactivations(batch)
        for z, peak, error in zip(hidden, peaks, errors, strict=True):
            values = _by_channel(z).relu()  # [C, values]
            for row, fraction in enumerate(fractions):
                theta = (fraction * peak)[:, None]
                staircase = (
                    theta / sim_steps * (sim_steps * values / theta + v_init).floor().clamp(0, sim_steps)
                )
                wrong = (staircase - values).square().sum(1)
                error[row] += wrong if by_channel else wrong.sum()
    chosen = [peak * fractions[error.argmin(0)] for peak, error in zip(peaks, errors, strict=True)]
    if not bool(largest_q > 0):
        raise Refusal("the output layer is dead: every Q-value is 0 on the calibration states")
    return [*chosen, largest_q]


def _by_channel(z: Tensor) -> Tensor:
    """[C, values] of a layer's outputs [B, C, ...]."""
    return z.movedim(1, 0).flatten(1)
