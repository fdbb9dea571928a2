"""Drive a study: start its stages on an engine, try again what failed, and show how far it is. Never imports torch."""

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType

from core import interrupts, locks
from core.durations import duration
from core.errors import Refusal
from core.manifest import lock_of
from core.memory import GIB
from core.words import command_line, count
from studies.done import remove_outdated_results
from studies.engine import Ending, Engine, Needs
from studies.logs import Cause, Log, Run, log_of
from studies.planning import Stage
from studies.reading import Study
from studies.schedule import in_order
from studies.showing import Screen
from studies.status import score_of, status_of

TRIES: Mapping[Cause, int] = {"failed": 2, "refused": 1, "memory": 4, "lost": 5}
"""How often a stage may end in each way. A refusal cannot get better, and a lost machine is not the stage's fault."""
_TABLE_EVERY_S = 1.0


@dataclass(frozen=True)
class Failure:
    """A stage that was given up."""

    stage: Stage
    told: str
    blocked: tuple[Stage, ...]
    """Stages that could not start because of it."""


def run_all(
    study: Study,
    stages: Sequence[Stage],
    engine: Engine,
    needs_of: Callable[[Stage], Needs],
    screen: Screen,
) -> list[Failure]:
    """Run stages, each as soon as its inputs exist. A failure stops only the stages that need its results.

    SIGTERM and Ctrl-C stop all that runs.

    Args:
        study: the study.
        stages: its stages that are not done.
        engine: what runs them.
        needs_of: what a stage takes while it runs.
        screen: where progress is shown.

    Returns:
        The stages that were given up.
    """
    driver = _Driver(study, stages, engine, needs_of, screen)
    with _sigterm_raising():
        try:
            with screen:
                driver.run()
        finally:
            driver.stop()
    return driver.failures()


class _Driver:
    def __init__(
        self,
        study: Study,
        stages: Sequence[Stage],
        engine: Engine,
        needs_of: Callable[[Stage], Needs],
        screen: Screen,
    ):
        self._study, self._engine, self._screen = study, engine, screen
        self._in_order = stages
        self._total, self._finished, self._began = len(stages), 0, time.monotonic()
        # Inputs that no waiting stage makes exist already.
        self._pending = {file for stage in stages for file in stage.results}
        self._needs = {stage: needs_of(stage) for stage in stages}
        self._waiting = in_order(stages, {stage: needs.seconds for stage, needs in self._needs.items()})
        self._endings: Counter[tuple[Stage, Cause]] = Counter()
        self._running: dict[Stage, float] = {}
        self._failed: dict[Stage, str] = {}
        self._held: set[Stage] = set()
        """Ready stages that another process is at."""
        self._shown_at = 0.0

    def run(self) -> None:
        """Run until nothing runs and nothing more can start."""
        while True:
            self._start_ready()
            if not self._running and not self._held:
                return
            time.sleep(0.1)
            for ending in self._engine.ended():
                self._end(ending)
            self._show()

    def stop(self) -> None:
        """Stop what runs, if the driver is stopped."""
        self._engine.stop()
        for stage in self._running:
            self._log(stage).stop_run()

    def failures(self) -> list[Failure]:
        """The stages that were given up, with those that could not start."""
        return [
            Failure(stage, told, tuple(self._needing(stage.results))) for stage, told in self._failed.items()
        ]

    def _start_ready(self) -> None:
        for stage in [stage for stage in self._waiting if not self._pending.intersection(stage.needs)]:
            if not self._engine.admits(self._needs[stage]):
                continue  # perhaps a smaller one fits
            # A stage of a killed driver may still save its state.
            if locks.is_held(lock_of(stage.manifest)):
                self._wait_for_other(stage)
                continue
            self._held.discard(stage)
            self._waiting.remove(stage)
            self._running[stage] = time.monotonic()
            log = self._log(stage)
            log.say(f"--- {_now()}: {command_line(stage.arguments)}")
            log.forget()
            try:
                remove_outdated_results(stage)
                self._engine.start(stage, self._needs[stage], log)
            except Refusal as refusal:
                log.say(f"error: {refusal}")
                self._end(Ending(stage, "refused", f"refused: {refusal}"))

    def _wait_for_other(self, stage: Stage) -> None:
        if stage not in self._held:
            self._held.add(stage)
            self._screen.line(f"{stage.name}: another process is at it; it is started when that has ended")

    def _end(self, ending: Ending) -> None:
        stage, since = ending.stage, self._running.pop(ending.stage)
        if ending.cause == "done":
            self._log(stage).forget()
            self._pending.difference_update(stage.results)
            self._finished += 1
            now = time.monotonic()
            score = score_of(stage)
            self._screen.line(
                f"[{self._finished}/{self._total}] {stage.name}: {duration(now - since)}"
                f" ({duration(now - self._began)} in all){f'; {score}' if score else ''}"
            )
            return
        self._endings[stage, ending.cause] += 1
        if ending.cause == "memory":
            needs = self._needs[stage]
            self._needs[stage] = replace(needs, memory_bytes=max(2 * needs.memory_bytes, GIB))
        log = self._log(stage)
        if self._endings[stage, ending.cause] < TRIES[ending.cause]:
            log.stop_run()
            self._waiting.insert(0, stage)
            self._screen.line(f"{stage.name}: {ending.told}; it is tried again ({_path(log)})")
            return
        self._failed[stage] = ending.told
        log.write_run(Run(ending.cause, ending.told))
        self._screen.line(f"{stage.name} failed: {ending.told}; {_path(log)} ends with")
        for line in log.tail():
            self._screen.line(f"    {line}")

    def _show(self) -> None:
        now = time.monotonic()
        if not self._screen.is_live or now - self._shown_at < _TABLE_EVERY_S:
            return
        self._shown_at = now
        failed = f", {len(self._failed)} failed" if self._failed else ""
        found = [
            status_of(stage, self._log(stage), is_driven=True) for stage in (*self._running, *self._held)
        ]
        running = [status for status in found if status.state == "running"]  # others wait for a node
        waiting = self._total - self._finished - len(self._failed) - len(running)
        self._screen.table(running, f"{self._finished} of {self._total} done, {waiting} waiting{failed}")

    def _needing(self, results: Sequence[object]) -> Iterator[Stage]:
        """The waiting stages that need some results, and those that need theirs."""
        missing = {*results}
        for stage in self._in_order:
            if missing.intersection(stage.needs):
                missing.update(stage.results)
                yield stage

    def _log(self, stage: Stage) -> Log:
        return log_of(self._study, stage)


def report(study: Study, failures: Sequence[Failure]) -> None:
    """Say on standard error which stages failed, how each is run alone, and what could not start because of it."""
    blocked = {stage for failure in failures for stage in failure.blocked}
    failed = f"{count(len(failures), 'stage')} failed"
    lines = [f"{failed}, and {len(blocked)} that need them could not start:" if blocked else f"{failed}:"]
    for failure in failures:
        lines.append(f"{failure.stage.name}: {failure.told} ({_path(log_of(study, failure.stage))})")
        lines.append(f"    alone, in {study.base}: {command_line(failure.stage.arguments)}")
        if failure.blocked:
            lines.append(f"    not started: {', '.join(stage.name for stage in failure.blocked)}")
    print(*lines, sep="\n", file=sys.stderr)


@contextlib.contextmanager
def _sigterm_raising() -> Iterator[None]:
    """Context in which SIGTERM unwinds the work, and ends the process with one line."""

    def leave(signum: int, frame: FrameType | None) -> None:
        sys.exit(128 + signum)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except SystemExit:
        print(interrupts.LINE, file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _path(log: Log) -> str:
    return os.path.relpath(log.output)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
