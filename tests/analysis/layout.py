"""What a reader would call a fault of layout, found in drawn figures."""

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOLERANCE = 1.5
"""Pixels at 100 dots an inch by which boxes of letters may touch: a box is a little larger than its letters."""


def faults(figure: Figure) -> list[str]:
    """Texts that leave the canvas or lie on another text, and panels that were squeezed to nothing."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    canvas.draw()
    found = list(_squeezed(figure))
    # Saved tight, a figure keeps all texts that count for its layout. Only others can be cut off.
    page = figure.get_tightbbox(canvas.get_renderer()).transformed(figure.dpi_scale_trans)
    boxes = [(text, box) for text in _texts(figure) for box in [text.get_window_extent()] if box.width > 0]
    for text, box in boxes:
        if not _inside(box, page):
            found.append(f"cut off: {text.get_text()!r}")
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        if _overlap(first, second):
            found.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    return found


def _texts(figure: Figure) -> Iterator[Text]:
    """Every text that is drawn."""
    not_drawn = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                # Ticks outside the view, and those of axes that are off, exist and are not drawn.
                if not axes.axison or not low <= tick.get_loc() <= high:
                    not_drawn |= {tick.label1, tick.label2}
            if not axes.axison:
                not_drawn |= {axis.label, axis.offsetText}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in not_drawn:
            yield text


def _squeezed(figure: Figure) -> Iterator[str]:
    for axes in figure.axes:
        box = axes.get_window_extent()
        if axes.axison and axes.get_label() != "<colorbar>" and min(box.width, box.height) < 30:
            yield f"a panel of {box.width:.0f} x {box.height:.0f} pixels"


def _inside(box: Bbox, page: Bbox) -> bool:
    return bool(
        box.x0 >= page.x0 - TOLERANCE
        and box.x1 <= page.x1 + TOLERANCE
        and box.y0 >= page.y0 - TOLERANCE
        and box.y1 <= page.y1 + TOLERANCE
    )


def _overlap(one: Bbox, other: Bbox) -> bool:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(np.minimum(width, height) > TOLERANCE)
