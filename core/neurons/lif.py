"""The leaky integrate-and-fire neuron of Liu et al. 2022 and Chen et al. 2022."""

from dataclasses import dataclass
from typing import Annotated

from core.neurons.base import NEURONS
from core.neurons.membrane import MembraneNeuron
from core.ranges import Real


@NEURONS.register("lif")
@dataclass(frozen=True, kw_only=True)
class LIF(MembraneNeuron):
    """Leaky integrate and fire: h[t] = v[t-1] + (x[t] - v[t-1]) / tau, so the input is divided by tau too.

    Source: Liu et al. 2022 (arXiv 2201.07211, eqs. 2-4) and Chen et al. 2022 (arXiv 2201.09754), both as SpikingJelly
    computes them.
    """

    tau: Annotated[float, Real(1)] = 2.0
    """Membrane time constant in simulation steps, at least 1."""

    @property
    def leak_tau(self) -> float:
        return self.tau
