"""Deep Q-learning (Mnih et al. 2015) of any Q-network: the DQN and the DSQN differ by the network alone."""

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import seeding
from core.envs import make_environments, network_input
from core.games import Game
from core.networks import DQN, DSQN
from evaluate.rollout import Rollout
from train_direct.common_mode import CommonMode
from train_direct.recipes import Recipe
from train_direct.replay import Batch, Replay
from train_direct.run import Means

Precision = Literal["fp32", "bf16"]


def td_loss(
    online: Tensor, action_tm1: Tensor, reward_t: Tensor, discount_t: Tensor, value_t: Tensor, loss: str
) -> tuple[Tensor, Tensor]:
    """The loss of a batch, and the Q-values it moves.

    Q(obs_tm1, action_tm1) is held against reward_t + discount_t value_t.

    Args:
        online: [B, A] Q(obs_tm1), differentiable.
        action_tm1: [B] int64.
        reward_t: [B].
        discount_t: [B], 0 where the return ended.
        value_t: [B] what obs_t is worth, see `bootstrap_value`.
        loss: "huber" (threshold 1, mean) or "mse".

    Returns:
        Scalar loss and [B] Q-values.
    """
    q_tm1 = online.gather(1, action_tm1[:, None]).squeeze(1)  # [B]
    distance = F.smooth_l1_loss if loss == "huber" else F.mse_loss
    return distance(q_tm1, reward_t + discount_t * value_t), q_tm1


def bootstrap_value(target: Tensor, online: Tensor | None = None) -> Tensor:
    """What a state is worth [B]: max_a Q_target(obs_t, a), or Q_target at the online network's choice (Double DQN).

    Args:
        target: [B, A] Q_target(obs_t).
        online: [B, A] Q(obs_t) for Double DQN (van Hasselt, Guez & Silver 2016).
    """
    if online is None:
        return target.amax(1)
    return target.gather(1, online.argmax(1, keepdim=True)).squeeze(1)


def flatten_parameters(network: nn.Module, gradients: bool) -> nn.Parameter:
    """Move a network's parameters (and their gradients) into one tensor, of which they become views.

    An optimiser step, a copy into the target network or clearing the gradients is then one operation
    instead of one for each parameter, which on a small network is most of what it costs.
    """
    parameters = list(network.parameters())
    flat = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
    if gradients:
        flat.grad = torch.zeros_like(flat)
    offset = 0
    for parameter in parameters:
        shape, strides = parameter.shape, parameter.stride()  # of a dense tensor, in its own memory layout
        view = torch.as_strided(flat.detach(), shape, strides, offset)
        view.copy_(parameter.detach())
        parameter.data = view
        if flat.grad is not None:
            parameter.grad = torch.as_strided(flat.grad, shape, strides, offset)
        offset += parameter.numel()
    return flat


class QLearner:
    """Networks and optimiser: what one update changes.

    Args:
        network: the network to train, from observations [B, *observation] to Q-values [B, A].
        recipe: how.
        precision: of both forward passes and the backward pass; weights, membranes, targets and the optimiser
            are float32 in both.
    """

    def __init__(self, network: DQN | DSQN | CommonMode, recipe: Recipe, precision: Precision = "fp32"):
        # Convolutions are fastest with channels last, and so are the neurons behind them.
        network.to(memory_format=torch.channels_last)
        self.online = network
        self.target = copy.deepcopy(network)
        self._online_flat = flatten_parameters(self.online, gradients=True)
        self._target_flat = flatten_parameters(self.target, gradients=False)
        self.updates = 0
        self._recipe = recipe
        self._autocast = torch.autocast(
            network.device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
        )
        if recipe.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                [self._online_flat], lr=recipe.learning_rate, fused=True
            )
        else:
            # Young & Tian 2019: squared-gradient and gradient momentum 0.95, minimum squared gradient 0.01.
            self.optimizer = torch.optim.RMSprop(
                [self._online_flat],
                lr=recipe.learning_rate,
                alpha=0.95,
                momentum=0.95,
                eps=0.01,
                centered=True,
            )

    def update(self, batch: Batch) -> Tensor:
        """One gradient step; [2] loss and mean Q-value of the replayed actions."""
        game, device, recipe = self.online.game, self.online.device, self._recipe
        with torch.no_grad(), self._autocast:
            obs_t = network_input(batch.obs_t, game, device)
            value_t = bootstrap_value(self.target(obs_t), self.online(obs_t) if recipe.double else None)
        with self._autocast:
            online = self.online(network_input(batch.obs_tm1, game, device))
        action_tm1, reward_t, discount_t = (
            torch.as_tensor(values).to(device)
            for values in (batch.action_tm1, batch.reward_t, batch.discount_t)
        )
        loss, q_tm1 = td_loss(online, action_tm1, reward_t, discount_t, value_t, recipe.loss)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % (recipe.target_interval_steps // recipe.train_interval_steps) == 0:
            self._copy_to_target()
        return torch.stack([loss.detach(), q_tm1.detach().mean()])

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        self._target_flat.copy_(self._online_flat)

    def tensors(self) -> dict[str, Tensor]:
        """Everything an update changes, by name."""
        moments = self.optimizer.state[self._online_flat]
        return {"online": self._online_flat, "target": self._target_flat} | {
            f"optimizer.{name}": tensor for name, tensor in moments.items()
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Go on from what `tensors` gave after so many updates."""
        self.updates = updates
        self._online_flat.copy_(tensors["online"])
        self._target_flat.copy_(tensors["target"])
        moments = {
            name.removeprefix("optimizer."): tensor
            for name, tensor in tensors.items()
            if name.startswith("optimizer.")
        }
        if moments:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": {0: moments}})


class QLearning:
    """Q-learning on one game: acting, replay and updates, one decision of all environments at a time.

    Args:
        agent: the network to train, on the device where it is to be trained.
        game: what it plays.
        recipe: how.
        seed: of everything random.
        folder: where the replay's files lie.
        checkpoint_interval_steps: decisions between two states that may be resumed from.
        precision: of the updates.
        common_mode: what trains in place of a DSQN, if its common mode is to be compensated.
    """

    def __init__(
        self,
        agent: DQN | DSQN,
        game: Game,
        recipe: Recipe,
        seed: int,
        folder: Path,
        checkpoint_interval_steps: int,
        precision: Precision = "fp32",
        common_mode: CommonMode | None = None,
    ):
        self.agent = agent
        self.recipe = recipe
        self._learner = QLearner(common_mode or agent, recipe, precision)
        self._environments = make_environments(game, recipe.num_envs, recipe.dynamics)
        self._replay = Replay(
            folder / "replay",
            game,
            recipe.num_envs,
            recipe.replay_capacity_steps,
            2 * checkpoint_interval_steps + recipe.num_envs,
            recipe.discount,
            clip_rewards=recipe.clip_rewards,
            life_loss_terminal=recipe.life_loss_terminal,
            truncation_terminal=recipe.truncation_terminal,
        )
        self._rollout = Rollout(
            self._environments,
            agent,
            episode_seed=lambda index: seeding.episode_seed(seed, "training", index),
            episodes=None,
            epsilon=recipe.epsilon,
        )
        self._sampling = seeding.generator(seed, "replay")
        self._scores = np.zeros(recipe.num_envs)  # raw, of the episodes being played
        self._sums = torch.zeros(2, device=agent.device)  # loss and mean Q-value, over updates
        self._updates_counted = 0
        self._ended_scores: list[float] = []

    @property
    def steps(self) -> int:
        """Decisions made."""
        return self._rollout.steps

    @property
    def updates(self) -> int:
        """Gradient steps made."""
        return self._learner.updates

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        return self.recipe.epsilon(self.steps)

    def advance(self) -> None:
        """One decision in every environment, and the updates that are due after it."""
        step = next(self._rollout)
        self._replay.add(step)
        self._scores[step.slots] += step.outcome.rewards
        for slot in step.slots[step.ended]:
            self._ended_scores.append(float(self._scores[slot]))
            self._scores[slot] = 0.0
        due = (self.steps - self.recipe.warmup_steps) // self.recipe.train_interval_steps
        while self.updates < due:
            self._sums += self._learner.update(self._replay.sample(self.recipe.batch_size, self._sampling))
            self._updates_counted += 1

    def means(self) -> Means:
        """Means since the previous call."""
        loss, q_mean = (self._sums / self._updates_counted).tolist()  # NaN without updates
        train_score = float(np.mean(self._ended_scores)) if self._ended_scores else float("nan")
        self._sums.zero_()
        self._updates_counted = 0
        self._ended_scores = []
        return Means(loss, q_mean, train_score)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and JSON-able values, from which `restore` goes on with the same bits."""
        self._replay.flush()
        return self._learner.tensors() | {"sums": self._sums}, {
            "updates": self.updates,
            "updates_counted": self._updates_counted,
            "scores": self._scores.tolist(),
            "ended_scores": self._ended_scores,
            "sampling": self._sampling.bit_generator.state,
            "replay": self._replay.state(),
            "rollout": self._rollout.state(),
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from a state."""
        self._sums = tensors["sums"].to(self.agent.device)
        self._learner.restore(tensors, values["updates"])
        self._updates_counted = values["updates_counted"]
        self._scores = np.array(values["scores"])
        self._ended_scores = list(values["ended_scores"])
        self._sampling.bit_generator.state = values["sampling"]
        self._replay.restore(values["replay"])
        self._rollout.restore(values["rollout"])

    def close(self) -> None:
        """Free the environments."""
        self._environments.close()
