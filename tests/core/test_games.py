"""Every game's entry against the emulator, and the names that users mistype."""

import math
import re
from typing import Any

import ale_py
import minatar
import numpy as np
import pytest
from ale_py import roms
from gymnasium.envs.classic_control import CartPoleEnv

from core.errors import Refusal
from core.games import FRAMES_PER_DECISION, GAMES, Game, Tier, get_game, reference

ATARI = [game for game in GAMES.values() if game.tier == "atari"]
MINATAR = [game for game in GAMES.values() if game.tier == "minatar"]
# As Liu et al. 2022 and Tan et al. 2021 write them.
PAPERS = (
    "Atlantis", "BeamRider", "Boxing", "Breakout", "CrazyClimber", "Gopher", "Jamesbond", "Kangaroo", "Krull",
    "NameThisGame", "Pong", "RoadRunner", "SpaceInvaders", "StarGunner", "Tennis", "Tutankham", "VideoPinball",
)  # fmt: skip


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_the_games_are_those_of_the_three_tiers() -> None:
    assert len(GAMES) == 23
    assert [game.name for game in ATARI] == [snake(name) for name in PAPERS]
    assert [game.name for game in MINATAR] == [
        f"minatar/{name}" for name in ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
    ]
    assert [game.name for game in GAMES.values() if game.tier == "control"] == ["cartpole"]
    assert all(name == game.name for name, game in GAMES.items())


@pytest.mark.parametrize("game", ATARI, ids=lambda game: game.name)
def test_an_atari_game_has_the_minimal_actions_of_its_rom(game: Game) -> None:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.loadROM(str(roms.get_rom_path(game.name)))
    assert game.num_actions == len(ale.getMinimalActionSet())
    assert game.observation_shape == (4, 84, 84)
    assert (game.low, game.high) == ((0.0,), (1.0,))


@pytest.mark.parametrize("game", MINATAR, ids=lambda game: game.name)
def test_a_minatar_game_has_the_actions_and_planes_of_its_environment(game: Game) -> None:
    environment = minatar.Environment(game.name.removeprefix("minatar/"))
    height, width, planes = environment.state_shape()
    assert game.num_actions == environment.num_actions()
    assert game.observation_shape == (planes, height, width)
    assert (game.low, game.high) == ((0.0,), (1.0,))


def test_cartpole_has_the_bounds_and_actions_of_its_environment() -> None:
    environment: Any = CartPoleEnv()
    game = GAMES["cartpole"]
    high = np.array([math.inf if value > 1e30 else value for value in environment.observation_space.high])
    np.testing.assert_allclose(game.high, high, rtol=1e-6)
    np.testing.assert_allclose(game.low, -high, rtol=1e-6)
    assert game.observation_shape == environment.observation_space.shape
    assert game.num_actions == environment.action_space.n


def test_a_decision_lasts_four_frames_on_atari_alone() -> None:
    assert FRAMES_PER_DECISION == {"control": 1, "minatar": 1, "atari": 4}
    assert {game.frames_per_decision for game in ATARI} == {4}


# Names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GAMES))
def test_a_game_is_found_by_its_name(name: str) -> None:
    assert get_game(name) is GAMES[name]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("brekout", "breakout"), ("asterix", "minatar/asterix"), ("CartPole-v1", "cartpole"), ("Pong", "pong")],
)
def test_a_mistyped_name_is_refused_with_the_nearest_game(typed: str, meant: str) -> None:
    with pytest.raises(Refusal, match=f"unknown game '{typed}': did you mean '{meant}'"):
        get_game(typed)


@pytest.mark.parametrize("pattern", ["{}-v4", "{}NoFrameskip-v4", "ALE/{}-v5"])
@pytest.mark.parametrize("name", PAPERS)
def test_an_environment_id_is_refused_with_its_game(name: str, pattern: str) -> None:
    with pytest.raises(Refusal, match=f"did you mean '{snake(name)}'"):
        get_game(pattern.format(name))


def test_a_name_like_no_game_is_refused_with_all_of_them() -> None:
    with pytest.raises(Refusal) as refusal:
        get_game("zzzz")
    assert all(name in str(refusal.value) for name in GAMES)
    assert "did you mean" not in str(refusal.value)


# References ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES.values(), ids=lambda game: game.name)
def test_every_game_has_a_random_score_with_its_source(game: Game) -> None:
    found = reference(game)
    assert found.random is not None
    assert math.isfinite(found.random)
    assert found.source


@pytest.mark.parametrize("game", ATARI, ids=lambda game: game.name)
def test_every_atari_game_has_a_human_score_above_random(game: Game) -> None:
    found = reference(game)
    assert found.random is not None
    assert found.human is not None
    assert found.human > found.random


@pytest.mark.parametrize("game", [*MINATAR, GAMES["cartpole"]], ids=lambda game: game.name)
def test_nobody_published_a_human_score_of_the_small_games(game: Game) -> None:
    assert reference(game).human is None


@pytest.mark.parametrize(
    ("name", "random", "human"),
    # Columns of the 57-game table (dqn_zoo/atari_data.py), not the Nature-2015 ones (Breakout: 31.8).
    [("breakout", 1.7, 30.5), ("pong", -20.7, 14.6), ("space_invaders", 148.0, 1668.7)],
)
def test_atari_references_are_those_of_the_57_game_table(name: str, random: float, human: float) -> None:
    found = reference(GAMES[name])
    assert (found.random, found.human) == (random, human)


@pytest.mark.parametrize("tier", ["control", "minatar", "atari"])
def test_a_game_of_an_extension_has_no_reference_scores(tier: Tier) -> None:
    found = reference(Game("mine", tier, (4, 84, 84), 3))
    assert (found.random, found.human) == (None, None)
