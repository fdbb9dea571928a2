"""A run folder: killed anywhere it resumes to the same bits; done, it is not done again; foreign, it is refused."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import Refusal
from core.networks import NETWORKS
from core.records import read_rows
from core.rows import CurveRow, EpisodeRow
from play.protocols import get_protocol
from tests.conftest import Command
from train_direct.algorithm import Means

ROOT = Path(__file__).parents[2]
TINY: tuple[str | int, ...] = (
    *("--seed", 3, "--threads", 1, "--eval-interval-steps", 700, "--eval-episodes", 2),
    *("--curve-interval-steps", 200, "--checkpoint-interval-steps", 150),
)
Q_LEARNING: tuple[str | int, ...] = ("--warmup-steps", 200, "--replay-steps", 500)


def arguments(
    out: Path, verb: str = "dqn", game: str = "minatar/breakout", total_steps: int = 1000
) -> list[str]:
    options = TINY if verb.endswith("ppo") else TINY + Q_LEARNING
    return [verb, "--game", game, "--total-steps", str(total_steps), *map(str, options), "--out", str(out)]


def results(folder: Path) -> tuple[object, ...]:
    """All that a run gives, to be compared: last, best and kept weights, validation, curve (without its speed)."""

    def comparable(rows: Sequence[EpisodeRow | CurveRow]) -> list[dict[str, object]]:
        return [  # NaN, which says that there was nothing to measure, is not equal to itself
            {
                name: "nan" if value != value else value
                for name, value in vars(row).items()
                if name != "steps_per_second"
            }
            for row in rows
        ]

    return (
        (folder / "agent.safetensors").read_bytes(),
        (folder / "best.safetensors").read_bytes(),
        {path.name: path.read_bytes() for path in folder.glob("*-*.safetensors")},
        comparable(read_rows(folder / "validation.parquet", EpisodeRow)),
        comparable(read_rows(folder / "curve.parquet", CurveRow)),
    )


def equal(one: Path, other: Path) -> bool:
    return results(one) == results(other)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("verb", "game", "options"),
    [
        ("dqn", "minatar/breakout", ()),
        ("dsqn", "minatar/space_invaders", ("--cmc", "--precision", "bf16", "--keep-interval-steps", 500)),
        # Switches at 300, 600, ... decisions, so that some kills come after one.
        ("dsqn", "minatar/breakout", ("--sim-steps", 6, "--prune-sim-steps", 5, 4, 3, 2, 1, "--n-step", 3)),
        ("dsqn", "cartpole", ("--network", "tutorial", "--keep-episodes", 2, 20)),
        ("spiking-ppo", "cartpole", ("--keep-episodes", 2, 20, "--max-episode-steps", "unlimited")),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    verb: str, game: str, options: tuple[str | int, ...], tmp_path: Path, command: Command
) -> None:
    more = tuple(map(str, options))
    assert command("train_direct", *arguments(tmp_path / "unbroken", verb, game, 1500), *more).code == 0
    broken, kills = tmp_path / "broken", 0
    moments = random.Random(0)
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "train_direct", *arguments(broken, verb, game, 1500), *more],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 60
        # Let it get past its next state, then kill it a random moment later, as long as it still runs.
        state = broken / "state.safetensors"
        seen = state.stat().st_mtime_ns if state.exists() else None
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns != seen:
                break
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is None and kills < 2:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, err = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert kills == 2
    assert equal(tmp_path / "unbroken", broken)
    assert not (broken / "replay").exists()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stopped_run_leaves_a_state_to_resume_from(
    stop: signal.Signals, tmp_path: Path, command: Command
) -> None:
    def asked(out: Path) -> list[str]:  # no state is due before the end
        return [*arguments(out, total_steps=4000), "--checkpoint-interval-steps", "100000"]

    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "train_direct", *asked(run)], cwd=ROOT, stderr=subprocess.PIPE
    )
    while not (run / "best.safetensors").exists() and process.poll() is None:  # validated after 700 decisions
        time.sleep(0.005)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + stop
    assert b"the same command resumes at" in err
    assert (run / "state.safetensors").is_file()
    again = command("train_direct", *asked(run))
    assert again.code == 0
    assert "resumes at" in again.err
    command("train_direct", *asked(tmp_path / "unbroken"))
    assert equal(tmp_path / "unbroken", run)


def test_done_is_done_and_another_spec_is_refused(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    assert command("train_direct", *arguments(out)).code == 0
    first = results(out)[0]
    again = command("train_direct", *arguments(out))
    assert (again.code, again.out.count("already done")) == (0, 1)
    other = command("train_direct", *arguments(out)[:-2], "--num-envs", 2, "--out", out)
    assert other.code == 2
    assert "num_envs is 16 there and 2 here" in other.err
    assert results(out)[0] == first
    (out / "agent.safetensors").write_bytes(first[:-1])
    changed = command("train_direct", *arguments(out))
    assert changed.code == 2
    assert "agent.safetensors was changed" in changed.err


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path: Path, command: Command) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        command("train_direct", *arguments(tmp_path / name), "--seed", seed)
    assert equal(tmp_path / "a", tmp_path / "b")
    assert results(tmp_path / "a")[0] != results(tmp_path / "c")[0]


class Scripted:
    """An algorithm whose agent gets better and then worse: it presses the actions that a script says."""

    def __init__(self) -> None:
        from core import seeding
        from core.games import get_game

        self.agent = NETWORKS["relu"].make(get_game("minatar/freeway"), seeding.torch_generator(0, "weights"))
        self.steps = self.updates = 0
        self.epsilon = 0.0
        self.ended: dict[int, list[float]] = {}  # scores of training episodes, by the decisions they end with

    def advance(self) -> list[float]:
        self.steps += 100
        *_, output = self.agent.layers
        with torch.no_grad():
            output.weight.zero_()
            output.bias.zero_()
            # Action 2 walks the chicken up and scores; action 4 walks it down and never does.
            output.bias[2 if self.steps == 300 else 4] = 1.0
        return self.ended.get(self.steps, [])

    def means(self) -> Means:
        return Means(float("nan"), float("nan"))

    def diagnostics(self) -> dict[str, float]:
        return {}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
        return {}, {}

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, object]) -> None:
        raise AssertionError("nothing to restore")

    def close(self) -> None:
        pass


def train(folder: Path, algorithm: "Scripted", **plan: Any) -> None:
    """A run of the skeleton with an algorithm that only pretends to learn."""
    from core.manifest import Manifest
    from train_direct.run import Plan, TrainingRun

    given: dict[str, Any] = {"keep_interval_steps": None, "stop_score": None, **plan}
    manifest = Manifest(folder / "manifest.json", {}, [])
    with manifest.work():
        whole = Plan(
            game=algorithm.agent.game,
            network="relu",
            recipe="scripted",
            recipe_steps=500,
            training="0" * 12,
            protocol=get_protocol(None, algorithm.agent.game),
            seed=7,
            curve_interval_steps=100,
            checkpoint_interval_steps=100,
            scores_are_q_values=True,
            **given,
        )
        TrainingRun(folder, whole, algorithm, manifest).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("stop_score", [None, 1.0])
def test_the_best_checkpoint_is_the_best_on_validation_episodes(
    stop_score: float | None, tmp_path: Path
) -> None:
    from core import seeding
    from core.checkpoint import load_agent

    train(
        tmp_path,
        Scripted(),
        total_steps=500,
        eval_interval_steps=100,
        eval_episodes=2,
        keep_interval_steps=200,
        stop_score=stop_score,
    )
    rows = read_rows(tmp_path / "validation.parquet", EpisodeRow)
    means = {
        steps: sum(row.score for row in rows if row.train_steps == steps) for steps in range(100, 600, 100)
    }
    last = 500 if stop_score is None else 300  # the third validation reaches the stop score
    assert max(row.train_steps for row in rows) == last
    kept = {int(path.stem.removeprefix("steps-")) for path in tmp_path.glob("steps-*.safetensors")}
    assert kept == ({200, 400, 500} if stop_score is None else {200, 300})
    assert kept == {
        load_agent(path).provenance["train_steps"] for path in tmp_path.glob("steps-*.safetensors")
    }
    assert max(means, key=lambda steps: means[steps]) == 300
    assert load_agent(tmp_path / "best.safetensors").provenance["train_steps"] == 300
    assert load_agent(tmp_path / "agent.safetensors").provenance["train_steps"] == last
    assert [row.steps for row in read_rows(tmp_path / "curve.parquet", CurveRow)] == list(
        range(100, last + 1, 100)
    )
    # The episodes that choose are none of those that are reported.
    assert {row.episode_seed for row in rows} == {
        seeding.episode_seed(7, "validation", index) for index in range(2)
    }
    assert {row.episode_seed for row in rows}.isdisjoint(
        seeding.episode_seed(7, "evaluation", index) for index in range(1000)
    )


def test_the_best_weights_are_those_of_the_state_that_a_run_continues(tmp_path: Path) -> None:
    """What came after it is lost, and may come out otherwise when it is made again, as on a GPU."""
    from core.checkpoint import load_agent

    class Interrupted(Scripted):
        def advance(self) -> list[float]:
            if self.steps == 400:
                raise KeyboardInterrupt
            return super().advance()

        def state(self) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
            return {}, {"steps": self.steps}

    class Resumed(Scripted):
        def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
            self.steps = values["steps"]

    length = {"total_steps": 500, "eval_interval_steps": 100, "eval_episodes": 1}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Interrupted(), **length)
    best = tmp_path / "best.safetensors"
    assert load_agent(best).provenance["train_steps"] == 300
    best.write_bytes(b"better weights, which were found after the state")
    train(tmp_path, Resumed(), **length)
    assert load_agent(best).provenance["train_steps"] == 300


def test_weights_after_numbers_of_training_episodes_and_after_the_best_one_are_kept(tmp_path: Path) -> None:
    from core.checkpoint import load_agent

    algorithm = Scripted()
    # Episodes 1 and 2 end with decision 100, 3 to 5 with 300, 6 with 400: as good as the best, which is kept.
    algorithm.ended = {100: [3.0, 1.0], 300: [2.0, 9.0, 4.0], 400: [9.0]}
    train(
        tmp_path,
        algorithm,
        total_steps=500,
        eval_interval_steps=500,
        eval_episodes=1,
        keep_episodes=(2, 4, 6, 7),
        keep_best_episode=True,
    )
    steps = {
        path.stem: load_agent(path).provenance["train_steps"] for path in tmp_path.glob("*e*-*.safetensors")
    }
    assert steps == {
        "best-episode": 300,
        "episodes-000002": 100,
        "episodes-000004": 300,
        "episodes-000006": 400,
    }
    curve = read_rows(tmp_path / "curve.parquet", CurveRow)
    assert [row.train_score for row in curve[:1] + curve[2:4]] == [2.0, 5.0, 9.0]
    assert all(row.train_score != row.train_score for row in (curve[1], curve[4]))  # NaN: nothing ended


class Pruned(Scripted):
    """The same with spikes, pruned to one simulation step when it gets worse; in Asterix episodes are short."""

    def __init__(self) -> None:
        from dataclasses import replace

        from core.games import get_game

        super().__init__()
        network = NETWORKS["liu2022"]
        assert network.spiking is not None
        spiking = replace(network.spiking, sim_steps=2)
        self.agent = replace(network, spiking=spiking).make(get_game("minatar/asterix"), torch.Generator())

    def advance(self) -> list[float]:
        from dataclasses import replace

        ended = super().advance()
        if self.steps > 300:
            self.agent.spiking = replace(self.agent.spiking, sim_steps=1)  # type: ignore[union-attr]
        return ended


def test_the_best_checkpoint_of_a_pruned_run_is_a_pruned_agent(tmp_path: Path) -> None:
    from core.checkpoint import load_agent

    train(tmp_path, Pruned(), total_steps=400, eval_interval_steps=300, eval_episodes=1)
    before, after = read_rows(tmp_path / "validation.parquet", EpisodeRow)
    assert before.score > after.score
    best = load_agent(tmp_path / "best.safetensors")
    assert best.provenance["train_steps"] == 400
    assert best.agent.config()["spiking"]["sim_steps"] == 1


def test_a_pruned_run_says_so_and_ends_with_the_last_simulation_steps(
    tmp_path: Path, command: Command
) -> None:
    from core.checkpoint import load_agent

    options = ("--sim-steps", 3, "--prune-sim-steps", 2, 1, "--n-step", 2, "--keep-interval-steps", 100)
    run = tmp_path / "run"
    finished = command("train_direct", *arguments(run, "dsqn", total_steps=630), *options)
    assert finished.code == 0, finished.err
    kept = [
        load_agent(path).agent.config()["spiking"]["sim_steps"] for path in sorted(run.glob("*.safetensors"))
    ]
    assert kept == [1, 1, 3, 3, 2, 2, 1, 1, 1]  # agent, best, and after some 100, 200, ... 600, 630 decisions
    [curve, *_] = read_rows(run / "curve.parquet", CurveRow)
    assert curve.network == "chen2022+sim_steps=3+prune_sim_steps=2-1"
    assert curve.recipe.endswith("+n_step=2")


def test_options_of_the_released_codes_reach_the_run(tmp_path: Path, command: Command) -> None:
    import json

    options = ("--double", "--sticky-action-probability", 0.25, "--keep-interval-steps", 600)
    finished = command("train_direct", *arguments(tmp_path / "run")[:-2], *options, "--out", tmp_path / "run")
    assert finished.code == 0, finished.err
    spec = json.loads((tmp_path / "run" / "manifest.json").read_text())["spec"]
    assert (spec["double"], spec["dynamics"]["sticky_action_probability"]) == (True, 0.25)
    curve = read_rows(tmp_path / "run" / "curve.parquet", CurveRow)
    label = "minatar-fast+warmup_steps=200+replay_capacity_steps=500+double=True+sticky=0.25"
    assert {row.recipe for row in curve} == {label}
    kept = sorted(path.name for path in (tmp_path / "run").glob("steps-*"))
    assert kept == ["steps-000000608.safetensors", "steps-000001008.safetensors"]
    assert command("train_direct", *arguments(tmp_path / "plain")).code == 0
    assert results(tmp_path / "run")[0] != results(tmp_path / "plain")[0]
    refused = command(
        "train_direct", *arguments(tmp_path / "no")[:-2], "--early-stop", "--out", tmp_path / "no"
    )
    assert refused.code == 2
    assert "has no stop score" in refused.err


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("dqn", "--replay-steps 500000000", "replay_steps is 500000000: the replay would take 3,2"),
        (
            "dqn",
            "--checkpoint-interval-steps 1000000000",
            "checkpoint_interval_steps is 1000000000: the replay would take 13,",
        ),
        (
            "dsqn",
            "--sim-steps 10000 --set batch_size=65536 replay_capacity_steps=100000",
            "sim_steps is 10000: an update from 65536 decisions would take",
        ),
        (
            "dqn",
            "--num-envs 1024 --set batch_size=65536 train_interval_steps=1",
            "batch_size is 65536",
        ),
    ],
)
def test_a_run_that_fits_no_machine_is_refused_and_leaves_nothing(
    verb: str, words: str, message: str, tmp_path: Path, command: Command
) -> None:
    options = ("--game", "pong", "--device", "cpu", "--out", tmp_path / "deep" / "run")
    finished = command("train_direct", verb, *words.split(), *options)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert message in finished.err
    assert "would fit" in finished.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["curve_interval_steps", "eval_interval_steps"])
def test_more_rows_than_a_file_keeps_are_refused_at_once(name: str, tmp_path: Path, command: Command) -> None:
    words = ("dqn", "--game", "cartpole", "--total-steps", 600_000, f"--{name.replace('_', '-')}", 1)
    finished = command("train_direct", *words, "--out", tmp_path / "run")
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert f"{name} is 1: " in finished.err
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_another_run_is_not_resumed(tmp_path: Path, command: Command) -> None:
    """Where somebody removed the manifest, nothing says whose the files are."""
    import shutil

    other = tmp_path / "other"
    process = subprocess.Popen(
        [sys.executable, "-m", "train_direct", *arguments(other, total_steps=20_000)], cwd=ROOT
    )
    while not (other / "state.safetensors").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    shutil.rmtree(other / "replay")
    (other / "manifest.json").unlink()
    refused = command("train_direct", *arguments(other, total_steps=20_000), "--double", "True")
    assert refused.code == 2
    assert "manifest.json does not say that this command made it" in refused.err


def test_an_unfinished_run_may_be_given_another_end(tmp_path: Path, command: Command) -> None:
    """It then is the run that was asked for with that end from the start; a finished one stays what it is."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "train_direct", *arguments(run, total_steps=200_000)], cwd=ROOT
    )
    while not (run / "best.safetensors").exists() and process.poll() is None:  # validated after 700 decisions
        time.sleep(0.005)
    process.terminate()
    process.wait()
    past = command("train_direct", *arguments(run, total_steps=300))
    assert (past.code, "decisions were already made in" in past.err) == (2, True)
    assert command("train_direct", *arguments(run, total_steps=4000)).code == 0
    assert command("train_direct", *arguments(whole, total_steps=4000)).code == 0
    assert equal(run, whole)
    longer = command("train_direct", *arguments(run, total_steps=5000))
    assert (longer.code, "total_steps is 4000 there and 5000 here" in longer.err) == (2, True)


@pytest.mark.parametrize("checkpoint_interval_steps", [2000, 1_000_000])
def test_no_end_is_taken_before_weights_that_were_kept(
    checkpoint_interval_steps: int, tmp_path: Path, command: Command
) -> None:
    """Weights kept after the last state, or before the first one, are made again on the way.

    An end before them would leave some from beyond.
    """
    run, whole = tmp_path / "run", tmp_path / "whole"

    def asked(out: Path, total_steps: int) -> list[str]:
        own = ("--checkpoint-interval-steps", str(checkpoint_interval_steps), "--keep-interval-steps", "200")
        return [*arguments(out, "ppo", "cartpole", total_steps), *own]

    process = subprocess.Popen([sys.executable, "-m", "train_direct", *asked(run, 200_000)], cwd=ROOT)
    while len(list(run.glob("steps-*"))) < 13 and process.poll() is None:  # 600 decisions beyond the state
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = max(int(path.stem.removeprefix("steps-")) for path in run.glob("steps-*.safetensors"))
    early = command("train_direct", *asked(run, kept - 200))
    assert early.code == 2
    assert f"total_steps is {kept - 200}: " in early.err
    assert "was kept after" in early.err or "decisions were already made in" in early.err
    assert command("train_direct", *asked(run, kept + 200)).code == 0
    assert command("train_direct", *asked(whole, kept + 200)).code == 0
    assert equal(run, whole)


def test_a_run_that_diverges_says_so_and_writes_no_weights(tmp_path: Path) -> None:
    class Diverging(Scripted):
        def advance(self) -> list[float]:
            with torch.no_grad():
                next(self.agent.parameters()).fill_(float("nan"))
            return super().advance()

    with pytest.raises(Refusal, match=r"training diverged within [\d,]+ decisions: weight 'layers.0.weight'"):
        train(tmp_path, Diverging(), total_steps=500, eval_interval_steps=100, eval_episodes=1)
    assert not list(tmp_path.glob("*.safetensors"))
