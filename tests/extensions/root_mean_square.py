"""A normalisation in one file: root mean square (Zhang & Sennrich 2019, arXiv 1910.07467)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.normalisations import NORMALISATIONS, Normalisation


@NORMALISATIONS.register("root-mean-square")
@dataclass(frozen=True, kw_only=True)
class RootMeanSquare(Normalisation):
    """Currents of a layer divided by their root mean square, times one gain that learns."""

    gain: float = 1.5
    """The gain before training."""

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        return _RootMeanSquare(self.gain)


class _RootMeanSquare(nn.Module):
    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, currents: Tensor) -> Tensor:
        squares = currents.flatten(1).square().mean(1).clamp(min=1e-6)
        return self.gain * currents / squares.sqrt().view(-1, *[1] * (currents.ndim - 1))
