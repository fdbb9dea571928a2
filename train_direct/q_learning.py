"""Deep Q-learning (Mnih et al. 2015) of any Q-network: the DQN and the DSQN differ by the network alone."""

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import seeding
from core.dqn import DQN
from core.dsqn import DSQN
from core.games import Game
from core.layers import halve_precision
from play.environments import make_environments, network_input
from play.policies import exploring
from play.rollout import Rollout
from train_direct.common_mode import CommonMode
from train_direct.recipes import Recipe
from train_direct.replay import Batch, Replay
from train_direct.run import EpisodeScores, Means

Precision = Literal["fp32", "bf16"]
TARGET_ROWS = 2048
"""Observations times simulation steps that the target network sees at once, if an update does not need more."""


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


def flatten_parameters(network: nn.Module) -> nn.Parameter:
    """Move a network's parameters into one tensor, of which they become views.

    An optimiser step or a copy into the target network is then one operation instead of one for each
    parameter, which on a small network is most of what it costs.
    """
    parameters = list(network.parameters())
    flat = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
    for parameter, view in zip(parameters, views(flat.detach(), parameters), strict=True):
        view.copy_(parameter.detach())
        parameter.data = view
    return flat


def views(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Views of one tensor in the shapes and memory layouts of dense ones, one after the other."""
    offsets = itertools.accumulate((parameter.numel() for parameter in parameters), initial=0)
    return [
        torch.as_strided(flat, parameter.shape, parameter.stride(), offset)
        for parameter, offset in zip(parameters, offsets, strict=False)
    ]


def make_moments(optimizer: torch.optim.Optimizer, flat: nn.Parameter) -> None:
    """Make an optimiser's moments by a step along no gradient; from here on every tensor stays where it is."""
    with warnings.catch_warnings(action="ignore"):  # on a GPU: that this step is not part of a CUDA graph
        optimizer.step()
    for moment in optimizer.state[flat].values():
        moment.zero_()


class QLearner:
    """Networks and optimiser: what one update changes.

    Args:
        network: the network to train, from observations [B, *observation] to Q-values [B, A].
        recipe: how.
        precision: of both forward passes and the backward pass. bf16 computes with copies of the hidden layers;
            weights, membranes, Q-values, targets and the optimiser are float32 in both.
    """

    def __init__(self, network: DQN | DSQN | CommonMode, recipe: Recipe, precision: Precision = "fp32"):
        if network.game.tier == "atari":
            # Convolutions are fastest with channels last, and so are the neurons behind them; on MinAtar's small
            # boards the way there and back takes longer than that saves.
            network.to(memory_format=torch.channels_last)
        self.online = network
        self.target = copy.deepcopy(network)
        self._online_flat = flatten_parameters(self.online)
        self._target_flat = flatten_parameters(self.target)
        self._online_flat.grad = self._gradient = torch.zeros_like(self._online_flat)
        self._gradients = views(self._gradient, list(self.online.parameters()))
        self.working, self._working_target = self.online, self.target
        if precision == "bf16":
            self.working, self._working_target = copy.deepcopy(self.online), copy.deepcopy(self.target)
            halve_precision(self.working)
            halve_precision(self._working_target)
        self.updates = 0
        self._recipe = recipe
        self._captured: _Captured | None = None
        on_gpu = network.device.type == "cuda"
        if recipe.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                [self._online_flat], lr=recipe.learning_rate, fused=True, capturable=on_gpu
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
                capturable=on_gpu,
            )
        make_moments(self.optimizer, self._online_flat)

    def update(self, batch: Batch, updates: int = 1) -> Tensor:
        """One gradient step on each of so many equal parts of a batch, in turn.

        Returns:
            [2] loss and mean Q-value of the replayed actions, summed over updates.
        """
        game, device, recipe = self.online.game, self.online.device, self._recipe
        size = len(batch.action_tm1) // updates
        obs_tm1 = network_input(batch.obs_tm1, game, device)
        obs_t = network_input(batch.obs_t, game, device)
        action_tm1, reward_t, discount_t = (
            torch.as_tensor(values).to(device)
            for values in (batch.action_tm1, batch.reward_t, batch.discount_t)
        )
        step: Callable[..., Tensor] = self._update_once
        if device.type == "cuda":
            changed = [*self.tensors().values(), *self.working.parameters()]
            self._captured = step = self._captured or _Captured(self._update_once, changed)
        target_interval = recipe.target_interval_steps // recipe.train_interval_steps
        sums = torch.zeros(2, device=device)
        target: Tensor | None = None
        for part in (slice(first, first + size) for first in range(0, updates * size, size)):
            if target is None:  # of all parts that are left: the target network stays until its next copy
                with torch.no_grad():
                    left = obs_t[part.start :].split(self._target_batch(size))
                    target = torch.cat([self._working_target(few) for few in left])
                first = part.start
            sums += step(
                obs_tm1[part],
                action_tm1[part],
                reward_t[part],
                discount_t[part],
                obs_t[part],
                target[part.start - first : part.stop - first],
            )
            self.updates += 1
            if self.updates % target_interval == 0:
                self._copy_to_target()
                target = None
        return sums

    def _target_batch(self, size: int) -> int:
        """Observations that the target network is given at once; spike trains must not fill the memory."""
        sim_steps = self.acting.spiking.sim_steps if isinstance(self.acting, DSQN) else 1
        return max(size, TARGET_ROWS // sim_steps)

    def _update_once(
        self,
        obs_tm1: Tensor,
        action_tm1: Tensor,
        reward_t: Tensor,
        discount_t: Tensor,
        obs_t: Tensor,
        target: Tensor,
    ) -> Tensor:
        """One gradient step; [2] loss and mean Q-value of the replayed actions."""
        with torch.no_grad():
            value_t = bootstrap_value(target, self.working(obs_t) if self._recipe.double else None)
        online = self.working(obs_tm1)
        loss, q_tm1 = td_loss(online, action_tm1, reward_t, discount_t, value_t, self._recipe.loss)
        gradients = torch.autograd.grad(loss, list(self.working.parameters()))
        with torch.no_grad():
            torch._foreach_copy_(self._gradients, gradients)
            if self._recipe.gradient_clamp is not None:
                self._gradient.clamp_(-self._recipe.gradient_clamp, self._recipe.gradient_clamp)
            self.optimizer.step()
            _refresh(self.working, self.online)
            return torch.stack([loss, q_tm1.mean()])

    def set_sim_steps(self, sim_steps: int) -> None:
        """Let all spiking networks run for so many simulation steps from now on."""
        for network in (self.online, self.target, self.working, self._working_target):
            for module in network.modules():
                if isinstance(module, DSQN):
                    module.spiking = replace(module.spiking, sim_steps=sim_steps)
        self._captured = None

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        self._target_flat.copy_(self._online_flat)
        _refresh(self._working_target, self.target)

    @property
    def acting(self) -> DQN | DSQN:
        """What plays while it is trained: the copy that computes fastest."""
        return self.working.snn if isinstance(self.working, CommonMode) else self.working

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
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        _refresh(self.working, self.online)
        _refresh(self._working_target, self.target)


class _Captured:
    """A function of tensors, recorded as a CUDA graph at its first call and replayed from then on.

    On a GPU an update is some hundred small kernels, and launching them one by one takes longer than they run.

    Args:
        function: whose arguments keep their shapes, and which changes tensors in place only.
        changed: what it changes; the rehearsals that recording needs are undone.
    """

    def __init__(self, function: Callable[..., Tensor], changed: Sequence[Tensor]):
        self._function, self._changed = function, changed
        self._arguments: list[Tensor] = []
        self._graph: Any = None

    def __call__(self, *arguments: Tensor) -> Tensor:
        if self._graph is None:
            self._record(arguments)
        torch._foreach_copy_(self._arguments, arguments)
        self._graph.replay()
        return self._result

    def _record(self, arguments: Sequence[Tensor]) -> None:
        self._arguments = [argument.clone() for argument in arguments]
        before = [tensor.detach().clone() for tensor in self._changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels choose their algorithms before they are recorded
            for _ in range(3):
                self._function(*self._arguments)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._function(*self._arguments)
        with torch.no_grad():
            torch._foreach_copy_(list(self._changed), before)


def _refresh(working: nn.Module, network: nn.Module) -> None:
    """Give a working copy the network's weights."""
    if working is not network:
        torch._foreach_copy_(list(working.parameters()), list(network.parameters()))


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
        sim_steps: of a DSQN, one after the other for equal shares of the run (temporal pruning); its own if none.
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
            2 * checkpoint_interval_steps + recipe.num_envs,
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
        """What the replay takes on the disk, and in memory while there is room."""
        return self._replay.size_bytes

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        return self.recipe.epsilon(self.steps)

    def advance(self) -> list[float]:
        """One decision in every environment, and meanwhile the updates that are due after it."""
        self._prune_sim_steps()
        self._rollout.send()
        self._update(self.steps)
        step = self._rollout.receive()
        self._replay.add(step)
        return self._scores.add(step)

    def _prune_sim_steps(self) -> None:
        """Chowdhury, Rathi & Roy 2021 (arXiv 2110.05929): each number of simulation steps starts from the weights
        that were learnt with the one before it."""
        if isinstance(self.agent, DSQN) and self._sim_steps:
            share = self.steps * len(self._sim_steps) // self.recipe.total_steps
            sim_steps = self._sim_steps[min(share, len(self._sim_steps) - 1)]
            if sim_steps != self.agent.spiking.sim_steps:
                self._learner.set_sim_steps(sim_steps)

    def _update(self, steps: int) -> None:
        """Make the updates that are due after so many decisions, the last of which are just being taken."""
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and JSON-able values, from which `restore` goes on with the same bits."""
        self._replay.flush()
        return self._learner.tensors() | {"sums": self._sums}, {
            "updates": self.updates,
            "updates_counted": self._updates_counted,
            "scores": self._scores.running.tolist(),
            "sampling": self._sampling.bit_generator.state,
            "replay": self._replay.state(),
            "rollout": self._rollout.state(),
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from a state."""
        self._sums = tensors["sums"].to(self.agent.device)
        self._learner.restore(tensors, values["updates"])
        self._updates_counted = values["updates_counted"]
        self._scores.running[:] = values["scores"]
        self._sampling.bit_generator.state = values["sampling"]
        self._replay.restore(values["replay"])
        self._rollout.restore(values["rollout"])
        self._prune_sim_steps()

    def close(self) -> None:
        """Free the environments."""
        self._environments.close()
