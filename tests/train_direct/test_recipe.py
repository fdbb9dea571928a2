"""Every field of every recipe: reached by --set, refused out of range, and told in the name that rows carry.

Cases are made from the dataclasses, so that a new field or recipe is covered without a change here.
"""

import typing
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import pytest
import tyro

from core import ranges
from core.errors import Refusal
from core.games import GAMES, Game, get_game
from core.records import read_rows
from core.rows import CurveRow
from play.protocols import Dynamics
from tests.conftest import Command
from train_direct.__main__ import Dqn, Dsqn, Ppo, SpikingPpo
from train_direct.options import RunOptions
from train_direct.recipe import (
    IDENTITY,
    PPO_RECIPES,
    RECIPES,
    UNLABELLED,
    BaseRecipe,
    PpoRecipe,
    Recipe,
    get_ppo_recipe,
    get_recipe,
)

ALL: tuple[BaseRecipe, ...] = (*RECIPES.values(), *PPO_RECIPES.values())
VERBS: dict[type[BaseRecipe], tuple[type[RunOptions], ...]] = {
    Recipe: (Dqn, Dsqn),
    PpoRecipe: (Ppo, SpikingPpo),
}


def settable(recipe: type[BaseRecipe]) -> list[str]:
    """Fields that --set reaches, those of the dynamics by dotted name."""
    own = [field.name for field in fields(recipe) if field.name not in (*IDENTITY, "dynamics")]
    return own + [f"dynamics.{field.name}" for field in fields(Dynamics)]


def hint(recipe: type[BaseRecipe], name: str) -> Any:
    first, _, rest = name.partition(".")
    hints = typing.get_type_hints(Dynamics if rest else recipe)
    return hints[rest or first]


def accepted(recipe: type[BaseRecipe]) -> dict[str, ranges.Range]:
    """The range of each number of a recipe, those of its dynamics by dotted name."""
    own = {name: each.range for name, each in ranges.ranges(recipe).items()}
    return own | {f"dynamics.{name}": each.range for name, each in ranges.ranges(Dynamics).items()}


def kinds(of: Any) -> tuple[Any, ...]:
    """The types that a hint allows."""
    return (of,) if typing.get_origin(of) is Literal or not typing.get_args(of) else typing.get_args(of)


def is_number(of: Any) -> bool:
    return int in kinds(of) or float in kinds(of)


CASES = [(recipe, name) for recipe in ALL for name in settable(type(recipe))]
NUMBERS = [(recipe, name) for recipe, name in CASES if is_number(hint(type(recipe), name))]


def named(case: object) -> str:
    return case.name if isinstance(case, BaseRecipe) else str(case)


def game_of(recipe: BaseRecipe) -> Game:
    return next(game for game in GAMES.values() if game.tier == recipe.tier)


def asked(verb: type[RunOptions], recipe: BaseRecipe, *words: object) -> RunOptions:
    """Options as a command line gives them."""
    game = ("--game", game_of(recipe).name, "--recipe", recipe.name, "--out", "run")
    return tyro.cli(verb, args=[*map(str, (*game, *words))])


def setting(verb: type[RunOptions], *settings: str) -> RunOptions:
    """The same with nothing but --set, made without a command line, which takes longer than all else here."""
    return verb(game="", out=Path(), set=[list(settings)])


def with_value(recipe: BaseRecipe, name: str, value: Any) -> BaseRecipe:
    """The recipe with one other value, by nothing of the command line's."""
    first, _, rest = name.partition(".")
    changes: dict[str, Any] = {first: replace(recipe.dynamics, **{rest: value}) if rest else value}
    return replace(recipe, **changes)


def other_value(recipe: BaseRecipe, name: str) -> Any:
    """A value that the recipe accepts and does not have."""
    of, now = hint(type(recipe), name), recipe.value(name)
    candidates: list[Any] = []
    for kind in kinds(of):
        if kind is bool:
            candidates.append(not now)
        elif typing.get_origin(kind) is Literal:
            candidates += typing.get_args(kind)
        elif kind in (int, float):
            within = accepted(type(recipe))[name]
            near = [2 * now, now // 2 if kind is int else now / 2] if now else []
            candidates += [
                kind(number)
                for number in (*near, within.least, within.least + 1, within.most / 2, within.most)
                if within.has(kind(number))
            ]
        elif kind is NoneType:
            candidates.append(None)
    for candidate in candidates:
        try:
            if candidate != now and with_value(recipe, name, candidate):
                return candidate
        except Refusal:
            continue
    raise AssertionError(f"{recipe.name} accepts no other {name}")


# What --set reaches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "name"), CASES, ids=named)
def test_set_reaches_every_field_of_every_recipe_and_nothing_else(recipe: BaseRecipe, name: str) -> None:
    value = other_value(recipe, name)
    for verb in VERBS[type(recipe)]:
        chosen = setting(verb, f"{name}={value}").choose(recipe, game_of(recipe))
        assert chosen.recipe == with_value(recipe, name, value)
        assert chosen.recipe.value(name) == value != recipe.value(name)
        assert type(chosen.recipe.value(name)) is type(value)
        assert chosen.named == recipe
        told = chosen.label.removeprefix(recipe.name)
        assert told.count("+") == (name not in UNLABELLED)  # readers of rows part names at "+"


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_changes_of_different_fields_have_different_names(recipe: BaseRecipe) -> None:
    verb, game = VERBS[type(recipe)][0], game_of(recipe)
    told = [name for name in settable(type(recipe)) if name not in UNLABELLED]
    labels = {
        setting(verb, f"{name}={other_value(recipe, name)}").choose(recipe, game).label for name in told
    }
    assert len(labels) == len(told)


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_a_field_set_to_the_recipes_own_value_changes_nothing(recipe: BaseRecipe) -> None:
    words = [f"{name}={recipe.value(name)}" for name in settable(type(recipe))]
    for verb in VERBS[type(recipe)]:
        chosen = asked(verb, recipe, "--set", *words).choose(recipe, game_of(recipe))
        assert (chosen.recipe, chosen.label) == (recipe, recipe.name)


# What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe, PpoRecipe])
def test_every_number_of_a_recipe_has_a_range_and_nothing_else_has_one(recipe: type[BaseRecipe]) -> None:
    assert set(accepted(recipe)) == {name for name in settable(recipe) if is_number(hint(recipe, name))}


@pytest.mark.parametrize(("recipe", "name"), NUMBERS, ids=named)
def test_numbers_out_of_range_are_refused_in_one_line(recipe: BaseRecipe, name: str) -> None:
    within = accepted(type(recipe))[name]
    [verb, *_] = VERBS[type(recipe)]
    beyond: tuple[object, ...] = (
        within.least - 1,
        2 * within.most + 1,
        10**16,
        -1,
        "nan",
        "inf",
        "-inf",
        "many",
        "",
        "1/0",
    )
    for value in beyond:
        options = setting(verb, f"{name}={value}")
        with pytest.raises(Refusal) as refused:
            options.choose(recipe, game_of(recipe))
        message = str(refused.value)
        assert name.removeprefix("dynamics.") in message
        assert "accepted" in message
        assert "\n" not in message
        if isinstance(value, (int, float)):  # and not by the command line alone
            with pytest.raises(Refusal):
                with_value(
                    recipe, name, int(value) if int in kinds(hint(type(recipe), name)) else float(value)
                )
    for number in (float("nan"), float("inf"), "1", True):
        with pytest.raises(Refusal, match=name.removeprefix("dynamics.")):
            with_value(recipe, name, number)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("learning_rat=1", ("'learning_rat'", "did you mean 'learning_rate'?")),
        ("dynamics.sticky=0.1", ("'sticky'", "sticky_action_probability")),
        ("learning_rate", ("'learning_rate'", "field=value is needed")),
        ("optimizer=sgd", ("'sgd'", "adam, rmsprop-centred")),
        ("loss=mae", ("'mae'", "huber, mse")),
        ("clip_rewards=yes", ("'yes'", "True or False")),
        ("batch_size=1.5", ("'1.5'", "an integer")),
        ("batch_size=1000000000000", ("batch_size is 1000000000000", "to 65,536")),
        ("learning_rate=nan", ("'nan'", "a finite number")),
        ("discount=1.01", ("discount is 1.01", "to 1")),
        ("name=mine", ("name of recipe minatar-fast cannot be set", "accepted are total_steps")),
        ("tier=atari", ("tier of recipe minatar-fast cannot be set",)),
        ("replay_capacity_steps=31", ("replay_capacity_steps is 31: at least 32 is needed",)),
        ("warmup_steps=15", ("warmup_steps is 15: at least 16 is needed",)),
        ("target_interval_steps=3", ("target_interval_steps is 3: at least 4 is needed",)),
    ],
)
def test_what_a_recipe_does_not_accept(
    setting: str, words: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    options = ("--game", "minatar/breakout", "--set", setting, "--out", tmp_path / "run")
    for verb in ("dqn", "dsqn"):
        refused = command("train_direct", verb, *options)
        assert refused.code == 2
        assert len(refused.err.splitlines()) == 1
        for word in words:
            assert word in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n-step", 3, "--set", "n_step=5"), "n_step is 5 by --set, --n-step is 3: give one of them"),
        (("--replay-steps", 50, "--set", "replay_capacity_steps=60"), "replay_capacity_steps is 60 by --set"),
        (("--max-episode-steps", "unlimited", "--set", "dynamics.max_episode_frames=60"), "give one of them"),
        (("--set", "n_step=5", "n_step=3"), "n_step is given twice"),
        (("--set", "n_step=5", "--set", "n_step=3"), "n_step is given twice"),
    ],
)
def test_two_values_for_one_field_are_refused(words: tuple[object, ...], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        asked(Dqn, RECIPES["minatar-fast"], *words).choose(
            RECIPES["minatar-fast"], get_game("minatar/breakout")
        )


@pytest.mark.parametrize("batch_size", [1, 255, 1024])
def test_parts_that_do_not_make_a_rollout_are_refused(batch_size: int) -> None:
    with pytest.raises(Refusal, match=f"batch_size is {batch_size}"):
        replace(PPO_RECIPES["tutorial-ppo"], batch_size=batch_size)


# The name in rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_an_option_and_its_setting_have_one_name_in_rows(recipe: BaseRecipe) -> None:
    game = game_of(recipe)
    for verb in VERBS[type(recipe)]:
        for name, option in verb.options_by_field.items():
            value = other_value(recipe, name)
            given: object = value
            if option == "max_episode_steps":
                value -= value % game.frames_per_decision
                given = value // game.frames_per_decision
            word, setting = f"--{option.replace('_', '-')}", f"{name}={value}"
            found = [
                asked(verb, recipe, *words).choose(recipe, game)
                for words in ((word, given), ("--set", setting), (word, given, "--set", setting))
            ]
            assert found[0] == found[1] == found[2]
            assert found[0].recipe.value(name) == value


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("--set learning_rate=1e-3 batch_size=64", "minatar-fast+learning_rate=0.001+batch_size=64"),
        ("--set batch_size=64 --set learning_rate=1/1000", "minatar-fast+learning_rate=0.001+batch_size=64"),
        ("--double --n-step 3", "minatar-fast+double=True+n_step=3"),
        ("--set n_step=3 double=True", "minatar-fast+double=True+n_step=3"),
        ("--n-step 3 --set double=True --precision bf16", "minatar-fast+double=True+n_step=3+bf16"),
        ("--set total_steps=9000 eval_interval_steps=100 eval_episodes=3", "minatar-fast"),
        (
            "--warmup-steps 200 --replay-steps 500 --num-envs 4 --life-loss-terminal False --max-episode-steps 9 "
            "--sticky-action-probability 0.25",
            "minatar-fast+max_episode_steps=9+warmup_steps=200+replay_capacity_steps=500+num_envs=4+"
            "life_loss_terminal=False+sticky=0.25",
        ),
        ("--set dynamics.sticky_action_probability=0.25 discount=1", "minatar-fast+discount=1.0+sticky=0.25"),
        ("--set dynamics.max_episode_frames=none", "minatar-fast+max_episode_steps=unlimited"),
        ("--set dynamics.noop_max_frames=3", "minatar-fast+dynamics.noop_max_frames=3"),
    ],
)
def test_names_of_changed_recipes(words: str, label: str) -> None:
    recipe = RECIPES["minatar-fast"]
    assert asked(Dqn, recipe, *words.split()).choose(recipe, get_game("minatar/breakout")).label == label


def test_a_limit_in_frames_that_is_no_number_of_decisions_is_told_in_frames() -> None:
    recipe, pong = RECIPES["atari-fast"], get_game("pong")
    for frames, told in ((4000, "max_episode_steps=1000"), (4001, "dynamics.max_episode_frames=4001")):
        options = asked(Dqn, recipe, "--set", f"dynamics.max_episode_frames={frames}")
        assert options.choose(recipe, pong).label == f"atari-fast+{told}"


def test_each_tier_has_its_recipe_and_each_paper_its_dynamics() -> None:
    games = {"pong": "atari-fast", "minatar/breakout": "minatar-fast", "cartpole": "tutorial"}
    assert {game: get_recipe(None, get_game(game)).name for game in games} == games
    assert get_ppo_recipe(None, get_game("cartpole")).name == "tutorial-ppo"
    tiers = {recipe.tier for recipe in RECIPES.values()}
    assert [
        sum(recipe.is_default for recipe in RECIPES.values() if recipe.tier == tier) for tier in tiers
    ] == [1] * 3
    # gym 0.18 cut Space Invaders earlier than the other games.
    caps = [
        get_recipe("chen2022", get_game(game)).dynamics.max_episode_frames
        for game in ("pong", "space_invaders")
    ]
    assert caps == [400_000, 300_000]


# Whole runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "settings", "told"),
    [
        (
            "dqn",
            "batch_size=16 warmup_steps=32 loss=mse optimizer=rmsprop-centred discount=0.5 "
            "dynamics.max_episode_frames=50",
            "tutorial+max_episode_steps=50+batch_size=16+discount=0.5+warmup_steps=32+optimizer=rmsprop-centred+loss=mse",
        ),
        ("dsqn", "batch_size=16 warmup_steps=32", "tutorial+batch_size=16+warmup_steps=32"),
        (
            "ppo",
            "rollout_steps=16 batch_size=32 clip=0.1",
            "tutorial-ppo+batch_size=32+rollout_steps=16+clip=0.1",
        ),
        ("spiking-ppo", "rollout_steps=16 batch_size=32", "tutorial-ppo+batch_size=32+rollout_steps=16"),
    ],
)
def test_settings_reach_the_run_and_its_rows(
    verb: str, settings: str, told: str, command: Command, tmp_path: Path
) -> None:
    run, ends = tmp_path / "run", ("total_steps=128", "eval_interval_steps=64", "eval_episodes=1")
    options = ("--game", "cartpole", "--threads", 1, "--out", run)
    trained = command("train_direct", verb, *options, "--set", *ends, *settings.split())
    assert trained.code == 0, trained.err
    [point] = read_rows(run / "curve.parquet", CurveRow)
    assert (point.recipe, point.steps) == (told, 128)
    assert point.updates > 0
    other = command("train_direct", verb, *options, "--set", *ends, *settings.split(), "learning_rate=0.1")
    assert (other.code, "learning_rate is 0.001 there and 0.1 here" in other.err) == (2, True)
