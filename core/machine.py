"""Where and by which code results are made, for manifests and cards. Never imports torch."""

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from core.places import HOUSE


@functools.cache
def processor() -> str:
    """Name of the processor, as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name") or platform.processor() or platform.machine()


@functools.cache
def source_code() -> dict[str, Any]:
    """The commit of the source code, and whether it was changed: any file of our packages, new ones too, or a script.

    None for both outside a Git checkout.
    """
    head = _git("rev-parse", "HEAD")
    if head is None or Path(_git("rev-parse", "--show-toplevel") or "") != HOUSE:
        return {"commit": None, "changed": None}
    packages = sorted(file.parent.name for file in HOUSE.glob("*/__init__.py"))
    scripts = sorted(file.name for file in HOUSE.glob("*.py"))
    return {
        "commit": head,
        "changed": bool(_git("status", "--porcelain", "--", *packages, *scripts)),
    }


def machine() -> dict[str, Any]:
    """Processor and number of cores, Python, and the source code."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **source_code(),
    }


def _git(*words: str) -> str | None:
    """What a Git command prints; None if it fails or Git is missing."""
    try:
        found = subprocess.run(["git", "-C", str(HOUSE), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
