"""Runs that are killed with SIGKILL, again and again, end with the same bits as runs that never were.

python -m benchmarks.resume [--json FILE]: the long version of the test in tests/train_direct/test_run.py. Exits 1
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

from benchmarks.report import Figure, report
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
"""Of each run."""
MOMENTS = (("manifest.json", 0.5), ("curve.parquet", 0.02), ("state.safetensors", 0.2))
"""Kills follow the writing of a file by up to so many seconds, in turn: while the run starts or resumes, while it
writes a checkpoint (rows come first), and while it trains or validates after one."""
RESULTS = ("agent.safetensors", "best.safetensors", "kept weights", "validation rows", "curve rows")
PATIENCE_S = 300.0


class Kills:
    """What was killed so far, and when the next kill comes."""

    def __init__(self) -> None:
        self.made = self.in_checkpoint = 0
        self._moments = random.Random(0)

    def kill(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        """Kill a process at the next moment, unless it ends before."""
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
    """When a file was last written (ns), 0 if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else 0


def run(arguments: str, folder: Path, kills: Kills, until: int) -> None:
    """Give a command again and again until it ends by itself; it is killed until so many kills were made."""
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
    """Which results of two runs differ."""
    found = zip(RESULTS, results(one), results(other), strict=True)
    return [name for name, mine, its in found if mine != its]


def figures(differing: list[str]) -> Iterator[Figure]:
    """The figures; what differs is added to a list."""
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
    report(figures(differing))
    if differing:
        sys.exit(f"error: killed runs ended with other bits: {', '.join(differing)}")


if __name__ == "__main__":
    main()
