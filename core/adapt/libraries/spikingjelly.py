"""SpikingJelly 2 (Fang et al. 2023, doi 10.1126/sciadv.adi1480)."""

from torch import Tensor, nn

from core.adapt.library import LIBRARIES, Library, comes_from
from core.neurons.surrogates import SpikeDerivative, spike


class SpikingJelly(Library):
    """State lies in memory modules, which have a method `reset`. Neurons derive from BaseNode and hold a
    `surrogate_function`; `step_mode` "m" takes all simulation steps at once."""

    def is_stateful(self, module: nn.Module) -> bool:
        return self._is_ours(module) and "MemoryModule" in _classes(module)

    def is_spiking(self, module: nn.Module) -> bool:
        return self._is_ours(module) and "BaseNode" in _classes(module)

    def has_membrane(self, module: nn.Module) -> bool:
        return self._is_ours(module) and not _classes(module).isdisjoint({"BaseNode", "NonSpikingBaseNode"})

    def reset(self, network: nn.Module) -> None:
        for module in network.modules():
            if self.is_stateful(module):
                module.reset()  # type: ignore[operator]

    def is_sequence(self, module: nn.Module) -> bool:
        usual = "m" if "MultiStepModule" in _classes(module) else "s"
        return bool(getattr(module, "step_mode", usual) == "m")

    def exchange_surrogate(self, module: nn.Module, derivative: SpikeDerivative) -> bool:
        if not hasattr(module, "surrogate_function") or not hasattr(module, "detach_reset"):
            return False
        module.surrogate_function = _Surrogate(derivative)
        module.detach_reset = derivative.detach_reset  # type: ignore[assignment]
        return True

    @staticmethod
    def _is_ours(module: nn.Module) -> bool:
        return comes_from(module, "spikingjelly")


def _classes(module: nn.Module) -> set[str]:
    return {cls.__name__ for cls in type(module).__mro__}


class _Surrogate(nn.Module):
    """A surrogate function as SpikingJelly calls it: of the membrane minus the threshold."""

    spiking = True

    def __init__(self, derivative: SpikeDerivative):
        super().__init__()
        self.derivative = derivative

    def forward(self, x: Tensor) -> Tensor:
        return spike(x, self.derivative.surrogate, self.derivative.slope)


LIBRARIES.register("spikingjelly")(SpikingJelly())
