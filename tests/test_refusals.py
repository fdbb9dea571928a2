"""Bad input at the command line: one line that names the value and what is accepted, exit code 2, nothing left."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from core import seeding
from core.checkpoint import save_agent
from core.games import get_game
from core.networks import NETWORKS
from core.tensor_files import write_tensors
from tests.conftest import Command, Finished

PROVENANCE = {
    "train_seed": 0,
    "train_steps": 10,
    "recipe_steps": 100,
    "recipe": "minatar-fast",
    "network": "relu",
    "scores_are_q_values": True,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.safetensors"
    save_agent(
        path,
        NETWORKS["relu"].make(get_game("minatar/breakout"), seeding.torch_generator(0, "weights")),
        PROVENANCE,
    )
    return path


def is_refused(finished: Finished, *words: str) -> None:
    assert finished.code == 2
    lines = [line for line in finished.err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_unknown_game_suggests_the_nearest(command: Command, tmp_path: Path) -> None:
    for verb in ("dqn", "dsqn"):
        finished = command("train_direct", verb, "--game", "pongg", "--out", tmp_path / "run")
        is_refused(finished, "'pongg'", "did you mean 'pong'?")
    is_refused(
        command("evaluate", "run", "--agent", "random", "--game", "brekout", "--out", tmp_path / "run"),
        "'breakout'",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_total_that_would_make_no_update(command: Command, tmp_path: Path) -> None:
    options = ("--game", "pong", "--total-steps", 10_003, "--out", tmp_path / "run")
    is_refused(command("train_direct", "dqn", *options), "total_steps is 10003", "10004 decisions")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--num-envs", 0, "num_envs is 0"),
        ("--n-step", 0, "n_step is 0"),
        ("--warmup-steps", 15, "warmup_steps is 15: at least 16"),
        ("--replay-steps", 31, "at least 32"),
        ("--eval-episodes", 0, "eval_episodes is 0"),
        ("--checkpoint-interval-steps", 0, "checkpoint_interval_steps is 0"),
        ("--seed", -1, "seed is -1"),
        ("--threads", -1, "threads is -1"),
        ("--recipe", "rainbow", "minatar-fast"),
        ("--recipe", "liu2022", "trains atari games"),
    ],
)
def test_training_options_out_of_range(
    command: Command, tmp_path: Path, option: str, value: object, word: str
) -> None:
    options = ("--game", "minatar/breakout", option, value, "--out", tmp_path / "run")
    is_refused(command("train_direct", "dqn", *options), word)
    assert list(tmp_path.iterdir()) == []


def test_networks_that_do_not_exist_or_do_not_spike(command: Command, tmp_path: Path) -> None:
    options = ("--game", "pong", "--out", tmp_path / "run")
    is_refused(command("train_direct", "dsqn", "--network", "chen2023", *options), "'chen2023'", "chen2022")
    is_refused(command("train_direct", "dsqn", "--network", "relu", *options), "does not spike")
    is_refused(command("train_direct", "dsqn", "--sim-steps", 0, *options), "sim_steps is 0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_turn", [(8,), (9,), (4, 4), (2, 4)])
def test_simulation_steps_that_do_not_fall(
    command: Command, tmp_path: Path, in_turn: tuple[int, ...]
) -> None:
    few = ("--warmup-steps", 16, "--total-steps", 20, "--eval-episodes", 1)  # lest it trains
    options = ("--game", "minatar/breakout", *few, "--prune-sim-steps", *in_turn, "--out", tmp_path / "run")
    shown = " ".join(map(str, in_turn))
    is_refused(command("train_direct", "dsqn", *options), f"prune_sim_steps is {shown} after 8", "falling")
    assert list(tmp_path.iterdir()) == []


def test_a_pruned_run_that_might_end_before_it_is_pruned(command: Command, tmp_path: Path) -> None:
    options = ("--game", "pong", "--prune-sim-steps", 4, "--early-stop", "--out", tmp_path / "run")
    is_refused(command("train_direct", "dsqn", *options), "prune_sim_steps", "early_stop")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_truncated_at_every_tenth(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for tenth in range(10):
        cut.write_bytes(whole[: len(whole) * tenth // 10])
        is_refused(command("evaluate", "run", "--agent", cut, "--out", tmp_path / "rows"), str(cut))
    assert sorted(tmp_path.iterdir()) == [cut]


class Payload:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("stage", ["evaluate", "convert", "adversarial"])
def test_a_renamed_pickle_is_never_executed(stage: str, command: Command, tmp_path: Path) -> None:
    trap, target = tmp_path / "trap.safetensors", tmp_path / "executed"
    trap.write_bytes(pickle.dumps(Payload(target)))
    is_refused(
        command(stage, "run", "--agent", trap, "--out", tmp_path / "out.safetensors"),
        "not a whole safetensors",
    )
    assert sorted(tmp_path.iterdir()) == [trap]
    torch.save({"weights": Payload(target)}, trap)
    is_refused(
        command(stage, "run", "--agent", trap, "--out", tmp_path / "out.safetensors"),
        "not a whole safetensors",
    )
    assert sorted(tmp_path.iterdir()) == [trap]


def test_nan_weights_are_named(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    tensors["layers.1.weight"][3, 5] = float("nan")
    header = json.loads(metadata["spikeq"])
    del header["seal"]
    write_tensors(tmp_path / "nan.safetensors", tensors, "spikeq", header)
    is_refused(
        command("evaluate", "run", "--agent", tmp_path / "nan.safetensors", "--out", tmp_path / "rows"),
        "layers.1.weight",
        "NaN",
    )
    assert not (tmp_path / "rows").exists()


def test_another_action_count(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    for stage in ("evaluate", "adversarial"):
        finished = command(stage, "run", "--agent", checkpoint, "--game", "pong", "--out", tmp_path / "rows")
        is_refused(finished, "minatar/breakout", "pong needs 6 actions")
    assert list(tmp_path.iterdir()) == []


def test_attack_sizes(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--agent", checkpoint, "--out", tmp_path / "rows", "--epsilon", 0)
    is_refused(command("adversarial", "run", *options, -0.5), "epsilon is -0.5", "0 to 1,000,000")
    is_refused(command("adversarial", "run", *options, "nan"), "epsilon is nan")
    is_refused(command("adversarial", "run", *options, "one/255"), "epsilon is one/255")
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_exist(command: Command, tmp_path: Path) -> None:
    is_refused(command("evaluate", "run", "--agnt", "x", "--out", tmp_path / "rows"), "--agnt", "--agent")
    is_refused(command("evaluate", "runn"), "runn")
    is_refused(
        command("evaluate", "run", "--agent", "x", "--out", tmp_path / "rows", "--episodes", "ten"), "ten"
    )
    assert list(tmp_path.iterdir()) == []


def test_no_episodes_unknown_protocol_wrong_tier(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--agent", checkpoint, "--out", tmp_path / "rows")
    is_refused(command("evaluate", "run", *options, "--episodes", 0), "episodes is 0")
    is_refused(command("evaluate", "run", *options, "--protocol", "classic"), "'classic'", "nature")
    is_refused(command("evaluate", "run", *options, "--protocol", "nature"), "atari games", "minatar")
    is_refused(command("evaluate", "run", "--agent", "random", "--out", tmp_path / "rows"), "--game")
    is_refused(
        command("evaluate", "run", "--agent", tmp_path / "no", "--out", tmp_path / "rows"), "no checkpoint at"
    )
    assert list(tmp_path.iterdir()) == []


def test_conversion_options(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "snn.safetensors"
    for option, value, word in (
        ("--percentile", 0, "percentile is 0"),
        ("--percentile", 101, "up to 100"),
        ("--sim-steps", 0, "sim_steps is 0"),
        ("--test-states", 0, "test_states is 0"),
        ("--calibration-states", 0, "calibration_states is 0"),
        ("--bindsnet-states", -1, "bindsnet_states is -1"),
    ):
        is_refused(command("convert", "run", "--agent", checkpoint, "--out", out, option, value), word)
        assert list(tmp_path.iterdir()) == [], option
    is_refused(command("convert", "run", "--agent", checkpoint, "--out", tmp_path / "snn.pt"), ".safetensors")


def test_only_a_dqn_can_be_converted(command: Command, tmp_path: Path) -> None:
    dsqn = NETWORKS["chen2022"].make(get_game("minatar/breakout"), torch.Generator())
    save_agent(tmp_path / "dsqn.safetensors", dsqn, PROVENANCE)
    out = tmp_path / "snn.safetensors"
    is_refused(
        command("convert", "run", "--agent", tmp_path / "dsqn.safetensors", "--out", out), "only a dqn"
    )


@pytest.mark.parametrize("stage", ["evaluate", "adversarial", "train_direct"])
def test_a_place_that_cannot_be_written(
    stage: str, command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here")
    out = ("--out", tmp_path / "file" / "below")
    if stage == "train_direct":
        finished = command(stage, "dqn", "--game", "minatar/breakout", *out)
    else:
        finished = command(stage, "run", "--agent", checkpoint, *out)
    is_refused(finished, "cannot write to", "file")
    assert (tmp_path / "file").read_text() == "here"


def test_a_folder_of_another_specification(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--agent", checkpoint, "--out", tmp_path / "rows", "--episodes")
    assert command("evaluate", "run", *options, 2).code == 0
    before = (tmp_path / "rows" / "episodes.parquet").read_bytes()
    is_refused(command("evaluate", "run", *options, 3), "episodes is [2] there and [3] here")
    assert (tmp_path / "rows" / "episodes.parquet").read_bytes() == before
    again = command("evaluate", "run", *options, 2)
    assert (again.code, "already done" in again.out) == (0, True)
