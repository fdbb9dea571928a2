"""The integrate-and-fire neuron, without a leak."""

from dataclasses import dataclass

from core.neurons.base import NEURONS
from core.neurons.membrane import MembraneNeuron


@NEURONS.register("if")
@dataclass(frozen=True, kw_only=True)
class IF(MembraneNeuron):
    """Integrate and fire: h[t] = v[t-1] + x[t].

    Source: the variant DsqnIF of Liu et al. 2022's code, and SpikingJelly's CartPole tutorials.
    """

    @property
    def leak_tau(self) -> None:
        return None
