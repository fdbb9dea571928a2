"""The only loop of the suite: an agent plays N environments, one decision in all of them at a time.

Training, evaluation, calibration and attacks consume this iterator. An attack is a hook between the observation and the
agent; nothing else changes when there is one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.agents import Activity, Agent
from core.errors import Refusal
from core.seeding import generator
from play.environments import Environments, Outcome, network_input, require_in_bounds, scale
from play.policies import Policy


class Perturbed(NamedTuple):
    """A batch of network inputs after an attack."""

    inputs: Tensor
    """[K, *observation] float32, within the game's bounds."""
    zero_gradient: np.ndarray
    """[K] float64: 1 where the gradient was zero everywhere, 0 where it was not, NaN where none was followed."""
    attacked: np.ndarray
    """[K] bool: which inputs were attacked."""


Perturb = Callable[[Tensor, Tensor, Sequence[np.random.Generator], Tensor], Perturbed]
"""An attack: a function of clean inputs [K, *observation], clean scores [K, A], K generators, and the perturbation of
each episode's previous decision [K, *observation], which is zero where an episode starts."""


class UnderAttack(NamedTuple):
    """What an attack did in one decision of K environments."""

    flipped: np.ndarray
    """[K] bool: whether the greedy action changed."""
    largest: np.ndarray
    """[K] float64: largest absolute change of an input, in the game's scale."""
    zero_gradient: np.ndarray
    """[K] float64: see `Perturbed`."""
    attacked: np.ndarray
    """[K] bool: see `Perturbed`."""
    inputs: Tensor
    """[K, *observation] float32: what the agent saw, on the agent's device."""
    clean_scores: Tensor
    """[K, A] float32: action scores of the clean inputs, on the agent's device."""


class Step(NamedTuple):
    """One decision of the K of N environments that are playing."""

    slots: np.ndarray
    """[K] int64: index of each environment among the N."""
    episodes: np.ndarray
    """[K] int64: index of the episode that each is playing."""
    starts: np.ndarray
    """[K] bool: whether this is the episode's first decision."""
    observations: np.ndarray
    """[K, *observation] as the environments gave them, before any attack."""
    carry: tuple[Tensor, ...] | None
    """[K, ...] each, on the agent's device: what the decisions began with, see `core.agents.Decision`."""
    scores: np.ndarray
    """[K, A] float32: action scores of what the agent saw."""
    actions: np.ndarray
    """[K] int64: the actions taken."""
    outcome: Outcome
    """What the actions led to, in the K environments only."""
    ended: np.ndarray
    """[K] bool: whether the episode is over, terminated or truncated."""
    activity: Activity | None
    """What the decisions cost a spiking agent; None without spikes."""
    attack: UnderAttack | None
    """What the attack did; None without one."""


@dataclass
class _Slot:
    """One environment's current episode, with all that is needed to play it again up to now."""

    episode: int
    seed: int
    actions: list[int]
    policy: np.random.Generator
    attack: np.random.Generator


class Rollout(Iterator[Step]):
    """Plays episodes on N environments until all are over.

    The episodes are fixed beforehand and all are finished, so short ones are not favoured. Each has its own seed and
    exploration, so neither the number of environments nor the order changes what happens in it.

    A decision can be taken in two halves, `send` and `receive`. Between them the environments compute, and the caller
    is free.

    Args:
        environments: the N environments.
        agent: the agent that plays, on the device of its weights.
        episode_seed: a function from an episode's index to its seed.
        episodes: indices of the episodes to play; None plays 0, 1, 2, ... without end.
        policy: chooses actions by the agent's scores (play/policies.py).
        perturb: the attack, if any.

    Raises:
        Refusal: the agent has other actions or observations than the game.
    """

    def __init__(
        self,
        environments: Environments,
        agent: Agent,
        *,
        episode_seed: Callable[[int], int],
        episodes: Sequence[int] | None,
        policy: Policy,
        perturb: Perturb | None = None,
    ):
        game = environments.game
        if (agent.game.num_actions, agent.game.observation_shape) != (
            game.num_actions,
            game.observation_shape,
        ):
            raise Refusal(
                f"an agent for {agent.game.name} cannot play {game.name}: other actions or observations"
            )
        self.steps = 0
        """Decisions so far, summed over environments."""
        self._environments = environments
        self._agent = agent
        self._device = agent.device
        self._episode_seed = episode_seed
        self._episodes = episodes
        self._policy = policy
        self._perturb = perturb
        self._next_episode = 0
        self._slots: list[_Slot | None] = [None] * environments.num_envs
        self._observations: np.ndarray | None = None
        self._carry: tuple[Tensor, ...] | None = None  # [N, ...] each
        self._sent: Callable[..., Step]
        self._added: Tensor | None = None  # [N, *observation], by the attack, at each one's last decision

    def __next__(self) -> Step:
        if not self.send():
            raise StopIteration
        return self.receive()

    def send(self) -> bool:
        """Decide, and let the environments begin that decision; False if all episodes are over."""
        self._begin_episodes()
        playing = self._playing()
        if len(playing) == 0 or self._observations is None:
            return False
        slots = [slot for slot in self._slots if slot is not None]
        observations = self._observations[playing]
        starts = np.array([not slot.actions for slot in slots])
        carry = self._carried(playing, starts)
        scores, activity, attack = self._decide(observations, slots, playing, starts, carry)
        actions = self._policy(scores, self.steps, [slot.policy for slot in slots])
        everyone = np.zeros(self._environments.num_envs, dtype=np.int64)
        everyone[playing] = actions
        self._environments.send(everyone)
        self._sent = partial(
            Step,
            slots=playing,
            episodes=np.array([slot.episode for slot in slots]),
            starts=starts,
            observations=observations,
            carry=carry,
            scores=scores,
            actions=actions,
            activity=activity,
            attack=attack,
        )
        for slot, action in zip(slots, actions.tolist(), strict=True):
            slot.actions.append(action)
        self.steps += len(playing)
        return True

    def receive(self) -> Step:
        """The decision that was sent, and its outcome."""
        playing = self._playing()
        outcome = self._environments.receive()
        self._observations = outcome.observations
        outcome = Outcome(*(values[playing] for values in outcome))
        ended = outcome.terminated | outcome.truncated
        for index in playing[ended]:
            self._slots[index] = None
        return self._sent(outcome=outcome, ended=ended)

    def _playing(self) -> np.ndarray:
        """[K] indices of the environments that have an episode to play."""
        return np.array([index for index, slot in enumerate(self._slots) if slot is not None], dtype=np.int64)

    def _begin_episodes(self) -> None:
        mask = np.zeros(self._environments.num_envs, dtype=bool)
        seeds = np.zeros(self._environments.num_envs, dtype=np.int64)
        for index, slot in enumerate(self._slots):
            if slot is None and (self._episodes is None or self._next_episode < len(self._episodes)):
                episode = self._index(self._next_episode)
                self._slots[index] = slot = self._new_slot(episode)
                mask[index], seeds[index] = True, slot.seed
                self._next_episode += 1
        if mask.any():
            self._observations = self._environments.reset(mask, seeds)
            if self._episodes is None or self._next_episode < len(self._episodes):
                self._environments.prepare([self._episode_seed(self._index(self._next_episode))])

    def _index(self, position: int) -> int:
        """Index of the episode at a position in the order of play."""
        return position if self._episodes is None else self._episodes[position]

    def _new_slot(self, episode: int) -> _Slot:
        seed = self._episode_seed(episode)
        return _Slot(episode, seed, [], generator(seed, "policy"), generator(seed, "attack"))

    def _carried(self, playing: np.ndarray, starts: np.ndarray) -> tuple[Tensor, ...] | None:
        """What the last decision of each playing episode left for its next one."""
        if self._carry is None:
            return None
        carry = tuple(kept[playing] for kept in self._carry)
        for kept in carry:
            kept[starts] = 0.0
        return carry

    def _decide(
        self,
        observations: np.ndarray,
        slots: Sequence[_Slot],
        playing: np.ndarray,
        starts: np.ndarray,
        carry: tuple[Tensor, ...] | None,
    ) -> tuple[np.ndarray, Activity | None, UnderAttack | None]:
        game = self._environments.game
        inputs = network_input(observations, game, self._device)
        attack = None
        if self._perturb is None:
            with torch.no_grad():
                decision = self._agent.decide(inputs, carry)
        else:
            with torch.no_grad():
                clean = self._agent.decide(inputs, carry).scores
            if self._added is None:
                self._added = inputs.new_zeros(self._environments.num_envs, *inputs.shape[1:])
            previous = self._added[playing]
            previous[starts] = 0.0
            perturbed = self._perturb(inputs, clean, [slot.attack for slot in slots], previous)
            require_in_bounds(perturbed.inputs, game)
            self._added[playing] = perturbed.inputs - inputs
            with torch.no_grad():
                decision = self._agent.decide(perturbed.inputs, carry)
            attack = UnderAttack(
                (decision.scores.argmax(1) != clean.argmax(1)).cpu().numpy(),
                (self._added[playing].abs() / scale(game, self._device))
                .flatten(1)
                .amax(1)
                .double()
                .cpu()
                .numpy(),
                perturbed.zero_gradient,
                perturbed.attacked,
                perturbed.inputs,
                clean,
            )
        if decision.carry is not None:
            if self._carry is None:
                envs = self._environments.num_envs
                self._carry = tuple(kept.new_zeros(envs, *kept.shape[1:]) for kept in decision.carry)
            for kept, new in zip(self._carry, decision.carry, strict=True):
                kept[playing] = new
        activity = decision.activity
        if activity is not None:
            activity = Activity(*(part.cpu() for part in activity))
        return decision.scores.cpu().numpy(), activity, attack

    def state(self) -> dict[str, Any]:
        """JSON-able values from which `restore` continues.

        It holds no state of attacks, nor what an agent carries from decision to decision.
        """
        return {
            "steps": self.steps,
            "next_episode": self._next_episode,
            "slots": [
                None
                if slot is None
                else {
                    "episode": slot.episode,
                    "actions": list(slot.actions),
                    "policy": slot.policy.bit_generator.state,
                }
                for slot in self._slots
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken, by playing each episode's actions again from its seed.

        Episodes have different lengths, and environments step together. So each episode begins when exactly its own
        number of decisions is left to replay.
        """
        self.steps, self._next_episode = state["steps"], state["next_episode"]
        for index, saved in enumerate(state["slots"]):
            self._slots[index] = slot = None if saved is None else self._new_slot(saved["episode"])
            if slot is not None:
                slot.actions = list(saved["actions"])
                slot.policy.bit_generator.state = saved["policy"]
        longest = max((len(slot.actions) for slot in self._slots if slot is not None), default=-1)
        for remaining in range(longest, -1, -1):
            mask = np.array([slot is not None and len(slot.actions) == remaining for slot in self._slots])
            if mask.any():
                seeds = np.array([0 if slot is None else slot.seed for slot in self._slots])
                self._observations = self._environments.reset(mask, seeds)
            if remaining > 0:
                actions = [
                    slot.actions[-remaining] if slot is not None and remaining <= len(slot.actions) else 0
                    for slot in self._slots
                ]
                self._observations = self._environments.step(np.array(actions)).observations
