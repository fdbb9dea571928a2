"""What runs the stages of a study: the interface of engines, and the local one. Never imports torch.

An engine starts stages, tells which have ended and stops them. All else is the driver's (`studies.running`): which
stage is ready, what a failure means, what is tried again and with how much memory.
"""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core import memory, processes
from core.progress import FILE_VARIABLE
from core.records import open_own
from studies.logs import Cause, Log
from studies.planning import Stage
from studies.reading import Study

STOP_PATIENCE_S = 60.0
"""Seconds that a stage has to save its state when it is told to stop."""


@dataclass(frozen=True)
class Needs:
    """What a stage takes while it runs. Zero if it is not known."""

    cores: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    """What it will write."""
    gpu_share: float = 0.0
    """Share of one GPU."""


@dataclass(frozen=True)
class Ending:
    """How a run of a stage ended."""

    stage: Stage
    cause: Cause
    told: str = ""
    """In words, as in "exit code 1"."""


class Engine(Protocol):
    """Runs stages. It holds no state that a later driver needs."""

    def admits(self, needs: Needs) -> bool:
        """Whether a stage with these needs can start beside those that run. One that is larger than all runs alone."""

    def start(self, stage: Stage, needs: Needs, log: Log) -> None:
        """Start a stage. What it prints is added to its log."""

    def ended(self) -> list[Ending]:
        """The stages whose run has ended since the last call. Their results lie in the study's folder."""

    def stop(self) -> None:
        """Stop all that runs, and return when nothing of it is left."""


def ending_of(stage: Stage, code: int) -> Ending:
    """How a stage's process ended, by its exit code."""
    if code == -signal.SIGKILL:
        # Nobody else sends it: the system does when memory is short.
        return Ending(stage, "memory", "signal 9, as if memory was short")
    cause: Cause = "done" if code == 0 else "refused" if code == 2 else "failed"
    return Ending(stage, cause, f"signal {-code}" if code < 0 else f"exit code {code}")


class LocalEngine:
    """Runs stages as processes of this machine, side by side.

    Args:
        study: the study.
        jobs: stages that run at the same time, at most.
    """

    def __init__(self, study: Study, jobs: int):
        self._base, self._folder, self._jobs = study.base, study.base / study.folder, jobs
        self._running: dict[subprocess.Popen[bytes], tuple[Stage, Needs]] = {}
        self._memory = memory.SHARE * memory.available_bytes()

    def admits(self, needs: Needs) -> bool:
        running = [each for _, each in self._running.values()]
        if not running:
            return True
        # Those that run may not have taken yet what they will, so their forecasts count, not what is left now.
        fits = sum(each.memory_bytes for each in (*running, needs)) <= self._memory
        disk = sum(each.disk_bytes for each in (*running, needs))
        fits = fits and (disk == 0 or disk <= shutil.disk_usage(_existing(self._folder)).free)
        gpu = sum(each.gpu_share for each in (*running, needs))
        return len(running) < self._jobs and fits and (needs.gpu_share == 0 or gpu <= 1)

    def start(self, stage: Stage, needs: Needs, log: Log) -> None:
        log.progress.unlink(missing_ok=True)
        with open_own(log.output, "ab") as output:
            process = processes.start(
                stage.arguments,
                variables={FILE_VARIABLE: os.path.abspath(log.progress)},
                cwd=self._base,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running[process] = stage, needs

    def ended(self) -> list[Ending]:
        over = [process for process in self._running if process.poll() is not None]
        return [ending_of(self._running.pop(process)[0], process.returncode) for process in over]

    def stop(self) -> None:
        processes.stop(self._running, STOP_PATIENCE_S)
        self._running.clear()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())
