"""Ctrl-C: one line and exit code 130, from the first instant of a command. Imports next to nothing, so it comes first.

Python raises KeyboardInterrupt wherever it stands. While a module is imported that may be inside a library that catches
everything, and the command would go on. Before `core.cli` runs the command, nothing would catch it at all.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # signal and typing take time to import
if not TYPE_CHECKING:
    import _signal as signal
else:
    import signal
    from types import FrameType, TracebackType
    from typing import Any, NoReturn

LINE = "interrupted; the same command does the rest"
"""What Ctrl-C answers, unless a KeyboardInterrupt has words of its own."""
_SHOW_CURSOR = "\x1b[?25h"
"""Tells a terminal to show the cursor, which a progress bar hides."""

_process = 0
"""The process that answers Ctrl-C; 0 if `answer` was not called."""
_unwinds = False
"""Whether a KeyboardInterrupt would be caught and answered."""


def answer() -> None:
    """Answer Ctrl-C in this process from now on. The first lines of every command call this; a library never does."""
    global _process
    # Somebody else's handler, or a shell that starts us in the background, may want to ignore it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _process = os.getpid()
        signal.signal(signal.SIGINT, _answer)
        sys.unraisablehook = _unraisable


class unwinding:
    """Context in which Ctrl-C raises KeyboardInterrupt, so that the work can tidy up. The caller catches it."""

    def __enter__(self) -> None:
        global _unwinds
        _unwinds = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _unwinds
        _unwinds = False


def finished() -> None:
    """Ignore Ctrl-C from now on. The process ends as its work did."""
    if _process == os.getpid():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave(line: str = LINE) -> NoReturn:
    """Print a line and end the process at once. Nothing can catch this, and nothing more is printed.

    Raises:
        SystemExit: the process is not one that `answer` was called for.
    """
    if _process != os.getpid():
        print(line, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    show = _SHOW_CURSOR if os.isatty(2) else ""
    try:
        os.write(2, f"{show}{line}\n".encode(errors="replace"))
    finally:
        os._exit(128 + signal.SIGINT)


def _answer(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _process:  # a copy of the process that answers
        os._exit(128 + signum)
    if not _unwinds or _imports(frame):
        leave()
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported. Nothing is lost then that a killed process would not lose."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _unraisable(about: Any) -> None:
    """A destructor or a callback of C code was interrupted. Python would complain and go on."""
    if issubclass(about.exc_type, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(about)
