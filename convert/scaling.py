"""Weights of a DQN scaled to those of neurons with threshold 1, as every method does.

The scale lambda_l of a layer is the activation that a firing rate of 1 stands for. With

    W_l <- W_l lambda_{l-1} / lambda_l,    b_l <- b_l / lambda_l,    lambda_0 = 1,

rates are activations in units of the scales (Rueckauer et al. 2017, doi 10.3389/fnins.2017.00682).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import q_values


@torch.no_grad()
def scaled_network(
    dqn: DQN,
    scales: Sequence[float | Sequence[float] | Tensor],
    coding: RateCoding,
) -> RateCodedNetwork:
    """The rate-coded network of a DQN, given the scale of each layer.

    Args:
        dqn: the network to convert; it is not changed.
        scales: one positive number for each layer, or [C], one for each channel, for a hidden layer.
        coding: how the network is simulated.

    Raises:
        Refusal: the scales do not match the layers, or are not positive and finite.
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
    """The activations of the DQN that the spike counts of a layer represent.

    Args:
        counts: [B, C, ...] spikes in all simulation steps.
        scale: [1] or [C] of the layer.
        sim_steps: number of simulation steps in which the spikes were counted.
    """
    return counts * scale.to(counts.device).reshape(-1, *[1] * (counts.ndim - 2)) / sim_steps


def largest_q(dqn: DQN, states: np.ndarray) -> Tensor:
    """[1]: the largest magnitude of a Q-value on the states, a scale for the output layer.

    Raises:
        Refusal: every Q-value is 0.
    """
    largest = np.abs(q_values(dqn, states)).max()
    if not largest > 0:
        raise Refusal("the output layer is dead: every Q-value is 0 on the calibration states")
    return torch.tensor([largest], device=dqn.device)
