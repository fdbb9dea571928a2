"""No environment changes what a command writes, or ends in a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spikeq.__main__ import VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = REPOSITORY / "results" / "decoders"


def run(*words: str, cwd: Path = REPOSITORY, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "spikeq", *words]
    set_ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(command, cwd=cwd, env=set_, capture_output=True)


def figures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}


def test_figures_are_the_same_bytes_under_any_settings_of_matplotlib(tmp_path: Path) -> None:
    """A notebook's backend may not be installed, and a user's matplotlibrc has other fonts and sizes."""
    rows = tmp_path / "rows"
    shutil.copytree(ROWS, rows, ignore=shutil.ignore_patterns("figures", "plot.json"))
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 23\naxes.facecolor: red\nsavefig.dpi: 20\n")
    plain = run("plot", str(rows), "--out", str(tmp_path / "plain"))
    changed = run(
        *("plot", str(rows), "--out", str(tmp_path / "changed")),
        MATPLOTLIBRC=str(settings),
        MPLBACKEND="module://no_such_backend.at_all",
    )
    assert (plain.returncode, changed.returncode) == (0, 0), changed.stderr.decode()
    assert figures(tmp_path / "changed") == figures(tmp_path / "plain") != {}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_help_is_printed_in_any_encoding(verb: str, encoding: str) -> None:
    done = run(verb, "--help", PYTHONIOENCODING=encoding, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert done.returncode == 0, done.stderr.decode()
    assert b"usage:" in done.stdout


def test_a_reader_that_wants_no_more_is_no_error() -> None:
    command = f"{sys.executable} -m spikeq evaluate check results/decoders --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.splitlines()[0].startswith("usage:")
    assert done.stderr == ""


def test_verbs_work_under_the_c_locale(tmp_path: Path) -> None:
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    out = str(tmp_path / "\u8109\u51b2")
    played = ("evaluate", "run", "--agent", "random", "--game", "cartpole", "--episodes", "1", "--out", out)
    for words in (played, ("report", out)):
        done = run(*words, cwd=tmp_path, **ascii_only)
        assert done.returncode == 0, done.stderr.decode()
    assert "\u8109\u51b2" in (Path(out) / "report" / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run", "--agent", "random", "--game", "minatar/breakout", "--out", ""),
        ("evaluate", "run", "--agent", "random", "--game", "minatar/breakout", "--out="),
        ("train", "dqn", "--game", "cartpole", "--out", ""),
        ("convert", "run", "--agent", "x.safetensors", "--out", ""),
        ("attack", "states", "--agent", "x.safetensors", "--out="),
        ("card", "--agent", "random", "--game", "cartpole", "--out", ""),
        ("plot", "results/decoders", "--out", ""),
        ("report", "results/decoders", "--out", ""),
        ("reproduce", "smoke", "--out", ""),
        ("leaderboard", "--out", ""),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    """It would be the working directory."""
    done = run(*words, cwd=tmp_path)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (2, 1), lines
    assert "--out is ''" in lines[0]
    assert list(tmp_path.iterdir()) == []
