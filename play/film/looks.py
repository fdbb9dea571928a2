"""How the games of a film look: sizes, speed, pictures of observations, names of actions.

A game without a look of its own gets that of its tier, which fits any game of the tier. To add one, register it:

    @LOOKS.register("my-game")
    class MyLook(Look): ...
"""

import abc
import functools
import itertools
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw

from core.games import Game
from core.registry import Registry
from play.film.style import BACKGROUND, BLUE, DIM, ORANGE, PLANES, TEXT, TRACK, Colour, font


class Look(abc.ABC):
    """How one game looks."""

    side: ClassVar[int]
    """Pixels a side of the game's picture."""
    small_side: ClassVar[int]
    """Pixels a side of the two pictures of a film of an attack: the clean game and the perturbation."""
    network_width: ClassVar[int]
    """Pixels of the panel of neurons. The layers of `core.layers.HIDDEN_LAYERS` fill it."""
    decisions_per_second: ClassVar[int]
    """Frame rate."""

    def __init__(self, game: Game):
        self.game = game

    @abc.abstractmethod
    def picture(self, observation: np.ndarray, side: int) -> Image.Image:
        """An observation [*observation] in network-input units, as a picture of side x side pixels."""

    def planes(self, change: np.ndarray) -> np.ndarray:
        """The parts [P, h, w] of a change of an observation [*observation] that are drawn side by side."""
        return change.reshape(-1, 1, 1) if change.ndim == 1 else change.reshape(-1, *change.shape[-2:])

    def own_action_names(self) -> tuple[str, ...]:
        """What the game's own library calls its actions, spelt out; empty if it does not say."""
        return ()

    @functools.cached_property
    def action_names(self) -> tuple[str, ...]:
        """A name for each action."""
        names = self.own_action_names()
        if len(names) == self.game.num_actions:
            return names
        return tuple(f"action {action}" for action in range(self.game.num_actions))

    def legend(self) -> tuple[tuple[str, Colour], ...]:
        """Names with the colours that they have in the picture, written below it."""
        return ()

    def numbers(self, observation: np.ndarray) -> tuple[tuple[str, float], ...]:
        """Names with values, written below the picture of an observation."""
        return ()


LOOKS: Registry[type[Look]] = Registry("look")
"""All looks, by the name of a game, or of a tier for the games of the tier that have none."""


@functools.cache
def look_of(game: Game) -> Look:
    """How a game looks."""
    return LOOKS[game.name if game.name in LOOKS else game.tier](game)


def picture_of_change(change: np.ndarray, largest: float, look: Look, side: int) -> Image.Image:
    """A perturbation as a picture: orange adds, blue takes away.

    Args:
        change: [*observation], in network-input units.
        largest: the change that has the full colour.
        look: of the game.
        side: pixels a side.
    """
    planes = look.planes(change)
    share = (planes / largest if largest > 0 else planes)[:, :, :, None]  # [P, h, w, 1]
    towards = np.where(share > 0, np.array(ORANGE), np.array(BLUE))
    coloured = np.rint(TRACK + np.abs(share) * (towards - TRACK)).astype(np.uint8)
    across = math.ceil(math.sqrt(len(planes)))
    tile = (side - 4 * (across - 1)) // across
    image = Image.new("RGB", (side, side), BACKGROUND)
    for index, plane in enumerate(coloured):
        corner = (tile + 4) * (index % across), (tile + 4) * (index // across)
        image.paste(Image.fromarray(plane).resize((tile, tile), Image.Resampling.NEAREST), corner)
    return image


@LOOKS.register("atari")
class AtariLook(Look):
    """Stacked grey frames, of which the newest is shown."""

    side, small_side, network_width = 504, 252, 672  # multiples of 84
    decisions_per_second = 15  # as fast as people play

    def picture(self, observation: np.ndarray, side: int) -> Image.Image:
        grey = np.rint(255 * observation[-1]).astype(np.uint8)
        return Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST).convert("RGB")

    def planes(self, change: np.ndarray) -> np.ndarray:
        return change[-1:]

    def own_action_names(self) -> tuple[str, ...]:
        from ale_py import ALEInterface, LoggerMode, roms

        if self.game.name not in roms.get_all_rom_ids():
            return ()
        ALEInterface.setLoggerMode(LoggerMode.Error)
        emulator = ALEInterface()
        emulator.loadROM(Path(str(roms.get_rom_path(self.game.name))))
        names = [str(action.name).lower() for action in emulator.getMinimalActionSet()]
        for word in ("up", "down", "right", "left"):
            names = [name.replace(word, f"{word} ") for name in names]
        return tuple(name.strip() for name in names)


@LOOKS.register("minatar")
class MinAtarLook(Look):
    """Planes one over the other, each in its colour and as strong as its values."""

    side, small_side, network_width = 460, 250, 526  # multiples of 10, with room for the names of the planes
    decisions_per_second = 6  # slow enough to follow

    def picture(self, observation: np.ndarray, side: int) -> Image.Image:
        mixed = np.broadcast_to(np.array(BACKGROUND, dtype=np.float64) + 6, (*observation.shape[1:], 3))
        for plane, colour in zip(observation, itertools.cycle(PLANES), strict=False):
            mixed = mixed + plane[:, :, None] * (np.array(colour) - mixed)
        return _grid(mixed, side)

    def own_action_names(self) -> tuple[str, ...]:
        game = self._library_game()
        letters = {"n": "noop", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}
        return () if game is None else tuple(letters[letter] for letter in game.action_map)

    def legend(self) -> tuple[tuple[str, Colour], ...]:
        return tuple(zip(self.plane_names(), itertools.cycle(PLANES), strict=False))

    def plane_names(self) -> tuple[str, ...]:
        """What the planes hold."""
        game, count = self._library_game(), self.game.observation_shape[0]
        if game is None or len(game.channels) != count:
            return tuple(f"plane {plane}" for plane in range(count))
        return tuple(name.replace("_", " ") for name in sorted(game.channels, key=game.channels.__getitem__))

    def _library_game(self) -> Any:
        """The game in the library minatar; None for a game that it does not have."""
        from minatar import Environment

        try:
            return Environment(self.game.name.removeprefix("minatar/")).env
        except ModuleNotFoundError:
            return None


def _grid(colours: np.ndarray, side: int) -> Image.Image:
    """Cells [H, W, 3] with lines between them."""
    cell = side // max(colours.shape[:2])
    pixels = np.rint(colours).astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    pixels[::cell] = pixels[:, ::cell] = BACKGROUND
    return Image.fromarray(pixels)


@LOOKS.register("control")
class ControlLook(Look):
    """The numbers of any state, as bars to both sides of 0."""

    side, small_side, network_width = 484, 252, 496  # with room for the numbers below
    decisions_per_second = 50  # as fast as the game runs for people

    def picture(self, observation: np.ndarray, side: int) -> Image.Image:
        """Bars in the game's scale; a bar that fills its half shows the scale or more."""
        image = Image.new("RGB", (side, side), tuple(level + 6 for level in BACKGROUND))
        draw = ImageDraw.Draw(image)
        values = observation.reshape(-1)
        shares = np.clip(
            values / np.broadcast_to(np.array(self.game.scale), observation.shape).reshape(-1), -1, 1
        )
        row, middle = side / len(values), side // 2
        for index, (value, share) in enumerate(zip(values.tolist(), shares.tolist(), strict=True)):
            top, bottom = round((index + 0.25) * row), round((index + 0.75) * row)
            ends = sorted((middle, middle + round(share * (middle - 4))))
            draw.rectangle((ends[0], top, ends[1], bottom), ORANGE if share > 0 else BLUE)
            if row >= 14:
                draw.text((6, (top + bottom) // 2), f"{value:+.2f}", TEXT, font(11), "lm")
        draw.line((middle, 0, middle, side), DIM, 1)
        return image


@LOOKS.register("cartpole")
class CartPoleLook(ControlLook):
    """The cart and its pole: position within the 2.4 units that end the game, and the pole's angle (rad)."""

    def picture(self, observation: np.ndarray, side: int) -> Image.Image:
        image = Image.new("RGB", (side, side), tuple(level + 6 for level in BACKGROUND))
        draw = ImageDraw.Draw(image)
        unit = side / 4.8
        x, y = side / 2 + unit * float(observation[0]), 0.7 * side
        draw.line((0, y, side, y), DIM, max(side // 250, 1))
        draw.rectangle((x - 0.25 * unit, y - 0.15 * unit, x + 0.25 * unit, y + 0.15 * unit), BLUE)
        # Gymnasium's pole is 1 unit long. It is drawn twice as long, so that one can see it lean.
        tip = x + 2 * unit * math.sin(float(observation[2])), y - 2 * unit * math.cos(float(observation[2]))
        draw.line((x, y, *tip), ORANGE, side // 40)
        draw.ellipse((x - side / 60, y - side / 60, x + side / 60, y + side / 60), TEXT)
        return image

    def own_action_names(self) -> tuple[str, ...]:
        return ("push left", "push right")  # Gymnasium's documentation of CartPole-v1

    def numbers(self, observation: np.ndarray) -> tuple[tuple[str, float], ...]:
        names = ("position", "velocity", "angle", "angular velocity")
        return tuple(zip(names, observation.tolist(), strict=True))
