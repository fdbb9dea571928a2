"""A window into the network: a game as it is played, its action scores, and what every hidden neuron does for each.

After `play` of SpikingJelly's CartPole tutorial, for every agent that has layers and every tier. There, firing rates
are means since play began; here they are of one decision, as are the scores beside them.
"""

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from core.checkpoint import Checkpoint
from core.errors import Refusal
from core.games import Game
from core.operations import Layered
from play.environments import network_input
from play.episodes import Played, play
from play.painter import Painter, frame_of
from play.protocols import Protocol
from play.rollout import Step

Show = Callable[[Image.Image], None]


class Enough(Exception):
    """No more is to be shown: so many decisions were asked for, or nobody watches any longer."""


def hidden_activity(agent: Layered, step: Step, row: int) -> tuple[np.ndarray, ...]:
    """What every hidden neuron did in one decision, simulated once more from where it began.

    Args:
        agent: what decided.
        step: of a rollout.
        row: which of its decisions.

    Returns:
        Of each hidden layer, [C, H, W] or [N] float32: spikes a simulation step of the decision (of either sign), so
        that its mean is the layer's rate in `EpisodeRow.layer_rates`; activations where neurons do not spike.
    """
    inputs = network_input(step.observations[row : row + 1], agent.game, agent.device)
    carry = None if step.carry is None else tuple(part[row : row + 1] for part in step.carry)
    traces = agent.trace(inputs, carry)
    if step.activity is None:
        return tuple(trace.heard[0].cpu().numpy() for trace in traces[1:])
    sim_steps = step.activity.sim_steps[row]
    fired = [trace.fired for trace in traces[:-1]]
    return tuple((each[0].cpu() / sim_steps).numpy() for each in fired if each is not None)


class Watcher:
    """Draws the decisions of games played one after the other, and shows them: an `on_step` of `play`.

    Args:
        checkpoint: what plays.
        game: what is played.
        show: is given the picture of each decision.
        steps: decisions after which it is `Enough`; None shows all.

    Raises:
        Refusal: the agent has no layers.
    """

    def __init__(self, checkpoint: Checkpoint, game: Game, show: Show, steps: int | None = None):
        agent = checkpoint.agent
        if not isinstance(agent, Layered):
            raise Refusal(
                f"agent {agent.kind!r} has no neurons to watch: accepted are dqn, quantised, rate-coded, dsqn, "
                "actor, spiking-actor"
            )
        self.watched: list[Played] = []
        """The episodes so far, summed up."""
        self._agent = agent
        self._checkpoint = checkpoint
        self._game = game
        self._show = show
        self._left = steps
        self._painter = self._new_painter()

    def _new_painter(self) -> Painter:
        return Painter(self._game, self._checkpoint, hidden_shapes=self._agent.layer_shapes[:-1])

    def __call__(self, step: Step) -> None:
        """Show the decision of the one environment that plays."""
        if step.starts[0]:
            self._painter = self._new_painter()
            self.watched.append(Played(int(step.episodes[0])))
        played = self.watched[-1]
        played.add(step, 0)
        hidden = hidden_activity(self._agent, step, 0)
        self._show(self._painter.paint(frame_of(step, 0, played, self._agent, self._game, hidden)))
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise Enough


def watch(
    checkpoint: Checkpoint,
    game: Game,
    protocol: Protocol,
    show: Show,
    *,
    eval_seed: int,
    episode: int = 0,
    steps: int | None = None,
) -> list[Played]:
    """Play and show every decision.

    Args:
        checkpoint: what plays: an agent that has layers.
        game: what is played.
        protocol: how, resolved for the game.
        show: is given the picture of each decision; it may raise `Enough`.
        eval_seed: episode i is the one that `play` gives this seed.
        episode: the first one's index.
        steps: decisions to show, of as many episodes as they take; None shows that one episode.

    Returns:
        The episodes, summed up as far as they were shown.

    Raises:
        Refusal: the agent has no layers.
    """
    watcher = Watcher(checkpoint, game, show, steps)
    with contextlib.suppress(Enough):
        for index in [episode] if steps is None else itertools.count(episode):
            for _ in play(
                checkpoint.agent,
                game,
                protocol,
                eval_seed=eval_seed,
                episodes=[index],
                num_envs=1,
                on_step=watcher,
            ):
                pass
    return watcher.watched


# Where pictures go to ---------------------------------------------------------------------------------


class Pictures:
    """A folder of PNG files, one a decision: 000001.png, 000002.png, ...

    Args:
        folder: new, or empty.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._number = 0

    def write(self, image: Image.Image) -> None:
        """Add a file."""
        self._number += 1
        image.save(self._folder / f"{self._number:06}.png")


class Window:
    """A window on the screen, at the pace of the game or slower: space pauses, Escape, q or closing it ends it.

    A context: leaving it closes the window.

    Args:
        title: what is written above it.
        frames_per_second: pictures a second, at most.

    Raises:
        Refusal: there is no screen, or Python has no Tk.
    """

    def __init__(self, title: str, frames_per_second: int):
        instead = "give --save FILE.mp4 or --save FOLDER to look at it later"
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:  # Tk is a package of its own on some systems
            raise Refusal(f"this Python opens no windows ({error}): {instead}")
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise Refusal(f"no screen to open a window on ({error}): {instead}")
        self._interval_s = 1 / frames_per_second
        self._due_s = 0.0
        self._paused = False
        self.closed = False
        """Nobody watches any longer."""
        self._title = title
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._new_photo = ImageTk.PhotoImage
        self._photo: ImageTk.PhotoImage | None = None
        self._root.title(title)
        self._root.resizable(False, False)
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._close())
        self._root.bind("<space>", lambda event: self._pause())

    def _close(self) -> None:
        self.closed = True

    def _pause(self) -> None:
        self._paused = not self._paused
        self._root.title(f"{self._title} (paused)" if self._paused else self._title)

    def show(self, image: Image.Image) -> None:
        """Show a picture, no sooner than the one before has been seen; raises `Enough` once the window is closed."""
        while not self.closed and (self._paused or time.monotonic() < self._due_s):
            self._wait()
        if self.closed:
            raise Enough
        fitting = self._fitted(image)
        if self._photo is None:
            self._photo = self._new_photo(fitting, master=self._root)
            self._label.configure(image=self._photo)
        else:
            self._photo.paste(fitting)
        self._root.update()
        self._due_s = time.monotonic() + self._interval_s

    def hold(self) -> None:
        """Keep the last picture until the window is closed."""
        self._root.title(f"{self._title} (over)")
        while not self.closed:
            self._wait()

    def _wait(self) -> None:
        self._root.update()
        time.sleep(0.005)

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The picture, made smaller where the screen is."""
        screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
        share = min(1.0, *(theirs / ours for theirs, ours in zip(screen, image.size, strict=True)))
        if share == 1.0:
            return image
        size = int(share * image.width), int(share * image.height)
        return image.resize(size, Image.Resampling.LANCZOS)

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._root.destroy()
