"""Small copies of whole runs: a study goes on from them as from the runs."""

import shutil
from pathlib import Path

import pytest
import torch

from core.checkpoint import load_agent
from core.errors import Refusal
from studies.done import is_done, remaining
from studies.planning import plan
from studies.reading import read_study
from studies.status import statuses
from tests.conftest import Command
from train_direct.ship import ship_run

STUDY = """
train_seeds = [0]
evaluation_seed = 1
threads = 1
checkpoint = "best"
[games.cartpole]
dqn = { total_steps = 300, warmup_steps = 50, eval_interval_steps = 150, eval_episodes = 2 }
evaluate = { episodes = 1 }
"""


@pytest.fixture
def run(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of a study's training."""
    monkeypatch.chdir(tmp_path)
    Path("made.toml").write_text(STUDY)
    words = {stage.kind: stage.arguments for stage in plan(read_study("made.toml"))}["train"]
    assert command(words[0], *words[1:]).code == 0
    return Path(words[-1])


def contents(folder: Path) -> dict[str, bytes]:
    """What is in the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_study_takes_the_copy_for_the_run(run: Path, command: Command) -> None:
    before = contents(run)
    shipped = command("train_direct", "ship", "--agent", run, "--out", "small")
    assert (shipped.code, shipped.err) == (0, "")
    again = command("train_direct", "ship", "--agent", run, "--out", "small")
    assert (again.code, again.out) == (0, "small: already done\n")
    assert contents(run) == before
    small = contents(Path("small"))
    assert small.keys() == before.keys()
    for name in small.keys() - {"manifest.json"}:
        if not name.endswith(".safetensors"):
            assert small[name] == before[name]
            continue
        assert len(small[name]) < len(before[name])
        copy, source = load_agent(Path("small", name)), load_agent(run / name)
        assert copy.provenance == {**source.provenance, "rounded_from": source.id}
        weights = copy.agent.state_dict()
        for key, tensor in source.agent.state_dict().items():
            assert torch.equal(weights[key], tensor.half().float())
    shutil.rmtree(run)
    Path("small").rename(run)
    training, evaluation = plan(read_study("made.toml"))[1:]
    assert is_done(training)
    assert not is_done(evaluation)
    assert command(evaluation.arguments[0], *evaluation.arguments[1:]).code == 0
    assert is_done(evaluation)


def test_weights_that_nothing_waits_for_may_be_missing(run: Path, command: Command) -> None:
    """As in a clone of the repository, which has rows and not all weights."""
    training, evaluation = plan(read_study("made.toml"))[1:]
    command(evaluation.arguments[0], *evaluation.arguments[1:])
    done = {training, evaluation}
    weights = [run / "best.safetensors", run / "agent.safetensors"]
    contents = [file.read_bytes() for file in weights]
    for file in weights:
        file.unlink()
    assert is_done(training)
    assert is_done(evaluation)
    assert remaining([training, evaluation], done) == []
    states = [each.state for each in statuses(read_study("made.toml"), [training, evaluation])]
    assert states == ["done", "done"]
    # The evaluation needs them, so the training makes them again.
    evaluation.results[0].unlink()
    assert not is_done(evaluation)
    assert remaining([training, evaluation], {training}) == [training, evaluation]
    states = [each.state for each in statuses(read_study("made.toml"), [training, evaluation])]
    assert states == ["waiting", "waiting"]  # it begins anew
    # Other weights in their place are not what the evaluation measured.
    (run / "curve.parquet").unlink()
    assert not is_done(training)
    for file, content in zip(weights, contents, strict=True):
        file.write_bytes(content)
    assert remaining([training, evaluation], {training}) == [evaluation]


def test_nothing_is_replaced_and_nothing_half_written(run: Path) -> None:
    Path("mine").mkdir()
    with pytest.raises(Refusal, match="mine exists"):
        ship_run(run, "mine")
    assert not [*Path("mine").iterdir()]
    with pytest.raises(Refusal, match="mine is not the folder of a finished training run"):
        ship_run("mine", "small")
    best = run / "best.safetensors"
    whole = best.read_bytes()
    best.write_bytes(whole[:-1] + b"\0" if whole[-1] else whole[:-1] + b"\1")
    with pytest.raises(Refusal, match="was changed after"):
        ship_run(run, "small")
    best.write_bytes(whole)
    Path(".small.partial").mkdir()
    Path(".small.partial", "thesis.txt").write_text("mine")
    assert ship_run(run, "small")
    assert Path(".small.partial", "thesis.txt").read_text() == "mine"
    Path("small", "curve.parquet").write_bytes(b"")
    with pytest.raises(Refusal, match="small exists"):
        ship_run(run, "small")
    assert sorted(path.name for path in Path().iterdir()) == [
        ".small.partial",
        "made",
        "made.toml",
        "mine",
        "small",
    ]
