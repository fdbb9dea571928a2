"""Stages as child processes, started as a user would type their commands. Never imports torch.

Nothing here runs Python between a fork and what follows it. In a process with threads, the child may find a lock taken
by a thread that it does not have, and wait for it forever.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from core.errors import Refusal
from core.places import HOUSE

_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sends a process a signal when its parent ends."""
_PARENT_VARIABLE = "SPIKEQ_PARENT"
"""Environment variable that names the process with which a stage ends."""

Result = TypeVar("Result")


def start(
    words: Sequence[str], variables: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Start `python -m WORDS`. It gets SIGTERM if this process ends first, however that happens.

    Args:
        words: module and arguments.
        variables: environment variables that it gets besides those of this process.
        options: of `subprocess.Popen`.
    """
    # -P: modules in the working directory do not hide those of SpikeQ. --extension finds them nevertheless.
    command = [sys.executable, "-P", "-m", *words]
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(HOUSE), *map(os.path.abspath, given)])
    environment = {**os.environ, "PYTHONPATH": path, _PARENT_VARIABLE: str(os.getpid()), **(variables or {})}
    return subprocess.Popen(command, env=environment, **options)


def follow_parent() -> None:
    """End this process with the one that started it by `start`, if one did. Every command calls this first."""
    parent = os.environ.pop(_PARENT_VARIABLE, None)
    if parent is not None:
        _die_with_parent()
        if parent != str(os.getppid()):  # it ended before
            sys.exit(128 + signal.SIGTERM)


def elsewhere(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function returns in a new process, which may import what this one must not.

    Raises:
        Refusal: the process was ended from outside.
        Exception: what the function raised.
    """
    import multiprocessing  # takes time to import

    context = multiprocessing.get_context("spawn")
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(answer, os.getpid(), function, arguments))
    # The new process inherits that Ctrl-C is blocked: it is for this one, which ends the other.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    answer.close()
    try:
        result, error = answers.recv()
    except EOFError:
        process.join()
        raise Refusal(f"a process that was asked about the work ended with exit code {process.exitcode}")
    except BaseException:
        process.kill()
        raise
    process.join()
    if error is not None:
        raise error
    found: Result = result
    return found


def _answer(answer: Any, parent: int, function: Callable[..., object], arguments: Sequence[object]) -> None:
    """What the process of `elsewhere` does."""
    _die_with_parent()
    if os.getppid() != parent:  # it ended before
        return
    result, error = None, None
    try:
        result = function(*arguments)
    except Exception as raised:
        error = raised
    answer.send((result, error))


def stop(running: Iterable["subprocess.Popen[Any]"], patience_s: float) -> None:
    """Tell processes to stop, and return when all have. One that takes longer than its patience is killed.

    Args:
        running: the processes.
        patience_s: seconds that they have to save their state.
    """
    running = [*running]
    give_up = time.monotonic() + patience_s
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """End this process with its parent. Otherwise the next one that does the same work would find this one at it."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
