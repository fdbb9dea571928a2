"""What tests of the ground floor share: weights and inputs whose sums are exact."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from core.layers import Layers

FillDyadic = Callable[[Layers, int], None]
DyadicInputs = Callable[[tuple[int, ...], int], Tensor]


@pytest.fixture
def fill_dyadic() -> FillDyadic:
    """Fill layers with multiples of 1/64, large enough for every layer of a small network to spike.

    Sums of products of such numbers are exact in float32 whatever their order, so what holds on paper
    holds to the last bit, on every machine and at every batch size.
    """

    def fill(layers: Layers, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for layer in layers:
            fan_in = layer.weight[0].numel()
            largest = max(2, round(64 * 4.0 / fan_in**0.5))
            for parameter in layer.parameters():
                # Skewed to the positive side, or deep layers would fall silent.
                values = torch.randint(
                    -largest, largest + 1 + largest // 8, parameter.shape, generator=generator
                )
                with torch.no_grad():
                    parameter.copy_(values / 64)

    return fill


@pytest.fixture
def dyadic_inputs() -> DyadicInputs:
    """Network inputs in [0, 1] that are multiples of 1/16."""

    def draw(shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(seed)) / 16

    return draw
