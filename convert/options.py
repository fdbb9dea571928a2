"""Command-line options of conversions: the method, its options, and how the network is simulated."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from core.choices import ChargeReadout, Firing, Granularity, Pixels
from core.cli import OneOf
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import named_game
from core.options import parse_settings
from core.ranges import Real, Seed, SimSteps, StateCount, Whole
from play.options import AnAgent, ComputeOptions, GameOfAgent

if TYPE_CHECKING:
    from convert.method import Method
    from core.agents import Agent
    from core.checkpoint import Checkpoint
    from core.dqn import DQN
    from core.rate_coded.network import RateCoding
    from core.workload import Workload
    from play.expected import Expected

NAMED_OPTIONS = ("percentile", "thresholds", "distil_updates")
"""Options of methods that have a command-line option of their own.

Rows, manifests and checkpoints hold all of them for every method, as those of earlier versions do.
"""


@functools.cache
def named_options() -> Mapping[str, Any]:
    """The usual values of NAMED_OPTIONS."""
    from convert.methods.qcfs import Qcfs
    from convert.methods.tan2021 import Tan2021
    from convert.methods.threshold_search import ThresholdSearch

    return {
        "percentile": Tan2021.percentile,
        "thresholds": ThresholdSearch.thresholds,
        "distil_updates": Qcfs.distil_updates,
    }


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
    v_init: Annotated[float, Real(0, 1, below=True)] | None = None
    """Membranes before a decision, in thresholds; the method's own if not given."""
    node: Literal["if", "lif"] = "if"
    """Neurons. if keeps its charge. lif leaks by exp(-1/tau) a simulation step, as in Liu et al. 2022's variant of
    Tan's code."""
    tau: Annotated[float, Real(0, above=True)] = 100.0
    """Time constant of the leak in simulation steps, with --node lif."""
    layer_delay: bool = False
    """Delay every layer by one simulation step, as Tan's simulator BindsNET does."""
    presteps: Annotated[int, Whole(0, 10_000)] = 0
    """Simulation steps that come first; neurons whose membranes are below 0 after them are silenced (SRP)."""
    residual_alpha: Annotated[float, Real(0, 1)] = 0.0
    """Share of its final membranes from which the next decision starts (CRPI)."""
    stop_gap: Annotated[float, Real(0)] | None = None
    """Gap between the two largest Q-values at which a decision stops early. Evaluations tell the mean steps."""

    def coding(self, sim_steps: int, method: "Method") -> "RateCoding":
        """The coding of a network of so many simulation steps. Options that were not given are the method's own.

        Raises:
            Refusal: a value is out of range, or options contradict each other.
        """
        from core.rate_coded.network import RateCoding
        from core.rate_coded.torch_engine import IFNeuron

        if self.node != "lif" and self.tau != type(self).tau:
            raise Refusal(f"tau is {self.tau}: neurons of --node {self.node} do not leak; --node lif do")
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

    method: Annotated[str, OneOf("Where weights and thresholds come from.", "convert.method:METHODS")] = (
        "tan2021"
    )
    percentile: Annotated[float, Real(0, 100, above=True)] | None = None
    """Percentile of a layer's outputs that fires at every simulation step (tan2021); 99.9 if not given."""
    thresholds: Granularity | None = None
    """One threshold a channel or a layer (all but tan2021 and max); channel if not given."""
    distil_updates: Annotated[int, Whole(0, 1_000_000)] | None = None
    """Gradient steps of each of the four rounds of qcfs, exact and hybrid; 5000 if not given. For exact, 0 quantises
    without training."""
    method_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = field(default=())
    """Options of the method as field=value: those of a method from an --extension, and start=pursuit for qcfs and
    exact, which then start from the neurons that pursuit chooses."""

    def chosen(self) -> "Method":
        """The method with its options.

        Raises:
            Refusal: there is no such method, it has no such option, or a value is not accepted.
        """
        from convert.method import METHODS

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
    """What is converted, and the states that it is measured on."""

    agent: Annotated[str, AnAgent("The DQN to convert.", random=False)]
    game: GameOfAgent = None
    calibration_states: StateCount = 15_000
    """Number of states on which thresholds and weights are computed."""
    test_states: StateCount = 1000
    """Number of held-out states, from other episodes, on which decisions are compared."""
    seed: Seed = 0
    """Seed of the episodes that states are collected from, and of distillation."""

    def begin(self) -> "tuple[Checkpoint, DQN]":
        """Set up torch, and read the DQN."""
        from play.entrants import load

        set_up_torch(self.threads)
        game = named_game(self.game)
        checkpoint = load(self.agent, game, pick_device(self.device))
        return checkpoint, require_dqn(checkpoint.agent, self.agent)


def require_dqn(agent: "Agent", named: str) -> "DQN":
    """The agent, if it can be converted. The logits of an actor are not Q-values.

    Args:
        agent: what was read.
        named: as what the user named it.

    Raises:
        Refusal: the agent is not a DQN.
    """
    from core.dqn import DQN

    if not isinstance(agent, DQN) or agent.kind != DQN.kind:
        raise Refusal(f"{named} holds the agent {agent.kind!r}: only a dqn can be converted")
    return agent


def options_of(method: "type[Method]") -> tuple[str, ...]:
    """Names of a method's options."""
    return tuple(option.name for option in fields(method))


def recorded(method: "Method", shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A method and its options as rows, manifests and checkpoints hold them.

    Args:
        method: the method with its options.
        shared: named options that were chosen for several methods at once, whether or not this one has them.

    Returns:
        The name, every named option, and the others under "method_options" if there are any.
    """
    own = {name: getattr(method, name) for name in options_of(type(method))}
    others = {
        name: value
        for name, value in own.items()
        if name not in NAMED_OPTIONS and (name not in method.later or value != method.later[name])
    }
    named = {
        **named_options(),
        **(shared or {}),
        **{name: own[name] for name in own if name in NAMED_OPTIONS},
    }
    return {"method": method.name, **named, **({"method_options": others} if others else {})}


@dataclass(frozen=True, kw_only=True)
class Run(ConversionOptions, SourceOptions):
    """Convert a DQN, and measure on held-out states how often the spiking network makes the same decisions.

    Examples:
        spikeq convert run --agent results/agents/cartpole-dqn-s0.safetensors --out runs/snn.safetensors
        spikeq convert run --agent runs/dqn --method qcfs --sim-steps 8 --quantised --out runs/qcfs.safetensors
    """

    out: Path
    """Spiking network to write (.safetensors). Agreement rows go to OUT with the ending .conversion.parquet."""
    sim_steps: SimSteps = 500
    """Simulation steps of a decision. Neurons that fire afterwards take this many in every layer."""
    quantised: bool = False
    """Also write the quantised DQN, which has the same weights and no simulation steps, as OUT with the ending
    .quantised.safetensors."""
    bindsnet_states: Annotated[int, Whole(0, 1_000_000)] = 0
    """Held-out states on which the network is also simulated in BindsNET and compared (slow)."""
    nir: Path | None = None
    """Also write the spiking network as a NIR graph (.nir), as `convert export` does."""

    def run(self) -> None:
        from convert.run import Conversion

        Conversion(**vars(self)).run()

    def workload(self, expected: "Expected") -> "Workload":
        from convert.workload import of_conversion

        return of_conversion(self, expected)


SHARED = ("percentile", "distil_updates")
"""Options of methods that `convert compare` takes for all methods that have them."""


@dataclass(frozen=True, kw_only=True)
class Compare(SourceOptions):
    """Compare conversions of one DQN at several numbers of simulation steps.

    The table shows agreement, regret, errors and spikes, and scores with --episodes.

    Examples:
        spikeq convert compare --agent results/agents/minatar-breakout-dqn-s0.safetensors --out runs/methods
        spikeq convert compare --agent runs/dqn --variants tan2021 max --sim-steps 4 8 --episodes 30 --out runs/two
    """

    out: Path
    """Folder for the rows (methods.parquet, conversion_episodes.parquet) and the table (comparison.md)."""
    sim_steps: tuple[SimSteps, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 500)
    """Numbers of simulation steps."""
    variants: Annotated[
        tuple[str, ...] | None,
        OneOf(
            "Conversions to compare, by their names in the table; all if not given. Methods that convert for one "
            "number of simulation steps are measured up to 64 steps, distilled networks up to 16.",
            "convert.variants:VARIANTS",
            "convert.method:METHODS",
        ),
    ] = None
    percentile: Annotated[float, Real(0, 100, above=True)] | None = None
    """Percentile of a layer's outputs that fires at every simulation step (tan2021, v-init); 99.9 if not given."""
    distil_updates: Annotated[int, Whole(0, 1_000_000)] | None = None
    """Gradient steps of each of the four rounds of qcfs, exact and hybrid; 5000 if not given."""
    episodes: Annotated[int, Whole(0, 10_000)] = 0
    """Evaluation games that each network plays, with the same starts. Agreement is also measured on their states."""
    protocol: Annotated[
        str | None,
        OneOf("Protocol of those games; the game's usual one if not given.", "play.protocols:PROTOCOLS"),
    ] = None

    @property
    def shared(self) -> dict[str, Any]:
        """The options of methods that were given."""
        return {name: value for name in SHARED if (value := getattr(self, name)) is not None}

    def run(self) -> None:
        from convert.compare import Comparison
        from convert.variants import all_variants

        variants = all_variants().names() if self.variants is None else self.variants
        Comparison(**{**vars(self), "variants": variants}).run()

    def workload(self, expected: "Expected") -> "Workload":
        from convert.workload import of_comparison

        return of_comparison(self, expected)


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a pretrained DQN of another project into a checkpoint. No code in the file is run.

    Examples:
        spikeq convert import --source dqn.zip --game pong --out runs/pong.safetensors
        spikeq convert import --source dqn.pth --game minatar/breakout --format minatar --out runs/breakout.safetensors
    """

    source: Path
    """File that the other project saved."""
    game: Annotated[
        str,
        OneOf("The game that it plays, which the file does not say.", "core.games:GAMES"),
    ]
    out: Path
    """Checkpoint to write (.safetensors)."""
    format: Annotated[
        str,
        OneOf(
            "Format of the file; auto recognises it by the names of the weights.", "convert.foreign:FORMATS"
        ),
    ] = "auto"
    network: Annotated[
        str | None,
        OneOf(
            "The network in the file. It is needed only for liu2022-if, whose files look like those of liu2022.",
            "core.networks:NETWORKS",
        ),
    ] = None
    pixels: Pixels | None = None
    """What the network of an Atari game was given for a pixel: numbers from 0 to 1 (unit), or grey levels from 0 to 255
    (bytes). Default: what the file says, or unit if it does not say."""

    def run(self) -> None:
        from convert.exchange import ForeignImport

        ForeignImport(**vars(self)).run()

    def workload(self, expected: "Expected") -> "Workload":
        from convert.workload import of_import

        return of_import(self, expected)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a converted network or a DSQN as a NIR graph, for other simulators and for hardware.

    Examples:
        spikeq convert export --agent results/agents/minatar-breakout-dsqn-s0.safetensors --out runs/dsqn.nir
    """

    agent: Annotated[str, AnAgent("The converted SNN or DSQN.", random=False)]
    game: GameOfAgent = None
    out: Path
    """NIR file to write (.nir)."""

    def run(self) -> None:
        from convert.exchange import NirExport

        NirExport(**vars(self)).run()
