"""What a study's TOML turns into: stages, in an order in which each finds what it needs."""

import json
from pathlib import Path

import pytest

from analysis.check import findings
from core.errors import Refusal
from core.records import digest
from core.rows import ROWS_FORMAT
from studies.done import done_of, is_done, remaining, remove_outdated_results
from studies.planning import Stage, plan
from studies.reading import built_in_studies, read_study

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The file of a study named `made`; what it reads and writes lies in a folder of the test."""
    return tmp_path / "made.toml"


def planned(study: Path) -> list[Stage]:
    return plan(read_study(study))


def touch(study: Path, *names: str) -> None:
    """Make files that a study names."""
    for name in names:
        (study.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (study.parent / name).touch()


HEAD = 'train_seeds = [0, 1]\nevaluation_seed = 7\nthreads = 1\ncheckpoint = "best"\n'


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_shipped_agents_are_used_beside_trained_ones(study: Path) -> None:
    touch(study, "results/agents/pong-dqn-s0.safetensors", "results/agents/pong-dsqn-s1.safetensors")
    study.write_text(
        HEAD
        + '[games.pong]\nshipped = ["results/agents/pong-dqn-s0.safetensors", '
        + '"results/agents/pong-dsqn-s1.safetensors"]\n'
        + "convert = { sim_steps = 8 }\nevaluate = { episodes = 2 }\nattack = { epsilon = [0] }\n"
        + "dqn = { total_steps = 5 }\ntrain_seeds = [3]\n"
    )
    stages = planned(study)
    assert names(stages) == [
        "evaluate pong/evaluate-random",
        "train pong/dqn-s3",
        "evaluate pong/evaluate-dqn-s3",
        "evaluate pong/evaluate-shipped-dqn-s0",
        "evaluate pong/evaluate-shipped-dsqn-s1",
        "convert pong/snn-s3",
        "evaluate pong/evaluate-snn-s3",
        "convert pong/shipped-snn-s0",
        "evaluate pong/evaluate-shipped-snn-s0",
        "attack pong/attack-dqn-s3",
        "attack pong/attack-shipped-dqn-s0",
        "attack pong/attack-shipped-dsqn-s1",
        "attack pong/attack-snn-s3",
        "attack pong/attack-shipped-snn-s0",
    ]
    shipped = study.parent / "results" / "agents"
    given = {shipped / f"pong-{name}.safetensors" for name in ("dqn-s0", "dsqn-s1")}
    made: set[Path] = set()
    for stage in stages:
        # The last weights of a training lie beside the best, by which it is known.
        assert {
            need for need in stage.needs if need.name != "agent.safetensors" or "snn" in str(need)
        } <= made | given
        made.update(stage.results)
    converted = next(stage for stage in stages if stage.name == "convert pong/shipped-snn-s0")
    assert converted.arguments[:4] == ("convert", "run", "--agent", "results/agents/pong-dqn-s0.safetensors")


def test_a_quantised_dqn_that_is_asked_for_is_an_agent_of_its_own(study: Path) -> None:
    touch(study, "results/agents/pong-dqn-s0.safetensors")
    study.write_text(
        HEAD
        + "[games.pong]\nshipped = ['results/agents/pong-dqn-s0.safetensors']\n"
        + "convert-q8 = { method = 'qcfs', quantised = true }\nevaluate = {}\nattack = {}\n"
        + "states = { best_source = true }\n"
    )
    stages = {stage.name: stage for stage in planned(study)}
    made = stages["convert pong/shipped-snn-q8-s0"].results
    assert [file.name for file in made] == ["agent.safetensors", "agent.quantised.safetensors"]
    for verb in ("evaluate", "attack", "states"):
        for label, file in zip(("snn", "quantised"), made, strict=True):
            kind = "evaluate" if verb == "evaluate" else "attack"
            stage = stages[f"{kind} pong/{verb}-shipped-{label}-q8-s0"]
            assert stage.needs[0] == file
            assert ("--twin" in stage.arguments) == (verb == "states")


def test_variants_are_trained_converted_and_probed_under_their_names(study: Path) -> None:
    study.write_text(
        HEAD
        + "[games.pong]\ntrain_seeds = [2]\ndqn-double = { double = true }\n"
        + "dsqn-rate = { readout = 'rate', bias = false }\n"
        + "convert-t4 = { sim_steps = 4 }\nconvert-t8 = { sim_steps = 8 }\nprobe = { states = 9 }\n"
    )
    stages = {stage.name: stage for stage in planned(study)}
    assert list(stages) == [
        "train pong/dqn-double-s2",
        "train pong/dsqn-rate-s2",
        "convert pong/snn-t4-double-s2",
        "convert pong/snn-t8-double-s2",
        "probe pong/probe",
        "probe neurons/probe",
    ]
    training = stages["train pong/dsqn-rate-s2"].arguments
    assert training[:2] == ("train_direct", "dsqn")
    assert training[training.index("--readout") :][:2] == ("--readout", "rate")
    assert training[training.index("--bias") :][:2] == ("--bias", "False")
    assert "--double" in stages["train pong/dqn-double-s2"].arguments
    assert "True" not in stages["train pong/dqn-double-s2"].arguments
    assert len(stages["probe pong/probe"].needs) == 4


def test_actors_are_trained_by_their_verbs_and_never_converted(study: Path) -> None:
    study.write_text(
        HEAD
        + "[games.cartpole]\ntrain_seeds = [2]\ndqn = {}\nppo = { total_steps = 9 }\n"
        + "spiking-ppo = {}\nspiking-ppo-t4 = { sim_steps = 4 }\nconvert = { sim_steps = 8 }\nattack = {}\n"
    )
    stages = {stage.name: stage for stage in planned(study)}
    assert list(stages) == [
        "train cartpole/dqn-s2",
        "train cartpole/ppo-s2",
        "train cartpole/spiking-ppo-s2",
        "train cartpole/spiking-ppo-t4-s2",
        "convert cartpole/snn-s2",
        "attack cartpole/attack-dqn-s2",
        "attack cartpole/attack-ppo-s2",
        "attack cartpole/attack-spiking-ppo-s2",
        "attack cartpole/attack-spiking-ppo-t4-s2",
        "attack cartpole/attack-snn-s2",
    ]
    assert stages["train cartpole/ppo-s2"].arguments[:2] == ("train_direct", "ppo")
    assert stages["train cartpole/spiking-ppo-t4-s2"].arguments[:2] == ("train_direct", "spiking-ppo")


def test_states_are_attacked_along_the_first_agents_gradients_too(study: Path) -> None:
    touch(study, "a/pong-dqn-s0.safetensors", "a/pong-dsqn-s0.safetensors")
    study.write_text(
        HEAD
        + '[games.pong]\ntrain_seeds = []\nshipped = ["a/pong-dqn-s0.safetensors", "a/pong-dsqn-s0.safetensors"]\n'
        + "convert = { sim_steps = 8 }\nstates = { states = 9, best_source = true }\n"
    )
    stages = {stage.name: stage for stage in planned(study)}
    snn = stages["attack pong/states-shipped-snn-s0"]
    words = snn.arguments
    assert words[:2] == ("adversarial", "states")
    assert words[words.index("--states-of") + 1] == "a/pong-dqn-s0.safetensors"
    transfer = words.index("--transfer")
    # The DQN that it came from is no stranger to it.
    assert words[transfer + 1 : transfer + 3] == ("a/pong-dsqn-s0.safetensors", "--twin")
    assert words[words.index("--twin") + 1] == "a/pong-dqn-s0.safetensors"
    dqn = stages["attack pong/states-shipped-dqn-s0"].arguments
    assert dqn[dqn.index("--transfer") + 1] == "a/pong-dsqn-s0.safetensors"
    assert "--twin" not in dqn


def test_attacks_are_transferred_from_plain_networks_before_variants_of_them(study: Path) -> None:
    study.write_text(
        HEAD
        + '[games."minatar/breakout"]\ndqn = {}\ndsqn-cmc = { cmc = true }\ndsqn = {}\nstates = { states = 9 }\n'
    )
    stages = {stage.name: stage for stage in planned(study)}

    def lenders(victim: str) -> list[str]:
        words = stages[f"attack minatar-breakout/states-{victim}"].arguments
        start = words.index("--transfer") + 1
        return [Path(word).parent.name for word in words[start : start + 2]]

    assert lenders("dqn-s0") == ["dqn-s1", "dsqn-s0"]
    assert lenders("dsqn-s0") == ["dqn-s0", "dsqn-s1"]
    assert lenders("dsqn-cmc-s0") == ["dqn-s0", "dsqn-s0"]


def test_what_a_study_leaves_out_is_not_run(study: Path) -> None:
    study.write_text(HEAD + '[games."minatar/breakout"]\ndsqn = { total_steps = 5 }\n')
    assert names(planned(study)) == [
        "train minatar-breakout/dsqn-s0",
        "train minatar-breakout/dsqn-s1",
    ]


def test_a_setting_that_means_nothing_is_refused(study: Path) -> None:
    study.write_text(HEAD + "[games.pong]\ndqm = { total_steps = 5 }\n")
    with pytest.raises(
        Refusal,
        match=r"made.toml, line 6: games.pong.dqm is unknown: did you mean 'dqn'\? settings are train_seeds",
    ):
        planned(study)


def test_extensions_of_a_study_go_to_every_stage(study: Path, forget_extensions: None) -> None:
    games = '[games."minatar/breakout"]\ndqn = { total_steps = 9000 }\nevaluate = { episodes = 1 }\n'
    study.write_text('extensions = ["tests.extensions.plus_minus"]\n' + HEAD + games)
    for stage in planned(study):
        at = stage.arguments.index("--extension")
        assert stage.arguments[at + 1] == "tests.extensions.plus_minus"
    for wrong, named in (('"a"', "a list of modules"), ('["no_such_module"]', "no_such_module")):
        study.write_text(f"extensions = {wrong}\n" + HEAD + games)
        with pytest.raises(Refusal, match=named):
            planned(study)


@pytest.mark.parametrize("name", built_in_studies())
def test_the_studies_can_be_planned(name: str) -> None:
    stages = plan(read_study(name))
    assert stages
    assert len({stage.manifest for stage in stages}) == len(stages)


@pytest.mark.parametrize(
    "folder",
    [
        folder
        for folder in sorted(RESULTS.iterdir())
        if (folder / "README.md").exists() and folder.name in built_in_studies()
    ],
    ids=lambda folder: folder.name,
)
def test_committed_results_are_what_their_study_makes(folder: Path) -> None:
    """So that `make reproduce STUDY=...` measures them again; a probe may be of fewer networks than there are now.

    A study that is under way lacks runs, and nothing else.
    """
    planned = plan(read_study(folder.name))
    stages = {stage.manifest: stage for stage in planned}
    for path in sorted(folder.rglob("*manifest.json")):
        command = json.loads(path.read_text())["command"]
        if Path(command[command.index("--out") + 1]).parts[1] != folder.name:
            continue  # curves of runs of another study, of which the weights are shipped
        assert path in stages
        if stages[path].kind != "probe" or stages[path].agent:
            assert command == list(stages[path].arguments)
    found = [*findings(folder)]
    if any(stage.kind == "train" for stage in remaining(planned, done_of(planned))):
        found = [finding for finding in found if " lacks training seed " not in finding]
    assert found == []


def finished_evaluation(study: Path) -> tuple[Stage, Path]:
    """A study's evaluation of shipped weights, as it is left when it was done; and these weights."""
    touch(study, "agent.safetensors")
    study.write_text(HEAD + '[games.pong]\nshipped = ["agent.safetensors"]\nevaluate = { episodes = 2 }\n')
    stage = planned(study)[-1]
    (weights,) = stage.needs
    weights.write_bytes(b"weights")
    (rows,) = stage.results
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"rows")
    content = {
        "command": list(stage.arguments),
        "format": ROWS_FORMAT,
        "spec": {"agents": [digest(b"weights")[:12]]},
        "outputs": {rows.name: digest(b"rows")},
    }
    stage.manifest.write_text(json.dumps(content))
    return stage, weights


def test_what_was_made_of_the_weights_that_are_there_stays(study: Path) -> None:
    stage, _ = finished_evaluation(study)
    remove_outdated_results(stage)
    assert is_done(stage)


def test_what_was_made_of_other_weights_is_made_again(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, weights = finished_evaluation(study)
    beside = stage.manifest.with_name("notes.txt")
    beside.write_text("mine")
    weights.write_bytes(b"weights that another machine made")
    assert not is_done(stage)
    remove_outdated_results(stage)
    assert [path.name for path in stage.manifest.parent.iterdir()] == ["notes.txt"]
    assert (
        "evaluate-shipped-agent: its inputs have changed, and its results are made again"
        in capsys.readouterr().out
    )


def test_results_of_an_input_that_is_missing_are_left_as_they_are(study: Path) -> None:
    stage, weights = finished_evaluation(study)
    weights.unlink()
    with pytest.raises(
        Refusal, match=r"agent.safetensors is missing, which evaluate pong/evaluate-shipped-agent needs"
    ):
        remove_outdated_results(stage)
    assert stage.manifest.exists()
    assert all(result.read_bytes() == b"rows" for result in stage.results)


def test_a_kill_while_outdated_results_are_removed_is_made_good(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, weights = finished_evaluation(study)
    weights.write_bytes(b"other weights")
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_outdated_results(stage)
    remove_outdated_results(stage)
    assert list(stage.manifest.parent.iterdir()) == []


@pytest.mark.parametrize("label", ["old-dqn", "dqn_old", "dqn"])
def test_a_dqn_is_known_by_a_word_of_its_name(label: str, study: Path) -> None:
    touch(study, "mine.safetensors")
    study.write_text(
        HEAD + f'[games.pong]\nagents = {{ {label} = "mine.safetensors" }}\nconvert = {{ sim_steps = 8 }}\n'
    )
    (converted,) = [stage.name for stage in planned(study) if stage.kind == "convert"]
    assert converted == f"convert pong/{label.replace('dqn', 'snn')}"


def test_unfinished_work_is_left_to_be_resumed(study: Path) -> None:
    stage, weights = finished_evaluation(study)
    content = json.loads(stage.manifest.read_text())
    stage.manifest.write_text(json.dumps({**content, "outputs": {}}))
    weights.write_bytes(b"other weights")
    remove_outdated_results(stage)
    assert stage.manifest.exists()


def test_the_methods_side_by_side_are_of_the_first_dqn(study: Path) -> None:
    touch(study, *(f"results/agents/pong-{name}.safetensors" for name in ("dsqn-s0", "dqn-s0", "dqn-s1")))
    study.write_text(
        HEAD
        + '[games.pong]\nshipped = ["results/agents/pong-dsqn-s0.safetensors", '
        + '"results/agents/pong-dqn-s0.safetensors", "results/agents/pong-dqn-s1.safetensors"]\n'
        + "compare = { sim_steps = [2, 4], episodes = 3 }\n"
    )
    (compared,) = [stage for stage in planned(study) if stage.kind == "compare"]
    assert compared.name == "compare pong/compare-shipped-dqn-s0"
    assert compared.arguments[:4] == (
        "convert",
        "compare",
        "--agent",
        "results/agents/pong-dqn-s0.safetensors",
    )
    assert "--sim-steps 2 4 --episodes 3" in " ".join(compared.arguments)
    assert [need.name for need in compared.needs] == ["pong-dqn-s0.safetensors"]
