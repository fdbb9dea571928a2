"""Colours, fonts and sizes of a frame, in one place."""

import functools
from pathlib import Path

import matplotlib
import numpy as np
from PIL import ImageFont

Colour = tuple[int, int, int]
BACKGROUND: Colour = (18, 20, 24)
TRACK: Colour = (38, 42, 50)
DIM: Colour = (150, 156, 168)
TEXT: Colour = (236, 238, 241)
# Orange and blue of Okabe & Ito, which colour-blind people can tell apart, and a darker blue.
ORANGE: Colour = (230, 159, 0)
BLUE: Colour = (86, 180, 233)
DARK_BLUE: Colour = (52, 108, 144)
PLANES: tuple[Colour, ...] = (
    # Okabe & Ito's colours without black, then white, grey, and wine (Tol's "muted"): Seaquest has ten planes.
    *(BLUE, (240, 228, 66), (0, 114, 178), ORANGE, (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((240, 240, 240), (140, 140, 140), (136, 34, 85)),
)
"""Colours of the planes of an observation; a game with more planes begins again with the first."""
_STOPS = np.array([TRACK, DARK_BLUE, BLUE, (255, 255, 255)])
RAMP = np.stack(
    [np.interp(np.linspace(0, 3, 256), range(4), _STOPS[:, channel]).round() for channel in range(3)], axis=1
).astype(np.uint8)
"""[256, 3]: the colour scale of neurons, from 0 to 1. Each colour is lighter than the one before."""

MARGIN, GAP, TITLE, CONTENT = 16, 24, 26, 560
"""Pixels: around a frame, between its columns, of a title's line, and of a frame's height without its margins."""
NAME, BAR, VALUE = 112, 220, 68
PANEL = NAME + BAR + VALUE
"""Widths in the column of scores: names, bars, values, and the three together."""


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
