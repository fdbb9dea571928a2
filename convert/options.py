"""Command-line options of conversions: the method, its options, and how the network is simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from convert.method import METHODS, Method
from convert.methods.qcfs import Qcfs
from convert.methods.tan2021 import Tan2021
from convert.methods.threshold_search import Granularity, ThresholdSearch
from core.checkpoint import Checkpoint, load_agent
from core.cli import OneOf
from core.device import pick_device, set_up_torch
from core.dqn import DQN
from core.errors import Refusal
from core.options import parse_settings
from core.rate_coded.network import ChargeReadout, RateCoding
from core.rate_coded.torch_engine import Firing, IFNeuron
from core.seeding import require_seed
from play.options import ComputeOptions

NAMED_OPTIONS: Mapping[str, Any] = {
    "percentile": Tan2021.percentile,
    "thresholds": ThresholdSearch.thresholds,
    "distil_updates": Qcfs.distil_updates,
}
"""Options of methods that have a command-line option of their own, with their usual values.

Rows, manifests and checkpoints hold all of them for every method, as those of earlier versions do.
"""


@dataclass(frozen=True, kw_only=True)
class CodingOptions:
    """How the converted network is simulated."""

    readout: ChargeReadout = "robust"
    """How Q-values are read. robust: output spikes plus residual membranes. current: the same charge, in an output
    that does not fire. spikes: output spikes alone."""
    firing: Firing | None = None
    """When neurons fire; the method's own if not given. at-once: a neuron fires when it reaches its threshold.
    signed: so too, and a negative spike takes back one that came too early. afterwards: a layer fires once it has
    received all its input."""
    v_init: float | None = None
    """Membranes before a decision, in thresholds; the method's own if not given."""
    node: Literal["if", "lif"] = "if"
    """Neurons. if keeps its charge. lif leaks by exp(-1/tau) a simulation step, as in Liu et al. 2022's variant of
    Tan's code."""
    tau: float = 100.0
    """Time constant of the leak in simulation steps, with --node lif."""
    layer_delay: bool = False
    """Delay every layer by one simulation step, as Tan's simulator BindsNET does."""
    presteps: int = 0
    """Simulation steps that come first; neurons whose membranes are below 0 after them are silenced (SRP)."""
    residual_alpha: float = 0.0
    """Share of its final membranes from which the next decision starts (CRPI)."""
    stop_gap: float | None = None
    """Gap between the two largest Q-values at which a decision stops early. The mean number of steps is reported."""

    def coding(self, sim_steps: int, method: Method) -> RateCoding:
        """The coding of a network of so many simulation steps. Options that were not given are the method's own.

        Raises:
            Refusal: a value is out of range, or options contradict each other.
        """
        neuron = IFNeuron(
            self.firing or method.firing,
            method.v_init if self.v_init is None else self.v_init,
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


@dataclass(frozen=True, kw_only=True)
class ConversionOptions(CodingOptions):
    """How to convert."""

    method: Annotated[str, OneOf(METHODS.items, "Where weights and thresholds come from.")] = "tan2021"
    percentile: float | None = None
    """Percentile of a layer's outputs that fires at every simulation step (tan2021); 99.9 if not given."""
    thresholds: Granularity | None = None
    """One threshold a channel or a layer (all but tan2021 and max); channel if not given."""
    distil_updates: int | None = None
    """Gradient steps of each of the four rounds of qcfs and exact; 5000 if not given. For exact, 0 quantises without
    training."""
    method_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = field(default=())
    """Options of the method as field=value. Options of a method from an --extension are set this way."""

    def chosen(self) -> Method:
        """The method with its options.

        Raises:
            Refusal: there is no such method, it has no such option, or a value is not accepted.
        """
        cls = METHODS[self.method]
        given = {name: getattr(self, name) for name in NAMED_OPTIONS if getattr(self, name) is not None}
        for name, value in given.items():
            if name not in options_of(cls):
                accepted = ", ".join(options_of(cls)) or "none"
                raise Refusal(
                    f"{name} is {value}: method {self.method} has no such option; accepted are {accepted}"
                )
        parsed = parse_settings(self.method_options, cls, f"method {self.method}")
        if twice := sorted(given.keys() & parsed.keys()):
            raise Refusal(f"{twice[0]} is given twice: {given[twice[0]]} and {parsed[twice[0]]}")
        return cls(**given, **parsed)


@dataclass(frozen=True, kw_only=True)
class SourceOptions(ComputeOptions):
    """Options that `run` and `compare` share."""

    agent: Path
    """Checkpoint of a DQN."""
    calibration_states: int = 15_000
    """Number of states on which thresholds and weights are computed."""
    test_states: int = 1000
    """Number of held-out states, from other episodes, on which decisions are compared."""
    seed: int = 0
    """Seed of the episodes that states are collected from, and of distillation."""

    def begin(self) -> tuple[Checkpoint, DQN]:
        """Set up torch, check the options, and read the DQN."""
        set_up_torch(self.threads)
        require_seed(self.seed)
        for name in ("calibration_states", "test_states"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}: at least 1 is needed")
        checkpoint = load_agent(self.agent, device=pick_device(self.device))
        dqn = checkpoint.agent
        if not isinstance(dqn, DQN) or dqn.kind != DQN.kind:  # the logits of an actor are not Q-values
            raise Refusal(f"{self.agent} holds the agent {dqn.kind!r}: only a dqn can be converted")
        return checkpoint, dqn


def options_of(method: type[Method]) -> tuple[str, ...]:
    """Names of a method's options."""
    return tuple(option.name for option in fields(method))


def recorded(method: Method, shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A method and its options as rows, manifests and checkpoints hold them.

    Args:
        method: the method with its options.
        shared: named options that were chosen for several methods at once, whether or not this one has them.

    Returns:
        The name, every named option, and the others under "method_options" if there are any.
    """
    own = {name: getattr(method, name) for name in options_of(type(method))}
    others = {name: value for name, value in own.items() if name not in NAMED_OPTIONS}
    named = {**NAMED_OPTIONS, **(shared or {}), **{name: own[name] for name in own if name in NAMED_OPTIONS}}
    return {"method": method.name, **named, **({"method_options": others} if others else {})}
