"""Command lines of benchmarks: what is wrong is known before anything is measured."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--json", "README.md"), "README.md exists: a new file is needed"),
        (("--json", "no/such/folder.json"), "is not a folder that can be written"),
        (("--jsn", "new.json"), "unrecognized arguments: --jsn new.json"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(words: tuple[str, ...], complaint: str) -> None:
    command = [sys.executable, "-m", "benchmarks.intervals", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"{complaint}\n")
    assert done.stderr.count("\n") == 1
