"""From a DQN to a converted network: one function for all methods, and what a user can choose about them."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from convert import exact, reconstruction, tan2021, thresholds
from convert.distillation import distil
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding, Readout
from core.rate_coded.torch_engine import Firing, IFNeuron

Weights = Literal["tan2021", "max", "threshold-search", "reconstruct", "qcfs", "exact"]


class Defaults(NamedTuple):
    """Of a method, where the user says nothing."""

    firing: Firing
    v_init: float


METHODS: dict[Weights, Defaults] = {
    "tan2021": Defaults("at-once", 0.0),
    "max": Defaults("at-once", 0.0),
    "threshold-search": Defaults("at-once", 0.5),
    "reconstruct": Defaults("signed", 0.5),
    "qcfs": Defaults("signed", 0.5),
    "exact": Defaults("afterwards", 0.5),
}


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """How to convert."""

    method: Weights = "tan2021"
    """Where weights and thresholds come from. tan2021: a percentile of each layer's outputs (Tan et al. 2021); max: the
    largest output; threshold-search: least squared error at --sim-steps; reconstruct: the same, and each layer's
    weights fitted, in closed form, to the rates that reach it; qcfs: the DQN's own Q-values distilled into a network
    of --sim-steps levels (Bu et al. 2022); exact: such a network, with spike counts that are its levels exactly."""
    percentile: float = 99.9
    """Percentile of a layer's outputs that fires at every simulation step (tan2021)."""
    thresholds: Literal["channel", "layer"] = "channel"
    """One threshold a channel or a layer (all but tan2021 and max)."""
    distil_updates: int = 5000
    """Gradient steps of each of the four rounds of qcfs and exact; for exact, 0 quantises without training."""
    readout: Readout = "robust"
    """robust: output spikes plus residual membrane; current: the same charge in an output that does not fire; spikes:
    output spikes alone."""
    firing: Firing | None = None
    """at-once: when the threshold is reached; signed: a spike that came too early is taken back by a negative one;
    afterwards: a layer fires when it has heard everything. The method's own if not given (tan2021, max,
    threshold-search: at-once; reconstruct, qcfs: signed; exact: afterwards)."""
    v_init: float | None = None
    """Membranes before a decision, in thresholds, in place of the method's own (tan2021, max: 0; others: 0.5)."""
    node: Literal["if", "lif"] = "if"
    """Whether membranes leak, by exp(-1/tau) a simulation step (Liu et al. 2022's variant of Tan's code)."""
    tau: float = 100.0
    """Time constant of that leak in simulation steps."""
    layer_delay: bool = False
    """Let every layer cost one simulation step of delay, as in Tan's simulator BindsNET."""
    presteps: int = 0
    """Simulate so many steps first and silence the neurons whose membranes are then below 0 (SRP)."""
    residual_alpha: float = 0.0
    """Share of its membranes that a decision leaves to the next one (CRPI)."""
    stop_gap: float | None = None
    """Decide as soon as the two largest Q-values lie so far apart; mean simulation steps are reported."""

    def coding(self, sim_steps: int) -> RateCoding:
        """How the network of so many steps lives through a decision."""
        defaults = METHODS[self.method]
        neuron = IFNeuron(
            self.firing or defaults.firing,
            defaults.v_init if self.v_init is None else self.v_init,
            self.tau if self.node == "lif" else None,
        )
        return RateCoding(
            sim_steps=sim_steps,
            readout=self.readout,
            neuron=neuron,
            layer_delay=self.layer_delay,
            presteps=self.presteps,
            residual_alpha=self.residual_alpha,
            stop_gap=self.stop_gap,
        )

    def require_sound(self, sim_steps: int) -> None:
        """Refuse what no method can do, before anything starts."""
        if not 0 < self.percentile <= 100:
            raise Refusal(f"percentile is {self.percentile}: accepted is above 0 and up to 100")
        if self.distil_updates < (self.method != "exact"):
            raise Refusal(
                f"distil_updates is {self.distil_updates}: at least 1 is needed (0 with --method exact alone)"
            )
        if self.method == "exact" and self.firing not in (None, "afterwards"):
            raise Refusal(f"firing is {self.firing}: exact counts need neurons that fire afterwards")
        self.coding(sim_steps)


class Converted(NamedTuple):
    """A converted network and how it came to be."""

    snn: RateCodedNetwork
    scales: list[Tensor]
    """Of every layer, [1] or [C]: what a rate of 1 stands for in the DQN."""
    guarded: bool
    """Whether the output's percentile was not positive, so that magnitudes were taken."""

    def settings(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "scales": [scale.tolist() if len(scale) > 1 else scale.item() for scale in self.scales],
            "output_scale_guarded": self.guarded,
        }


def convert(
    dqn: DQN,
    states: np.ndarray,
    options: MethodOptions,
    sim_steps: int,
    seed: int,
    held_out: np.ndarray | None = None,
    taught: RateCodedNetwork | None = None,
) -> Converted:
    """Convert a DQN.

    Args:
        dqn: the network; it is not changed.
        states: [S, *observation] to calibrate on.
        options: the method and what was chosen about it.
        sim_steps: for which the network is made, and which it simulates.
        seed: of what distillation draws.
        held_out: states that distillation may not learn on, where the student meets them.
        taught: what the same distillation gave before.
    """
    coding, by_channel = options.coding(sim_steps), options.thresholds == "channel"
    if options.method in ("tan2021", "max"):
        percentile = options.percentile if options.method == "tan2021" else 100.0
        found, guarded = tan2021.guarded_scales(dqn, states, percentile)
        scales = [torch.tensor([scale]) for scale in found]
        return Converted(tan2021.convert(dqn, scales, coding), scales, guarded)
    if options.method == "reconstruct":
        snn, scales = reconstruction.reconstruct(dqn, states, coding, by_channel)
        return Converted(snn, scales, False)
    scales = thresholds.least_squares(dqn, states, sim_steps, coding.neuron.v_init, by_channel)
    snn = tan2021.convert(dqn, scales, coding)
    if taught is not None:
        snn.load_state_dict(taught.state_dict())
    elif options.method in ("qcfs", "exact") and options.distil_updates:
        student = snn.quantised()
        distil(student, dqn, states, options.distil_updates, seed, held_out)
        snn.load_state_dict(student.state_dict())
    return Converted(exact.whole_numbers(snn) if options.method == "exact" else snn, scales, False)
