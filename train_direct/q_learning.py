"""Deep Q-learning (Mnih et al. 2015): the loop of acting, replay and updates.

The DQN and the DSQN differ in the network alone. To see how a DQN learns, read this file, then replay.py, then
learner.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import seeding
from core.choices import Precision
from core.dqn import DQN
from core.dsqn import DSQN
from core.games import Game
from play.environments import make_environments
from play.policies import exploring
from play.rollout import Rollout
from train_direct.algorithm import EpisodeScores, Means
from train_direct.common_mode import CommonMode
from train_direct.learner import QLearner
from train_direct.recipe import Recipe
from train_direct.replay import Replay


def slack_steps(recipe: Recipe, checkpoint_interval_steps: int) -> int:
    """Decisions that the replay keeps beyond its capacity, so that a run can resume from its latest state."""
    return 2 * checkpoint_interval_steps + recipe.num_envs


class QLearning:
    """Q-learning on one game, one decision of all environments at a time.

    Args:
        agent: the network to train, on the device where it is trained.
        game: game that it plays.
        recipe: how it is trained.
        seed: seed of everything random.
        folder: run folder; the replay's files lie in it.
        checkpoint_interval_steps: decisions between two states to resume from.
        precision: of the updates.
        common_mode: a DSQN with its auxiliary network, which is trained in place of the DSQN alone.
        sim_steps: simulation steps of a DSQN, one after the other for equal shares of the run (temporal pruning). If
            there are none, the DSQN's own.
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
        sim_steps: Sequence[int] = (),
    ):
        self.agent = agent
        self.recipe = recipe
        self._sim_steps = sim_steps
        self._learner = QLearner(common_mode or agent, recipe, precision)
        self._environments = make_environments(game, recipe.num_envs, recipe.dynamics)
        self._replay = Replay(
            folder / "replay",
            game,
            recipe.num_envs,
            recipe.replay_capacity_steps,
            slack_steps(recipe, checkpoint_interval_steps),
            recipe.discount,
            recipe.n_step,
            clip_rewards=recipe.clip_rewards,
            life_loss_terminal=recipe.life_loss_terminal,
            truncation_terminal=recipe.truncation_terminal,
            mirror=agent.device if agent.device.type == "cuda" else None,
        )
        self._rollout = Rollout(
            self._environments,
            self._learner.acting,
            episode_seed=lambda index: seeding.episode_seed(seed, "training", index),
            episodes=None,
            policy=exploring(recipe.epsilon),
        )
        self._sampling = seeding.generator(seed, "replay")
        self._scores = EpisodeScores(recipe.num_envs)
        self._sums = torch.zeros(2, device=agent.device)  # loss and mean Q-value, over updates
        self._updates_counted = 0

    @property
    def steps(self) -> int:
        """Decisions made."""
        return self._rollout.steps

    @property
    def updates(self) -> int:
        """Gradient steps made."""
        return self._learner.updates

    @property
    def replay_bytes(self) -> int:
        """Bytes of the replay on the disk, and in memory while there is room."""
        return self._replay.size_bytes

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        return self.recipe.epsilon(self.steps)

    def advance(self) -> list[float]:
        """Make one decision in every environment, and meanwhile the updates that are due after it.

        Returns:
            The scores of the training episodes that ended.
        """
        self._prune_sim_steps()
        self._rollout.send()
        self._update(self.steps)
        step = self._rollout.receive()
        self._replay.add(step)
        return self._scores.add(step)

    def _prune_sim_steps(self) -> None:
        """Switch to the next number of simulation steps if its share of the run begins now.

        Each number starts from the weights that were learnt with the one before it (Chowdhury, Rathi & Roy 2021, arXiv
        2110.05929).
        """
        if isinstance(self.agent, DSQN) and self._sim_steps:
            share = self.steps * len(self._sim_steps) // self.recipe.total_steps
            sim_steps = self._sim_steps[min(share, len(self._sim_steps) - 1)]
            if sim_steps != self.agent.spiking.sim_steps:
                self._learner.set_sim_steps(sim_steps)

    def _update(self, steps: int) -> None:
        """Make the updates that are due after so many decisions, while the environments compute the last of them."""
        due = (steps - self.recipe.warmup_steps) // self.recipe.train_interval_steps
        updates = due - self.updates
        if updates > 0:
            batch = self._replay.sample(updates * self.recipe.batch_size, self._sampling)
            self._sums += self._learner.update(batch, updates)
            self._updates_counted += updates

    def means(self) -> Means:
        """Means since the previous call."""
        loss, q_mean = (self._sums / self._updates_counted).tolist()  # NaN without updates
        self._sums.zero_()
        self._updates_counted = 0
        return Means(loss, q_mean)

    def diagnostics(self) -> dict[str, float]:
        """Values of the last update by name; empty without updates."""
        return self._learner.diagnostics()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and JSON-able values, from which `restore` continues with the same bits."""
        self._replay.flush()
        checksums, replay = self._replay.state()
        return self._learner.tensors() | {"sums": self._sums, "replay": checksums}, {
            "updates": self.updates,
            "strides": self._learner.strides,
            "updates_counted": self._updates_counted,
            "sim_steps": self.agent.sim_steps,
            "scores": self._scores.running.tolist(),
            "sampling": self._sampling.bit_generator.state,
            "replay": replay,
            "rollout": self._rollout.state(),
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from a state, perhaps of another device, where weights lie otherwise in memory."""
        self._sums = tensors["sums"].to(self.agent.device)
        self._learner.restore(tensors, values["strides"], values["updates"])
        if self._sim_steps:  # the next number begins with a decision, so after a validation of this one
            self._learner.set_sim_steps(values["sim_steps"])
        self._updates_counted = values["updates_counted"]
        self._scores.running[:] = values["scores"]
        self._sampling.bit_generator.state = values["sampling"]
        self._replay.restore(tensors["replay"], values["replay"])
        self._rollout.restore(values["rollout"])

    def close(self) -> None:
        """Free the environments."""
        self._environments.close()
