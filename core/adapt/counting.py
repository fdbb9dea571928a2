"""Counting what the layers of a foreign network do during a decision, by hooks."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.adapt.library import Library
from core.errors import Refusal
from core.operations import LayerOperations, fan_out

SYNAPTIC = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose operations can be counted, and those that derive from them."""


@contextmanager
def hooked(module: nn.Module, hooks: dict[str, Callable[..., None]]) -> Iterator[None]:
    """Call a function after each call of some submodules, by name, with their inputs and output."""
    handles = [module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class SpikeCounter:
    """Spikes of each layer of neurons during one decision of B observations."""

    def __init__(self, module: nn.Module, library: Library | None, names: Sequence[str]):
        self.spikes: dict[str, Tensor] = {}
        """[B] by name."""
        self.neurons: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        """Simulation steps that each layer made."""
        self._library = library
        self.hooks: dict[str, Callable[..., None]] = {
            name: functools.partial(self._see, name) for name in names
        }

    @property
    def sim_steps(self) -> int:
        """The most simulation steps that a layer made."""
        return max(self.steps.values(), default=0)

    def _see(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        assert self._library is not None
        spikes = self._library.spikes(output)
        if not self._library.is_sequence(module):
            spikes = spikes[None]  # [1, B, ...]
        count = spikes.sum(0, dtype=torch.float32).flatten(1).sum(1)  # [B]
        self.spikes[name] = self.spikes[name] + count if name in self.spikes else count
        self.neurons[name] = spikes[0, 0].numel()
        self.steps[name] = self.steps.get(name, 0) + len(spikes)


def require_countable(module: nn.Module) -> list[str]:
    """Names of the layers with synapses.

    Raises:
        Refusal: some weights belong to no layer whose operations can be counted.
    """
    names = [name for name, each in module.named_modules() if isinstance(each, SYNAPTIC)]
    known = {id(p) for name in names for p in module.get_submodule(name).parameters(recurse=False)}
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 and id(parameter) not in known:
            raise Refusal(
                f"weights {name!r} of module {type(module).__name__} cannot be counted: operations are counted in "
                f"{', '.join(each.__name__ for each in SYNAPTIC)}"
            )
    if not names:
        raise Refusal(f"module {type(module).__name__} has no layers to count")
    return names


def neurons_of(module: nn.Module, library: Library | None) -> list[str]:
    """Names of the layers of neurons that have membranes."""
    return [
        name for name, each in module.named_modules() if library is not None and library.has_membrane(each)
    ]


def require_own_neurons(
    module: nn.Module, library: Library | None, decide: Callable[[Tensor], Tensor], observation: Tensor
) -> None:
    """Refuse a module that uses one layer of neurons at several places, whose steps and spikes would be added up.

    Args:
        module: the network.
        library: the spiking library that it was built with.
        decide: scores of a batch of observations by the module.
        observation: [1, *observation].
    """
    synaptic = [name for name, each in module.named_modules() if isinstance(each, SYNAPTIC)]
    with hooked(module, _Trace(library, synaptic, neurons_of(module, library)).hooks):
        decide(observation)


def simulates(module: nn.Module, decide: Callable[[Tensor], Tensor], observation: Tensor) -> bool:
    """Whether a module calls a layer with synapses several times in one decision, as one that simulates by itself does.

    Args:
        module: the network.
        decide: scores of a batch of observations by the module.
        observation: [1, *observation].
    """
    calls: Counter[str] = Counter()
    names = [name for name, each in module.named_modules() if isinstance(each, SYNAPTIC)]
    with hooked(module, {name: lambda *_, name=name: calls.update([name]) for name in names}):
        decide(observation)
    return max(calls.values(), default=0) > 1


class _Seen:
    """What one layer heard and did during one decision of one observation."""

    def __init__(self, before_neurons: bool):
        self.before_neurons = before_neurons
        """Whether it was first called before any layer of neurons."""
        self.heard: list[Tensor] = []
        """What its synapses were called with, call by call; empty for neurons without a layer before them."""
        self.num_outputs = 0
        """Values that its synapses gave in all calls."""
        self.neurons: str | None = None
        """The layer of neurons behind it."""

    def steps(self, sim_steps: int) -> int:
        """In how many simulation steps its synapses were called: all, or 1 for a layer outside the simulation.

        A module that simulates by itself may compute its first layer before its loop, and its last one after it.
        """
        # A call with [T, ...] counts as T, one with the only observation of the batch as 1.
        called = sum(len(each) for each in self.heard)
        return sim_steps if called % sim_steps == 0 else 1


class _Trace:
    """The order in which layers are called during the decision of one observation, and what they hear."""

    def __init__(self, library: Library | None, synaptic: Sequence[str], neurons: Sequence[str]):
        self.seen: dict[str, _Seen] = {}
        """By the name of the layer with synapses, or of the neurons without one, in the order of first calls."""
        self.updates: dict[str, int] = {}
        """Membrane updates of each layer of neurons."""
        self.num_neurons: dict[str, int] = {}
        self._called_after: dict[str, str] = {}
        """The layer that was called before each layer of neurons, from its second call on."""
        self._previous = ""
        self._library = library
        self._last: str | None = None
        self.hooks: dict[str, Callable[..., None]] = {
            **{name: functools.partial(self._see_synapses, name) for name in synaptic},
            **{name: functools.partial(self._see_neurons, name) for name in neurons},
        }

    def _see_synapses(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = self.seen.setdefault(name, _Seen(before_neurons=not self.updates))
        seen.heard.append(inputs[0].detach())
        seen.num_outputs += output.numel()
        self._last = self._previous = name

    def _see_neurons(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        """Note a call of a layer of neurons.

        Raises:
            Refusal: it is used at several places, so its steps and spikes cannot be told apart.
        """
        assert self._library is not None
        # The first step is not like the others in a module that computes its first layer before its loop.
        before, self._previous = self._previous, name
        if name in self.updates and self._called_after.setdefault(name, before) != before:
            raise Refusal(
                f"layer of neurons {name!r} is used behind both {self._called_after[name]!r} and {before!r}: each "
                "place needs a layer of its own"
            )
        if name not in self.updates:
            before = self._last if self._last is not None and self.seen[self._last].neurons is None else name
            self.seen.setdefault(before, _Seen(before_neurons=not self.updates)).neurons = name
        self._last = None
        current = inputs[0]
        steps = len(current) if self._library.is_sequence(module) else 1
        num_neurons = current.numel() // steps
        if self.num_neurons.setdefault(name, num_neurons) != num_neurons:
            raise Refusal(
                f"layer of neurons {name!r} is used for {self.num_neurons[name]} neurons and for {num_neurons}: each "
                "place needs a layer of its own"
            )
        self.updates[name] = self.updates.get(name, 0) + current.numel()


class _Synapses(NamedTuple):
    """Arrivals at the synapses of one layer during one decision."""

    dense_macs: float
    """Synapses that one simulation step uses."""
    nonzero: float
    """Synapses that an input other than 0 reached, over all that was computed."""
    arriving: float
    """The same, each as often as the input says: the number of additions, if inputs are spikes."""
    spikes: bool
    """Whether inputs may be spikes: whole numbers, and no image that is constant over simulation steps."""
    binary: bool
    """Whether all inputs are 0 or 1."""


def _synapses(layer: nn.Module, seen: _Seen, sim_steps: int) -> _Synapses:
    heard = torch.stack(seen.heard).double()  # [calls, ...]
    reached = fan_out(layer, heard[0]).double()
    parts = heard.reshape(seen.steps(sim_steps), -1)
    constant = seen.before_neurons and bool((parts == parts[0]).all())
    once = len(parts) if constant else 1  # a constant current is computed once
    return _Synapses(
        dense_macs=reached.sum().item() * len(heard) / len(parts),
        nonzero=((heard != 0) * reached).sum().item() / once,
        arriving=(heard.abs() * reached).sum().item() / once,
        spikes=not constant and bool((heard == heard.round()).all()),
        binary=bool(((heard == 0) | (heard == 1)).all()),
    )


class Traced(NamedTuple):
    """Decisions of a foreign network, one observation each, with what its layers did."""

    module: nn.Module
    traces: list[_Trace]
    counters: list[SpikeCounter]

    @property
    def sim_steps(self) -> int:
        """Simulation steps of a decision; 1 without neurons."""
        return max(self.counters[0].sim_steps, 1)

    def operations(self) -> list[LayerOperations]:
        """Operations of each layer, in the order in which they are first called.

        The conventions are those of `core.operations`. A layer that is called before any neurons, and hears the same at
        every simulation step, is computed once.
        """
        return [self._of_layer(name) for name in self.traces[0].seen]

    def last_heard(self) -> Tensor:
        """[B, F]: what the last layer with synapses heard, as a mean over simulation steps."""
        *_, name = (name for name, seen in self.traces[0].seen.items() if seen.heard)
        seen = [trace.seen[name] for trace in self.traces]
        return torch.stack(
            [torch.stack(each.heard).reshape(each.steps(self.sim_steps), -1).mean(0) for each in seen]
        )

    def _of_layer(self, name: str) -> LayerOperations:
        first = self.traces[0].seen[name]
        behind = first.neurons
        layer = self.module.get_submodule(name)
        found = [_synapses(layer, trace.seen[name], self.sim_steps) for trace in self.traces if first.heard]

        def column(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.float64)

        none = column(0.0 for _ in self.traces)
        hears_spikes = bool(found) and all(each.spikes for each in found)
        updates = none if behind is None else column(trace.updates[behind] for trace in self.traces)
        spiking = behind is not None and behind in self.counters[0].spikes
        return LayerOperations(
            num_neurons=first.num_outputs // first.steps(self.sim_steps)
            if behind is None
            else self.traces[0].num_neurons[behind],
            binary_input=hears_spikes or all(each.binary for each in found),
            dense_macs=round(found[0].dense_macs) if found else 0,
            effective_macs=none if hears_spikes or not found else column(each.nonzero for each in found),
            acs=column(each.arriving for each in found) if hears_spikes else none,
            neuron_updates=updates,
            spikes=column(counter.spikes[behind].item() for counter in self.counters)
            if behind is not None and spiking
            else none,
        )


def traced(
    module: nn.Module,
    library: Library | None,
    spiking: Sequence[str],
    decide: Callable[[Tensor], Tensor],
    observations: Tensor,
) -> Traced:
    """Decide on each observation alone, because a batch cannot be told from simulation steps.

    Args:
        module: the network.
        library: the spiking library that it was built with.
        spiking: names of its layers of neurons that spike.
        decide: scores of a batch of observations by the module.
        observations: [B, *observation].

    Raises:
        Refusal: some weights belong to no layer whose operations can be counted, or a layer is not called.
    """
    synaptic = require_countable(module)
    neurons = neurons_of(module, library)
    found = Traced(module, [], [])
    for observation in observations:
        trace, counter = _Trace(library, synaptic, neurons), SpikeCounter(module, library, spiking)
        with hooked(module, trace.hooks), hooked(module, counter.hooks):
            decide(observation[None])
        for name in synaptic:
            if name not in trace.seen:
                raise Refusal(
                    f"layer {name!r} of module {type(module).__name__} is not called in a decision: operations that a "
                    "function makes with its weights cannot be counted"
                )
        found.traces.append(trace)
        found.counters.append(counter)
    return found
