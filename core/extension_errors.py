"""What is said of an error in an extension: its user's own code. Never imports torch."""

import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from core.errors import failure
from core.extensions import extension_of


def told(error: BaseException) -> str | None:
    """One line that says what failed where, and the traceback from the extension on; None for an error elsewhere.

    The line names the registered agent and its game, if the error came while one was asked.
    """
    steps = [*_steps(error.__traceback__)]
    inside = [(name, step) for step in steps if (name := _extension(step.tb_frame)) is not None]
    if not inside:
        return None
    extension, first = inside[0]
    what = f"extension {extension!r} failed"
    for step in steps:
        asked: Any = step.tb_frame.f_locals.get("self")
        if getattr(asked, "registered_as", ""):
            what = f"agent {asked.registered_as!r} of extension {extension!r} failed on {asked.game.name}"
    lines = traceback.format_exception(type(error), error, first, chain=False)
    return f"error: {what}: {failure(error)}\n{''.join(lines)}"


def _steps(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _extension(frame: FrameType) -> str | None:
    """The extension whose code a frame runs."""
    return extension_of(str(frame.f_globals.get("__name__", "")))
