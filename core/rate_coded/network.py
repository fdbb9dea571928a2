"""The converted network: a DQN's normalised weights, IF neurons, and the read-out of its Q-values."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from core.agents import AGENT_CLASSES, Activity, Decision
from core.choices import CHARGE_READOUTS, ChargeReadout
from core.dqn import DQN
from core.errors import Refusal
from core.games import Game
from core.gradients import GradientSource, swept
from core.layered import Layered, LayerTrace, layer_traces
from core.layers import (
    Hidden,
    Padding,
    layers_from_config,
)
from core.options import checked
from core.quantised import QuantisedDQN
from core.ranges import Real, SimSteps, Whole, require_ranges
from core.rate_coded import event_engine, torch_engine
from core.rate_coded.torch_engine import IFNeuron, Simulation


@dataclass(frozen=True)
class RateCoding:
    """How a converted network is simulated during a decision."""

    sim_steps: SimSteps = 500
    """Simulation steps in which a layer fires.

    A decision takes as many, or more with `presteps` or with neurons that fire afterwards. See
    `RateCodedNetwork.latency_sim_steps`.
    """
    readout: ChargeReadout = "robust"
    """What Q-values are read from: robust, current or spikes (see `CHARGE_READOUTS`)."""
    neuron: IFNeuron = field(default_factory=IFNeuron)
    """Options of all neurons."""
    layer_delay: bool = False
    """Whether spikes take one simulation step to reach the next layer, as in BindsNET."""
    presteps: Annotated[int, Whole(0, 10_000)] = 0
    """Simulation steps before the decision proper. Neurons whose membranes are below 0 after them are silenced.

    Such neurons would not have fired if all input had arrived at once (SRP: Hao et al. 2023, arXiv 2302.02091).
    """
    residual_alpha: Annotated[float, Real(0, 1)] = 0.0
    """Share alpha of the residual membranes that the next decision of the episode starts with.

    u_{k+1}(0) = v_init + alpha (u_k(T) - v_init) (CRPI: Xu et al. 2026, arXiv 2610.07808).
    """
    image_bits: Annotated[int, Whole(0, 24)] | None = None
    """Round currents of the image to multiples of 2^-image_bits (`convert/methods/exact.py`); None for no rounding."""
    stop_gap: Annotated[float, Real(0)] | None = None
    """Decide at the first simulation step at which the two largest Q-values differ by this; None for the last step."""

    def __post_init__(self) -> None:
        require_ranges(self)
        if self.readout not in CHARGE_READOUTS:
            raise Refusal(f"readout {self.readout!r}: accepted are {', '.join(CHARGE_READOUTS)}")
        if self.readout == "current" and self.neuron.tau is not None:
            raise Refusal(
                "readout 'current' goes with no tau: a membrane that leaks does not keep its charge"
            )
        if self.stop_gap is not None and self.residual_alpha:
            raise Refusal("stop_gap goes with no residual_alpha: what later steps leave would be carried too")
        unusual = self.layer_delay or self.presteps or self.residual_alpha or self.stop_gap is not None
        if self.neuron.firing == "afterwards" and (unusual or self.neuron.tau is not None):
            raise Refusal(
                "neurons that fire afterwards go with no layer_delay, presteps, residual_alpha, stop_gap or tau: "
                "the order of arrival, which those mend, does not matter to them"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether only the reference engine can simulate it."""
        carries = bool(self.residual_alpha or self.presteps)
        return self.layer_delay or carries or self.neuron.tau is not None

    @classmethod
    def from_config(cls, config: object) -> "RateCoding":
        """A `RateCoding` from the values of its fields.

        Raises:
            Refusal: a field is unknown or not valid.
        """
        return cls(**checked(cls, config, "coding"))


def top_gaps(scores: Tensor) -> Tensor:
    """Differences [...] between the two largest of action scores [..., A]."""
    best, second = scores.topk(2, dim=-1).values.unbind(-1)
    return best - second


def first_reaching(gaps: Tensor, bound: float) -> Tensor:
    """Index [B] of the first of R recorded steps at which gaps [R, B] reach a bound; of the last one if none does."""
    reached = gaps >= bound
    return torch.where(reached.any(0), reached.float().argmax(0), len(gaps) - 1)


@AGENT_CLASSES.register("rate-coded")
class RateCodedNetwork(Layered):
    """A converted spiking Q-network (Tan et al. 2021, arXiv 2009.14456).

    Weights of every layer are normalised to thresholds of 1. The output layer spikes too. Scores are in units of the
    DQN's Q-values, because the scale of the output layer is kept.

    Args:
        coding: how the network is simulated during a decision.
        game, bias, padding, hidden: see `Layered`.
    """

    kind = "rate-coded"
    output_scale: Tensor
    """[] float32: Q-value of one output spike per simulation step."""

    def __init__(
        self,
        game: Game,
        coding: RateCoding,
        bias: bool = True,
        padding: Padding = "valid",
        hidden: Hidden | None = None,
    ):
        super().__init__(game, bias, padding, hidden)
        self.coding = coding
        self.register_buffer("output_scale", torch.ones(()))
        spiking = self.layer_shapes if coding.readout != "current" else self.layer_shapes[:-1]
        self.neuron_counts = tuple(math.prod(shape) for shape in spiking)
        self._is_numbered = max(map(math.prod, self.layer_shapes)) < event_engine.TAKEN_BACK
        self._prepared: tuple[list[tuple[int, int]], list[event_engine.Prepared]] | None = None

    @property
    def sim_steps(self) -> int:
        return self.coding.sim_steps

    @property
    def latency_sim_steps(self) -> int:
        """Simulation steps until Q-values can be read, without an early stop."""
        if self.coding.neuron.firing != "afterwards":
            return self.coding.presteps + self.coding.sim_steps
        # The first layer fires while it integrates, each later one after the previous one. The output layer fires only
        # if its spikes are read.
        return (len(self.layers) - (self.coding.readout != "spikes")) * self.coding.sim_steps

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        coding, batch = self.coding, len(observations)
        record_at = (coding.sim_steps,) if coding.stop_gap is None else range(1, coding.sim_steps + 1)
        simulation = self._simulate(observations, record_at, self._starts(carry))
        elapsed = torch.tensor(record_at, device=observations.device)
        scores = self._read(simulation, coding.readout, elapsed)
        chosen = torch.full((batch,), len(record_at) - 1, device=observations.device)
        if coding.stop_gap is not None:
            chosen = first_reaching(top_gaps(scores), coding.stop_gap)
        rows = torch.arange(batch, device=observations.device)
        spikes = simulation.spikes[chosen, rows, : len(self.neuron_counts)]
        extra = self.latency_sim_steps - coding.sim_steps
        left = (
            tuple(v - coding.neuron.v_init for v in simulation.membranes) if coding.residual_alpha else None
        )
        return Decision(scores[chosen, rows], left, Activity(spikes, (elapsed[chosen] + extra).float()))

    def decision_bytes(self, rows: int) -> int:
        if self.coding.stop_gap is None or not self.coding.needs_reference:
            return 0  # engines keep membranes and counts, for any number of steps
        # Measured: the counts of every neuron after every step, twice.
        return round(2.2 * self.sim_steps * self.activation_bytes(rows))

    def _starts(self, carry: tuple[Tensor, ...] | None) -> list[Tensor]:
        """Membranes [B, ...] of every layer before the first step; empty if they start at `neuron.v_init`."""
        coding = self.coding
        if not coding.residual_alpha or carry is None:
            return []
        starts = [coding.neuron.v_init + coding.residual_alpha * left for left in carry]
        if coding.readout != "spikes":  # these read-outs read all of the output membranes
            starts[-1] = torch.full_like(starts[-1], coding.neuron.v_init)
        return starts

    @torch.no_grad()
    def sim_steps_taken(self, observations: Tensor) -> Tensor:
        """Simulation steps [B] for which a layer runs in each decision, which `stop_gap` may reduce.

        A decision takes longer by the delays of later layers.
        """
        if self.coding.stop_gap is None:
            return observations.new_full((len(observations),), self.coding.sim_steps)
        activity = self.decide(observations).activity
        assert activity is not None
        return activity.sim_steps - (self.latency_sim_steps - self.coding.sim_steps)

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        coding = self.coding
        steps = self.sim_steps_taken(observations)
        fired = [observations.new_zeros(len(steps), *shape) for shape in self.layer_shapes]
        # A decision that ended early is simulated again for the steps that it took.
        for taken in sorted({int(each) for each in steps.tolist()}):
            starts = [start[steps == taken] for start in self._starts(carry)]
            simulation = self._simulate(observations[steps == taken], (taken,), starts, each_neuron=True)
            for of_layer, found in zip(fired, simulation.fired, strict=True):
                of_layer[steps == taken] = found.reshape(-1, *of_layer.shape[1:])
        updates = [coding.presteps + steps] * len(self.layers)
        if (
            coding.neuron.firing == "afterwards"
        ):  # later layers integrate before they fire; the output layer fires only if its spikes are read
            updates = [steps, *([2 * steps] * (len(self.layers) - 1))]
            if coding.readout != "spikes":
                updates[-1] = steps
        return layer_traces(observations, fired[: len(self.neuron_counts)], updates)

    @torch.no_grad()
    def representation(self, observations: Tensor) -> Tensor:
        """Spikes minus negative ones per simulation step, [B, F], of the last hidden layer.

        Raises:
            Refusal: the network has presteps, whose spikes count too.
        """
        coding = self.coding
        if coding.presteps:
            raise Refusal(f"presteps is {coding.presteps}: only the rates of networks with 0 are known")
        simulation = torch_engine.simulate(
            self.layers,
            observations,
            coding.sim_steps,
            coding.neuron,
            layer_delay=coding.layer_delay,
            image_bits=coding.image_bits,
        )
        return simulation.layer_counts[-2][-1].reshape(len(observations), -1) / coding.sim_steps

    def scores_over_time(self, observations: Tensor, record_at: Sequence[int]) -> dict[ChargeReadout, Tensor]:
        """Q-values [R, B, A] at each recorded simulation step for every read-out, from one simulation."""
        simulation = self._simulate(observations, record_at)
        elapsed = torch.tensor(record_at, device=observations.device)
        return {readout: self._read(simulation, readout, elapsed) for readout in CHARGE_READOUTS}

    def _simulate(
        self,
        observations: Tensor,
        record_at: Sequence[int],
        starts: Sequence[Tensor] = (),
        each_neuron: bool = False,
    ) -> Simulation:
        """Simulate until the last recorded step.

        The event engine does so on the CPU. The reference engine does so on other devices, for options that the event
        engine does not have, and for layers of more neurons than it can number.
        """
        coding, neuron, sim_steps = self.coding, self.coding.neuron, max(record_at)
        if observations.device.type == "cpu" and self._is_numbered and not coding.needs_reference:
            weights = [(parameter.data_ptr(), parameter._version) for parameter in self.parameters()]
            if self._prepared is None or self._prepared[0] != weights:
                signed = neuron.firing == "signed"
                self._prepared = weights, event_engine.prepare(self.layers, self.layer_shapes, signed)
            return event_engine.simulate(
                self.layers,
                self._prepared[1],
                observations,
                sim_steps,
                neuron,
                record_at=record_at,
                image_bits=coding.image_bits,
                each_neuron=each_neuron,
            )

        return self.reference(observations, record_at, starts)

    @torch.no_grad()
    def layer_counts(self, observations: Tensor, sim_steps: int) -> list[Tensor]:
        """For every layer, [B, ...]: spikes of each neuron in `sim_steps` steps, minus negative ones."""
        if self.coding.neuron.firing == "signed" or self.coding.presteps:
            # `Simulation.fired` counts spikes of both signs, and those of presteps.
            return [counts[0] for counts in self.reference(observations, (sim_steps,)).layer_counts]
        fired = self._simulate(observations, (sim_steps,), each_neuron=True).fired
        return [found.reshape(-1, *shape) for found, shape in zip(fired, self.layer_shapes, strict=True)]

    def reference(
        self, observations: Tensor, record_at: Sequence[int], starts: Sequence[Tensor] = ()
    ) -> Simulation:
        """Simulate with the reference engine, whose result has all of what each neuron did.

        Args:
            observations: [B, *observation].
            record_at: simulation steps at which outputs are recorded; the last one ends the simulation.
            starts: membranes [B, ...] of every layer before the first step; `neuron.v_init` if empty.
        """
        if not self.coding.presteps:
            return self._refer(observations, max(record_at), record_at, starts, ())
        first, silent = self.silenced(observations, starts)
        simulation = self._refer(observations, max(record_at), record_at, starts, silent)
        # Spikes of presteps count too.
        return simulation._replace(
            spikes=first.spikes + simulation.spikes,
            fired=[before + after for before, after in zip(first.fired, simulation.fired, strict=True)],
        )

    def silenced(
        self, observations: Tensor, starts: Sequence[Tensor] = ()
    ) -> tuple[Simulation, list[Tensor]]:
        """The simulation of `presteps` steps, and the neurons [B, ...] of every layer that it silences."""
        first = self._refer(observations, self.coding.presteps, (), starts, ())
        # No output neuron is silenced: their membranes are read.
        silent = [v < 0.0 for v in first.membranes[:-1]] + [
            torch.zeros_like(first.membranes[-1], dtype=torch.bool)
        ]
        return first, silent

    def _refer(
        self,
        observations: Tensor,
        sim_steps: int,
        record_at: Sequence[int],
        starts: Sequence[Tensor],
        silent: Sequence[Tensor],
    ) -> Simulation:
        coding = self.coding
        return torch_engine.simulate(
            self.layers,
            observations,
            sim_steps,
            coding.neuron,
            layer_delay=coding.layer_delay,
            record_at=record_at,
            starts=starts,
            silent=silent,
            image_bits=coding.image_bits,
        )

    def _read(self, simulation: Simulation, readout: ChargeReadout, elapsed: Tensor) -> Tensor:
        """Q-values [R, B, A] after `elapsed` [R] steps."""
        charge = simulation.counts
        if readout != "spikes":
            # The charge that an output neuron received is its spikes plus the gain of its membrane.
            charge = charge + simulation.residuals - self.coding.neuron.v_init
        return self.output_scale * charge / elapsed[:, None, None]

    def varied(self, **changes: Any) -> "RateCodedNetwork":
        """A network with the same weights and another coding: `changes` are fields of `RateCoding`."""
        other = RateCodedNetwork(
            self.game, replace(self.coding, **changes), self.bias, self.padding, self.hidden
        )
        other.load_state_dict(self.state_dict())
        return other.to(self.output_scale.device).requires_grad_(False).eval()

    def gradient_sources(self) -> Iterator[GradientSource]:
        """A DQN with ReLU and the same weights, the gradient of the neurons' rates, and a sweep of surrogates."""
        from core.rate_coded.differentiable import MAX_SIM_STEPS, RateGradient, SurrogateSimulation

        yield self.twin_source()
        yield GradientSource(RateGradient(self), "rate-gradient", "clipped relu")
        if self.coding.sim_steps <= MAX_SIM_STEPS:
            # Scores differ in the last bits: the event engine adds in another order than the differentiable simulation.
            yield from swept(
                functools.partial(SurrogateSimulation, self), self.coding.sim_steps, same_scores=False
            )

    def twin_source(self) -> GradientSource:
        """A DQN with ReLU and the same weights, as a gradient source."""
        return GradientSource(self.twin().requires_grad_(False), "ann-twin", "relu, own weights")

    @torch.no_grad()
    def twin(self) -> DQN:
        """A DQN with ReLU, this network's weights and its units. It is that from which the network was converted, up to
        rounding, if the method kept the weights.
        """
        dqn = DQN(self.game, self.bias, self.padding, self.hidden).to(self.output_scale.device)
        for mine, its in zip(self.layers, dqn.layers, strict=True):
            for name, parameter in its.named_parameters():
                parameter.copy_(mine.get_parameter(name))
        *_, output = dqn.layers
        for parameter in output.parameters():
            parameter.mul_(self.output_scale)
        return dqn

    def quantised(self) -> QuantisedDQN:
        """The quantised DQN with the same weights: what this network computes if spikes arrive evenly."""
        coding = self.coding
        quantised = QuantisedDQN(
            self.game,
            coding.sim_steps,
            coding.neuron.v_init,
            self.bias,
            coding.image_bits,
            self.padding,
            self.hidden,
        )
        quantised.load_state_dict(self.state_dict())
        return quantised.to(self.output_scale.device).requires_grad_(False).eval()

    def config(self) -> dict[str, Any]:
        return {
            "coding": asdict(self.coding),
            "bias": self.bias,
            "padding": self.padding,
            **self.layers_config(),
        }

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> "RateCodedNetwork":
        given = dict(config)
        make = functools.partial(cls, game, RateCoding.from_config(given.pop("coding", None)))
        return make(**layers_from_config(make, given))
