"""The compiled pass over simulation steps, against the reference it stands for."""

import itertools
from typing import Any

import pytest
import torch

from core.choices import SURROGATES
from core.neurons import compiled as fused
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.neurons.membrane import run

OPTIONS = list(itertools.product(("lif", "if"), ("hard", "soft"), (True, False), SURROGATES))


def neuron_of(charge: str, **options: Any) -> LIF | IF:
    """A neuron with a time constant that is no power of two, if it has one."""
    return LIF(tau=1.7, **options) if charge == "lif" else IF(**options)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("charge", "reset", "detach", "surrogate"), OPTIONS)
def test_spikes_and_gradients_are_the_references(
    charge: str, reset: str, detach: bool, surrogate: str, constant: bool
) -> None:
    # tau and threshold that are no powers of two, and a width that fills no block.
    neuron = neuron_of(
        charge, threshold=0.9, reset=reset, detach_reset=detach, surrogate=surrogate, surrogate_slope=1.5
    )  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    sim_steps, width = 9, 2 * fused.LANES + 17
    shape = (1 if constant else sim_steps, 3, width)
    currents = (1.3 * torch.randn(shape, generator=generator) + 0.3).requires_grad_()
    weights = torch.randn((sim_steps, 3, width), generator=generator)
    slow = run(currents.expand(sim_steps, 3, width), neuron)
    fast = fused.run(currents, sim_steps, neuron)
    assert 0.05 < slow.mean() < 0.95
    assert torch.equal(fast, slow)
    (slow_gradient,) = torch.autograd.grad((slow * weights).sum(), currents)
    (fast_gradient,) = torch.autograd.grad((fast * weights).sum(), currents)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_neurons_out_without_gaps(threads: int) -> None:
    before = torch.get_num_threads()
    currents = torch.rand((4, 100_003), generator=torch.Generator().manual_seed(0)) * 2
    neuron = LIF()
    currents.requires_grad_()
    expected = run(currents, neuron)
    try:
        torch.set_num_threads(threads)
        found = fused.run(currents, 4, neuron)
        (gradient,) = torch.autograd.grad(found.sum(), currents)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), currents)
    torch.testing.assert_close(gradient, expected_gradient)


def test_currents_in_any_memory_layout() -> None:
    """Convolutions may hand over channels-last tensors: the numbers count, not where they lie."""
    currents = torch.rand((6, 2, 5, 4, 3), generator=torch.Generator().manual_seed(0)) * 2
    strided = currents.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert not strided.is_contiguous()
    assert torch.equal(fused.run(strided, 6, LIF()), fused.run(currents, 6, LIF()))


@pytest.mark.parametrize("constant", [True, False])
def test_bfloat16_currents_drive_float32_membranes(constant: bool) -> None:
    neuron = LIF(detach_reset=False)
    generator = torch.Generator().manual_seed(0)
    currents = (
        (1.5 * torch.randn((1 if constant else 6, 1000), generator=generator)).bfloat16().requires_grad_()
    )
    weights = torch.randn((6, 1000), generator=generator).bfloat16()
    reference = currents.detach().float().requires_grad_()
    slow = run(reference.expand(6, 1000), neuron)
    fast = fused.run(currents, 6, neuron)
    assert fast.dtype == torch.bfloat16
    assert torch.equal(fast.float(), slow)  # 0 and 1 are exact in bfloat16, and the membranes are the same
    (slow_gradient,) = torch.autograd.grad((slow * weights.float()).sum(), reference)
    (fast_gradient,) = torch.autograd.grad((fast * weights).sum(), currents)
    # One rounding to 8 bits of mantissa: half a unit in the last place.
    torch.testing.assert_close(fast_gradient.float(), slow_gradient, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("charge", "reset", "detach", "surrogate"), OPTIONS)
def test_weighted_sums_of_spikes_are_those_of_the_reference(
    charge: str, reset: str, detach: bool, surrogate: str, constant: bool
) -> None:
    neuron = neuron_of(
        charge, threshold=0.9, reset=reset, detach_reset=detach, surrogate=surrogate, surrogate_slope=1.5
    )  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    sim_steps, width = 9, 2 * fused.LANES + 17
    shape = (1 if constant else sim_steps, 3, width)
    currents = (1.3 * torch.randn(shape, generator=generator) + 0.3).requires_grad_()
    weights, cotangent = (
        torch.randn(sim_steps, generator=generator),
        torch.randn((3, width), generator=generator),
    )
    slow = torch.einsum("t,tbn->bn", weights, run(currents.expand(sim_steps, 3, width), neuron))
    fast = fused.run(currents, sim_steps, neuron, weights)
    assert fast.shape == (1, 3, width)
    torch.testing.assert_close(fast[0], slow, rtol=1e-6, atol=1e-6)
    (slow_gradient,) = torch.autograd.grad((slow * cotangent).sum(), currents)
    (fast_gradient,) = torch.autograd.grad((fast[0] * cotangent).sum(), currents)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("slope", [0.01, 4.0, 50.0, 1e4])
def test_the_sigmoids_derivative_is_right_far_from_the_threshold_too(slope: float) -> None:
    neuron = IF(threshold=1.0, surrogate="sigmoid", surrogate_slope=slope, detach_reset=True)
    currents = torch.cat((torch.linspace(-90, 90, 4001), 1 + torch.linspace(-1e-3, 1e-3, 500)))[None]
    currents.requires_grad_()
    (found,) = torch.autograd.grad(fused.run(currents, 1, neuron).sum(), currents)
    x = slope * (currents.detach().double() - 1.0)
    expected = slope * torch.sigmoid(x) * torch.sigmoid(-x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-30)
