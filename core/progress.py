"""Progress of long work on standard error: a live bar on a terminal, otherwise a line every 20 seconds."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_EVERY_S = 20.0


class Progress:
    """Progress of one piece of work: units done, rate and remaining time. A context manager.

    Args:
        what: name of the work, shown first.
        total: number of units.
        unit: their plural name, as in "decisions".
        done: units that an earlier process did. They do not count for the rate.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0):
        self._what, self._total, self._unit = what, total, unit
        self._done = self._done_at_start = done
        self._started = self._last_line = time.monotonic()
        self._note = ""
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._print_line()

    def advance(self, units: int, note: str | None = None) -> None:
        """Count units as done. A `note` replaces the text behind the rate."""
        self._done += units
        if note is not None:
            self._note = note
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._done, note=f"{self._rate():,.0f} {self._unit}/s {self._note}"
            )
        elif now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self._print_line()

    def _rate(self) -> float:
        return (self._done - self._done_at_start) / max(time.monotonic() - self._started, 1e-9)

    def _print_line(self) -> None:
        rate = self._rate()
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        eta = f", {left:,.0f} s left" if 0 < left < float("inf") else ""
        note = f", {self._note}" if self._note else ""
        print(
            f"{self._what}: {self._done:,}/{self._total:,} {self._unit}, {rate:,.1f}/s{eta}{note}",
            file=sys.stderr,
            flush=True,
        )
