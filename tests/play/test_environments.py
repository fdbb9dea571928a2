"""The environments against Gymnasium's reference wrappers, and the transition contract on real games."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from core.errors import Refusal
from core.games import GAMES
from play.environments import (
    Environments,
    Outcome,
    bounds,
    make_environments,
    network_input,
    require_in_bounds,
)
from play.libraries.ale import AtariEnvironments
from play.protocols import Dynamics

PLAIN = Dynamics(sticky_action_probability=0.0, max_episode_frames=108_000)
NO_OPS = replace(PLAIN, noop_max_frames=30, fire_on_reset=True)
STICKY = replace(PLAIN, sticky_action_probability=0.25)
CPU = torch.device("cpu")


@contextmanager
def opened(game: str, dynamics: Dynamics, num_envs: int = 1) -> Iterator[Environments]:
    environments = make_environments(GAMES[game], num_envs, dynamics)
    try:
        yield environments
    finally:
        environments.close()


def begin(environments: Environments, seed: int, slot: int = 0) -> np.ndarray:
    """The first observation of an episode begun in one slot."""
    mask = np.arange(environments.num_envs) == slot
    return environments.reset(mask, np.full(environments.num_envs, seed))[slot]


def one(action: int | np.integer) -> np.ndarray:
    return np.array([action], dtype=np.int64)


# Gymnasium's wrappers --------------------------------------------------------------------------------


def reference_environment(name: str) -> Any:
    """AtariPreprocessing and FrameStackObservation, set to what the vector environment does too."""
    gymnasium.register_envs(ale_py)
    camel = "".join(word.capitalize() for word in name.split("_"))
    plain = gymnasium.make(
        f"ALE/{camel}-v5",
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
        max_num_frames_per_episode=PLAIN.max_episode_frames,
    )
    skipped = AtariPreprocessing(plain, noop_max=0, frame_skip=4, terminal_on_life_loss=False)
    return FrameStackObservation(skipped, 4, padding_type="zero")


@pytest.mark.parametrize("name", ["pong", "breakout", "space_invaders"])
def test_play_is_bit_equal_to_gymnasiums_across_episode_ends(name: str) -> None:
    generator = np.random.default_rng(0)
    reference = reference_environment(name)
    decisions, ends, lives_lost = 0, 0, 0
    with opened(name, PLAIN) as environments:
        observation, info = reference.reset(seed=0)
        assert np.array_equal(begin(environments, 0), observation)
        while decisions < 1000 or ends == 0:
            action = int(generator.integers(environments.game.num_actions))
            lives = info["lives"]
            observation, reward, terminated, truncated, info = reference.step(action)
            outcome = environments.step(one(action))
            decisions += 1
            assert outcome.observations.dtype == np.uint8
            assert np.array_equal(outcome.observations[0], observation), decisions
            assert outcome.rewards[0] == reward, decisions
            assert (outcome.terminated[0], outcome.truncated[0]) == (terminated, truncated), decisions
            assert outcome.life_lost[0] == (info["lives"] < lives), decisions
            assert outcome.episode_frames[0] == info["episode_frame_number"], decisions
            lives_lost += int(outcome.life_lost[0])
            if terminated or truncated:
                ends += 1
                observation, info = reference.reset()
                assert np.array_equal(begin(environments, ends), observation), decisions
    reference.close()
    assert ends > 0
    assert lives_lost > 0 or name == "pong"  # which has no lives


# An episode is a function of its seed and its actions ------------------------------------------------


def row_of(outcome: Outcome, slot: int) -> list[Any]:
    return [np.asarray(values[slot]).tolist() for values in outcome[1:]]


def play(
    environments: Environments, seed: int, actions: np.ndarray
) -> tuple[list[np.ndarray], list[list[Any]]]:
    """One episode in one environment: its observations, and what else each decision led to."""
    observations, rows = [begin(environments, seed)], []
    for action in actions:
        outcome = environments.step(one(action))
        observations.append(outcome.observations[0])
        rows.append(row_of(outcome, 0))
        if outcome.terminated[0] or outcome.truncated[0]:
            break
    return observations, rows


@pytest.mark.parametrize(
    ("game", "dynamics"),
    [
        ("pong", replace(NO_OPS, max_episode_frames=240)),
        ("breakout", replace(STICKY, max_episode_frames=240)),
        ("minatar/asterix", replace(PLAIN, sticky_action_probability=0.1)),
        ("minatar/breakout", replace(PLAIN, sticky_action_probability=0.1)),
        ("minatar/freeway", replace(PLAIN, sticky_action_probability=0.1)),
        ("minatar/seaquest", replace(PLAIN, sticky_action_probability=0.1)),
        ("minatar/space_invaders", replace(PLAIN, sticky_action_probability=0.1)),
        ("cartpole", PLAIN),
    ],
)
def test_an_episode_depends_on_its_seed_and_actions_alone(game: str, dynamics: Dynamics) -> None:
    generator = np.random.default_rng(1)
    num_actions = GAMES[game].num_actions
    actions = generator.integers(num_actions, size=120)
    with opened(game, dynamics) as environments:
        observations, rows = play(environments, 77, actions)
    with opened(game, dynamics, num_envs=3) as environments:
        # Whole episodes and pieces of them have been played here before, this slot's too.
        environments.reset(np.ones(3, dtype=bool), np.array([5, 6, 7]))
        for _ in range(70 if environments.game.tier == "atari" else 300):
            outcome = environments.step(generator.integers(num_actions, size=3))
            ended = outcome.terminated | outcome.truncated
            if ended.any():
                environments.reset(ended, generator.integers(1000, size=3))
        assert np.array_equal(begin(environments, 77, slot=2), observations[0])
        for index, row in enumerate(rows):
            everyone = generator.integers(num_actions, size=3)
            everyone[2] = actions[index]
            outcome = environments.step(everyone)
            assert np.array_equal(outcome.observations[2], observations[index + 1]), index
            assert row_of(outcome, 2) == row, index
            ended = (outcome.terminated | outcome.truncated | (index == 10)) & [True, True, False]
            if ended.any():
                after = environments.reset(ended, generator.integers(1000, size=3))
                assert np.array_equal(after[~ended], outcome.observations[~ended])
    assert len(rows) > 5


@pytest.mark.parametrize(
    ("game", "dynamics"),
    [("breakout", NO_OPS), ("breakout", STICKY), ("minatar/asterix", PLAIN), ("cartpole", PLAIN)],
)
def test_other_seeds_give_other_episodes(game: str, dynamics: Dynamics) -> None:
    actions = np.random.default_rng(0).integers(GAMES[game].num_actions, size=40)
    with opened(game, dynamics) as environments:
        episodes = [np.array(play(environments, seed, actions)[0]).tobytes() for seed in range(3)]
    assert len(set(episodes)) >= 2  # two of them may draw equally many no-ops


@pytest.mark.parametrize("game", ["breakout", "minatar/asterix", "cartpole"])
def test_an_environment_whose_episode_ended_may_be_stepped_until_it_is_reset(game: str) -> None:
    # At the end of a rollout some environments have nothing left to play, and others go on.
    with opened(game, replace(PLAIN, max_episode_frames=200)) as environments:
        play(environments, 5, np.ones(200, dtype=np.int64))
        for _ in range(3):
            environments.step(one(1))
        begin(environments, 7)
        outcome = environments.step(one(1))
        assert outcome.episode_frames[0] == environments.game.frames_per_decision
        assert not outcome.terminated[0]


@pytest.mark.parametrize("game", ["breakout", "minatar/asterix", "cartpole"])
def test_observations_once_given_do_not_change(game: str) -> None:
    # The rollout keeps an outcome's observations while the environments go on.
    with opened(game, PLAIN) as environments:
        first = begin(environments, 3)
        copies = [first.copy()]
        given = [first]
        for _ in range(5):
            given.append(environments.step(one(1)).observations[0])
            copies.append(given[-1].copy())
    assert all(np.array_equal(a, b) for a, b in zip(given, copies, strict=True))
    assert not np.array_equal(copies[0], copies[-1])


@pytest.mark.parametrize("game", [name for name, game in GAMES.items() if game.tier != "atari"])
def test_observations_are_what_the_game_says(game: str) -> None:
    with opened(game, PLAIN, num_envs=2) as environments:
        observations = environments.reset(np.ones(2, dtype=bool), np.array([1, 2]))
        outcome = environments.step(np.zeros(2, dtype=np.int64))
    expected = np.float32 if game == "cartpole" else np.uint8
    for given in (observations, outcome.observations):
        assert given.shape == (2, *GAMES[game].observation_shape)
        assert given.dtype == expected
        require_in_bounds(network_input(given, GAMES[game], CPU), GAMES[game])
    assert [values.dtype for values in outcome[1:]] == [np.float64, bool, bool, bool, np.int64]


# Starts, rewards, lives, ends ------------------------------------------------------------------------


def test_no_op_starts_last_up_to_thirty_frames_and_one_for_fire() -> None:
    with opened("breakout", NO_OPS) as environments:
        frames = []
        for seed in range(6):
            begin(environments, seed)
            frames.append(int(environments.step(one(0)).episode_frames[0]) - 4)
    assert min(frames) >= 1
    assert max(frames) <= 31
    assert len(set(frames)) > 3


def test_rewards_are_not_clipped() -> None:
    with opened("space_invaders", PLAIN) as environments:
        begin(environments, 0)
        generator = np.random.default_rng(0)
        rewards = {float(environments.step(one(generator.integers(6))).rewards[0]) for _ in range(300)}
    assert rewards <= {0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 200.0}  # what invaders are worth
    assert max(rewards) > 5.0


def test_breakout_loses_its_five_lives_one_by_one_and_then_ends() -> None:
    generator = np.random.default_rng(0)
    with opened("breakout", NO_OPS) as environments:
        begin(environments, 0)
        lost, terminated = [], False
        while not terminated:
            outcome = environments.step(one(generator.integers(4)))
            lost.append(bool(outcome.life_lost[0]))
            terminated = bool(outcome.terminated[0])
            assert not terminated or sum(lost) == 5
    assert lost[-1]


@pytest.mark.parametrize("game", ["minatar/breakout", "cartpole"])
def test_a_game_of_one_life_loses_it_at_its_end(game: str) -> None:
    with opened(game, PLAIN) as environments:
        begin(environments, 0)
        generator = np.random.default_rng(0)
        for _ in range(2000):
            outcome = environments.step(one(generator.integers(2)))
            assert outcome.life_lost[0] == outcome.terminated[0]
            if outcome.terminated[0]:
                break
        assert outcome.terminated[0]


@pytest.mark.parametrize(
    ("game", "cap_frames", "decisions", "last_frames"),
    [
        ("pong", 102, 26, 102),  # the last decision is cut short: a decision lasts four frames
        ("minatar/freeway", 50, 50, 50),
        ("cartpole", 5, 5, 5),
    ],
)
def test_an_episode_is_truncated_at_its_cap(
    game: str, cap_frames: int, decisions: int, last_frames: int
) -> None:
    with opened(game, replace(PLAIN, max_episode_frames=cap_frames)) as environments:
        begin(environments, 0)
        for made in range(1, decisions + 1):
            outcome = environments.step(one(0))
            assert outcome.truncated[0] == (made == decisions)
            assert not outcome.terminated[0]
        assert outcome.episode_frames[0] == last_frames


def test_the_cap_counts_the_frames_that_the_agent_plays_and_not_the_start() -> None:
    with opened("pong", replace(NO_OPS, max_episode_frames=100)) as environments:
        starts = set()
        for seed in range(2, 4):
            begin(environments, seed)
            outcomes = [environments.step(one(0)) for _ in range(25)]
            starts.add(int(outcomes[0].episode_frames[0]) - 4)
            assert [bool(outcome.truncated[0]) for outcome in outcomes] == [False] * 24 + [True]
            assert outcomes[-1].episode_frames[0] - outcomes[0].episode_frames[0] == 96
    assert len(starts) > 1


def last_of_a_game(game: str, dynamics: Dynamics) -> Outcome:
    """How an episode of constant play ends."""
    with opened(game, dynamics) as environments:
        begin(environments, 3)
        while True:
            outcome = environments.step(one(1))
            if outcome.terminated[0] or outcome.truncated[0]:
                return outcome


@pytest.mark.parametrize("game", ["breakout", "minatar/breakout", "cartpole"])
def test_a_game_that_is_over_at_its_cap_is_terminated_and_not_truncated(game: str) -> None:
    natural = last_of_a_game(game, PLAIN)
    assert natural.terminated[0]
    capped = last_of_a_game(game, replace(PLAIN, max_episode_frames=int(natural.episode_frames[0])))
    assert capped.episode_frames[0] == natural.episode_frames[0]
    assert (capped.terminated[0], capped.truncated[0]) == (True, False)


# What a network sees ---------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensor", [False, True])
def test_pixels_are_divided_by_255_exactly_once(as_tensor: bool) -> None:
    frames = np.arange(2 * 4 * 84 * 84, dtype=np.uint32).astype(np.uint8).reshape(2, 4, 84, 84)
    given = network_input(torch.from_numpy(frames) if as_tensor else frames, GAMES["pong"], CPU)
    assert given.dtype == torch.float32
    assert given.max() == 1.0
    assert torch.equal(given, torch.from_numpy(frames.astype(np.float32) / np.float32(255)))


def test_planes_and_states_are_not_scaled() -> None:
    planes = np.random.default_rng(0).integers(2, size=(3, 4, 10, 10), dtype=np.uint8)
    state = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for observations, name in ((planes, "minatar/breakout"), (state, "cartpole")):
        given = network_input(observations, GAMES[name], CPU)
        assert given.dtype == torch.float32
        assert (given.numpy() == observations).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_frames_that_are_no_bytes_are_refused(dtype: type) -> None:
    # Most likely they were divided already.
    with pytest.raises(Refusal, match="uint8"):
        network_input(np.zeros((1, 4, 84, 84), dtype=dtype), GAMES["pong"], CPU)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("pong", (1, 84, 84, 4)),
        ("pong", (4, 84, 84)),
        ("minatar/seaquest", (1, 4, 10, 10)),
        ("cartpole", (4,)),
    ],
)
def test_observations_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(Refusal, match=f"given to {name}"):
        network_input(np.zeros(shape, dtype=np.uint8), GAMES[name], CPU)


def test_bounds_are_those_of_the_game_and_broadcast() -> None:
    low, high = bounds(GAMES["pong"], CPU)
    assert (low.tolist(), high.tolist()) == ([0.0], [1.0])
    low, high = bounds(GAMES["cartpole"], CPU)
    x = torch.tensor([[9.0, 1e9, -9.0, -1e9]])
    torch.testing.assert_close(x.clamp(low, high), torch.tensor([[4.8, 1e9, -0.41887903, -1e9]]))


@pytest.mark.parametrize("value", [-1e-6, 1.0001, 255.0, float("nan"), float("inf")])
def test_one_pixel_out_of_bounds_is_refused(value: float) -> None:
    x = torch.rand(2, 4, 10, 10, generator=torch.Generator().manual_seed(0))
    require_in_bounds(x, GAMES["minatar/breakout"])
    x[1, 2, 3, 4] = value
    with pytest.raises(Refusal, match=r"minatar/breakout: a network input of .* lies outside \[0\] to \[1\]"):
        require_in_bounds(x, GAMES["minatar/breakout"])


def test_bounds_of_a_state_are_each_elements_own() -> None:
    game = GAMES["cartpole"]
    require_in_bounds(torch.tensor([[4.8, 1e6, -0.4, -1e6]]), game)
    for state in ([4.9, 0.0, 0.0, 0.0], [0.0, 0.0, -0.5, 0.0]):
        with pytest.raises(Refusal, match="cartpole"):
            require_in_bounds(torch.tensor([state]), game)


# Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("game", "num_envs", "dynamics", "named"),
    [
        ("pong", 0, PLAIN, "num_envs is 0"),
        ("minatar/breakout", -1, PLAIN, "num_envs is -1"),
        ("cartpole", 1, replace(PLAIN, sticky_action_probability=0.1), "cartpole has no sticky actions"),
        ("cartpole", 1, NO_OPS, "cartpole"),
        ("minatar/breakout", 1, NO_OPS, "minatar/breakout"),
    ],
)
def test_settings_that_a_game_cannot_have_are_refused(
    game: str, num_envs: int, dynamics: Dynamics, named: str
) -> None:
    with pytest.raises(Refusal, match=named):
        make_environments(GAMES[game], num_envs, dynamics)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sticky_action_probability", 1.0),
        ("sticky_action_probability", -0.1),
        ("sticky_action_probability", float("nan")),
        ("max_episode_frames", 0),
        ("noop_max_frames", -1),
    ],
)
def test_dynamics_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=f"{name} of the dynamics is {value}: accepted is"):
        replace(PLAIN, **{name: value})  # type: ignore[arg-type]


def test_a_game_whose_actions_are_not_the_emulators_is_refused() -> None:
    environments = AtariEnvironments(replace(GAMES["pong"], num_actions=18), 1, PLAIN)
    with pytest.raises(Refusal, match="ALE offers 6 actions, SpikeQ expects 18"):
        environments.reset(np.array([True]), np.array([0]))
    environments.close()


@pytest.mark.parametrize("dynamics", [NO_OPS, replace(PLAIN, sticky_action_probability=0.25)])
def test_an_announced_episode_is_the_same(dynamics: Dynamics) -> None:
    # Announced, it begins on a spare emulator, which may have played before.
    def play(announced: bool) -> list[np.ndarray]:
        with opened("breakout", dynamics, 2) as environments:
            seen = [environments.reset(np.array([True, True]), np.array([1, 2]))]
            for seed in (7, 8, 9):
                if announced:
                    environments.prepare([seed])
                for action in (1, 2, 3, 2, 0, 3) * 5:
                    seen.append(environments.step(np.array([action, 3 - action % 3])).observations)
                seen.append(environments.reset(np.array([False, True]), np.array([0, seed])))
            return seen

    for one, other in zip(play(False), play(True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_announced_episode_that_never_begins_is_closed_too() -> None:
    before = len(os.listdir("/proc/self/task"))
    for _ in range(5):
        with opened("breakout", NO_OPS, 2) as environments:
            environments.prepare([7, 8])
    assert len(os.listdir("/proc/self/task")) <= before + 2


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own elsewhere")
def test_emulators_compute_at_the_lowest_priority_and_nobody_else_does() -> None:
    before = {int(thread) for thread in os.listdir("/proc/self/task")}
    with opened("pong", PLAIN, num_envs=2) as environments:
        environments.reset(np.array([True, True]), np.array([0, 1]))
        new = {int(thread) for thread in os.listdir("/proc/self/task")} - before
        assert len(new) >= 2
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in new} == {19}
        assert os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_an_episode_without_a_limit_is_never_cut() -> None:
    """Pushing the cart to where the pole falls, and a little to the middle, keeps it up."""
    game = GAMES["cartpole"]
    environments = make_environments(game, 1, Dynamics(0.0, None))
    [observation] = environments.reset(np.array([True]), np.array([0]))
    for decision in range(1, 1001):
        position, velocity, angle, spin = observation
        push = angle + 0.5 * spin + 0.05 * position + 0.1 * velocity > 0
        outcome = environments.step(np.array([int(push)]))
        [observation] = outcome.observations
        assert not outcome.terminated[0]
        assert not outcome.truncated[0]
        assert outcome.episode_frames[0] == decision
    with pytest.raises(Refusal, match="pong has no number of frames after which an episode is cut"):
        make_environments(GAMES["pong"], 1, Dynamics(0.0, None))
