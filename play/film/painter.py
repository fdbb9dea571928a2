"""One decision as a picture: the game as the agent sees it, its action scores, its layers and its neurons.

Drawn with Pillow, for videos (`play/film/video.py`) and for the window (`evaluate/window.py`).
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from core import kinds
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.dsqn import DSQN, SpikingActor
from core.games import Game
from core.readouts import READOUTS
from play.film.frame import Frame
from play.film.looks import look_of, picture_of_change
from play.film.neurons import NeuronPanel
from play.film.style import (
    BACKGROUND,
    BAR,
    BLUE,
    CONTENT,
    DARK_BLUE,
    DIM,
    GAP,
    MARGIN,
    NAME,
    ORANGE,
    PANEL,
    TEXT,
    TITLE,
    TRACK,
    Colour,
    font,
)

COLUMN = 2
"""Pixels of one decision in the strips of the past."""
WINDOW_STEPS = BAR // COLUMN
"""Decisions that a strip shows."""
STRIPS_GAP = 14
"""Pixels between the rows of actions and the strips."""
_READ_FROM: Mapping[str, str] = {
    "rate": "from mean spikes",
    "spike-rate": "output firing rates",
    "last-mem": "last voltages",
    "max-mem": "largest voltages",
    "mean-mem": "mean voltages",
    "max-abs-mem": "extreme voltages",
}
"""What the action scores of a spiking network are, by its read-out. Another read-out is told by its name."""


class Painter:
    """Draws the decisions of one episode, in their order. It remembers the last `WINDOW_STEPS` of them.

    Args:
        game: the game that is played.
        checkpoint: the agent that plays.
        attack: name of the attack, which adds a column for the clean game and the perturbation; None without one.
        hidden_shapes: [C, H, W] or [N] of each hidden layer, which adds a column for all neurons; empty without it.
    """

    def __init__(
        self,
        game: Game,
        checkpoint: Checkpoint,
        attack: str | None = None,
        hidden_shapes: Sequence[tuple[int, ...]] = (),
    ):
        self._game = game
        self._look = look_of(game)
        self._names = self._look.action_names
        self._side, self._small = self._look.side, self._look.small_side
        self._attack_left = MARGIN + self._side + GAP
        self.panel_left = self._attack_left + (0 if attack is None else self._small + GAP)
        """Left edge of the column of scores; its bars begin `NAME` pixels further right."""
        right = self.panel_left + PANEL
        counts = checkpoint.agent.neuron_counts
        self.network: NeuronPanel | None = None
        if hidden_shapes:
            width = self._look.network_width
            self.network = NeuronPanel(right + GAP, width, hidden_shapes, spiking=len(counts) > 0)
            right += GAP + width
        self.size = (right + MARGIN, CONTENT + 2 * MARGIN)
        """Width and height of a frame, both even."""
        strips = 1 + len(counts)
        room = CONTENT - 2 * TITLE - STRIPS_GAP
        # A network of many layers may need more room than there is; its last strips are then cut off.
        self.row_height = max(12, min(34, (room - 34 * strips) // len(self._names)))
        """Pixels of an action's row."""
        self.rows_top = MARGIN + TITLE
        """Top edge of the first action's row."""
        self._strips_top = self.rows_top + self.row_height * len(self._names) + STRIPS_GAP + TITLE
        self._strip_height = max(16, min(120, (MARGIN + CONTENT + 6 - self._strips_top) // strips))
        self._past: deque[np.ndarray] = deque(maxlen=WINDOW_STEPS)  # [1 + L] each
        self._rewards: deque[float] = deque(maxlen=self._look.decisions_per_second)
        self._spreads: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._digits = 1
        self._lowest = np.array([math.inf] + [0.0] * len(counts))
        self._highest = np.array([-math.inf] + [0.0] * len(counts))
        self._background = self._draw_background(checkpoint, attack)

    def _draw_background(self, checkpoint: Checkpoint, attack: str | None) -> Image.Image:
        """What stays the same in all frames."""
        image = Image.new("RGB", self.size, BACKGROUND)
        draw = ImageDraw.Draw(image)
        middle = MARGIN + TITLE // 2 - 3
        draw.text((MARGIN, middle), self._game.name, TEXT, font(16, bold=True), "lm")
        width = draw.textlength(self._game.name, font(16, bold=True))
        seed = checkpoint.provenance["train_seed"]
        player = kinds.label(checkpoint.agent.kind) + (f", seed {seed}" if seed >= 0 else "")
        draw.text((MARGIN + width + 12, middle), player, DIM, font(14), "lm")
        if attack is not None:
            second = MARGIN + CONTENT - self._small - TITLE + middle - MARGIN
            draw.text((self._attack_left, middle), "without attack", TEXT, font(14, bold=True), "lm")
            draw.text((self._attack_left, second), attack, TEXT, font(14, bold=True), "lm")
        has_q_values = checkpoint.provenance["scores_are_q_values"]
        heading = "Q-values" if has_q_values else "action scores"
        draw.text((self.panel_left, middle), heading, TEXT, font(14, bold=True), "lm")
        beside = self.panel_left + draw.textlength(heading, font(14, bold=True)) + 8
        draw.text((beside, middle), _read_from(checkpoint.agent, has_q_values), DIM, font(12), "lm")
        self._draw_strip_names(
            draw, checkpoint.agent.neuron_counts, "largest Q" if has_q_values else "largest score"
        )
        for x, y, name, colour in self._legend(draw):
            draw.rectangle((x, y, x + 9, y + 9), colour)
            draw.text((x + 14, y + 5), name, DIM, font(11), "lm")
        if self.network is not None:
            self.network.draw_background(image)
        return image

    def _draw_strip_names(self, draw: ImageDraw.ImageDraw, counts: Sequence[int], first: str) -> None:
        """Name the strips: one of the largest score, one for each spiking layer."""
        left, middle = self.panel_left, self._strips_top - TITLE + TITLE // 2 - 3
        draw.text((left, middle), f"last {WINDOW_STEPS} decisions", TEXT, font(14, bold=True), "lm")
        names = [first, *(f"layer {layer}" for layer in range(1, len(counts) + 1))]
        for index, name in enumerate(names):
            centre = self._strips_top + index * self._strip_height + (self._strip_height - 6) // 2
            draw.text((left, centre - 7), name, TEXT, font(13), "lm")
            if index > 0:
                draw.text((left, centre + 8), f"{counts[index - 1]:,} neurons", DIM, font(11), "lm")

    def _legend(self, draw: ImageDraw.ImageDraw) -> Iterator[tuple[int, int, str, Colour]]:
        """Left, top, name and colour of each entry of the legend, in as many lines as they need."""
        x, y = MARGIN, MARGIN + TITLE + self._side + 38
        for name, colour in self._look.legend():
            width = 14 + int(draw.textlength(name, font(11))) + 12
            if x + width - 12 > MARGIN + self._side:
                x, y = MARGIN, y + 18
            yield x, y, name, colour
            x += width

    def paint(self, frame: Frame) -> Image.Image:
        """The picture of the next decision, RGB."""
        image = self._background.copy()
        draw = ImageDraw.Draw(image)
        image.paste(self._look.picture(frame.seen, self._side), (MARGIN, MARGIN + TITLE))
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
        draw.text((MARGIN, middle), score, TEXT, font(17, bold=True), "lm")
        self._rewards.append(frame.reward)
        earned = sum(self._rewards)  # over the last second, so that there is time to read it
        if earned:
            width = draw.textlength(score, font(17, bold=True))
            colour = ORANGE if earned > 0 else BLUE
            draw.text((MARGIN + width + 12, middle), f"{earned:+g}", colour, font(15, bold=True), "lm")
        self._draw_numbers(draw, frame.seen)
        words = [f"episode {frame.episode}", f"decision {frame.decisions:,}"]
        if frame.clean_scores is not None:
            words = [f"{frame.flips:,} of {frame.decisions:,} decisions flipped"]
        if frame.ending:
            words.append(frame.ending)
        draw.text((MARGIN + self._side, middle), "   ".join(words), DIM, font(14), "rm")

    def _draw_numbers(self, draw: ImageDraw.ImageDraw, observation: np.ndarray) -> None:
        """Write the numbers of an observation side by side."""
        top = MARGIN + TITLE + self._side + 44
        x = float(MARGIN)
        for name, value in self._look.numbers(observation):
            draw.text((x, top), name, DIM, font(11), "lm")
            x += draw.textlength(name, font(11)) + 5
            draw.text((x, top), f"{value:+.2f}", TEXT, font(12), "lm")
            x += draw.textlength("+0.00", font(12)) + 15

    def _draw_attack(self, image: Image.Image, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        """Draw the clean game and the perturbation."""
        image.paste(self._look.picture(frame.clean, self._small), (self._attack_left, MARGIN + TITLE))
        change = frame.seen - frame.clean
        largest = float(np.abs(change).max())
        top = MARGIN + CONTENT - self._small
        image.paste(picture_of_change(change, largest, self._look, self._small), (self._attack_left, top))
        right, middle = self._attack_left + self._small, top - TITLE // 2 - 3
        draw.text((right, middle), f"±{largest:.2g}", TEXT, font(12), "rm")
        width = draw.textlength(f"±{largest:.2g} ", font(12))
        draw.text((right - width, middle), "full colour", DIM, font(12), "rm")

    def _draw_scores(self, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        """Draw a bar for each action, above the decision's lowest score; ticks mark the scores without the attack."""
        clean = frame.scores if frame.clean_scores is None else frame.clean_scores
        low = min(frame.scores.min(), clean.min())
        self._spreads.append(float(max(frame.scores.max(), clean.max()) - low))
        # Bars are long where the choice matters and short where all actions are nearly as good.
        usual = float(np.median(self._spreads))
        full = max(usual, self._spreads[-1])
        self._digits = min(max(1 - math.floor(math.log10(usual)), 1), 5) if usual > 0 else 1
        left, bars = self.panel_left, self.panel_left + NAME
        caption = f"bar: above the lowest, full {full:z.{self._digits}f}"
        draw.text((left + PANEL, MARGIN + TITLE // 2 - 3), caption, DIM, font(12), "rm")
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
            draw.text((left + 14, middle), name, ORANGE if chosen else TEXT, font(size, chosen), "lm")
            draw.rectangle((bars, top, bars + BAR - 1, bottom), TRACK)
            length = round(BAR * float(frame.scores[action] - low) / full) if full > 0 else 0
            if length:
                draw.rectangle((bars, top, bars + length - 1, bottom), ORANGE if chosen else DARK_BLUE)
            if frame.clean_scores is not None and full > 0:
                tick = bars + round((BAR - 2) * float(clean[action] - low) / full)
                draw.rectangle((tick, top, tick + 1, bottom), TEXT)
            if chosen and action != greedy:
                draw.text((bars + BAR - 6, middle), "by chance", TEXT, font(min(12, size)), "rm")
            elif action == unattacked != greedy:
                draw.text((bars + BAR - 6, middle), "without attack", TEXT, font(min(12, size)), "rm")
            value = f"{frame.scores[action]:z.{self._digits}f}"
            draw.text((left + PANEL, middle), value, ORANGE if chosen else TEXT, font(size, chosen), "rm")

    def _draw_past(self, image: Image.Image, draw: ImageDraw.ImageDraw, frame: Frame) -> None:
        """Draw strips of the largest score and of each layer's rate, with this decision at the right end."""
        now = np.array([float(frame.scores.max()), *frame.rates])
        self._past.append(now)
        self._lowest = np.minimum(self._lowest, now)
        self._highest = np.maximum(self._highest, now)
        right = self.panel_left + PANEL
        if len(frame.rates):
            caption = f"firing rate over {frame.sim_steps:,} sim steps"
            draw.text((right, self._strips_top - TITLE // 2 - 3), caption, DIM, font(12), "rm")
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
                draw.text((self.panel_left, centre + 8), scale, DIM, font(11), "lm")
                draw.text((right, centre), f"{value:z.{digits}f}", TEXT, font(13), "rm")
            else:
                draw.text((right, centre - 7), f"{100 * value:.1f} %", TEXT, font(13), "rm")
                draw.text((right, centre + 8), f"top {100 * high:.1f} %", DIM, font(11), "rm")


def _read_from(agent: Agent, has_q_values: bool) -> str:
    """What the scores of a spiking network are, as a word or two beside their heading; empty for other agents."""
    # Without their common mode, the scores of a DSQN are not voltages.
    if not isinstance(agent, DSQN) or not (has_q_values or isinstance(agent, SpikingActor)):
        return ""
    readout = READOUTS.name_of(type(agent.spiking.readout))
    return _READ_FROM.get(readout, readout)


def _draw_pointer(draw: ImageDraw.ImageDraw, x: int, y: int, fill: Colour | None) -> None:
    """Draw a triangle that points to an action; hollow without a colour."""
    draw.polygon([(x, y - 5), (x + 8, y), (x, y + 5)], fill, fill or TEXT)


def _strip(heights: np.ndarray, height_pixels: int) -> Image.Image:
    """A strip of columns with heights in [0, 1] and bright tops, the last one at the right end."""
    pixels = np.full((height_pixels, WINDOW_STEPS, 3), TRACK, dtype=np.uint8)
    tops = height_pixels - 2 - np.rint(np.clip(heights, 0, 1) * (height_pixels - 2)).astype(np.int64)  # [W]
    rows = np.arange(height_pixels)[:, None]
    filled = pixels[:, WINDOW_STEPS - len(heights) :]
    filled[rows >= tops] = DARK_BLUE
    filled[(rows >= tops) & (rows < tops + 2)] = BLUE
    return Image.fromarray(pixels.repeat(COLUMN, axis=1))
