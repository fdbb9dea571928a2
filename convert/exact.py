"""Weights of whole numbers, with which a simulation adds up exactly.

In float32 the order in which spikes arrive decides the last bit of a membrane, and near the threshold that bit decides
a spike. If all weights of a layer are multiples of 2^-k, and no sum that can occur needs more than the 24 bits of a
float32, every order gives the same membrane; so neurons that fire afterwards fire exactly the counts

    N_l = clip(floor(sum_j W_ij N_j + T b_i + v_init), 0, T)

of the quantised network, in integer arithmetic. The image's currents are sums of pixels / 255, which are no such
multiples; they are rounded to 2^-k from double precision (255 is odd, so a pixel sum lies on no boundary of rounding).
"""

import math

import torch

from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork

MANTISSA_BITS = 24
"""Of a float32: integers up to 2^24 have no gaps."""


@torch.no_grad()
def whole_numbers(snn: RateCodedNetwork) -> RateCodedNetwork:
    """The network with the weights of each layer rounded to multiples of 2^-k, k as large as exact sums allow.

    No sum of a decision exceeds T (sum |w| + |b|) + 1, taken over the neuron with the largest.
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
            raise Refusal(f"layer {number} sums up to {largest:.3g}: no float32 holds such sums exactly")
    v_init = snn.coding.neuron.v_init
    if v_init * 2 ** min(bits) % 1 != 0:
        raise Refusal(f"v_init is {v_init}: exact counts need a multiple of 2^-{min(bits)}, as 0 and 0.5 are")
    exact = snn.varied(image_bits=bits[0])
    for layer, k in zip(exact.layers, bits, strict=True):
        for parameter in layer.parameters():
            parameter.copy_(torch.round(parameter.double() * 2**k) / 2**k)
    return exact
