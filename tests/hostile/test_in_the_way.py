"""What exists and is not a command's own result is never replaced, followed or deleted."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
import torch

from core.checkpoint import save_agent
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import get_game
from core.generated import write_generated
from core.layers import initialise
from core.manifest import Manifest
from core.progress import FILE_VARIABLE, Progress
from core.reading import read_json
from core.records import Journal, Mode, open_own, write_bytes, write_rows
from core.rows import EpisodeRow
from spikeq.__main__ import VERBS
from tests.conftest import Command, episode
from tests.hostile.test_values import commands
from train_direct.ship import ship

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = {
    **{"train_seed": 0, "train_steps": 10, "recipe_steps": 100},
    **{"recipe": "cartpole", "network": "relu", "scores_are_q_values": True},
}


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained DQN and an untrained DSQN of CartPole."""
    folder = tmp_path_factory.mktemp("agents")
    for name, agent in (("dqn", DQN(get_game("cartpole"))), ("dsqn", DSQN(get_game("cartpole"), Spiking()))):
        initialise(agent.layers, torch.Generator().manual_seed(0))
        save_agent(folder / f"{name}.safetensors", agent, PROVENANCE)
    network = {
        "conv": torch.nn.Conv2d(4, 16, 3),
        "fc_hidden": torch.nn.Linear(1024, 128),
        "output": torch.nn.Linear(128, 6),
    }
    torch.save(torch.nn.ModuleDict(network).state_dict(), folder / "foreign.pth")
    write_rows(folder / "rows" / "pong" / "run" / "episodes.parquet", EpisodeRow, [episode()])
    return folder


class Work(NamedTuple):
    """A command that writes, and the files that it makes in the folder OUT."""

    words: tuple[object, ...]
    results: tuple[str, ...]


TRAINED = ("agent.safetensors", "best.safetensors", "curve.parquet", "validation.parquet")
LEFT_BEHIND = (*TRAINED, "state.safetensors", "replay", "tensorboard")
SHORT = ("--game", "cartpole", "--total-steps", 4000, "--out", "OUT")
WORKS = {
    "train_direct dqn": Work(("train_direct", "dqn", *SHORT), LEFT_BEHIND),
    "train_direct dsqn": Work(("train_direct", "dsqn", *SHORT), LEFT_BEHIND),
    "train_direct ppo": Work(("train_direct", "ppo", *SHORT), LEFT_BEHIND),
    "train_direct spiking-ppo": Work(("train_direct", "spiking-ppo", *SHORT), LEFT_BEHIND),
    "train_direct ship": Work(
        ("train_direct", "ship", "--agent", "DQN", "--out", "OUT/a.safetensors"), ("a.safetensors",)
    ),
    "convert run": Work(
        ("convert", "run", "--agent", "DQN", "--out", "OUT/a.safetensors", "--quantised"),
        ("a.safetensors", "a.conversion.parquet", "a.quantised.safetensors"),
    ),
    "convert compare": Work(
        ("convert", "compare", "--agent", "DQN", "--out", "OUT"),
        ("methods.parquet", "conversion_episodes.parquet", "comparison.md"),
    ),
    "convert import": Work(
        (
            "convert",
            "import",
            "--source",
            "FOREIGN",
            "--game",
            "minatar/breakout",
            "--out",
            "OUT/a.safetensors",
        ),
        ("a.safetensors",),
    ),
    "convert export": Work(("convert", "export", "--agent", "DSQN", "--out", "OUT/a.nir"), ("a.nir",)),
    "evaluate run": Work(
        ("evaluate", "run", "--agent", "DQN", "--episodes", 1, "--out", "OUT"), ("episodes.parquet",)
    ),
    "evaluate probe": Work(
        ("evaluate", "probe", "--agent", "DQN", "--out", "OUT"), ("operations.parquet", "embedding.parquet")
    ),
    "evaluate watch": Work(("evaluate", "watch", "--agent", "DQN", "--save", "OUT/a.mp4"), ("a.mp4",)),
    "adversarial run": Work(("adversarial", "run", "--agent", "DQN", "--out", "OUT"), ("attacks.parquet",)),
    "adversarial states": Work(
        ("adversarial", "states", "--agent", "DQN", "--out", "OUT"), ("state_attacks.parquet",)
    ),
    "evaluate run --record": Work(
        ("evaluate", "run", "--agent", "random", "--game", "cartpole", "--record", "--out", "OUT"),
        ("cartpole-random-episode-0.mp4",),
    ),
    "card": Work(
        ("card", "--agent", "random", "--game", "cartpole", "--out", "OUT"), ("card.json", "card.html")
    ),
    "analysis.report": Work(("analysis.report", "ROWS", "--out", "OUT"), ("index.html",)),
    "card.leaderboard": Work(("card.leaderboard", "ROWS", "--out", "OUT/a.md"), ("a.md",)),
}
ONLY_READ = {"evaluate check"}
"""Verbs that write nothing."""
TESTED_ELSEWHERE = {
    "adversarial verdict": "its result is a generated text, see below",
    "plot": "tests/analysis/test_drawn.py",
    "reproduce": "its stages are other verbs; for its logs see tests/studies/test_running.py",
}


def test_every_verb_is_listed() -> None:
    verbs = {" ".join((VERBS[case.verb].module, *case.words)) for case in commands()}
    listed = {verb.partition(" --")[0] for verb in WORKS}
    assert verbs == listed | ONLY_READ | TESTED_ELSEWHERE.keys()


def plant(path: Path, what: str, outside: Path) -> None:
    """Put something of somebody else into a place: a file, or a link to one or to nowhere outside."""
    outside.mkdir()
    (outside / "mine").write_text("mine")
    if what == "a file":
        path.write_text("mine")
    else:
        path.symlink_to(outside / {"a link": "mine", "a dangling link": "nowhere"}[what])


@pytest.mark.parametrize("what", ["a file", "a link", "a dangling link"])
@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb, work in WORKS.items() for name in work.results]
)
def test_a_file_of_somebody_else_stays(
    verb: str, name: str, what: str, agents: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    plant(out / name, what, tmp_path / "outside")
    places = {"OUT": out, "DQN": agents / "dqn.safetensors", "DSQN": agents / "dsqn.safetensors"}
    places |= {"FOREIGN": agents / "foreign.pth", "ROWS": agents / "rows"}
    words = [str(word) for word in WORKS[verb].words]
    for place, path in places.items():
        words = [word.replace(place, str(path)) for word in words]
    refused = command(*words)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert str(out / name) in line
    assert sorted(out.iterdir()) == [out / name]
    assert (out / name).is_symlink() == (what != "a file")
    if what == "a file":
        assert (out / name).read_text() == "mine"
    assert [(path.name, path.read_text()) for path in (tmp_path / "outside").iterdir()] == [("mine", "mine")]


def test_a_graph_in_the_way_is_refused_before_the_conversion(
    agents: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "a.nir").write_text("mine")
    out = tmp_path / "a.safetensors"
    words = ("run", "--agent", agents / "dqn.safetensors", "--out", out, "--nir", tmp_path / "a.nir")
    refused = command("convert", *words)
    assert refused.code == 2
    assert "a.nir exists" in refused.err
    assert list(tmp_path.iterdir()) == [tmp_path / "a.nir"]


def test_an_agent_is_not_converted_into_itself(agents: Path, command: Command) -> None:
    agent = agents / "dqn.safetensors"
    before = agent.read_bytes()
    for words in (("run",), ("run", "--method", "reconstruct", "--sim-steps", 8)):
        assert command("convert", *words, "--agent", agent, "--out", agent).code == 2
    assert agent.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"mine", b"", b"<!-- Made by SpikeQ. SHA-256 of the text above: 00 -->\n"]
)
def test_generated_texts_replace_only_generated_ones(content: bytes, tmp_path: Path) -> None:
    """Verdicts, reports and leaderboards."""
    path = tmp_path / "verdict.md"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"verdict\.md was not made by SpikeQ, or was changed since"):
        write_generated(path, b"a table\n")
    assert path.read_bytes() == content
    path.unlink()
    write_generated(path, b"a table\n")
    write_generated(path, b"another table\n")
    made = path.read_bytes()
    assert made.startswith(b"another table\n<!-- Made by SpikeQ.")
    path.write_bytes(made.replace(b"another", b"my own"))
    with pytest.raises(Refusal):
        write_generated(path, b"a table\n")


# Links -----------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.write_text("mine")
    return path


def test_a_link_in_place_of_a_partial_file_is_not_followed(outside: Path, tmp_path: Path) -> None:
    (tmp_path / ".rows.parquet.partial").symlink_to(outside)
    write_bytes(tmp_path / "rows.parquet", b"rows")
    assert (tmp_path / "rows.parquet").read_bytes() == b"rows"
    assert outside.read_text() == "mine"
    assert not os.path.lexists(tmp_path / ".rows.parquet.partial")


def test_a_link_in_place_of_a_log_is_refused(outside: Path, tmp_path: Path) -> None:
    for target in (outside, tmp_path / "nowhere"):
        log = tmp_path / f"{target.name}.log"
        log.symlink_to(target)
        for mode in get_args(Mode):
            with pytest.raises(Refusal, match="is a symbolic link"):
                open_own(log, mode)
    assert outside.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_link_in_place_of_the_progress_is_not_followed(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "a.progress.json"))
    (tmp_path / "a.progress.json.partial").symlink_to(outside)
    (tmp_path / ".a.progress.json.partial").symlink_to(outside)
    (tmp_path / "a.progress.json").symlink_to(outside)
    with Progress("a", 1, "games"):
        assert read_json(tmp_path / "a.progress.json", "progress")["total"] == 1
    assert outside.read_text() == "mine"


def test_a_link_in_place_of_a_result_is_replaced_and_not_followed(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").symlink_to(outside)
    write_bytes(tmp_path / "rows.parquet", b"rows")
    assert not (tmp_path / "rows.parquet").is_symlink()
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("target", ["outside", "nowhere"])
def test_a_link_in_place_of_a_lock_is_refused(target: str, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.lock").symlink_to(tmp_path / target)
    with (
        pytest.raises(Refusal, match=r"manifest\.lock is a symbolic link"),
        Manifest(tmp_path / "run" / "manifest.json", {}, []).work(),
    ):
        pass
    assert outside.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_link_in_place_of_a_journal_is_refused(outside: Path, tmp_path: Path) -> None:
    journal: Journal[EpisodeRow] = Journal(tmp_path / "rows.parquet", EpisodeRow, {})
    journal.keep()
    (kept,) = tmp_path.glob(".rows-*.parquet")
    kept.unlink()
    kept.symlink_to(outside)
    with pytest.raises(Refusal, match="is a symbolic link"):
        Journal(tmp_path / "rows.parquet", EpisodeRow, {})


DANGLING: dict[str, Callable[[Path, Path], object]] = {
    "a result": lambda out, agents: Manifest(out.with_name("manifest.json"), {}, [out]),
    "a manifest": lambda out, agents: Manifest(out, {}, []),
    "a shipped agent": lambda out, agents: ship(agents / "dqn.safetensors", out),
    "a generated text": lambda out, agents: write_generated(out, b"a table\n"),
}


@pytest.mark.parametrize("what", DANGLING)
def test_a_link_that_leads_nowhere_is_in_the_way(what: str, agents: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refusal, match=r"out\.json (exists|was not made by SpikeQ|is not a manifest)"):
        DANGLING[what](out, agents)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert out.is_symlink()
