"""Processes that do work for this one, and end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import processes
from core.errors import Refusal

REPOSITORY = Path(__file__).resolve().parents[2]


def of_this_process(word: str) -> tuple[str, int, bool]:
    """What a process knows of itself."""
    print("this is no answer")
    return word, os.getpid(), "torch" in sys.modules


def refuses(word: str) -> None:
    raise Refusal(f"{word} is refused")


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def tests_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def test_work_is_done_in_a_new_process() -> None:
    word, process, has_torch = processes.elsewhere(of_this_process, "some")
    assert word == "some"
    assert process != os.getpid()
    assert not has_torch  # it inherits nothing


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(Refusal, match=r"^this is refused$"):
        processes.elsewhere(refuses, "this")
    with pytest.raises(Refusal, match="ended with exit code -9"):
        processes.elsewhere(is_killed)


PARENT = """
import sys, time
from core import processes
words = ["benchmarks.stages.simulated", "--out", sys.argv[2], "--seconds", "60"]
process = processes.start(words, stdout=-3, stderr=-3)
print(process.pid, flush=True)
time.sleep(float(sys.argv[1]))
import os; os._exit(0)
"""


@pytest.mark.parametrize("lives_s", ["0", "1"])
def test_a_process_ends_with_its_parent_however_early_that_ends(lives_s: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PARENT, lives_s, str(tmp_path / "out")]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    child = Path("/proc") / done.stdout.strip()
    patience = time.monotonic() + 30
    while child.exists() and "Z" not in (child / "stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < patience
        time.sleep(0.02)
