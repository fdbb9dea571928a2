"""The driver of a study on this machine: failures, memory, logs, status, one driver at a time, and signals."""

import contextlib
import os
import pty
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from core import interrupts, locks, memory
from core.errors import Refusal
from core.gpus import VISIBLE_VARIABLE, visible_gpus
from core.manifest import lock_of
from studies.done import is_done
from studies.engine import LocalEngine, Needs
from studies.logs import Log, Run, folder_of, log_of
from studies.planning import Stage
from studies.reading import Study
from studies.running import Failure, report, run_all
from studies.showing import Screen, status_lines
from studies.status import driver_of, driving, status_of, statuses
from tests.studies.conftest import Simulated, drive, wait_for, wait_until


def run(study: Study, *stages: Stage, jobs: int = 3) -> list[Failure]:
    return run_all(study, stages, LocalEngine(study, jobs), lambda stage: Needs(), Screen())


def test_what_needs_no_failed_stage_goes_on(
    study: Study, simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    once = simulated("once", misbehave=("fail", 1))
    always = simulated("always", misbehave=("fail", 9))
    refused = simulated("refused", misbehave=("refuse", 9))
    after_once, after = simulated("after-once", needs=(once,)), simulated("after", needs=(always,))
    last = simulated("last", needs=(after, once))
    stages = (once, always, refused, after_once, after, last)
    failures = run(study, *stages)
    assert [stage for stage in stages if is_done(stage)] == [once, after_once]
    assert {failure.stage: failure.blocked for failure in failures} == {always: (after, last), refused: ()}
    # A failure is tried again once, a refusal is not.
    assert {file.stem: file.stat().st_size for file in Path().glob("*.count")} == {
        "once": 1,
        "always": 2,
        "refused": 1,
    }
    printed = capsys.readouterr().out
    assert "probe game/once: exit code 1; it is tried again (made/logs/game/once.log)" in printed
    assert "probe game/always failed: exit code 1; made/logs/game/always.log ends with\n" in printed
    assert "\n    it went wrong\n" in printed
    report(study, failures)
    told = capsys.readouterr().err
    assert told.startswith("2 stages failed, and 2 that need them could not start:\n")
    assert f"alone, in {study.base}: spikeq {' '.join(always.arguments)}\n" in told
    assert "    not started: probe game/after, probe game/last\n" in told

    found = {status.stage: status for status in statuses(study, stages)}
    assert [found[stage].state for stage in stages] == [
        *("done", "failed", "failed", "done", "waiting", "waiting")
    ]
    lines = [*status_lines(study, [*found.values()])]
    assert lines[0] == "study made: 2 done, 2 waiting, 2 failed of 6 stages; not driven"
    failed = next(number for number, line in enumerate(lines) if line.startswith("probe game/always"))
    assert "exit code 1" in lines[failed]
    assert lines[failed + 1].startswith("    ")
    # Once the cause is gone, the same study goes on.
    Path("always.count").write_text("." * 9)
    assert run(study, *(stage for stage in stages if not is_done(stage) and stage is not refused)) == []
    assert is_done(last)


def test_a_stage_that_was_killed_gets_more_memory(study: Study, simulated: Simulated) -> None:
    granted: list[int] = []

    class Noting(LocalEngine):
        def start(self, stage: Stage, needs: Needs, log: Log) -> None:
            granted.append(needs.memory_bytes)
            super().start(stage, needs, log)

    stage = simulated("greedy", misbehave=("kill", 2))
    assert run_all(study, [stage], Noting(study, 1), lambda stage: Needs(memory_bytes=2**30), Screen()) == []
    assert granted == [2**30, 2**31, 2**32]


def test_the_driver_starts_stages_in_the_order_of_the_forecast(
    study: Study, simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [simulated(name) for name in ("short", "long", "training")]
    stages[2] = replace(stages[2], kind="train")
    seconds = dict(zip(stages, (1.0, 9.0, 2.0), strict=True))
    engine = LocalEngine(study, 1)
    assert run_all(study, stages, engine, lambda stage: Needs(seconds=seconds[stage]), Screen()) == []
    names = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert names == ["game/training:", "game/long:", "game/short:"]


def test_only_what_runs_is_told_to_run(study: Study, simulated: Simulated) -> None:
    stage = simulated("once", misbehave=("fail", 1))
    log, found = log_of(study, stage), []

    class Watching(LocalEngine):
        def admits(self, needs: Needs) -> bool:
            found.append(status_of(stage, log, is_driven=True).state)
            return super().admits(needs)

    assert run_all(study, [stage], Watching(study, 1), lambda stage: Needs(), Screen()) == []
    assert found == ["waiting", "interrupted"]  # the second time it waits to be tried again
    # A driver that was killed left this; the next one is of other stages.
    left = simulated("left")
    log_of(study, left).write_run(Run("running"))
    with driving(study):
        assert [status.state for status in statuses(study, [left])] == ["interrupted"]


def test_a_stage_that_another_process_is_at_is_started_after_it(
    study: Study, simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, free = simulated("held"), simulated("free")
    lock = lock_of(stage.manifest)
    lock.parent.mkdir(parents=True)
    held = locks.acquire(lock, 0)
    assert held is not None
    found: list[object] = []

    def leave() -> None:
        wait_until(lambda: is_done(free))
        found.extend(
            [log_of(study, stage).output.exists(), *(each.state for each in statuses(study, [stage]))]
        )
        locks.release(lock, held)

    thread = Thread(target=leave)
    thread.start()
    assert run(study, stage, free) == []
    thread.join()
    assert found == [False, "running"]
    assert is_done(stage)
    assert capsys.readouterr().out.startswith("probe game/held: another process is at it; it is started when")


def test_what_does_not_fit_beside_others_waits(study: Study, simulated: Simulated) -> None:
    engine = LocalEngine(study, 2)
    large = Needs(memory_bytes=int(0.6 * memory.available_bytes()))
    assert engine.admits(Needs(memory_bytes=2**60))  # nothing else runs
    first = simulated("first", seconds=30)
    log = log_of(study, first)
    log.say("")
    engine.start(first, large, log)
    assert not engine.admits(large)
    assert not engine.admits(Needs(disk_bytes=2**60))
    assert engine.admits(Needs())
    # What a running stage has written is counted once.
    size, free = 2**28, shutil.disk_usage(study.base).free
    writing = simulated("writing", seconds=30)
    other = LocalEngine(study, 2)
    other.start(writing, Needs(disk_bytes=size), log)
    assert not other.admits(Needs(disk_bytes=free - size // 2))
    writing.manifest.parent.mkdir(parents=True, exist_ok=True)
    with open(writing.manifest.with_name("replay"), "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    assert other.admits(Needs(disk_bytes=free - size - size // 2))
    Path(file.name).unlink()
    other.stop()
    engine.start(simulated("second", seconds=30), Needs(), log)
    assert not engine.admits(Needs())  # two run
    engine.stop()
    assert engine.admits(large)
    assert engine.ended() == []


def test_stages_share_gpus_and_one_without_a_share_sees_none(
    study: Study, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE_VARIABLE, raising=False)
    assert len(visible_gpus()) == len([*Path("/dev").glob("nvidia[0-9]*")])
    monkeypatch.setenv(VISIBLE_VARIABLE, "-1")
    assert not LocalEngine(study, 9).has_gpu
    monkeypatch.setenv(VISIBLE_VARIABLE, "GPU-a, GPU-b")
    engine = LocalEngine(study, 9)
    assert engine.has_gpu
    half, stages = Needs(gpu_share=0.5), [simulated(name) for name in ("one", "two", "three", "four", "cpu")]
    for stage in stages:
        needs = Needs() if stage is stages[-1] else half
        assert engine.admits(needs)
        log = log_of(study, stage)
        log.say("")
        engine.start(stage, needs, log)
    assert not engine.admits(half)
    assert engine.admits(Needs())
    wait_until(lambda: engine.ended() != [] and engine.admits(half))
    wait_until(lambda: all(map(is_done, stages)))
    engine.stop()
    seen = [log_of(study, stage).output.read_text().partition("%, GPU ")[2].split()[0] for stage in stages]
    assert seen == ["'GPU-a'", "'GPU-b'", "'GPU-a'", "'GPU-b'", "''"]


def test_a_terminal_has_a_table_of_what_runs(simulated: Simulated) -> None:
    """Elsewhere are lines, as the other tests read them."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    driver = drive(simulated("slow", seconds=3.5), stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # once its other end is closed
        while True:
            shown += os.read(ours, 4096)
    os.close(ours)
    assert driver.wait() == 0, shown
    text = shown.decode()
    for part in ("0 of 1 done, 0 waiting", "last score", "probe game/slow", " of 100 steps", "score 0.5"):
        assert part in text, text
    assert "[1/1] probe game/slow: " in text


def test_a_driver_is_watched_and_stopped_from_outside(study: Study, simulated: Simulated) -> None:
    stage = simulated("slow", seconds=60)
    log, lock = log_of(study, stage), folder_of(study) / "driver.lock"

    def state() -> str:
        (status,) = statuses(study, [stage])
        return status.state

    def watched() -> "subprocess.Popen[str]":
        driver = drive(stage, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(log.progress)
        assert state() == "running"
        return driver

    assert state() == "waiting"
    driver = watched()
    driver.kill()
    driver.communicate()
    assert lock.exists()  # but it is nobody's
    assert driver_of(study) is None
    wait_until(lambda: state() == "interrupted")  # its stage is told to stop

    log.progress.unlink()
    driver = watched()
    (found,) = statuses(study, [stage])
    assert f"driven by process {driver.pid} on " in next(iter(status_lines(study, [found])))
    with pytest.raises(Refusal, match=rf"process {driver.pid} on .* runs this study already"), driving(study):
        pass
    second = drive(stage, stderr=subprocess.PIPE)
    assert second.communicate()[1].startswith(f"error: process {driver.pid} on ")
    assert second.returncode == 2
    (child,) = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    driver.terminate()
    assert driver.communicate(timeout=60)[1] == f"{interrupts.LINE}\n"
    assert driver.returncode == 128 + signal.SIGTERM
    assert not Path(f"/proc/{child}").exists()
    assert not lock.exists()
    assert state() == "interrupted"

    log.progress.unlink()
    driver = watched()
    driver.send_signal(signal.SIGINT)
    assert driver.communicate(timeout=60)[1] == f"{interrupts.LINE}\n"
    assert driver.returncode == 128 + signal.SIGINT
    assert state() == "interrupted"


@pytest.mark.parametrize(
    "name", ["logs", "logs/game", "logs/game/a.log", "logs/game/a.progress.json", "logs/game/a.run.json"]
)
def test_no_link_among_logs_is_followed(name: str, study: Study, simulated: Simulated) -> None:
    stage = simulated("a")
    outside = study.base / "outside"
    outside.mkdir()
    target = outside
    if "." in name:
        target = outside / "mine"
        target.write_text("mine")
    link = study.base / study.folder / name
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    partial = link.with_name(f".{link.name}.partial")
    partial.symlink_to(target)
    if "json" in name:  # such files are replaced as a whole
        assert run(study, stage) == []
        log_of(study, stage).write_run(Run("running"))
    else:
        with pytest.raises(Refusal, match=f"{link.name} is a symbolic link"):
            run(study, stage)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("mine", "mine")] * ("." in name)
