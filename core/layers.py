"""Layers as data: convolutions and fully connected layers, from the observation to the action scores."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import Refusal
from core.games import Game, Tier

Padding = Literal["valid", "same"]
PADDINGS: tuple[Padding, ...] = ("valid", "same")
"""What surrounds a convolution's input. valid: nothing (Mnih et al. 2015). same: zeros, so that ceil(size / stride)
come out, as in TensorFlow (OpenAI Baselines, Dopamine)."""


@dataclass(frozen=True)
class Conv:
    """A convolution, with the padding that its network has."""

    out_channels: int
    kernel_size: int
    stride: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; what precedes it is flattened."""

    out_features: int


HIDDEN_LAYERS: Mapping[Tier, tuple[Conv | Dense, ...]] = {
    # Mnih et al. 2015, Methods; used by Liu et al. 2022 and Chen et al. 2022.
    "atari": (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1), Dense(512)),
    # Young & Tian 2019 (arXiv 1903.03176), section 3.
    "minatar": (Conv(16, 3, 1), Dense(128)),
    # SpikingJelly's CartPole tutorials (examples/dqn_state.py and spiking_dqn_state.py).
    "control": (Dense(256),),
}
ACTOR_HIDDEN_LAYERS: Mapping[Tier, tuple[Conv | Dense, ...]] = {
    # SpikingJelly's PPO tutorials (examples/ppo.py and spiking_ppo.py), for the actor and the critic alike.
    "control": (Dense(32),),
}


class SameConv2d(nn.Conv2d):
    """A convolution that pads its input as TensorFlow's SAME does."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(padded(self, input))


Layer = nn.Conv2d | nn.Linear


class Layers(nn.ModuleList):
    """Convolutions and fully connected layers, from the observation to the action scores."""

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())


def same_margins(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a row of `size` pixels under TensorFlow's SAME padding, which puts the odd one after it.

    Source: TensorFlow's documentation of tf.nn, "Notes on padding": (ceil(size / stride) - 1) stride + kernel - size
    in all, if that is positive.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def padded(layer: Layer, x: Tensor) -> Tensor:
    """What a layer's kernel runs over: [B, C, H, W] with the zeros around it, or x itself if the layer pads nothing."""
    if not isinstance(layer, SameConv2d):
        return x
    height, width = (
        same_margins(size, kernel_size, stride)
        for size, kernel_size, stride in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True)
    )
    return F.pad(x, (*width, *height))


def build_layers(
    game: Game,
    bias: bool,
    num_outputs: int | None = None,
    padding: Padding = "valid",
    architecture: Mapping[Tier, tuple[Conv | Dense, ...]] = HIDDEN_LAYERS,
) -> tuple[Layers, list[tuple[int, ...]]]:
    """The layers of a game's network, output layer (one output an action unless said otherwise) included, and the
    shape each one gives.

    Weights are uninitialised memory until `initialise` or a checkpoint fills them.
    """
    if padding not in PADDINGS:  # it may come from a file
        raise Refusal(f"padding {padding!r}: accepted are {', '.join(PADDINGS)}")
    if game.tier not in architecture:
        raise Refusal(
            f"{game.name} is {game.tier}: such a network is there for {', '.join(architecture)} games only"
        )
    shape: tuple[int, ...] = game.observation_shape
    layers = Layers()
    shapes: list[tuple[int, ...]] = []
    for spec in (*architecture[game.tier], Dense(num_outputs or game.num_actions)):
        if isinstance(spec, Conv):
            layers.append(
                nn.utils.skip_init(
                    SameConv2d if padding == "same" else nn.Conv2d,
                    shape[0],
                    spec.out_channels,
                    spec.kernel_size,
                    spec.stride,
                    bias=bias,
                )
            )
            covered = 1 if padding == "same" else spec.kernel_size
            height, width = ((size - covered) // spec.stride + 1 for size in shape[1:])
            shape = (spec.out_channels, height, width)
        else:
            layers.append(nn.utils.skip_init(nn.Linear, math.prod(shape), spec.out_features, bias=bias))
            shape = (spec.out_features,)
        shapes.append(shape)
    return layers, shapes


def apply_layer(layer: Layer, x: Tensor) -> Tensor:
    """One convolution or fully connected layer on [B, ...], in the precision of its weights."""
    x = x.to(layer.weight.dtype)
    return layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)


def apply_to_image(layer: Layer, images: Tensor, bits: int | None) -> Tensor:
    """The first layer on [B, ...]. With bits, what it gives is rounded, from double precision, to multiples of 2^-bits:
    a network whose weights are such multiples then adds up exactly, whatever the order. Gradients pass unrounded.

    A pixel that is n / 255 in float32 is taken as the fraction, not as the float32 beside it; others stay as they are.
    """
    current = apply_layer(layer, images)
    if bits is None:
        return current
    with torch.no_grad():
        weight, bias = layer.weight.double(), None if layer.bias is None else layer.bias.double()
        pixels = 255 * images.double()
        whole = pixels.round()
        pixels = torch.where((pixels - whole).abs() < 2.0**-15, whole, pixels) / 255
        if isinstance(layer, nn.Conv2d):
            precise = F.conv2d(padded(layer, pixels), weight, bias, layer.stride)
        else:
            precise = F.linear(pixels.flatten(1), weight, bias)
        rounded = (torch.round(precise * 2**bits) / 2**bits).to(current.dtype)
    return rounded if not current.requires_grad else current + (rounded - current).detach()


def halve_precision(network: nn.Module) -> None:
    """Make all layers bfloat16 but the output layers: Q-values lie closer together than bfloat16 can tell."""
    for module in network.modules():
        if isinstance(module, Layers):
            for layer in list(module)[:-1]:
                layer.to(torch.bfloat16)


@torch.no_grad()
def initialise(layers: Layers, generator: torch.Generator) -> None:
    """PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), from a given generator."""
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
