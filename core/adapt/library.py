"""What adapting a module needs to know of the spiking library that it was built with.

Each library is one file, registered by name. None is imported here: a module of a library can only exist where its user
imported the library already.
"""

import abc

from torch import Tensor, nn

from core.neurons.surrogates import SpikeDerivative
from core.registry import Registry


class Library(abc.ABC):
    """How modules of one library keep state, spike and pass gradients."""

    @abc.abstractmethod
    def is_stateful(self, module: nn.Module) -> bool:
        """Whether a single module is one of the library's that may keep state between calls."""

    @abc.abstractmethod
    def is_spiking(self, module: nn.Module) -> bool:
        """Whether a single module is a layer of neurons of the library, and its output spikes."""

    def has_membrane(self, module: nn.Module) -> bool:
        """Whether a single module updates membranes. Those that spike do."""
        return self.is_spiking(module)

    @abc.abstractmethod
    def reset(self, network: nn.Module) -> None:
        """Forget all state that modules of the network keep."""

    def is_sequence(self, module: nn.Module) -> bool:
        """Whether a layer of neurons takes all simulation steps at once, [T, B, ...]."""
        return False

    def spikes(self, output: object) -> Tensor:
        """The spikes in what a layer of neurons returns: the tensor itself, or the first of a tuple."""
        found = output[0] if isinstance(output, tuple) else output
        assert isinstance(found, Tensor)
        return found

    def exchange_surrogate(self, module: nn.Module, derivative: SpikeDerivative) -> bool:
        """Give a layer of neurons another surrogate gradient; False if the library does not let it be exchanged."""
        return False


LIBRARIES: Registry[Library] = Registry("spiking library", package="core.adapt.libraries")
"""Libraries whose modules can be adapted, by name."""


def comes_from(module: nn.Module, package: str) -> bool:
    """Whether a module's class, or one that it derives from, is defined in a package."""
    return any(cls.__module__.split(".")[0] == package for cls in type(module).__mro__)


def library_of(network: nn.Module) -> tuple[str, Library] | None:
    """The name and the library of the first stateful module in a network; None if it has none."""
    for module in network.modules():
        for name, library in LIBRARIES.items():
            if library.is_stateful(module):
                return name, LIBRARIES[name]
    return None
