"""The reference simulation of a converted network, in plain torch, on any device.

Layers do not feed back, so each can be run over a block of simulation steps before the next one starts:
the block's steps are folded into the batch of one convolution, and only the membranes live on from block
to block. Memory stays that of one block, however many steps are simulated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from core.errors import Refusal
from core.layers import Layers, apply_layer, apply_to_image

BLOCK_ROWS = 128
"""Rows (batch x simulation steps) of one block: large enough to fill a convolution, small enough for a cache."""

Firing = Literal["at-once", "signed", "afterwards"]
FIRINGS: tuple[Firing, ...] = ("at-once", "signed", "afterwards")


@dataclass(frozen=True)
class IFNeuron:
    """The neuron of a converted network: integrate and fire, threshold 1, which is subtracted from the membrane."""

    firing: Firing = "at-once"
    """at-once: as soon as the membrane reaches 1 (Tan et al. 2021). signed: also -1 when it is below 0 and the neuron
    has fired more spikes than it took back, so that what came too early is corrected (Wang et al. 2022, "Signed neuron
    with memory"). afterwards: a layer listens for T steps and fires during the T that follow, while the next one
    listens; its count is then clip(floor(v_init + charge), 0, T) whatever the order of arrival."""
    v_init: float = 0.0
    """Membrane before the first step: 0, or 1/2 so that counts are rounded and not cut off (Bu et al. 2022, arXiv
    2202.01440)."""
    tau: float | None = None
    """Time constant of a leak in simulation steps, membranes shrinking by exp(-1/tau) a step (the LIF variant of Liu
    et al. 2022's fork); None: no leak."""

    def __post_init__(self) -> None:
        if self.firing not in FIRINGS:
            raise Refusal(f"firing {self.firing!r}: accepted are {', '.join(FIRINGS)}")
        if not 0.0 <= self.v_init < 1.0:
            raise Refusal(f"v_init is {self.v_init}: accepted is 0 up to, not with, 1 (the threshold)")
        if self.tau is not None and not 0.0 < self.tau < math.inf:
            raise Refusal(f"tau is {self.tau}: accepted is any finite number above 0, or none for no leak")

    @property
    def leak(self) -> float:
        """What a membrane keeps from one simulation step to the next."""
        return 1.0 if self.tau is None else math.exp(-1 / self.tau)


DEFAULT_NEURON = IFNeuron()


class Simulation(NamedTuple):
    """What one simulation gave, at R recorded steps and at its end."""

    counts: Tensor
    """[R, B, A] output spikes so far, those taken back subtracted."""
    residuals: Tensor
    """[R, B, A] output membranes, in units of the threshold."""
    spikes: Tensor
    """[R, B, L] spikes of each layer so far, of either sign (the output layer is the last)."""
    layer_counts: list[Tensor]
    """Of each layer, [R, B, ...]: spikes of each neuron so far, as `counts`; the event engine gives none."""
    membranes: list[Tensor]
    """Of each layer, [B, ...], after the last step; the event engine gives none."""
    fired: list[Tensor]
    """Of each layer, [B, ...]: spikes of each neuron over all steps, of either sign; the event engine gives them if it
    is asked to."""


def require_record_at(record_at: Sequence[int], sim_steps: int, neuron: IFNeuron) -> tuple[int, ...]:
    """The steps at which outputs are recorded: the last one if none is said; refused if they cannot be."""
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
    """A layer's neurons while they are simulated."""

    neuron: IFNeuron
    v: Tensor
    """[B, ...]."""
    silent: Tensor | None
    """[B, ...] bool: neurons that may not fire."""
    count: Tensor
    """[B, ...] spikes so far, those taken back subtracted."""
    fired: Tensor
    """[B, ...] spikes so far, of either sign."""

    @classmethod
    def at_rest(cls, like: Tensor, neuron: IFNeuron) -> "IFPopulation":
        """One neuron an entry of [B, ...]."""
        v = torch.full_like(like, neuron.v_init)
        return cls(neuron, v, None, torch.zeros_like(like), torch.zeros_like(like))

    def step(self, x: Tensor) -> None:
        """Let the currents of one simulation step arrive, and put in their place what is fired."""
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
    """Neurons after every layer, driven by a constant image.

    Args:
        layers: normalised convolutions and fully connected layers.
        observations: [B, *observation] float32, the current of every simulation step.
        sim_steps: how many steps to simulate; neurons that fire afterwards take as many for each layer.
        neuron: what every neuron is.
        layer_delay: whether a spike takes one step to reach the next layer (the image too), while
            biases flow from the first step: how BindsNET, and so Tan et al. 2021, simulate.
        record_at: steps (1 to sim_steps, ascending) at which outputs are recorded; the last one if empty.
        starts: of every layer, the membranes [B, ...] before the first step, if not `neuron.v_init`.
        silent: of every layer, which neurons [B, ...] may not fire, if any.
        image_bits: see `core.networks.apply_to_image`.
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
    previous: list[Tensor] = []  # each layer's spikes at the step before the block, for layer_delay
    recorded: list[_Recorded] = []

    start = 0
    while start < sim_steps:
        # A block ends where something is recorded, so that only its end need be looked at.
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
    """One layer after the other: the first fires at once, for its current is constant; the second listens to all it
    fires before it fires itself, while the third listens; and so on. The output fires when it has heard everything."""
    block = max(1, BLOCK_ROWS // observations.shape[0])
    first, *others = layers
    current = apply_to_image(first, observations, image_bits)
    populations = [IFPopulation.at_rest(current, neuron)]
    heard = current  # what still drives the layer that fires: nothing, once all it hears has arrived
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
    """What all layers had done when they were recorded."""

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
