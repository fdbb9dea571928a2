"""Stages as child processes, started as a user would type their commands. Never imports torch."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from core.places import HOUSE

_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sends a process a signal when its parent ends."""


def start(words: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start `python -m WORDS`. It gets SIGTERM if this process ends first, however that happens.

    Args:
        words: module and arguments.
        options: of `subprocess.Popen`.
    """
    # -P: modules in the working directory do not hide those of SpikeQ. --extension finds them nevertheless.
    command = [sys.executable, "-P", "-m", *words]
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(HOUSE), *map(os.path.abspath, given)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, preexec_fn=die_with_parent, **options)


def die_with_parent() -> None:
    """End this process with its parent. Otherwise the next one that does the same work would find this one at it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
