"""Forecasts: what commands say they will do, what it costs, and in which order a driver would do it."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from convert.method import METHODS
from convert.methods.hybrid import Hybrid
from convert.options import CodingOptions
from core.durations import duration
from core.errors import Refusal
from core.games import get_game
from core.machine import processor
from core.rate_coded.network import RateCodedNetwork
from core.records import write_rows
from core.rows import EpisodeRow
from core.workload import Workload, WorkPart
from play.expected import Expected, side_by_side
from play.states import COLLECTING_ENVS
from reproduce import Reproduce, _needs
from studies.dry_run import dry_run
from studies.forecast import COSTS, GPU_SHARE, Forecast, Rates, all_rates, forecast_of, workloads
from studies.planning import Stage, narrowed, plan
from studies.reading import Study, read_study
from studies.schedule import in_order, wall_seconds
from tests.conftest import episode

HEAD = 'train_seeds = [0, 1]\nevaluation_seed = 7\nthreads = 1\ncheckpoint = "best"\n'
GAME = 'games = ["minatar/breakout"]\n[defaults]\n'
WHOLE = (
    "dqn = { total_steps = 9000, eval_interval_steps = 3000, eval_episodes = 2 }\n"
    'dsqn = { sim_steps = 4, total_steps = 9000, warmup_steps = 1000, precision = "bf16" }\n'
    'convert = { method = "qcfs", sim_steps = 8, calibration_states = 100, test_states = 50, distil_updates = 10 }\n'
    "evaluate = { episodes = 4 }\n"
    'states = { attack = ["fgsm", "pgd", "random-sign"], steps = [5], epsilon = [0.1, 0.2], states = 30 }\n'
    'attack = { attack = ["fgsm"], epsilon = [0, 0.1], episodes = 2 }\n'
    "probe = { states = 31 }\n"
)
RATES = Rates(
    "a processor",
    "cpu",
    "",
    2.0,
    {
        "decide minatar dqn": {1: 1.0},
        "decide alone minatar dqn": {1: 32.0},
        "update x dsqn": {4: 1.0, 8: 3.0},
    },
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    file = tmp_path_factory.mktemp("forecast") / "made.toml"
    file.write_text(HEAD + GAME + WHOLE)
    return read_study(file)


def told(study: Study, stages: Sequence[Stage]) -> dict[Stage, Workload]:
    """The workloads of stages that can tell them."""
    found = workloads(study, stages)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def works(study: Study) -> dict[str, Workload]:
    return {stage.name: work for stage, work in told(study, plan(study)).items()}


def amounts(work: Workload) -> dict[tuple[str, str, int], float]:
    found: dict[tuple[str, str, int], float] = {}
    for part in work.parts:
        key = part.work, part.kind, part.sim_steps
        found[key] = found.get(key, 0) + part.amount
    return found


def at_once(work: Workload) -> list[float]:
    """States that are decided on side by side, in the order of the parts."""
    return [part.at_once for part in work.parts if part.work in ("decide", "gradient")]


def test_commands_tell_how_many_states_they_compute_at_once(works: dict[str, Workload]) -> None:
    # The games of minatar-fast, then of a validation.
    assert at_once(works["train minatar-breakout/dqn-s0"]) == [16, 2]
    assert at_once(works["evaluate minatar-breakout/evaluate-dqn-s0"]) == [4, 4]
    attack = works["attack minatar-breakout/attack-dqn-s0"]
    assert set(at_once(attack)) == {2}
    collected = at_once(works["convert minatar-breakout/snn-s1"])
    assert collected[0] == COLLECTING_ENVS


@pytest.mark.parametrize(
    ("game", "episodes", "num_envs", "games"),
    [
        ("minatar/breakout", 100, 32, 32),
        ("minatar/breakout", 3, 32, 3),
        ("pong", 30, 32, 15),  # one half plays while the network decides for the other
        ("pong", 1, 32, 1),
        ("pong", 30, 8, 4),
    ],
)
def test_games_that_are_decided_at_once(game: str, episodes: int, num_envs: int, games: float) -> None:
    assert side_by_side(get_game(game), episodes, num_envs) == games


def test_a_gpu_takes_as_long_for_one_state_as_for_many() -> None:
    part = WorkPart("decide", "minatar", "dqn", 0, 32, 1)
    seconds = {"decide minatar dqn": {1: 1.0}}
    assert replace(RATES, device="a card", seconds=seconds).of(part) == 32 * 32
    assert replace(RATES, seconds=seconds).of(part) == 32


def test_commands_tell_their_work_by_hand(works: dict[str, Workload]) -> None:
    steps = 170  # decisions of a game of minatar/breakout, core/data/episode_lengths.csv
    dqn = amounts(works["train minatar-breakout/dqn-s0"])
    assert dqn["environment", "", 1] == 9000 + 3 * 2 * steps
    assert dqn["update", "dqn", 0] == (9000 - 5000) / 4 * 32  # of minatar-fast
    dsqn = amounts(works["train minatar-breakout/dsqn-s1"])
    assert dsqn["update", "dsqn+bf16", 4] == (9000 - 1000) / 4 * 32
    # The best and the last weights.
    assert amounts(works["evaluate minatar-breakout/evaluate-dqn-s0"])["decide", "dqn", 0] == 2 * 4 * steps
    snn = amounts(works["convert minatar-breakout/snn-s1"])
    assert snn["convert", "qcfs", 8] == 100
    assert snn["update", "quantised", 1] == 4 * 10 * 64
    assert snn["decide", "rate-coded", 8] == 50
    hybrid = Hybrid(distil_updates=10)
    network = RateCodedNetwork(get_game("minatar/breakout"), CodingOptions().coding(8, hybrid))
    learning = [WorkPart("update", "minatar", "rate-coded", 8, 4 * 10 * 64)]
    assert [
        each for each in hybrid.work(network, 100, Expected(), False) if each.work == "update"
    ] == learning
    # Four whole games for 100 states, and four for 50; then three times four of the student.
    assert snn["environment", "", 1] == (2 + 3) * 4 * steps
    attack = amounts(works["attack minatar-breakout/attack-dqn-s0"])
    assert attack["environment", "", 1] == 2 * 2 * steps
    assert attack["gradient", "dqn", 0] == 2 * steps
    # Two sizes of fgsm and of five steps; along the victim's gradient, another DQN's, and the first DSQN's.
    states = amounts(works["attack minatar-breakout/states-dqn-s0"])
    assert states["gradient", "dqn", 0] == 2 * 2 * (1 + 5) * 30
    assert states["gradient", "dsqn", 4] == 2 * (1 + 5) * 30


def test_seeds_have_equal_work_and_a_replay_has_its_room(works: dict[str, Workload]) -> None:
    for name, work in works.items():
        if name.endswith("-s1"):
            assert work == works[name.replace("-s1", "-s0")]
    work = works["train minatar-breakout/dqn-s0"]
    assert work.disk_bytes > 100_000 * 400  # transitions, planes of 10 x 10 x 4
    assert work.memory_bytes > work.disk_bytes


def test_a_stage_shares_a_gpu_unless_it_is_told_to_use_the_cpu(tmp_path: Path) -> None:
    file = tmp_path / "made.toml"
    dqn = "dqn{} = {{ total_steps = 9000{} }}\n"
    file.write_text(HEAD + GAME + dqn.format("", "") + dqn.format("-slow", ', device = "cpu"'))
    study = read_study(file)
    stages = [stage for stage in plan(study) if stage.seed == 0]
    works = told(study, stages)
    gpu = replace(RATES, device="a GPU")
    for has_gpu, rates, shares in ((True, gpu, [GPU_SHARE, 0.0]), (False, RATES, [0.0, 0.0])):
        assert [each.gpu_share for each in _needs(study, stages, works, has_gpu).values()] == shares
        assert [forecast_of(works[stage], rates).gpu_share for stage in stages] == shares
    unknown = _needs(study, stages, Refusal("damaged"), has_gpu=True)
    assert all(each.seconds > 0 for each in _needs(study, stages, works, False).values())
    assert {each.gpu_share for each in unknown.values()} == {GPU_SHARE}


def test_measured_lengths_of_games_count_for_more(study: Study, tmp_path: Path) -> None:
    """Evaluations that the study has made replace the table of typical lengths."""
    (stage,) = [stage for stage in plan(study) if stage.name.endswith("evaluate-random")]
    there = read_study(study.source.file, tmp_path / "made")
    rows = tmp_path / "made" / "minatar-breakout" / "evaluate-random" / "episodes.parquet"
    rows.parent.mkdir(parents=True)
    lengths = (10, 20)
    write_rows(
        rows,
        EpisodeRow,
        [episode(game="minatar/breakout", agent="random", length_steps=length) for length in lengths],
    )
    assert told(study, [stage])[stage].decisions == 4 * 30
    assert told(there, [stage])[stage].decisions == 4 * 15


@pytest.mark.parametrize(
    ("part", "seconds"),
    [
        (WorkPart("decide", "minatar", "dqn", 0, 3), 3.0),
        (WorkPart("decide", "minatar", "dqn", 0, 3, 100), 3.0),  # more at once than were measured
        (WorkPart("decide", "minatar", "dqn", 0, 3, 1), 96.0),
        (
            WorkPart("decide", "minatar", "dqn", 0, 3, 4),
            24.0,
        ),  # all is spent on the batch: four at once share it
        (WorkPart("update", "x", "dsqn", 6, 1), 2.0),  # between two measured numbers
        (WorkPart("update", "x", "dsqn", 16, 1), 7.0),  # beyond them
        (WorkPart("update", "x", "dsqn", 1, 1), 0.5),  # at least half of the nearest
        (WorkPart("update", "x", "dsqn+bf16", 8, 2), 6.0),  # as without what was not measured
        (WorkPart("update", "x", "adapted", 8, 0), 0.0),
        (WorkPart("update", "x", "adapted", 8, 1), None),
    ],
)
def test_rates_by_hand(part: WorkPart, seconds: float | None) -> None:
    assert RATES.of(part) == seconds
    assert RATES.total(Workload([part])) == (None if seconds is None else 2.0 + seconds)


def test_the_committed_costs_know_every_kind_of_work_of_the_built_in_studies() -> None:
    (here, *_), study = (each for each in all_rates() if each.device == "cpu"), read_study("smoke")
    assert all(forecast_of(work, here).seconds is not None for work in told(study, plan(study)).values())


def test_the_committed_costs_know_the_work_of_every_conversion_method() -> None:
    cpus = [each for each in all_rates() if each.device == "cpu"]
    for (name, method), game in itertools.product(METHODS.items(), ("minatar/breakout", "pong")):
        snn = RateCodedNetwork(get_game(game), CodingOptions().coding(4, method()))
        parts = method().work(snn, 100, Expected(), taught=False)
        assert {part.work for part in parts} >= ({"convert", "update"} if method.training else {"convert"})
        for rates in cpus:
            assert all(rates.of(part) is not None for part in parts), (name, rates.processor)


def test_a_damaged_agent_leaves_the_work_unknown_and_a_bad_option_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dqn-s0.safetensors").write_bytes(b"damaged")
    file = tmp_path / "mine.toml"
    game = '[games.cartpole]\nshipped = ["dqn-s0.safetensors"]\nevaluate = { episodes = 1 }\n'
    file.write_text(HEAD + game)
    study = read_study(file)
    unknown = workloads(study, plan(study))
    assert isinstance(unknown, Refusal)
    assert "dqn-s0.safetensors" in str(unknown)
    file.write_text(HEAD + game.replace("episodes", "episode"))
    study = read_study(file)
    with pytest.raises(Refusal, match="is no option of spikeq evaluate run: did you mean 'episodes'"):
        workloads(study, plan(study))


def test_damaged_costs_are_refused(tmp_path: Path) -> None:
    damaged = json.loads(COSTS.read_text())
    del damaged["entries"][0]["start_s"]
    (tmp_path / "costs.json").write_text(json.dumps(damaged))
    with pytest.raises(Refusal, match=r"costs\.json is damaged"):
        all_rates(tmp_path / "costs.json")
    assert all_rates(tmp_path / "none.json") == []


def test_an_order_by_hand(tmp_path: Path) -> None:
    def stage(name: str, kind: str, *needs: str) -> Stage:
        paths = tuple(tmp_path / need for need in needs)
        return Stage(kind, (), tmp_path / f"{name}.json", paths, (tmp_path / name,), ())  # type: ignore[arg-type]

    long, short = stage("long", "train"), stage("short", "train")
    after, free = stage("after", "evaluate", "short"), stage("free", "evaluate", "there already")
    stages = [free, short, long, after]
    seconds = {free: 3.0, short: 2.0, long: 10.0, after: 4.0}
    told = {each: Forecast(0, seconds[each], 0, 0, 0.0) for each in stages}
    assert in_order(stages, seconds) == [long, short, after, free]
    assert wall_seconds(stages, told, slots=1) == 19
    assert wall_seconds(stages, told, slots=2) == 10  # long | short, after, free
    assert wall_seconds(stages, told, slots=1, nodes=3) == 10
    assert wall_seconds(stages, told | {free: Forecast(0, None, 0, 0, 0.0)}, slots=1) is None


def test_costs_of_another_processor_are_said_to_be(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage, entries = plan(study)[0], json.loads(COSTS.read_text())["entries"]
    entry = next(each for each in entries if each["device"] == "cpu")
    for name, says in (("another", True), (processor(), False)):
        (tmp_path / "costs.json").write_text(json.dumps({"entries": [{**entry, "processor": name}]}))
        monkeypatch.setattr("studies.dry_run.all_rates", partial(all_rates, tmp_path / "costs.json"))
        lines = [*dry_run(study, [stage], {stage: Workload([])}, 1, 1, every_stage=False, calibrate=False)]
        (line,) = [line for line in lines if line.startswith(f"costs: measured on {name}")]
        assert (f"another processor than {processor()}" in line) == says
    assert [*dry_run(study, [], {}, 1, 1, every_stage=False, calibrate=False)] == []


def test_a_dry_run_says_what_a_study_takes(study: Study) -> None:
    stages = narrowed(plan(study), (), ("dqn",), (0,))
    lines = [
        *dry_run(study, stages, workloads(study, stages), jobs=2, nodes=3, every_stage=True, calibrate=False)
    ]
    assert lines[0].split() == ["game", "stage", "stages", "decisions", "hours", "memory", "disk", "GPU"]
    assert any(line.startswith("minatar/breakout  train dqn-s0 ") for line in lines)
    assert any(line.startswith("this machine, --jobs 2: ") and "not known" not in line for line in lines)
    assert any(line.startswith("3 nodes like this machine") for line in lines)
    assert any(line.startswith("8 x NVIDIA H200, ") and "not known" not in line for line in lines)
    assert not (study.base / study.folder).exists()


@pytest.mark.parametrize("options", [{"nodes": 2}, {"stages": True}, {"calibrate": True}])
def test_options_of_a_dry_run_are_refused_without_it(options: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="is given without --dry-run"):
        Reproduce("smoke", **options).run()


def test_a_study_is_narrowed_to_what_is_named_and_what_it_needs(study: Study) -> None:
    stages = plan(study)
    chosen = [stage.name.split("/")[1] for stage in narrowed(stages, ("minatar/breakout",), ("snn",), (1,))]
    # States are of the first agent's play, and so its training is needed.
    assert chosen == [
        "dqn-s0",
        "dsqn-s0",
        "dqn-s1",
        "snn-s1",
        "evaluate-snn-s1",
        "attack-snn-s1",
        "states-snn-s1",
    ]
    assert narrowed(stages, (), (), ()) == stages
    for named in (
        (("minatar/brekout",), (), ()),
        ((), ("dqnn",), ()),
        ((), (), (2,)),
    ):
        with pytest.raises(Refusal, match="in this study: "):
            narrowed(stages, *named)


def test_durations_have_the_unit_of_a_person() -> None:
    told = [duration(seconds) for seconds in (None, 119, 120, 7200, 2 * 86400, 1e9)]
    assert told == ["not known", "119 seconds", "2.0 minutes", "2.0 hours", "2.0 days", "31.7 years"]


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ('games = ["pong"]\n', "is a list of names"),
        ('games = ["pong", "pong"]\n[defaults]\n', "names a game twice"),
        ('games = ["pongg"]\n[defaults]\n', "line 5: .*pong"),
        ('games = ["pong"]\n[defaults]\nshipped = ["a.safetensors"]\n', r"line 7: defaults\.shipped"),
        ('games = ["pong"]\n[defaults]\ndqnn = {}\n', r"line 7: defaults\.dqnn is unknown"),
    ],
)
def test_defaults_that_mean_nothing_are_refused(tmp_path: Path, games: str, message: str) -> None:
    (tmp_path / "made.toml").write_text(HEAD + games)
    with pytest.raises(Refusal, match=message):
        read_study(tmp_path / "made.toml")


def test_a_games_own_setting_takes_the_place_of_the_default(tmp_path: Path) -> None:
    file = tmp_path / "made.toml"
    file.write_text(
        f"{HEAD}[defaults]\nevaluate = {{ episodes = 3 }}\nprobe = {{ states = 40 }}\n"
        "[games.pong]\nevaluate = { protocol = 'modern' }\n[games.breakout]\n"
    )
    study = read_study(file)
    assert dict(study.games["pong"].commands["evaluate"]) == {"protocol": "modern"}
    assert dict(study.games["breakout"].commands["evaluate"]) == {"episodes": 3}
    settings = [stage.setting for stage in plan(study)]
    assert settings == [("games", "pong", "evaluate"), ("defaults", "evaluate"), ()][: len(settings)]


def test_the_page_has_as_many_stages_as_the_studies() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text()
    for name in ("minatar", "atari-small", "paper"):
        assert f"| `{name}` | {len(plan(read_study(name))):,} |" in page
