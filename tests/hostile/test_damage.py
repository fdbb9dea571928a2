"""Damage that a recorded digest tells is found whenever the file is read."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from analysis.rows import ROW_FILES, RowFiles
from core.checkpoint import load_agent, save_agent
from core.dqn import DQN
from core.errors import Refusal
from core.games import get_game
from core.layers import initialise
from core.manifest import Manifest, read_manifest
from core.records import write_rows
from core.tensor_files import read_tensors, write_tensors
from tests.conftest import Command
from tests.hostile.test_checked_rows import row_of

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = {
    **{"train_seed": 0, "train_steps": 10, "recipe_steps": 100},
    **{"recipe": "cartpole", "network": "relu", "scores_are_q_values": True},
}
TRAINING = (
    "dqn",
    "--game",
    "cartpole",
    "--total-steps",
    "300",
    "--eval-interval-steps",
    "100",
    "--eval-episodes",
    "1",
)


def an_agent(path: Path) -> Path:
    agent = DQN(get_game("cartpole"))
    initialise(agent.layers, torch.Generator().manual_seed(0))
    save_agent(path, agent, PROVENANCE)
    return path


def flips(content: bytes, number: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of a file, each with another bit."""
    drawing = random.Random(seed)
    for place in drawing.sample(range(8 * len(content)), number):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "train_direct", *TRAINING, "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


# Agents ----------------------------------------------------------------------------------------------


def test_no_agent_with_a_flipped_bit_plays(tmp_path: Path) -> None:
    path = an_agent(tmp_path / "agent.safetensors")
    for flipped in flips(path.read_bytes(), 300):
        path.write_bytes(flipped)
        with pytest.raises(Refusal, match=re.escape(str(path))):
            load_agent(path)


def test_every_bit_of_the_header_is_covered(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    write_tensors(path, {"x": torch.ones(1)}, "spikeq", {"format": 2})
    content = path.read_bytes()
    assert read_tensors(path, "spikeq").header["format"] == 2
    for flipped in flips(content, 8 * len(content)):
        path.write_bytes(flipped)
        try:
            header = read_tensors(path, "spikeq").header
        except Refusal:
            continue
        # A flip in the seal's own name leaves a file without a seal. Format 2 needs one (core/checkpoint.py).
        assert header["format"] == 2
        assert "seal" not in header


def test_older_agents_have_no_seal_and_are_read(tmp_path: Path) -> None:
    shipped = ROOT / "results" / "agents" / "minatar-breakout-dqn-s0.safetensors"
    assert "seal" not in read_tensors(shipped, "spikeq").header
    assert load_agent(shipped).agent.kind == "dqn"


def test_an_agent_without_its_seal_is_refused(tmp_path: Path) -> None:
    path = an_agent(tmp_path / "agent.safetensors")
    path.write_bytes(path.read_bytes().replace(b'\\"seal\\"', b'\\"sea1\\"'))
    with pytest.raises(Refusal, match="lacks its 'seal'"):
        load_agent(path)


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: ("evaluate", "run", "--agent", folder, "--episodes", 1, "--out", folder / "out"),
        lambda folder: ("evaluate", "watch", "--agent", folder, "--save", folder / "out"),
        lambda folder: ("evaluate", "probe", "--agent", folder, "--out", folder / "out"),
        lambda folder: (
            "convert",
            "run",
            "--agent",
            folder / "best.safetensors",
            "--out",
            folder / "snn.safetensors",
        ),
        lambda folder: (
            "adversarial",
            "run",
            "--agent",
            folder / "best.safetensors",
            "--out",
            folder / "out",
        ),
        lambda folder: (
            "adversarial",
            "states",
            "--agent",
            folder / "best.safetensors",
            "--out",
            folder / "out",
        ),
    ],
)
def test_best_weights_of_another_run_are_refused(
    read: Callable[[Path], tuple[object, ...]], trained: Path, tmp_path: Path, command: Command
) -> None:
    """Their own seal is right. The manifest of the run knows others."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    an_agent(folder / "best.safetensors")
    before = sorted(folder.iterdir())
    refused = command(*read(folder))
    assert refused.code == 2
    assert "best.safetensors was changed after manifest.json recorded it" in refused.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("value", [0.0, 1.0, 65504.0])
def test_weights_that_are_all_equal_are_told(
    value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = DQN(get_game("cartpole"))
    for parameter in agent.parameters():
        parameter.data.fill_(value)
    save_agent(tmp_path / "agent.safetensors", agent, PROVENANCE, dtype=torch.float16)
    load_agent(tmp_path / "agent.safetensors")
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == f"warning: every weight of {tmp_path / 'agent.safetensors'} is {value:g}: it was not trained"
    )


# Manifests -------------------------------------------------------------------------------------------


def test_no_manifest_with_a_flipped_bit_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest = Manifest(path, {"game": "pong", "seed": 3}, [])
    with manifest.work():
        manifest.finish([])
    content = path.read_bytes()
    whole = read_manifest(path)
    believed = 0
    for flipped in flips(content, 2000):
        path.write_bytes(flipped)
        try:
            found = read_manifest(path)
        except Refusal:
            continue
        believed += found != whole
    # Flips in white space change nothing.
    assert believed == 0


@pytest.mark.parametrize("entry", ["spec", "command", "versions", "made_with"])
def test_check_finds_an_edited_manifest(entry: str, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "rows"
    played = ("run", "--agent", "random", "--game", "cartpole", "--episodes", 2, "--out", folder)
    assert command("evaluate", *played).code == 0
    assert command("evaluate", "check", folder).code == 0
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content[entry] = {**content[entry], "torch": "9.9"} if isinstance(content[entry], dict) else ["evaluate"]
    path.write_text(json.dumps(content))
    found = command("evaluate", "check", folder)
    assert found.code in (1, 2)
    assert "was changed after it was written" in found.out + found.err


@pytest.mark.parametrize("files", ROW_FILES, ids=lambda files: files.pattern)
def test_readers_of_rows_believe_only_what_is_recorded(files: RowFiles, tmp_path: Path) -> None:
    path = tmp_path / "game" / "run" / files.pattern.replace("*", "a")
    row = row_of(files.row_type)
    write_rows(path, files.row_type, [row])
    manifest = path.with_name("manifest.json")
    with Manifest(manifest, {}, []).work():
        assert len(files.read(tmp_path)) == 1  # work that is not finished
    with (made := Manifest(manifest, {}, [])).work():
        made.finish([path])
    assert len(files.read(tmp_path)) == 1
    write_rows(path, files.row_type, [row, row])
    with pytest.raises(Refusal, match=f"{path.name} was changed after manifest.json recorded it"):
        files.read(tmp_path)


# States and replay -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped on its way."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "train_direct", *STOPPED, "100000", "--out", str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "state.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    (folder.parent / "told").write_text(told)
    return folder


STOPPED = ("dqn", "--game", "minatar/breakout", "--replay-steps", "1000", "--warmup-steps", "100",
           "--checkpoint-interval-steps", "400", "--eval-episodes", "1", "--threads", "1", "--total-steps")  # fmt: skip


def change_state(folder: Path) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(next(flips(path.read_bytes(), 1, seed=7)))


def change_replay(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "replay" / name
        path.write_bytes(next(flips(path.read_bytes()[: 100 * 100], 1)) + path.read_bytes()[100 * 100 :])

    return change


def shorten(folder: Path) -> None:
    path = folder / "replay" / "frames"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 10])


def remove(folder: Path) -> None:
    (folder / "replay" / "frames").unlink()


def link(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return change


@pytest.mark.parametrize(
    "name", ["state.safetensors", "replay", "replay/frames", "tensorboard", "manifest.lock"]
)
def test_no_link_is_followed_out_of_a_run(name: str, stopped: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    (folder / "manifest.lock").touch()
    link(name)(folder)
    elsewhere = tmp_path / "elsewhere"
    files = [path for path in (elsewhere, *elsewhere.rglob("*")) if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    refused = command("train_direct", *STOPPED, 100_000, "--out", folder)
    assert refused.code == 2
    assert f"{folder / name} is a symbolic link" in refused.err
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_state, "state.safetensors is damaged"),
        (change_replay("frames"), "replay was changed after the state was saved"),
        (shorten, "replay was changed after the state was saved"),
        (remove, "replay was changed after the state was saved"),
    ],
)
def test_a_damaged_state_is_not_continued(
    damage: Callable[[Path], None], message: str, stopped: Path, tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    damage(folder)
    refused = command("train_direct", *STOPPED, 100_000, "--out", folder)
    assert refused.code == 2
    assert message in refused.err
    assert f"remove {folder} to start again" in refused.err


def test_a_whole_state_is_continued(stopped: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    told = re.search(r"resumes at ([\d,]+) decisions", (stopped.parent / "told").read_text())
    assert told is not None
    end = int(told[1].replace(",", "")) + 500
    finished = command("train_direct", *STOPPED, end, "--out", folder)
    assert finished.code == 0, finished.err
    assert "resumes at" in finished.err
