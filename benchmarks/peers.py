"""The other libraries, run as their users run them. Nothing of this project is imported or set here.

Stable-Baselines3 comes with the extra `peers`.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py.vector_env
import gymnasium
import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 32
BREAKOUT_DECISIONS = 400
"""Decisions of one round of training on Breakout."""


def atari_batch() -> tuple[np.ndarray, ...]:
    """Random transitions: obs_tm1, action_tm1, reward_t, discount_t, obs_t."""
    rng = np.random.default_rng(0)
    shape = (BATCH, 4, 84, 84)
    return (
        rng.integers(256, size=shape, dtype=np.uint8),
        rng.integers(4, size=BATCH),
        rng.normal(size=BATCH).astype(np.float32),
        np.full(BATCH, 0.99, np.float32),
        rng.integers(256, size=shape, dtype=np.uint8),
    )


def spikingjelly_network(sim_steps: int) -> nn.Module:
    """Chen et al.'s network of the multi-step layers of spikingjelly 2.0.0, as its DSQN example builds it."""
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
    """One update of that network: two forward passes, loss, backward pass, Adam."""
    online = spikingjelly_network(sim_steps)
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4)
    batch = atari_batch()

    def update() -> None:
        obs_tm1, action_tm1, reward_t, discount_t, obs_t = map(torch.as_tensor, batch)
        with torch.no_grad():
            target_t = reward_t + discount_t * target(obs_t.float() / 255).amax(1)
        q_tm1 = online(obs_tm1.float() / 255).gather(1, action_tm1[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q_tm1, target_t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def breakout(**kwargs: Any) -> gymnasium.Env:
    """Atari Breakout. It registers ALE itself, because a new process may load nothing but this function."""
    gymnasium.register_envs(ale_py)
    return gymnasium.make("BreakoutNoFrameskip-v4", **kwargs)


def sb3_training(num_envs: int, subprocesses: bool) -> Callable[[], object]:
    """Train Stable-Baselines3's DQN on Breakout with its own Atari wrappers, after warm-up and exploration."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    kwargs: dict[str, Any] = {"vec_env_cls": SubprocVecEnv} if subprocesses else {}
    env = VecFrameStack(make_atari_env(breakout, n_envs=num_envs, seed=0, **kwargs), n_stack=4)
    model = DQN(
        "CnnPolicy",
        env,
        buffer_size=10_000,
        learning_starts=1000,
        batch_size=BATCH,
        train_freq=max(1, 4 // num_envs),
        gradient_steps=max(1, num_envs // 4),
        target_update_interval=4000,
        learning_rate=1e-4,
        exploration_final_eps=0.05,
        device="cpu",
        seed=0,
    )
    model.learn(1400)
    return lambda: model.learn(BREAKOUT_DECISIONS, reset_num_timesteps=False)


def pong(**kwargs: Any) -> gymnasium.Env:
    """Atari Pong, as `breakout`."""
    gymnasium.register_envs(ale_py)
    return gymnasium.make("PongNoFrameskip-v4", **kwargs)


def sb3_evaluation(num_envs: int, subprocesses: bool, agent: Path, episodes: int) -> float:
    """Frames a second of Stable-Baselines3's evaluate_policy in whole games of Pong.

    The DQN has the weights of one of this project's checkpoints, and explores as in the papers' evaluations.
    """
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    kwargs: dict[str, Any] = {"vec_env_cls": SubprocVecEnv} if subprocesses else {}
    env = VecFrameStack(make_atari_env(pong, n_envs=num_envs, seed=0, **kwargs), n_stack=4)
    model = DQN("CnnPolicy", env, buffer_size=100, device="cpu", seed=0)
    weights = safetensors.torch.load_file(agent)
    network = model.policy.q_net
    layers = [*(network.features_extractor.cnn[index] for index in (0, 2, 4))]
    layers += [network.features_extractor.linear[0], network.q_net[0]]
    for index, layer in enumerate(layers):
        layer.load_state_dict(
            {name: weights[f"layers.{index}.{name}"].float() for name in ("weight", "bias")}
        )
    model.exploration_rate = 0.05
    start = time.perf_counter()
    # Its monitors are inside the frame-skipping wrappers, so lengths are frames.
    _, frames = evaluate_policy(
        model, env, n_eval_episodes=episodes, deterministic=False, return_episode_rewards=True
    )
    rate = sum(frames) / (time.perf_counter() - start)
    env.close()
    return float(rate)


def bare_stepping(num_envs: int, decisions: int) -> float:
    """Frames a second of ALE's own vector environment under random actions. Its frames are not used."""
    env = ale_py.vector_env.AtariVectorEnv("pong", num_envs, noop_max=30)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(decisions // num_envs):
        env.step(rng.integers(6, size=num_envs))
    rate = 4 * decisions / (time.perf_counter() - start)
    env.close()
    return rate
