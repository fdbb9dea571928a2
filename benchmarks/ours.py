"""Contenders of this project, set up as its commands are (core/device.py)."""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks.peers import BATCH, BREAKOUT_DECISIONS, atari_batch
from core import seeding, spike_linear
from core.checkpoint import load_agent
from core.choices import Precision
from core.device import set_up_torch
from core.games import get_game
from core.networks import NETWORKS, Network
from play.episodes import play
from play.protocols import get_protocol
from train_direct.__main__ import Dqn
from train_direct.algorithm import Algorithm
from train_direct.learner import QLearner
from train_direct.ppo import PPO, critic_game
from train_direct.q_learning import QLearning
from train_direct.recipe import PPO_RECIPES, RECIPES, Recipe
from train_direct.replay import Batch
from train_direct.run import TrainingRun


def chen2022(sim_steps: int) -> Network:
    """Chen et al.'s network with a number of simulation steps."""
    network = NETWORKS["chen2022"]
    assert network.spiking is not None
    return replace(network, spiking=replace(network.spiking, sim_steps=sim_steps))


def as_sb3(recipe: Recipe) -> Recipe:
    """The recipe with the same work as Stable-Baselines3's DQN: one-step returns, no Double DQN, its exploration."""
    return replace(
        recipe,
        batch_size=BATCH,
        train_interval_steps=4,
        target_interval_steps=4000,
        double=False,
        n_step=1,
        epsilon_end=0.05,
        epsilon_decay_steps=1,
    )


def dsqn_update(sim_steps: int, precision: Precision) -> Callable[[], object]:
    """One update of Chen et al.'s network, on all threads."""
    set_up_torch(0)
    agent = chen2022(sim_steps).make(get_game("breakout"), seeding.torch_generator(0, "weights"))
    learner, batch = QLearner(agent, as_sb3(RECIPES["atari-fast"]), precision), Batch(*atari_batch())
    return lambda: learner.update(batch)


def breakout_training(precision: Precision, threads: int, folder: Path) -> Callable[[], object]:
    """Train the DQN on Atari Breakout, with the same work a decision as Stable-Baselines3's."""
    set_up_torch(threads)
    recipe = as_sb3(RECIPES["atari-fast"])
    return _training("breakout", NETWORKS["relu"], recipe, precision, folder, BREAKOUT_DECISIONS)


def minatar_training(
    sim_steps: int | None, decisions: int, folder: Path, sparse: bool = True
) -> Callable[[], object]:
    """Train the DQN (None) or Chen et al.'s DSQN on MinAtar Breakout, on one thread.

    Without `sparse`, the hidden layer's products are dense, as they were before core/spike_linear.py.
    """
    set_up_torch(1)
    if not sparse:
        spike_linear.BREAK_EVEN = -1.0
    network = chen2022(sim_steps) if sim_steps else NETWORKS["relu"]
    return _training("minatar/breakout", network, RECIPES["minatar-fast"], "fp32", folder, decisions)


def _training(
    game_name: str, network: Network, recipe: Recipe, precision: Precision, folder: Path, decisions: int
) -> Callable[[], object]:
    """Rounds of training after the warm-up.

    Args:
        game_name: the game.
        network: the network to train.
        recipe: how it is trained; with a short warm-up and a small replay.
        precision: of updates.
        folder: for the replay.
        decisions: decisions of a round.
    """
    game = get_game(game_name)
    recipe = replace(recipe, warmup_steps=1000, replay_capacity_steps=10_000)
    agent = network.make(game, seeding.torch_generator(0, "weights"))
    algorithm = QLearning(
        agent, game, recipe, 0, Path(tempfile.mkdtemp(dir=folder)), Dqn.checkpoint_interval_steps, precision
    )

    return _rounds(algorithm, 1400, decisions)


def _rounds(algorithm: Algorithm, before: int, decisions: int) -> Callable[[], object]:
    """Rounds of a number of decisions, after some decisions that are not counted."""

    def advance(decisions: int) -> None:
        until = algorithm.steps + decisions
        while algorithm.steps < until:
            algorithm.advance()

    advance(before)
    return lambda: advance(decisions)


def spiking_dqn(decisions: int, folder: Path) -> Callable[[], object]:
    """The tutorial's spiking DQN on CartPole, past its first update, on one thread."""
    set_up_torch(1)
    game = get_game("cartpole")
    agent = NETWORKS["tutorial"].make(game, seeding.torch_generator(0, "weights"))
    return _rounds(
        QLearning(agent, game, RECIPES["tutorial"], 0, folder, Dqn.checkpoint_interval_steps), 256, decisions
    )


def spiking_ppo(decisions: int) -> Callable[[], object]:
    """The tutorial's spiking PPO on CartPole, on one thread."""
    set_up_torch(1)
    game = get_game("cartpole")
    actor, critic = (
        NETWORKS["tutorial"].make_actor(whose, seeding.torch_generator(0, stream))
        for whose, stream in ((game, "weights"), (critic_game(game), "critic"))
    )
    return _rounds(PPO(actor, critic, game, PPO_RECIPES["tutorial-ppo"], 0), 0, decisions)


def checkpoint_cost(folder: Path) -> float:
    """Share of a Breakout run's time that is spent on states to resume from, between the first state and the third.

    The run has the defaults of the command, except for bf16. Training is faster with bf16, so the share is larger. The
    first state is taken where updates begin.
    """
    saves: list[tuple[float, float]] = []  # begin and end of each, in seconds
    save_state = TrainingRun._save_state

    def timed(self: TrainingRun) -> None:
        began = time.perf_counter()
        save_state(self)
        saves.append((began, time.perf_counter()))
        if len(saves) == 3:
            os.kill(os.getpid(), signal.SIGTERM)  # ends the run

    with mock.patch.object(TrainingRun, "_save_state", timed), contextlib.suppress(SystemExit):
        Dqn(game="breakout", out=folder / "checkpoints", precision="bf16").run()
    saving = sum(end - began for began, end in saves[1:3])
    return saving / (saves[2][1] - saves[0][1])


def pong_evaluation(agent: Path, episodes: int) -> float:
    """Frames a second of whole games of Pong, scored as `evaluate run` scores them."""
    set_up_torch(0)
    game = get_game("pong")
    network, protocol = load_agent(agent).agent, get_protocol("nature", game)
    start = time.perf_counter()
    frames = sum(
        played.length_frames
        for played in play(network, game, protocol, eval_seed=0, episodes=range(episodes))
    )
    return frames / (time.perf_counter() - start)
