"""The panel of a frame that shows every hidden neuron of a network in one decision."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from core.errors import Refusal
from play.film.style import BACKGROUND, CONTENT, DIM, MARGIN, RAMP, TEXT, TITLE, font

LARGEST_CELL = 40
MAP_GAP = 2


class Tiles(NamedTuple):
    """How the neurons of one layer are laid out."""

    maps: int
    """Number of maps; a dense layer has one map for each neuron."""
    height: int
    """Neurons of a map, from top to bottom."""
    width: int
    """Neurons of a map, from left to right."""
    across: int
    """Maps in a row."""
    cell: int
    """Pixels a side of one neuron."""
    gap: int
    """Pixels between maps."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        down = math.ceil(self.maps / self.across)
        return (
            self.across * (self.width * self.cell + self.gap) - self.gap,
            down * (self.height * self.cell + self.gap) - self.gap,
        )

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top pixel of a map."""
        down, right = divmod(index, self.across)
        return right * (self.width * self.cell + self.gap), down * (self.height * self.cell + self.gap)


def tiles(shape: tuple[int, ...], width: int, cell: int) -> Tiles | None:
    """Lay out one layer in full rows.

    Args:
        shape: [C, H, W] for C maps of H x W neurons, or [N] for single neurons.
        width: pixels that a row may take.
        cell: pixels a side of one neuron.

    Returns:
        The layout with the longest rows; None if not even one map fits into the width.
    """
    count, tall, wide = shape if len(shape) == 3 else (*shape, 1, 1)
    gap = MAP_GAP if len(shape) == 3 else 1
    fitting = (width + gap) // (wide * cell + gap)
    across = max((each for each in range(1, fitting + 1) if count % each == 0), default=0)
    return Tiles(count, tall, wide, across, cell, gap) if across else None


def arrange(shapes: Sequence[tuple[int, ...]], width: int, height: int) -> list[Tiles]:
    """Lay out layers below each other, with cells of a size of its own in each.

    The product of the layers' areas is made as large as possible, so that no layer is small.

    Args:
        shapes: [C, H, W] or [N] each.
        width: pixels that each layer may take.
        height: pixels that all layers may take together.

    Raises:
        Refusal: cells of one pixel do not fit.
    """
    choices = [
        [
            each
            for cell in range(1, LARGEST_CELL + 1)
            if (each := tiles(shape, width, cell)) is not None and each.size[1] <= height
        ]
        for shape in shapes
    ]
    fitting = (
        chosen for chosen in itertools.product(*choices) if sum(each.size[1] for each in chosen) <= height
    )
    best = max(fitting, key=lambda chosen: math.prod(math.prod(each.size) for each in chosen), default=None)
    if best is None:
        raise Refusal(
            f"hidden layers of {list(shapes)} neurons are more than {width} x {height} pixels can show"
        )
    return list(best)


class NeuronPanel:
    """All hidden neurons of a network in one decision.

    Firing rates have one scale everywhere, from no spike to a spike at every simulation step. So a colour means the
    same rate in every layer, decision and network. Activations have no such scale: the full colour is the layer's
    largest activation in the decision.

    Args:
        left: left edge in pixels; the panel is as high as a frame's content.
        width: width in pixels.
        shapes: [C, H, W] or [N] of each hidden layer.
        spiking: whether the neurons spike.
    """

    def __init__(self, left: int, width: int, shapes: Sequence[tuple[int, ...]], spiking: bool):
        self.left = left
        """Left edge of every layer."""
        self._right = left + width
        self._shapes = shapes
        self._spiking = spiking
        self.layers = arrange(shapes, width, CONTENT - TITLE - len(shapes) * TITLE)
        """The layout of each layer."""
        heights = [layer.size[1] for layer in self.layers]
        spare = CONTENT - TITLE - len(shapes) * TITLE - sum(heights)
        between = min(spare // max(len(shapes) - 1, 1), 20)
        self.tops = [
            MARGIN + TITLE + sum(heights[:index]) + index * between + (index + 1) * TITLE
            for index in range(len(shapes))
        ]
        """Top edge of each layer's first map."""

    def draw_background(self, image: Image.Image) -> None:
        """Draw what stays the same in all frames."""
        draw = ImageDraw.Draw(image)
        middle = MARGIN + TITLE // 2 - 3
        draw.text((self.left, middle), "hidden neurons", TEXT, font(14, bold=True), "lm")
        scale = "100 %" if self._spiking else "its layer's largest"
        right = self._right - draw.textlength(scale, font(12))
        draw.text((self._right, middle), scale, DIM, font(12), "rm")
        ramp = Image.fromarray(RAMP[None, :].repeat(12, axis=0)).resize((90, 12))
        image.paste(ramp, (round(right) - 96, middle - 6))
        what = "firing rate in this decision  0" if self._spiking else "activation  0"
        draw.text((right - 102, middle), what, DIM, font(12), "rm")
        for index, (shape, top) in enumerate(zip(self._shapes, self.tops, strict=True), start=1):
            name = f"layer {index}"
            draw.text((self.left, top - 12), name, TEXT, font(13), "lm")
            x = self.left + draw.textlength(name, font(13)) + 10
            neurons = f"{shape[0]:,} neurons"
            if len(shape) == 3:
                neurons = f"{shape[0]} maps of {shape[1]} × {shape[2]} neurons"
            draw.text((x, top - 12), neurons, DIM, font(12), "lm")

    def draw(self, image: Image.Image, hidden: Sequence[np.ndarray]) -> None:
        """Draw the neurons of one decision.

        Args:
            image: the frame.
            hidden: see `play.film.frame.Frame`.
        """
        draw = ImageDraw.Draw(image)
        for values, layer, top in zip(hidden, self.layers, self.tops, strict=True):
            largest = float(values.max())
            full = 1.0 if self._spiking else largest
            image.paste(mosaic(values / full if full > 0 else values, layer), (self.left, top))
            words = f"mean {values.mean():.3g}, largest {largest:.3g}"
            if self._spiking:
                words = f"mean {100 * values.mean():.1f} %, largest {100 * largest:.0f} %"
            words += f", {100 * (values == 0).mean():.0f} % silent"
            draw.text((self._right, top - 12), words, DIM, font(12), "rm")


def mosaic(values: np.ndarray, layer: Tiles) -> Image.Image:
    """A layer's values in [0, 1], [C, H, W] or [N], in the colours of `RAMP`."""
    maps = values.reshape(layer.maps, layer.height, layer.width)
    colours = RAMP[np.rint(np.clip(maps, 0, 1) * (len(RAMP) - 1)).astype(np.int64)]  # [C, H, W, 3]
    image = Image.new("RGB", layer.size, BACKGROUND)
    for index, pixels in enumerate(colours.repeat(layer.cell, axis=1).repeat(layer.cell, axis=2)):
        image.paste(Image.fromarray(pixels), layer.corner(index))
    return image
