"""Command-line options of the network that is trained."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from core.choices import Surrogate
from core.cli import OneOf, Switch
from core.errors import Refusal
from core.options import choose
from core.ranges import Real, SimSteps
from core.registered import Listed

if TYPE_CHECKING:
    from core.dsqn import Spiking
    from core.networks import Network
    from core.neurons.base import Neuron

_OF_NEURON = ("reset", "detach_reset", "threshold", "tau", "surrogate", "surrogate_slope")
"""Options that set fields of the neuron."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Layers of the network."""

    layers: str | None = None
    """Hidden layers in place of the usual ones: "32c8s4 64c4s2 64c3s1 512" is three convolutions (channels, c,
    kernel, s, stride) and a fully connected layer."""

    def changed_layers(self, network: "Network") -> "tuple[Network, list[str]]":
        """A network with the given layers, and the parts that they add to its name in rows."""
        if self.layers is None:
            return network, []
        from core.layers import format_layers, parse_layers

        hidden = parse_layers(self.layers)
        return replace(network, layers=hidden), [f"layers={format_layers(hidden, ',')}"]


def is_relu(network: Listed) -> bool:
    """Whether a registered network has no spikes."""
    return not is_spiking(network)


def is_spiking(network: Listed) -> bool:
    """Whether a registered network spikes. One that was not imported is judged by its source code."""
    return "Spiking(" in network.source or getattr(network.entry, "spiking", None) is not None


def is_spiking_actor(network: Listed) -> bool:
    """Whether a registered network spikes and its outputs are unbounded, as a critic's values need."""
    spiking = getattr(network.entry, "spiking", None)
    bounded = "SpikeRate(" in network.source or (spiking is not None and spiking.readout.output_spikes)
    return is_spiking(network) and not bounded


def relu_network(name: str) -> "Network":
    """A network without spikes, by name.

    Raises:
        Refusal: there is none of that name, or it spikes.
    """
    from core.networks import NETWORKS

    network = NETWORKS[name]
    if network.spiking is not None:
        raise Refusal(f"network {name!r} spikes: the verbs that train it are dsqn and spiking-ppo")
    return network


def spiking_network(name: str, relu_verb: str) -> "tuple[Network, Spiking]":
    """A spiking network by name, and what makes it spike.

    Args:
        name: of the network.
        relu_verb: the verb that trains networks without spikes.

    Raises:
        Refusal: there is none of that name, or it does not spike.
    """
    from core.networks import NETWORKS

    network = NETWORKS[name]
    if network.spiking is None:
        raise Refusal(f"network {name!r} does not spike: train it with the verb {relu_verb}")
    return network, network.spiking


@dataclass(frozen=True, kw_only=True)
class SpikingOptions(NetworkOptions):
    """What spikes, and how Q-values are read."""

    sim_steps: SimSteps | None = None
    """Simulation steps of a decision, in place of the network's own."""
    neuron: Annotated[
        tuple[str, ...],
        OneOf(
            "Neuron in place of the network's own, with its options, as in lif tau=4 threshold=0.5. What lif and if "
            "share stays the network's if it is not given.",
            "core.neurons.base:NEURONS",
            words="settings",
        ),
    ] = ()
    readout: Annotated[
        tuple[str, ...],
        OneOf(
            "How outputs (Q-values or logits) are read, in place of the network's own, with its options, as in "
            "last-mem tau=3.",
            "core.readouts:READOUTS",
            words="settings",
        ),
    ] = ()
    normalisation: Annotated[
        tuple[str, ...],
        OneOf(
            "Normalisation between each hidden layer and its neurons, with its options. The network's own if not "
            "given.",
            "core.normalisations:NORMALISATIONS",
            words="settings",
        ),
    ] = ()
    reset: Literal["hard", "soft"] | None = None
    """Membrane after a spike: hard (to rest) or soft (threshold subtracted)."""
    detach_reset: Switch = None
    """Whether no gradient flows through the reset."""
    threshold: Annotated[float, Real(0, above=True)] | None = None
    """Firing threshold."""
    tau: Annotated[float, Real(1)] | None = None
    """Membrane time constant in simulation steps (LIF)."""
    surrogate: Surrogate | None = None
    """Surrogate gradient: atan, sigmoid, triangle or rectangle."""
    surrogate_slope: Annotated[float, Real(0, above=True)] | None = None
    """Slope of the surrogate gradient."""
    bias: Switch = None
    """Whether layers have biases (Chen's paper: False, its code: True)."""

    def changed(self, network: "Network", spiking: "Spiking") -> "tuple[Network, list[str]]":
        """A network with the given options, and the parts that they add to its name in rows.

        Raises:
            Refusal: a name is not registered, an option does not exist, or a value is out of range.
        """
        from core.neurons.base import NEURONS
        from core.normalisations import NORMALISATIONS
        from core.readouts import READOUTS

        neuron = self._chosen_neuron(spiking.neuron)
        of_neuron = self._given(*_OF_NEURON)
        known = {field.name for field in fields(neuron)}  # type: ignore[arg-type]  # every neuron is a dataclass
        for name, value in of_neuron.items():
            if name not in known:
                raise Refusal(
                    f"{name} is {value}: the neuron {NEURONS.name_of(type(neuron))!r} has no such option; its options "
                    f"are {', '.join(sorted(known)) or 'none'}"
                )
        given = self._given("sim_steps")
        if self.readout:
            given["readout"] = choose(READOUTS, self.readout)
        if self.normalisation:
            given["normalisation"] = choose(NORMALISATIONS, self.normalisation)
        spiking = replace(spiking, neuron=replace(neuron, **of_neuron), **given)  # type: ignore[type-var]
        bias = self._given("bias")
        changes = [f"{name}={value}" for name, value in self._given("sim_steps").items()]
        changes += [f"readout={','.join(self.readout)}"] if self.readout else []
        changes += [f"{name}={value}" for name, value in (of_neuron | bias).items()]
        changes += [f"neuron={','.join(self.neuron)}"] if self.neuron else []
        changes += [f"normalisation={','.join(self.normalisation)}"] if self.normalisation else []
        network, layers = self.changed_layers(replace(network, spiking=spiking, **bias))
        return network, [*changes, *layers]

    def _chosen_neuron(self, own: "Neuron") -> "Neuron":
        """The neuron that the command line names, if any. It keeps what it shares with the network's own by a class."""
        from core.neurons.base import NEURONS

        if not self.neuron:
            return own
        chosen = choose(NEURONS, self.neuron)
        if not is_dataclass(chosen):
            raise Refusal(
                f"neuron {self.neuron[0]!r} is no dataclass: @dataclass(frozen=True, kw_only=True) is needed"
            )
        common = (cls for cls in type(own).__mro__ if is_dataclass(cls) and isinstance(chosen, cls))
        kept = {field.name for cls in common for field in fields(cls)}
        kept -= {word.partition("=")[0] for word in self.neuron}
        return replace(chosen, **{name: getattr(own, name) for name in kept})

    def _given(self, *names: str) -> dict[str, Any]:
        """The options among these that the command line gave."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
