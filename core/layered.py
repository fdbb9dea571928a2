"""Agents with layers: what each layer hears and fires, and the operations that follow from it."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.agents import Agent
from core.games import Game, Tier
from core.layers import HIDDEN_LAYERS, Hidden, Layers, Padding, build_layers, format_layers, usual_layers
from core.operations import LayerOperations, fan_out


class LayerTrace(NamedTuple):
    """Inputs and spikes of one layer in one batch of decisions, from which operations are counted."""

    heard: Tensor
    """[B, *input shape]: the image, activations, or the number of spikes (of either sign) of each input."""
    hears_spikes: bool
    """Whether the inputs are spikes."""
    fired: Tensor | None
    """[B, *output shape]: number of spikes (of either sign) of each neuron; None if they do not spike."""
    neuron_sim_steps: Tensor
    """[B] float32: simulation steps in which the membranes were updated; 0 without membranes."""


def layer_traces(
    observations: Tensor, fired: Sequence[Tensor], neuron_sim_steps: Sequence[Tensor]
) -> list[LayerTrace]:
    """Traces of a network whose first layer gets the image, and each later layer the spikes of the previous one.

    Args:
        observations: [B, *observation].
        fired: `LayerTrace.fired` of every spiking layer. Every layer spikes, except perhaps the last.
        neuron_sim_steps: `LayerTrace.neuron_sim_steps` of every layer.
    """
    heard = [observations, *fired]
    return [
        LayerTrace(heard[index], index > 0, fired[index] if index < len(fired) else None, steps)
        for index, steps in enumerate(neuron_sim_steps)
    ]


class Layered(Agent):
    """An agent made of layers (`core.layers`), of which every neuron can be looked at.

    Args:
        game: the game, which gives observation and actions.
        bias: whether layers have biases.
        padding: padding of the convolutions.
        hidden: hidden layers; None for those that the game's tier usually has.
    """

    architecture: Mapping[Tier, Hidden] = HIDDEN_LAYERS
    """The hidden layers that each tier usually has."""
    layers: Layers
    """Convolutions and fully connected layers, the output layer included."""
    layer_shapes: list[tuple[int, ...]]
    """Output shape of each layer, without batch."""

    def __init__(
        self, game: Game, bias: bool = True, padding: Padding = "valid", hidden: Hidden | None = None
    ):
        super().__init__()
        self.game = game
        self.bias = bias
        self.padding: Padding = padding
        self.hidden = usual_layers(game, self.architecture) if hidden is None else hidden
        self.layers, self.layer_shapes = build_layers(game, self.hidden, bias, padding)

    def layers_config(self) -> dict[str, str]:
        """The entry `layers` of `config`, for `layers_from_config`; none if the layers are the tier's usual ones."""
        usual = self.architecture.get(self.game.tier)
        return {} if self.hidden == usual else {"layers": format_layers(self.hidden)}

    @abc.abstractmethod
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        """Inputs and spikes of each layer, first to last, in a batch of decisions.

        It takes the arguments of `decide` and is slower. Its spikes are the same, but for each neuron.
        """

    @property
    def unrolled_sim_steps(self) -> int:
        """Simulation steps that a gradient goes through; 1 without time."""
        return 1

    def activation_bytes(self, rows: int) -> int:
        """Bytes of one float32 for every neuron and so many observations."""
        return 4 * rows * sum(map(math.prod, self.layer_shapes))

    def gradient_bytes(self, rows: int) -> int:
        # Measured on Pong's and Breakout's networks: what is kept of each layer, with its gradient and a copy.
        return super().gradient_bytes(rows) + 3 * self.unrolled_sim_steps * self.activation_bytes(rows)

    def representation(self, observations: Tensor) -> Tensor:
        output = self.trace(observations)[-1]
        heard = output.heard.flatten(1)
        return heard / self.sim_steps if output.hears_spikes else heard

    def fan_out(self, index: int) -> Tensor:
        """Number of neurons of a layer that each of its inputs reaches, with the shape of the input."""
        layer, shape = list(self.layers)[index], (self.game.observation_shape, *self.layer_shapes)[index]
        inputs = torch.empty(1, *shape, device=self.device)
        return fan_out(layer, inputs.flatten(1) if isinstance(layer, nn.Linear) else inputs).reshape(shape)

    def operations(self, observations: Tensor) -> list[LayerOperations]:
        return [
            _operations(self.fan_out(index).double(), math.prod(shape), trace)
            for index, (shape, trace) in enumerate(
                zip(self.layer_shapes, self.trace(observations), strict=True)
            )
        ]


def _operations(reached: Tensor, num_neurons: int, trace: LayerTrace) -> LayerOperations:
    heard = trace.heard
    arrivals = heard.double() if trace.hears_spikes else (heard != 0).double()
    operations = (arrivals * reached).flatten(1).sum(1)
    none = torch.zeros_like(operations)
    return LayerOperations(
        num_neurons=num_neurons,
        binary_input=trace.hears_spikes or bool(((heard == 0) | (heard == 1)).all()),
        dense_macs=round(reached.sum().item()),
        effective_macs=none if trace.hears_spikes else operations,
        acs=operations if trace.hears_spikes else none,
        neuron_updates=num_neurons * trace.neuron_sim_steps.double(),
        spikes=none if trace.fired is None else trace.fired.double().flatten(1).sum(1),
    )
