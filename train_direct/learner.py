"""One update of deep Q-learning (Mnih et al. 2015): TD target, loss, gradient step, copy into the target network.

Names end in _tm1 for the state in which an action was chosen, and in _t for what followed.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.choices import Precision
from core.dqn import DQN
from core.dsqn import DSQN
from core.spike_linear import lay_out_by_input
from play.environments import network_input
from train_direct.acceleration import (
    Captured,
    FlatParameters,
    gradients,
    half_copy,
    make_moments,
    refresh,
    trainable,
)
from train_direct.common_mode import CommonMode
from train_direct.recipe import Recipe
from train_direct.replay import Batch

QNetwork = DQN | DSQN | CommonMode
"""What can be trained: a module from observations [B, *observation] to Q-values [B, A]."""
TARGET_ROWS = 2048
"""Observations times simulation steps that the target network sees at once, if an update does not need more."""


def bootstrap_value(q_target_t: Tensor, q_t: Tensor | None = None) -> Tensor:
    """The value [B] of the state that followed.

    It is max_a Q_target(obs_t, a). With Double DQN (van Hasselt, Guez & Silver 2016) it is Q_target(obs_t, a) for the
    action a that the online network prefers.

    Args:
        q_target_t: [B, A] Q_target(obs_t).
        q_t: [B, A] Q(obs_t) of the online network, for Double DQN.
    """
    if q_t is None:
        return q_target_t.amax(1)
    return q_target_t.gather(1, q_t.argmax(1, keepdim=True)).squeeze(1)


def td_loss(
    q_tm1: Tensor,
    action_tm1: Tensor,
    reward_t: Tensor,
    discount_t: Tensor,
    value_t: Tensor,
    loss: Literal["huber", "mse"],
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch: Q(obs_tm1, action_tm1) against the target reward_t + discount_t value_t.

    Args:
        q_tm1: [B, A] Q(obs_tm1), differentiable.
        action_tm1: [B] int64.
        reward_t: [B].
        discount_t: [B], 0 where the return ended.
        value_t: [B] value of obs_t, see `bootstrap_value`.
        loss: "huber" (threshold 1) or "mse", the mean over the batch.

    Returns:
        Scalar loss, the Q-values [B] of the actions taken, and their targets [B].
    """
    q_action_tm1 = q_tm1.gather(1, action_tm1[:, None]).squeeze(1)  # [B]
    target_tm1 = reward_t + discount_t * value_t  # [B]
    if loss == "huber":
        return F.smooth_l1_loss(q_action_tm1, target_tm1), q_action_tm1, target_tm1
    if loss == "mse":
        return F.mse_loss(q_action_tm1, target_tm1), q_action_tm1, target_tm1
    assert_never(loss)


def make_optimizer(recipe: Recipe, weights: FlatParameters, capturable: bool) -> torch.optim.Optimizer:
    """The recipe's optimiser of a network's weights.

    Args:
        recipe: recipe that names the optimiser and its learning rate.
        weights: weights that it changes.
        capturable: whether its step can be part of a CUDA graph.
    """
    if recipe.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            [weights.tensor], lr=recipe.learning_rate, fused=True, capturable=capturable
        )
    elif recipe.optimizer == "rmsprop-centred":
        # Young & Tian 2019: squared-gradient and gradient momentum 0.95, minimum squared gradient 0.01.
        optimizer = torch.optim.RMSprop(
            [weights.tensor],
            lr=recipe.learning_rate,
            alpha=0.95,
            momentum=0.95,
            eps=0.01,
            centered=True,
            capturable=capturable,
        )
    else:
        assert_never(recipe.optimizer)
    make_moments(optimizer, weights)
    return optimizer


class _Transitions(NamedTuple):
    """A batch as network inputs, on the networks' device."""

    obs_tm1: Tensor
    """[B, *observation] float32."""
    action_tm1: Tensor
    """[B] int64."""
    reward_t: Tensor
    """[B] float32."""
    discount_t: Tensor
    """[B] float32."""
    obs_t: Tensor
    """[B, *observation] float32."""


def _visit_spikes_only(network: DQN | DSQN) -> None:
    """Let a spiking network's hidden layers compute sparse products."""
    if isinstance(network, DSQN):
        network.sparse_products = True
        for layer in [*network.layers][1:-1]:
            if isinstance(layer, nn.Linear):
                lay_out_by_input(layer)


class QLearner:
    """The online network, the target network and the optimiser.

    Args:
        network: the network to train. It becomes the online network.
        recipe: how it is trained.
        precision: of both forward passes and the backward pass. bf16 computes with copies of the hidden layers;
            weights, membranes, Q-values, targets and the optimiser are float32 in both.
    """

    def __init__(self, network: QNetwork, recipe: Recipe, precision: Precision = "fp32"):
        if network.game.tier == "atari":
            # Convolutions and the neurons behind them are fastest with channels last. On MinAtar's small boards the
            # conversion to that layout and back takes longer than it saves.
            network.to(memory_format=torch.channels_last)
        if network.device.type == "cpu" and precision == "fp32":
            _visit_spikes_only(network.snn if isinstance(network, CommonMode) else network)
        self.online = network
        self.target = copy.deepcopy(network)
        self._weights, self._target_weights = FlatParameters(self.online), FlatParameters(self.target)
        # The networks that compute: the originals, or copies in half precision.
        self.working, self._working_target = self.online, self.target
        if precision == "bf16":
            self.working, self._working_target = half_copy(self.online), half_copy(self.target)
        self._trainable = trainable(self.working)
        self.updates = 0
        self._recipe = recipe
        self._on_gpu = network.device.type == "cuda"
        self._captured: Captured | None = None
        self._last: tuple[Tensor, Tensor] | None = (
            None  # Q-values of the last update's actions, and their targets
        )
        self._optimizer = make_optimizer(recipe, self._weights, capturable=self._on_gpu)

    def update(self, batch: Batch, updates: int = 1) -> Tensor:
        """One gradient step on each of so many equal parts of a batch, in turn.

        Returns:
            [2] loss and mean Q-value of the replayed actions, summed over updates.
        """
        size = len(batch.action_tm1) // updates
        whole = self._transitions(batch)
        step = self._step()
        target_interval_updates = self._recipe.target_interval_steps // self._recipe.train_interval_steps
        sums = torch.zeros(2, device=self.online.device)
        q_target_t, seen_from = None, 0
        for first in range(0, updates * size, size):
            if q_target_t is None:
                # The target network stays as it is until its next copy, so it sees all parts that are left at once.
                q_target_t, seen_from = self._target_q_values(whole.obs_t[first:], size), first
            part = slice(first, first + size)
            sums += step(
                *(values[part] for values in whole),
                q_target_t[first - seen_from : first - seen_from + size],
            )
            self.updates += 1
            if self.updates % target_interval_updates == 0:
                self._copy_to_target()
                q_target_t = None
        return sums

    def _transitions(self, batch: Batch) -> _Transitions:
        game, device = self.online.game, self.online.device
        return _Transitions(
            obs_tm1=network_input(batch.obs_tm1, game, device),
            action_tm1=torch.as_tensor(batch.action_tm1).to(device),
            reward_t=torch.as_tensor(batch.reward_t).to(device),
            discount_t=torch.as_tensor(batch.discount_t).to(device),
            obs_t=network_input(batch.obs_t, game, device),
        )

    def _step(self) -> Callable[..., Tensor]:
        """A gradient step: launched operation by operation on a CPU, as one CUDA graph on a GPU."""
        if not self._on_gpu:
            return self._gradient_step
        if self._captured is None:
            changed = [*self.tensors().values(), *self.working.parameters()]
            self._captured = Captured(self._gradient_step, changed)
        return self._captured

    @torch.no_grad()
    def _target_q_values(self, obs_t: Tensor, size: int) -> Tensor:
        """Q_target(obs_t) [B, A], a few observations at a time: spike trains must not fill the memory."""
        sim_steps = self.acting.spiking.sim_steps if isinstance(self.acting, DSQN) else 1
        at_once = max(size, TARGET_ROWS // sim_steps)
        few = (obs_t[first : first + at_once] for first in range(0, len(obs_t), at_once))
        return torch.cat([self._working_target(each) for each in few])

    def _gradient_step(
        self,
        obs_tm1: Tensor,
        action_tm1: Tensor,
        reward_t: Tensor,
        discount_t: Tensor,
        obs_t: Tensor,
        q_target_t: Tensor,
    ) -> Tensor:
        """One gradient step; [2] loss and mean Q-value of the replayed actions."""
        recipe = self._recipe
        with torch.no_grad():
            value_t = bootstrap_value(q_target_t, self.working(obs_t) if recipe.double else None)
        q_tm1 = self.working(obs_tm1)
        loss, q_action_tm1, target_tm1 = td_loss(
            q_tm1, action_tm1, reward_t, discount_t, value_t, recipe.loss
        )
        self._last = (q_action_tm1.detach(), target_tm1)
        found = gradients(loss, self._trainable)
        with torch.no_grad():
            self._weights.set_gradients(found)
            if recipe.gradient_clamp is not None:
                self._weights.gradient.clamp_(-recipe.gradient_clamp, recipe.gradient_clamp)
            self._optimizer.step()
            refresh(self.working, self.online)
            return torch.stack([loss, q_action_tm1.mean()])

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        self._target_weights.tensor.copy_(self._weights.tensor)
        refresh(self._working_target, self.target)

    def set_sim_steps(self, sim_steps: int) -> None:
        """Let all spiking networks run for so many simulation steps from now on."""
        for network in (self.online, self.target, self.working, self._working_target):
            for module in network.modules():
                if isinstance(module, DSQN):
                    module.spiking = replace(module.spiking, sim_steps=sim_steps)
        self._captured = None

    @property
    def acting(self) -> DQN | DSQN:
        """The network that plays during training: the copy that computes fastest."""
        return self.working.snn if isinstance(self.working, CommonMode) else self.working

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """Mean absolute TD error and norm of the gradient in the last update; empty without updates."""
        if self._last is None:
            return {}
        q_action_tm1, target_tm1 = self._last
        return {
            "td_error": float((target_tm1 - q_action_tm1).abs().mean()),
            "gradient_norm": float(self._weights.gradient.norm()),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an update changes, by name."""
        moments = self._optimizer.state[self._weights.tensor]
        return {"online": self._weights.tensor, "target": self._target_weights.tensor} | {
            f"optimizer.{name}": tensor for name, tensor in moments.items()
        }

    @property
    def strides(self) -> list[list[int]]:
        """How each parameter lies in memory. `tensors` follow this order."""
        return self._weights.strides

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], strides: list[list[int]], updates: int) -> None:
        """Continue from what `tensors` and `strides` returned after so many updates."""
        self.updates = updates
        for name, tensor in self.tensors().items():
            of_parameters = tensor.numel() == self._weights.tensor.numel()  # not a count of steps
            tensor.copy_(self._weights.relaid(tensors[name], strides) if of_parameters else tensors[name])
        refresh(self.working, self.online)
        refresh(self._working_target, self.target)
