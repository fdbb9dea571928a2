"""Scoring an agent: whole games, raw rewards, one row an episode."""

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from core import seeding
from core.agents import Agent, require_decidable
from core.checkpoint import Checkpoint
from core.games import Game
from core.manifest import library_versions
from core.records import to_json
from core.rows import EpisodeRow
from play.environments import environments_of, make_environments
from play.policies import exploring
from play.protocols import MAX_ENVS, Protocol
from play.rollout import Perturb, Rollout, Step

LIGHT_SIM_STEPS = 8
"""Simulation steps up to which one core decides about as fast as another core emulates (the Nature network)."""

EVALUATION = "evaluation"
"""The stream of episodes that are scored for reports."""


@dataclass
class Played:
    """The sums of one episode, kept while it is played."""

    episode: int
    """Index of the episode."""
    score: float = 0.0
    """Sum of raw rewards."""
    length_steps: int = 0
    """Decisions."""
    length_frames: int = 0
    """Emulator frames, no-op frames included."""
    truncated: bool = False
    """Whether the frame limit ended it."""
    max_q: float = -math.inf
    """Largest action score of any decision."""
    max_q_std: float = 0.0
    """Standard deviation over actions, at the decision of the largest score."""
    max_q_sum: float = 0.0
    """Sum over decisions of the largest score."""
    flips: float = 0.0
    """Decisions whose greedy action the attack changed."""
    attacked: int = 0
    """Decisions that were attacked."""
    zero_gradients: float = 0.0
    """Attacked decisions whose gradient was zero everywhere; NaN if the attack follows none."""
    largest_perturbation: float = 0.0
    """Largest change of an input, in the game's scale."""
    sim_steps: float = 0.0
    """Largest number of simulation steps of a decision."""
    sim_steps_sum: float = 0.0
    """Sum over decisions of simulation steps."""
    spikes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """[L] spikes of each layer, summed over decisions."""

    def add(self, step: Step, row: int) -> None:
        """Add one decision of a step, that of a row."""
        outcome = step.outcome
        self.score += float(outcome.rewards[row])
        self.length_steps += 1
        self.length_frames = int(outcome.episode_frames[row])
        self.truncated = bool(outcome.truncated[row])
        max_q = float(step.scores[row].max())
        self.max_q_sum += max_q
        if max_q > self.max_q:
            self.max_q, self.max_q_std = max_q, float(step.scores[row].std())
        if step.activity is not None:
            spikes = step.activity.spikes[row].double().numpy()
            self.spikes = spikes if self.spikes.size == 0 else self.spikes + spikes
            sim_steps = float(step.activity.sim_steps[row])
            self.sim_steps = max(self.sim_steps, sim_steps)
            self.sim_steps_sum += sim_steps
        if step.attack is not None:
            self.flips += float(step.attack.flipped[row])
            if step.attack.attacked[row]:
                self.attacked += 1
                self.zero_gradients += float(step.attack.zero_gradient[row])
            self.largest_perturbation = max(self.largest_perturbation, float(step.attack.largest[row]))


def play(
    agent: Agent,
    game: Game,
    protocol: Protocol,
    *,
    eval_seed: int,
    episodes: Sequence[int],
    num_envs: int = MAX_ENVS,
    perturb: Perturb | None = None,
    stream: str = EVALUATION,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Iterator[Played]:
    """Play episodes to their end, in the order in which they end.

    Args:
        agent: the agent that plays.
        game: the game that is played. It may be another game than the agent's own.
        protocol: how it is played, resolved for the game.
        eval_seed: with equal seeds, episode i begins the same for every agent.
        episodes: indices of the episodes.
        num_envs: number of episodes played side by side, at most.
        perturb: the attack, if any.
        stream: name of the purpose. Episodes of different streams have no start in common.
        on_step: called with every step.
    """
    # Emulators compute in the background, so the agent decides for one half of the games while the other half computes.
    # Under attack one large batch is better, because attacks take longer than emulators.
    require_playable(agent, game, len(episodes), num_envs)
    overlapping = environments_of(game).in_background and perturb is None
    halves = (episodes[::2], episodes[1::2]) if num_envs > 1 and overlapping else (episodes,)
    shares = [share for share in halves if share]
    with contextlib.ExitStack() as stack:
        if overlapping and agent.sim_steps <= LIGHT_SIM_STEPS:
            stack.enter_context(one_thread_less(agent.device))
        rollouts: list[Rollout] = []
        for number, share in enumerate(shares):
            envs = (num_envs + number) // len(shares)
            environments = make_environments(game, min(envs, len(share)), protocol.dynamics)
            stack.callback(environments.close)
            rollouts.append(
                Rollout(
                    environments,
                    agent,
                    episode_seed=lambda index: seeding.episode_seed(eval_seed, stream, index),
                    episodes=share,
                    policy=exploring(lambda steps: protocol.epsilon),
                    perturb=perturb,
                )
            )
        playing: dict[int, Played] = {}
        for step in in_turn(rollouts):
            on_step(step)
            for row, episode in enumerate(step.episodes.tolist()):
                played = playing.setdefault(episode, Played(episode))
                played.add(step, row)
                if step.ended[row]:
                    yield playing.pop(episode)


def require_playable(agent: Agent, game: Game, episodes: int, num_envs: int = MAX_ENVS) -> None:
    """Refuse an agent whose decisions in so many games side by side do not fit into memory."""
    side_by_side = min(num_envs, episodes)
    require_decidable(agent, -(-side_by_side // 2) if environments_of(game).in_background else side_by_side)


@contextlib.contextmanager
def one_thread_less(device: torch.device) -> Iterator[None]:
    """On the CPU, take one of torch's threads away in this context, if it has more than one.

    Torch's threads wait by spinning, which would keep emulators from the cores that they share.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_turn(rollouts: Sequence[Rollout]) -> Iterator[Step]:
    """Play rollouts in turn until all are over: the agent decides in one while the emulators of the others compute."""
    going = [rollout for rollout in rollouts if rollout.send()]
    while going:
        for rollout in tuple(going):
            step = rollout.receive()
            if not rollout.send():
                going.remove(rollout)
            yield step


def episode_row(
    played: Played,
    checkpoint: Checkpoint,
    game: Game,
    protocol: Protocol,
    eval_seed: int,
    stream: str = EVALUATION,
    variant: str = "",
    which: str = "",
) -> EpisodeRow:
    """The row of one episode.

    Args:
        played: the whole episode.
        checkpoint: the agent that played it.
        game: the game that was played.
        protocol: how it was played, resolved for the game.
        eval_seed: seed of the evaluation.
        stream: name of the episode's stream, see `play`.
        variant: the column `variant`; if empty, the method of a converted network.
        which: the column `checkpoint`: best or final weights of a training run, empty for others.
    """
    agent, decisions = checkpoint.agent, played.length_steps
    has_q_values = checkpoint.provenance["scores_are_q_values"]
    neurons = np.array(agent.neuron_counts)
    rates = played.spikes / (neurons * played.sim_steps_sum) if agent.neuron_counts else neurons
    return EpisodeRow(
        game=game.name,
        recipe_steps=checkpoint.provenance["recipe_steps"],
        protocol=protocol.name,
        settings=to_json(settings(game, protocol)),
        eval_seed=eval_seed,
        episode=played.episode,
        episode_seed=seeding.episode_seed(eval_seed, stream, played.episode),
        score=played.score,
        length_steps=decisions,
        length_frames=played.length_frames,
        truncated=played.truncated,
        max_q_mean=played.max_q_sum / decisions if has_q_values else math.nan,
        max_q=played.max_q if has_q_values else math.nan,
        max_q_std=played.max_q_std,
        sim_steps=int(played.sim_steps),
        spikes_per_decision=float(played.spikes.sum()) / decisions,
        layer_rates=to_json([round(float(rate), 8) for rate in rates]),
        mean_sim_steps=played.sim_steps_sum / decisions,
        checkpoint=which,
        **(checkpoint.columns | ({"variant": variant} if variant else {})),
    )


def settings(game: Game, protocol: Protocol) -> dict[str, object]:
    """All that decides what an episode is: the resolved protocol, the ROM and the versions of libraries."""
    return {
        "protocol": asdict(protocol),
        "rom_md5": rom_md5(game),
        "versions": library_versions(),
    }


@functools.cache
def rom_md5(game: Game) -> str:
    """MD5 of the game's ROM; empty for games that ALE does not play."""
    if game.tier != "atari":
        return ""
    from ale_py import roms

    if game.name not in roms.get_all_rom_ids():
        return ""
    return hashlib.md5(Path(str(roms.get_rom_path(game.name))).read_bytes()).hexdigest()
