"""pursuit: the neurons of the last hidden layer are chosen for what they tell about the Q-values.

Of all rounding in a network of few simulation steps, that of the last hidden layer costs most on MinAtar. In a state,
few of its neurons are active, each has few levels, and the differences between actions are small beside what all
actions have in common. Many neurons never fire. So the layer is filled anew, with at most as many neurons as before.

A candidate is a neuron of the fitted layer with another threshold and another offset of its bias. All candidates are
simulated on the calibration states. Then orthogonal least squares takes one after the other, each time the one whose
spike counts explain most of what is left of the DQN's advantages. So a neuron that matters may stand there several
times, with thresholds that together tell finer levels. One that does not matter is left out. The output layer is fitted
to those chosen.

This is regression on the DQN's own Q-values, without gradient descent and without rewards. The layers before the last
hidden one are fitted as by `reconstruct`.

The choice is that of centres in Chen, Cowan & Grant 1991 (doi 10.1109/72.80341), after Chen, Billings & Luo 1989 (doi
10.1080/00207178908953472). Populations with many gains and offsets, read by least squares, are those of Eliasmith &
Anderson 2003 (Neural Engineering). Lv et al. 2024 (arXiv 2402.19061) put a group of neurons with staggered thresholds
in the place of each.

The constants below were chosen on the DQNs of seed 0 of the study `minatar`. Those of its other seeds were not looked
at.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from convert.method import METHODS
from convert.methods.reconstruct import RIDGE, Fitting, Reconstruct
from convert.methods.threshold_search import require_alive
from core.choices import Granularity
from core.dqn import DQN
from core.errors import Refusal
from core.layers import Dense, Layers
from core.progress import Progress
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches, q_values

THRESHOLDS = (0.125, 0.25, 0.5, 1.0)
"""Thresholds of candidates, as shares of their neuron's largest drive on the calibration states."""
OFFSETS = tuple(eighth / 8 for eighth in range(8))
"""What is taken from the drive of candidates, as shares of that largest drive."""
COMMON_WEIGHT = 0.05
"""Weight of the mean Q-value over actions, where each advantage has weight 1. No greedy action depends on it."""
DEPENDENT = 1e-3
"""A candidate is not chosen once those chosen explain all but this share of its variance."""
TIE = 1e-5
"""Of candidates that explain as much but for this share, the first is taken, so that rounding does not decide."""
SPENT = 1e-12
"""A candidate that explains less than this share of the targets explains nothing but rounding."""
EXACT = 2**24
"""Sums of whole numbers are exact in float32 up to here."""
BLOCK = 1024
"""States that are summed in double precision at once, at most."""
MOST_VALUES = 2**28
"""Largest number of candidates times states that are compared: 1 GiB, and as much again for a moment.

Where there are more, the first states count. Beside them, each candidate takes 8 bytes for each neuron of the layer.
"""


@METHODS.register("pursuit")
@dataclass(frozen=True, kw_only=True)
class Pursuit(Reconstruct):
    """As reconstruct, but the neurons of the last hidden layer are chosen by what they tell about the Q-values."""

    keeps_neurons: ClassVar[bool] = False

    thresholds: Granularity = "channel"
    """One threshold a channel or a layer, in the layers before the last hidden one, whose neurons have one each."""

    def require_sound(self, coding: RateCoding) -> None:
        for name, value in (("layer_delay", coding.layer_delay), ("presteps", coding.presteps)):
            if value:
                raise Refusal(
                    f"{name} is {value}: pursuit goes with no layer_delay or presteps, because candidates are "
                    "simulated without"
                )

    def require_convertible(self, dqn: DQN) -> None:
        require_dense_end(dqn)

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        require_dense_end(dqn)
        neurons = math.prod(dqn.layer_shapes[-2])
        candidates = len(THRESHOLDS) * len(OFFSETS) * neurons
        counts = min(MOST_VALUES, candidates * states)
        # Counts of all candidates, twice for a moment, and what those chosen have in common with each.
        return super().conversion_bytes(dqn, states) + 2 * 4 * counts + 8 * candidates * neurons

    def fitted(
        self, dqn: DQN, states: np.ndarray, coding: RateCoding
    ) -> tuple[RateCodedNetwork, list[Tensor]]:
        return pursue(dqn, states, coding, self.thresholds == "channel")


def require_dense_end(dqn: DQN) -> None:
    """Refuse a DQN whose neurons cannot be chosen."""
    if not dqn.hidden:
        raise Refusal("there is no hidden layer: pursuit chooses neurons of the last one")
    if not isinstance(dqn.hidden[-1], Dense):
        raise Refusal(
            "the last hidden layer is a convolution: pursuit chooses neurons of fully connected ones"
        )


@torch.no_grad()
def pursue(
    dqn: DQN, states: np.ndarray, coding: RateCoding, by_channel: bool
) -> tuple[RateCodedNetwork, list[Tensor]]:
    """The network with the chosen neurons, and its thresholds in the DQN's units.

    Args:
        dqn: the network to convert; it is not changed.
        states: [S, *observation] to fit on.
        coding: how the network is simulated; neurons are chosen for its simulation steps and firing.
        by_channel: one threshold a channel, instead of one a layer, in the layers before the last hidden one.

    Raises:
        Refusal: the last hidden layer is not fully connected, or is dead on the states.
    """
    require_dense_end(dqn)
    fitting = Fitting(dqn, states, coding)
    with Progress(f"fit at {coding.sim_steps} sim steps", len(dqn.hidden), "layers") as progress:
        for _ in dqn.hidden[:-1]:
            fitting.fit_hidden(by_channel)
            progress.advance(1)
        layer = fitting.layer
        assert isinstance(layer, nn.Linear)
        inputs = fitting.fit_weights() or list(batches(dqn, states))
        progress.advance(1)
    largest = torch.stack([layer(each.flatten(1)).amax(0) for each in inputs]).amax(0)
    require_alive(len(dqn.hidden), largest)
    neurons = (largest > 0).nonzero().squeeze(1)  # the others never fire
    # The lowest drive at which a candidate fires is offset + (1 - v_init) / T threshold. Points of the grid at which
    # that exceeds the largest drive never fire.
    lowest = (1 - coding.neuron.v_init) / coding.sim_steps
    offsets = (0.0,) if layer.bias is None else OFFSETS
    grid = [(t, o) for t, o in itertools.product(THRESHOLDS, offsets) if o + lowest * t < 1]
    compared = states[: max(1, MOST_VALUES // (len(grid) * len(neurons)))]
    counts = _candidate_counts(fitting, compared, largest, neurons, grid)
    q = torch.from_numpy(q_values(dqn, states)).to(dqn.device)
    chosen = orthogonal_least_squares(counts, _targets(q[: len(compared)]), len(largest))
    if not len(chosen):
        raise Refusal(f"{len(compared)} calibration states: no neuron tells anything about their Q-values")

    point, origin = chosen // len(neurons), neurons[chosen % len(neurons)]
    in_units = torch.tensor(grid, device=dqn.device)[point] * largest[origin, None]
    # Where fewer are chosen than there is room for, the rest is wired to nothing and never fires.
    thresholds = torch.ones_like(largest)
    thresholds[: len(chosen)] = in_units[:, 0]
    rows = layer.weight[origin]
    layer.weight.zero_()[: len(chosen)] = rows
    if layer.bias is not None:
        biases = layer.bias[origin] - in_units[:, 1]
        layer.bias.zero_()[: len(chosen)] = biases
    fitting.scales.append(thresholds)
    _fit_output(fitting, q)
    return fitting.network(), fitting.scales


def _fit_output(fitting: Fitting, q: Tensor) -> None:
    """Ridge regression of the DQN's Q-values [S, A] on the rates of the chosen neurons, from weights of 0.

    The penalty is relative to each neuron's own variance. Few neurons fire often, and a penalty in their scale would
    suppress what the others tell.
    """
    output, q = fitting.layer, q.double()
    rates = torch.cat(fitting.inputs()).double()
    if output.bias is not None:
        mean_rates, mean_q = rates.mean(0), q.mean(0)
        rates, q = rates - mean_rates, q - mean_q
    moments = rates.T @ rates
    penalty = RIDGE * moments.diagonal()
    # Neurons that never fire, in the places that are left, have neither moments nor weights.
    moments.diagonal().add_(torch.where(penalty > 0, penalty, 1.0))
    weights = torch.linalg.solve(moments, rates.T @ q)
    output.weight.copy_(weights.T)
    if output.bias is not None:
        output.bias.copy_(mean_q - mean_rates @ weights)
    fitting.scale_output()


def _candidate_counts(
    fitting: Fitting,
    states: np.ndarray,
    largest: Tensor,
    neurons: Tensor,
    grid: Sequence[tuple[float, float]],
) -> Tensor:
    """Spike counts [S, M] of all candidates: of all neurons at the first point of the grid, then at the second.

    They are simulated as one wide layer behind the finished ones.
    """
    unit = torch.where(largest > 0, largest, 1.0)
    *before, last = list(fitting.network(unit).layers)[: len(fitting.scales) + 1]
    wide = nn.utils.skip_init(
        nn.Linear, last.weight.shape[1], len(grid) * len(neurons), last.bias is not None
    )
    wide.weight.copy_(torch.cat([last.weight[neurons] / threshold for threshold, _ in grid]))
    if last.bias is not None:
        biases = [(last.bias[neurons] - offset) / threshold for threshold, offset in grid]
        wide.bias.copy_(torch.cat(biases))
    layers = Layers([*before, wide.to(largest.device)])
    coding = fitting.coding
    return torch.cat(
        [
            torch_engine.simulate(layers, batch, coding.sim_steps, coding.neuron).layer_counts[-1][0]
            for batch in batches(fitting.dqn, states)
        ]
    )


def _targets(q: Tensor) -> Tensor:
    """[S, A + 1]: the advantages of Q-values [S, A], and lightly what they have in common."""
    common = q.mean(1, keepdim=True)
    return torch.cat([q - common, COMMON_WEIGHT * common], 1)


def orthogonal_least_squares(columns: Tensor, targets: Tensor, most: int) -> Tensor:
    """Indices of the columns which, one after the other, explain most of what is left of the targets.

    What the columns chosen before explain counts neither in the targets nor in a column.

    Args:
        columns: [S, M] whole numbers.
        targets: [S, A].
        most: number of columns to choose. Fewer are chosen if the others explain nothing.

    Source: Chen, Cowan & Grant 1991 (doi 10.1109/72.80341).
    """
    number = len(columns)
    means = columns.sum(0, dtype=torch.float64) / number
    free = torch.zeros_like(means)  # [M]: what the chosen columns do not explain of each
    told = means.new_zeros(len(means), targets.shape[1])
    targets = targets.double() - targets.double().mean(0)
    nothing = SPENT * targets.square().sum()
    # In so many rows, products of counts add up without rounding.
    rows_at_once = min(BLOCK, max(1, int(EXACT / max(1.0, float(columns.abs().max()) ** 2))))
    blocks = columns.split(rows_at_once)
    for rows, wanted in zip(blocks, targets.split(rows_at_once), strict=True):
        of_rows = rows.double() - means
        free += of_rows.square().sum(0)
        told += of_rows.T @ wanted
    least = DEPENDENT * free
    # What the chosen columns have in common with every column: so columns stay as they are, one product a choice.
    loads = told.new_zeros(len(told), most)
    chosen: list[int] = []
    with Progress("choose neurons", most, "neurons") as progress:
        while len(chosen) < most:
            explained = torch.where(free > least, told.square().sum(1) / free, 0.0)
            highest = explained.max()
            if not highest > nothing:
                break
            best = int((explained >= (1 - TIE) * highest).nonzero()[0])
            before = loads[:, : len(chosen)]
            products = -number * means * means[best]
            for rows in blocks:
                products += (rows.T @ rows[:, best]).double()
            load = (products - before @ before[best]) / free[best].sqrt()
            told -= torch.outer(load, told[best] / free[best].sqrt())
            free -= load.square()
            free[best] = 0.0
            loads[:, len(chosen)] = load
            chosen.append(best)
            progress.advance(1)
    return torch.tensor(chosen, dtype=torch.long, device=columns.device)
