r"""Surrogate gradients: what replaces the derivative of a spike.

A spike is a step function of the membrane's distance x from the threshold, and has no useful derivative. In the
backward pass its derivative is replaced by that of a smooth or piecewise curve. The area under each derivative is 1, so
a larger slope makes it higher and narrower.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.choices import Surrogate


def atan_derivative(x: Tensor, slope: float) -> Tensor:
    """g'(x) = (a/2) / (1 + (pi/2 a x)^2) (Fang et al. 2021, arXiv 2007.05785; a = 2 in Liu and Chen)."""
    return (slope / 2) / (1 + (torch.pi / 2 * slope * x) ** 2)


def sigmoid_derivative(x: Tensor, slope: float) -> Tensor:
    """g'(x) = a sigma(a x) (1 - sigma(a x)), the alternative surrogate of Liu et al.'s code."""
    s = torch.sigmoid(slope * x)
    return slope * s * (1 - s)


def triangle_derivative(x: Tensor, slope: float) -> Tensor:
    """g'(x) = a max(0, 1 - a |x|), piecewise linear (Esser et al. 2016, arXiv 1603.08270)."""
    return slope * (1 - slope * x.abs()).clamp(min=0)


def rectangle_derivative(x: Tensor, slope: float) -> Tensor:
    """g'(x) = a where |x| < 1 / (2 a), else 0: straight through a window (Wu et al. 2018, arXiv 1706.02609)."""
    return slope * (2 * slope * x.abs() < 1).to(x.dtype)


DERIVATIVES: Mapping[Surrogate, Callable[[Tensor, float], Tensor]] = {
    "atan": atan_derivative,
    "sigmoid": sigmoid_derivative,
    "triangle": triangle_derivative,
    "rectangle": rectangle_derivative,
}
_SLOPE_TIMES_WIDTH: Mapping[Surrogate, float] = {
    "atan": 2 / math.pi,
    "sigmoid": 2 * math.log(1 + math.sqrt(2)),
    "triangle": 0.5,
    "rectangle": 0.5,
}


def slope_of_width(surrogate: Surrogate, width: float) -> float:
    """The slope at which a surrogate falls to half its height (the rectangle: to 0) at a distance `width`."""
    return _SLOPE_TIMES_WIDTH[surrogate] / width


class SpikeDerivative(NamedTuple):
    """The surrogate gradient of a simulation, which replaces the derivative of its spikes."""

    surrogate: Surrogate
    slope: float
    detach_reset: bool
    """Whether gradients leave out the path through the reset."""


class _Spike(torch.autograd.Function):
    """The step function with a surrogate's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * DERIVATIVES[ctx.surrogate](x, ctx.slope), None, None


def spike(x: Tensor, surrogate: Surrogate, slope: float) -> Tensor:
    """Spikes where x >= 0, as 0 or 1 in x's dtype; the gradient is the surrogate's.

    Args:
        x: membrane minus threshold, of any shape.
        surrogate: the family.
        slope: its slope, above 0.
    """
    spikes: Tensor = _Spike.apply(x, surrogate, slope)
    return spikes
