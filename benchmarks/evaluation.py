"""Speed of scoring a Pong DQN, compared with Stable-Baselines3's evaluate_policy and with bare emulators.

The shipped DQN plays 30 whole games in this project's evaluator. With the same weights and the same share of random
actions it plays 30 games in evaluate_policy. Each runs in its own process, in turn.
"""

import os
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.report import Measurement, report
from benchmarks.turns import alone

AGENT = Path(__file__).resolve().parent.parent / "results" / "agents" / "pong-dqn-s0.safetensors"
EPISODES = 30
ROUNDS = 3
NUM_ENVS = 16
"""Games side by side, except where this number is varied."""
BARE_DECISIONS = 20_000


def measurements() -> Iterator[Measurement]:
    # Imported here, because the processes of contenders import this module too and should load their own code only.
    from benchmarks import ours, peers

    yield "cores", len(os.sched_getaffinity(0)), "cores"
    settings = [(num_envs, subprocesses) for num_envs in (2, 8, NUM_ENVS) for subprocesses in (False, True)]
    tried = {}
    for num_envs, subprocesses in settings:
        rate = alone(partial(peers.sb3_evaluation, num_envs, subprocesses, AGENT, num_envs))
        tried[num_envs, subprocesses] = rate
        kind = "subproc" if subprocesses else "dummy"
        yield f"evaluate_sb3_{kind}_{num_envs}_frames_per_s", rate, "frames/s"
    best = max(tried, key=lambda setting: tried[setting])
    contenders = {
        "sb3": partial(peers.sb3_evaluation, *best, AGENT, EPISODES),
        "ours": partial(ours.pong_evaluation, AGENT, EPISODES),
        "bare": partial(peers.bare_stepping, NUM_ENVS, BARE_DECISIONS),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            rates[name].append(alone(work))
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in median.items():
        yield f"evaluate_{name}_frames_per_s", rate, "frames/s"
    yield "evaluate_vs_sb3_ratio", median["ours"] / median["sb3"], "x"
    yield "evaluate_vs_bare_stepping_ratio", median["ours"] / median["bare"], "x"


if __name__ == "__main__":
    report(measurements(), __doc__)
