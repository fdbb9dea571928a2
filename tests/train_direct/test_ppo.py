"""PPO against arithmetic that fits on paper, and against its own equations written out without the class."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core import seeding
from core.checkpoint import load_agent
from core.dqn import Actor
from core.dsqn import SpikingActor
from core.games import get_game
from core.networks import NETWORKS
from core.records import read_rows
from core.rows import AttackRow, CurveRow, EpisodeRow, OperationsRow
from tests.conftest import Command
from train_direct.ppo import PPO, advantages, clipped_objective, critic_game, normalised
from train_direct.recipe import PPO_RECIPES, PpoRecipe

CARTPOLE = get_game("cartpole")
SMALL = replace(PPO_RECIPES["tutorial-ppo"], num_envs=2, rollout_steps=24, epochs=1, batch_size=48)


def test_advantages_by_hand_with_a_cut_and_an_end_inside() -> None:
    """Both environments meet the same; after their second decision the first is cut and the second's game is over."""
    two = np.ones(2)
    found = advantages(
        reward_t=np.array([1 * two, 1 * two, 1 * two]),
        value_tm1=np.array([2 * two, 3 * two, 4 * two]),
        value_t=np.array([3 * two, 10 * two, 5 * two]),
        terminated=np.array([[False, False], [False, True], [False, False]]),
        ended=np.array([[False, False], [True, True], [False, False]]),
        discount=0.9,
        trace_decay=0.5,
    )
    # delta: 1 + 0.9 * 3 - 2 = 1.7; 1 + 0.9 * 10 - 3 = 7 (cut: what followed has a value) or 1 - 3 = -2 (the end);
    # 1 + 0.9 * 5 - 4 = 1.5. The third decision is of another episode, so nothing of it reaches the second.
    np.testing.assert_allclose(found, [[1.7 + 0.45 * 7, 1.7 + 0.45 * -2], [7, -2], [1.5, 1.5]], rtol=1e-12)


def test_advantages_without_decay_are_returns_less_values() -> None:
    """Lambda 1: the sum of all deltas is the discounted return with the last value behind it."""
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(5, 1)), rng.normal(size=(6, 1))
    no = np.zeros((5, 1), dtype=bool)
    found = advantages(reward, value[:-1], value[1:], no, no, 0.9, 1.0)
    return_ = sum(0.9**t * reward[t] for t in range(5)) + 0.9**5 * value[5]
    np.testing.assert_allclose(found[0], return_ - value[0], rtol=1e-12)


def test_the_clipped_objective_by_hand() -> None:
    ratio, advantage = torch.tensor([1.5, 0.5, 0.5]), torch.tensor([2.0, -1.0, 2.0])
    # A good action that became likelier by more than 20 % gains nothing more, a bad one that became rarer neither; a
    # good one that became rarer counts in full.
    found = clipped_objective(ratio.requires_grad_(), advantage, 0.2)
    torch.testing.assert_close(found, torch.tensor([2.4, -0.8, 1.0]))
    (gradient,) = torch.autograd.grad(found.sum(), ratio)
    assert gradient.tolist() == [0.0, 0.0, 2.0]


def test_normalised_advantages_by_hand() -> None:
    torch.testing.assert_close(normalised(torch.tensor([1.0, 3.0, 5.0])), torch.tensor([-1.0, 0.0, 1.0]))


def ppo(network: str = "relu", recipe: PpoRecipe = SMALL, seed: int = 0) -> PPO:
    actor, critic = (
        NETWORKS[network].make_actor(whose, seeding.torch_generator(seed, stream))
        for whose, stream in ((CARTPOLE, "weights"), (critic_game(CARTPOLE), "critic"))
    )
    return PPO(actor, critic, CARTPOLE, recipe, seed)


CUT_STEPS = 7
SHORT = replace(
    SMALL,
    epochs=4,
    batch_size=16,
    learning_rate=0.02,  # large, so that policies move as far as clips and old probabilities matter
    dynamics=replace(SMALL.dynamics, max_episode_frames=CUT_STEPS),
)


class Met(NamedTuple):
    """[T, N, ...] what a game gives when the actions of a rollout are played again in it, by nothing of ours."""

    obs_tm1: np.ndarray
    obs_t: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray


def played_again(actions: np.ndarray, seed: int) -> Met:
    """Gymnasium's CartPole, one episode after the other in each of N games, cut after CUT_STEPS decisions."""
    from gymnasium.envs.classic_control import CartPoleEnv

    rows, games = actions.shape
    met = Met(np.zeros((rows, games, 4), np.float32), np.zeros((rows, games, 4), np.float32),
              np.zeros((rows, games), bool), np.zeros((rows, games), bool))  # fmt: skip
    poles, following, age = [CartPoleEnv() for _ in range(games)], [np.zeros(4)] * games, [0] * games
    episodes = itertools.count()
    for row in range(rows):
        for game, pole in enumerate(poles):
            if row == 0 or met.ended[row - 1, game]:
                own = seeding.episode_seed(seed, "training", next(episodes))
                following[game], age[game] = pole.reset(seed=own)[0], 0
        for game, pole in enumerate(poles):
            met.obs_tm1[row, game] = following[game]
            following[game], _, over, _, _ = pole.step(int(actions[row, game]))
            age[game] += 1
            met.obs_t[row, game], met.terminated[row, game] = following[game], over
            met.ended[row, game] = over or age[game] == CUT_STEPS
    return met


def test_a_rollout_is_learnt_from_as_the_equations_say() -> None:
    """Two epochs and more in shuffled parts, on games that are cut, by autograd and torch's own distribution and Adam;
    what was met is played again in Gymnasium's CartPole."""
    algorithm = ppo(recipe=SHORT)
    actor, critic = (nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, outputs)) for outputs in (2, 1))
    for theirs, ours in ((actor, algorithm.agent), (critic, algorithm._critic)):
        for parameter, own in zip(theirs.parameters(), ours.parameters(), strict=True):
            parameter.data.copy_(own.detach())
    for _ in range(SHORT.rollout_steps):
        algorithm.advance()
    assert algorithm.updates == 4 * 3
    actions = torch.from_numpy(algorithm._collected.action_tm1)
    met = played_again(actions.numpy(), seed=0)
    cut = met.ended & ~met.terminated
    assert cut.sum() > 3
    obs, following = (torch.from_numpy(each).flatten(0, 1) for each in (met.obs_tm1, met.obs_t))
    with torch.no_grad():
        value_tm1, value_t = (critic(each).view(actions.shape).double() for each in (obs, following))
        drawn = torch.distributions.Categorical(logits=actor(obs))
        old = drawn.log_prob(actions.flatten())
    assert 0.1 < (drawn.logits.argmax(1) != actions.flatten()).float().mean() < 0.9  # no greedy play
    advantage = torch.zeros(actions.shape, dtype=torch.double)
    for env in range(SHORT.num_envs):
        gae = 0.0
        for t in reversed(range(SHORT.rollout_steps)):
            goes_on = 1.0 - float(met.ended[t, env])
            worth = (1.0 - float(met.terminated[t, env])) * value_t[t, env]
            delta = 1.0 + SHORT.discount * worth - value_tm1[t, env]
            gae = delta + SHORT.discount * SHORT.trace_decay * goes_on * gae
            advantage[t, env] = gae
    returns = (advantage + value_tm1).flatten().float()
    advantage = advantage.flatten().float()
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=SHORT.learning_rate)
    shuffling = seeding.generator(0, "shuffling")
    losses, largest = [], 0.0
    for _ in range(SHORT.epochs):
        for part in torch.from_numpy(shuffling.permutation(len(old))).split(SHORT.batch_size):
            policy = torch.distributions.Categorical(logits=actor(obs[part]))
            ratio = (policy.log_prob(actions.flatten()[part]) - old[part]).exp()
            largest = max(largest, (ratio.detach() - 1).abs().max().item())
            own = advantage[part]
            scaled = (own - own.mean()) / own.std()
            loss = (
                0.5 * F.mse_loss(critic(obs[part]).squeeze(1), returns[part])
                - torch.min(ratio * scaled, ratio.clamp(0.8, 1.2) * scaled).mean()
                - 0.001 * policy.entropy().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert largest > 0.3  # the clip was at work
    for theirs, ours in ((actor, algorithm.agent), (critic, algorithm._critic)):
        for parameter, own in zip(theirs.parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(own, parameter, rtol=1e-3, atol=1e-4)
    assert algorithm.means().loss == pytest.approx(np.mean(losses), rel=1e-4)
    algorithm.close()


def test_a_rollout_of_the_recipe_makes_its_updates() -> None:
    algorithm = ppo(recipe=replace(SMALL, epochs=3, batch_size=16))
    counted = []
    for _ in range(2 * SMALL.rollout_steps):
        algorithm.advance()
        counted.append(algorithm.updates)
    assert counted == [0] * 23 + [9] * 24 + [18]  # 3 epochs of 48 decisions in parts of 16
    assert algorithm.steps == 2 * 48
    algorithm.close()


@pytest.mark.parametrize("network", ["relu", "tutorial"])
@pytest.mark.parametrize("decisions", [10, 24, 30])
def test_a_restored_run_goes_on_with_the_same_bits(network: str, decisions: int) -> None:
    """Also from the middle of a rollout."""
    unbroken = ppo(network, replace(SMALL, epochs=2, batch_size=16))
    for _ in range(decisions):
        unbroken.advance()
    tensors, values = unbroken.state()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    again = ppo(network, replace(SMALL, epochs=2, batch_size=16), seed=0)
    again.restore(kept, values)
    ended: Any = [[], []]
    for _ in range(30):
        for algorithm, scores in zip((unbroken, again), ended, strict=True):
            scores += algorithm.advance()
    assert ended[0] == ended[1] != []
    assert again.steps == unbroken.steps
    assert again.updates == unbroken.updates > 0
    ours, theirs = again.state()[0], unbroken.state()[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for algorithm in (unbroken, again):
        algorithm.close()


TINY: tuple[str | int, ...] = (
    *("--game", "cartpole", "--total-steps", 1600, "--eval-interval-steps", 800, "--eval-episodes", 2),
    *("--curve-interval-steps", 400, "--threads", 1),
)


@pytest.mark.parametrize(("verb", "kind"), [("ppo", Actor), ("spiking-ppo", SpikingActor)])
def test_the_actor_is_an_agent_like_any_other(
    verb: str, kind: type, tmp_path: Path, command: Command
) -> None:
    """It is trained, loaded, evaluated, attacked and probed; it is not converted, because its logits are no values."""
    run = tmp_path / "run"
    options = (
        ("--keep-episodes", 2, 5, "--sim-steps", 4) if verb == "spiking-ppo" else ("--keep-episodes", 2, 5)
    )
    trained = command("train_direct", verb, *TINY, *options, "--out", run)
    assert trained.code == 0, trained.err
    assert sorted(path.name for path in run.glob("*.safetensors")) == [
        "agent.safetensors",
        "best-episode.safetensors",
        "best.safetensors",
        "episodes-000002.safetensors",
        "episodes-000005.safetensors",
    ]
    curve = read_rows(run / "curve.parquet", CurveRow)
    assert [row.steps for row in curve] == [400, 800, 1200, 1600]
    assert all(np.isnan(row.epsilon) for row in curve)
    assert [row.updates for row in curve] == [0, 60, 120, 180]  # after 512, 1024 and 1536 decisions
    assert {row.recipe for row in curve} == {"tutorial-ppo"}
    checkpoint = load_agent(run / "best.safetensors")
    assert type(checkpoint.agent) is kind
    assert checkpoint.provenance["scores_are_q_values"] is False
    assert command("train_direct", verb, *TINY, *options, "--out", run).out.count("already done") == 1
    scores = command("evaluate", "run", "--agent", run, "--episodes", 2, "--out", tmp_path / "scores")
    assert scores.code == 0, scores.err
    rows = read_rows(tmp_path / "scores" / "episodes.parquet", EpisodeRow)
    assert {row.agent for row in rows} == {kind.kind}  # type: ignore[attr-defined]
    assert all(np.isnan(row.max_q_mean) for row in rows)
    agent = ("--agent", run / "best.safetensors")
    attacked = command(
        "adversarial", "run", *agent, "--attack", "fgsm", "--epsilon", 0, 0.01, "--episodes", 2,
        "--out", tmp_path / "attacks",
    )  # fmt: skip
    assert attacked.code == 0, attacked.err
    assert {row.epsilon for row in read_rows(tmp_path / "attacks" / "attacks.parquet", AttackRow)} == {
        0.0,
        0.01,
    }
    probed = command("evaluate", "probe", *agent, "--states", 40, "--out", tmp_path / "probe")
    assert probed.code == 0, probed.err
    operations = read_rows(tmp_path / "probe" / "operations.parquet", OperationsRow)
    assert [row.num_neurons for row in operations] == [32, 2]
    refused = command("convert", "run", *agent, "--out", tmp_path / "snn.safetensors")
    assert (refused.code, "only a dqn can be converted" in refused.err) == (2, True)


def test_what_ppo_cannot_run_is_refused(tmp_path: Path, command: Command) -> None:
    out = ("--out", tmp_path / "run")
    for arguments, words in (
        (
            ("ppo", "--game", "pong"),
            "no PPO recipe trains atari games, as pong is: accepted are control games",
        ),
        (("spiking-ppo", "--game", "cartpole", "--network", "relu"), "network 'relu' does not spike"),
        (("ppo", "--game", "cartpole", "--total-steps", 511), "total_steps is 511: no update would be made"),
        (
            ("ppo", "--game", "cartpole", "--keep-episodes", 0),
            "keep_episodes is 0: accepted is an integer from 1",
        ),
        (("ppo", "--game", "cartpole", "--max-episode-steps", 0), "max_episode_steps is 0"),
        (
            ("spiking-ppo", "--game", "cartpole", "--network", "liu2022-spike"),
            "'liu2022-spike' answers with rates from 0 to 1",
        ),
        (
            ("spiking-ppo", "--game", "cartpole", "--sim-steps", 10**9),
            "accepted is an integer from 1 to 10,000",
        ),
    ):
        refused = command("train_direct", *arguments, *out)
        assert refused.code == 2
        assert words in refused.err
    assert list(tmp_path.iterdir()) == []


def test_every_field_of_the_recipe_is_read() -> None:
    import ast
    from dataclasses import fields

    read: set[str] = set()
    for name in ("ppo", "start", "recipe"):
        tree = ast.parse((Path(__file__).parents[2] / "train_direct" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
                "recipe", "self.recipe", "self", "chosen.recipe"
            ):  # fmt: skip
                read.add(node.attr)
    assert {field.name for field in fields(PpoRecipe)} - read == set()
