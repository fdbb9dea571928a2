"""Contenders take turns, each in a process of its own.

Settings of one contender (threads, denormals, memory) so do not affect another. A noisy machine slows all of them.
Processes wait for their turn on a pipe.
"""

import atexit
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

Round = Callable[[], object]
"""One round of a contender."""
SPAWN = multiprocessing.get_context("spawn")


class Turns(NamedTuple):
    """Time and memory of a contender's rounds."""

    seconds: float
    """Median over rounds. Of processes that run side by side, the slowest counts."""
    peak_mib: float
    """Most resident memory (MiB) that one of its processes ever held."""


def take_turns(contenders: Mapping[str, Sequence[Callable[[], Round]]], rounds: int) -> dict[str, Turns]:
    """Run contenders in turn. The first round warms up and is not counted.

    Args:
        contenders: for each name, functions that make the rounds of its processes, which work at the same time. Each is
            called in its process, so it has to be a function of a module or a functools.partial of one.
        rounds: number of rounds that are counted.
    """
    with ExitStack() as stack:
        processes = {
            name: [stack.enter_context(ProcessPoolExecutor(1, SPAWN, _build, (build,))) for build in builds]
            for name, builds in contenders.items()
        }
        done: dict[str, list[Turns]] = {name: [] for name in contenders}
        for _ in range(rounds + 1):
            for name, own in processes.items():
                running = [process.submit(_round) for process in own]
                done[name].append(Turns(*map(max, zip(*(each.result() for each in running), strict=True))))
    return {
        name: Turns(statistics.median(turn.seconds for turn in turns[1:]), turns[-1].peak_mib)
        for name, turns in done.items()
    }


def alone(work: Callable[[], float]) -> float:
    """The result of a function that runs in a process of its own."""
    with ProcessPoolExecutor(1, SPAWN, _leave_with_parent) as process:
        return process.submit(work).result()


_work: Round


def _build(build: Callable[[], Round]) -> None:
    global _work
    _leave_with_parent()
    _work = build()
    atexit.register(globals().pop, "_work")  # ALE complains about emulators that outlive the interpreter


def _leave_with_parent() -> None:
    """End this process when its parent is killed. Otherwise it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _round() -> Turns:
    start = time.perf_counter()
    _work()
    seconds = time.perf_counter() - start
    # Not getrusage's ru_maxrss: it begins with the memory of the parent when this process was started.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Turns(seconds, int(status["VmHWM"].split()[0]) / 1024)
