"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

The actor and the spiking actor differ in the network alone. The critic has the same architecture as the actor. It is
dropped after training.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import seeding
from core.dqn import Actor
from core.dsqn import SpikingActor
from core.games import Game
from play.environments import make_environments, network_input
from play.policies import categorical
from play.rollout import Rollout, Step
from train_direct.acceleration import FlatParameters, gradients, make_moments, trainable
from train_direct.algorithm import EpisodeScores, Means
from train_direct.recipe import PpoRecipe


def advantages(
    reward_t: np.ndarray,
    value_tm1: np.ndarray,
    value_t: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
    discount: float,
    trace_decay: float,
) -> np.ndarray:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    delta_t = reward_t + discount value_t - value_tm1, and A_t = delta_t + discount trace_decay A_{t+1}. After the end
    of a game value_t is 0; after a cut it is not. The sum over later decisions stops at both.

    Args:
        reward_t: [T, N] of N environments side by side.
        value_tm1: [T, N] values of the states in which actions were chosen.
        value_t: [T, N] values of the states that followed, before another episode began.
        terminated: [T, N] bool, whether the game was over.
        ended: [T, N] bool, whether the episode was over, by the game's end or by a cut.
        discount: of the return.
        trace_decay: lambda.

    Returns:
        [T, N] float64 advantages.
    """
    delta = reward_t + discount * np.where(terminated, 0.0, value_t) - value_tm1
    found = np.zeros(delta.shape)
    following = np.zeros(delta.shape[1:])
    for t in range(len(delta) - 1, -1, -1):
        following = delta[t] + discount * trace_decay * np.where(ended[t], 0.0, following)
        found[t] = following
    return found


def clipped_objective(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), which is maximised (Schulman et al. 2017, eq. 7).

    Args:
        ratio: [B] probability of the action taken, divided by its probability when it was taken.
        advantage: [B] advantages A.
        clip: epsilon of the paper.

    Returns:
        [B] objectives.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def normalised(advantage: Tensor) -> Tensor:
    """Advantages [B] with mean 0 and standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


class _Collected:
    """A rollout: T decisions in each of N environments, row by row [T, N, ...]."""

    def __init__(self, game: Game, rollout_steps: int, num_envs: int):
        rows = (rollout_steps, num_envs)
        self.obs_tm1 = np.zeros((*rows, *game.observation_shape), dtype=np.float32)
        self.obs_t = np.zeros_like(self.obs_tm1)
        self.logits = np.zeros((*rows, game.num_actions), dtype=np.float32)
        self.action_tm1 = np.zeros(rows, dtype=np.int64)
        self.reward_t = np.zeros(rows)
        self.terminated = np.zeros(rows, dtype=np.bool_)
        self.ended = np.zeros(rows, dtype=np.bool_)

    def put(self, row: int, step: Step) -> None:
        """Keep one decision of all environments."""
        self.obs_tm1[row], self.obs_t[row] = step.observations, step.outcome.observations
        self.logits[row], self.action_tm1[row] = step.scores, step.actions
        self.reward_t[row] = step.outcome.rewards
        self.terminated[row], self.ended[row] = step.outcome.terminated, step.ended


class PPO:
    """Proximal policy optimisation on one game, one decision of all environments at a time.

    Args:
        agent: the actor to train, on the device where it is trained.
        critic: a network of a game with a single action (`critic_game`), on the same device. Its score is a state's
            value.
        game: game that it plays.
        recipe: how it is trained.
        seed: seed of everything random.
    """

    def __init__(
        self,
        agent: Actor | SpikingActor,
        critic: Actor | SpikingActor,
        game: Game,
        recipe: PpoRecipe,
        seed: int,
    ):
        self.agent = agent
        self.recipe = recipe
        self.updates = 0
        self._game = game
        self._critic = critic
        networks = nn.ModuleList((agent, critic))
        self._weights = FlatParameters(networks)
        self._parameters = trainable(networks)
        self._optimizer = torch.optim.Adam([self._weights.tensor], lr=recipe.learning_rate, fused=True)
        make_moments(self._optimizer, self._weights)
        self._environments = make_environments(game, recipe.num_envs, recipe.dynamics)
        self._rollout = Rollout(
            self._environments,
            agent,
            episode_seed=lambda index: seeding.episode_seed(seed, "training", index),
            episodes=None,
            policy=categorical,
        )
        self._collected = _Collected(game, recipe.rollout_steps, recipe.num_envs)
        self._rows = 0  # rows of it that are filled
        self._shuffling = seeding.generator(seed, "shuffling")
        self._scores = EpisodeScores(recipe.num_envs)
        self._sums = torch.zeros(2, device=agent.device)  # loss and mean value, over updates
        self._updates_counted = 0
        self._has_updated = False

    @property
    def steps(self) -> int:
        """Decisions made."""
        return self._rollout.steps

    @property
    def epsilon(self) -> float:
        """NaN, because it explores by drawing actions from its own probabilities."""
        return math.nan

    def advance(self) -> list[float]:
        """Make one decision in every environment. After the last one of a rollout, make the updates that learn from it.

        Returns:
            The scores of the training episodes that ended.
        """
        step = next(self._rollout)
        self._collected.put(self._rows, step)
        self._rows += 1
        if self._rows == self.recipe.rollout_steps:
            self._learn()
            self._rows = 0
        return self._scores.add(step)

    def _learn(self) -> None:
        """Make all updates that learn from a whole rollout."""
        recipe, collected, device = self.recipe, self._collected, self.agent.device
        shape = collected.reward_t.shape
        obs_tm1, obs_t = (
            network_input(observations.reshape(-1, *self._game.observation_shape), self._game, device)
            for observations in (collected.obs_tm1, collected.obs_t)
        )
        with torch.no_grad():
            values = self._critic(torch.cat((obs_tm1, obs_t))).squeeze(1).double().cpu().numpy()
        value_tm1, value_t = values.reshape(2, *shape)
        found = advantages(
            collected.reward_t,
            value_tm1,
            value_t,
            collected.terminated,
            collected.ended,
            recipe.discount,
            recipe.trace_decay,
        )
        advantage = torch.as_tensor(found.reshape(-1)).float().to(device)
        return_ = torch.as_tensor((found + value_tm1).reshape(-1)).float().to(device)
        action_tm1 = torch.as_tensor(collected.action_tm1.reshape(-1, 1)).to(device)
        logits = torch.as_tensor(collected.logits.reshape(len(action_tm1), -1)).to(device)
        old = logits.log_softmax(1).gather(1, action_tm1).squeeze(1)
        for _ in range(recipe.epochs):
            order = torch.as_tensor(self._shuffling.permutation(len(old))).to(device)
            for part in torch.split(order, recipe.batch_size):
                self._update(obs_tm1[part], action_tm1[part], old[part], advantage[part], return_[part])

    def _update(
        self, obs_tm1: Tensor, action_tm1: Tensor, old: Tensor, advantage: Tensor, return_: Tensor
    ) -> None:
        """One gradient step.

        Args:
            obs_tm1: [B, *observation] states in which actions were chosen.
            action_tm1: [B, 1] actions that were taken.
            old: [B] log-probabilities of these actions when they were taken.
            advantage: [B] estimated advantages.
            return_: [B] estimated returns, which the critic learns.
        """
        recipe = self.recipe
        log_probabilities = self.agent(obs_tm1).log_softmax(1)  # [B, A]
        value = self._critic(obs_tm1).squeeze(1)
        ratio = (log_probabilities.gather(1, action_tm1).squeeze(1) - old).exp()
        entropy = -(log_probabilities.exp() * log_probabilities).sum(1).mean()
        loss = (
            recipe.value_weight * (return_ - value).square().mean()
            - clipped_objective(ratio, normalised(advantage), recipe.clip).mean()
            - recipe.entropy_weight * entropy
        )
        found = gradients(loss, self._parameters)
        with torch.no_grad():
            self._weights.set_gradients(found)
            self._optimizer.step()
            self._sums += torch.stack((loss, value.mean()))
        self.updates += 1
        self._updates_counted += 1
        self._has_updated = True

    def means(self) -> Means:
        """Means since the previous call."""
        loss, value = (self._sums / self._updates_counted).tolist()  # NaN without updates
        self._sums.zero_()
        self._updates_counted = 0
        return Means(loss, value)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that an update or a decision changes, by name."""
        moments = self._optimizer.state[self._weights.tensor]
        return (
            {"networks": self._weights.tensor, "sums": self._sums}
            | {f"optimizer.{name}": tensor for name, tensor in moments.items()}
            | {f"collected.{name}": torch.from_numpy(rows) for name, rows in vars(self._collected).items()}
        )

    def diagnostics(self) -> dict[str, float]:
        """Norm of the gradient in the last update; empty without updates."""
        return {"gradient_norm": float(self._weights.gradient.norm())} if self._has_updated else {}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and JSON-able values, from which `restore` continues with the same bits."""
        return self._tensors(), {
            "updates": self.updates,
            "updates_counted": self._updates_counted,
            "rows": self._rows,
            "scores": self._scores.running.tolist(),
            "shuffling": self._shuffling.bit_generator.state,
            "rollout": self._rollout.state(),
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from a state."""
        for name, tensor in self._tensors().items():
            tensor.copy_(tensors[name])
        self.updates, self._updates_counted = values["updates"], values["updates_counted"]
        self._rows = values["rows"]
        self._scores.running[:] = values["scores"]
        self._shuffling.bit_generator.state = values["shuffling"]
        self._rollout.restore(values["rollout"])

    def close(self) -> None:
        """Free the environments."""
        self._environments.close()


def critic_game(game: Game) -> Game:
    """The game with a single action, for a critic: its only output is the value of a state."""
    return replace(game, num_actions=1)
