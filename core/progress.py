"""Progress of long work on standard error: a live bar on a terminal, otherwise a line every 20 seconds.

Whoever starts the work as a process and watches it names a file in the environment variable SPIKEQ_PROGRESS. The
progress is written there too, every other second.
"""

import contextlib
import json
import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from core.records import write_bytes

LINE_EVERY_S = 20.0
FILE_EVERY_S = 2.0
FILE_VARIABLE = "SPIKEQ_PROGRESS"
"""Environment variable that names the file of the progress: a JSON object with `what` (text), `done`, `total`
(numbers of units), `unit` (text), `rate` (units per second) and `note` (text)."""


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
        self._last_file = 0.0
        self._file = os.environ.get(FILE_VARIABLE)
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
        self._write_file()
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
        if now - self._last_file >= FILE_EVERY_S:
            self._write_file()

    def _rate(self) -> float:
        return (self._done - self._done_at_start) / max(time.monotonic() - self._started, 1e-9)

    def _write_file(self) -> None:
        """Tell the watcher. A full disk stops the work where it writes results, not here."""
        self._last_file = time.monotonic()
        if self._file:
            told = {
                "what": self._what,
                "done": self._done,
                "total": self._total,
                "unit": self._unit,
                "rate": self._rate(),
                "note": self._note,
            }
            with contextlib.suppress(OSError):
                write_bytes(self._file, json.dumps(told).encode())

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
