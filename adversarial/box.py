"""Where perturbed inputs may lie: the l_inf ball around the clean ones, cut by the bounds of the observation.

All values are network inputs (after the division by 255).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from play.environments import PIXEL_MAX

Limit = float | Tensor
"""One value for all elements, or a tensor broadcastable to [K, *observation]."""


def _clamp_(x: Tensor, low: Limit, high: Limit) -> Tensor:
    return x.clamp_(low, high)  # type: ignore[arg-type]  # both are numbers, or both are tensors


class Box(NamedTuple):
    """The inputs that an attack on K states may show: within a radius of a centre, and within bounds."""

    center: Tensor
    """[K, *observation] what an attack that changes nothing shows."""
    radius: Limit
    """Largest change of an element."""
    low: Limit
    """Lowest value of an element."""
    high: Limit
    """Highest value of an element."""
    grey_levels: bool = False
    """Whether inputs are rounded to whole grey levels, as a screen shows them."""

    def change(self, delta: Tensor) -> Tensor:
        """The change within the box that is nearest to delta [K, *observation]."""
        delta = _clamp_(delta.clone(), -self.radius, self.radius)
        return _clamp_(delta.add_(self.center), self.low, self.high).sub_(self.center)

    def shown(self, delta: Tensor) -> Tensor:
        """The input [K, *observation] that a change leads to, after it is brought into the box."""
        return self.rounded(self.inputs(self.change(delta)))

    def inputs(self, change: Tensor) -> Tensor:
        """The input [K, *observation] that a change within the box leads to, not rounded to grey levels."""
        # Adding a difference to what was subtracted can miss a bound by a rounding error.
        return _clamp_(self.center + change, self.low, self.high)

    def rounded(self, x: Tensor) -> Tensor:
        """An input [K, *observation] of the box as it is shown: rounded if the box is of grey levels."""
        return eight_bit(x, self) if self.grey_levels else x

    def rows(self, chosen: Tensor) -> "Box":
        """The box of some of the states."""
        return self._replace(center=self.center[chosen])

    def times(self, number: int) -> "Box":
        """The box of all states, repeated: [number x K]."""
        return self._replace(center=torch.cat([self.center] * number))


def ball(inputs: Tensor, epsilon: float, low: Tensor, high: Tensor) -> Box:
    """All inputs within epsilon of the given ones.

    Args:
        inputs: [K, *observation], the centre.
        epsilon: l_inf radius.
        low, high: bounds, broadcastable to inputs.
    """
    if (
        low.numel() == high.numel() == 1
    ):  # PyTorch clamps by numbers ten times as fast as by tensors of one element
        return Box(inputs, epsilon, low.item(), high.item())
    return Box(inputs, epsilon, low, high)


def newest_frame_only(box: Box, previous: Tensor) -> Box:
    """The box of an attacker who can change the newest frame only.

    Args:
        box: of the whole stack [K, frames, ...], oldest frame first.
        previous: [K, frames, ...] what was added at the previous decision. It stays in the stack: each frame is one
            place older now.
    """
    aged = _clamp_(box.center[:, :-1] + previous[:, 1:], box.low, box.high)
    radius = torch.zeros_like(box.center[0])
    radius[-1] = box.radius
    return box._replace(center=torch.cat((aged, box.center[:, -1:]), 1), radius=radius)


def eight_bit(x: Tensor, box: Box) -> Tensor:
    """The grey levels n / 255 nearest to x within the box, whose centre is of such levels."""
    rounding = 1e-4  # of a grey level; the error of float32 is smaller
    lowest, highest = (
        _clamp_(side, box.low, box.high) for side in (box.center - box.radius, box.center + box.radius)
    )
    lowest, highest = (PIXEL_MAX * lowest - rounding).ceil_(), (PIXEL_MAX * highest + rounding).floor_()
    return (PIXEL_MAX * x).round_().clamp_(lowest, highest) / PIXEL_MAX
