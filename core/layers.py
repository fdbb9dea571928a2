"""Layers as data: convolutions and fully connected layers, from the observation to the action scores.

Hidden layers are written as in `32c8s4 64c4s2 64c3s1 512`: three convolutions and a fully connected layer of 512
neurons. `32c8s4` has 32 channels, a kernel of 8 by 8 pixels and a stride of 4."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import Refusal, shown
from core.games import Game, Tier
from core.options import checked_arguments

Padding = Literal["valid", "same"]
PADDINGS: tuple[Padding, ...] = ("valid", "same")
"""Padding of a convolution's input.

valid: none (Mnih et al. 2015). same: zeros, so that the output has ceil(size / stride) pixels a side, as in TensorFlow
(OpenAI Baselines, Dopamine).
"""
MOST_LAYERS, MOST_WIDTH, MOST_WEIGHTS, MOST_NEURONS = 32, 65_536, 500_000_000, 20_000_000
"""Upper bounds: layers of a network, neurons or channels of a layer, weights and neurons of a network.

They keep a typing error or a file from filling the memory.
"""


@dataclass(frozen=True)
class Conv:
    """A convolution. Its padding is an option of the network."""

    out_channels: int
    kernel_size: int
    stride: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer. Its input is flattened."""

    out_features: int


Hidden = tuple[Conv | Dense, ...]
"""The hidden layers of a network, first to last."""
HIDDEN_LAYERS: Mapping[Tier, Hidden] = {
    # Mnih et al. 2015, Methods; used by Liu et al. 2022 and Chen et al. 2022.
    "atari": (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1), Dense(512)),
    # Young & Tian 2019 (arXiv 1903.03176), section 3.
    "minatar": (Conv(16, 3, 1), Dense(128)),
    # SpikingJelly's CartPole tutorials (examples/dqn_state.py and spiking_dqn_state.py).
    "control": (Dense(256),),
}
ACTOR_HIDDEN_LAYERS: Mapping[Tier, Hidden] = {
    # SpikingJelly's PPO tutorials (examples/ppo.py and spiking_ppo.py), for the actor and the critic alike.
    "control": (Dense(32),),
}
_NOTATION = re.compile(r"(?P<width>[0-9]{1,9})(c(?P<kernel>[0-9]{1,4})s(?P<stride>[0-9]{1,4}))?")


def parse_layers(text: str) -> Hidden:
    """Hidden layers from their notation, separated by spaces, commas or hyphens.

    Raises:
        Refusal: the text is not in the notation, or a number is out of bounds.
    """
    words = re.split(r"[\s,-]+", text.strip())
    hidden: list[Conv | Dense] = []
    for word in words:
        match = _NOTATION.fullmatch(word)
        if match is None:
            raise Refusal(
                f"layer {shown(word)} of {shown(text)}: accepted are fully connected layers, as in 512, and "
                "convolutions, as in 32c8s4 (channels, kernel, stride)"
            )
        width = int(match["width"])
        if not 1 <= width <= MOST_WIDTH:
            raise Refusal(f"layer {word!r}: accepted are 1 to {MOST_WIDTH} neurons or channels")
        if match["kernel"] is None:
            hidden.append(Dense(width))
        elif int(match["kernel"]) < 1 or int(match["stride"]) < 1:
            raise Refusal(f"layer {word!r}: kernel and stride are at least 1")
        else:
            hidden.append(Conv(width, int(match["kernel"]), int(match["stride"])))
    if len(hidden) > MOST_LAYERS:
        raise Refusal(f"{len(hidden)} layers: at most {MOST_LAYERS} are accepted")
    return tuple(hidden)


def format_layers(hidden: Sequence[Conv | Dense], separator: str = " ") -> str:
    """The notation of hidden layers, which `parse_layers` reads."""
    return separator.join(
        f"{spec.out_channels}c{spec.kernel_size}s{spec.stride}"
        if isinstance(spec, Conv)
        else str(spec.out_features)
        for spec in hidden
    )


def usual_layers(game: Game, architecture: Mapping[Tier, Hidden]) -> Hidden:
    """The hidden layers that a game's tier usually has.

    Raises:
        Refusal: the architecture has none for the tier.
    """
    if game.tier not in architecture:
        raise Refusal(
            f"{game.name} is {game.tier}: such a network is there for {', '.join(architecture)} games only"
        )
    return architecture[game.tier]


def layers_from_config(make: Callable[..., object], config: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of an agent from its configuration, with the entry `layers` as `hidden`.

    Args:
        make: the constructor, with its other arguments given by `functools.partial`.
        config: the configuration, which may come from a file.

    Raises:
        Refusal: an entry is unknown, missing or of another type than the constructor's.
    """
    given = dict(config)
    layers = given.pop("layers", None)
    arguments = checked_arguments(make, given, "its configuration", apart=("hidden",))
    if layers is not None:
        if not isinstance(layers, str):
            raise Refusal(f"layers is {shown(layers)}: a text as in '32c8s4 512' is needed")
        arguments["hidden"] = parse_layers(layers)
    return arguments


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
    """Zeros before and after a row of `size` pixels with TensorFlow's SAME padding.

    There are (ceil(size / stride) - 1) stride + kernel - size zeros, if that is positive. An odd one is put after the
    row. Source: TensorFlow's documentation of tf.nn, "Notes on padding".
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def padded(layer: Layer, x: Tensor) -> Tensor:
    """The input [B, C, H, W] with the layer's zeros around it; x itself if the layer has no padding."""
    if not isinstance(layer, SameConv2d):
        return x
    height, width = (
        same_margins(size, kernel_size, stride)
        for size, kernel_size, stride in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True)
    )
    return F.pad(x, (*width, *height))


def build_layers(
    game: Game, hidden: Hidden, bias: bool, padding: Padding = "valid", num_outputs: int | None = None
) -> tuple[Layers, list[tuple[int, ...]]]:
    """The layers of a game's network, the output layer included.

    Args:
        game: the game, which gives observation and actions.
        hidden: the layers before the output layer.
        bias: whether layers have biases.
        padding: padding of the convolutions.
        num_outputs: number of outputs; None for one per action.

    Returns:
        The layers, and the output shape of each. Weights are not initialised: `initialise` or a checkpoint sets them.

    Raises:
        Refusal: the layers do not fit the observation, or have too many weights.
    """
    if padding not in PADDINGS:  # it may come from a file
        raise Refusal(f"padding {padding!r}: accepted are {', '.join(PADDINGS)}")
    if not isinstance(bias, bool):
        raise Refusal(f"bias is {bias!r}: accepted are True and False")
    shape: tuple[int, ...] = game.observation_shape
    layers = Layers()
    shapes: list[tuple[int, ...]] = []
    num_weights = num_neurons = 0
    for spec in (*hidden, Dense(num_outputs or game.num_actions)):
        if isinstance(spec, Conv):
            if len(shape) != 3:
                raise Refusal(
                    f"layers {format_layers(hidden)!r}: a convolution needs an image, and gets {shape} on {game.name}"
                )
            covered = 1 if padding == "same" else spec.kernel_size
            if min(shape[1:]) < covered:
                raise Refusal(
                    f"layers {format_layers(hidden)!r}: a kernel of {spec.kernel_size} does not fit {shape[1:]} on "
                    f"{game.name}"
                )
            num_weights += spec.out_channels * shape[0] * spec.kernel_size**2
            height, width = ((size - covered) // spec.stride + 1 for size in shape[1:])
            kind = SameConv2d if padding == "same" else nn.Conv2d
            arguments = (shape[0], spec.out_channels, spec.kernel_size, spec.stride)
            shape = (spec.out_channels, height, width)
        else:
            num_weights += math.prod(shape) * spec.out_features
            kind, arguments = nn.Linear, (math.prod(shape), spec.out_features)  # type: ignore[assignment]
            shape = (spec.out_features,)
        if num_weights > MOST_WEIGHTS:
            raise Refusal(f"layers {format_layers(hidden)!r}: at most {MOST_WEIGHTS:,} weights are accepted")
        num_neurons += math.prod(shape)
        if num_neurons > MOST_NEURONS:
            raise Refusal(f"layers {format_layers(hidden)!r}: at most {MOST_NEURONS:,} neurons are accepted")
        layers.append(nn.utils.skip_init(kind, *arguments, bias=bias))
        shapes.append(shape)
    return layers, shapes


def apply_layer(layer: Layer, x: Tensor) -> Tensor:
    """Output of a convolution or fully connected layer for x [B, ...], in the precision of its weights."""
    x = x.to(layer.weight.dtype)
    return layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)


def require_image_bits(bits: int | None) -> None:
    """Refuse bits for `apply_to_image` that a float32 does not have. They may come from a file."""
    if bits is not None and (type(bits) is not int or not 0 <= bits <= 24):
        raise Refusal(f"image_bits is {shown(bits)}: accepted is an integer from 0 to 24, or none")


def apply_to_image(layer: Layer, images: Tensor, bits: int | None) -> Tensor:
    """Output of the first layer for images [B, ...].

    With bits, currents are computed in double precision and rounded to multiples of 2^-bits. If weights are such
    multiples too, the network's sums are exact in any order. Gradients ignore the rounding.

    A pixel that is the float32 nearest to n / 255 is taken as n / 255. Other pixels are not changed.
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
    """Make all layers bfloat16 except the output layers, because bfloat16 cannot tell close Q-values apart."""
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
