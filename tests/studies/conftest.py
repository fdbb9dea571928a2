"""Studies of simulated stages: real processes that sleep, misbehave and write one file each."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studies.planning import Stage
from studies.reading import Study, read_study

REPOSITORY = Path(__file__).resolve().parents[2]
SIMULATED = REPOSITORY / "benchmarks" / "stages"
"""Where Python finds the module of the simulated stages."""
Simulated = Callable[..., Stage]


@pytest.fixture(autouse=True)
def simulated_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (REPOSITORY, SIMULATED))))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose stages the test makes; its base is the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("made.toml").write_text(
        'train_seeds = [0]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "best"\n[games.cartpole]\n'
    )
    return read_study("made.toml")


@pytest.fixture
def simulated(study: Study) -> Simulated:
    """`simulated("a", needs=[other])` is a stage of the study."""

    def make(
        name: str,
        *,
        seconds: float = 0.0,
        needs: tuple[Stage, ...] = (),
        misbehave: tuple[str, int] = ("", 0),
    ) -> Stage:
        out = f"{study.folder}/game/{name}"
        files = [result for need in needs for result in need.results]
        words = ["simulated", "--seconds", str(seconds)]
        if files:
            words += ["--needs", *(os.path.relpath(file, study.base) for file in files)]
        if misbehave[0]:
            words += ["--misbehave", misbehave[0], str(study.base / f"{name}.count"), str(misbehave[1])]
        folder = study.base / out
        return Stage(
            "probe",
            (*words, "--out", out),
            folder / "manifest.json",
            tuple(files),
            (folder / "result.txt",),
            (),
        )

    return make


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    patience = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.02)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    wait_until(path.exists)


DRIVER = """
import sys
from pathlib import Path

from core import interrupts

interrupts.answer()
from core.cli import _exit_with_refusals
from studies.engine import LocalEngine, Needs
from studies.planning import Stage
from studies.reading import read_study
from studies.running import run_all
from studies.showing import Screen
from studies.status import driving


def work():
    study = read_study("made.toml")
    engine, *words, folder = sys.argv[1:]
    if "Ray" in engine:
        from studies.ray_engine import RayEngine
    manifest, result = (study.base / folder / name for name in ("manifest.json", "result.txt"))
    stage = Stage("probe", (*words, "--out", folder), manifest, (), (result,), ())
    with driving(study):
        run_all(study, [stage], eval(engine), lambda stage: Needs(), Screen())


_exit_with_refusals(work)
"""
"""Drives a study of one stage, given by its command line, with an engine, given as Python."""


def drive(stage: Stage, engine: str = "LocalEngine(study, 1)", **options: Any) -> "subprocess.Popen[str]":
    """A process that drives a study of one stage."""
    words = (word for word in stage.arguments if word != "--out")
    return subprocess.Popen([sys.executable, "-c", DRIVER, engine, *words], text=True, **options)
