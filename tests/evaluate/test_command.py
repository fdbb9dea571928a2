"""`evaluate run` on any number of agents, killed and resumed; `evaluate check` on what it wrote and what spoilt it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.check import findings
from core.checkpoint import load_agent, save_agent
from core.games import get_game
from core.networks import NETWORKS
from core.records import Journal, read_rows, write_rows
from core.rows import EpisodeRow
from tests.conftest import AGENTS, Command
from tests.test_refusals import PROVENANCE, is_refused

ROOT = Path(__file__).parents[2]


def save(path: Path, weights: int, **provenance: object) -> Path:
    game = get_game("minatar/breakout")
    agent = NETWORKS["relu"].make(game, torch.Generator().manual_seed(weights))
    save_agent(path, agent, {**PROVENANCE, **provenance})
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    save(tmp_path / "run" / "best.safetensors", 0)
    save(tmp_path / "run" / "agent.safetensors", 1, train_steps=20)
    return tmp_path / "run"


def test_one_command_scores_everybody_on_the_same_starts(
    command: Command, run_folder: Path, tmp_path: Path
) -> None:
    other = save(tmp_path / "other.safetensors", 2, train_seed=5)
    out = tmp_path / "out"
    options = ("--agent", run_folder, other, "random", "--episodes", 3, "--seed", 4)
    finished = command("evaluate", "run", *options, "--out", out)
    assert finished.code == 0
    rows = read_rows(out / "episodes.parquet", EpisodeRow)
    played = [(row.agent, row.checkpoint, row.train_seed, row.train_steps, row.episode) for row in rows]
    assert played == [
        (*who, episode)
        for who in (
            ("random", "", -1, 0),
            ("dqn", "best", 0, 10),
            ("dqn", "final", 0, 20),
            ("dqn", "", 5, 10),
        )
        for episode in range(3)
    ]
    assert len({row.checkpoint_id for row in rows}) == 4
    for episode in range(3):
        assert len({row.episode_seed for row in rows if row.episode == episode}) == 1
    assert finished.out.count("mean score") == 4
    # One agent alone plays the games that it plays among the others.
    alone = tmp_path / "alone"
    assert command("evaluate", "run", "--agent", other, *options[4:], "--out", alone).code == 0
    assert read_rows(alone / "episodes.parquet", EpisodeRow) == rows[9:]
    assert list(findings(out)) == []
    assert "already done" in command("evaluate", "run", *options, "--out", out).out


def test_agents_are_added_to_a_finished_folder(command: Command, run_folder: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other.safetensors", 2, train_seed=5)
    options = ("--episodes", 3, "--seed", 4, "--game", "minatar/breakout")
    together, added = tmp_path / "together", tmp_path / "added"
    everyone = ("random", other, run_folder)
    assert command("evaluate", "run", "--agent", *everyone, *options, "--out", together).code == 0
    for agent in everyone:
        finished = command("evaluate", "run", "--agent", agent, *options, "--out", added)
        assert finished.code == 0, finished.err
        assert finished.out.count("mean score") == (2 if agent == run_folder else 1)
    assert (added / "episodes.parquet").read_bytes() == (together / "episodes.parquet").read_bytes()
    assert list(findings(added)) == []
    for again in (everyone, everyone[:1], everyone[1:]):
        assert "already done" in command("evaluate", "run", "--agent", *again, *options, "--out", added).out


def test_other_weights_of_the_same_name_are_not_added(command: Command, tmp_path: Path) -> None:
    agent, out = tmp_path / "mine.safetensors", tmp_path / "out"
    play = ("evaluate", "run", "--agent", agent, "--episodes", 1, "--threads", 1, "--out", out)
    for number in range(2):
        weights = load_agent(AGENTS / "cartpole-dqn-s0.safetensors")
        for parameter in weights.agent.parameters():
            parameter.mul_(1 + number)
        save_agent(agent, weights.agent, weights.provenance)
        finished = command(*play)
        if number == 0:
            assert finished.code == 0, finished.err
            rows = (out / "episodes.parquet").read_bytes()
    is_refused(finished, "has games of dqn with other weights", "choose another --out")
    assert (out / "episodes.parquet").read_bytes() == rows


def test_other_games_of_an_agent_are_not_added(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--agent", "random", "--game", "minatar/breakout", "--out", out)
    assert command("evaluate", "run", *options, "--episodes", 3).code == 0
    before = (out / "episodes.parquet").read_bytes()
    for changed in (("--episodes", 4), ("--episodes", 3, "--seed", 1)):
        is_refused(command("evaluate", "run", *options, *changed), "is of another specification")
    assert (out / "episodes.parquet").read_bytes() == before


@pytest.mark.parametrize("agents", [[], ["a", "b"], [{}], "a", None, [["a"]]])
def test_lists_of_a_manifest_that_fit_nothing_are_refused(
    agents: object, command: Command, tmp_path: Path
) -> None:
    options = ("--agent", "random", "--game", "minatar/breakout", "--episodes", 1, "--out", tmp_path / "out")
    assert command("evaluate", "run", *options).code == 0
    path = tmp_path / "out" / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["digest"]
    path.write_text(json.dumps({**content, "spec": {**content["spec"], "agent": agents}}))
    is_refused(command("evaluate", "run", *options), "is of another specification")


def test_an_addition_that_was_killed_goes_on(command: Command, tmp_path: Path) -> None:
    first, second = (save(tmp_path / f"{seed}.safetensors", seed, train_seed=seed) for seed in (1, 2))
    out, options = tmp_path / "out", ("--episodes", 2)
    for agent in (first, second):
        assert command("evaluate", "run", "--agent", agent, *options, "--out", out).code == 0
    rows, both = out / "episodes.parquet", (out / "episodes.parquet").read_bytes()
    # As a kill leaves it: the manifest names both agents and no result, and the rows are those of the first.
    content = json.loads((out / "manifest.json").read_bytes())
    del content["digest"]
    (out / "manifest.json").write_text(json.dumps({**content, "outputs": {}}))
    write_rows(rows, EpisodeRow, read_rows(rows, EpisodeRow)[:2])
    again = command("evaluate", "run", "--agent", first, *options, "--out", out)
    is_refused(again, "name it again with --agent")
    assert command("evaluate", "run", "--agent", second, *options, "--out", out).code == 0
    assert rows.read_bytes() == both


def test_weights_that_are_best_and_final_play_once(
    command: Command, run_folder: Path, tmp_path: Path
) -> None:
    (run_folder / "agent.safetensors").write_bytes((run_folder / "best.safetensors").read_bytes())
    options = ("--agent", run_folder, "--episodes", 2, "--out", tmp_path / "out")
    assert command("evaluate", "run", *options).code == 0
    rows = read_rows(tmp_path / "out" / "episodes.parquet", EpisodeRow)
    told = [(row.checkpoint, row.episode) for row in rows]
    assert told == [("best", 0), ("best", 1), ("final", 0), ("final", 1)]
    assert [row.score for row in rows[:2]] == [row.score for row in rows[2:]]
    assert list(findings(tmp_path / "out")) == []


def test_a_folder_without_weights_is_refused(command: Command, run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "agent.safetensors").unlink()
    finished = command("evaluate", "run", "--agent", run_folder, "--out", tmp_path / "out")
    is_refused(finished, str(run_folder / "agent.safetensors"))
    assert not (tmp_path / "out").exists()
    is_refused(command("evaluate", "run", "--agent", "--out", tmp_path / "out"), "agent has no value")


def test_a_killed_evaluation_goes_on_at_the_episode(tmp_path: Path) -> None:
    agent = save(tmp_path / "agent.safetensors", 0)
    options = ("--agent", "random", agent, "--episodes", 400, "--num-envs", 1, "--threads", 1, "--out")
    command = [sys.executable, "-m", "evaluate", "run", *map(str, options)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, whole], cwd=ROOT, check=True, capture_output=True)
    expected = read_rows(whole / "episodes.parquet", EpisodeRow)
    with subprocess.Popen(
        [*command, killed], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not (left := list(killed.glob(".episodes-*.parquet"))):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    kept = read_rows(left[0], EpisodeRow)
    assert 0 < len(kept) < len(expected)
    assert "unfinished" in next(findings(killed))
    # What was kept is marked, so that playing it again would show.
    write_rows(left[0], EpisodeRow, [replace(row, length_frames=999_999) for row in kept])
    subprocess.run([*command, killed], cwd=ROOT, check=True, capture_output=True)
    rows = read_rows(killed / "episodes.parquet", EpisodeRow)
    assert sum(row.length_frames == 999_999 for row in rows) == len(kept)
    # As text, because random play has no Q-values, and NaN equals nothing.
    assert str([replace(row, length_frames=0) for row in rows]) == str(
        [replace(row, length_frames=0) for row in expected]
    )
    assert {path.name for path in killed.iterdir()} == {"episodes.parquet", "manifest.json"}


def test_rows_kept_of_other_work_are_not_taken(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes the manifest of killed work and asks for other episodes gets those."""
    out = tmp_path / "out"
    options = ("--agent", "random", "--game", "minatar/breakout", "--out", out, "--episodes")
    journal = Journal.write
    monkeypatch.setattr("core.records.KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(Journal, "write", lambda self, key: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command("evaluate", "run", *options, 3, "--seed", 1).code == 130
    monkeypatch.setattr(Journal, "write", journal)
    (kept,) = out.glob(".episodes-*.parquet")
    assert len(read_rows(kept, EpisodeRow)) == 3
    (out / "manifest.json").unlink()
    assert f"{kept.name}: left by an interrupted command" in "\n".join(findings(out))
    assert command("evaluate", "run", *options, 2, "--seed", 2).code == 0
    rows = read_rows(out / "episodes.parquet", EpisodeRow)
    assert [(row.eval_seed, row.episode) for row in rows] == [(2, 0), (2, 1)]


def test_a_folder_and_its_file_are_one_network(command: Command, run_folder: Path, tmp_path: Path) -> None:
    options = (
        "--agent",
        run_folder / "best.safetensors",
        run_folder,
        "--episodes",
        1,
        "--out",
        tmp_path / "out",
    )
    assert command("evaluate", "run", *options).code == 0
    rows = read_rows(tmp_path / "out" / "episodes.parquet", EpisodeRow)
    assert [row.checkpoint for row in rows] == ["best", "final"]


@pytest.fixture
def scored(command: Command, tmp_path: Path) -> Path:
    """A study's folder with rows of two seeds and random play."""
    agents = [save(tmp_path / f"{seed}.safetensors", seed, train_seed=seed) for seed in (0, 1)]
    options = ("--agent", "random", *agents, "--episodes", 3, "--out", tmp_path / "study" / "game" / "run")
    assert command("evaluate", "run", *options).code == 0
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[:4] + rows[5:], r"missing episode 1 \(1 in all\)"),
        (lambda rows: [*rows, rows[-1]], "duplicate episode 2"),
        (
            lambda rows: [*rows[:-1], replace(rows[-1], score=float("nan"))],
            "score is not finite in 1 of 9 rows",
        ),
        (lambda rows: [*rows[:-1], replace(rows[-1], protocol="modern")], "more than one protocol"),
        (lambda rows: [*rows[:-1], replace(rows[-1], eval_seed=9)], "more than one eval_seed"),
        (lambda rows: [*rows[:-1], replace(rows[-1], settings="{}")], "more than one settings"),
        (lambda rows: rows[:-1], "different numbers of episodes"),
        (
            lambda rows: rows + [replace(row, agent="dsqn") for row in rows[-3:]],
            "dsqn relu lacks training seed 0",
        ),
        (lambda rows: [], ": no rows"),
    ],
)
def test_faults_are_found(scored: Path, spoil: object, said: str) -> None:
    path = scored / "game" / "run" / "episodes.parquet"
    assert list(findings(scored)) == []
    write_rows(path, EpisodeRow, spoil(read_rows(path, EpisodeRow)))  # type: ignore[operator]
    found = "\n".join(findings(scored))
    assert re.search(said, found)
    assert "was changed after manifest.json recorded it" in found


def test_faults_of_files_are_found(command: Command, scored: Path) -> None:
    path = scored / "game" / "run" / "episodes.parquet"
    finished = command("evaluate", "check", scored)
    assert (finished.code, finished.out) == (0, f"{scored}: nothing found\n")
    other = scored / "game" / "again" / "episodes.parquet"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    finished = command("evaluate", "check", scored)
    assert finished.code == 1
    assert "game/again/episodes.parquet: not listed in a finished manifest" in finished.out
    assert "scored in game/again/episodes.parquet and in game/run/episodes.parquet" in finished.out
    other.write_bytes(path.read_bytes()[:-100])
    assert "is not a whole Parquet file" in command("evaluate", "check", scored).out
    path.unlink()
    assert "is missing, though manifest.json says it was finished" in command("evaluate", "check", scored).out
    is_refused(command("evaluate", "check", scored / "nowhere"), "nowhere", ".parquet")
