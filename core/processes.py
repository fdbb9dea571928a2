"""Stages as child processes, started as a user would type their commands. Never imports torch."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.places import HOUSE

_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sends a process a signal when its parent ends."""


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
    environment = {**os.environ, "PYTHONPATH": path, **(variables or {})}
    return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent, **options)


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


def die_with_parent() -> None:
    """End this process with its parent. Otherwise the next one that does the same work would find this one at it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
