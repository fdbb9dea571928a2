"""Folders with any name: spaces, quotes, letters of other languages, and bytes that are not UTF-8."""

import os
from pathlib import Path

import pytest

from analysis.report.page import write_report
from core.manifest import read_manifest
from plot import Plot
from tests.conftest import Command

NAMES = {
    "spaces and signs": b"a b'c\"d #1 %20 &amp; {x} [y] $HOME",
    "letters": "émilie 脉冲 🧠".encode(),
    "not UTF-8": b"\xff\xfe \xe9",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_stage_works_in_it(name: bytes, tmp_path: Path, command: Command) -> None:
    study = tmp_path / os.fsdecode(name)
    run, snn = study / "cartpole" / "dqn-s0", study / "cartpole" / "snn-s0" / "agent.safetensors"
    options = ("--game", "cartpole", "--total-steps", 300, "--warmup-steps", 100, "--replay-steps", 300)
    options += ("--eval-interval-steps", 300, "--eval-episodes", 2, "--seed", 0, "--threads", 1)
    states = ("--calibration-states", 100, "--test-states", 20)
    best, games = run / "best.safetensors", ("--episodes", 2, "--seed", 1)
    for words in (
        ("train_direct", "dqn", *options, "--out", run),
        ("convert", "run", "--agent", best, "--sim-steps", 4, *states, "--out", snn),
        ("evaluate", "run", "--agent", run, snn, "random", *games, "--out", study / "cartpole" / "games"),
        ("evaluate", "probe", "--agent", snn, "--states", 31, "--out", study / "cartpole" / "probe"),
        ("evaluate", "watch", "--agent", snn, "--steps", 3, "--save", study / "play.mp4"),
        (
            "adversarial",
            "run",
            "--agent",
            snn,
            "--epsilon",
            0,
            0.1,
            *games,
            "--out",
            study / "cartpole" / "a",
        ),
    ):
        assert command(*words).code == 0
        if words[1] != "watch":  # a film is made once
            assert command(*words).code == 0
    manifest = read_manifest(study / "cartpole" / "games" / "manifest.json")
    assert manifest is not None
    assert not [*manifest.mismatches()]
    Plot((str(study),)).run()
    page = write_report(study).read_text("utf-8")
    assert 'src="../figures/' in page
