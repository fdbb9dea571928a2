"""What Ray adds to stages of a study: 64 simulated stages of one second, on two nodes of one core on this machine.

Overhead is the time that a core gives a stage, less that second. It includes the start of the stage's process.
Processes of the local engine, two side by side, are its peer.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ray.cluster_utils import Cluster

from benchmarks.report import Measurement, report
from studies.engine import Engine, LocalEngine, Needs
from studies.planning import Stage
from studies.ray_engine import RayEngine
from studies.reading import Study, read_study
from studies.running import run_all
from studies.showing import Screen

STAGES, SECONDS, NODES = 64, 1.0, 2
ROOT = Path(__file__).parents[1]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
STUDY = 'train_seeds = [0]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = "best"\n[games.cartpole]\n'


def stages(study: Study, engine: str) -> Iterator[Stage]:
    """Stages that need nothing of each other."""
    for number in range(STAGES):
        out = f"{study.folder}/{engine}/{number}"
        folder = study.base / out
        words = ("simulated", "--seconds", str(SECONDS), "--out", out)
        yield Stage("probe", words, folder / "manifest.json", (), (folder / "result.txt",), ())


def overhead(study: Study, engine: Engine, name: str) -> float:
    """Seconds that a core spends on a stage beyond the stage's own."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        failures = run_all(study, [*stages(study, name)], engine, lambda stage: Needs(), Screen())
    assert not failures
    return (time.perf_counter() - started) * NODES / STAGES - SECONDS


def measurements() -> Iterator[Measurement]:
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks" / "stages")))
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    for _ in range(NODES):
        cluster.add_node(**NODE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "simulated.toml"
        file.write_text(STUDY)
        study = read_study(file)
        yield "ray_overhead_s", overhead(study, RayEngine(study, 0, cluster.address), "ray"), "s"
        cluster.shutdown()
        yield "local_overhead_s", overhead(study, LocalEngine(study, NODES), "local"), "s"


if __name__ == "__main__":
    report(measurements(), __doc__)
