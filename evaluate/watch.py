"""Pictures of a network while it plays: the game, its action scores, and every hidden neuron.

It follows `play` of SpikingJelly's CartPole tutorial, for every tier. The tutorial shows means over the play so far.
Here firing rates and scores are those of one decision. Hidden neurons are drawn for agents of `core.layered.Layered`,
the firing rate of each layer for every spiking agent.
"""

import contextlib
import itertools
from collections.abc import Callable

import numpy as np
from PIL import Image

from core.checkpoint import Checkpoint
from core.games import Game
from core.layered import Layered
from play.environments import network_input
from play.episodes import Played, play
from play.film.frame import frame_of
from play.film.painter import Painter
from play.protocols import Protocol
from play.rollout import Step

Show = Callable[[Image.Image], None]
"""A function that receives each picture."""


class Enough(Exception):
    """Raised when all requested decisions were shown, or the window was closed."""


def hidden_activity(agent: Layered, step: Step, row: int) -> tuple[np.ndarray, ...]:
    """The activity of every hidden neuron in one decision, which is computed again from its start.

    Args:
        agent: the agent that decided.
        step: a step of a rollout.
        row: which of the step's decisions.

    Returns:
        For each hidden layer [C, H, W] or [N] float32. For neurons that spike: spikes of either sign per simulation
        step, so that the mean is the layer's rate in `EpisodeRow.layer_rates`. For other neurons: activations.
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
    """Draws and shows the decisions of games that are played in turn. It is the `on_step` of `play`.

    Args:
        checkpoint: the agent that plays.
        game: the game that is played.
        show: is called with the picture of each decision.
        steps: decisions to show before it raises `Enough`; None shows all.
    """

    def __init__(self, checkpoint: Checkpoint, game: Game, show: Show, steps: int | None = None):
        self.watched: list[Played] = []
        """The sums of each episode so far."""
        self._layered = checkpoint.agent if isinstance(checkpoint.agent, Layered) else None
        self._checkpoint = checkpoint
        self._game = game
        self._show = show
        self._left = steps
        self._painter = self._new_painter()

    def _new_painter(self) -> Painter:
        shapes = () if self._layered is None else self._layered.layer_shapes[:-1]
        return Painter(self._game, self._checkpoint, hidden_shapes=shapes)

    def __call__(self, step: Step) -> None:
        """Show the decision of the one environment that plays."""
        if step.starts[0]:
            self._painter = self._new_painter()
            self.watched.append(Played(int(step.episodes[0])))
        played = self.watched[-1]
        played.add(step, 0)
        hidden = () if self._layered is None else hidden_activity(self._layered, step, 0)
        frame = frame_of(step, 0, played, self._checkpoint.agent, self._game, hidden)
        self._show(self._painter.paint(frame))
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
        checkpoint: the agent that plays.
        game: the game that is played.
        protocol: how it is played, resolved for the game.
        show: is called with the picture of each decision; it may raise `Enough`.
        eval_seed: seed of the evaluation that the episodes belong to.
        episode: index of the first episode.
        steps: decisions to show, over as many episodes as they take; None shows one episode.

    Returns:
        The sums of each episode, as far as it was shown.
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
