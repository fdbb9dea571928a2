"""The reference simulation of a converted network, in plain torch, on any device.

There are no recurrent connections, so each layer is run over a block of simulation steps before the next layer starts.
The block's steps are folded into the batch of one convolution, and only membranes are kept between blocks. Memory is
that of one block, for any number of simulation steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from core.choices import FIRINGS, Firing
from core.errors import Refusal
from core.layers import Layers, apply_layer, apply_to_image
from core.ranges import Real, require_ranges

BLOCK_ROWS = 128
"""Rows (batch x simulation steps) of one block: enough for an efficient convolution, few enough for the cache."""


@dataclass(frozen=True)
class IFNeuron:
    """The neuron of a converted network: integrate and fire with threshold 1 and soft reset."""

    firing: Firing = "at-once"
    """When the neuron fires.

    at-once: as soon as the membrane reaches 1 (Tan et al. 2021). signed: also a spike of -1 if the membrane is below 0
    and the neuron has fired more spikes of +1 than of -1. It takes back a spike that came too early (Wang et al. 2022,
    "Signed neuron with memory"). afterwards: a layer integrates for T steps and fires in the T steps that follow, while
    the next layer integrates. Its count is clip(floor(v_init + charge), 0, T) for any order of arrival.
    """
    v_init: Annotated[float, Real(0, 1, below=True)] = 0.0
    """Membrane before the first step: 0, or 1/2 so that counts are rounded to the nearest and not down.

    Source: Bu et al. 2022 (arXiv 2202.01440).
    """
    tau: Annotated[float, Real(0, above=True)] | None = None
    """Time constant of a leak in simulation steps; None for no leak.

    A membrane shrinks by exp(-1/tau) at each step, as in the LIF variant of the fork by Liu et al. 2022.
    """

    def __post_init__(self) -> None:
        if self.firing not in FIRINGS:
            raise Refusal(f"firing {self.firing!r}: accepted are {', '.join(FIRINGS)}")
        require_ranges(self)

    @property
    def leak(self) -> float:
        """Factor of a membrane from one simulation step to the next."""
        return 1.0 if self.tau is None else math.exp(-1 / self.tau)


DEFAULT_NEURON = IFNeuron()


class Simulation(NamedTuple):
    """Result of one simulation at R recorded steps and at its end."""

    counts: Tensor
    """[R, B, A] output spikes so far, minus negative ones."""
    residuals: Tensor
    """[R, B, A] output membranes, in units of the threshold."""
    spikes: Tensor
    """[R, B, L] spikes of each layer so far, of either sign. The output layer is the last."""
    layer_counts: list[Tensor]
    """For each layer, [R, B, ...]: spikes of each neuron so far, minus negative ones; empty from the event engine."""
    membranes: list[Tensor]
    """For each layer, [B, ...]: membranes after the last step; empty from the event engine."""
    fired: list[Tensor]
    """For each layer, [B, ...]: spikes of each neuron over all steps, of either sign.

    Empty from the event engine, unless `each_neuron` is true.
    """


def require_record_at(record_at: Sequence[int], sim_steps: int, neuron: IFNeuron) -> tuple[int, ...]:
    """The simulation steps at which outputs are recorded: by default the last one.

    Raises:
        Refusal: the steps are not ascending, not in range, or not possible for the neuron.
    """
    steps = tuple(record_at) or (sim_steps,)
    if neuron.firing == "afterwards" and steps != (sim_steps,):
        raise Refusal(
            f"record_at is {list(steps)}: neurons that fire afterwards have one count, after {sim_steps}"
        )
    if list(steps) != sorted({step for step in steps if 1 <= step <= sim_steps}):
        raise Refusal(f"record_at is {list(steps)}: ascending steps from 1 to {sim_steps} are needed")
    return steps


@dataclass
class IFPopulation:
    """State of a layer's neurons during a simulation."""

    neuron: IFNeuron
    v: Tensor
    """[B, ...] membranes."""
    silent: Tensor | None
    """[B, ...] bool: neurons that must not fire; None if all may."""
    count: Tensor
    """[B, ...] spikes so far, minus negative ones."""
    fired: Tensor
    """[B, ...] spikes so far, of either sign."""

    @classmethod
    def at_rest(cls, like: Tensor, neuron: IFNeuron) -> "IFPopulation":
        """Neurons before the first step, one for each element of a tensor [B, ...]."""
        v = torch.full_like(like, neuron.v_init)
        return cls(neuron, v, None, torch.zeros_like(like), torch.zeros_like(like))

    def step(self, x: Tensor) -> None:
        """One simulation step. The currents x [B, ...] are overwritten with the spikes."""
        if self.neuron.tau is not None:
            self.v *= self.neuron.leak
        self.v += x
        torch.ge(self.v, 1.0, out=x)
        if self.neuron.firing == "signed":
            x -= ((self.v < 0.0) & (self.count > 0.0)).to(x.dtype)
        if self.silent is not None:
            x.masked_fill_(self.silent, 0.0)
        self.v -= x
        self.count += x

    def spent(self, trains: Tensor) -> None:
        """Count the spikes of a block [S, B, ...]."""
        self.fired += trains.abs().sum(0)


@torch.no_grad()
def simulate(
    layers: Layers,
    observations: Tensor,
    sim_steps: int,
    neuron: IFNeuron = DEFAULT_NEURON,
    *,
    layer_delay: bool = False,
    record_at: Sequence[int] = (),
    starts: Sequence[Tensor] = (),
    silent: Sequence[Tensor] = (),
    image_bits: int | None = None,
) -> Simulation:
    """Simulate a network with neurons behind every layer and a constant image as input.

    Args:
        layers: normalised convolutions and fully connected layers.
        observations: [B, *observation] float32, the input of every simulation step.
        sim_steps: number of simulation steps; neurons that fire afterwards take as many for each layer.
        neuron: options of all neurons.
        layer_delay: whether spikes, and the image, take one step to reach the next layer. Biases act from the first
            step. BindsNET, and so Tan et al. 2021, simulate like this.
        record_at: steps (1 to sim_steps, ascending) at which outputs are recorded; the last one if empty.
        starts: membranes [B, ...] of every layer before the first step; `neuron.v_init` if empty.
        silent: neurons [B, ...] of every layer that must not fire; none if empty.
        image_bits: see `core.layers.apply_to_image`.

    Raises:
        Refusal: `record_at` is not possible, or the neuron cannot be combined with another argument.
    """
    record_at = require_record_at(record_at, sim_steps, neuron)
    if neuron.firing == "afterwards":
        if layer_delay or starts or silent:
            raise Refusal("neurons that fire afterwards know no delay, no carried membranes and no silence")
        return _in_turn(layers, observations, sim_steps, neuron, image_bits)
    batch = observations.shape[0]
    block = max(1, BLOCK_ROWS // batch)
    first = next(iter(layers))
    image_current = apply_to_image(first, observations, image_bits)  # [B, ...], the same at every step
    populations: list[IFPopulation] = []
    previous: list[Tensor] = []  # spikes of each layer at the step before the block, for layer_delay
    recorded: list[_Recorded] = []

    start = 0
    while start < sim_steps:
        # A block ends where outputs are recorded, so only ends of blocks are recorded.
        end = min(start + block, *(step for step in record_at if step > start), sim_steps)
        steps = end - start
        trains = image_current.expand(steps, *image_current.shape).clone()
        if layer_delay and start == 0:
            trains[0] = apply_layer(first, torch.zeros_like(observations))  # the bias alone
        for index, layer in enumerate(layers):
            if index > 0:
                arriving = trains
                if layer_delay:
                    before = torch.zeros_like(trains[:1]) if start == 0 else previous[index - 1]
                    arriving = torch.cat([before, trains[:-1]])
                    previous[index - 1 : index] = [trains[-1:].clone()]
                trains = apply_layer(layer, arriving.flatten(0, 1)).unflatten(0, (steps, batch))
            if start == 0:
                populations.append(IFPopulation.at_rest(trains[0], neuron))
                if starts:
                    populations[index].v.copy_(starts[index])
                if silent:
                    populations[index].silent = silent[index]
            population = populations[index]
            for x in trains:
                population.step(x)
            population.spent(trains)
        if end in record_at:
            recorded.append(_record(populations))
        start = end
    return _simulation(recorded, populations)


def _in_turn(
    layers: Layers, observations: Tensor, sim_steps: int, neuron: IFNeuron, image_bits: int | None
) -> Simulation:
    """Simulate neurons that fire afterwards, one layer after the other.

    The first layer fires at once, because its current is constant. Each later layer integrates all spikes of the
    previous one before it fires. The output layer fires last.
    """
    block = max(1, BLOCK_ROWS // observations.shape[0])
    first, *others = layers
    current = apply_to_image(first, observations, image_bits)
    populations = [IFPopulation.at_rest(current, neuron)]
    heard = current  # current of the firing layer: zero for later layers, whose inputs have all arrived
    for layer in (*others, None):
        population = populations[-1]
        listening: Tensor | None = None
        for start in range(0, sim_steps, block):
            trains = heard.expand(min(block, sim_steps - start), *heard.shape).clone()
            for x in trains:
                population.step(x)
            population.spent(trains)
            if layer is not None:
                arriving = apply_layer(layer, trains.flatten(0, 1)).unflatten(0, trains.shape[:2]).sum(0)
                listening = arriving if listening is None else listening + arriving
        if listening is not None:
            populations.append(IFPopulation.at_rest(listening, neuron))
            populations[-1].v += listening
            heard = torch.zeros_like(listening)
    return _simulation([_record(populations)], populations)


class _Recorded(NamedTuple):
    """State of all layers at a recorded step."""

    counts: list[Tensor]
    residual: Tensor
    spikes: Tensor


def _record(populations: Sequence[IFPopulation]) -> _Recorded:
    return _Recorded(
        [population.count.clone() for population in populations],
        populations[-1].v.clone(),
        torch.stack([population.fired.flatten(1).sum(1) for population in populations], 1),
    )


def _simulation(recorded: Sequence[_Recorded], populations: Sequence[IFPopulation]) -> Simulation:
    counts, residuals, spikes = zip(*recorded, strict=True)
    layer_counts = [torch.stack(of_layer) for of_layer in zip(*counts, strict=True)]
    return Simulation(
        layer_counts[-1],
        torch.stack(residuals),
        torch.stack(spikes),
        layer_counts,
        [population.v for population in populations],
        [population.fired for population in populations],
    )
