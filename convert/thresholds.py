"""Thresholds that make a network of few simulation steps compute what its DQN computes.

An IF neuron with threshold theta that starts at v_init theta turns a constant input z into

    h(z) = theta / T clip(floor(T z / theta + v_init), 0, T),

a staircase under ReLU(z): a high threshold makes its steps coarse, a low one cuts off large inputs. Here each
layer, or each of its channels, gets the threshold with the least mean squared error on calibration states
(Li et al. 2021, arXiv 2106.06984, search a clipping value for quantisation in the same way).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from core.dqn import DQN
from core.errors import Refusal
from play.states import batches, q_values

CANDIDATES = 64
"""Thresholds that are compared, evenly spaced up to the largest output on the calibration states."""

Drives = Callable[[], Iterator[Sequence[tuple[Tensor, Tensor]]]]
"""Passes over the calibration states; batch by batch, for each layer: what drives it and what it should give."""


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

    def drives() -> Iterator[Sequence[tuple[Tensor, Tensor]]]:
        for batch in batches(dqn, states):
            *hidden, _ = dqn.preactivations(batch)
            yield [(z, z.relu()) for z in hidden]

    return [*search(drives, sim_steps, v_init, by_channel), output_scale(dqn, states)]


@torch.no_grad()
def search(
    drives: Drives, sim_steps: int, v_init: float, by_channel: bool, first_layer: int = 1
) -> list[Tensor]:
    """The thresholds with which layers come closest to what they should give.

    Args:
        drives: see `Drives`.
        sim_steps, v_init, by_channel: as in `least_squares`.
        first_layer: number of the first of the layers, for complaints.
    """
    largest: list[Tensor] = []
    for layers in drives():
        found = [_by_channel(wanted).amax(1) for _, wanted in layers]
        largest = [torch.maximum(a, b) for a, b in zip(largest, found, strict=True)] if largest else found
    for number, peak in enumerate(largest, start=first_layer):
        if not bool((peak > 0).any()):
            raise Refusal(
                f"layer {number} is dead: none of its outputs on the calibration states is positive"
            )
    peaks = [peak if by_channel else peak.amax().expand(1) for peak in largest]
    # A channel that never fired has no scale of its own; any will do, and the layer's keeps its bias harmless.
    peaks = [torch.where(peak > 0, peak, peak.amax()) for peak in peaks]
    fractions = torch.arange(1, CANDIDATES + 1, device=peaks[0].device) / CANDIDATES
    errors = [torch.zeros(CANDIDATES, len(peak), device=peak.device) for peak in peaks]
    for layers in drives():
        for (drive, wanted), peak, error in zip(layers, peaks, errors, strict=True):
            z, target = _by_channel(drive), _by_channel(wanted)  # [C, values]
            for row, fraction in enumerate(fractions):
                theta = (fraction * peak)[:, None]
                staircase = theta / sim_steps * (sim_steps * z / theta + v_init).floor().clamp(0, sim_steps)
                wrong = (staircase - target).square().sum(1)
                error[row] += wrong if by_channel else wrong.sum()
    return [peak * fractions[error.argmin(0)] for peak, error in zip(peaks, errors, strict=True)]


def output_scale(dqn: DQN, states: np.ndarray) -> Tensor:
    """[1]: the largest magnitude of a Q-value."""
    largest = np.abs(q_values(dqn, states)).max()
    if not largest > 0:
        raise Refusal("the output layer is dead: every Q-value is 0 on the calibration states")
    return torch.tensor([largest], device=dqn.device)


def _by_channel(z: Tensor) -> Tensor:
    """[C, values] of a layer's outputs [B, C, ...]."""
    return z.movedim(1, 0).flatten(1)
