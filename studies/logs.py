"""What a study's folder tells about runs of its stages, beside their results: logs/GAME/STAGE.*. Never imports torch.

Nothing that is done depends on these files: which stages are done is told by manifests alone (`studies.done`).
"""

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from core.errors import Refusal
from core.reading import read_json
from core.records import open_own, require_no_link, write_bytes
from studies.planning import Stage
from studies.reading import Study

Cause = Literal["done", "failed", "refused", "memory", "lost"]
"""How a run of a stage ended: with its results, with an error, with a refusal of its input (exit code 2), killed (as
for memory), or with the machine that it ran on."""
Kind = TypeVar("Kind")
_RUN = ".run.json"
TAIL_LINES, TAIL_BYTES = 5, 4096
"""How much of the end of a log is shown."""


@dataclass(frozen=True)
class Run:
    """The latest run of a stage that is not done."""

    state: Literal["running", "stopped"] | Cause
    """Stopped: its driver stopped, or it is tried again later."""
    told: str = ""
    """How it ended, as in "exit code 1"; empty while it runs."""

    def __post_init__(self) -> None:
        if self.state not in ("running", "stopped", *get_args(Cause)) or not isinstance(self.told, str):
            raise TypeError("no run of a stage")


@dataclass(frozen=True)
class Pace:
    """How far a run is; see `core.progress.FILE_VARIABLE`."""

    what: str
    done: float
    total: float
    unit: str
    rate: float
    note: str

    def __post_init__(self) -> None:
        numbers, texts = (self.done, self.total, self.rate), (self.what, self.unit, self.note)
        if not all(isinstance(n, int | float) for n in numbers) or not all(isinstance(t, str) for t in texts):
            raise TypeError("no progress")

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at this rate; None if nothing tells."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class Log:
    """The files of one stage. Any of them may be missing."""

    output: Path
    """What its runs printed, one after the other."""
    progress: Path
    """How far its latest run is: `Pace`."""
    run: Path
    """How its latest run ended: `Run`."""

    def read_run(self) -> Run | None:
        """The latest run of the stage; None if no file tells."""
        return _read(self.run, Run)

    def read_progress(self) -> Pace | None:
        """How far its latest run is; None if no file tells."""
        return _read(self.progress, Pace)

    def write_run(self, run: Run) -> None:
        """Keep what is known of its latest run."""
        _write(self.run, run)

    def stop_run(self) -> None:
        """Say of a run that is told to be running that nobody runs it any more."""
        _stop_run(self.run)

    def say(self, text: str) -> None:
        """Add a line of the driver's own to the output."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with open_own(self.output, "ab") as file:
            file.write(f"{text}\n".encode())

    def forget(self) -> None:
        """Remove what is only told of a stage that is not done. Its output stays."""
        for path in (self.progress, self.run):
            path.unlink(missing_ok=True)

    def tail(self) -> tuple[str, ...]:
        """The last lines of the output."""
        try:
            with open(self.output, "rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ()
        return tuple([line for line in text.splitlines() if line.strip()][-TAIL_LINES:])


def stop_runs(study: Study) -> None:
    """Say so of all runs of a study, as a driver does that finds files of one that was killed."""
    for run in folder_of(study).rglob(f"*{_RUN}"):
        _stop_run(run)


def folder_of(study: Study) -> Path:
    """The folder of a study's logs.

    Raises:
        Refusal: it is a symbolic link.
    """
    folder = study.base / study.folder / "logs"
    require_no_link(folder)
    return folder


def log_of(study: Study, stage: Stage) -> Log:
    """The files about the runs of a stage.

    Raises:
        Refusal: their folder is a symbolic link.
    """
    beside = stage.manifest.parent
    path = folder_of(study) / beside.parent.name / beside.name
    require_no_link(path.parent)
    return Log(*(path.with_name(f"{path.name}{ending}") for ending in (".log", ".progress.json", _RUN)))


def _stop_run(path: Path) -> None:
    run = _read(path, Run)
    if run is not None and run.state == "running":
        _write(path, Run("stopped"))


def _write(path: Path, run: Run) -> None:
    write_bytes(path, (json.dumps(asdict(run)) + "\n").encode())


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """A dataclass from a JSON file; None if it is not there, or holds something else."""
    try:
        content = read_json(path, "a file of a stage's log")
        return kind(**{field.name: content[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
    except (Refusal, OSError, KeyError, TypeError):
        return None
