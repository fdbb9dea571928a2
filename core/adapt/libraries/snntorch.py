"""snnTorch 1 (Eshraghian et al. 2023, arXiv 2109.12894)."""

from torch import Tensor, nn

from core.adapt.library import LIBRARIES, Library, comes_from
from core.neurons.surrogates import SpikeDerivative, spike


class SnnTorch(Library):
    """Neurons derive from SpikingNeuron, hold a `spike_grad`, and keep hidden states if `init_hidden` is set."""

    def is_stateful(self, module: nn.Module) -> bool:
        names = [cls.__name__ for cls in type(module).__mro__]
        return "SpikingNeuron" in names and comes_from(module, "snntorch")

    def is_spiking(self, module: nn.Module) -> bool:
        return self.is_stateful(module)

    def reset(self, network: nn.Module) -> None:
        for module in network.modules():
            if self.is_stateful(module) and hasattr(module, "reset_mem"):
                module.reset_mem()  # type: ignore[operator]

    def exchange_surrogate(self, module: nn.Module, derivative: SpikeDerivative) -> bool:
        if not hasattr(module, "spike_grad"):
            return False

        def exchanged(x: Tensor) -> Tensor:
            # snnTorch fires above the threshold, not at it.
            spikes = spike(x, derivative.surrogate, derivative.slope)
            return spikes - spikes.detach() + (x > 0).to(x.dtype)

        module.spike_grad = exchanged  # type: ignore[assignment]
        return True


LIBRARIES.register("snntorch")(SnnTorch())
