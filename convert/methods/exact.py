"""exact: a distilled network with rounded weights, whose spike counts are its levels exactly.

In float32 the order in which spikes arrive decides the last bit of a membrane, and near the threshold that bit decides
a spike. If all weights of a layer are multiples of 2^-k, and no sum that can occur needs more than the 24 bits of a
float32, every order gives the same membrane. Neurons that fire afterwards then fire exactly the counts

    N_l = clip(floor(sum_j W_ij N_j + T b_i + v_init), 0, T)

of the quantised network, in integer arithmetic. The image's currents are sums of pixels / 255, which are not such
multiples. They are rounded to 2^-k from double precision. 255 is odd, so no pixel sum lies on a rounding boundary.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from convert.method import METHODS, Converted, Training
from convert.methods.qcfs import Qcfs
from core.choices import Firing
from core.dqn import DQN
from core.errors import Refusal
from core.ranges import Whole
from core.rate_coded.network import RateCodedNetwork, RateCoding

MANTISSA_BITS = 24
"""Bits of the significand of a float32, which holds every integer up to 2^24."""


@METHODS.register("exact")
@dataclass(frozen=True, kw_only=True)
class Exact(Qcfs):
    """A network distilled as by qcfs, with rounded weights, whose spike counts equal its levels exactly."""

    firing: ClassVar[Firing] = "afterwards"

    distil_updates: Annotated[int, Whole(0, 1_000_000)] = 5000
    """Gradient steps of each of the four rounds. With 0 the network is quantised without training."""

    def require_sound(self, coding: RateCoding) -> None:
        if coding.neuron.firing != "afterwards":
            raise Refusal(f"firing is {coding.neuron.firing}: exact counts need neurons that fire afterwards")

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        distilled = super().convert(dqn, states, coding, training)
        return distilled._replace(snn=whole_numbers(distilled.snn))


@torch.no_grad()
def whole_numbers(snn: RateCodedNetwork) -> RateCodedNetwork:
    """The network with the weights of each layer rounded to multiples of 2^-k, k as large as exact sums allow.

    No sum of a decision exceeds T (sum |w| + |b|) + 1, taken over the neuron with the largest.

    Raises:
        Refusal: a layer's sums are too large for a float32, or v_init is not a multiple of 2^-k.
    """
    sim_steps = snn.coding.sim_steps
    bits = []
    for number, layer in enumerate(snn.layers, start=1):
        received = layer.weight.abs().flatten(1).sum(1)
        if layer.bias is not None:
            received = received + layer.bias.abs()
        largest = sim_steps * (1.01 * received.max().item() + 1) + 1  # weights may be rounded up
        bits.append(MANTISSA_BITS - math.ceil(math.log2(largest)))
        if bits[-1] < 1:
            raise Refusal(f"layer {number} has sums up to {largest:.3g}: a float32 cannot hold these exactly")
    v_init = snn.coding.neuron.v_init
    if v_init * 2 ** min(bits) % 1 != 0:
        raise Refusal(f"v_init is {v_init}: exact counts need a multiple of 2^-{min(bits)}, as 0 and 0.5 are")
    exact = snn.varied(image_bits=bits[0])
    for layer, k in zip(exact.layers, bits, strict=True):
        for parameter in layer.parameters():
            parameter.copy_(torch.round(parameter.double() * 2**k) / 2**k)
    return exact
