"""Draw the cost of a decision of a converted Nature network against simulation steps and against firing rate.

Both engines run on the shipped Pong DQN, in batches of 16. Lower and higher thresholds move the firing rate. Costs are
CPU milliseconds per decision, summed over threads, the least of three measurements.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.conversion import AGENT
from benchmarks.report import parser
from convert.methods import tan2021
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.device import set_up_torch
from core.dqn import DQN
from core.rate_coded import event_engine, torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches, collect

SIM_STEPS = (2, 4, 8, 16, 32, 64, 128, 256, 500)
FACTORS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
RATE_SIM_STEPS = 64


def milliseconds(work: Callable[[], object], decisions: int) -> float:
    """CPU milliseconds a decision, the least of three measurements."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        work()
        spent.append(1000 * (time.process_time() - start) / decisions)
    return min(spent)


def costs(snn: RateCodedNetwork, inputs: torch.Tensor, sim_steps: int) -> tuple[float, float, float]:
    """CPU milliseconds a decision of the event engine and of the reference, and spikes per hidden neuron and step."""
    prepared = event_engine.prepare(snn.layers, snn.layer_shapes)
    once = event_engine.simulate(snn.layers, prepared, inputs, sim_steps)
    event = milliseconds(lambda: event_engine.simulate(snn.layers, prepared, inputs, sim_steps), len(inputs))
    reference = milliseconds(lambda: torch_engine.simulate(snn.layers, inputs, sim_steps), len(inputs))
    rate = once.spikes[0, :, :-1].sum(1).mean() / sum(snn.neuron_counts[:-1]) / sim_steps
    return event, reference, float(rate)


def draw(path: Path) -> None:
    """Measure, and write the figure to a path."""
    agent = load_agent(AGENT).agent
    assert isinstance(agent, DQN)
    states = collect(agent, 512, seed=0, stream="calibration")
    inputs = next(batches(agent, states, size=16))
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    against_steps, against_rate = figure.subplots(1, 2)

    scales, _ = tan2021.guarded_scales(agent, states, 99.9)
    usual = scaled_network(agent, scales, RateCoding())
    by_steps = [costs(usual, inputs, sim_steps) for sim_steps in SIM_STEPS]
    by_rate = []
    for factor in FACTORS:
        moved = scaled_network(agent, [factor * scale for scale in scales], RateCoding())
        by_rate.append(costs(moved, inputs, RATE_SIM_STEPS))
        print(f"{by_rate[-1][2]:.2%} of hidden neurons a step: event {by_rate[-1][0]:.2f} ms", flush=True)

    rates = [100 * rate for *_, rate in by_rate]
    for position, name in enumerate(("event", "torch")):
        against_steps.plot(
            SIM_STEPS, [found[position] for found in by_steps], marker=".", label=f"{name} engine"
        )
        against_rate.plot(rates, [found[position] for found in by_rate], marker=".")
    with torch.no_grad():
        dqn = milliseconds(lambda: agent(inputs), len(inputs))
    for axis in (against_steps, against_rate):
        axis.axhline(dqn, color="black", linestyle=":", linewidth=0.8, label="its DQN")
        axis.set_yscale("log")
        axis.set_ylabel("CPU ms a decision")
    against_steps.set_xscale("log", base=2)
    against_steps.set_xlabel("sim steps (p99.9)")
    against_steps.legend(frameon=False, fontsize=7)
    against_rate.set_xlabel(f"hidden neurons firing a step (%), T = {RATE_SIM_STEPS}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    print(path)


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("figure", type=Path, help="the picture to write, as in costs.png")
    path = options.parse_args().figure
    set_up_torch(1)
    draw(path)
