"""How far a study is: known from files alone, also while another process drives it. Never imports torch."""

import contextlib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core import locks
from core.errors import Refusal
from core.manifest import lock_of, read_manifest
from core.reading import read_json
from core.records import read_rows
from core.rows import EpisodeRow
from core.words import count
from studies.done import is_done, remaining
from studies.logs import Log, Pace, folder_of, log_of, stop_runs
from studies.planning import Stage
from studies.reading import Study

State = Literal["done", "running", "waiting", "failed", "interrupted"]
"""Interrupted: it was begun, nobody is at it, and the same command resumes it."""
_LOCK_PATIENCE_S = 1.0
"""Longer than anybody looks at a lock."""


@dataclass(frozen=True)
class Status:
    """How far a stage is."""

    stage: Stage
    state: State
    progress: Pace | None = None
    """Of a stage that runs, once it told."""
    score: str = ""
    """The mean score of a finished evaluation, or the last that a running stage told."""
    told: str = ""
    """How a failed stage ended."""


@contextlib.contextmanager
def driving(study: Study) -> Iterator[None]:
    """Context in which this process is the only driver of a study.

    Raises:
        Refusal: another process drives it. The message names it.
    """
    path = _driver_file(study)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = locks.acquire(path, _LOCK_PATIENCE_S)
    if lock is None:
        raise Refusal(f"{_driver(path)} runs this study already: wait for it, or look at it with --status")
    try:
        driver = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(lock, 0)
        os.write(lock, json.dumps(driver).encode())
        stop_runs(study)
        yield
    finally:
        locks.release(path, lock)


def _driver_file(study: Study) -> Path:
    return folder_of(study) / "driver.lock"


def _driver(path: Path) -> str:
    """The driver that a lock file names, in words."""
    try:
        found = read_json(path, "a driver's lock")
        return f"process {found['pid']} on {found['host']} (since {found['since']})"
    except (Refusal, OSError, KeyError):
        return "another process"


def driver_of(study: Study) -> str | None:
    """The process that drives a study, in words; None if there is none."""
    path = _driver_file(study)
    return _driver(path) if locks.is_held(path) else None


def statuses(study: Study, stages: Sequence[Stage]) -> Iterator[Status]:
    """How far each stage is."""
    is_driven = driver_of(study) is not None
    found = [status_of(stage, log_of(study, stage), is_driven) for stage in stages]
    again = {*remaining(stages, {each.stage for each in found if each.state == "done"})}
    for each in found:
        yield Status(each.stage, "waiting") if each.state == "done" and each.stage in again else each


def status_of(stage: Stage, log: Log, is_driven: bool) -> Status:
    """How far a stage is.

    Args:
        stage: the stage.
        log: its log.
        is_driven: whether a driver is at work. Without one, what a log says of a running stage is old.
    """
    try:
        if is_done(stage):
            return Status(stage, "done", score=score_of(stage))
    except Refusal as refusal:
        return Status(stage, "failed", told=str(refusal))
    run = log.read_run()
    runs_alone = locks.is_held(lock_of(stage.manifest))
    if runs_alone or (run is not None and run.state == "running" and is_driven):
        progress = log.read_progress()
        return Status(stage, "running", progress, progress.note if progress else "")
    if run is not None and run.state not in ("running", "stopped", "done"):
        return Status(stage, "failed", told=run.told)
    record = read_manifest(stage.manifest)
    if record is not None and record.outputs:  # finished, of other inputs or options: it begins anew
        return Status(stage, "waiting")
    begun = run is not None or record is not None
    return Status(stage, "interrupted" if begun else "waiting")


def score_of(stage: Stage) -> str:
    """The mean score of a finished evaluation, in words; empty for other stages."""
    if stage.kind != "evaluate":
        return ""
    scores: dict[str, list[float]] = {}
    for row in read_rows(stage.results[0], EpisodeRow):
        scores.setdefault(row.checkpoint, []).append(row.score)
    means = [
        f"{checkpoint} {math.fsum(of) / len(of):,.2f}".strip() for checkpoint, of in sorted(scores.items())
    ]
    games = max(map(len, scores.values()))
    return f"mean score {', '.join(means)} of {count(games, 'game')}"


def counts(found: Sequence[Status]) -> Mapping[State, int]:
    """How many stages are in each state, in the order of `State`."""
    order: tuple[State, ...] = ("done", "running", "waiting", "failed", "interrupted")
    return {state: number for state in order if (number := sum(each.state == state for each in found))}
