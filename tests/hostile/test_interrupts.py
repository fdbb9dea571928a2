"""Ctrl-C ends every command with one line and exit code 130, whenever it comes, and never with a traceback."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from core import interrupts

REPOSITORY = Path(__file__).resolve().parents[2]
AGENT = REPOSITORY / "results" / "agents" / "minatar-breakout-dsqn-s0.safetensors"
EVALUATE = ("evaluate", "run", "--agent", str(AGENT), "--episodes", "100000", "--out", "rows")
TRAIN = ("train", "dqn", "--game", "minatar/breakout", "--out", "run")
DRAW = ("plot", str(REPOSITORY / "results" / "decoders"), "--out", "figures")
CATCHES_EVERYTHING = """
import time
for _ in range(2):
    try:
        print("imports", flush=True)
        time.sleep(60)
    except BaseException:
        pass
"""


def start(words: Sequence[str], cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env={"PYTHONPATH": f"{REPOSITORY}:{cwd}", "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def began(err: str) -> bool:
    """Whether the line that answers Ctrl-C from then on was passed. Before it, Python answers as for any program."""
    if "Traceback" not in err:
        return err != ""
    # In line 0, a module has not run its first line.
    frames = re.findall(r'^  File "(.*?)", line [1-9]\d*, in .*\n(?:    (.*))?', err, re.MULTILINE)
    return any(
        file.startswith(str(REPOSITORY))
        and "site-packages" not in file
        and not file.endswith(("__init__.py", "core/interrupts.py"))
        and not line.startswith(("from core import interrupts", "interrupts.answer()"))
        for file, line in frames
    )


@pytest.mark.parametrize(
    "words",
    [EVALUATE, TRAIN, DRAW, ("--help",), ("convert", "run", "--help")],
    ids=lambda words: " ".join(words[:2]),
)
def test_at_any_moment(words: Sequence[str], tmp_path: Path) -> None:
    """Later and later, until it was interrupted in five places of ours or had finished before."""
    answered, moment_s = 0, 0.02
    while answered < 5:
        folder = tmp_path / str(moment_s)
        folder.mkdir()
        process = start(("-m", "spikeq", *words), folder)
        time.sleep(moment_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:  # it had finished
            assert err == ""
            break
        if began(err):
            assert process.returncode == 130, err
            # A run that saved its state tells where it resumes. Before it, a line tells what the replay takes.
            last = [line for line in err.splitlines() if "the replay takes" not in line]
            assert len(last) == 1, err
            assert last == [interrupts.LINE] or "the same command resumes at" in last[0]
            answered += 1
        moment_s *= 2


def test_an_import_that_catches_everything_does_not_swallow_it(tmp_path: Path) -> None:
    """As one that MinAtar games need: the command would go on."""
    (tmp_path / "greedy.py").write_text(CATCHES_EVERYTHING)
    process = start(("-m", "spikeq", "evaluate", "run", "--extension", "greedy", "--help"), tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "imports\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", f"{interrupts.LINE}\n")
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("time.sleep(60)", interrupts.LINE),
        # Python ignores what a destructor raises, and says so in a traceback.
        ("class A:\n  __del__ = lambda self: time.sleep(60)\nA()\ntime.sleep(60)", interrupts.LINE),
        ("try:\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  raise KeyboardInterrupt('kept')", "kept"),
    ],
    ids=["work", "a destructor", "words of its own"],
)
def test_in_the_work(work: str, line: str, tmp_path: Path) -> None:
    program = (
        "from core import interrupts\n"
        "interrupts.answer()\n"
        "import time\n"
        "from core.cli import _exit_with_refusals\n"
        f"def work():\n  print('works', flush=True)\n  exec({work!r})\n"
        "_exit_with_refusals(work)\n"
    )
    process = start(("-c", program), tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", f"{line}\n")
    assert process.returncode == 130


def test_finished_work_stays_finished(tmp_path: Path) -> None:
    program = (
        "from core import interrupts\n"
        "interrupts.answer()\n"
        "import atexit, os, signal\n"
        "from core.cli import _exit_with_refusals\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "_exit_with_refusals(lambda: print('done'))\n"
    )
    process = start(("-c", program), tmp_path)
    assert process.communicate(timeout=60) == ("done\n", "")
    assert process.returncode == 0


def test_a_library_installs_nothing(tmp_path: Path) -> None:
    program = (
        "import signal, sys, spikeq, spikeq.__main__, evaluate.__main__, plot, reproduce\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert sys.unraisablehook is sys.__unraisablehook__\n"
    )
    process = start(("-c", program), tmp_path)
    assert process.communicate(timeout=60) == ("", "")


def test_a_process_that_was_told_to_ignore_it_does(tmp_path: Path) -> None:
    """A shell does so for commands in the background."""
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from spikeq.__main__ import main; main()"
    process = start(
        ("-c", f"{program}; assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN", "--help"), tmp_path
    )
    assert process.communicate(timeout=60)[1] == ""


def test_pictures_that_were_saved_are_kept_and_the_line_says_so(tmp_path: Path) -> None:
    save = tmp_path / "pictures"
    words = ("-m", "evaluate", "watch", "--agent", str(AGENT), "--steps", "100000", "--save", str(save))
    process = start(words, tmp_path)
    while not (save / "000002.png").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert "pictures keeps the pictures so far; remove it, or choose another --save" in err
