"""The leaky integrator, which never fires. Read-outs take Q-values from its voltage."""

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=64)
def leaky_kernel(sim_steps: int, tau: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight of each input [r] in each voltage [t] of a leaky integrator: (1/tau) (1 - 1/tau)^(t-r) for r <= t.

    Args:
        sim_steps: T.
        tau: time constant in simulation steps, at least 1.
        dtype, device: of the result.

    Returns:
        [T, T]. Calls share it, so it must not be changed.
    """
    t = torch.arange(sim_steps, device=device)
    age = t[:, None] - t[None, :]  # [T, T]
    decay = (1 - 1 / tau) ** age.clamp(min=0).to(dtype)
    return torch.where(age >= 0, decay / tau, torch.zeros_like(decay))


def leaky_integral(currents: Tensor, tau: float) -> Tensor:
    """Voltages of a leaky integrator that never fires (Chen et al. 2022's output neurons).

    v[t] = v[t-1] + (x[t] - v[t-1]) / tau, from v = 0, is linear in x. So all steps are one product with a lower
    triangular matrix: v[t] = sum_{r <= t} (1/tau) (1 - 1/tau)^(t-r) x[r].

    Args:
        currents: [T, ...].
        tau: time constant in simulation steps, at least 1.

    Returns:
        [T, ...] voltages.
    """
    kernel = leaky_kernel(len(currents), tau, currents.dtype, currents.device)
    return torch.einsum("tr,r...->t...", kernel, currents)
