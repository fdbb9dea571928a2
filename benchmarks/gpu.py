"""Speed of updates on a GPU: as one CUDA graph, launched operation by operation, and on this machine's CPU.

The three take turns in one process. Without a GPU there is nothing to measure.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.ours import as_sb3, chen2022
from benchmarks.peers import atari_batch
from benchmarks.report import Measurement, report
from core import seeding
from core.choices import Precision
from core.games import get_game
from core.networks import NETWORKS, Network
from train_direct.learner import QLearner
from train_direct.recipe import RECIPES
from train_direct.replay import Batch

ROUNDS = 5
UPDATES = {"cuda": 20, "cpu": 2}
"""Updates of a round, by device."""


def update_of(
    network: Network, precision: Precision, device: str, captured: bool = True
) -> Callable[[], object]:
    """A round of updates, which ends when the device has done them."""
    agent = network.make(get_game("breakout"), seeding.torch_generator(0, "weights")).to(device)
    learner = QLearner(agent, as_sb3(RECIPES["atari-fast"]), precision)  # type: ignore[arg-type]
    if not captured:
        learner._captured = learner._gradient_step  # type: ignore[assignment]
    batch = Batch(*atari_batch())

    def work() -> None:
        for _ in range(UPDATES[device]):
            learner.update(batch)
        if device == "cuda":
            torch.cuda.synchronize()

    return work


def measurements() -> Iterator[Measurement]:
    if not torch.cuda.is_available():
        sys.exit("error: no GPU is seen by torch: this benchmark needs one")
    for name, network in (
        ("dqn", NETWORKS["relu"]),
        ("dsqn_t8", chen2022(8)),
        ("dsqn_t64", chen2022(64)),
    ):
        for precision in ("fp32", "bf16"):
            contenders = {
                "gpu": ("cuda", update_of(network, precision, "cuda")),
                "gpu_launched": ("cuda", update_of(network, precision, "cuda", captured=False)),
                "cpu": ("cpu", update_of(network, precision, "cpu")),
            }
            times: dict[str, list[float]] = {who: [] for who in contenders}
            for _ in range(ROUNDS + 1):
                for who, (device, work) in contenders.items():
                    began = time.perf_counter()
                    work()
                    times[who].append((time.perf_counter() - began) / UPDATES[device])
            # The first round warms up, and records the graph.
            taken = {who: statistics.median(found[1:]) for who, found in times.items()}
            for who, seconds in taken.items():
                yield f"{name}_{precision}_update_{who}_ms", 1000 * seconds, "ms"
            yield f"{name}_{precision}_graph_vs_launched_ratio", taken["gpu_launched"] / taken["gpu"], "x"
            yield f"{name}_{precision}_gpu_vs_cpu_ratio", taken["cpu"] / taken["gpu"], "x"


if __name__ == "__main__":
    report(measurements(), __doc__)
