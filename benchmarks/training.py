"""Speed of training, compared with what a user would run instead.

Peers (benchmarks/peers.py) take turns with ours (benchmarks/ours.py), each in its own process.
"""

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.report import Measurement, report
from benchmarks.turns import alone, take_turns

ROUNDS = 5


def dsqn_measurements(sim_steps: int) -> Iterator[Measurement]:
    from benchmarks import ours, peers

    turns = take_turns(
        {
            "spikingjelly": [partial(peers.spikingjelly_update, sim_steps)],
            "fp32": [partial(ours.dsqn_update, sim_steps, "fp32")],
            "bf16": [partial(ours.dsqn_update, sim_steps, "bf16")],
        },
        ROUNDS,
    )
    name, peer = f"dsqn_t{sim_steps}_update", turns["spikingjelly"]
    for who, turn in turns.items():
        yield f"{name}_{who}_ms", 1000 * turn.seconds, "ms"
    yield f"{name}_fp32_vs_spikingjelly_ratio", peer.seconds / turns["fp32"].seconds, "x"
    yield f"{name}_vs_spikingjelly_ratio", peer.seconds / turns["bf16"].seconds, "x"
    yield f"{name}_spikingjelly_peak_mib", peer.peak_mib, "MiB"
    yield f"{name}_fp32_peak_mib", turns["fp32"].peak_mib, "MiB"
    yield f"{name}_peak_mib", turns["bf16"].peak_mib, "MiB"


def dqn_measurements(folder: Path) -> Iterator[Measurement]:
    from benchmarks import ours, peers

    contenders = {
        "sb3_dummy_1": [partial(peers.sb3_training, 1, False)],
        "sb3_dummy_8": [partial(peers.sb3_training, 8, False)],
        "sb3_subproc_4": [partial(peers.sb3_training, 4, True)],
        "sb3_subproc_8": [partial(peers.sb3_training, 8, True)],
        "fp32": [partial(ours.breakout_training, "fp32", 0, folder)],
        "bf16": [partial(ours.breakout_training, "bf16", 0, folder)],
        "two_runs": [partial(ours.breakout_training, "bf16", 1, folder)] * 2,
    }
    rates = {
        name: len(contenders[name]) * peers.BREAKOUT_DECISIONS / turn.seconds
        for name, turn in take_turns(contenders, ROUNDS).items()
    }
    peer = max(rate for name, rate in rates.items() if name.startswith("sb3"))
    for name, rate in rates.items():
        yield f"dqn_breakout_{name}_decisions_per_s", rate, "decisions/s"
    yield "dqn_breakout_fp32_vs_sb3_ratio", rates["fp32"] / peer, "x"
    yield "dqn_breakout_vs_sb3_ratio", rates["bf16"] / peer, "x"
    yield "dqn_breakout_two_runs_vs_sb3_ratio", rates["two_runs"] / peer, "x"


def minatar_measurements(folder: Path) -> Iterator[Measurement]:
    from benchmarks import ours

    decisions = 4000
    turns = take_turns(
        {
            "dqn": [partial(ours.minatar_training, None, decisions, folder)],
            "dsqn_t4": [partial(ours.minatar_training, 4, decisions, folder)],
            "dsqn_t4_before": [partial(ours.minatar_training, 4, decisions, folder, False)],
        },
        ROUNDS,
    )
    for name, turn in turns.items():
        yield f"minatar_{name}_decisions_per_s_per_core", decisions / turn.seconds, "decisions/s"
    ratio = turns["dsqn_t4_before"].seconds / turns["dsqn_t4"].seconds
    yield "minatar_dsqn_t4_vs_before_ratio", ratio, "x"


def checkpoint_measurements(folder: Path) -> Iterator[Measurement]:
    from benchmarks import ours

    yield "checkpoint_cost_share", alone(partial(ours.checkpoint_cost, folder)), "share"


def measurements() -> Iterator[Measurement]:
    # Imported here, because the processes of contenders import this module too and should load their own code only.
    yield "cores", len(os.sched_getaffinity(0)), "cores"
    with tempfile.TemporaryDirectory() as name:
        yield from dsqn_measurements(8)
        yield from dsqn_measurements(64)
        yield from minatar_measurements(Path(name))
        yield from dqn_measurements(Path(name))
        yield from checkpoint_measurements(Path(name))


if __name__ == "__main__":
    report(measurements(), __doc__)
