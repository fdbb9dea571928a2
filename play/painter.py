"""One decision as a picture: the game as the agent sees it, its action scores, its layers, its neurons.

Drawn with Pillow, for videos (`play/video.py`) and for the window (`evaluate/watch.py`).
"""

import functools
import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from core import kinds
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.dsqn import DSQN, Readout, SpikingActor
from core.errors import Refusal
from core.games import Game, Tier
from play.environments import network_input
from play.episodes import Played
from play.rollout import Step

DECISIONS_PER_SECOND: Mapping[Tier, int] = {"atari": 15, "minatar": 6, "control": 50}
"""Frame rate. Atari and CartPole: as fast as the game runs for people; MinAtar: slow enough to follow."""

# What a frame shows ----------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One decision, in numbers."""

    seen: np.ndarray
    """[*observation] float32: what the agent saw."""
    clean: np.ndarray
    """[*observation] float32: the same before any attack."""
    scores: np.ndarray
    """[A] of what it saw."""
    clean_scores: np.ndarray | None
    """[A] of the clean observation; None without an attack."""
    action: int
    rates: np.ndarray
    """[L] spikes of each layer a neuron and simulation step; empty without spikes."""
    sim_steps: int
    decisions: int
    """Of the episode, this one included."""
    score: float
    """Of the episode, this decision's reward included."""
    reward: float
    flips: int
    """Decisions so far whose greedy action the attack changed."""
    episode: int
    ending: str
    """How the episode ended; empty while it goes on."""
    hidden: tuple[np.ndarray, ...]
    """[C, H, W] or [N] each: of every hidden neuron its spikes a simulation step of this decision, or its activation
    if neurons do not spike; empty where no `NetworkPanel` is drawn."""


def frame_of(
    step: Step, row: int, played: Played, agent: Agent, game: Game, hidden: tuple[np.ndarray, ...] = ()
) -> Frame:
    """What is to be drawn of one decision.

    Args:
        step: of a rollout.
        row: which of its decisions.
        played: the decision's episode up to and with it.
        agent: what decided.
        game: what is played.
        hidden: see `Frame`.
    """
    clean = network_input(step.observations[row : row + 1], game, torch.device("cpu"))[0].numpy()
    seen, clean_scores = clean, None
    if step.attack is not None:
        seen = step.attack.inputs[row].cpu().numpy()
        clean_scores = step.attack.clean_scores[row].cpu().numpy()
    rates, sim_steps = np.zeros(0), 0
    if step.activity is not None:
        sim_steps = int(step.activity.sim_steps[row])
        rates = step.activity.spikes[row].double().numpy() / (np.array(agent.neuron_counts) * sim_steps)
    ending = "game over" if step.outcome.terminated[row] else "cut short"
    return Frame(
        seen=seen,
        clean=clean,
        scores=step.scores[row],
        clean_scores=clean_scores,
        action=int(step.actions[row]),
        rates=rates,
        sim_steps=sim_steps,
        decisions=played.length_steps,
        score=played.score,
        reward=float(step.outcome.rewards[row]),
        flips=int(played.flips),
        episode=played.episode,
        ending=ending if step.ended[row] else "",
        hidden=hidden,
    )


@functools.cache
def action_names(game: Game) -> tuple[str, ...]:
    """What the game's own library calls its actions, spelt out."""
    match game.tier:
        case "atari":
            from ale_py import ALEInterface, LoggerMode, roms

            ALEInterface.setLoggerMode(LoggerMode.Error)
            emulator = ALEInterface()
            emulator.loadROM(Path(str(roms.get_rom_path(game.name))))
            names = [str(action.name).lower() for action in emulator.getMinimalActionSet()]
            for word in ("up", "down", "right", "left"):
                names = [name.replace(word, f"{word} ") for name in names]
            return tuple(name.strip() for name in names)
        case "minatar":
            letters = {"n": "noop", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}
            return tuple(letters[letter] for letter in _minatar(game).action_map)
        case "control":  # Gymnasium's documentation of CartPole-v1
            return ("push left", "push right")


def plane_names(game: Game) -> tuple[str, ...]:
    """What the planes of a MinAtar game hold."""
    channels = _minatar(game).channels
    return tuple(name.replace("_", " ") for name in sorted(channels, key=channels.__getitem__))


STATE_NAMES = ("position", "velocity", "angle", "angular velocity")
"""Of CartPole's state: the cart's, then the pole's (rad)."""

_READ_FROM: Mapping[Readout, str] = {
    "rate": "from mean spikes",
    "spike-rate": "output firing rates",
    "last-mem": "last voltages",
    "max-mem": "largest voltages",
    "mean-mem": "mean voltages",
    "max-abs-mem": "extreme voltages",
}
"""What the Q-values of a DSQN are."""


def _minatar(game: Game):  # type: ignore[no-untyped-def]
    from minatar import Environment

    return Environment(game.name.removeprefix("minatar/")).env


# Drawing ---------------------------------------------------------------------------------------------

Colour = tuple[int, int, int]
BACKGROUND: Colour = (18, 20, 24)
TRACK: Colour = (38, 42, 50)
DIM: Colour = (150, 156, 168)
TEXT: Colour = (236, 238, 241)
# Okabe & Ito's orange and blue, which the colour-blind tell apart, and that blue, darker.
ORANGE: Colour = (230, 159, 0)
BLUE: Colour = (86, 180, 233)
DARK_BLUE: Colour = (52, 108, 144)
PLANES: tuple[Colour, ...] = (
    # Okabe & Ito's colours without black, then white, grey, and wine (Tol's "muted"): Seaquest has ten planes.
    *(BLUE, (240, 228, 66), (0, 114, 178), ORANGE, (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((240, 240, 240), (140, 140, 140), (136, 34, 85)),
)
_STOPS = np.array([TRACK, DARK_BLUE, BLUE, (255, 255, 255)])
RAMP = np.stack(
    [np.interp(np.linspace(0, 3, 256), range(4), _STOPS[:, channel]).round() for channel in range(3)], axis=1
).astype(np.uint8)
"""[256, 3]: colours from nothing to all, each lighter than the one before."""

MARGIN, GAP, TITLE, CONTENT = 16, 24, 26, 560
GAME_SIDE: Mapping[Tier, int] = {"atari": 504, "minatar": 460, "control": 484}
"""Multiples of 84 and of 10 pixels; MinAtar and CartPole leave room for the names of the planes and for the state."""
SMALL_SIDE: Mapping[Tier, int] = {"atari": 252, "minatar": 250, "control": 252}
NAME, BAR, VALUE = 112, 220, 68
PANEL = NAME + BAR + VALUE
NETWORK_WIDTH: Mapping[Tier, int] = {"atari": 672, "minatar": 526, "control": 496}
"""Of the panel of neurons: chosen so that the layers of `core.networks.HIDDEN_LAYERS` fill it."""
COLUMN = 2
"""Width of one decision in the strips of the past."""
WINDOW_STEPS = BAR // COLUMN


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


class Painter:
    """Draws the decisions of one episode, in their order: it remembers the last `WINDOW_STEPS`.

    Args:
        game: what is played.
        checkpoint: what plays.
        attack: what the attack is called, which gives a column of the clean game and of the perturbation; None
            without one.
        hidden_shapes: of the hidden layers, [C, H, W] or [N], which gives a column of all their neurons; empty without.
    """

    def __init__(
        self,
        game: Game,
        checkpoint: Checkpoint,
        attack: str | None = None,
        hidden_shapes: Sequence[tuple[int, ...]] = (),
    ):
        self._game = game
        self._names = action_names(game)
        self._side, self._small = GAME_SIDE[game.tier], SMALL_SIDE[game.tier]
        self._attack_left = MARGIN + self._side + GAP
        self.panel_left = self._attack_left + (0 if attack is None else self._small + GAP)
        """Where names, bars and values begin; the bars begin `NAME` further right."""
        right = self.panel_left + PANEL
        spiking = len(checkpoint.agent.neuron_counts) > 0
        self.network: NetworkPanel | None = None
        if hidden_shapes:
            width = NETWORK_WIDTH[game.tier]
            self.network = NetworkPanel(right + GAP, width, hidden_shapes, spiking)
            right += GAP + width
        self.size = (right + MARGIN, CONTENT + 2 * MARGIN)
        """Width and height of a frame, both even."""
        strips = ["largest Q"]
        counts = checkpoint.agent.neuron_counts
        strips += [f"layer {layer}" for layer in range(1, len(counts) + 1)]
        self._gap = 14
        room = CONTENT - 2 * TITLE - self._gap
        self.row_height = min(34, (room - 34 * len(strips)) // len(self._names))
        """Of an action; the first one's begins at `rows_top`."""
        self.rows_top = MARGIN + TITLE
        self._strips_top = self.rows_top + self.row_height * len(self._names) + self._gap + TITLE
        self._strip_height = min(120, (MARGIN + CONTENT + 6 - self._strips_top) // len(strips))
        self._past: deque[np.ndarray] = deque(maxlen=WINDOW_STEPS)  # [1 + L] each
        self._rewards: deque[float] = deque(maxlen=DECISIONS_PER_SECOND[game.tier])
        self._spreads: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._digits = 1
        self._lowest = np.array([math.inf] + [0.0] * len(counts))
        self._highest = np.array([-math.inf] + [0.0] * len(counts))
        self._background = self._draw_background(checkpoint, attack, strips)

    def _draw_background(self, checkpoint: Checkpoint, attack: str | None, strips: list[str]) -> Image.Image:
        """All that stays as it is."""
        image = Image.new("RGB", self.size, BACKGROUND)
        draw = ImageDraw.Draw(image)
        middle = MARGIN + TITLE // 2 - 3
        draw.text((MARGIN, middle), self._game.name, TEXT, _font(16, bold=True), "lm")
        width = draw.textlength(self._game.name, _font(16, bold=True))
        seed = checkpoint.provenance["train_seed"]
        player = kinds.label(checkpoint.agent.kind) + (f", seed {seed}" if seed >= 0 else "")
        draw.text((MARGIN + width + 12, middle), player, DIM, _font(14), "lm")
        if attack is not None:
            second = MARGIN + CONTENT - self._small - TITLE + middle - MARGIN
            draw.text((self._attack_left, middle), "without attack", TEXT, _font(14, bold=True), "lm")
            draw.text((self._attack_left, second), attack, TEXT, _font(14, bold=True), "lm")
        left = self.panel_left
        has_q_values = checkpoint.provenance["scores_are_q_values"]
        heading = "Q-values" if has_q_values else "action scores"
        draw.text((left, middle), heading, TEXT, _font(14, bold=True), "lm")
        # What CMC leaves of a DSQN's scores is no voltage any more.
        if isinstance(checkpoint.agent, SpikingActor) or (
            isinstance(checkpoint.agent, DSQN) and has_q_values
        ):
            beside = left + draw.textlength(heading, _font(14, bold=True)) + 8
            draw.text((beside, middle), _READ_FROM[checkpoint.agent.spiking.readout], DIM, _font(12), "lm")
        past = f"last {WINDOW_STEPS} decisions"
        draw.text((left, self._strips_top - TITLE + middle - MARGIN), past, TEXT, _font(14, bold=True), "lm")
        for index, strip in enumerate(strips):
            name = strip if has_q_values else strip.replace("Q", "score")
            top = self._strips_top + index * self._strip_height
            centre = top + (self._strip_height - 6) // 2
            counts = checkpoint.agent.neuron_counts
            draw.text((left, centre - 7), name, TEXT, _font(13), "lm")
            if index > 0:
                draw.text((left, centre + 8), f"{counts[index - 1]:,} neurons", DIM, _font(11), "lm")
        if self._game.tier == "minatar":
            self._draw_legend(draw)
        if self.network is not None:
            self.network.draw_background(image)
        return image

    def _draw_legend(self, draw: ImageDraw.ImageDraw) -> None:
        """Names of the planes in their colours, in as many lines as they need."""
        x, y = MARGIN, MARGIN + TITLE + self._side + 38
        for name, colour in zip(plane_names(self._game), PLANES, strict=False):
            width = 14 + int(draw.textlength(name, _font(11))) + 12
            if x + width - 12 > MARGIN + self._side:
                x, y = MARGIN, y + 18
            draw.rectangle((x, y, x + 9, y + 9), colour)
            draw.text((x + 14, y + 5), name, DIM, _font(11), "lm")
            x += width

    def paint(self, frame: Frame) -> Image.Image:
        """The next decision's frame: RGB, of even width and height."""
        image = self._background.copy()
        draw = ImageDraw.Draw(image)
        image.paste(picture(frame.seen, self._game, self._side), (MARGIN, MARGIN + TITLE))
        self._draw_status(draw, frame)
        if frame.clean_scores is not None:
            self._draw_attack(image, draw, frame)
        self._draw_scores(draw, frame)
        self._draw_past(image, draw, frame)
        if self.network is not None:
            self.network.draw(image, frame.hidden)
        return image

    def _draw_status(self, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        middle = MARGIN + TITLE + self._side + 20
        score = f"score {frame.score:g}"
        draw.text((MARGIN, middle), score, TEXT, _font(17, bold=True), "lm")
        self._rewards.append(frame.reward)
        earned = sum(self._rewards)  # of the last second, so that it can be read
        if earned:
            width = draw.textlength(score, _font(17, bold=True))
            colour = ORANGE if earned > 0 else BLUE
            draw.text((MARGIN + width + 12, middle), f"{earned:+g}", colour, _font(15, bold=True), "lm")
        if self._game.tier == "control":
            self._draw_state(draw, frame.seen)
        words = [f"episode {frame.episode}", f"decision {frame.decisions:,}"]
        if frame.clean_scores is not None:
            words = [f"{frame.flips:,} of {frame.decisions:,} decisions flipped"]
        if frame.ending:
            words.append(frame.ending)
        draw.text((MARGIN + self._side, middle), "   ".join(words), DIM, _font(14), "rm")

    def _draw_state(self, draw: ImageDraw.ImageDraw, state: np.ndarray) -> None:
        """The numbers of a state, side by side."""
        top = MARGIN + TITLE + self._side + 44
        x = float(MARGIN)
        for name, value in zip(STATE_NAMES, state.tolist(), strict=True):
            draw.text((x, top), name, DIM, _font(11), "lm")
            x += draw.textlength(name, _font(11)) + 5
            draw.text((x, top), f"{value:+.2f}", TEXT, _font(12), "lm")
            x += draw.textlength("+0.00", _font(12)) + 15

    def _draw_attack(self, image: Image.Image, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        image.paste(picture(frame.clean, self._game, self._small), (self._attack_left, MARGIN + TITLE))
        change = frame.seen - frame.clean
        largest = float(np.abs(change).max())
        top = MARGIN + CONTENT - self._small
        image.paste(picture_of_change(change, largest, self._game, self._small), (self._attack_left, top))
        right, middle = self._attack_left + self._small, top - TITLE // 2 - 3
        draw.text((right, middle), f"±{largest:.2g}", TEXT, _font(12), "rm")
        width = draw.textlength(f"±{largest:.2g} ", _font(12))
        draw.text((right - width, middle), "full colour", DIM, _font(12), "rm")

    def _draw_scores(self, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        """Bars over the lowest score of the decision; ticks where scores would be without the attack."""
        clean = frame.scores if frame.clean_scores is None else frame.clean_scores
        low = min(frame.scores.min(), clean.min())
        self._spreads.append(float(max(frame.scores.max(), clean.max()) - low))
        # A decision that matters fills the bars, one that hardly does leaves them short.
        usual = float(np.median(self._spreads))
        full = max(usual, self._spreads[-1])
        self._digits = min(max(1 - math.floor(math.log10(usual)), 1), 5) if usual > 0 else 1
        left, bars = self.panel_left, self.panel_left + NAME
        caption = f"bar: above the lowest, full {full:z.{self._digits}f}"
        draw.text((left + PANEL, MARGIN + TITLE // 2 - 3), caption, DIM, _font(12), "rm")
        greedy, unattacked = int(frame.scores.argmax()), int(clean.argmax())
        for action, name in enumerate(self._names):
            middle = self.rows_top + action * self.row_height + self.row_height // 2
            top, bottom = middle - self.row_height // 4, middle + self.row_height // 4
            chosen = action == frame.action
            if chosen:
                _draw_pointer(draw, left, middle, ORANGE)
            elif action == unattacked != greedy:
                _draw_pointer(draw, left, middle, None)
            size = 14 if self.row_height > 24 else 11
            draw.text((left + 14, middle), name, ORANGE if chosen else TEXT, _font(size, chosen), "lm")
            draw.rectangle((bars, top, bars + BAR - 1, bottom), TRACK)
            length = round(BAR * float(frame.scores[action] - low) / full) if full > 0 else 0
            if length:
                draw.rectangle((bars, top, bars + length - 1, bottom), ORANGE if chosen else DARK_BLUE)
            if frame.clean_scores is not None and full > 0:
                tick = bars + round((BAR - 2) * float(clean[action] - low) / full)
                draw.rectangle((tick, top, tick + 1, bottom), TEXT)
            if chosen and action != greedy:
                draw.text((bars + BAR - 6, middle), "by chance", TEXT, _font(min(12, size)), "rm")
            elif action == unattacked != greedy:
                draw.text((bars + BAR - 6, middle), "without attack", TEXT, _font(min(12, size)), "rm")
            value = f"{frame.scores[action]:z.{self._digits}f}"
            draw.text((left + PANEL, middle), value, ORANGE if chosen else TEXT, _font(size, chosen), "rm")

    def _draw_past(self, image: Image.Image, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        """Strips of the largest score and of each layer's rate, now at the right end."""
        now = np.array([float(frame.scores.max()), *frame.rates])
        self._past.append(now)
        self._lowest = np.minimum(self._lowest, now)
        self._highest = np.maximum(self._highest, now)
        right = self.panel_left + PANEL
        if len(frame.rates):
            caption = f"firing rate over {frame.sim_steps:,} sim steps"
            draw.text((right, self._strips_top - TITLE // 2 - 3), caption, DIM, _font(12), "rm")
        spans = self._highest - self._lowest
        heights = (np.array(self._past) - self._lowest) / np.where(spans > 0, spans, 1.0)  # [W, 1 + L]
        height = self._strip_height - 6
        for index, value in enumerate(now.tolist()):
            top = self._strips_top + index * self._strip_height
            image.paste(_strip(heights[:, index], height), (self.panel_left + NAME, top))
            low, high, centre = float(self._lowest[index]), float(self._highest[index]), top + height // 2
            if index == 0:
                digits = self._digits
                scale = f"{low:z.{digits}f} to {high:z.{digits}f}"
                draw.text((self.panel_left, centre + 8), scale, DIM, _font(11), "lm")
                draw.text((right, centre), f"{value:z.{digits}f}", TEXT, _font(13), "rm")
            else:
                draw.text((right, centre - 7), f"{100 * value:.1f} %", TEXT, _font(13), "rm")
                draw.text((right, centre + 8), f"top {100 * high:.1f} %", DIM, _font(11), "rm")


class Tiles(NamedTuple):
    """How one layer's neurons are laid out: `maps` maps of `height` x `width` neurons, `across` of them in a row."""

    maps: int
    height: int
    width: int
    across: int
    cell: int
    """Pixels a side of one neuron."""
    gap: int
    """Pixels between maps."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        down = math.ceil(self.maps / self.across)
        return (
            self.across * (self.width * self.cell + self.gap) - self.gap,
            down * (self.height * self.cell + self.gap) - self.gap,
        )

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top pixel of a map."""
        down, right = divmod(index, self.across)
        return right * (self.width * self.cell + self.gap), down * (self.height * self.cell + self.gap)


LARGEST_CELL = 40
MAP_GAP = 2


def tiles(shape: tuple[int, ...], width: int, cell: int) -> Tiles | None:
    """A layer [C, H, W] (maps of H x W neurons) or [N] (neurons one by one) with cells of that size, in full rows.

    None if not even one map fits into the width.
    """
    count, tall, wide = shape if len(shape) == 3 else (*shape, 1, 1)
    gap = MAP_GAP if len(shape) == 3 else 1
    fitting = (width + gap) // (wide * cell + gap)
    across = max((each for each in range(1, fitting + 1) if count % each == 0), default=0)
    return Tiles(count, tall, wide, across, cell, gap) if across else None


def arrange(shapes: Sequence[tuple[int, ...]], width: int, height: int) -> list[Tiles]:
    """Lay out layers below each other so that the product of their areas is largest: all of them large, not one.

    Args:
        shapes: [C, H, W] or [N] each.
        width: pixels that each may take.
        height: pixels that all may take together.

    Raises:
        Refusal: cells of one pixel do not fit.
    """
    choices = [
        [
            each
            for cell in range(1, LARGEST_CELL + 1)
            if (each := tiles(shape, width, cell)) is not None and each.size[1] <= height
        ]
        for shape in shapes
    ]
    fitting = (
        chosen for chosen in itertools.product(*choices) if sum(each.size[1] for each in chosen) <= height
    )
    best = max(fitting, key=lambda chosen: math.prod(math.prod(each.size) for each in chosen), default=None)
    if best is None:
        raise Refusal(
            f"hidden layers of {list(shapes)} neurons are more than {width} x {height} pixels can show"
        )
    return list(best)


class NetworkPanel:
    """All hidden neurons of a network, in one decision.

    Firing rates have one scale everywhere, so that a colour means the same rate in every layer, decision and network:
    none to a spike at every simulation step. Activations have none, so full colour is the largest that the layer gives
    in that decision.

    Args:
        left: where it begins; it is as high as a frame's content.
        width: how wide it is.
        shapes: of the hidden layers, [C, H, W] or [N].
        spiking: whether their neurons spike.
    """

    def __init__(self, left: int, width: int, shapes: Sequence[tuple[int, ...]], spiking: bool):
        self.left = left
        """Where every layer begins."""
        self._right = left + width
        self._shapes = shapes
        self._spiking = spiking
        self.layers = arrange(shapes, width, CONTENT - TITLE - len(shapes) * TITLE)
        """Of each layer, how it is laid out."""
        heights = [layer.size[1] for layer in self.layers]
        spare = CONTENT - TITLE - len(shapes) * TITLE - sum(heights)
        between = min(spare // max(len(shapes) - 1, 1), 20)
        self.tops = [
            MARGIN + TITLE + sum(heights[:index]) + index * between + (index + 1) * TITLE
            for index in range(len(shapes))
        ]
        """Of each layer, where its first map begins."""

    def draw_background(self, image: Image.Image) -> None:
        """All that stays as it is."""
        draw = ImageDraw.Draw(image)
        middle = MARGIN + TITLE // 2 - 3
        draw.text((self.left, middle), "hidden neurons", TEXT, _font(14, bold=True), "lm")
        scale = "100 %" if self._spiking else "its layer's largest"
        right = self._right - draw.textlength(scale, _font(12))
        draw.text((self._right, middle), scale, DIM, _font(12), "rm")
        ramp = Image.fromarray(RAMP[None, :].repeat(12, axis=0)).resize((90, 12))
        image.paste(ramp, (round(right) - 96, middle - 6))
        what = "firing rate in this decision  0" if self._spiking else "activation  0"
        draw.text((right - 102, middle), what, DIM, _font(12), "rm")
        for index, (shape, top) in enumerate(zip(self._shapes, self.tops, strict=True), start=1):
            name = f"layer {index}"
            draw.text((self.left, top - 12), name, TEXT, _font(13), "lm")
            x = self.left + draw.textlength(name, _font(13)) + 10
            neurons = f"{shape[0]:,} neurons"
            if len(shape) == 3:
                neurons = f"{shape[0]} maps of {shape[1]} × {shape[2]} neurons"
            draw.text((x, top - 12), neurons, DIM, _font(12), "lm")

    def draw(self, image: Image.Image, hidden: Sequence[np.ndarray]) -> None:
        """The neurons of one decision.

        Args:
            image: the frame.
            hidden: see `Frame`.
        """
        draw = ImageDraw.Draw(image)
        for values, layer, top in zip(hidden, self.layers, self.tops, strict=True):
            largest = float(values.max())
            full = 1.0 if self._spiking else largest
            image.paste(mosaic(values / full if full > 0 else values, layer), (self.left, top))
            words = f"mean {values.mean():.3g}, largest {largest:.3g}"
            if self._spiking:
                words = f"mean {100 * values.mean():.1f} %, largest {100 * largest:.0f} %"
            words += f", {100 * (values == 0).mean():.0f} % silent"
            draw.text((self._right, top - 12), words, DIM, _font(12), "rm")


def mosaic(values: np.ndarray, layer: Tiles) -> Image.Image:
    """A layer's values in [0, 1], [C, H, W] or [N], in colours of `RAMP`."""
    maps = values.reshape(layer.maps, layer.height, layer.width)
    colours = RAMP[np.rint(np.clip(maps, 0, 1) * (len(RAMP) - 1)).astype(np.int64)]  # [C, H, W, 3]
    image = Image.new("RGB", layer.size, BACKGROUND)
    for index, pixels in enumerate(colours.repeat(layer.cell, axis=1).repeat(layer.cell, axis=2)):
        image.paste(Image.fromarray(pixels), layer.corner(index))
    return image


def _draw_pointer(draw: ImageDraw.ImageDraw, x: int, y: int, fill: Colour | None) -> None:
    draw.polygon([(x, y - 5), (x + 8, y), (x, y + 5)], fill, fill or TEXT)


def _strip(heights: np.ndarray, height_pixels: int) -> Image.Image:
    """Columns of heights in [0, 1] with bright tops, the last one at the right end."""
    pixels = np.full((height_pixels, WINDOW_STEPS, 3), TRACK, dtype=np.uint8)
    tops = height_pixels - 2 - np.rint(np.clip(heights, 0, 1) * (height_pixels - 2)).astype(np.int64)  # [W]
    rows = np.arange(height_pixels)[:, None]
    filled = pixels[:, WINDOW_STEPS - len(heights) :]
    filled[rows >= tops] = DARK_BLUE
    filled[(rows >= tops) & (rows < tops + 2)] = BLUE
    return Image.fromarray(pixels.repeat(COLUMN, axis=1))


def picture(observation: np.ndarray, game: Game, side: int) -> Image.Image:
    """An observation in network-input units, enlarged to side x side pixels.

    Of stacked frames the newest; planes one over the other, each in its colour and as strong as its values.
    """
    match game.tier:
        case "atari":
            grey = np.rint(255 * observation[-1]).astype(np.uint8)
            return Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST).convert("RGB")
        case "minatar":
            mixed = np.broadcast_to(np.array(BACKGROUND, dtype=np.float64) + 6, (*observation.shape[1:], 3))
            for plane, colour in zip(observation, PLANES, strict=False):
                mixed = mixed + plane[:, :, None] * (np.array(colour) - mixed)
            return _grid(mixed, side)
        case "control":
            return _cart_and_pole(observation, side)


def picture_of_change(change: np.ndarray, largest: float, game: Game, side: int) -> Image.Image:
    """A perturbation: orange adds, blue takes away, full colour at `largest`.

    Of stacked frames the newest; planes side by side, the numbers of a state too.
    """
    planes = change.reshape(-1, 1, 1) if change.ndim == 1 else change
    planes = planes[-1:] if game.tier == "atari" else planes
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


def _grid(colours: np.ndarray, side: int) -> Image.Image:
    """Cells [10, 10, 3] with lines between them."""
    cell = side // len(colours)
    pixels = np.rint(colours).astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    pixels[::cell] = pixels[:, ::cell] = BACKGROUND
    return Image.fromarray(pixels)


def _cart_and_pole(state: np.ndarray, side: int) -> Image.Image:
    """CartPole's state: position within the 2.4 units that end the game, and the pole's angle (rad)."""
    image = Image.new("RGB", (side, side), tuple(level + 6 for level in BACKGROUND))
    draw = ImageDraw.Draw(image)
    unit = side / 4.8
    x, y = side / 2 + unit * float(state[0]), 0.7 * side
    draw.line((0, y, side, y), DIM, max(side // 250, 1))
    draw.rectangle((x - 0.25 * unit, y - 0.15 * unit, x + 0.25 * unit, y + 0.15 * unit), BLUE)
    # Gymnasium's pole is 1 unit long; it is drawn twice as long, so that its lean is seen.
    tip = x + 2 * unit * math.sin(float(state[2])), y - 2 * unit * math.cos(float(state[2]))
    draw.line((x, y, *tip), ORANGE, side // 40)
    draw.ellipse((x - side / 60, y - side / 60, x + side / 60, y + side / 60), TEXT)
    return image
