"""One decision of a converted Nature network at T = 500: compared with BindsNET with the same weights.

The network is that of the shipped Pong DQN, on states of its own play. All contenders take turns in one process, so a
noisy machine slows them all.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.report import Measurement, report
from convert.bindsnet_check import bindsnet_scores
from convert.methods import tan2021
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.device import set_up_torch
from core.dqn import DQN
from core.rate_coded import event_engine, torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.seeding import episode_seed
from play.environments import make_environments
from play.policies import exploring
from play.protocols import MAX_ENVS, get_protocol
from play.rollout import Rollout
from play.states import batches, collect

AGENT = Path(__file__).resolve().parent.parent / "results" / "agents" / "pong-dqn-s0.safetensors"
SIM_STEPS = 500
ROUNDS = 3


def measurements() -> Iterator[Measurement]:
    set_up_torch(0)
    agent = load_agent(AGENT).agent
    assert isinstance(agent, DQN)
    states = collect(agent, 512, seed=0, stream="calibration")
    scales, _ = tan2021.guarded_scales(agent, states, 99.9)
    snn = scaled_network(agent, scales, RateCoding(SIM_STEPS))
    prepared = event_engine.prepare(snn.layers, snn.layer_shapes)
    inputs = next(batches(agent, states[-32:]))

    def event(few: Tensor) -> torch_engine.Simulation:
        return event_engine.simulate(snn.layers, prepared, few, SIM_STEPS)

    def reference(few: Tensor) -> torch_engine.Simulation:
        return torch_engine.simulate(snn.layers, few, SIM_STEPS)

    ours, theirs = event(inputs), reference(inputs)
    preferred = [(each.counts + each.residuals)[0].argmax(1) for each in (ours, theirs)]
    yield "snn_event_vs_torch_same_decisions", float((preferred[0] == preferred[1]).float().mean()), "share"
    yield (
        "snn_event_vs_torch_largest_spike_difference",
        float((ours.spikes - theirs.spikes).abs().max()),
        "spikes",
    )
    rates = ours.spikes[0].mean(0) / torch.tensor(snn.neuron_counts) / SIM_STEPS
    yield "snn_hidden_firing_rate", float(rates[:-1].mean()), "spikes/neuron/step"

    works: dict[str, tuple[Callable[[], object], int]] = {
        "bindsnet_b1": (lambda: bindsnet_scores(snn, inputs[:1]), 1),
        "bindsnet_b32": (lambda: bindsnet_scores(snn, inputs, batch_size=32), 32),
        "torch_b32": (lambda: reference(inputs), 32),
        "event_b1": (lambda: event(inputs[:1]), 1),
        "event_b32": (lambda: event(inputs), 32),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, (work, decisions) in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append((time.perf_counter() - start) / decisions)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        yield f"snn_t500_{name}_ms_per_decision", 1000 * value, "ms"
    yield "snn_t500_b1_vs_bindsnet_ratio", median["bindsnet_b1"] / median["event_b1"], "x"
    yield "snn_t500_b32_vs_bindsnet_ratio", median["bindsnet_b1"] / median["event_b32"], "x"
    yield "snn_t500_b32_vs_bindsnet_batched_ratio", median["bindsnet_b32"] / median["event_b32"], "x"
    yield "snn_t500_b32_event_vs_torch_ratio", median["torch_b32"] / median["event_b32"], "x"
    yield from _evaluation(agent, snn.varied(sim_steps=16))
    yield "threads", torch.get_num_threads(), "threads"


def _evaluation(dqn: DQN, snn: RateCodedNetwork) -> Iterator[Measurement]:
    """Decisions a second of play under the protocol nature, environments included, in turns."""
    rates: dict[str, list[float]] = {"dqn": [], "snn_t16": []}
    for _ in range(ROUNDS):
        for name, agent in (("dqn", dqn), ("snn_t16", snn)):
            environments = make_environments(dqn.game, MAX_ENVS, get_protocol("nature", dqn.game).dynamics)
            rollout = Rollout(
                environments,
                agent,
                episode_seed=lambda index: episode_seed(0, "benchmark", index),
                episodes=range(MAX_ENVS),
                policy=exploring(lambda steps: 0.05),
            )
            list(itertools.islice(rollout, 10))
            start, before = time.perf_counter(), rollout.steps
            list(itertools.islice(rollout, 100))
            rates[name].append((rollout.steps - before) / (time.perf_counter() - start))
            environments.close()
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in median.items():
        yield f"evaluate_pong_{name}_decisions_per_second", value, "decisions/s"
    yield "evaluate_pong_snn_t16_vs_dqn_ratio", median["snn_t16"] / median["dqn"], "x"


if __name__ == "__main__":
    report(measurements(), __doc__)
