"""A study of one's own: any path, any working directory, agents of every kind, and files that are wrong."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core import extensions
from core.errors import Refusal
from core.records import digest, read_rows
from core.rows import EpisodeRow
from reproduce import Reproduce
from studies.checking import require_accepted
from studies.done import is_done
from studies.planning import Stage, narrowed, plan
from studies.reading import built_in_studies, read_study
from tests.conftest import AGENTS
from tests.convert.test_foreign_minatar import QNetwork

REPOSITORY = Path(__file__).resolve().parents[1]
HEAD = 'train_seeds = [0]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "best"\n'
GAME = f"{HEAD}[games.cartpole]\n"


def planned(folder: Path, text: str) -> list[Stage]:
    (folder / "made.toml").write_text(text)
    return plan(read_study(folder / "made.toml"))


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_example_runs_from_anywhere_and_stays_beside_its_file(tmp_path: Path) -> None:
    example = Path(shutil.copytree(REPOSITORY / "examples" / "my_study", tmp_path / "example"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = example / "my_study.toml"
    short = (
        file.read_text()
        .replace("10_000", "600")
        .replace("2000", "300")
        .replace("episodes = 20", "episodes = 5")
    )
    file.write_text(short.replace("calibration_states = 1000", "calibration_states = 200"))
    # Modules of these names in the study's folder hide none of ours.
    for name in ("core.py", "evaluate.py", "analysis.py"):
        (example / name).write_text("raise SystemExit('not ours')\n")
    words = ("-m", "spikeq", "reproduce", "../example/my_study.toml")
    done = run(*words, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "leaning " in done.stdout
    assert len(done.stdout.splitlines()) < 20
    results = example / "my_study"
    assert (results / "figures" / "score_against_epsilon-cartpole.png").is_file()
    assert (results / "cartpole" / "attack-leaning" / "attacks.parquet").is_file()
    assert [*elsewhere.iterdir()] == []
    # From another folder it is the same work; an edit of the extension concerns the stages of its agent only.
    again = run("-m", "spikeq", "reproduce", example / "my_study.toml", cwd=tmp_path)
    assert "9 of 9 stages are done already" in again.stdout
    with open(example / "my_agents.py", "a") as extension:
        extension.write("# changed\n")
    again = run("-m", "spikeq", "reproduce", example / "my_study.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "7 of 9 stages are done already" in again.stdout
    assert (
        "attack cartpole/attack-leaning: its inputs have changed, and its results are made again"
        in again.stdout
    )
    # So are its page and its figures, from its folder of results.
    assert run("-m", "spikeq", "report", results, cwd=elsewhere).returncode == 0
    assert "leaning" in (results / "report" / "index.html").read_text()


def test_what_was_made_of_other_results_is_made_again_at_once(tmp_path: Path) -> None:
    """An edit of a conversion method gives other networks, and their scores lay finished already."""
    method = (REPOSITORY / "tests" / "extensions" / "half_largest.py").read_text()
    (tmp_path / "mine.py").write_text(method)
    shutil.copy(AGENTS / "cartpole-dqn-s0.safetensors", tmp_path)
    (tmp_path / "made.toml").write_text(
        f'extensions = ["mine"]\n{GAME}shipped = ["cartpole-dqn-s0.safetensors"]\nevaluate = {{ episodes = 1 }}\n'
        'convert = { method = "half-largest", sim_steps = 8, calibration_states = 100, test_states = 20 }\n'
    )
    words = ("-m", "spikeq", "reproduce", "made.toml")

    def scored() -> set[str]:
        assert (ended := run(*words, cwd=tmp_path)).returncode == 0, ended.stderr
        rows = read_rows(tmp_path / "made/cartpole/evaluate-shipped-snn-s0/episodes.parquet", EpisodeRow)
        return {row.checkpoint_id for row in rows}

    before = scored()
    (tmp_path / "mine.py").write_text(
        method.replace(
            "share: Annotated[float, Real(0, 1, above=True)] = 0.5",
            "share: Annotated[float, Real(0, 1, above=True)] = 0.75",
        )
    )
    after = scored()
    assert len(before | after) == 2
    assert "4 of 4 stages are done already" in run(*words, "--dry-run", cwd=tmp_path).stdout


def test_what_ran_before_its_inputs_came_out_otherwise_runs_again(tmp_path: Path) -> None:
    """Of import, conversion and evaluation, the conversion lies finished, so the evaluation does not wait for it."""
    (tmp_path / "made.toml").write_text(
        f'{HEAD}[games."minatar/breakout"]\nagents.dqn = "their.pt"\nevaluate = {{ episodes = 1 }}\n'
        "convert = { sim_steps = 8, calibration_states = 100, test_states = 20 }\n"
    )
    results = tmp_path / "made" / "minatar-breakout"
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save({"policy_net_state_dict": QNetwork(4, 6).state_dict()}, tmp_path / "their.pt")
        done = run("-m", "spikeq", "reproduce", "made.toml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = read_rows(results / "evaluate-snn" / "episodes.parquet", EpisodeRow)
        weights = (results / "snn" / "agent.safetensors").read_bytes()
        assert {row.checkpoint_id for row in rows} == {digest(weights)[:12]}
        shutil.rmtree(results / "evaluate-snn")
    assert "1 stage more, because results came out otherwise" in done.stdout


def test_results_go_where_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "made.toml").write_text(f"{GAME}evaluate = {{ episodes = 1 }}\n")
    done = run(REPOSITORY / "reproduce.py", "../a/made.toml", "--out", "deep/er", cwd=tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "deep" / "er" / "cartpole" / "evaluate-random" / "episodes.parquet").is_file()
    assert (tmp_path / "b" / "deep" / "er" / "scores.md").is_file()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["made.toml"]


def test_a_figure_and_a_manifest_that_are_refused_stop_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("made.toml").write_text(
        f'{GAME}[games."minatar/breakout"]\n[defaults]\nevaluate = {{ episodes = 1 }}\n'
    )
    cartpole, breakout = plan(read_study("made.toml"))
    Path("made/figures").mkdir(parents=True)
    figure = Path("made/figures/score_bars.png")
    somebody_elses = REPOSITORY / "results" / "benchmarks" / "conversion_costs.png"
    shutil.copy(somebody_elses, figure)
    with pytest.raises(SystemExit) as ended:
        Reproduce("made.toml").run()
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "page: made/report/index.html" in printed.out
    assert printed.err == "figures: not all could be drawn; made/logs/figures.log says why\n"
    assert f"{figure} was not made here" in Path("made/logs/figures.log").read_text()
    # The other game's stage runs, and the one with a damaged manifest is refused.
    cartpole.manifest.write_text(cartpole.manifest.read_text().replace('"seed": 1', '"seed": 2'))
    shutil.rmtree(breakout.manifest.parent)
    with pytest.raises(SystemExit) as ended:
        Reproduce("made.toml").run()
    assert ended.value.code == 1
    assert is_done(breakout)
    told = capsys.readouterr().err
    assert f"{cartpole.name}: refused: " in told
    assert "was changed after it was written" in told


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("dqn = { total_steps = 100 }", "line 6: total_steps is 100"),
        ('dqn = { set = ["lr=1e-3"] }', "line 6: "),
        (
            "convert = { sim_steps = 8 }",
            "line 6: games.cartpole.convert converts nothing: the game has no agent dqn",
        ),
    ],
)
def test_what_no_training_accepts_is_refused_before_anything_starts(
    entry: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "made.toml").write_text(f"{GAME}{entry}\nevaluate = {{ episodes = 1 }}\n")
    done = run("-m", "spikeq", "reproduce", "made.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["made.toml"]


def test_a_built_in_study_is_its_name_and_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in built_in_studies():
        by_name, by_path = read_study(name), read_study(REPOSITORY / "studies" / f"{name}.toml")
        assert by_name == by_path
        assert by_name.base == REPOSITORY
        assert by_name.folder == f"results/{name}"


# Agents that a study names ---------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> dict[str, Stage]:
    """The stages of a study with an agent of every kind."""
    shutil.copy(AGENTS / "pong-dqn-s0.safetensors", tmp_path / "their.safetensors")
    (tmp_path / "run").mkdir()
    (tmp_path / "foreign.zip").touch()
    file = tmp_path / "made.toml"
    file.write_text(
        f"{HEAD}[games.pong]\n"
        'agents.their-dqn = "their.safetensors"\nagents.old = "run"\nagents.foreign = "foreign.zip"\n'
        'agents.rnd = "random"\n'
        'agents.tuned = { source = "foreign.zip", network = "liu2022-if" }\n'
        "convert = { sim_steps = 8 }\nevaluate = { episodes = 1 }\nstates = { states = 9 }\nprobe = { states = 9 }\n"
    )
    return {stage.name: stage for stage in plan(read_study(file))}


def test_agents_of_every_kind_are_measured_like_the_others(named: dict[str, Stage]) -> None:
    labels = ("their-dqn", "old", "foreign", "rnd", "tuned", "their-snn")
    assert set(named) == {
        "evaluate pong/evaluate-random",
        *(f"evaluate pong/evaluate-{label}" for label in labels),
        *(f"attack pong/states-{label}" for label in labels),
        "import pong/foreign",
        "import pong/tuned",
        "convert pong/their-snn",
        "probe pong/probe",
        "probe neurons/probe",
    }
    assert [need.name for need in named["evaluate pong/evaluate-old"].needs] == [
        "best.safetensors",
        "agent.safetensors",
    ]
    (imported,) = named["import pong/foreign"].results
    assert named["evaluate pong/evaluate-foreign"].needs == (imported,)
    assert named["import pong/foreign"].arguments == (
        *("convert", "import", "--source", "foreign.zip", "--game", "pong"),
        *("--out", "made/pong/foreign/agent.safetensors"),
    )
    assert named["import pong/tuned"].arguments[6:8] == ("--network", "liu2022-if")
    # A registered agent does not know its game.
    for name, takes_game in (("evaluate-rnd", True), ("evaluate-old", False), ("states-rnd", True)):
        (arguments,) = [stage.arguments for key, stage in named.items() if key.endswith(f"/{name}")]
        assert ("--game" in arguments) == takes_game
    assert "--game" in named["probe pong/probe"].arguments


def test_agents_are_probed_each_alone_where_no_representations_are_compared(tmp_path: Path) -> None:
    """So the operations of one can be known before the last is trained."""
    (tmp_path / "run").mkdir()
    file = tmp_path / "made.toml"
    file.write_text(
        f"{HEAD}[games.pong]\nagents.old = 'run'\nagents.rnd = 'random'\nevaluate = {{ episodes = 1 }}\n"
        "probe = { states = 40, embedding = false }\n"
    )
    stages = plan(read_study(file))
    probes = {stage.name: stage for stage in stages if stage.kind == "probe"}
    assert set(probes) == {"probe pong/probe-old", "probe pong/probe-rnd", "probe neurons/probe"}
    old = probes["probe pong/probe-old"]
    assert old.agent_name == "old"
    assert {need.parent.name for need in old.needs} == {"run"}
    assert [result.name for result in old.results] == ["operations.parquet"]
    assert "--game" not in old.arguments
    assert "--game" in probes["probe pong/probe-rnd"].arguments
    text = file.read_text()
    file.write_text(text.replace("false", "[false]"))
    with pytest.raises(Refusal, match=r"made\.toml, line 9: .*probe.embedding is \[False\]: accepted are"):
        plan(read_study(file))
    chosen = narrowed(stages, [], ["old"], [])
    assert {stage.name for stage in chosen} == {"evaluate pong/evaluate-old", "probe pong/probe-old"}


# Files that are wrong --------------------------------------------------------------------------------

WRONG = {
    "a key that is missing": (
        "evaluation_seed = 1\n",
        "bad.toml: train_seeds is missing: a study needs train_seeds,",
    ),
    "no thread": (
        GAME.replace("threads = 1", "threads = 0"),
        "line 3: threads is 0: a whole number of 1 or more",
    ),
    "no game": (f"{HEAD}[games]\n", "bad.toml, line 5: games is empty"),
    "a key that no study has": (
        f"trian_seeds = [0]\n{GAME}",
        "line 1: trian_seeds is unknown: did you mean 'train_",
    ),
    "a wrong type": (f"{GAME}".replace("= 1", '= "1"', 1), "line 2: evaluation_seed is '1': a whole number"),
    "seeds that are none": (
        GAME.replace("[0]", "[0, true]"),
        "line 1: train_seeds is [0, True]: a list of whole",
    ),
    "seeds that are the same": (
        GAME.replace("[0]", "[0, 0]"),
        "line 1: train_seeds is [0, 0]: different numbers",
    ),
    "a word that is not accepted": (
        GAME.replace("best", "last"),
        "line 4: checkpoint is 'last': accepted are best, a",
    ),
    "true for a table": (
        f"{GAME}dqn = true\n",
        "line 6: games.cartpole.dqn is true: a table of options is needed",
    ),
    "an option that is a table": (
        f"{GAME}dqn = {{ a = {{ }} }}\n",
        "line 6: games.cartpole.dqn.a is {}: a text, a nu",
    ),
    "an unknown option": (
        f"{GAME}dqn = {{ totl_steps = 5 }}\n",
        "line 6: games.cartpole.dqn.totl_steps is no option of spikeq train dqn: did you mean 'total_steps'?",
    ),
    "an option that the study sets": (
        f"{GAME}dqn = {{ seed = 5 }}\n",
        "line 6: games.cartpole.dqn.seed is what the",
    ),
    "a value that is not accepted": (
        f'{GAME}# attack =\nattack = {{ epsilon = "x" }}\nagents = {{ a = "random" }}\n',
        "line 7: games.cartpole.attack is not accepted by spikeq attack run: ",
    ),
    "an unknown setting": (
        f"{GAME}dqm = {{ }}\n",
        "line 6: games.cartpole.dqm is unknown: did you mean 'dqn'?",
    ),
    "an unknown game": (
        GAME.replace("cartpole", "cartpol"),
        "line 5: unknown game 'cartpol': did you mean 'cartpole",
    ),
    "an agent that nobody registered": (
        f'{GAME}agents = {{ a = "nobody" }}\nevaluate = {{ }}\n',
        "line 6: unknown agent 'nobody': accepted are random",
    ),
    "a file that is not there": (
        f'{GAME}agents = {{ a = "no/such.zip" }}\n',
        "agents.a names no/such.zip, which is n",
    ),
    "a checkpoint that is not there": (
        f'{GAME}shipped = ["a.safetensors"]\n',
        "shipped names a.safetensors, which is",
    ),
    "an agent that is none": (
        f"{GAME}agents = {{ a = 5 }}\n",
        "agents.a is 5: accepted are a registered name, the pa",
    ),
    "a name that is taken": (
        f'{GAME}agents = {{ random = "random" }}\nevaluate = {{ }}\n',
        "line 5: games.cartpole has two agents that would write ",
    ),
    "nothing to do": (GAME, "line 5: games asks for no stage"),
    "an extension that is none": (
        f'extensions = ["no_such_module"]\n{GAME}',
        "line 1: extension 'no_such_module': no",
    ),
    "no TOML": (f"{HEAD}[games.cartpole\n", "line 5: not TOML: Expected ']'"),
    "no end": (f"{HEAD}a = [", "bad.toml: not TOML: "),
    "too deep": ("a = " + "[" * 5000, "bad.toml: not TOML: "),
    "a number that is too long": ("a = " + "1" * 5000, "bad.toml: not TOML: "),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_by_its_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_extensions: None
) -> None:
    text, message = WRONG[what]
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(text)
    with pytest.raises(Refusal) as refusal:
        Reproduce("bad.toml").run()
    assert str(refusal.value).startswith("bad.toml")
    assert message in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


def test_bytes_that_are_no_text_are_refused_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(HEAD.encode() + b"# caf\xe9\n")
    with pytest.raises(Refusal, match=r"bad\.toml, line 5: byte 0xe9 is not UTF-8"):
        read_study(tmp_path / "bad.toml")


@pytest.mark.parametrize("word", ["quik", "no/such.toml", "no_such.toml", ".", ""])
def test_what_is_no_study_is_refused(word: str) -> None:
    with pytest.raises(Refusal, match="quick"):
        read_study(word)


def test_a_wrong_study_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(f"{GAME}dqn = true\n")
    done = run("-m", "spikeq", "reproduce", "bad.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: bad.toml, line 6: ")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


def test_no_process_outlives_a_driver_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "made.toml").write_text(f"{GAME}dqn = {{ }}\n")
    command = [sys.executable, str(REPOSITORY / "reproduce.py"), "made.toml"]
    driver = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
    while not (started := children.read_text().split()):
        time.sleep(0.01)
    time.sleep(0.2)  # it was forked, and now looks at the options
    driver.kill()
    driver.wait()
    patience = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in started):
        assert time.monotonic() < patience
        time.sleep(0.01)


def test_extensions_are_found_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_extensions: None
) -> None:
    (tmp_path / "beside_the_study.py").write_text("FOUND = True\n")
    (tmp_path / "made.toml").write_text(f'extensions = ["beside_the_study"]\n{GAME}')
    monkeypatch.setattr(sys, "path", [*sys.path])
    study = read_study(tmp_path / "made.toml")
    assert study.extension_files == (tmp_path / "beside_the_study.py",)
    assert "beside_the_study" in extensions.EXTENSIONS
    del sys.modules["beside_the_study"]


SWEEP = (
    'train_seeds = [0]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "best"\n[defaults]\n'
    "dqn = {}\nconvert-max = { sim_steps = %s, method = 'max' }\n[games.cartpole]\n%s\n"
)


def test_a_list_of_sim_steps_stands_for_a_conversion_with_each(tmp_path: Path) -> None:
    written = [stage.arguments for stage in planned(tmp_path, SWEEP % ("[4, 8]", ""))]
    one_by_one = SWEEP.replace(
        "convert-max = ", "convert-max-t4 = { sim_steps = 4, method = 'max' }\nconvert-max-t8 = "
    )
    assert written == [stage.arguments for stage in planned(tmp_path, one_by_one % ("8", ""))]
    # A setting of the game's own takes the place of all of them.
    own = planned(tmp_path, SWEEP % ("[4, 8]", "convert-max = { sim_steps = [2], method = 'max' }"))
    assert [stage.agent for stage in own if stage.kind == "convert"] == ["snn-max-t2-s0"]
    # Trainings too.
    trained = planned(tmp_path, SWEEP % ("[4]", "dsqn = { sim_steps = [2, 4] }"))
    assert [stage.agent for stage in trained if stage.kind == "train"] == [
        "dqn-s0",
        "dsqn-t2-s0",
        "dsqn-t4-s0",
    ]


@pytest.mark.parametrize(
    ("sim_steps", "own", "message"),
    [
        (
            "[4, 4]",
            "",
            "line 7: defaults.convert-max.sim_steps is [4, 4]: different numbers of 1 or more are needed",
        ),
        ("[]", "", "line 7: defaults.convert-max.sim_steps is []: different numbers of 1 or more"),
        ("[0]", "", "line 7: defaults.convert-max.sim_steps is [0]: different numbers of 1 or more"),
        (
            '["4"]',
            "",
            "line 7: defaults.convert-max.sim_steps is ['4']: a list of whole numbers, as in [4, 8]",
        ),
        (
            "[4]",
            "convert-max-t4 = { sim_steps = 4 }",
            "line 7: defaults.convert-max makes convert-max-t4, which is",
        ),
        (
            "[4], percentile = 'x'",
            "",
            "line 7: defaults.convert-max is not accepted by spikeq convert run: percentile is x",
        ),
    ],
)
def test_a_list_of_sim_steps_that_means_nothing_is_refused(
    tmp_path: Path, sim_steps: str, own: str, message: str
) -> None:
    file = tmp_path / "made.toml"
    file.write_text(SWEEP % (sim_steps, own))

    def read() -> None:
        study = read_study(file)
        require_accepted(study, plan(study))

    with pytest.raises(Refusal) as refused:
        read()
    assert message in str(refused.value)


VICTIMS = (
    'train_seeds = [0, 1]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "best"\n[games.cartpole]\n'
    "dqn = {}\nconvert-t8 = { sim_steps = 8 }\nstates = { states = 64 }\nattack = { episodes = 3, %s }\n"
)


@pytest.mark.parametrize(
    ("chosen", "victims"),
    [
        ('agents = ["dqn", "snn-t8"]', ["dqn-s0", "dqn-s1", "snn-t8-s0", "snn-t8-s1"]),
        ("train_seeds = [1]", ["dqn-s1", "snn-t8-s1"]),
        ('agents = ["snn-t8"], train_seeds = [0]', ["snn-t8-s0"]),
        ("agents = []", []),
    ],
)
def test_a_command_attacks_the_agents_that_its_table_chooses(
    tmp_path: Path, chosen: str, victims: list[str]
) -> None:
    stages = [stage for stage in planned(tmp_path, VICTIMS % chosen) if stage.kind == "attack"]
    games = [stage for stage in stages if stage.arguments[1] == "run"]
    assert [stage.agent.removeprefix("attack-") for stage in games] == victims
    assert not any({"--agents", "--train-seeds"} & {*stage.arguments} for stage in stages)
    require_accepted(read_study(tmp_path / "made.toml"), stages)
    assert len(stages) - len(games) == 4  # the other command has no choice of its own


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            'agents = ["snn-t4"]',
            "attack.agents names 'snn-t4': did you mean 'snn-t8'? agents of cartpole are dqn, snn-t8",
        ),
        ('agents = "dqn"', "attack.agents is 'dqn': a list of names"),
        ("train_seeds = [-1]", "attack.train_seeds is "),
        ("train_seeds = [0, 7]", "attack.train_seeds names 7: training seeds of these agents are 0, 1"),
    ],
)
def test_a_choice_of_victims_that_means_nothing_is_refused(tmp_path: Path, chosen: str, message: str) -> None:
    with pytest.raises(Refusal, match=r"made\.toml, line 9: games\.cartpole\.") as refused:
        planned(tmp_path, VICTIMS % chosen)
    assert message in str(refused.value)
