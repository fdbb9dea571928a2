"""Layers as data: the notation, its bounds, and what fits a game."""

import pytest
import torch

from core.errors import Refusal
from core.games import GAMES
from core.layers import (
    ACTOR_HIDDEN_LAYERS,
    HIDDEN_LAYERS,
    MOST_LAYERS,
    Conv,
    Dense,
    apply_layer,
    build_layers,
    format_layers,
    initialise,
    parse_layers,
)

NATURE = "32c8s4 64c4s2 64c3s1 512"


def test_the_notation_is_read() -> None:
    assert parse_layers(NATURE) == (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1), Dense(512))
    assert parse_layers(NATURE) == HIDDEN_LAYERS["atari"]


@pytest.mark.parametrize(
    "hidden", [*HIDDEN_LAYERS.values(), *ACTOR_HIDDEN_LAYERS.values(), (Dense(1), Dense(65536))]
)
@pytest.mark.parametrize("separator", [" ", ",", "-", ", "])
def test_the_notation_comes_back(hidden: tuple[Conv | Dense, ...], separator: str) -> None:
    assert parse_layers(format_layers(hidden, separator)) == hidden


@pytest.mark.parametrize(
    "text", ["32c8s4,64c4s2,64c3s1,512", "32c8s4-64c4s2-64c3s1-512", " 32c8s4\t64c4s2\n64c3s1  512 "]
)
def test_separators_are_spaces_commas_and_hyphens(text: str) -> None:
    assert format_layers(parse_layers(text)) == NATURE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "layer '' of ''"),
        ("512,", "layer '' of '512,'"),
        ("512;32", "layer '512;32'"),
        ("32c8", "layer '32c8' of '32c8': accepted are fully connected layers, as in 512, and convolutions"),
        ("32C8S4", "layer '32C8S4'"),
        ("1e3", "layer '1e3'"),
        ("٣", "layer '٣'"),
        ("0", "layer '0': accepted are 1 to 65536 neurons or channels"),
        ("65537", "layer '65537': accepted are 1 to 65536"),
        ("9" * 1000, "accepted are fully connected layers"),
        ("32c0s1", "kernel and stride are at least 1"),
        ("32c3s0", "kernel and stride are at least 1"),
        (" ".join(["8"] * (MOST_LAYERS + 1)), f"33 layers: at most {MOST_LAYERS} are accepted"),
    ],
)
def test_what_is_not_in_the_notation_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        parse_layers(text)


@pytest.mark.parametrize(
    ("game", "text", "message"),
    [
        ("pong", "512 32c3s1", r"'512 32c3s1': a convolution needs an image, and gets \(512,\) on pong"),
        ("cartpole", "32c3s1", r"a convolution needs an image, and gets \(4,\) on cartpole"),
        ("minatar/breakout", "16c11s1", r"a kernel of 11 does not fit \(10, 10\) on minatar/breakout"),
        ("minatar/breakout", "16c8s1 16c4s1", r"a kernel of 4 does not fit \(3, 3\)"),
        ("pong", "65536 65536", "at most 500,000,000 weights are accepted"),
        ("pong", "65536c84s1", "at most 500,000,000 weights are accepted"),
    ],
)
def test_layers_that_do_not_fit_the_game_are_refused(game: str, text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        build_layers(GAMES[game], parse_layers(text), bias=True)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("text", ["16c3s1 128", "8c4s3 8c2s1 20 30", "5c10s7", "7"])
def test_shapes_are_what_the_layers_give(text: str, padding: str) -> None:
    game = GAMES["minatar/breakout"]
    layers, shapes = build_layers(game, parse_layers(text), True, padding)  # type: ignore[arg-type]
    initialise(layers, torch.Generator().manual_seed(0))
    x = torch.zeros(2, *game.observation_shape)
    for layer, shape in zip(layers, shapes, strict=True):
        x = apply_layer(layer, x)
        assert tuple(x.shape) == (2, *shape)
    assert shapes[-1] == (game.num_actions,)


def test_a_kernel_larger_than_the_image_fits_with_same_padding() -> None:
    layers, shapes = build_layers(GAMES["minatar/breakout"], parse_layers("4c11s1"), True, "same")
    initialise(layers, torch.Generator().manual_seed(0))
    assert shapes[0] == (4, 10, 10)
    assert apply_layer(next(iter(layers)), torch.zeros(1, 4, 10, 10)).shape == (1, 4, 10, 10)
