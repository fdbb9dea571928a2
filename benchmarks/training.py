"""Training side by side with what a user would run instead.

python -m benchmarks.training [--json FILE]. Peers take turns with ours in one process, so a noisy machine hurts both.
Stable-Baselines3 comes with the extra `peers`.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Figure, report
from core import seeding
from core.device import set_up_torch
from core.games import get_game
from core.networks import make_agent, preset
from train_direct.q_learning import Precision, QLearner, QLearning
from train_direct.recipes import RECIPES
from train_direct.replay import Batch

ROUNDS = 5
BATCH = 32


def atari_batch() -> Batch:
    rng = np.random.default_rng(0)
    shape = (BATCH, 4, 84, 84)
    return Batch(
        rng.integers(256, size=shape, dtype=np.uint8),
        rng.integers(4, size=BATCH),
        rng.normal(size=BATCH).astype(np.float32),
        np.full(BATCH, 0.99, np.float32),
        rng.integers(256, size=shape, dtype=np.uint8),
    )


def spikingjelly_network(sim_steps: int) -> nn.Module:
    """Chen et al.'s network of spikingjelly 2.0.0's own multi-step layers, as its DSQN example builds it."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    body = nn.Sequential(
        layer.Conv2d(4, 32, 8, 4, step_mode="m"),
        lif(),
        layer.Conv2d(32, 64, 4, 2, step_mode="m"),
        lif(),
        layer.Conv2d(64, 64, 3, 1, step_mode="m"),
        lif(),
        layer.Flatten(step_mode="m"),
        layer.Linear(3136, 512, step_mode="m"),
        lif(),
        layer.Linear(512, 4, step_mode="m"),
    )

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            currents = self.body(x.unsqueeze(0).repeat(sim_steps, 1, 1, 1, 1))  # [T, B, A]
            v, best = torch.zeros_like(currents[0]), torch.full_like(currents[0], -torch.inf)
            for current in currents:
                v = v + (current - v) / 2.0
                best = torch.maximum(best, v)
            return best

    return Network()


def spikingjelly_update(sim_steps: int) -> Callable[[], object]:
    """One update of that network: both forward passes, loss, backward pass, Adam."""
    online = spikingjelly_network(sim_steps)
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4)
    batch = atari_batch()

    def update() -> None:
        obs_tm1, obs_t = (torch.as_tensor(obs).float() / 255 for obs in (batch.obs_tm1, batch.obs_t))
        with torch.no_grad():
            target_t = torch.as_tensor(batch.reward_t) + torch.as_tensor(batch.discount_t) * target(
                obs_t
            ).amax(1)
        q_tm1 = online(obs_tm1).gather(1, torch.as_tensor(batch.action_tm1)[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q_tm1, target_t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def our_update(sim_steps: int, precision: Precision) -> Callable[[], object]:
    network = preset("chen2022")
    assert network.spiking is not None
    network = replace(network, spiking=replace(network.spiking, sim_steps=sim_steps))
    agent = make_agent(get_game("breakout"), network, seeding.torch_generator(0, "weights"))
    learner, batch = QLearner(agent, RECIPES["atari-fast"], precision), atari_batch()
    return lambda: learner.update(batch)


def dsqn_figures(sim_steps: int) -> list[Figure]:
    works = {
        "spikingjelly": spikingjelly_update(sim_steps),
        "fp32": our_update(sim_steps, "fp32"),
        "bf16": our_update(sim_steps, "bf16"),
    }
    seconds = _alternate(works, ROUNDS)
    name = f"dsqn_t{sim_steps}_update"
    return [
        *((f"{name}_{who}_ms", 1000 * value, "ms") for who, value in seconds.items()),
        (f"{name}_fp32_vs_spikingjelly_ratio", seconds["spikingjelly"] / seconds["fp32"], "x"),
        (f"{name}_vs_spikingjelly_ratio", seconds["spikingjelly"] / seconds["bf16"], "x"),
    ]


def our_training(
    game_name: str, recipe_name: str, precision: Precision, folder: Path
) -> Callable[[int], None]:
    """A run past its warm-up: a function that makes so many more decisions."""
    game = get_game(game_name)
    recipe = replace(RECIPES[recipe_name], warmup_steps=1000, replay_capacity_steps=10_000)
    agent = make_agent(game, preset("relu"), seeding.torch_generator(0, "weights"))
    algorithm = QLearning(agent, game, recipe, 0, folder, 1000, precision)

    def advance(decisions: int) -> None:
        until = algorithm.steps + decisions
        while algorithm.steps < until:
            algorithm.advance()

    advance(1400)
    return advance


def sb3_training(num_envs: int) -> Callable[[int], None]:
    """Stable-Baselines3's DQN with its own Atari wrappers, the same batch and updates a decision."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    gymnasium.register_envs(ale_py)
    kwargs: dict[str, Any] = {"vec_env_cls": SubprocVecEnv} if num_envs > 1 else {}
    env = VecFrameStack(
        make_atari_env("BreakoutNoFrameskip-v4", n_envs=num_envs, seed=0, **kwargs), n_stack=4
    )
    model = DQN(
        "CnnPolicy",
        env,
        buffer_size=10_000,
        learning_starts=1000,
        batch_size=BATCH,
        train_freq=4 // num_envs,
        gradient_steps=1,
        target_update_interval=1000,
        learning_rate=1e-4,
        device="cpu",
        seed=0,
    )
    model.learn(1400)

    def advance(decisions: int) -> None:
        model.learn(decisions, reset_num_timesteps=False)

    return advance


def dqn_figures(folder: Path) -> list[Figure]:
    decisions = 400
    trainings = {
        "sb3_dummy": sb3_training(1),
        "sb3_subproc": sb3_training(4),
        "fp32": our_training("breakout", "atari-fast", "fp32", folder / "fp32"),
        "bf16": our_training("breakout", "atari-fast", "bf16", folder / "bf16"),
    }
    works = {name: (lambda advance=advance: advance(decisions)) for name, advance in trainings.items()}
    rates = {name: decisions / seconds for name, seconds in _alternate(works, ROUNDS).items()}
    peer = max(rates["sb3_dummy"], rates["sb3_subproc"])
    return [
        *((f"dqn_breakout_{name}_decisions_per_s", rate, "decisions/s") for name, rate in rates.items()),
        ("dqn_breakout_fp32_vs_sb3_ratio", rates["fp32"] / peer, "x"),
        ("dqn_breakout_vs_sb3_ratio", rates["bf16"] / peer, "x"),
    ]


def minatar_figures(folder: Path) -> list[Figure]:
    """On one thread: what one core does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    advance = our_training("minatar/breakout", "minatar-fast", "fp32", folder / "minatar")
    seconds = _alternate({"ours": lambda: advance(4000)}, ROUNDS)["ours"]
    torch.set_num_threads(threads)
    return [("minatar_dqn_decisions_per_s_per_core", 4000 / seconds, "decisions/s")]


def _alternate(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taking turns; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_index in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if round_index > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    set_up_torch(0)  # peers profit from flushed denormals as we do
    with tempfile.TemporaryDirectory() as folder:
        report(
            [
                ("threads", torch.get_num_threads(), "threads"),
                *dsqn_figures(8),
                *dsqn_figures(64),
                *minatar_figures(Path(folder)),
                *dqn_figures(Path(folder)),
            ]
        )


if __name__ == "__main__":
    main()
