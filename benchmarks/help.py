"""How long `--help` of every command takes, and what importing torch would add to it."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.report import Measurement, report

COMMANDS: Sequence[tuple[str, ...]] = (
    *(("train_direct", verb) for verb in ("dqn", "dsqn", "ppo", "spiking-ppo", "ship")),
    *(("convert", verb) for verb in ("run", "compare", "import", "export")),
    *(("evaluate", verb) for verb in ("run", "watch", "probe", "check")),
    *(("adversarial", verb) for verb in ("run", "states", "verdict")),
    *(("card",), ("card.leaderboard",), ("analysis.report",), ("reproduce",), ("plot",), ("spikeq",)),
)
ROUNDS = 5


def seconds(*words: str) -> float:
    """Wall time of a Python process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measurements() -> Iterator[Measurement]:
    torch = [seconds("-c", "import torch")]
    slowest = 0.0
    for command in COMMANDS:
        taken = []
        for _ in range(ROUNDS):
            taken.append(seconds("-m", *command, "--help"))
            torch.append(seconds("-c", "import torch"))
        median = statistics.median(taken)
        slowest = max(slowest, median)
        yield f"help_{'_'.join(command).replace('.', '_').replace('-', '_')}_s", median, "s"
    yield "help_slowest_s", slowest, "s"
    yield "import_torch_s", statistics.median(torch), "s"


if __name__ == "__main__":
    report(measurements(), __doc__)
