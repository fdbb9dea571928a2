"""Each kind of thing is added by one file and goes the whole way: trained or converted, scored, attacked, drawn.

The files lie in tests/extensions. Nothing else knows of what they register.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import extensions
from core.checkpoint import load_agent
from core.records import read_rows
from core.rows import ConversionRow, EpisodeRow, StateAttackRow
from tests.conftest import AGENTS, Command, registries
from tests.studies.conftest import wait_until
from tests.test_house import own_sources
from tests.test_refusals import is_refused

REPOSITORY = Path(__file__).resolve().parents[1]
REGISTRIES = registries()
DQN = AGENTS / "minatar-breakout-dqn-s0.safetensors"
BRIEFLY = (
    *("--game", "minatar/breakout", "--recipe", "minatar-fast", "--total-steps", 600, "--warmup-steps", 400),
    *(
        "--eval-episodes",
        2,
        "--replay-steps",
        500,
        "--curve-interval-steps",
        100,
        "--threads",
        1,
        "--seed",
        1,
    ),
)
SPIKING = {
    "adaptive": (
        "--network",
        "chen2022",
        "--sim-steps",
        2,
        "--neuron",
        "adaptive",
        "beta=0.1",
        "threshold=0.1",
    ),
    "recent": (
        "--network",
        "chen2022",
        "--sim-steps",
        4,
        "--threshold",
        0.1,
        "--readout",
        "recent",
        "share=0.25",
    ),
    "root_mean_square": ("--network", "chen2022", "--sim-steps", 2, "--normalisation", "root-mean-square"),
    "small": ("--network", "small"),
}
"""What trains each thing of a spiking network, by the file that registers it."""
NAMES = {
    "adaptive": "chen2022+sim_steps=2+neuron=adaptive,beta=0.1,threshold=0.1",
    "recent": "chen2022+sim_steps=4+readout=recent,share=0.25+threshold=0.1",
    "root_mean_square": "chen2022+sim_steps=2+normalisation=root-mean-square",
    "small": "small",
}
"""The name of each network in rows."""


@pytest.fixture(autouse=True)
def forgotten(forget_extensions: None) -> None:
    """What a test registers is forgotten after it."""


@pytest.mark.parametrize("name", SPIKING)
def test_a_part_of_a_spiking_network_goes_the_whole_way(name: str, command: Command, tmp_path: Path) -> None:
    extension = ("--extension", f"tests.extensions.{name}")
    study = tmp_path / "study" / "minatar-breakout"
    run, scores, attacked = study / "dsqn-s1", study / "evaluate-dsqn-s1", study / "states-dsqn-s1"
    agent = run / "agent.safetensors"

    is_refused(
        command("train_direct", "dsqn", *BRIEFLY, *SPIKING[name], "--out", run), "unknown", "--extension"
    )
    assert not run.exists()
    done = command("train_direct", "dsqn", *BRIEFLY, *SPIKING[name], *extension, "--out", run)
    assert done.code == 0, done.err
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["extensions"] == {extension[1]: extensions.EXTENSIONS[extension[1]]}
    trained = load_agent(agent)
    assert trained.agent.config()["spiking"] == load_agent(run / "best.safetensors").agent.config()["spiking"]

    done = command("evaluate", "run", "--agent", run, *extension, "--episodes", 3, "--out", scores)
    assert done.code == 0, done.err
    rows = read_rows(scores / "episodes.parquet", EpisodeRow)
    assert {(row.agent, row.network, row.checkpoint) for row in rows} == {
        ("dsqn", NAMES[name], which) for which in ("best", "final")
    }
    assert any(row.spikes_per_decision > 0 for row in rows)

    attack = (
        "--attack",
        "fgsm",
        "random-sign",
        "--best-source",
        "--epsilon",
        0.5,
        "--states",
        16,
        "--threads",
        1,
    )
    done = command("adversarial", "states", "--agent", agent, *extension, *attack, "--out", attacked)
    assert done.code == 0, done.err
    states = read_rows(attacked / "state_attacks.parquet", StateAttackRow)
    assert {"own-surrogate"} <= {row.gradient_source for row in states}

    _draws(tmp_path / "study", "score_bars", "liu2022_fig7_learning_curves", "flips_of_states")


def test_a_conversion_method_goes_the_whole_way(command: Command, tmp_path: Path) -> None:
    study = tmp_path / "study" / "minatar-breakout"
    snn, scores, compared = (
        study / "snn-s0" / "agent.safetensors",
        study / "evaluate-snn-s0",
        study / "compare",
    )
    states = ("--calibration-states", 100, "--test-states", 30, "--threads", 1)
    extension = ("--extension", "tests.extensions.half_largest")
    chosen = ("--method", "half-largest", "--method-options", "share=0.75", "--sim-steps", 8)

    is_refused(
        command("convert", "run", "--agent", DQN, *chosen, *states, "--out", snn), "unknown", "half-largest"
    )
    run = ("convert", "run", "--agent", DQN, *chosen, *states, *extension, "--out", snn)
    is_refused(command(*run, "--percentile", 99), "method half-largest has no such option")
    done = command(*run)
    assert done.code == 0, done.err
    assert "half-largest at 8 sim steps" in done.out
    conversion = load_agent(snn).provenance["conversion"]
    assert (conversion["method"], conversion["method_options"]) == ("half-largest", {"share": 0.75})
    variants = ("--variants", "tan2021", "half-largest", "--sim-steps", 8)
    done = command("convert", "compare", "--agent", DQN, *variants, *states, *extension, "--out", compared)
    assert done.code == 0, done.err
    assert "half-largest" in (compared / "comparison.md").read_text()
    methods = read_rows(compared / "methods.parquet", ConversionRow)
    assert {row.variant for row in methods} == {"tan2021", "half-largest"}
    settings = [json.loads(row.settings) for row in methods if row.variant == "half-largest"]
    assert {each["method_options"]["share"] for each in settings} == {0.5}

    # A converted network is data: to play it, nobody needs the method.
    done = command("evaluate", "run", "--agent", snn, "--episodes", 2, "--threads", 1, "--out", scores)
    assert done.code == 0, done.err
    assert {row.variant for row in read_rows(scores / "episodes.parquet", EpisodeRow)} == {"half-largest"}
    _draws(tmp_path / "study", "score_bars", "agreement_of_methods")


def test_a_foreign_network_goes_the_whole_way(command: Command, tmp_path: Path) -> None:
    study = tmp_path / "study" / "minatar-breakout"
    agent = ("--agent", "leaky-net", "--game", "minatar/breakout", "--threads", 1)
    is_refused(command("evaluate", "run", *agent, "--out", study / "scores"), "leaky-net", "--extension")
    extended = (*agent, "--extension", "tests.extensions.leaky_net")
    done = command("evaluate", "run", *extended, "--episodes", 3, "--out", study / "scores")
    assert done.code == 0, done.err
    rows = read_rows(study / "scores" / "episodes.parquet", EpisodeRow)
    assert {(row.agent, row.network, row.sim_steps) for row in rows} == {("leaky-net", "leaky-net", 4)}
    assert all(row.spikes_per_decision > 0 for row in rows)
    attack = ("--attack", "fgsm", "square", "random-sign", "--best-source", "--epsilon", 0.1, "--states", 24)
    done = command(
        "adversarial", "states", *extended, *attack, "--query-states", 8, "--out", study / "states"
    )
    assert done.code == 0, done.err
    states = read_rows(study / "states" / "state_attacks.parquet", StateAttackRow)
    assert {row.attacker for row in states} == {"white-box", "black-box", "noise"}
    _draws(tmp_path / "study", "score_bars", "flips_of_states")


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("adaptive", "adaptive"),
        ("recent", "recent"),
        ("root_mean_square", "root-mean-square"),
        ("small", "small"),
        ("half_largest", "half-largest"),
        ("plus_minus", "plus-minus"),
        ("leaky_net", "leaky-net"),
    ],
)
def test_one_file_is_all_that_it_takes(name: str, registered: str) -> None:
    before = {each: len(each) for each in REGISTRIES}
    modules = set(sys.modules)
    extensions.load_extension(f"tests.extensions.{name}")
    assert {each for each in set(sys.modules) - modules if each.startswith("tests.")} <= {
        "tests.extensions",
        f"tests.extensions.{name}",
    }
    (grown,) = (each for each, size in before.items() if len(each) > size)
    assert registered in grown
    # No source of the project names it.
    assert [path for path in own_sources() if f'"{registered}"' in path.read_text()] == []


def _draws(study: Path, *figures: str) -> None:
    """The figures and tables of a study can be made from its rows."""
    from plot import Plot

    Plot((str(study),)).run()
    for figure in figures:
        pictures = [path for path in (study / "figures").glob("*.png") if path.stem.split("-")[0] == figure]
        assert pictures, figure
        assert all(path.stat().st_size > 1000 for path in pictures), figure
    assert (study / "scores.md").read_text()


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A command that names the extension mine.py in the working directory."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "spikeq", *words, "--extension", "mine"]
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)


def test_an_edited_extension_does_not_pass_for_what_it_was(tmp_path: Path) -> None:
    """Neither its finished rows nor the identity of its network."""
    extension = tmp_path / "mine.py"
    options = ("--game", "cartpole", "--episodes", "2", "--threads", "1")
    played = ("evaluate", "run", "--agent", "leaning", *options)
    built_in = ("evaluate", "run", "--agent", "random", *options)

    def run(*words: str) -> tuple[int, str]:
        done = start(*words, cwd=tmp_path)
        _, said = done.communicate()
        return done.returncode, said

    def finished(*words: str) -> None:
        code, said = run(*words)
        assert code == 0, said

    leaning = (REPOSITORY / "examples" / "my_study" / "my_agents.py").read_text()
    extension.write_text(leaning)
    finished(*played, "--out", "a")
    finished(*played, "--out", "a")
    finished(*built_in, "--out", "random")
    finished(*built_in, "--out", "a")  # rows of another agent are added
    assert list(json.loads((tmp_path / "a" / "manifest.json").read_text())["extensions"]) == ["mine"]
    extension.write_text(leaning.replace("[-to_the_right, to_the_right]", "[to_the_right, -to_the_right]"))
    code, said = run(*played, "--out", "a")
    assert code == 2
    assert said == (
        "error: a/manifest.json is of the extension 'mine' before it was changed; remove its folder, or choose another "
        "--out\n"
    )
    finished(*built_in, "--out", "random")  # nothing of the extension is in it
    finished(*played, "--out", "b")
    one, other = (
        {row.checkpoint_id for row in read_rows(tmp_path / out / "episodes.parquet", EpisodeRow)}
        for out in "ab"
    )
    assert len((one | other) - {""}) == 2  # rows of random play have none


def test_weights_that_an_edited_extension_computes_are_told(tmp_path: Path) -> None:
    neuron = (REPOSITORY / "tests" / "extensions" / "adaptive.py").read_text()
    extension = tmp_path / "mine.py"
    extension.write_text(neuron)

    def run(*words: str) -> str:
        done = start(*words, "--threads", "1", cwd=tmp_path)
        _, said = done.communicate()
        assert done.returncode == 0, said
        return said

    own = ("--game", "cartpole", "--neuron", "adaptive", "--sim-steps", "2", "--total-steps", "300")
    run("train", "dsqn", *own, "--out", "trained")
    played = ("evaluate", "run", "--agent", "trained/best.safetensors", "--episodes", "1", "--out")
    assert "has changed" not in run(*played, "as-trained")
    extension.write_text(neuron.replace("self.neuron.beta", "0.5 * self.neuron.beta"))
    assert "trained by the extension 'mine', which has changed; it plays as it is now" in run(
        *played, "edited"
    )


def test_unfinished_work_of_an_edited_extension_begins_anew(tmp_path: Path) -> None:
    """Where nothing was written; a training that was stopped would go on with other code, and is refused."""
    extension = tmp_path / "mine.py"
    working = (REPOSITORY / "examples" / "my_study" / "my_agents.py").read_text()
    own = ("--threads", "1", "--game", "cartpole")
    extension.write_text(working.replace("to_the_right = ", "to_the_right = 1 / 0 * "))
    played = ("evaluate", "run", "--agent", "leaning", "--episodes", "1", "--out", "played", *own)
    trained = ("train", "dqn", "--total-steps", "100000", "--out", "trained", *own)
    training = start(*trained, cwd=tmp_path)
    failed = start(*played, cwd=tmp_path)
    assert "ZeroDivisionError" in failed.communicate()[1]
    assert not (tmp_path / "played").exists()
    wait_until(lambda: (tmp_path / "trained" / "replay").exists())
    training.terminate()
    training.communicate()
    extension.write_text(working)
    assert "error" not in start(*played, cwd=tmp_path).communicate()[1]
    assert (tmp_path / "played" / "episodes.parquet").is_file()
    again = start(*trained, cwd=tmp_path)
    assert "is of the extension 'mine' before it was changed" in again.communicate()[1]
    assert again.returncode == 2
