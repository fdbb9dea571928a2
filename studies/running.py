"""Run the stages of a study as local processes side by side. Never imports torch."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from core import processes
from core.errors import Refusal
from studies.done import remove_outdated_results
from studies.planning import Stage
from studies.reading import Study


def run_all(study: Study, stages: Sequence[Stage], jobs: int) -> None:
    """Run stages side by side, each as soon as its inputs exist. The first failure stops all of them.

    Args:
        study: the study.
        stages: its stages that are not done.
        jobs: number of stages to run at the same time.

    Raises:
        Refusal: a stage failed.
    """
    waiting, total, finished = [*stages], len(stages), 0
    # Inputs that no waiting stage makes exist already.
    pending = {file for stage in waiting for file in stage.results}
    running: dict[subprocess.Popen[bytes], tuple[Stage, float]] = {}
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    started = time.monotonic()
    try:
        while waiting or running:
            ready = [stage for stage in waiting if not pending.intersection(stage.needs)]
            # Training comes first, because everything else waits for it.
            for stage in sorted(ready, key=lambda stage: stage.kind != "train")[: jobs - len(running)]:
                waiting.remove(stage)
                running[_start(study, stage)] = stage, time.monotonic()
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                stage, since = running.pop(process)
                if process.returncode:
                    raise Refusal(
                        f"stage {stage.name} failed with exit code {process.returncode}; to run it alone in "
                        f"{study.base}: python -m {' '.join(stage.arguments)}"
                    )
                pending.difference_update(stage.results)
                finished += 1
                now = time.monotonic()
                print(
                    f"[{finished}/{total}] {stage.name}: {now - since:.0f} s ({now - started:.0f} s in all)",
                    flush=True,
                )
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(study: Study, stage: Stage) -> "subprocess.Popen[bytes]":
    """Start the command of a stage."""
    remove_outdated_results(stage)
    return processes.start(stage.arguments, cwd=study.base)
