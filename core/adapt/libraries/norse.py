"""Norse 1 (Pehle & Pedersen 2021, doi 10.5281/zenodo.4422025)."""

from torch import nn

from core.adapt.library import LIBRARIES, Library, comes_from


class Norse(Library):
    """State is passed from call to call, so there is nothing to reset. A surrogate is an option of a cell's parameters,
    fixed when the cell is made."""

    def is_stateful(self, module: nn.Module) -> bool:
        return comes_from(module, "norse") and any("SNN" in cls.__name__ for cls in type(module).__mro__)

    def is_spiking(self, module: nn.Module) -> bool:
        # A leaky integrator has a state and never spikes.
        leaky_integrator = type(module).__name__ in ("LI", "LICell", "LILinearCell")
        return self.is_stateful(module) and not leaky_integrator

    def has_membrane(self, module: nn.Module) -> bool:
        return self.is_stateful(module)

    def reset(self, network: nn.Module) -> None:
        pass

    def is_sequence(self, module: nn.Module) -> bool:
        return any(cls.__name__ in ("SNN", "SNNRecurrent") for cls in type(module).__mro__)


LIBRARIES.register("norse")(Norse())
