"""Weights that make up for what quantised inputs lose: layer by layer, in closed form, without gradients or labels.

A layer of the converted network hears rates and not the activations that its weights were made for. Going from the
image to the output, each layer's weights are replaced by those that come closest, over the calibration states, to
what the DQN's layer gives, from the rates that the simulated layers before it really fire (time, order of arrival and
neuron included); then its thresholds are searched for the same target. The idea is that of post-training
quantisation (Nagel et al. 2020, arXiv 2004.10568, reconstruct layer outputs; Frantar et al. 2022, arXiv 2210.17323,
solve for weights with the inputs' second moments); here with a one-sided target, because a ReLU that gives 0 does not
tell how negative its input was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convert import tan2021, thresholds
from core.dqn import DQN
from core.layers import Layer, Layers, apply_layer, padded
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches

RIDGE = 1e-3
"""How strongly weights are held where they were: this share of the inputs' mean squared rate."""
ROUNDS = 3
"""Solutions of a hidden layer, each with the one-sided target that the one before gives."""


@torch.no_grad()
def reconstruct(
    dqn: DQN, states: np.ndarray, coding: RateCoding, by_channel: bool
) -> tuple[RateCodedNetwork, list[Tensor]]:
    """The converted network whose layers were fitted to the DQN's, and its thresholds in the DQN's units.

    Args:
        dqn: the network to convert; it is not changed.
        states: [S, *observation] to fit on.
        coding: how the spiking network lives through a decision; the fit is for its sim_steps and neurons.
        by_channel: one threshold a channel instead of one a layer.
    """
    fitted = DQN(dqn.game, dqn.bias, dqn.padding, dqn.hidden)
    fitted.load_state_dict(dqn.state_dict())
    fitted.to(dqn.device)
    ones = torch.ones(1, device=dqn.device)
    scales: list[Tensor] = []
    last = len(dqn.layers) - 1
    for index, layer in enumerate(fitted.layers):
        inputs: list[Tensor] = []
        if index > 0:
            partial = tan2021.convert(fitted, scales + [ones] * (last + 1 - index), coding)
            inputs = _rates(partial, states, index, scales[-1])
            _fit(layer, dqn, states, inputs, index, 1 if index == last else ROUNDS)
        if index < last:
            drives = _Drives(layer, dqn, states, inputs, index)
            found = thresholds.search(drives, coding.sim_steps, coding.neuron.v_init, by_channel, index + 1)
            scales += found
    scales.append(thresholds.output_scale(dqn, states))
    return tan2021.convert(fitted, scales, coding), scales


def _rates(partial: RateCodedNetwork, states: np.ndarray, num_layers: int, scale: Tensor) -> list[Tensor]:
    """What a layer hears, batch by batch, in the DQN's units: simulated rates of the layer before it."""
    layers = Layers(list(partial.layers)[:num_layers])
    coding = partial.coding
    rates = []
    for batch in batches(partial, states):
        counts = torch_engine.simulate(layers, batch, coding.sim_steps, coding.neuron).layer_counts[-1][0]
        rates.append(tan2021.activations(counts, scale, coding.sim_steps))
    return rates


class _Drives:
    """What drives one layer and what it should give, see `thresholds.Drives`."""

    def __init__(self, layer: Layer, dqn: DQN, states: np.ndarray, inputs: Sequence[Tensor], index: int):
        self.layer, self.dqn, self.states, self.inputs, self.index = layer, dqn, states, inputs, index

    def __call__(self) -> Iterator[Sequence[tuple[Tensor, Tensor]]]:
        for position, batch in enumerate(batches(self.dqn, self.states)):
            heard = self.inputs[position] if self.inputs else batch
            wanted = self.dqn.preactivations(batch)[self.index]
            yield [(apply_layer(self.layer, heard), wanted.relu())]


def _fit(
    layer: Layer, dqn: DQN, states: np.ndarray, inputs: Sequence[Tensor], index: int, rounds: int
) -> None:
    """Ridge regression of the DQN's layer outputs on the inputs, around the weights there are."""

    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        """Views of the inputs [N, K + 1], a one appended for the bias, and wanted outputs [N, C]."""
        for batch, heard in zip(batches(dqn, states), inputs, strict=True):
            wanted = dqn.preactivations(batch)[index]
            if isinstance(layer, nn.Conv2d):
                views = F.unfold(padded(layer, heard), layer.kernel_size, stride=layer.stride)
                views = views.mT.flatten(0, 1)
                wanted = wanted.flatten(2).mT.flatten(0, 1)
            else:
                views = heard.flatten(1)
            if layer.bias is not None:
                views = F.pad(views, (0, 1), value=1.0)
            yield views, wanted

    weights = layer.weight.flatten(1).T
    if layer.bias is not None:
        weights = torch.cat([weights, layer.bias[None]])
    moments = torch.zeros(len(weights), len(weights), dtype=torch.float64, device=dqn.device)
    for views, _ in rows():
        moments += (views.T @ views).double()
    moments.diagonal().add_(RIDGE * moments.diagonal().mean().clamp(min=1e-12))
    factor = torch.linalg.cholesky(moments)
    for _ in range(rounds):
        gradient = torch.zeros_like(weights, dtype=torch.float64)
        for views, wanted in rows():
            given = views @ weights
            if rounds > 1:  # a hidden layer: below 0, any negative value is as good
                wanted = torch.where(wanted > 0, wanted, given.clamp(max=0.0))
            gradient += (views.T @ (wanted - given)).double()
        weights = weights + torch.cholesky_solve(gradient, factor).float()
    if layer.bias is not None:
        layer.bias.copy_(weights[-1])
        weights = weights[:-1]
    layer.weight.copy_(weights.T.reshape(layer.weight.shape))
