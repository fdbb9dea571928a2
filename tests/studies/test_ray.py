"""Ray as the engine of a study: two nodes on this machine, whose workers and nodes are lost while stages run."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from ray.cluster_utils import Cluster

from core.records import read_rows
from core.rows import CurveRow
from studies.done import is_done
from studies.engine import Engine, LocalEngine, Needs
from studies.logs import Run, log_of
from studies.planning import Stage, plan
from studies.ray_engine import RayEngine, reserved
from studies.reading import Study, read_study
from studies.running import Failure, run_all
from studies.showing import Screen
from tests.studies.conftest import REPOSITORY, SIMULATED, Simulated, drive, wait_for, wait_until

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (REPOSITORY, SIMULATED))))
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
        cluster.shutdown()


def run(engine: Engine, study: Study, *stages: Stage) -> list[Failure]:
    return run_all(study, stages, engine, lambda stage: Needs(), Screen())


def processes_of(stage: Stage) -> list[int]:
    """The processes of a stage's command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if tuple(words[-1 - len(stage.arguments) : -1]) == stage.arguments:
            found.append(int(folder.name))
    return found


def worker_of(stage: Stage) -> int:
    (process,) = processes_of(stage)
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_stage_is_given_what_one_node_has() -> None:
    needs = Needs(cores=4, memory_bytes=100, gpu_share=0.25)
    whole = {"num_cpus": 4, "num_gpus": 0.25, "memory": 100}
    head = {"memory": 50.0}
    assert reserved(needs, []) == reserved(needs, [head]) == whole  # it waits for others to join
    cpus, memory = {"CPU": 8.0, "GPU": 1.0, "memory": 60.0}, {"CPU": 2.0, "GPU": 1.0, "memory": 200.0}
    assert reserved(needs, [head, cpus]) == {**whole, "memory": 60}
    # Never a combination that no node has.
    assert reserved(needs, [head, memory, cpus]) == {**whole, "memory": 60}
    assert reserved(needs, [head, {**memory, "CPU": 4.0}, cpus]) == whole
    assert reserved(replace(needs, gpu_share=0), [{"CPU": 1.0, "memory": 100.0}]) == {
        "num_cpus": 1,
        "memory": 100,
    }
    assert reserved(Needs(), [{"CPU": 1.0}]) == {"num_cpus": 1}


def test_what_is_lost_runs_again_and_a_failure_stops_only_what_needs_it(
    cluster: Cluster, study: Study, simulated: Simulated
) -> None:
    hanging = [simulated(name, misbehave=("hang", 1)) for name in ("one", "two")]  # each on one node
    always, killed = simulated("always", misbehave=("fail", 9)), simulated("killed", misbehave=("kill", 1))
    after, last = simulated("after", needs=(always,)), simulated("last", needs=(*hanging, killed))
    stages = (*hanging, always, killed, after, last)
    node = next(iter(cluster.worker_nodes))
    told: list[Run | None] = []

    def lose_node_and_worker() -> None:
        for stage in hanging:
            wait_until(lambda stage=stage: "it went wrong" in text_of(stage))
        told.extend(log_of(study, stage).read_run() for stage in (*hanging, always, killed))
        cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: not all(map(processes_of, hanging)))
        (left,) = [stage for stage in hanging if processes_of(stage)]
        os.kill(worker_of(left), signal.SIGKILL)

    def text_of(stage: Stage) -> str:
        log = log_of(study, stage).output
        return log.read_text() if log.exists() else ""

    thread = Thread(target=lose_node_and_worker)
    thread.start()
    try:
        failures = run(RayEngine(study, 0, cluster.address), study, *stages)
    finally:
        thread.join()
        cluster.add_node(**NODE)
    # Both nodes are taken, so Ray keeps the others waiting.
    assert [run == Run("running") for run in told] == [True, True, False, False]
    assert [(failure.stage, failure.told, failure.blocked) for failure in failures] == [
        (always, "exit code 1", (after,))
    ]
    assert [stage for stage in stages if is_done(stage)] == [*hanging, killed, last]
    assert Path("always.count").read_text() == ".."
    assert not any(map(processes_of, hanging))


def test_either_engine_finishes_what_the_other_began(
    cluster: Cluster, study: Study, simulated: Simulated
) -> None:
    stage, others = simulated("slow", seconds=4), [simulated(n, misbehave=("hang", 1)) for n in ("a", "b")]
    # Begun on this machine, resumed by Ray.
    log = log_of(study, stage)
    local = LocalEngine(study, 1)
    log.say("")
    local.start(stage, Needs(), log)
    wait_for(stage.manifest.with_name("half.txt"))
    local.stop()
    assert run(RayEngine(study, 0, cluster.address), study, stage) == []
    assert "simulated made/game/slow from 50 %" in log.output.read_text()
    assert is_done(stage)
    assert sorted(path.name for path in stage.manifest.parent.iterdir()) == ["manifest.json", "result.txt"]
    # Begun by Ray, whose driver is killed; finished on this machine, or by Ray.
    for other, engine in zip(
        others, (LocalEngine(study, 1), RayEngine(study, 0, cluster.address)), strict=True
    ):
        driver = drive(other, f"RayEngine(study, 0, {cluster.address!r})", stderr=subprocess.PIPE)
        wait_until(lambda other=other: processes_of(other) != [])
        driver.kill()
        driver.communicate()
        wait_until(lambda other=other: not processes_of(other))
        Path(f"{other.manifest.parent.name}.count").write_text(".")
        assert run(engine, study, other) == []
        assert is_done(other)


def test_rows_equal_those_of_the_local_engine_without_a_shared_file_system(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(
        'train_seeds = [0]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "agent"\n[games.cartpole]\n'
        "dqn = { total_steps = 400, warmup_steps = 100, eval_episodes = 1 }\n"
        "convert = { sim_steps = 4, calibration_states = 50, test_states = 20, bindsnet_states = 0 }\n"
        'evaluate = { episodes = 2 }\nattack = { attack = ["fgsm"], epsilon = [0.1], episodes = 1 }\n'
    )
    folders = {name: tmp_path / name for name in ("local", "ray")}
    for name, folder in folders.items():
        folder.mkdir()
        study = read_study(tmp_path / "tiny.toml", folder / "tiny")
        study = replace(study, base=folder, folder="tiny")
        if name == "local":
            engine: Engine = LocalEngine(study, 2)
        else:
            # Only this process sees the study below this path.
            descriptor = os.open(folder, os.O_RDONLY)
            study = replace(study, base=Path(f"/proc/self/fd/{descriptor}"))
            engine = RayEngine(study, 0, cluster.address)
        snn = ("train", "convert", "evaluate cartpole/evaluate-snn", "attack cartpole/attack-snn")
        stages = [stage for stage in plan(study) if stage.name.startswith(snn)]
        assert run(engine, study, *stages) == []
        assert all(is_done(stage) for stage in stages)
    made = [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.suffix in (".parquet", ".safetensors") and path.name != "curve.parquet"
        }
        for folder in folders.values()
    ]
    assert len(made[0]) == 8
    assert made[0] == made[1]
    # Of a curve, all but its decisions per second.
    curves = [
        [replace(row, steps_per_second=0.0) for row in read_rows(path, CurveRow)]
        for path in tmp_path.rglob("curve.parquet")
    ]
    assert len(curves) == 2
    assert repr(curves[0]) == repr(curves[1])  # as they have NaN
