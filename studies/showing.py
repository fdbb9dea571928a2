"""What a driver shows: a live table on a terminal, otherwise lines; and the lines of --status. Never imports torch."""

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core.durations import duration
from studies.logs import folder_of, log_of
from studies.reading import Study
from studies.status import Status, counts, driver_of

COLUMNS = ("stage", "state", "progress", "rate", "left", "last score")
_LEFT_FREE = 4
"""Lines of a terminal that the live table leaves to others."""


class Screen:
    """Shows how far a study is. A context manager.

    On a terminal, a table of the stages that run stands below the lines. Elsewhere there are only lines.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = (
            Live(console=self._console, refresh_per_second=2, transient=True) if sys.stdout.isatty() else None
        )

    @property
    def is_live(self) -> bool:
        """Whether there is a table to keep up to date."""
        return self._live is not None

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, text: str) -> None:
        """Show a line that stays."""
        if self._live is None:
            print(text, flush=True)
        else:
            self._console.print(Text(text))

    def table(self, running: Sequence[Status], title: str) -> None:
        """Bring the live table up to date. Without a terminal this does nothing."""
        if self._live is not None:
            table = Table(*COLUMNS, title=title, title_justify="left", box=None, pad_edge=False)
            for status in running[: max(1, self._console.height - _LEFT_FREE)]:
                table.add_row(*cells(status))
            self._live.update(table)


def cells(status: Status) -> tuple[str, ...]:
    """A stage as a line of a table: its cells for COLUMNS."""
    progress = status.progress
    if progress is None:
        return status.stage.name, status.state, "", "", "", status.score or status.told
    left = "" if progress.left_s is None else duration(progress.left_s)
    share = f"{progress.done / progress.total:.0%} of {progress.total:,}" if progress.total > 0 else ""
    return (
        status.stage.name,
        status.state,
        f"{share} {progress.unit}",
        f"{progress.rate:,.1f}/s",
        left,
        status.score,
    )


def status_lines(study: Study, found: Sequence[Status]) -> Iterable[str]:
    """A study's stages, one line each, below who drives it and how many are done."""
    numbers = ", ".join(f"{number} {state}" for state, number in counts(found).items())
    driver = driver_of(study)
    yield f"study {study.name}: {numbers} of {len(found)} stages; {f'driven by {driver}' if driver else 'not driven'}"
    shown = [cells(status) for status in found]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for status, row in zip(found, shown, strict=True):
        used = [(cell, width) for cell, width in zip(row, widths, strict=True) if width]
        yield "  ".join(cell.ljust(width) for cell, width in used).rstrip()
        if status.state == "failed":
            yield from (f"    {line}" for line in log_of(study, status.stage).tail())
    if any(status.state in ("failed", "interrupted") for status in found):
        yield f"logs are in {folder_of(study)}"
