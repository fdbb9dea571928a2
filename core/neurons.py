r"""Spiking neurons as pure functions: charge, fire, reset; and their surrogate gradients.

One simulation step of a neuron with membrane v, input x, threshold theta and rest v_r = 0:

    charge   IF    h[t] = v[t-1] + x[t]
             LIF   h[t] = v[t-1] + (x[t] - (v[t-1] - v_r)) / tau      (the input is divided by tau too)
    fire     s[t] = 1 if h[t] >= theta else 0
    reset    hard  v[t] = (1 - s[t]) h[t] + s[t] v_r
             soft  v[t] = h[t] - theta s[t]

Membranes start at rest. The LIF is Liu et al. 2022 (arXiv 2201.07211, eqs. 2-4) and Chen et al. 2022
(arXiv 2201.09754), both as SpikingJelly computes them; the soft-reset IF is Tan et al. 2021's.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from core.errors import Refusal


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


Surrogate = Literal["atan", "sigmoid", "triangle", "rectangle"]
SURROGATES: tuple[Surrogate, ...] = ("atan", "sigmoid", "triangle", "rectangle")
"""Families of surrogate gradients. Under each curve lies 1, so a larger slope is a higher and narrower one."""
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
    """The slope at which a surrogate has fallen to half its height (the rectangle: to 0) at a distance `width`."""
    return _SLOPE_TIMES_WIDTH[surrogate] / width


class SpikeDerivative(NamedTuple):
    """What stands for the derivative of a spike."""

    surrogate: Surrogate
    slope: float
    detach_reset: bool
    """Whether gradients leave out the path through the reset."""


class _Spike(torch.autograd.Function):
    """The step function, whose derivative is a surrogate's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * DERIVATIVES[ctx.surrogate](x, ctx.slope), None, None


@dataclass(frozen=True)
class Neuron:
    """The parameters of one population of neurons."""

    charge: Literal["lif", "if"] = "lif"
    tau: float = 2.0
    """Membrane time constant in simulation steps, at least 1; an IF neuron has none and ignores it."""
    threshold: float = 1.0
    reset: Literal["hard", "soft"] = "hard"
    """hard: back to rest; soft: the threshold is subtracted."""
    detach_reset: bool = False
    """Whether gradients leave out the path through the reset."""
    surrogate: Surrogate = "atan"
    surrogate_slope: float = 2.0

    def __post_init__(self) -> None:
        # The charge, reset and surrogate names may come from a file, where no type checker looked.
        for value, accepted in (
            (self.charge, ("lif", "if")),
            (self.reset, ("hard", "soft")),
            (self.surrogate, SURROGATES),
        ):
            if value not in accepted:
                raise Refusal(f"neuron option {value!r}: accepted are {', '.join(accepted)}")
        if not 1.0 <= self.tau < math.inf:
            raise Refusal(f"tau is {self.tau}: accepted is any finite number from 1")
        if not 0.0 < self.threshold < math.inf:
            raise Refusal(f"threshold is {self.threshold}: accepted is any finite number above 0")
        if not 0.0 < self.surrogate_slope < math.inf:
            raise Refusal(f"surrogate slope is {self.surrogate_slope}: accepted is any finite number above 0")


def charge(v: Tensor, x: Tensor, neuron: Neuron) -> Tensor:
    """Membrane after input, before firing; any common shape."""
    if neuron.charge == "if":
        return v + x
    return v + (x - v) / neuron.tau


def fire(h: Tensor, neuron: Neuron) -> Tensor:
    """Spikes (0 or 1, in h's dtype); the gradient is the surrogate's."""
    return _Spike.apply(h - neuron.threshold, neuron.surrogate, neuron.surrogate_slope)


def reset(h: Tensor, spikes: Tensor, neuron: Neuron) -> Tensor:
    """Membrane after firing."""
    if neuron.detach_reset:
        spikes = spikes.detach()
    if neuron.reset == "hard":
        return (1.0 - spikes) * h
    return h - neuron.threshold * spikes


def run(currents: Iterable[Tensor], neuron: Neuron) -> Tensor:
    """A population driven from rest for as many simulation steps as there are currents.

    Args:
        currents: one tensor a simulation step, all of one shape [...]; a [T, ...] tensor will do.
        neuron: its parameters.

    Returns:
        Spikes [T, ...]; differentiable by the surrogate.
    """
    spikes = []
    v: Tensor | None = None
    for x in currents:
        h = charge(torch.zeros_like(x) if v is None else v, x, neuron)
        s = fire(h, neuron)
        v = reset(h, s, neuron)
        spikes.append(s)
    return torch.stack(spikes)


def leaky_kernel(sim_steps: int, tau: float, like: Tensor) -> Tensor:
    """What each input [r] is worth in each voltage [t] of a leaky integrator, [T, T] of the dtype and on the device of
    another tensor: (1/tau) (1 - 1/tau)^(t-r) for r <= t."""
    t = torch.arange(sim_steps, device=like.device)
    age = t[:, None] - t[None, :]  # [T, T]
    decay = (1 - 1 / tau) ** age.clamp(min=0).to(like.dtype)
    return torch.where(age >= 0, decay / tau, torch.zeros_like(decay))


def leaky_integral(currents: Tensor, tau: float) -> Tensor:
    """Voltages of a leaky integrator that never fires (Chen et al. 2022's output neurons).

    v[t] = v[t-1] + (x[t] - v[t-1]) / tau from v = 0 is linear in x, so all steps are one product with
    a lower triangular matrix: v[t] = sum_{r <= t} (1/tau) (1 - 1/tau)^(t-r) x[r].

    Args:
        currents: [T, ...].
        tau: time constant in simulation steps, at least 1.

    Returns:
        [T, ...] voltages.
    """
    return torch.einsum("tr,r...->t...", leaky_kernel(len(currents), tau, currents), currents)
