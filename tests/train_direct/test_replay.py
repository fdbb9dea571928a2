"""The replay: what is drawn is what was played, across wraps, episode ends and resumes."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.agents import RandomPlay
from core.games import Game, get_game
from play.environments import Outcome, make_environments
from play.policies import exploring
from play.protocols import Dynamics, get_protocol
from play.rollout import Rollout, Step
from train_direct.replay import Replay

GAME = Game("counter", "control", (1,), 2)


def make_replay(folder: Path, game: Game = GAME, num_envs: int = 1, **options: object) -> Replay:
    settings = {
        "capacity_steps": 1000,
        "slack_steps": 100,
        "discount": 0.5,
        "clip_rewards": False,
        "life_loss_terminal": True,
        "truncation_terminal": False,
        **options,
    }
    return Replay(folder, game, num_envs, **settings)  # type: ignore[arg-type]


def step(
    before: float,
    after: float,
    *,
    action: int = 0,
    reward: float = 0.0,
    starts: bool = False,
    terminated: bool = False,
    truncated: bool = False,
    life_lost: bool = False,
) -> Step:
    """One decision of one environment whose observation is a number."""
    outcome = Outcome(
        np.array([[after]], dtype=np.float32),
        np.array([reward]),
        np.array([terminated]),
        np.array([truncated]),
        np.array([life_lost]),
        np.array([1]),
    )
    return Step(
        slots=np.array([0]),
        episodes=np.array([0]),
        starts=np.array([starts]),
        observations=np.array([[before]], dtype=np.float32),
        carry=None,
        scores=np.zeros((1, 2)),
        actions=np.array([action]),
        outcome=outcome,
        ended=np.array([terminated or truncated]),
        activity=None,
        attack=None,
    )


@pytest.mark.parametrize("num_actions", [256, 257, 1000])
def test_any_action_is_kept(num_actions: int, tmp_path: Path) -> None:
    replay = make_replay(tmp_path, replace(GAME, num_actions=num_actions))
    replay.add(step(1, 2, action=num_actions - 1, starts=True))
    replay.add(step(2, 3))
    assert drawn(replay)[1, 2][0] == num_actions - 1


def drawn(replay: Replay, draws: int = 400) -> dict[tuple[float, float], tuple[int, float, float]]:
    """(observation, next observation) -> (action, reward, discount) of all transitions found in many draws."""
    batch = replay.sample(draws, np.random.default_rng(0))
    return {
        (float(a), float(b)): (int(action), float(reward), float(discount))
        for a, b, action, reward, discount in zip(
            batch.obs_tm1[:, 0],
            batch.obs_t[:, 0],
            batch.action_tm1,
            batch.reward_t,
            batch.discount_t,
            strict=True,
        )
    }


def test_transitions_by_hand(tmp_path: Path) -> None:
    replay = make_replay(tmp_path)
    replay.add(step(0, 1, action=1, reward=3, starts=True))
    replay.add(step(1, 2, life_lost=True))
    replay.add(step(2, 3, truncated=True))
    replay.add(step(10, 11, starts=True, reward=-2, terminated=True))
    replay.add(step(20, 21, starts=True))
    assert drawn(replay) == {
        (0, 1): (1, 3, 0.5),
        (1, 2): (0, 0, 0),  # a lost life ends the return, not the episode: 2 follows 1
        (2, 3): (0, 0, 0.5),  # the time limit does not end it, and bootstraps from the last observation
        (10, 11): (0, -2, 0),  # nothing leads from 3 to 10 or from 11 to 20
        (20, 21): (0, 0, 0.5),
    }


def test_returns_over_three_decisions_by_hand(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, n_step=3)
    for number in range(3):
        replay.add(step(number, number + 1, starts=number == 0, action=number % 2, reward=4))
    replay.add(step(3, 4, reward=8, life_lost=True))
    replay.add(step(4, 5, reward=16, truncated=True))
    replay.add(step(10, 11, starts=True, reward=32))
    assert drawn(replay) == {
        (0, 3): (0, 4 + 2 + 1, 0.125),
        (1, 4): (1, 4 + 2 + 2, 0),  # the life is lost at the third decision, and its reward counts
        (2, 4): (0, 4 + 4, 0),
        (3, 4): (0, 8, 0),
        (4, 5): (0, 16, 0.5),  # nothing after the time limit is there to be added
        (10, 11): (0, 32, 0.5),  # nor is anything after the newest
    }


def stream(num_envs: int, decisions: int) -> list[Step]:
    """Play made by chance: each observation is a number of its own, an episode lasts some five decisions."""
    rng = np.random.default_rng(5)
    numbers = itertools.count(1)
    before, starts = np.zeros((num_envs, 1), dtype=np.float32), np.ones(num_envs, dtype=bool)
    steps = []
    for _ in range(decisions):
        before[starts, 0] = [next(numbers) for _ in range(starts.sum())]
        after = np.array([[next(numbers)] for _ in range(num_envs)], dtype=np.float32)
        terminated = rng.random(num_envs) < 0.1
        truncated = (rng.random(num_envs) < 0.1) & ~terminated
        steps.append(
            Step(
                slots=np.arange(num_envs),
                episodes=np.zeros(num_envs, dtype=np.int64),
                starts=starts,
                observations=before.copy(),
                carry=None,
                scores=np.zeros((num_envs, 2)),
                actions=rng.integers(2, size=num_envs),
                outcome=Outcome(
                    after,
                    rng.integers(-4, 5, size=num_envs).astype(float),
                    terminated,
                    truncated,
                    terminated | (rng.random(num_envs) < 0.1),
                    np.ones(num_envs, dtype=np.int64),
                ),
                ended=terminated | truncated,
                activity=None,
                attack=None,
            )
        )
        before, starts = after, terminated | truncated
    return steps


def returns_of(
    steps: list[Step], env: int, n_step: int, life_loss_terminal: bool, truncation_terminal: bool
) -> dict[tuple[float, float], tuple[int, float, float]]:
    """What `drawn` is to find of one environment, straight from the definition of the return."""
    found = {}
    for first in range(len(steps)):
        total, discount = 0.0, 1.0
        for made in steps[first : first + n_step]:
            outcome = made.outcome
            total += discount * outcome.rewards[env]
            discount *= 0.5
            last = float(outcome.observations[env, 0])
            terminal = (
                outcome.terminated[env]
                or (life_loss_terminal and outcome.life_lost[env])
                or (truncation_terminal and outcome.truncated[env])
            )
            if terminal:
                discount = 0.0
            if terminal or made.ended[env]:
                break
        start = float(steps[first].observations[env, 0])
        found[start, last] = (int(steps[first].actions[env]), total, discount)
    return found


@pytest.mark.parametrize("n_step", [1, 2, 5, 40])
@pytest.mark.parametrize(("life_loss_terminal", "truncation_terminal"), [(True, False), (False, True)])
def test_returns_are_those_of_the_recorded_play(
    n_step: int, life_loss_terminal: bool, truncation_terminal: bool, tmp_path: Path
) -> None:
    """Three environments, at first, when the ring is full, and when it went round five times."""
    ends = {"life_loss_terminal": life_loss_terminal, "truncation_terminal": truncation_terminal}
    replay = make_replay(
        tmp_path, num_envs=3, capacity_steps=60, slack_steps=6, discount=0.5, n_step=n_step, **ends
    )
    steps = stream(3, 130)
    for count, made in enumerate(steps, 1):
        replay.add(made)
        if count in (1, 2, 25, 129, 130):
            found, played = (
                drawn(replay, 1500),
                [returns_of(steps[:count], env, n_step, **ends) for env in range(3)],
            )
            assert (
                found.items() <= {key: value for returns in played for key, value in returns.items()}.items()
            )
            for returns in played:  # 20 rows each, of which some end an episode
                assert set(list(returns)[-10:]) <= set(found)


def test_what_ends_a_return_is_the_recipes_choice(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, life_loss_terminal=False, truncation_terminal=True)
    replay.add(step(0, 1, starts=True, life_lost=True))
    replay.add(step(1, 2, truncated=True))
    assert drawn(replay) == {(0, 1): (0, 0, 0.5), (1, 2): (0, 0, 0)}


def test_clipped_rewards_are_signs(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, clip_rewards=True)
    replay.add(step(0, 1, starts=True, reward=-7))
    assert drawn(replay)[0, 1][1] == -1


def test_only_the_last_capacity_is_drawn_across_the_wrap(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, capacity_steps=10, slack_steps=3)
    for number in range(200):
        replay.add(step(number, number + 1, starts=number == 0))
        assert set(drawn(replay)) == {(n, n + 1) for n in range(max(0, number - 9), number + 1)}


def test_draws_are_uniform(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, capacity_steps=10)
    for number in range(25):
        replay.add(step(number, number + 1, starts=number == 0))
    counts = np.bincount(
        replay.sample(20_000, np.random.default_rng(0)).obs_tm1[:, 0].astype(int), minlength=25
    )
    assert (counts[:15] == 0).all()
    # 2,000 expected each, standard deviation 42.
    assert (np.abs(counts[15:] - 2000) < 200).all()


@pytest.mark.parametrize("name", ["pong", "breakout", "minatar/seaquest"])
def test_observations_are_those_that_were_played(name: str, tmp_path: Path) -> None:
    """Stacks put together from single frames equal the environment's own, also just after a start."""
    game = get_game(name)
    environments = make_environments(game, 3, get_protocol(None, game).dynamics)
    replay = make_replay(tmp_path, game, 3, capacity_steps=600)
    rollout = Rollout(
        environments,
        RandomPlay(game),
        episode_seed=lambda index: index,
        episodes=None,
        policy=exploring(lambda steps: 1.0),
    )
    played: set[tuple[bytes, bytes, int, float]] = set()
    for _ in range(250):
        made = next(rollout)
        replay.add(made)
        for row in range(3):
            before, after = made.observations[row], made.outcome.observations[row]
            played.add(
                (before.tobytes(), after.tobytes(), int(made.actions[row]), float(made.outcome.rewards[row]))
            )
    batch = replay.sample(300, np.random.default_rng(0))
    for row in range(300):
        transition = (batch.obs_tm1[row].tobytes(), batch.obs_t[row].tobytes())
        assert (*transition, int(batch.action_tm1[row]), float(batch.reward_t[row])) in played


def test_a_frame_stands_once(tmp_path: Path) -> None:
    make_replay(tmp_path, get_game("pong"), 4, capacity_steps=10_000, slack_steps=400)
    size = (tmp_path / "frames").stat().st_size
    assert size / (84 * 84) == pytest.approx(10_400, rel=0.01)


def test_restore_forgets_what_came_after_the_state(tmp_path: Path) -> None:
    replay = make_replay(tmp_path, capacity_steps=10, slack_steps=30)
    for number in range(40):
        replay.add(step(number, number + 1, starts=number == 0))
    state, before = replay.state(), drawn(replay)
    for number in range(40, 70):  # as much as the slack allows
        replay.add(step(number, -number))
    again = make_replay(tmp_path, capacity_steps=10, slack_steps=30)  # another process on the same files
    again.restore(*state)
    assert drawn(again) == before
    again.add(step(40, 41))
    assert set(drawn(again)) == {(n, n + 1) for n in range(31, 41)}


PLAYED = {
    "breakout": Dynamics(0.0, 80, fire_on_reset=True),  # ends after 20 decisions
    "minatar/breakout": Dynamics(0.1, 1000),
}


def assert_equal_batches(ours: Replay, theirs: Replay) -> None:
    one, other = (replay.sample(300, np.random.default_rng(0)) for replay in (ours, theirs))
    for name, values in one._asdict().items():
        found = values.cpu() if isinstance(values, torch.Tensor) else values
        assert np.array_equal(np.asarray(found), getattr(other, name)), name


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")],
        ),
    ],
)
@pytest.mark.parametrize("name", list(PLAYED))
def test_a_mirror_gives_the_same_batches_as_the_files(name: str, device: str, tmp_path: Path) -> None:
    """Before and after the ring went round, and in another process that goes on from a state."""
    game, mirror = get_game(name), torch.device(device)
    sizes = {"capacity_steps": 60, "slack_steps": 30, "n_step": 3}
    plain = make_replay(tmp_path / "plain", game, 2, **sizes)
    mirrored = make_replay(tmp_path / "mirrored", game, 2, **sizes, mirror=mirror)
    environments = make_environments(game, 2, PLAYED[name])
    rollout = Rollout(
        environments,
        RandomPlay(game),
        episode_seed=lambda index: index,
        episodes=None,
        policy=exploring(lambda steps: 1.0),
    )

    def play(decisions: int, *replays: Replay) -> None:
        for made in itertools.islice(rollout, decisions):
            for replay in replays:
                replay.add(made)

    for decisions in (10, 15, 100):
        play(decisions, plain, mirrored)
        assert isinstance(mirrored.sample(1, np.random.default_rng(0)).obs_t, torch.Tensor)
        assert_equal_batches(mirrored, plain)
    checksums, values = plain.state()
    state = checksums.clone(), json.loads(json.dumps(values))
    play(10, mirrored)  # is lost with the process
    again = make_replay(tmp_path / "mirrored", game, 2, **sizes, mirror=mirror)
    again.restore(*state)
    assert_equal_batches(again, plain)
    play(10, plain, again)
    assert_equal_batches(again, plain)
    environments.close()


def test_frames_from_before_an_episode_are_zero_in_a_mirror_too(tmp_path: Path) -> None:
    game = get_game("pong")
    replay = make_replay(tmp_path, game, mirror=torch.device("cpu"))
    seen = np.full((1, 4, 84, 84), 9, dtype=np.uint8)
    for starts in (True, False, True):  # the last one starts in the middle of the ring
        made = step(0, 0, starts=starts, truncated=not starts)
        outcome = made.outcome._replace(observations=seen)
        replay.add(made._replace(observations=seen, outcome=outcome))
    frames = np.asarray(replay.sample(100, np.random.default_rng(0)).obs_tm1)[:, :, 0, 0]
    assert {tuple(stack) for stack in frames.tolist()} == {(0, 0, 0, 9), (0, 0, 9, 9)}
