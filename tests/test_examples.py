"""The examples, run as a user would in copies of their folders."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from card.files import read_card
from core.checkpoint import load_agent
from core.cli import parse
from reproduce import Reproduce
from tests.conftest import AGENTS

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"
DQN = str(AGENTS / "minatar-breakout-dqn-s0.safetensors")


def run(*words: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_an_extension_of_forty_lines(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "adaptive_extension.py", tmp_path)
    own = ("--extension", "adaptive_extension", "--threads", "1")
    short = ("--total-steps", "200", "--eval-interval-steps", "200", "--eval-episodes", "1")
    network = ("--neuron", "adaptive", "height=0.3", "--sim-steps", "2", "--game", "cartpole")
    run("-m", "spikeq", "train", "dsqn", *own, *network, *short, "--out", "adaptive", cwd=tmp_path)
    few = ("--sim-steps", "8", "--calibration-states", "200", "--test-states", "50")
    method = ("--method", "widened", "--method-options", "gain=1.5", "--agent", DQN)
    run("-m", "spikeq", "convert", "run", *own, *method, *few, "--out", "w.safetensors", cwd=tmp_path)
    assert load_agent(tmp_path / "w.safetensors").agent.kind == "rate-coded"
    code = [line for line in (EXAMPLES / "adaptive_extension.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 45


@pytest.fixture
def spikingjelly(tmp_path: Path) -> Path:
    pytest.importorskip("spikingjelly")
    return Path(shutil.copytree(EXAMPLES / "spikingjelly_breakout", tmp_path / "example"))


def test_a_spikingjelly_network_is_trained_by_its_own_loop_and_carded(spikingjelly: Path) -> None:
    assert "my_snn.pt" in run("train.py", "--steps", "600", cwd=spikingjelly)
    own = ("--extension", "my_snn", "--agent", "my-snn", "--game", "minatar/breakout")
    small = ("--episodes", "2", "--states", "40", "--attacked-episodes", "1", "--threads", "1")
    run("-m", "spikeq", "card", *own, *small, "--transfer", DQN, "--out", "card", cwd=spikingjelly)
    card = read_card(spikingjelly / "card" / "card.json")
    assert card["activity"]["sim_steps"] == 4
    assert len(card["activity"]["layer_rates"]) == 2
    assert [layer["num_neurons"] for layer in card["operations"]["layers"]] == [1024, 128, 6]
    attackers = {row["attacker"] for row in card["robustness"]["states"]}
    assert attackers == {"noise", "black-box", "white-box", "transfer"}
    check = (
        "card",
        "--check",
        "card/card.json",
        "--extension",
        "my_snn",
        "--episodes",
        "2",
        "--threads",
        "1",
    )
    assert "played again" in run("-m", "spikeq", *check, cwd=spikingjelly)


def test_the_cluster_files_are_read() -> None:
    script = EXAMPLES / "cluster" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    line = script.read_text().rpartition("-m spikeq reproduce ")[2]
    command = parse("python reproduce.py", Reproduce, shlex.split(line.replace("$1", "quick")))
    assert command == Reproduce("quick", engine="ray", address="auto")
    cluster = yaml.safe_load((EXAMPLES / "cluster" / "cloud.yaml").read_text())
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_ray_is_needed_only_where_it_is_asked_for(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['ray'] = None; import spikeq.__main__ as cli; "
        "sys.argv = ['spikeq', 'reproduce', 'smoke', '--out', 'made', '--engine', 'ray']; cli.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install '.[cluster]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
