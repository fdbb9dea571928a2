"""threshold-search: the thresholds with which a network of few simulation steps comes closest to its DQN.

An IF neuron with threshold theta that starts at v_init theta turns a constant input z into

    h(z) = theta / T clip(floor(T z / theta + v_init), 0, T),

a staircase under ReLU(z). A high threshold makes its steps coarse, and a low one cuts off large inputs. Each layer, or
each channel, gets the threshold with the least mean squared error on calibration states. Li et al. 2021 (arXiv
2106.06984) search a clipping value for quantisation in the same way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from convert.method import METHODS, Converted, Method, Training
from convert.scaling import largest_q, scaled_network
from core.choices import Granularity
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCoding
from play.states import batches

CANDIDATES = 64
"""Thresholds that are compared, evenly spaced up to the largest output on the calibration states."""

Drives = Callable[[], Iterator[Sequence[tuple[Tensor, Tensor]]]]
"""Starts a pass over the calibration states. A pass yields, for each batch, one pair a layer: the layer's input
currents [B, C, ...] and its wanted activations."""


@METHODS.register("threshold-search")
@dataclass(frozen=True, kw_only=True)
class ThresholdSearch(Method):
    """Scales are the thresholds with the least squared error at the network's simulation steps."""

    v_init: ClassVar[float] = 0.5
    max_sim_steps: ClassVar[int | None] = 64

    thresholds: Granularity = "channel"
    """One threshold a channel or a layer."""

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        scales = least_squares(
            dqn, states, coding.sim_steps, coding.neuron.v_init, self.thresholds == "channel"
        )
        return Converted(scaled_network(dqn, scales, coding), scales)


@torch.no_grad()
def least_squares(
    dqn: DQN, states: np.ndarray, sim_steps: int, v_init: float, by_channel: bool
) -> list[Tensor]:
    """The thresholds of all hidden layers with the least squared error, and the scale of the output layer.

    Args:
        dqn: the network.
        states: [S, *observation] to calibrate on.
        sim_steps: T, for which the thresholds are optimised.
        v_init: membranes before a decision, in thresholds.
        by_channel: one threshold a channel instead of one a layer.

    Returns:
        Positive thresholds [C] or [1] of each hidden layer. For the output layer, its largest magnitude [1], because
        the read-out depends on no threshold.
    """

    def drives() -> Iterator[Sequence[tuple[Tensor, Tensor]]]:
        for batch in batches(dqn, states):
            *hidden, _ = dqn.preactivations(batch)
            yield [(z, z.relu()) for z in hidden]

    return [*search(drives, sim_steps, v_init, by_channel), largest_q(dqn, states)]


@torch.no_grad()
def search(
    drives: Drives, sim_steps: int, v_init: float, by_channel: bool, first_layer: int = 1
) -> list[Tensor]:
    """The thresholds with which layers come closest to their wanted activations.

    Args:
        drives: see `Drives`.
        sim_steps, v_init, by_channel: as in `least_squares`.
        first_layer: number of the first of the layers, for refusals.

    Raises:
        Refusal: no output of a layer is positive on the calibration states.
    """
    largest: list[Tensor] = []
    for layers in drives():
        found = [_by_channel(wanted).amax(1) for _, wanted in layers]
        largest = [torch.maximum(a, b) for a, b in zip(largest, found, strict=True)] if largest else found
    for number, peak in enumerate(largest, start=first_layer):
        require_alive(number, peak)
    peaks = [peak if by_channel else peak.amax().expand(1) for peak in largest]
    # A channel that never fired has no scale of its own. It gets that of the layer, which keeps its bias harmless.
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


def require_alive(number: int, largest: Tensor) -> None:
    """Refuse a layer, the number-th, whose largest outputs [C] on the calibration states are nowhere positive."""
    if not bool((largest > 0).any()):
        raise Refusal(f"layer {number} is dead: none of its outputs on the calibration states is positive")


def _by_channel(z: Tensor) -> Tensor:
    """[C, values] of a layer's outputs [B, C, ...]."""
    return z.movedim(1, 0).flatten(1)
