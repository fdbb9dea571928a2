"""The replay: what is drawn is what was played, across wraps, episode ends and resumes."""

from pathlib import Path

import numpy as np
import pytest

from core.envs import Outcome, make_environments
from core.games import Game, get_game
from core.networks import RandomPlay
from evaluate.protocols import get_protocol
from evaluate.rollout import Rollout, Step
from train_direct.replay import Replay

GAME = Game("counter", "classic", (1,), 2)


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
        scores=np.zeros((1, 2)),
        actions=np.array([action]),
        outcome=outcome,
        ended=np.array([terminated or truncated]),
        activity=None,
        attack=None,
    )


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
        epsilon=lambda steps: 1.0,
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
    again.restore(state)
    assert drawn(again) == before
    again.add(step(40, 41))
    assert set(drawn(again)) == {(n, n + 1) for n in range(31, 41)}
