"""reconstruct: weights fitted to simulated input rates, layer by layer, in closed form.

A layer of the converted network receives rates, but its weights were trained on activations. From the image to the
output, the weights of each layer are fitted again. Inputs are the rates of the simulated layers before it, targets are
the outputs of the DQN's layer on the calibration states. Then the layer's thresholds are searched for the same target.
No gradients and no labels are needed.

The idea is that of post-training quantisation. Nagel et al. 2020 (arXiv 2004.10568) reconstruct layer outputs, and
Frantar et al. 2022 (arXiv 2210.17323) solve for weights with the inputs' second moments. Here the target is one-sided:
where a ReLU outputs 0, any negative input is equally good.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convert.method import METHODS, Converted, Method, Training
from convert.methods.threshold_search import search
from convert.scaling import activations, largest_q, scaled_network
from core.choices import Firing, Granularity
from core.dqn import DQN
from core.layers import Layer, Layers, apply_layer, padded
from core.progress import Progress
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches

RIDGE = 1e-3
"""Weight of the penalty on changes of the weights, as a share of the inputs' mean squared rate."""
SOLUTIONS = 3
"""How often a hidden layer is fitted. Each fit takes its one-sided target from the one before."""


@METHODS.register("reconstruct")
@dataclass(frozen=True, kw_only=True)
class Reconstruct(Method):
    """Weights and thresholds of each layer are fitted, in closed form, to the rates that it receives."""

    firing: ClassVar[Firing] = "signed"
    v_init: ClassVar[float] = 0.5
    max_sim_steps: ClassVar[int | None] = 64

    thresholds: Granularity = "channel"
    """One threshold a channel or a layer."""

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        # What a layer receives in all states, twice for a moment.
        return 2 * 4 * states * max(map(math.prod, dqn.layer_shapes))

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        return Converted(*self.fitted(dqn, states, coding))

    def fitted(
        self, dqn: DQN, states: np.ndarray, coding: RateCoding
    ) -> tuple[RateCodedNetwork, list[Tensor]]:
        """The network, and its thresholds in the DQN's units."""
        return reconstruct(dqn, states, coding, self.thresholds == "channel")


@torch.no_grad()
def reconstruct(
    dqn: DQN, states: np.ndarray, coding: RateCoding, by_channel: bool
) -> tuple[RateCodedNetwork, list[Tensor]]:
    """The network whose layers were fitted to those of the DQN, and its thresholds in the DQN's units.

    Args:
        dqn: the network to convert; it is not changed.
        states: [S, *observation] to fit on.
        coding: how the network is simulated; the fit is for its simulation steps and neurons.
        by_channel: one threshold a channel instead of one a layer.
    """
    fitting = Fitting(dqn, states, coding)
    with Progress(f"fit at {coding.sim_steps} sim steps", len(dqn.hidden) + 1, "layers") as progress:
        for _ in dqn.hidden:
            fitting.fit_hidden(by_channel)
            progress.advance(1)
        fitting.fit_output()
        progress.advance(1)
    return fitting.network(), fitting.scales


class Fitting:
    """A copy of a DQN whose layers are fitted one after the other.

    Args:
        dqn: the network to convert; it is not changed.
        states: [S, *observation] to fit on.
        coding: how the network is simulated.
    """

    def __init__(self, dqn: DQN, states: np.ndarray, coding: RateCoding):
        self.dqn, self.states, self.coding = dqn, states, coding
        self.fitted = DQN(dqn.game, dqn.bias, dqn.padding, dqn.hidden)
        self.fitted.load_state_dict(dqn.state_dict())
        self.fitted.to(dqn.device)
        self.scales: list[Tensor] = []
        """Thresholds of the layers that are finished, in the DQN's units."""

    @property
    def layer(self) -> Layer:
        """The layer whose turn it is."""
        return list(self.fitted.layers)[len(self.scales)]

    def network(self, *scales: Tensor) -> RateCodedNetwork:
        """The network so far; with `scales`, thresholds of the next layers. Those of layers after them are 1."""
        known = [*self.scales, *scales]
        ones = [torch.ones(1, device=self.dqn.device)] * (len(self.fitted.layers) - len(known))
        return scaled_network(self.fitted, known + ones, self.coding)

    def inputs(self) -> list[Tensor]:
        """What the layer receives, in the DQN's units, one tensor a batch: the rates of the simulated layers before it.

        Empty for the first layer, which receives the image.
        """
        if not self.scales:
            return []
        return _simulated_activations(self.network(), self.states, len(self.scales), self.scales[-1])

    def fit_weights(self, solutions: int = SOLUTIONS) -> list[Tensor]:
        """Fit the layer's weights to its inputs, which are returned."""
        inputs = self.inputs()
        if inputs:
            _fit(self.layer, self.dqn, self.states, inputs, len(self.scales), solutions)
        return inputs

    def fit_hidden(self, by_channel: bool) -> None:
        """Fit weights and thresholds of a hidden layer."""
        index = len(self.scales)
        drives = _LayerDrives(self.layer, self.dqn, self.states, self.fit_weights(), index)
        neuron = self.coding.neuron
        self.scales += search(drives, self.coding.sim_steps, neuron.v_init, by_channel, index + 1)

    def fit_output(self) -> None:
        """Fit the weights of the output layer."""
        self.fit_weights(1)
        self.scale_output()

    def scale_output(self) -> None:
        """Finish the output layer. Its scale is the largest Q-value, because no threshold matters there."""
        self.scales.append(largest_q(self.dqn, self.states))


def _simulated_activations(
    partial: RateCodedNetwork, states: np.ndarray, num_layers: int, scale: Tensor
) -> list[Tensor]:
    """The rates of a layer, simulated with all layers before it, in the DQN's units; one tensor a batch."""
    layers = Layers(list(partial.layers)[:num_layers])
    coding = partial.coding
    found = []
    for batch in batches(partial, states):
        counts = torch_engine.simulate(layers, batch, coding.sim_steps, coding.neuron).layer_counts[-1][0]
        found.append(activations(counts, scale, coding.sim_steps))
    return found


class _LayerDrives:
    """The `Drives` of one layer: its currents from simulated inputs, and the DQN's activations."""

    def __init__(self, layer: Layer, dqn: DQN, states: np.ndarray, inputs: Sequence[Tensor], index: int):
        self.layer, self.dqn, self.states, self.inputs, self.index = layer, dqn, states, inputs, index

    def __call__(self) -> Iterator[Sequence[tuple[Tensor, Tensor]]]:
        for position, batch in enumerate(batches(self.dqn, self.states)):
            received = self.inputs[position] if self.inputs else batch
            wanted = self.dqn.preactivations(batch)[self.index]
            yield [(apply_layer(self.layer, received), wanted.relu())]


def _fit(
    layer: Layer,
    dqn: DQN,
    states: np.ndarray,
    inputs: Sequence[Tensor],
    index: int,
    solutions: int,
) -> None:
    """Ridge regression of the DQN's layer outputs on the inputs, around the present weights."""

    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        """Patches of the inputs [N, K + 1], a one appended for the bias, and wanted outputs [N, C]."""
        for batch, received in zip(batches(dqn, states), inputs, strict=True):
            wanted = dqn.preactivations(batch)[index]
            if isinstance(layer, nn.Conv2d):
                patches = F.unfold(padded(layer, received), layer.kernel_size, stride=layer.stride)
                patches = patches.mT.flatten(0, 1)
                wanted = wanted.flatten(2).mT.flatten(0, 1)
            else:
                patches = received.flatten(1)
            if layer.bias is not None:
                patches = F.pad(patches, (0, 1), value=1.0)
            yield patches, wanted

    weights = layer.weight.flatten(1).T
    if layer.bias is not None:
        weights = torch.cat([weights, layer.bias[None]])
    moments = torch.zeros(len(weights), len(weights), dtype=torch.float64, device=dqn.device)
    for patches, _ in rows():
        moments += (patches.T @ patches).double()
    moments.diagonal().add_(RIDGE * moments.diagonal().mean().clamp(min=1e-12))
    factor = torch.linalg.cholesky(moments)
    for _ in range(solutions):
        gradient = torch.zeros_like(weights, dtype=torch.float64)
        for patches, wanted in rows():
            given = patches @ weights
            if solutions > 1:  # a hidden layer: below 0, any negative value is equally good
                wanted = torch.where(wanted > 0, wanted, given.clamp(max=0.0))
            gradient += (patches.T @ (wanted - given)).double()
        weights = weights + torch.cholesky_solve(gradient, factor).float()
    if layer.bias is not None:
        layer.bias.copy_(weights[-1])
        weights = weights[:-1]
    layer.weight.copy_(weights.T.reshape(layer.weight.shape))
