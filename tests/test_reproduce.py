"""What a study's TOML turns into: stages, in an order in which each finds what it needs."""

from pathlib import Path

import pytest

import reproduce
from core.errors import Refusal


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a study named `made`; what it reads and writes lies in a folder of the test."""
    (tmp_path / "studies").mkdir()
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    return tmp_path / "studies" / "made.toml"


HEAD = 'train_seeds = [0, 1]\nevaluation_seed = 7\nthreads = 1\ncheckpoint = "best"\n'


def names(stages: list[reproduce.Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_shipped_agents_are_used_beside_trained_ones(study: Path) -> None:
    study.write_text(
        HEAD
        + '[games.pong]\nshipped = { dqn = "results/agents/a.safetensors", dsqn = "results/agents/b.safetensors" }\n'
        + "convert = { sim_steps = 8 }\nevaluate = { episodes = 2 }\nattack = { epsilon = [0] }\n"
        + "dqn = { total_steps = 5 }\ntrain_seeds = [3]\n"
    )
    stages = reproduce.plan("made")
    assert names(stages) == [
        "evaluate pong/evaluate-random",
        "train pong/dqn-s3",
        "convert pong/snn-s3",
        "evaluate pong/evaluate-dqn-s3",
        "attack pong/attack-dqn-s3",
        "evaluate pong/evaluate-snn-s3",
        "attack pong/attack-snn-s3",
        "convert pong/snn-shipped",
        "evaluate pong/evaluate-dqn-shipped",
        "attack pong/attack-dqn-shipped",
        "evaluate pong/evaluate-dsqn-shipped",
        "attack pong/attack-dsqn-shipped",
        "evaluate pong/evaluate-snn-shipped",
        "attack pong/attack-snn-shipped",
    ]
    given = {study.parent.parent / "results" / "agents" / f"{name}.safetensors" for name in "ab"}
    made: set[Path] = set()
    for stage in stages:
        assert set(stage.needs) <= made | given
        made.add(stage.gives)
    converted = next(stage for stage in stages if stage.name == "convert pong/snn-shipped")
    assert converted.arguments[:4] == ("convert", "run", "--agent", "results/agents/a.safetensors")


def test_what_a_study_leaves_out_is_not_run(study: Path) -> None:
    study.write_text(HEAD + '[games."minatar/breakout"]\ndsqn = { total_steps = 5 }\n')
    assert names(reproduce.plan("made")) == [
        "train minatar-breakout/dsqn-s0",
        "train minatar-breakout/dsqn-s1",
    ]


def test_a_setting_that_means_nothing_is_refused(study: Path) -> None:
    study.write_text(HEAD + "[games.pong]\ndqm = { total_steps = 5 }\n")
    with pytest.raises(
        Refusal, match=r"made.toml: unknown setting 'dqm' of pong: settings are train_seeds, dqn"
    ):
        reproduce.plan("made")


@pytest.mark.parametrize(
    "path", sorted((reproduce.ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem
)
def test_the_studies_can_be_planned(path: Path) -> None:
    stages = reproduce.plan(path.stem)
    assert stages
    assert len({stage.manifest for stage in stages}) == len(stages)
