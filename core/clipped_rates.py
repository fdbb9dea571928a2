"""A DSQN without simulation steps, for attacks that use the gradient of its neurons' rates."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from core.layers import apply_layer
from core.rate_coded.differentiable import ramp

if TYPE_CHECKING:
    from core.dsqn import DSQN


class ClippedRates(nn.Module):
    """A DSQN without simulation steps: the rate of every neuron is a ramp of its mean current, so it has a derivative.

    With a constant current, a neuron is silent below one value and fires at every simulation step above another
    (`Neuron.rate_range`). The ramp rises from 0 to 1 between them. The input of the output layer is constant too.

    Args:
        dsqn: the DSQN. Its layers are shared, not copied. Its neuron must have a rate range, and it must have no
            normalisation.
        real: whether inputs of layers in the forward pass are simulated rates; otherwise they are those of the ramps.
    """

    def __init__(self, dsqn: "DSQN", real: bool):
        super().__init__()
        self.dsqn = dsqn
        self.real = real
        rate_range = dsqn.spiking.neuron.rate_range()
        assert rate_range is not None
        self.low, self.high = rate_range

    def forward(self, observations: Tensor) -> Tensor:
        spiking = self.dsqn.spiking
        *hidden, output = self.dsqn.layers
        rates: Sequence[Tensor | None] = [None] * len(self.dsqn.layers)
        if self.real:
            traces = self.dsqn.trace(observations.detach())
            rates = [None if trace.fired is None else trace.fired / spiking.sim_steps for trace in traces]
        x = observations
        for layer, rate in zip(hidden, rates, strict=False):
            x = ramp(apply_layer(layer, x), self.low, self.high, rate)
        currents = apply_layer(output, x)  # [B, A]
        constant = _ConstantOutput(
            currents, spiking.sim_steps, lambda z: ramp(z, self.low, self.high, rates[-1])
        )
        return spiking.readout.scores(x, constant)


class _ConstantOutput:
    """An output layer with the same current at every simulation step (core.readouts.Output)."""

    def __init__(self, current: Tensor, sim_steps: int, rate: Callable[[Tensor], Tensor]):
        self._current, self._sim_steps, self._rate = current, sim_steps, rate

    def currents(self, train: Tensor) -> Tensor:
        return self._current.expand(self._sim_steps, *self._current.shape)

    def mean_current(self, train: Tensor) -> Tensor:
        return self._current

    def spikes(self, currents: Tensor) -> Tensor:
        return self._rate(self._current)[None]
