"""The training loops of SpikingJelly's CartPole tutorials, with the same layers, on today's gymnasium.

They are examples/spiking_dqn_state.py and spiking_ppo.py of version 2.0.0. Nothing of this project is imported or set
here. Printing, TensorBoard and the test games of the second tutorial are left out. Its environments run in this
process, which is faster for CartPole than separate processes.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.distributions import Normal

SIM_STEPS = 16
DQN_DECISIONS = 200
"""Decisions of one round of Q-learning, each with an update."""
PPO_ENVS, PPO_STEPS = 4, 128
PPO_DECISIONS = PPO_ENVS * PPO_STEPS
"""Decisions of one round of PPO, with 60 updates."""


class NonSpikingLIFNode(neuron.SimpleLIFNode):
    """The tutorials' output neuron."""

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.neuronal_charge(x)
        return self.v


def spiking_network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The tutorials' network."""
    return nn.Sequential(
        layer.Linear(inputs, hidden),
        neuron.IFNode(),
        layer.Linear(hidden, outputs),
        NonSpikingLIFNode(tau=2.0, decay_input=True),
    )


def last_voltage(network: nn.Sequential, x: Tensor) -> Tensor:
    """The network's last output voltage, as in the tutorials. Reset the network's state before the next call."""
    for _ in range(SIM_STEPS):
        network(x)
    return network[-1].v


class Transition(NamedTuple):
    state: Tensor
    action: Tensor
    next_state: Tensor | None
    reward: Tensor


def spiking_dqn(threads: int) -> Callable[[], object]:
    """Rounds of DQN_DECISIONS decisions of the tutorial's spiking DQN, after its first update.

    Args:
        threads: threads of torch; 0 leaves its default.
    """
    if threads:
        torch.set_num_threads(threads)
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    policy_net, target_net = spiking_network(4, 256, 2), spiking_network(4, 256, 2)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = torch.optim.Adam(policy_net.parameters())
    memory: deque[Transition] = deque(maxlen=10_000)

    def select_action(state: Tensor, steps_done: int) -> Tensor:
        threshold = 0.05 + (0.9 - 0.05) * math.exp(-steps_done / 200)
        if random.random() <= threshold:
            return torch.tensor([[random.randrange(2)]])
        with torch.no_grad():
            action = last_voltage(policy_net, state).max(1)[1].view(1, 1)
        functional.reset_net(policy_net)
        return action

    def optimize_model() -> None:
        if len(memory) < 128:
            return
        batch = Transition(*zip(*random.sample(memory, 128), strict=True))  # type: ignore[arg-type]
        mask = torch.tensor([state is not None for state in batch.next_state])  # type: ignore[union-attr]
        following = torch.cat([state for state in batch.next_state if state is not None])  # type: ignore[union-attr]
        states, actions, rewards = (
            torch.cat(each)  # type: ignore[arg-type]
            for each in (batch.state, batch.action, batch.reward)
        )
        values = last_voltage(policy_net, states).gather(1, actions)
        next_values = torch.zeros(128)
        next_values[mask] = last_voltage(target_net, following).max(1)[0].detach()
        functional.reset_net(target_net)
        loss = F.smooth_l1_loss(values, (next_values * 0.999 + rewards).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        for parameter in policy_net.parameters():
            if parameter.grad is not None:
                parameter.grad.data.clamp_(-1, 1)
        optimizer.step()
        functional.reset_net(policy_net)

    def decisions() -> Iterator[None]:
        steps_done = 0
        for episode in count():
            observation, _ = env.reset()
            state: Tensor | None = torch.from_numpy(observation).float().unsqueeze(0)
            while state is not None:
                action = select_action(state, steps_done)
                steps_done += 1
                following, reward, done, _, _ = env.step(action.item())
                next_state = None if done else torch.from_numpy(following).float().unsqueeze(0)
                memory.append(Transition(state, action, next_state, torch.tensor([float(reward)])))
                state = next_state
                optimize_model()
                yield
            if episode % 10 == 0:
                target_net.load_state_dict(policy_net.state_dict())

    made = decisions()

    def advance(number: int) -> None:
        for _ in range(number):
            next(made)

    advance(256)
    return lambda: advance(DQN_DECISIONS)


class ActorCritic(nn.Module):
    """The second tutorial's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor = spiking_network(4, 32, 1), spiking_network(4, 32, 2)
        self.log_std = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x: Tensor) -> tuple[Normal, Tensor]:
        value, mu = last_voltage(self.critic, x), last_voltage(self.actor, x)
        return Normal(mu, self.log_std.exp().expand_as(mu)), value


def spiking_ppo(threads: int) -> Callable[[], object]:
    """Rounds of PPO_DECISIONS decisions of the tutorial's spiking PPO, and the updates that learn from them.

    Args:
        threads: threads of torch; 0 leaves its default.
    """
    if threads:
        torch.set_num_threads(threads)
    envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * PPO_ENVS)
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    state, _ = envs.reset(seed=0)

    def returns_of(
        next_value: Tensor, rewards: list[Tensor], masks: list[Tensor], values: list[Tensor]
    ) -> list[Tensor]:
        values = [*values, next_value]
        gae: Tensor | float = 0.0
        returns: list[Tensor] = []
        for step in reversed(range(len(rewards))):
            delta = rewards[step] + 0.99 * values[step + 1] * masks[step] - values[step]
            gae = delta + 0.99 * 0.95 * masks[step] * gae
            returns.insert(0, gae + values[step])
        return returns

    def update(*batch: Tensor) -> None:
        for _ in range(30):
            for part in np.split(np.random.permutation(PPO_DECISIONS), PPO_DECISIONS // 256):  # noqa: NPY002
                states, actions, old, returns, advantage = (each[part] for each in batch)
                dist, value = model(states)
                functional.reset_net(model)
                ratio = (dist.log_prob(actions) - old).exp()
                surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
                loss = (
                    0.5 * (returns - value).pow(2).mean() - surrogate.mean() - 0.001 * dist.entropy().mean()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def iterate() -> None:
        nonlocal state
        log_probs, values, states, actions, rewards, masks = [], [], [], [], [], []
        for _ in range(PPO_STEPS):
            inputs = torch.FloatTensor(state)
            dist, value = model(inputs)
            functional.reset_net(model)
            action = dist.sample()
            state, reward, done, cut, _ = envs.step(torch.max(action, 1)[1].numpy())
            log_probs.append(dist.log_prob(action))
            values.append(value)
            rewards.append(torch.FloatTensor(reward).unsqueeze(1))
            masks.append(torch.FloatTensor(1 - (done | cut)).unsqueeze(1))
            states.append(inputs)
            actions.append(action)
        _, next_value = model(torch.FloatTensor(state))
        functional.reset_net(model)
        returns = torch.cat(returns_of(next_value, rewards, masks, values)).detach()
        advantage = returns - torch.cat(values).detach()
        update(torch.cat(states), torch.cat(actions), torch.cat(log_probs).detach(), returns, advantage)

    return iterate
