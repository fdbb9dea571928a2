"""The converted network: a DQN's normalised weights, IF neurons, and the read-out of its Q-values."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from core.agents import AGENT_CLASSES, Activity, Agent, Decision, LayerTrace, layer_traces, require_sim_steps
from core.dqn import DQN
from core.errors import Refusal
from core.games import Game
from core.gradients import GradientSource, swept
from core.layers import (
    HIDDEN_LAYERS,
    Hidden,
    Padding,
    build_layers,
    layers_config,
    layers_from_config,
    usual_layers,
)
from core.quantised import QuantisedDQN
from core.rate_coded import event_engine, torch_engine
from core.rate_coded.torch_engine import IFNeuron, Simulation

ChargeReadout = Literal["robust", "current", "spikes"]
CHARGE_READOUTS: tuple[ChargeReadout, ...] = ("robust", "current", "spikes")
"""What the last layer's Q-values are read from. robust: spike count plus residual membrane (Tan et al. 2021);
current: the charge that output neurons received which do not fire: the same numbers, without output spikes;
spikes: the count alone."""


@dataclass(frozen=True)
class RateCoding:
    """How a converted network lives through a decision."""

    sim_steps: int = 500
    """Simulation steps a layer fires for. A decision takes as many, and more with `presteps` or with neurons that
    fire afterwards: `RateCodedNetwork.latency_sim_steps`."""
    readout: ChargeReadout = "robust"
    neuron: IFNeuron = field(default_factory=IFNeuron)
    layer_delay: bool = False
    """Simulate one step of delay a layer, as BindsNET does."""
    presteps: int = 0
    """Simulate so many steps first, and silence the neurons whose membranes are below 0 after them: they would
    not have fired at all, had everything arrived at once (SRP: Hao et al. 2023, arXiv 2302.02091)."""
    residual_alpha: float = 0.0
    """Share of what a decision left in the membranes, over `neuron.v_init`, that the episode's next one begins with
    (CRPI: Xu et al. 2026, arXiv 2610.07808): u_{k+1}(0) = v_init + alpha (u_k(T) - v_init)."""
    image_bits: int | None = None
    """Round the image's currents to multiples of 2^-image_bits (`convert/methods/exact.py` says why); None: do not."""
    stop_gap: float | None = None
    """Decide at the first step at which the two largest Q-values lie so far apart; None: after all steps."""

    def __post_init__(self) -> None:
        require_sim_steps(self.sim_steps)
        if self.readout not in CHARGE_READOUTS:
            raise Refusal(f"readout {self.readout!r}: accepted are {', '.join(CHARGE_READOUTS)}")
        if not isinstance(self.presteps, int) or self.presteps < 0:
            raise Refusal(f"presteps is {self.presteps}: an integer of at least 0 is needed")
        if not 0.0 <= self.residual_alpha <= 1.0:
            raise Refusal(f"residual_alpha is {self.residual_alpha}: accepted is 0 to 1")
        if self.stop_gap is not None and not 0.0 <= self.stop_gap < math.inf:
            raise Refusal(f"stop_gap is {self.stop_gap}: accepted is any finite number from 0, or none")
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

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "RateCoding":
        return cls(**{**config, "neuron": IFNeuron(**config["neuron"])})


def top_gaps(scores: Tensor) -> Tensor:
    """How far the two largest of [..., A] action scores lie apart, [...]."""
    best, second = scores.topk(2, dim=-1).values.unbind(-1)
    return best - second


def first_reaching(gaps: Tensor, bound: float) -> Tensor:
    """Index [B] of the first of R recorded steps at which [R, B] gaps reach a bound; of the last if none does."""
    reached = gaps >= bound
    return torch.where(reached.any(0), reached.float().argmax(0), len(gaps) - 1)


@AGENT_CLASSES.register("rate-coded")
class RateCodedNetwork(Agent):
    """A converted spiking Q-network (Tan et al. 2021, arXiv 2009.14456).

    Every layer's weights are normalised so that all thresholds are 1; the output layer spikes too.
    Scores are in units of the DQN's Q-values, because the output layer's scale is kept.

    Args:
        game: whose observations and actions.
        coding: how it lives through a decision.
        bias: whether layers have biases.
        padding: of its convolutions.
        hidden: its hidden layers; those that the game's tier usually has if None.
    """

    kind = "rate-coded"
    output_scale: Tensor
    """[] float32: what one output spike a simulation step is worth in Q."""

    def __init__(
        self,
        game: Game,
        coding: RateCoding,
        bias: bool = True,
        padding: Padding = "valid",
        hidden: Hidden | None = None,
    ):
        super().__init__()
        self.game = game
        self.coding = coding
        self.bias = bias
        self.padding: Padding = padding
        self.hidden = usual_layers(game) if hidden is None else hidden
        self.layers, self.layer_shapes = build_layers(game, self.hidden, bias, padding)
        self.register_buffer("output_scale", torch.ones(()))
        spiking = self.layer_shapes if coding.readout != "current" else self.layer_shapes[:-1]
        self.neuron_counts = tuple(math.prod(shape) for shape in spiking)
        self._prepared: tuple[list[tuple[int, int]], list[event_engine.Prepared]] | None = None

    @property
    def sim_steps(self) -> int:
        return self.coding.sim_steps

    @property
    def latency_sim_steps(self) -> int:
        """Simulation steps until Q-values can be read, if nothing stops it earlier."""
        if self.coding.neuron.firing != "afterwards":
            return self.coding.presteps + self.coding.sim_steps
        # The first layer fires while it listens; each later one fires after it, the output only to be counted.
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

    def _starts(self, carry: tuple[Tensor, ...] | None) -> list[Tensor]:
        """Membranes [B, ...] of every layer that a decision begins with; none where they begin at `neuron.v_init`."""
        coding = self.coding
        if not coding.residual_alpha or carry is None:
            return []
        starts = [coding.neuron.v_init + coding.residual_alpha * left for left in carry]
        if coding.readout != "spikes":  # this read-out leaves nothing in the membranes
            starts[-1] = torch.full_like(starts[-1], coding.neuron.v_init)
        return starts

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        coding = self.coding
        steps = observations.new_full((len(observations),), coding.sim_steps)
        if coding.stop_gap is not None:
            activity = self.decide(observations).activity
            assert activity is not None
            steps = activity.sim_steps - (self.latency_sim_steps - coding.sim_steps)
        fired = [observations.new_zeros(len(steps), *shape) for shape in self.layer_shapes]
        # What a decision that ends early fires is what it fires in so many steps.
        for taken in sorted({int(each) for each in steps.tolist()}):
            starts = [start[steps == taken] for start in self._starts(carry)]
            simulation = self._simulate(observations[steps == taken], (taken,), starts, each_neuron=True)
            for of_layer, found in zip(fired, simulation.fired, strict=True):
                of_layer[steps == taken] = found.reshape(-1, *of_layer.shape[1:])
        updates = [coding.presteps + steps] * len(self.layers)
        if (
            coding.neuron.firing == "afterwards"
        ):  # those after the first listen first; the output fires only where its spikes are read
            updates = [steps, *([2 * steps] * (len(self.layers) - 1))]
            if coding.readout != "spikes":
                updates[-1] = steps
        return layer_traces(observations, fired[: len(self.neuron_counts)], updates)

    def scores_over_time(self, observations: Tensor, record_at: Sequence[int]) -> dict[ChargeReadout, Tensor]:
        """Q-values after each recorded simulation step, from one simulation: [R, B, A] a read-out."""
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
        """As long as there is something to record: on the CPU by the engine that visits spikes only; elsewhere, and
        for what that one does not know, by the reference."""
        coding, neuron, sim_steps = self.coding, self.coding.neuron, max(record_at)
        special = coding.layer_delay or coding.presteps or coding.residual_alpha or neuron.tau is not None
        if observations.device.type == "cpu" and not special:
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
        """Of every layer, [B, ...]: spikes of each neuron in so many steps, those taken back subtracted."""
        if self.coding.neuron.firing == "signed" or self.coding.presteps:
            # The other engine counts spikes of both signs together, and those of presteps too.
            return [counts[0] for counts in self.reference(observations, (sim_steps,)).layer_counts]
        fired = self._simulate(observations, (sim_steps,), each_neuron=True).fired
        return [found.reshape(-1, *shape) for found, shape in zip(fired, self.layer_shapes, strict=True)]

    def reference(
        self, observations: Tensor, record_at: Sequence[int], starts: Sequence[Tensor] = ()
    ) -> Simulation:
        """By the reference engine, which tells all of what each neuron did. Arguments are those of its `simulate`."""
        if not self.coding.presteps:
            return self._refer(observations, max(record_at), record_at, starts, ())
        first, silent = self.silenced(observations, starts)
        simulation = self._refer(observations, max(record_at), record_at, starts, silent)
        # Spikes of presteps are counted in.
        return simulation._replace(
            spikes=first.spikes + simulation.spikes,
            fired=[before + after for before, after in zip(first.fired, simulation.fired, strict=True)],
        )

    def silenced(
        self, observations: Tensor, starts: Sequence[Tensor] = ()
    ) -> tuple[Simulation, list[Tensor]]:
        """What `presteps` simulation steps gave, and which neurons [B, ...] of every layer they silence."""
        first = self._refer(observations, self.coding.presteps, (), starts, ())
        # The output layer has no silent neurons: its membranes are read.
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
            # What the output layer received is what it fired and what its membrane gained.
            charge = charge + simulation.residuals - self.coding.neuron.v_init
        return self.output_scale * charge / elapsed[:, None, None]

    def varied(self, **changes: Any) -> "RateCodedNetwork":
        """The same weights, living otherwise through a decision: `changes` are fields of RateCoding."""
        other = RateCodedNetwork(
            self.game, replace(self.coding, **changes), self.bias, self.padding, self.hidden
        )
        other.load_state_dict(self.state_dict())
        return other.to(self.output_scale.device).requires_grad_(False).eval()

    def gradient_sources(self) -> Iterator[GradientSource]:
        """The DQN of its weights with ReLU, the gradient of its neurons' rates, and a sweep of surrogates."""
        from core.rate_coded.differentiable import MAX_SIM_STEPS, RateGradient, SurrogateSimulation

        yield self.twin_source()
        yield GradientSource(RateGradient(self), "rate-gradient", "clipped relu")
        if self.coding.sim_steps <= MAX_SIM_STEPS:
            # The engine that plays games adds in another order than the differentiable simulation.
            yield from swept(
                functools.partial(SurrogateSimulation, self), self.coding.sim_steps, same_scores=False
            )

    def twin_source(self) -> GradientSource:
        """The DQN of its weights with ReLU, as a gradient source."""
        return GradientSource(self.twin().requires_grad_(False), "ann-twin", "relu, own weights")

    @torch.no_grad()
    def twin(self) -> DQN:
        """The DQN this network came from, up to rounding: same weights, ReLU, Q in the old units."""
        dqn = DQN(self.game, self.bias, self.padding, self.hidden)
        for mine, its in zip(self.layers, dqn.layers, strict=True):
            for name, parameter in its.named_parameters():
                parameter.copy_(mine.get_parameter(name))
        *_, output = dqn.layers
        for parameter in output.parameters():
            parameter.mul_(self.output_scale)
        return dqn.to(self.output_scale.device)

    def quantised(self) -> QuantisedDQN:
        """The same weights without time: what this network computes if nothing arrives unevenly."""
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
            **layers_config(self.hidden, HIDDEN_LAYERS.get(self.game.tier)),
        }

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> "RateCodedNetwork":
        arguments = layers_from_config(config)
        return cls(game, RateCoding.from_config(arguments.pop("coding")), **arguments)
