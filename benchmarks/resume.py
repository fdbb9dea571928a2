"""Training runs that are killed again and again must end with the same bits as runs that are not.

This is the long version of the test in tests/train_direct/test_run.py. Runs are killed with SIGKILL. The exit code is 1
if anything differs.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Measurement, report
from tests.train_direct.test_run import results

ROOT = Path(__file__).parents[1]
EVERY = "--warmup-steps {} --eval-interval-steps {} --checkpoint-interval-steps {} --total-steps {}"
RUNS = {
    "minatar dqn": "dqn --game minatar/breakout " + EVERY.format(500, 2400, 600, 7200),
    "minatar dsqn": "dsqn --sim-steps 4 --game minatar/breakout " + EVERY.format(500, 1200, 300, 3600),
    "pong dqn": "dqn --game pong --precision bf16 " + EVERY.format(200, 960, 160, 1920),
}
"""Command lines, each of 12 checkpoints."""
COMMON = "--seed 3 --threads 1 --replay-steps 2000 --eval-episodes 1 --curve-interval-steps 200"
KILLS = (7, 7, 6)
"""Number of kills of each run."""
MOMENTS = (("manifest.json", 0.5), ("curve.parquet", 0.02), ("state.safetensors", 0.2))
"""Files in turn, and the longest time in seconds between the writing of a file and a kill.

At these moments the run starts or resumes, writes a checkpoint (rows come first), or trains or validates after one.
"""
RESULTS = ("agent.safetensors", "best.safetensors", "kept weights", "validation rows", "curve rows")
PATIENCE_S = 300.0


class Kills:
    """Counts kills, and draws the moment of the next one."""

    def __init__(self) -> None:
        self.made = self.in_checkpoint = 0
        self._moments = random.Random(0)

    def kill(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        """Kill a process at the next moment, unless it ends earlier."""
        name, within_s = MOMENTS[self.made % len(MOMENTS)]
        writes = 1 if name == "manifest.json" else self._moments.randint(1, 3)
        give_up = time.monotonic() + PATIENCE_S
        for _ in range(writes):
            seen = written(folder / name)
            while written(folder / name) == seen and process.poll() is None:
                if time.monotonic() > give_up:
                    sys.exit(f"error: {folder.name}: no {name} was written for {PATIENCE_S:.0f} s")
                time.sleep(0.001)
        time.sleep(self._moments.uniform(0, within_s))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            self.made += 1
            torn = written(folder / "curve.parquet") > written(folder / "state.safetensors")
            self.in_checkpoint += name == "curve.parquet" and torn


def written(file: Path) -> int:
    """Time (ns) at which a file was last written; 0 if it does not exist."""
    return file.stat().st_mtime_ns if file.exists() else 0


def run(arguments: str, folder: Path, kills: Kills, until: int) -> None:
    """Repeat a training command until it ends by itself. Kill it while fewer than `until` kills were made."""
    returncode = None
    while returncode != 0:
        options = [*arguments.split(), *COMMON.split(), "--out", str(folder)]
        with open(folder.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "train_direct", *options], cwd=ROOT, stdout=log, stderr=log
            )
        if kills.made < until:
            kills.kill(process, folder)
        returncode = process.wait(PATIENCE_S)
        if returncode not in (0, -signal.SIGKILL):
            last = folder.with_suffix(".log").read_text().splitlines()[-1:]
            sys.exit(f"error: {folder.name} ended with exit code {returncode}: {''.join(last)}")


def differences(one: Path, other: Path) -> list[str]:
    """Names of the results that differ between two runs."""
    found = zip(RESULTS, results(one), results(other), strict=True)
    return [name for name, mine, its in found if mine != its]


def measurements(differing: list[str]) -> Iterator[Measurement]:
    """Measure. Names of results that differ are added to `differing`."""
    kills, until, compared = Kills(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        for (run_name, arguments), wanted in zip(RUNS.items(), KILLS, strict=True):
            unbroken, until = Path(name) / f"{run_name} unbroken", until + wanted
            run(arguments, unbroken, kills, 0)
            while kills.made < until:  # once, unless the run ended before it was killed so often
                broken = Path(name) / f"{run_name} after {kills.made} kills"
                run(arguments, broken, kills, until)
                differing += [f"{what} of {run_name}" for what in differences(unbroken, broken)]
                compared += len(RESULTS)
    yield "resume_kills", kills.made, "kills"
    yield "resume_kills_in_checkpoint", kills.in_checkpoint, "kills"
    yield "resume_bit_equal_ratio", 1 - len(differing) / compared, "share"


def main() -> None:
    differing: list[str] = []
    report(measurements(differing), __doc__)
    if differing:
        sys.exit(f"error: killed runs ended with different bits: {', '.join(differing)}")


if __name__ == "__main__":
    main()
