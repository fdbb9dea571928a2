"""One decision of a converted Nature network at T = 500: our torch simulation against BindsNET's of the same weights.

python -m benchmarks.simulation [--json FILE]. The two take turns in one process, so a noisy machine hurts both.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.report import report
from convert import tan2021
from convert.bindsnet_check import bindsnet_scores
from convert.states import batches, collect
from core import seeding
from core.device import set_up_torch
from core.games import get_game
from core.networks import DQN, make_agent, preset
from core.rate_coded.torch_engine import simulate

SIM_STEPS = 500
ROUNDS = 3


def main() -> None:
    set_up_torch(0)
    game = get_game("pong")
    agent = make_agent(game, preset("relu"), seeding.torch_generator(0, "weights")).requires_grad_(False)
    assert isinstance(agent, DQN)
    states = collect(agent, 256, seed=0, stream="calibration")
    scales, _ = tan2021.guarded_scales(agent, states, 99.9)
    snn = tan2021.convert(agent, scales, sim_steps=SIM_STEPS, layer_delay=True)
    inputs = next(batches(agent, states[-32:]))

    def ours(rows: int) -> np.ndarray:
        result = simulate(snn.layers, inputs[:rows], SIM_STEPS, layer_delay=True)
        return (result.counts + result.residuals)[0].numpy()

    def theirs() -> np.ndarray:
        counts, residuals = bindsnet_scores(snn, inputs[:1])
        return counts + residuals

    agreement = float((ours(1).argmax(1) == theirs().argmax(1)).mean())
    seconds: dict[str, list[float]] = {"bindsnet_b1": [], "torch_b1": [], "torch_b32": []}
    for _ in range(ROUNDS):
        seconds["bindsnet_b1"].append(_time(theirs))
        seconds["torch_b1"].append(_time(lambda: ours(1)))
        seconds["torch_b32"].append(_time(lambda: ours(32)) / 32)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        [
            ("bindsnet_t500_b1_ms_per_decision", 1000 * median["bindsnet_b1"], "ms"),
            ("torch_t500_b1_ms_per_decision", 1000 * median["torch_b1"], "ms"),
            ("torch_t500_b32_ms_per_decision", 1000 * median["torch_b32"], "ms"),
            ("snn_torch_t500_b1_vs_bindsnet_ratio", median["bindsnet_b1"] / median["torch_b1"], "x"),
            ("snn_torch_t500_b32_vs_bindsnet_ratio", median["bindsnet_b1"] / median["torch_b32"], "x"),
            ("snn_torch_vs_bindsnet_agreement", agreement, "share"),
            ("threads", torch.get_num_threads(), "threads"),
        ]
    )


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
