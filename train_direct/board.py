"""What TensorBoard shows of a training run. Nothing here changes a number of the run."""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from core.agents import Agent
from core.layered import Layered, LayerTrace
from core.rows import CurveRow, EpisodeRow
from play.environments import network_input
from play.rollout import Step
from play.states import Reservoir

LOOKED_AT = 32
"""States, drawn from a whole validation, in which single neurons are looked at. Spike trains of more would take much
memory."""
SATURATED = 0.99
"""Firing rate, in spikes per simulation step, from which a neuron counts as saturated."""


class Board:
    """The event files of one run.

    Args:
        folder: folder of the event files.
        steps: decisions made before; what later ones wrote before a kill is dropped.
    """

    def __init__(self, folder: Path, steps: int):
        self._writer = None
        try:
            str(folder).encode()
        except UnicodeEncodeError:  # the library fails on such a path
            print(f"{folder}: no files for TensorBoard, because the path is not UTF-8", file=sys.stderr)
        else:
            self._writer = SummaryWriter(str(folder), purge_step=steps + 1)
        self._drawing = np.random.default_rng(0)
        self._states = Reservoir(LOOKED_AT, self._drawing)

    def look_at(self, step: Step) -> None:
        """Remember some states of a validation, each with the same probability. It is called with every decision."""
        for observation in step.observations:
            self._states.offer(observation)

    def point(self, row: CurveRow, diagnostics: Mapping[str, float]) -> None:
        """Show a point of the learning curve, and what the algorithm knows of its last update."""
        curve = {
            name: getattr(row, name)
            for name in ("epsilon", "loss", "q_mean", "train_score", "steps_per_second")
        }
        self._add("train", {**curve, **diagnostics}, row.steps)

    def validation(self, rows: Sequence[EpisodeRow], agent: Agent, steps: int) -> None:
        """Show a validation: its mean score, and for each layer how it fired and how many neurons did not."""
        shown = {
            "score": sum(row.score for row in rows) / len(rows),
            "max_q": sum(row.max_q_mean for row in rows) / len(rows),
        }
        if agent.neuron_counts:
            shown["spikes_per_decision"] = sum(row.spikes_per_decision for row in rows) / len(rows)
        rates = np.mean([json.loads(row.layer_rates) for row in rows], axis=0)
        shown |= {f"firing_rate/layer{layer}": rate for layer, rate in enumerate(rates.tolist(), 1)}
        if isinstance(agent, Layered) and self._states.kept:
            states = network_input(np.stack(self._states.kept), agent.game, agent.device)
            shown |= dict(neurons(agent, states))
        self._states = Reservoir(LOOKED_AT, self._drawing)
        self._add("validation", shown, steps)

    def _add(self, group: str, values: Mapping[str, float], steps: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, steps)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


@torch.no_grad()
def neurons(agent: Layered, states: Tensor) -> Iterator[tuple[str, float]]:
    """Shares of silent and of saturated neurons of each hidden layer.

    A silent neuron is never active in these states. A saturated one fires in nearly every simulation step
    (`SATURATED`); neurons without spikes are never saturated.

    Args:
        agent: the agent.
        states: [B, *observation] network inputs.

    Yields:
        A name such as silent_neurons/layer1, and the share.
    """
    traces = agent.trace(states)
    for layer, (trace, following) in enumerate(itertools.pairwise(traces), 1):
        activity = _activity(trace, following).flatten(1)
        yield f"silent_neurons/layer{layer}", float((activity == 0).all(0).float().mean())
        if trace.fired is not None:
            rates = activity.mean(0) / max(agent.sim_steps, 1)
            yield f"saturated_neurons/layer{layer}", float((rates >= SATURATED).float().mean())


def _activity(trace: LayerTrace, following: LayerTrace) -> Tensor:
    """Spikes, or activations, of each neuron of a layer [B, ...]: what the next layer hears."""
    return (following.heard if trace.fired is None else trace.fired).float()
