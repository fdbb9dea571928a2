"""Measure what each kind of work of a study costs on this machine, for forecasts (docs/studies.md).

The kinds of work take turns for three rounds on one thread, and the least counts. On a CPU, seconds are of the process
and not of the clock, so that other work on the machine counts less. With --device cuda, networks run on the first GPU,
and seconds are of the clock. The entry of this processor and device in results/benchmarks/costs.json is replaced.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import nn

from adversarial.goals import goal
from adversarial.gradient_ascent import input_gradient
from adversarial.sources import freeze, gradient_source
from benchmarks.ours import chen2022
from benchmarks.report import parser
from convert.distillation import BATCH as DISTILLED
from convert.distillation import learn
from convert.measurement import bindsnet_agreements
from convert.method import METHODS, Method, Training
from convert.methods import tan2021
from convert.methods.hybrid import Hybrid
from convert.options import CodingOptions
from convert.scaling import scaled_network
from core import seeding
from core.agents import Agent, RandomPlay
from core.checkpoint import load_agent
from core.device import set_up_torch
from core.dqn import DQN
from core.dsqn import DSQN
from core.games import Game, Tier, get_game
from core.layered import Layered
from core.machine import processor, source_code
from core.networks import NETWORKS, Network
from core.progress import Progress
from core.rate_coded.differentiable import RateGradient
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import write_bytes
from core.workload import AT_ONCE, WorkPart
from play.environments import make_environments, network_input
from play.expected import playing
from play.policies import exploring
from play.protocols import get_protocol
from play.rollout import Rollout
from play.states import collect
from studies.forecast import COSTS, Rates
from train_direct.algorithm import Algorithm
from train_direct.common_mode import CommonMode
from train_direct.ppo import PPO, critic_game
from train_direct.q_learning import QLearning
from train_direct.recipe import PPO_RECIPES, RECIPES

AGENTS = COSTS.parents[1] / "agents"
ROUNDS = 3
GAMES = {
    "control": ("cartpole",),
    "minatar": (
        "minatar/asterix",
        "minatar/breakout",
        "minatar/freeway",
        "minatar/seaquest",
        "minatar/space_invaders",
    ),
    "atari": ("pong", "breakout", "space_invaders"),
}
"""Games whose environments are measured; the tier's cost is their mean."""
SHIPPED = {"control": "cartpole", "minatar": "minatar-breakout", "atari": "pong"}
RECIPE = {"control": "tutorial", "minatar": "minatar-fast", "atari": "atari-fast"}
DSQN_SIM_STEPS = {"control": (16,), "minatar": (2, 4, 8), "atari": (4, 8, 64)}
SNN_SIM_STEPS = {"minatar": (2, 8, 64, 500), "atari": (4, 8, 64, 500)}


@dataclass(frozen=True)
class Item:
    """One kind of work at one number of simulation steps."""

    key: str
    sim_steps: int
    units: float
    """Units of work that one round does."""
    work: Callable[[], object]
    less: Sequence[WorkPart] = ()
    """Other kinds of work that a round contains."""


def items(tier: Tier, folder: Path, device: torch.device) -> Iterator[Item]:
    """Everything that is measured on one tier, with networks on a device."""
    game = get_game({"control": "cartpole", "minatar": "minatar/breakout", "atari": "pong"}[tier])
    for name in GAMES[tier]:
        yield environment(get_game(name))
    shipped = {
        kind: load_agent(AGENTS / f"{SHIPPED[tier]}-{kind}-s0.safetensors").agent.to(device)
        for kind in ("dqn", "dsqn")
    }
    dqn = shipped["dqn"]
    assert isinstance(dqn, DQN)
    states = collect(dqn, 256, seed=0, stream="calibration")
    inputs = network_input(states[:AT_ONCE], game, dqn.device)
    spiking = NETWORKS["tutorial"] if tier == "control" else None
    for sim_steps in (1, *DSQN_SIM_STEPS[tier]):
        network = NETWORKS["relu"] if sim_steps == 1 else spiking or chen2022(sim_steps)
        agent = network.make(game, seeding.torch_generator(0, "weights")).to(device)
        agent.load_state_dict(shipped[agent.kind].state_dict(), strict=False)
        yield from deciding(agent, inputs)
        yield from gradients(agent, inputs)
        yield training(agent, tier, folder)
        if tier == "atari" and sim_steps < 64:
            yield training(
                network.make(game, seeding.torch_generator(0, "weights")).to(device), tier, folder, bf16=True
            )
        if tier == "minatar" and sim_steps in (2, 4):
            yield training(
                network.make(game, seeding.torch_generator(0, "weights")).to(device), tier, folder, cmc=True
            )
    if tier == "control":
        yield embedding(tier)
        for network in (NETWORKS["relu"], NETWORKS["tutorial"]):
            yield from acting(network, game, inputs, device)
        return
    scales, _ = tan2021.guarded_scales(dqn, states, 99.9)
    for sim_steps in SNN_SIM_STEPS[tier]:
        snn = scaled_network(dqn, scales, RateCoding(sim_steps=sim_steps))
        yield from deciding(snn, inputs)
        if sim_steps in (8, 64) and device.type == "cpu":
            yield simulated_in_bindsnet(snn, states[:2])
    yield embedding(tier)
    # The gradient is that of the DQN's weights, whatever the simulation steps.
    yield from (replace(item, sim_steps=1) for item in gradients(snn, inputs))
    quantised = snn.varied(sim_steps=8).quantised()
    yield from deciding(quantised, inputs)
    yield from gradients(quantised, inputs)
    yield distillation(quantised, quantised, dqn, states)
    for sim_steps in (2, 8):
        student = scaled_network(dqn, scales, CodingOptions().coding(sim_steps, Hybrid()))
        yield distillation(student, RateGradient(student), dqn, states)
    for name in METHODS.names():
        yield converting(name, METHODS[name](), dqn, states)


def environment(game: Game) -> Item:
    """Random play in a game."""
    envs = RECIPES[RECIPE[game.tier]].num_envs
    agent = RandomPlay(game)
    rollout = iter(
        Rollout(
            make_environments(game, envs, get_protocol(None, game).dynamics),
            agent,
            episode_seed=lambda index: seeding.episode_seed(0, "costs", index),
            episodes=None,
            policy=exploring(lambda steps: 1.0),
        )
    )
    rounds = 400 // envs

    def work() -> None:
        for _ in range(rounds):
            next(rollout)

    return Item(f"environment {game.tier}", 1, rounds * envs, work)


def deciding(agent: Agent, inputs: torch.Tensor) -> Iterator[Item]:
    """Scores of many states at once, and of one at a time."""
    tier, sim_steps = agent.game.tier, max(1, agent.sim_steps)
    agent.eval()

    def work(rows: torch.Tensor, times: int) -> Callable[[], None]:
        def decide() -> None:
            with torch.no_grad():
                for _ in range(times):
                    agent.decide(rows)

        return decide

    times = 2 if sim_steps >= 64 else 10
    yield Item(f"decide {tier} {agent.kind}", sim_steps, times * len(inputs), work(inputs, times))
    yield Item(f"decide alone {tier} {agent.kind}", sim_steps, 4 * times, work(inputs[:1], 4 * times))


def gradients(agent: Agent, inputs: torch.Tensor) -> Iterator[Item]:
    """Gradients of the loss with respect to many states at once, and to one at a time."""
    source = freeze(gradient_source(agent))

    def work(rows: torch.Tensor, times: int) -> Callable[[], None]:
        with torch.no_grad():
            wanted = goal(agent(rows), "cross-entropy", False)

        def ascend() -> None:
            for _ in range(times):
                input_gradient(source.network, rows, wanted)

        return ascend

    tier, sim_steps = agent.game.tier, max(1, agent.sim_steps)
    yield Item(f"gradient {tier} {agent.kind}", sim_steps, len(inputs), work(inputs, 1))
    yield Item(f"gradient alone {tier} {agent.kind}", sim_steps, 4, work(inputs[:1], 4))


def training(agent: DQN | DSQN, tier: Tier, folder: Path, cmc: bool = False, bf16: bool = False) -> Item:
    """Updates of Q-learning, inside of a training."""
    game, sim_steps = agent.game, max(1, agent.sim_steps)
    recipe = RECIPES[RECIPE[tier]]
    warmup = max(256, recipe.batch_size + 128)
    recipe = replace(recipe, warmup_steps=warmup, replay_capacity_steps=10_000)
    common_mode = (
        CommonMode(agent, seeding.torch_generator(0, "common mode")).to(agent.device)
        if cmc and isinstance(agent, DSQN)
        else None
    )
    algorithm = QLearning(
        agent,
        game,
        recipe,
        0,
        Path(tempfile.mkdtemp(dir=folder)),
        10_000,
        "bf16" if bf16 else "fp32",
        common_mode,
    )
    updates = {"control": 64, "minatar": 64, "atari": 8 if sim_steps < 64 else 2}[tier]
    decisions = updates * recipe.train_interval_steps
    advance(algorithm, warmup + 2 * recipe.train_interval_steps)
    addition = ("+cmc" if cmc else "") + ("+bf16" if bf16 else "")
    return Item(
        f"update {tier} {agent.kind}{addition}",
        sim_steps,
        updates * recipe.batch_size,
        lambda: advance(algorithm, decisions),
        [*playing(agent, decisions, recipe.num_envs)],
    )


def acting(network: Network, game: Game, inputs: torch.Tensor, device: torch.device) -> Iterator[Item]:
    """Decisions and updates of PPO's actor."""
    actor, critic = (
        network.make_actor(whose, seeding.torch_generator(0, stream)).to(device)
        for whose, stream in ((game, "weights"), (critic_game(game), "critic"))
    )
    yield from deciding(actor, inputs)
    recipe = PPO_RECIPES["tutorial-ppo"]
    algorithm = PPO(actor, critic, game, recipe, 0)
    decisions = recipe.rollout_steps * recipe.num_envs
    yield Item(
        f"update control {actor.kind}",
        max(1, actor.sim_steps),
        2 * recipe.epochs * decisions,
        lambda: advance(algorithm, decisions),
        [*playing(actor, decisions, recipe.num_envs)],
    )


def distillation(student: Layered, through: nn.Module, dqn: DQN, states: np.ndarray) -> Item:
    """Updates of a distillation."""
    updates = 10
    drawing = seeding.generator(0, "distillation")
    return Item(
        f"update {dqn.game.tier} {student.kind}",
        max(1, student.sim_steps),
        updates * DISTILLED,
        lambda: learn(
            student, through, dqn, states, updates, drawing, Progress("distil", updates, "updates")
        ),
    )


def converting(name: str, method: Method, dqn: DQN, states: np.ndarray) -> Item:
    """A conversion for 8 simulation steps. Weights of a method that trains are taken as trained already."""
    coding = CodingOptions().coding(8, method)
    taught = scaled_network(dqn, [1.0] * len(dqn.layers), coding) if method.training else None
    return Item(
        f"convert {dqn.game.tier} {name}",
        8,
        len(states),
        lambda: method.convert(dqn, states, coding, Training(taught=taught)),
    )


def simulated_in_bindsnet(snn: RateCodedNetwork, states: np.ndarray) -> Item:
    """States that BindsNET simulates too."""
    return Item(
        f"convert {snn.game.tier} bindsnet",
        snn.sim_steps,
        len(states),
        lambda: bindsnet_agreements(snn, states),
    )


def embedding(tier: Tier) -> Item:
    """A picture of 500 representations."""
    points = np.random.default_rng(0).normal(size=(500, 128)).astype(np.float32)
    return Item(
        f"embed {tier}", 1, len(points), lambda: TSNE(random_state=0, init="pca").fit_transform(points)
    )


def advance(algorithm: Algorithm, decisions: int) -> None:
    """Train for some decisions more."""
    until = algorithm.steps + decisions
    while algorithm.steps < until:
        algorithm.advance()


def clock_of_gpu() -> float:
    """The time in seconds, once the GPU has done its work."""
    torch.cuda.synchronize()
    return time.perf_counter()


def measured(
    chosen: list[Item], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, dict[int, float]]:
    """Seconds of a unit, by kind of work and simulation steps."""
    least = [math.inf] * len(chosen)
    for _ in range(rounds):
        for index, item in enumerate(chosen):
            began = clock()
            item.work()
            least[index] = min(least[index], clock() - began)
    found: dict[str, dict[int, list[float]]] = {}
    # Work that others contain comes first.
    for item, seconds in sorted(zip(chosen, least, strict=True), key=lambda pair: bool(pair[0].less)):
        if item.less:
            known = Rates("", "cpu", "", 0.0, _means(found))
            seconds -= sum(known.of(part) or 0.0 for part in item.less)
        found.setdefault(item.key, {}).setdefault(item.sim_steps, []).append(max(0.0, seconds) / item.units)
    return _means(found)


def _means(found: dict[str, dict[int, list[float]]]) -> dict[str, dict[int, float]]:
    return {
        key: {steps: sum(costs) / len(costs) for steps, costs in sorted(by_steps.items())}
        for key, by_steps in found.items()
    }


def start_seconds() -> float:
    """Seconds of a stage that does nearly nothing."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = "evaluate run --agent random --game minatar/breakout --episodes 1 --threads 1 --out"
        subprocess.run(
            [sys.executable, "-m", *words.split(), f"{folder}/out"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def calibrate() -> dict[str, dict[int, float]]:
    """The few kinds of work that tell how fast a machine is. It takes seconds."""
    set_up_torch(1)
    game = get_game("minatar/breakout")
    with tempfile.TemporaryDirectory() as folder:
        chosen = [environment(game)]
        for kind in ("dqn", "dsqn"):
            agent = load_agent(AGENTS / f"minatar-breakout-{kind}-s0.safetensors").agent
            assert isinstance(agent, DQN | DSQN)
            inputs = network_input(collect(agent, 32, 0, "calibration"), game, agent.device)
            chosen += deciding(agent, inputs)
            agent.train().requires_grad_(True)
            chosen.append(training(agent, "minatar", Path(folder)))
        return measured(chosen, 2)


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--calibrate", action="store_true", help="measure little, and print it as JSON")
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device of the networks")
    asked = options.parse_args()
    is_cpu = asked.device == "cpu"
    if not is_cpu and not torch.cuda.is_available():
        sys.exit("error: no GPU is seen by torch: --device cuda needs one")
    if asked.calibrate:
        print(json.dumps(calibrate()))
        sys.exit()
    set_up_torch(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        costs: dict[str, dict[int, float]] = {}
        for tier in ("control", "minatar", "atari"):
            chosen = [*items(tier, Path(folder), torch.device(asked.device))]
            costs |= measured(chosen, ROUNDS, time.process_time if is_cpu else clock_of_gpu)
    entry = {
        "processor": processor(),
        "device": "cpu" if is_cpu else torch.cuda.get_device_name(),
        "note": f"{'process' if is_cpu else 'wall'} time, least of {ROUNDS} rounds in turn; "
        f"load {load:.1f} on {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, **source_code()},
        "start_s": round(start_seconds(), 2),
        "seconds": {
            key: {str(steps): float(f"{cost:.3g}") for steps, cost in by_steps.items()}
            for key, by_steps in costs.items()
        },
    }
    entries = json.loads(COSTS.read_text("utf-8"))["entries"] if COSTS.is_file() else []
    kept = [
        each
        for each in entries
        if (each["processor"], each["device"]) != (entry["processor"], entry["device"])
    ]
    write_bytes(COSTS, json.dumps({"entries": [entry, *kept]}, indent=1).encode() + b"\n")
    for key, by_steps in costs.items():
        for steps, cost in by_steps.items():
            print(f"{key} T={steps} {cost:.3g} s".replace(" T=1 ", " "))
    print(COSTS)
