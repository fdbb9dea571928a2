"""The digest of a training: it changes with all that defines one, and rows, copies and conversions carry it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch

from analysis.check import findings
from analysis.game_table import game_table
from analysis.rows import CURVES, EPISODES, RESPONSES, ROW_FILES, VALIDATION, StudyRows
from analysis.runs import names, training_families
from core import extensions, rows
from core.checkpoint import load_agent, save_agent
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import GAMES, PUBLISHED, get_game
from core.layers import HIDDEN_LAYERS, parse_layers
from core.networks import NETWORKS
from core.rows import ConversionRow, CurveRow, EmbeddingRow, EpisodeRow, OperationsRow, StateAttackRow
from tests.conftest import Command
from tests.train_direct.test_recipe import hint
from train_direct.recipe import PPO_RECIPES, RECIPES, BaseRecipe, get_recipe
from train_direct.ship import ship
from train_direct.training import TOLD, training_digest

SHORT = (
    *("--game", "cartpole", "--total-steps", 300, "--warmup-steps", 50, "--eval-interval-steps", 150),
    *("--eval-episodes", 2, "--threads", 1),
)


def another(recipe: BaseRecipe, name: str) -> Any:
    """Another value of a field, which need not make sense."""
    value = getattr(recipe, name)
    if name == "dynamics":
        return replace(recipe.dynamics, noop_max_frames=7)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    choices = [each for each in get_args(hint(type(recipe), name)) if each not in (value, type(None))]
    return choices[0] if choices and isinstance(choices[0], str) else 0.5 if value is None else "tan2021"


def edited(recipe: BaseRecipe, name: str) -> BaseRecipe:
    """A recipe as it were if somebody had edited one field, without the checks of its range."""
    copy = object.__new__(type(recipe))
    copy.__dict__.update(vars(recipe), **{name: another(recipe, name)})
    return copy


@pytest.mark.parametrize(
    "recipe", [RECIPES["minatar-fast"], PPO_RECIPES["tutorial-ppo"]], ids=lambda each: each.name
)
def test_every_value_of_a_recipe_is_part_of_it(recipe: BaseRecipe) -> None:
    game = get_game("cartpole" if recipe.tier == "control" else "minatar/breakout")
    agent = DQN(game)
    digest = training_digest(agent, recipe)
    assert len(digest) == 12
    for field in fields(recipe):
        if field.name != "protocol":
            changed = training_digest(agent, edited(recipe, field.name)) != digest
            assert changed == (field.name not in TOLD), field.name


OTHERS: Mapping[str, Any] = {
    "cmc": True,
    "sim_steps_in_turn": [3, 2],
    "precision": "bf16",
    "early_stop": True,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_part_of_the_recipe_counts_too(name: str) -> None:
    agent, recipe = DQN(get_game("pong")), RECIPES["atari-fast"]
    assert training_digest(agent, recipe, **{name: OTHERS[name]}) != training_digest(agent, recipe)


def test_the_length_counts_only_where_it_changes_what_is_done() -> None:
    agent, recipe = DQN(get_game("pong")), RECIPES["atari-fast"]
    longer = replace(recipe, total_steps=2 * recipe.total_steps)
    assert training_digest(agent, longer) == training_digest(agent, recipe)
    pruned = {"sim_steps_in_turn": [4, 2]}
    assert training_digest(agent, longer, **pruned) != training_digest(agent, recipe, **pruned)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other", ["relu", "liu2022", "chen2022", "relu narrow", "relu without bias"], ids=lambda each: each
)
def test_networks_differ(other: str) -> None:
    game, recipe = get_game("minatar/breakout"), RECIPES["minatar-fast"]
    of = {
        "relu narrow": replace(NETWORKS["relu"], layers=parse_layers("8c3s1 32")),
        "relu without bias": replace(NETWORKS["relu"], bias=False),
    }
    tutorial = NETWORKS["tutorial"].make(game, torch.Generator())
    agent = of.get(other, NETWORKS[other.split()[0]]).make(game, torch.Generator())
    usual = NETWORKS["relu"].make(game, torch.Generator())
    assert training_digest(agent, recipe) != training_digest(tutorial, recipe)
    assert (training_digest(agent, recipe) == training_digest(usual, recipe)) == (other == "relu")


def test_layers_that_are_named_are_those_that_are_meant() -> None:
    game, recipe = get_game("cartpole"), RECIPES["tutorial"]
    usual = DQN(game)
    assert training_digest(DQN(game, hidden=usual.hidden), recipe) == training_digest(usual, recipe)


def test_one_training_has_one_digest_on_all_games(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chen's protocol ends Space Invaders earlier than other games."""
    games = [game for game in GAMES.values() if game.tier == "atari"]
    digests = {training_digest(DQN(game), get_recipe("chen2022", game)) for game in games}
    assert len(digests) == 1
    limits = {get_recipe("chen2022", game).dynamics.max_episode_frames for game in games}
    assert len(limits) == 2


def test_extensions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, recipe = DQN(get_game("cartpole")), RECIPES["tutorial"]
    found = []
    for loaded in ({}, {"mine": "0" * 64}, {"mine": "1" * 64}):
        monkeypatch.setattr(extensions, "EXTENSIONS", loaded)
        found.append(training_digest(agent, recipe))
    assert len(set(found)) == 3


def test_every_row_that_names_a_training_has_the_column() -> None:
    """A new type of rows with a training seed needs it too."""
    row_types = [
        each
        for each in vars(rows).values()
        if isinstance(each, type) and hasattr(each, "__dataclass_fields__")
    ]
    with_seed = [each for each in row_types if "train_seed" in each.__dataclass_fields__]
    assert len(with_seed) > 5
    for each in with_seed:
        assert each.__dataclass_fields__["training"].default == ""
    assert rows.ROWS_FORMAT == "4a495296e4c4"


def fresh() -> DQN | DSQN:
    return NETWORKS["relu"].make(get_game("cartpole"), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "wrong", ["", "3f0a91c2d4e", "3F0A91C2D4E5", "not digits!!", 3, None, ["3f0a91c2d4e5"]]
)
def test_a_digest_that_is_none_is_refused(wrong: object, tmp_path: Path) -> None:
    provenance = {
        **{"train_seed": 0, "train_steps": 0, "recipe_steps": 0, "recipe": "r", "network": "n"},
        "scores_are_q_values": True,
    }
    save_agent(tmp_path / "old.safetensors", fresh(), provenance)
    assert load_agent(tmp_path / "old.safetensors").columns["training"] == ""
    save_agent(tmp_path / "a.safetensors", fresh(), {**provenance, "training": wrong})
    with pytest.raises(Refusal, match="12 hex digits are needed"):
        load_agent(tmp_path / "a.safetensors")


def train(command: Command, folder: Path, seed: int, *more: object) -> None:
    done = command("train_direct", "dqn", *SHORT, "--seed", seed, *more, "--out", folder / "train")
    assert done.code == 0, done.err
    scored = command(
        "evaluate", "run", "--agent", folder / "train", "--episodes", 2, "--out", folder / "scores"
    )
    assert scored.code == 0, scored.err


def edit_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPES["tutorial"], learning_rate=3e-3)
    monkeypatch.setitem(RECIPES._entries, "tutorial", recipe)


def edit_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HIDDEN_LAYERS, "control", parse_layers("16"))


@pytest.mark.parametrize(
    "edit", [None, edit_learning_rate, edit_width], ids=["nothing", "learning rate", "width"]
)
def test_trainings_around_an_edit_of_the_source_are_never_seeds_of_one(
    edit: Any, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(command, tmp_path / "a", 0)
    if edit is not None:
        edit(monkeypatch)
    train(command, tmp_path / "b", 1, "--total-steps", 400)  # the length is no part of it
    study = StudyRows(tmp_path)
    families = 1 if edit is None else 2
    assert len({row.training for row in study.rows(EPISODES)}) == families
    (block,) = game_table(study.frame(EPISODES), pd.read_csv(PUBLISHED / "published_scores.csv"))
    assert len({column.family for column in block.columns}) == families
    assert {cell.seeds for cell in block.cells.values()} == {3 - families}
    for files in (VALIDATION, CURVES):
        named = names(training_families(study.frame(files)))
        assert len(named) == families == len(set(named.values()))
        assert all(("training " in name) == (edit is not None) for name in named.values())
    found = [line for line in findings(tmp_path) if "different trainings have this name" in line]
    assert len(found) == families - 1
    if found:
        assert "dqn relu tutorial" in found[0]
        assert all(row.training in found[0] for row in study.rows(EPISODES))
        assert "seed 0" in found[0]


def test_copies_conversions_and_their_rows_carry_it(tmp_path: Path, command: Command) -> None:
    train(command, tmp_path, 0)
    best = tmp_path / "train" / "best.safetensors"
    digest = load_agent(best).training
    assert len(digest) == 12
    small = tmp_path / "small.safetensors"
    ship(best, small)
    assert load_agent(small).training == digest
    snn, out = tmp_path / "snn" / "agent.safetensors", tmp_path / "rows"
    few = ("--calibration-states", 64, "--test-states", 64, "--sim-steps", 8, "--bindsnet-states", 0)
    made = [
        command("convert", "run", "--agent", best, *few, "--out", snn),
        command("evaluate", "run", "--agent", snn, small, "random", "--episodes", 1, "--out", out / "scores"),
        command("evaluate", "probe", "--agent", snn, best, "--states", 64, "--out", out / "probe"),
        command(
            "adversarial",
            "states",
            "--agent",
            snn,
            "--states",
            32,
            "--epsilon",
            0.01,
            "--out",
            out / "states",
        ),
    ]
    assert [(each.code, each.err) for each in made if each.code] == []
    assert load_agent(snn).training == digest
    kinds = set()
    for files in ROW_FILES:
        for row in files.read(tmp_path) if files is not RESPONSES else ():
            assert row.training == ("" if getattr(row, "agent", "") == "random" else digest), files.pattern
            kinds.add(type(row))
    assert kinds == {EpisodeRow, CurveRow, ConversionRow, OperationsRow, EmbeddingRow, StateAttackRow}
