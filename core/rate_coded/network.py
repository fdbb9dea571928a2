"""The converted network: a DQN's normalised weights, IF neurons, and the read-out of its Q-values."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from core.errors import Refusal
from core.games import Game
from core.networks import DQN, Activity, Agent, Decision, build_layers, require_sim_steps
from core.rate_coded import event_engine, torch_engine
from core.rate_coded.torch_engine import Simulation

Readout = Literal["robust", "spikes"]
READOUTS: tuple[Readout, ...] = ("robust", "spikes")


class RateCodedNetwork(Agent):
    """A converted spiking Q-network (Tan et al. 2021, arXiv 2009.14456).

    Every layer's weights are normalised so that all thresholds are 1; the output layer spikes too.
    Scores are in units of the DQN's Q-values, because the output layer's scale is kept.

    Args:
        game: whose observations and actions.
        sim_steps: simulation steps a decision takes.
        readout: "robust": spike count plus residual membrane (Tan's); "spikes": the count alone.
        layer_delay: simulate one step of delay a layer, as BindsNET does.
        bias: whether layers have biases.
        v_init: membrane of every neuron before a decision, in thresholds: 0, or 1/2 so that rates are rounded
            and not cut off (Bu et al. 2022, arXiv 2202.01440).
    """

    kind = "rate-coded"
    output_scale: Tensor
    """[] float32: what one output spike a simulation step is worth in Q."""

    def __init__(
        self,
        game: Game,
        sim_steps: int,
        readout: Readout = "robust",
        layer_delay: bool = False,
        bias: bool = True,
        v_init: float = 0.0,
    ):
        super().__init__()
        require_sim_steps(sim_steps)
        if readout not in READOUTS:
            raise Refusal(f"readout {readout!r}: accepted are {', '.join(READOUTS)}")
        self.game = game
        self.sim_steps = sim_steps
        self.readout = readout
        self.layer_delay = layer_delay
        if not 0.0 <= v_init < 1.0:
            raise Refusal(f"v_init is {v_init}: accepted is 0 up to, not with, 1 (the threshold)")
        self.bias = bias
        self.v_init = v_init
        self.layers, self.layer_shapes = build_layers(game, bias)
        self.register_buffer("output_scale", torch.ones(()))
        self.neuron_counts = tuple(math.prod(shape) for shape in self.layer_shapes)
        self._prepared: tuple[list[tuple[int, int]], list[event_engine.Prepared]] | None = None

    def decide(self, observations: Tensor, carry: Any = None) -> Decision:
        simulation = self._simulate(observations, self.sim_steps)
        scores = self._read(simulation.counts, simulation.residuals, self.readout, self.sim_steps)
        return Decision(scores[0], None, Activity(simulation.spikes, self.sim_steps))

    def scores_over_time(self, observations: Tensor, record_at: Sequence[int]) -> dict[Readout, Tensor]:
        """Q-values after each recorded simulation step, from one simulation: [R, B, A] a read-out."""
        simulation = self._simulate(observations, max(record_at), record_at)
        elapsed = torch.tensor(record_at, device=observations.device).view(-1, 1, 1)
        return {
            readout: self._read(simulation.counts, simulation.residuals, readout, elapsed)
            for readout in READOUTS
        }

    def _simulate(self, observations: Tensor, sim_steps: int, record_at: Sequence[int] = ()) -> Simulation:
        """On the CPU by the engine that visits spikes only, elsewhere and with a delay by the reference."""
        if observations.device.type != "cpu" or self.layer_delay:
            return torch_engine.simulate(
                self.layers,
                observations,
                sim_steps,
                layer_delay=self.layer_delay,
                v_init=self.v_init,
                record_at=record_at,
            )
        weights = [(parameter.data_ptr(), parameter._version) for parameter in self.parameters()]
        if self._prepared is None or self._prepared[0] != weights:
            self._prepared = weights, event_engine.prepare(self.layers, self.layer_shapes)
        return event_engine.simulate(
            self.layers, self._prepared[1], observations, sim_steps, v_init=self.v_init, record_at=record_at
        )

    def _read(self, counts: Tensor, residuals: Tensor, readout: Readout, elapsed: int | Tensor) -> Tensor:
        # What the output layer received is what it fired and what its membrane gained.
        charge = counts + residuals - self.v_init if readout == "robust" else counts
        return self.output_scale * charge / elapsed

    @torch.no_grad()
    def twin(self) -> DQN:
        """The DQN this network came from, up to rounding: same weights, ReLU, Q in the old units."""
        dqn = DQN(self.game, self.bias)
        for mine, its in zip(self.layers, dqn.layers, strict=True):
            for name, parameter in its.named_parameters():
                parameter.copy_(mine.get_parameter(name))
        *_, output = dqn.layers
        for parameter in output.parameters():
            parameter.mul_(self.output_scale)
        return dqn.to(self.output_scale.device)

    def config(self) -> dict[str, Any]:
        return {
            "sim_steps": self.sim_steps,
            "readout": self.readout,
            "layer_delay": self.layer_delay,
            "bias": self.bias,
            "v_init": self.v_init,
        }
