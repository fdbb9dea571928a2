"""Stages as child processes, started as a user would type their commands. Never imports torch.

Nothing here runs Python between a fork and what follows it. In a process with threads, the child may find a lock taken
by a thread that it does not have, and wait for it forever.
"""

import os
import pickle
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
        BaseException: what the function raised.
    """
    order = pickle.dumps((function, arguments))
    # Ctrl-C is for this process, which ends the other one.
    with start(["core.processes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            answer, _ = process.communicate(order)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Refusal(f"a process that was asked about the work ended with exit code {process.returncode}")
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    found: Result = result
    return found


def _serve() -> None:
    """Do what `elsewhere` asks on standard input, and answer on standard output."""
    follow_parent()
    answers = os.dup(1)
    os.dup2(2, 1)  # what the function prints is no answer
    function, arguments = pickle.load(sys.stdin.buffer)
    result, error = None, None
    try:
        result = function(*arguments)
    except Exception as raised:
        error = raised
    with open(answers, "wb") as out:
        pickle.dump((result, error), out)


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


if __name__ == "__main__":
    _serve()
