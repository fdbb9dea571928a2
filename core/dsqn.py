"""The directly trained spiking Q-network (DSQN), and the spiking actor of PPO."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.agents import (
    AGENT_CLASSES,
    Activity,
    Decision,
    count_spikes,
)
from core.choices import Surrogate
from core.clipped_rates import ClippedRates
from core.errors import Refusal, shown
from core.games import Game
from core.gradients import GradientSource, swept
from core.layered import Layered, LayerTrace, layer_traces
from core.layers import (
    ACTOR_HIDDEN_LAYERS,
    Hidden,
    Layer,
    apply_layer,
    layers_from_config,
)
from core.neurons.base import NEURONS, Neuron, Population
from core.neurons.lif import LIF
from core.neurons.surrogates import SpikeDerivative, slope_of_width
from core.normalisations import NORMALISATIONS, Normalisation
from core.options import from_config, to_config
from core.ranges import SimSteps, require_ranges
from core.readouts import READOUTS, LargestVoltage, Readout
from core.spike_linear import spike_linear


@dataclass(frozen=True)
class Spiking:
    """The spiking part of a network: neuron, simulation steps, read-out and normalisation."""

    neuron: Neuron = field(default_factory=LIF)
    """The neuron behind every hidden layer."""
    sim_steps: SimSteps = 8
    """Simulation steps of a decision."""
    readout: Readout = field(default_factory=LargestVoltage)
    """How Q-values are taken from the last hidden layer's spikes."""
    normalisation: Normalisation | None = None
    """Normalisation between each hidden layer and its neurons; None for no normalisation."""

    def __post_init__(self) -> None:
        require_ranges(self)

    def config(self) -> dict[str, Any]:
        """JSON-able values that `from_config` reads. Without a normalisation there is no entry for one."""
        config: dict[str, Any] = {
            "neuron": to_config(NEURONS, self.neuron),
            "sim_steps": self.sim_steps,
            "readout": to_config(READOUTS, self.readout),
        }
        if self.normalisation is not None:
            config["normalisation"] = to_config(NORMALISATIONS, self.normalisation)
        return config

    @classmethod
    def from_config(cls, config: object) -> Self:
        """A `Spiking` from what `config` returned, in this version of SpikeQ or one before 0.2 (see `_modern`).

        Raises:
            Refusal: an option is unknown, missing or not valid.
        """
        if not isinstance(config, Mapping):
            raise Refusal(f"spiking network {shown(config)}: an object with options is needed")
        modern = _modern(config)
        unknown = sorted(modern.keys() - {"neuron", "sim_steps", "readout", "normalisation"})
        if unknown:
            raise Refusal(f"spiking network: unknown option {unknown[0]!r}")
        for name in ("neuron", "sim_steps", "readout"):
            if name not in modern:
                raise Refusal(f"spiking network lacks {name!r}")
        normalisation = modern.get("normalisation")
        return cls(
            from_config(NEURONS, modern["neuron"]),
            modern["sim_steps"],
            from_config(READOUTS, modern["readout"]),
            None if normalisation is None else from_config(NORMALISATIONS, normalisation),
        )


def _modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a spiking network in today's form.

    Before 0.2 a neuron's name was its `charge`, an IF neuron had a tau that it ignored, a read-out was a word, and the
    integrator's time constant stood beside it as `readout_tau`.
    """
    modern = dict(config)
    neuron = modern.get("neuron")
    if isinstance(neuron, Mapping) and "charge" in neuron:
        neuron = {
            "name": neuron["charge"],
            **{key: value for key, value in neuron.items() if key != "charge"},
        }
        if neuron["name"] == "if":
            neuron.pop("tau", None)
        modern["neuron"] = neuron
    tau = modern.pop("readout_tau", None)
    if isinstance(modern.get("readout"), str):
        name = modern["readout"]
        has_tau = tau is not None and name.endswith("-mem")
        modern["readout"] = {"name": name, **({"tau": tau} if has_tau else {})}
    return modern


@AGENT_CLASSES.register("dsqn")
class DSQN(Layered):
    """The Q-network with spiking neurons behind every hidden layer, trained directly.

    The observation is a constant current. So the first layer is computed once, and its output is the current of its
    neurons at every simulation step. In later layers, simulation steps are folded into the batch.

    Args:
        spiking: neuron, simulation steps, read-out and normalisation.
        game, bias, hidden: see `Layered`.
    """

    kind = "dsqn"
    sparse_products = False
    """Whether fully connected layers visit only inputs that fired, where few do (core/spike_linear.py).

    Training sets it for the network that it trains, which acts and validates too. A network that is loaded keeps the
    dense product, because equal observations must give equal spikes in any batch.
    """

    def __init__(self, game: Game, spiking: Spiking, bias: bool = True, hidden: Hidden | None = None):
        super().__init__(game, bias, hidden=hidden)
        self.spiking = spiking
        spiking_shapes = self.layer_shapes if spiking.readout.output_spikes else self.layer_shapes[:-1]
        self.populations = nn.ModuleList([spiking.neuron.population(shape) for shape in spiking_shapes])
        normalisation = spiking.normalisation
        self.normalisations = nn.ModuleList(
            [] if normalisation is None else [normalisation.module(shape) for shape in self.layer_shapes[:-1]]
        )
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
        of_output = taken if self.spiking.readout.output_has_membrane else torch.zeros_like(taken)
        return layer_traces(observations, fired, [taken] * (len(self.layers) - 1) + [of_output])

    def _simulate(self, observations: Tensor, look: Callable[[Tensor], None] | None) -> Tensor:
        """Q-values [B, A]. A given `look` is called with the spike train [T, B, ...] of every spiking layer."""
        sim_steps, readout = self.spiking.sim_steps, self.spiking.readout
        first, *hidden, _ = self.layers
        currents = self._normalised(0, apply_layer(first, observations)[None])  # [1, B, ...]: constant
        for index, layer in enumerate(hidden):
            train = self._population(index)(currents, sim_steps)
            if look is not None:
                look(train)
            currents = self._normalised(index + 1, through_time(layer, train, self.sparse_products))
        last = len(hidden)
        weights = readout.weights(sim_steps) if observations.device.type == "cpu" else None
        if weights is not None and look is None:
            summed = self._population(last).weighted_spikes(currents, sim_steps, weights)
            if summed is not None:
                return self._read_sum(summed, weights)
        train = self._population(last)(currents, sim_steps)
        if look is not None:
            look(train)
        return self.read(train, weights, look)

    def read(
        self, train: Tensor, weights: Tensor | None = None, look: Callable[[Tensor], None] | None = None
    ) -> Tensor:
        """Q-values [B, A] from the spike train [T, B, ...] of the last hidden layer.

        Args:
            train: the spikes.
            weights: of the read-out, if its weighted sum of spikes is to be used.
            look: called with the output layer's spikes [T, B, A], if it spikes.
        """
        if weights is not None:
            return self._read_sum(torch.einsum("t,t...->...", weights, train.float()), weights)
        *hidden, output = self.layers

        def fire(currents: Tensor) -> Tensor:
            spikes = self._population(len(hidden))(currents, len(train))
            if look is not None:
                look(spikes)
            return spikes

        return self.spiking.readout.scores(train, _OutputLayer(output, fire))

    @property
    def unrolled_sim_steps(self) -> int:
        return self.sim_steps

    def decision_bytes(self, rows: int) -> int:
        # Measured: spikes and currents of two layers at all steps, and what a convolution copies.
        return round(1.35 * self.sim_steps * self.activation_bytes(rows))

    def _population(self, index: int) -> Population:
        population = self.populations[index]
        assert isinstance(population, Population)
        return population

    def _normalised(self, index: int, currents: Tensor) -> Tensor:
        """Currents [T or 1, B, ...] of a hidden layer after its normalisation, if there is one."""
        if not len(self.normalisations):
            return currents
        rows = currents.flatten(0, 1).float()
        normalised: Tensor = self.normalisations[index](rows)
        return normalised.to(currents.dtype).unflatten(0, currents.shape[:2])

    def _read_sum(self, spikes: Tensor, weights: Tensor) -> Tensor:
        """Q-values [B, A] from the weighted sums over time [B, ...] of the last hidden layer's spikes.

        The order of integrator and output layer does not matter, because both are linear.
        """
        *_, output = self.layers
        bias = None if output.bias is None else float(weights.sum()) * output.bias
        return F.linear(spikes.flatten(1), output.weight, bias)

    def gradient_sources(self) -> Iterator[GradientSource]:
        """The gradient of its own surrogate, those of its neurons' rates, and a sweep of other surrogates.

        Sources that the neuron does not have are left out.
        """
        neuron, sim_steps = self.spiking.neuron, self.sim_steps
        yield GradientSource(self, "own-surrogate", neuron.surrogate_label, True, sim_steps)
        if neuron.rate_range() is not None and self.spiking.normalisation is None:
            yield GradientSource(ClippedRates(self, real=False), "ann-twin", "ramp")
            yield GradientSource(ClippedRates(self, real=True), "rate-gradient", "ramp")
        yield from swept(self._through, sim_steps, same_scores=True)

    def _through(self, surrogate: Surrogate, width: float) -> "DSQN | None":
        """The same network with another surrogate and shared weights; None if the neuron's surrogate is fixed."""
        slope = slope_of_width(surrogate, width * self.spiking.neuron.threshold_scale)
        neuron = self.spiking.neuron.with_surrogate(SpikeDerivative(surrogate, slope, detach_reset=True))
        if neuron is None:
            return None
        other = DSQN(self.game, replace(self.spiking, neuron=neuron), self.bias, self.hidden)
        other.layers, other.normalisations = self.layers, self.normalisations
        other.populations.load_state_dict(self.populations.state_dict())
        return other.to(self.device)

    def config(self) -> dict[str, Any]:
        return {"spiking": self.spiking.config(), "bias": self.bias, **self.layers_config()}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        given = dict(config)
        make = functools.partial(cls, game, Spiking.from_config(given.pop("spiking", None)))
        return make(**layers_from_config(make, given))


def through_time(layer: Layer, spikes: Tensor, sparse: bool = False) -> Tensor:
    """A layer applied to spikes [T, B, ...] of every simulation step, by a sparse product where that is asked for."""
    rows = spikes.flatten(0, 1)
    if sparse and isinstance(layer, nn.Linear):
        return spike_linear(layer, rows.flatten(1)).unflatten(0, spikes.shape[:2])
    return apply_layer(layer, rows).unflatten(0, spikes.shape[:2])


class _OutputLayer:
    """The output layer as read-outs use it (core.readouts.Output)."""

    def __init__(self, layer: Layer, fire: Callable[[Tensor], Tensor]):
        self._layer, self.spikes = layer, fire

    def currents(self, train: Tensor) -> Tensor:
        return through_time(self._layer, train)

    def mean_current(self, train: Tensor) -> Tensor:
        return apply_layer(self._layer, train.to(self._layer.weight.dtype).mean(0))


@AGENT_CLASSES.register("spiking-actor")
class SpikingActor(DSQN):
    """The policy of PPO as a spiking network: its read-out gives the logits of actions."""

    kind = "spiking-actor"
    scores_are_q_values = False
    architecture = ACTOR_HIDDEN_LAYERS
