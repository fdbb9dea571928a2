"""The directly trained spiking Q-network (DSQN), and the spiking actor of PPO."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from core import compiled_neurons as fused
from core import neurons
from core.agents import Activity, Agent, Decision, LayerTrace, count_spikes, layer_traces, require_sim_steps
from core.errors import Refusal
from core.games import Game
from core.layers import ACTOR_HIDDEN_LAYERS, HIDDEN_LAYERS, Layer, apply_layer, build_layers
from core.neurons import Neuron


def spike_train(currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
    """Spikes [T, ...] of a population driven from rest by [T, ...] currents, or by one that stays, [1, ...].

    On the CPU by the compiled pass, elsewhere by the reference: the spikes are the same.
    """
    if currents.device.type == "cpu" and currents.dtype in (torch.float32, torch.bfloat16):
        return fused.run(currents, sim_steps, neuron)
    # Membranes are float32 whatever the convolutions before them were computed in.
    precise = currents.to(torch.promote_types(currents.dtype, torch.float32))
    return neurons.run(precise.expand(sim_steps, *currents.shape[1:]), neuron).to(currents.dtype)


Readout = Literal["rate", "spike-rate", "last-mem", "max-mem", "mean-mem", "max-abs-mem"]
READOUTS: tuple[Readout, ...] = ("rate", "spike-rate", "last-mem", "max-mem", "mean-mem", "max-abs-mem")


@dataclass(frozen=True)
class Spiking:
    """What makes a network spike, and how its Q-values are read."""

    neuron: Neuron = field(default_factory=Neuron)
    sim_steps: int = 8
    readout: Readout = "max-mem"
    """rate: the output layer applied to the mean of the last hidden spikes (Liu et al. 2022; Chen's
    fr-mlp). spike-rate: the output layer spikes too, Q is its rate in [0, 1] (Liu's DsqnSpike).
    *-mem: a statistic over simulation steps of a leaky integrator's voltage (Chen et al. 2022)."""
    readout_tau: float = 2.0
    """Time constant of that integrator, in simulation steps."""

    def __post_init__(self) -> None:
        require_sim_steps(self.sim_steps)
        if self.readout not in READOUTS:
            raise Refusal(f"readout {self.readout!r}: accepted are {', '.join(READOUTS)}")
        if not 1.0 <= self.readout_tau < math.inf:
            raise Refusal(f"readout_tau is {self.readout_tau}: accepted is any finite number from 1")


def read_voltage(voltages: Tensor, readout: Readout) -> Tensor:
    """What a *-mem read-out takes from [T, ...] voltages over simulation steps (Chen et al. 2022, section 3)."""
    match readout:
        case "last-mem":
            return voltages[-1]
        case "mean-mem":
            return voltages.mean(0)
        case "max-mem":
            return voltages.max(0).values
        case _:  # max-abs-mem: the signed value of the largest magnitude
            index = voltages.abs().max(0, keepdim=True).indices
            return voltages.gather(0, index).squeeze(0)


@functools.cache
def voltage_weights(spiking: Spiking) -> Tensor | None:
    """What the current of each simulation step [T] is worth in the value that is read from a leaky integrator; None
    where that is no weighted sum."""
    kernel = neurons.leaky_kernel(spiking.sim_steps, spiking.readout_tau, torch.zeros(()))
    match spiking.readout:
        case "last-mem":
            return kernel[-1].contiguous()
        case "mean-mem":
            return kernel.mean(0)
    return None


class DSQN(Agent):
    """The Q-network with spiking neurons after every hidden layer, trained directly.

    The observation is a constant current, so the first layer is computed once and its output drives
    its neurons at every simulation step; after it, time is folded into the batch.
    """

    kind = "dsqn"
    architecture = HIDDEN_LAYERS

    def __init__(self, game: Game, spiking: Spiking, bias: bool = True):
        super().__init__()
        self.game = game
        self.spiking = spiking
        self.bias = bias
        self.layers, self.layer_shapes = build_layers(game, bias, architecture=self.architecture)
        spiking_shapes = self.layer_shapes if spiking.readout == "spike-rate" else self.layer_shapes[:-1]
        self.neuron_counts = tuple(math.prod(shape) for shape in spiking_shapes)

    @property
    def sim_steps(self) -> int:
        return self.spiking.sim_steps

    def forward(self, observations: Tensor) -> Tensor:
        return self._simulate(observations, None)

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        counts: list[Tensor] = []
        scores = self._simulate(observations, lambda train: counts.append(count_spikes(train)))
        spikes = torch.stack(counts, 1)
        return Decision(
            scores, None, Activity(spikes, spikes.new_full((len(spikes),), self.spiking.sim_steps))
        )

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        fired: list[Tensor] = []
        self._simulate(observations, lambda train: fired.append(train.sum(0, dtype=torch.float32)))
        taken = observations.new_full((len(observations),), self.spiking.sim_steps)
        # Behind the rate read-out there is no membrane: its output layer is linear, and has no time.
        of_output = torch.zeros_like(taken) if self.spiking.readout == "rate" else taken
        return layer_traces(observations, fired, [taken] * (len(self.layers) - 1) + [of_output])

    def _simulate(self, observations: Tensor, look: Callable[[Tensor], None] | None) -> Tensor:
        """Q-values [B, A]; if there is a `look`, it is shown every spiking layer's spike train [T, B, ...], and none is
        kept."""
        sim_steps, neuron, readout = self.spiking.sim_steps, self.spiking.neuron, self.spiking.readout
        first, *hidden, output = self.layers
        currents = apply_layer(first, observations)[None]  # [1, B, ...]: constant
        for layer in hidden:
            train = spike_train(currents, sim_steps, neuron)
            if look is not None:
                look(train)
            currents = self._through_time(layer, train)
        weights = voltage_weights(self.spiking) if observations.device.type == "cpu" else None
        if weights is not None and currents.dtype == torch.float32 and look is None:
            return self._read_sum(fused.run(currents, sim_steps, neuron, weights)[0], weights)
        train = spike_train(currents, sim_steps, neuron)
        if look is not None:
            look(train)
        if weights is not None:
            return self._read_sum(torch.einsum("t,t...->...", weights, train.float()), weights)
        if readout == "rate":
            # The output layer is linear, so applying it to the mean is the mean of applying it.
            return apply_layer(output, train.to(output.weight.dtype).mean(0))
        currents = self._through_time(output, train)  # [T, B, A]
        if readout == "spike-rate":
            train = spike_train(currents, sim_steps, neuron)
            if look is not None:
                look(train)
            return train.mean(0)
        return read_voltage(neurons.leaky_integral(currents, self.spiking.readout_tau), readout)

    def _read_sum(self, spikes: Tensor, weights: Tensor) -> Tensor:
        """Q-values [B, A] of the last hidden layer's spikes [B, ...], summed with the weights that they have in the
        voltage: integrator and output layer are linear, so they change places."""
        *_, output = self.layers
        bias = None if output.bias is None else float(weights.sum()) * output.bias
        return F.linear(spikes.flatten(1), output.weight, bias)

    @staticmethod
    def _through_time(layer: Layer, spikes: Tensor) -> Tensor:
        """A layer applied to [T, B, ...]."""
        return apply_layer(layer, spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])

    def config(self) -> dict[str, Any]:
        return {"spiking": asdict(self.spiking), "bias": self.bias}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        spiking = dict(config["spiking"])
        return cls(game, Spiking(**{**spiking, "neuron": Neuron(**spiking["neuron"])}), config["bias"])


class SpikingActor(DSQN):
    """The same with spikes: its voltages are logits."""

    kind = "spiking-actor"
    architecture = ACTOR_HIDDEN_LAYERS
