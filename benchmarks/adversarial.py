"""Adversarial states a second on the shipped Pong DQN, beside torchattack, and the cost of spikes.

States of the DQN's own play are attacked with FGSM and PGD-10 at 1/255, in one batch. All contenders take turns in one
process, so a noisy machine slows them all; values are medians. torchattack runs as its users run it, with a network
whose parameters ask for gradients, and once more with frozen parameters. Spikes cost most in the convolutions of hidden
layers, forward and backward, on as many spike maps as there are simulation steps.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.profiler import profile
from torchattack import FGSM, PGD

from adversarial.box import Box, ball
from adversarial.frozen import frozen
from adversarial.goals import Goal, goal
from adversarial.gradient_ascent import iterates
from benchmarks.ours import chen2022
from benchmarks.report import Measurement, report
from convert.methods import tan2021
from convert.scaling import scaled_network
from core import seeding
from core.checkpoint import load_agent
from core.device import set_up_torch
from core.dqn import DQN
from core.rate_coded.differentiable import SurrogateSimulation
from core.rate_coded.network import RateCoding
from play.environments import bounds
from play.states import batches, collect

AGENT = Path(__file__).resolve().parent.parent / "results" / "agents" / "pong-dqn-s0.safetensors"
EPSILON = 1 / 255
STEPS = 10
BATCH = 32
ROUNDS = 9


def median_seconds(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each work. They take turns; a first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def attacks(source: nn.Module, its_goal: Goal, box: Box) -> dict[str, Callable[[], torch.Tensor]]:
    """Our attacks along the gradient of a network."""

    def stepping(steps: int, step_size: float) -> torch.Tensor:
        *_, last = iterates(source, its_goal, box, steps=steps, step_size=step_size)
        return last.inputs

    return {"fgsm": lambda: stepping(1, EPSILON), "pgd10": lambda: stepping(STEPS, EPSILON / 4)}


def measurements() -> Iterator[Measurement]:
    set_up_torch(0)
    dqn = load_agent(AGENT).agent
    assert isinstance(dqn, DQN)
    states = collect(dqn, 512, seed=0, stream="calibration")
    inputs = next(batches(dqn, states, BATCH))
    its_goal, box = goal(dqn(inputs).detach()), ball(inputs, EPSILON, *bounds(dqn.game, dqn.device))

    user = copy.deepcopy(dqn).requires_grad_(True)
    still = copy.deepcopy(dqn).requires_grad_(False)
    works: dict[str, Callable[[], object]] = {
        f"ours_{name}": work for name, work in attacks(frozen(dqn), its_goal, box).items()
    }
    for name, network in (("torchattack", user), ("torchattack_frozen", still)):
        fgsm = FGSM(network, device=dqn.device, eps=EPSILON)
        pgd = PGD(network, device=dqn.device, eps=EPSILON, steps=STEPS, alpha=EPSILON / 4, random_start=False)
        works[f"{name}_fgsm"] = lambda fgsm=fgsm: fgsm(inputs, its_goal.action)  # type: ignore[misc]
        works[f"{name}_pgd10"] = lambda pgd=pgd: pgd(inputs, its_goal.action)  # type: ignore[misc]
    seconds = median_seconds(works, ROUNDS)
    for name, value in seconds.items():
        yield f"attack_{name}_states_per_s", BATCH / value, "states/s"
    for attack in ("fgsm", "pgd10"):
        ours = seconds[f"ours_{attack}"]
        yield f"{attack}_vs_torchattack_ratio", seconds[f"torchattack_{attack}"] / ours, "x"
        yield f"{attack}_vs_torchattack_frozen_ratio", seconds[f"torchattack_frozen_{attack}"] / ours, "x"
    yield from _cost_of_spikes(dqn, states, its_goal, box)
    yield "threads", torch.get_num_threads(), "threads"


def _cost_of_spikes(dqn: DQN, states: object, its_goal: Goal, box: Box) -> Iterator[Measurement]:
    """Cost of a gradient through simulation steps, relative to the DQN's, and the operations that take most of it."""
    scales, _ = tan2021.guarded_scales(dqn, states, 99.9)  # type: ignore[arg-type]
    networks: dict[str, nn.Module] = {
        "dqn": dqn,
        "dsqn_t8": chen2022(8).make(dqn.game, seeding.torch_generator(0, "weights")),
        "converted_t16": SurrogateSimulation(scaled_network(dqn, scales, RateCoding(16)), "triangle", 0.5),
    }
    works = {name: attacks(frozen(network), its_goal, box)["fgsm"] for name, network in networks.items()}
    seconds = median_seconds(works, ROUNDS)
    for name in ("dsqn_t8", "converted_t16"):
        yield f"attack_{name}_fgsm_states_per_s", BATCH / seconds[name], "states/s"
        yield f"attack_{name}_vs_dqn_cost", seconds[name] / seconds["dqn"], "x"
        with profile() as profiled:
            works[name]()
        events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        for event in events[:3]:
            kind = event.key.removeprefix("aten::").replace(" ", "_")
            yield f"attack_{name}_share_of_{kind}", event.self_cpu_time_total / total, "share"


if __name__ == "__main__":
    report(measurements(), __doc__)
