"""What runs the stages of a study: the interface of engines, and the local one. Never imports torch.

An engine starts stages, tells which have ended and stops them. All else is the driver's (`studies.running`): which
stage is ready, what a failure means, what is tried again and with how much memory.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from core import memory, processes
from core.gpus import VISIBLE_VARIABLE, visible_gpus
from core.progress import FILE_VARIABLE
from core.records import open_own
from studies.logs import Cause, Log, Run
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
    """Share of one GPU. A stage without a share sees no GPU."""
    seconds: float = 0.0
    """How long it runs."""


@dataclass(frozen=True)
class Ending:
    """How a run of a stage ended."""

    stage: Stage
    cause: Cause
    told: str = ""
    """In words, as in "exit code 1"."""


class Engine(Protocol):
    """Runs stages. It holds no state that a later driver needs."""

    @property
    def has_gpu(self) -> bool:
        """Whether a stage can be given a share of a GPU."""

    def admits(self, needs: Needs) -> bool:
        """Whether a stage with these needs can start beside those that run. One that is larger than all runs alone."""

    def start(self, stage: Stage, needs: Needs, log: Log) -> None:
        """Start a stage, perhaps not at once. What it prints is added to its log, which tells when it runs."""

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


class _Process(NamedTuple):
    """A stage that runs."""

    stage: Stage
    needs: Needs
    gpu: str
    """The GPU that it shares; empty for none."""

    def left_to_write(self) -> int:
        """Bytes that it will write beyond what lies in its folder."""
        written = 0
        for path in self.stage.manifest.parent.rglob("*"):
            with contextlib.suppress(OSError):  # it was removed since
                written += 512 * path.lstat().st_blocks
        return max(0, self.needs.disk_bytes - written)


class LocalEngine:
    """Runs stages as processes of this machine, side by side.

    Args:
        study: the study.
        jobs: stages that run at the same time, at most.
    """

    def __init__(self, study: Study, jobs: int):
        self._base, self._folder, self._jobs = study.base, study.base / study.folder, jobs
        self._running: dict[subprocess.Popen[bytes], _Process] = {}
        self._memory = memory.SHARE * memory.available_bytes()
        self._gpus = visible_gpus()

    @property
    def has_gpu(self) -> bool:
        return bool(self._gpus)

    def admits(self, needs: Needs) -> bool:
        running = [each.needs for each in self._running.values()]
        if not running:
            return True
        # Those that run may not have taken yet what they will, so their forecasts count, not what is left now.
        fits = sum(each.memory_bytes for each in (*running, needs)) <= self._memory
        fits = fits and (needs.gpu_share == 0 or self._taken(self._freest_gpu()) + needs.gpu_share <= 1)
        return len(running) < self._jobs and fits and self._has_room(needs)

    def start(self, stage: Stage, needs: Needs, log: Log) -> None:
        gpu = self._freest_gpu() if needs.gpu_share else ""
        log.progress.unlink(missing_ok=True)
        with open_own(log.output, "ab") as output:
            process = processes.start(
                stage.arguments,
                variables={FILE_VARIABLE: os.path.abspath(log.progress), VISIBLE_VARIABLE: gpu},
                cwd=self._base,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._running[process] = _Process(stage, needs, gpu)
        log.write_run(Run("running"))

    def ended(self) -> list[Ending]:
        over = [process for process in self._running if process.poll() is not None]
        return [ending_of(self._running.pop(process).stage, process.returncode) for process in over]

    def stop(self) -> None:
        processes.stop(self._running, STOP_PATIENCE_S)
        self._running.clear()

    def _has_room(self, needs: Needs) -> bool:
        """Whether the disk has room for what a stage will write, and for what those that run have still to write."""
        wanted = needs.disk_bytes + sum(each.left_to_write() for each in self._running.values())
        return needs.disk_bytes == 0 or wanted <= shutil.disk_usage(_existing(self._folder)).free

    def _freest_gpu(self) -> str:
        return min(self._gpus, key=self._taken)

    def _taken(self, gpu: str) -> float:
        """Shares of a GPU that running stages have."""
        return sum(each.needs.gpu_share for each in self._running.values() if each.gpu == gpu)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())
