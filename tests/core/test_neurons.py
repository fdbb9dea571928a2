"""Neurons against traces made by hand, against formulas, and against SpikingJelly's."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor

from core.choices import SURROGATES, Surrogate
from core.errors import Refusal
from core.neurons.base import SteppedPopulation
from core.neurons.integrate_and_fire import IF
from core.neurons.integrator import leaky_integral
from core.neurons.lif import LIF
from core.neurons.membrane import MembraneNeuron, run
from core.neurons.surrogates import (
    DERIVATIVES,
    atan_derivative,
    rectangle_derivative,
    sigmoid_derivative,
    slope_of_width,
    triangle_derivative,
)


def trace(neuron: MembraneNeuron, currents: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Membrane before firing, spike, and membrane after reset, at every simulation step of one neuron."""
    charged, spikes, rested = [], [], []
    v = torch.zeros(())
    for current in currents:
        h = neuron.charge(v, torch.tensor(current))
        s = neuron.fire(h)
        v = neuron.after(h, s)
        charged.append(h.item())
        spikes.append(s.item())
        rested.append(v.item())
    return charged, spikes, rested


# Traces by hand --------------------------------------------------------------------------------------


def test_lif_with_hard_reset_follows_the_trace_made_by_hand() -> None:
    # tau 2: h = v + (x - v) / 2, the mean of membrane and input.
    charged, spikes, rested = trace(LIF(reset="hard"), [1.5, 1.5, 1.5, 0.0, 2.0])
    assert charged == [0.75, 1.125, 0.75, 0.375, 1.1875]
    assert spikes == [0, 1, 0, 0, 1]
    assert rested == [0.75, 0.0, 0.75, 0.375, 0.0]


def test_lif_with_soft_reset_follows_the_trace_made_by_hand() -> None:
    charged, spikes, rested = trace(LIF(reset="soft"), [1.5, 1.5, 1.5, 0.0, 2.0])
    assert charged == [0.75, 1.125, 0.8125, 0.40625, 1.203125]
    assert spikes == [0, 1, 0, 0, 1]
    assert rested == [0.75, 0.125, 0.8125, 0.40625, 0.203125]


def test_lif_leaks_with_its_own_time_constant() -> None:
    # tau 4: h = 3/4 v + x / 4.
    charged, spikes, _ = trace(LIF(tau=4.0), [2.0, 4.0, 0.0, 0.0])
    assert charged == [0.5, 1.375, 0.0, 0.0]
    assert spikes == [0, 1, 0, 0]


def test_if_with_hard_reset_follows_the_trace_made_by_hand() -> None:
    charged, spikes, rested = trace(IF(reset="hard"), [0.75, 0.75, 0.25, 0.5, 0.25])
    assert charged == [0.75, 1.5, 0.25, 0.75, 1.0]
    assert spikes == [0, 1, 0, 0, 1]  # exactly at the threshold fires
    assert rested == [0.75, 0.0, 0.25, 0.75, 0.0]


def test_if_with_soft_reset_follows_the_trace_made_by_hand() -> None:
    charged, spikes, rested = trace(IF(reset="soft"), [0.75, 0.75, 0.25, -2.0, 2.5])
    assert charged == [0.75, 1.5, 0.75, -1.25, 1.25]  # no lower bound
    assert spikes == [0, 1, 0, 0, 1]
    assert rested == [0.75, 0.5, 0.75, -1.25, 0.25]


def test_soft_reset_subtracts_the_threshold_and_not_one() -> None:
    charged, spikes, rested = trace(IF(reset="soft", threshold=0.5), [0.75, 0.125, 0.125])
    assert charged == [0.75, 0.375, 0.5]
    assert spikes == [1, 0, 1]
    assert rested == [0.25, 0.375, 0.0]


def test_an_if_neuron_has_no_tau() -> None:
    with pytest.raises(TypeError, match="tau"):
        IF(tau=2.0)  # type: ignore[call-arg]
    assert IF().leak_tau is None


@pytest.mark.parametrize("kind", ["lif", "if"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_run_gives_the_spikes_of_the_single_steps(kind: Any, reset: Any) -> None:
    neuron = {"lif": LIF, "if": IF}[kind](reset=reset)
    currents = [1.5, 1.5, 0.25, 2.0, -1.0, 3.0, 1.0]
    _, spikes, _ = trace(neuron, currents)
    assert 0 < sum(spikes) < len(spikes)
    assert run(torch.tensor(currents), neuron).tolist() == spikes


def test_soft_reset_if_counts_the_whole_thresholds_in_its_charge() -> None:
    # N(t) = floor(t x): the reason why a soft reset codes an input as a rate (Tan et al. 2021).
    x = torch.arange(17) / 16  # dyadic, so every membrane is exact
    sim_steps = 48
    spikes = run([x] * sim_steps, IF(reset="soft"))
    t = torch.arange(1, sim_steps + 1)[:, None]
    assert torch.equal(spikes.cumsum(0), torch.floor(t * x))


# SpikingJelly ----------------------------------------------------------------------------------------


def spikingjelly_node(neuron: MembraneNeuron) -> torch.nn.Module:
    """The same neuron as a multi-step layer of SpikingJelly 2.0.0."""
    family = {"atan": sj_surrogate.ATan, "sigmoid": sj_surrogate.Sigmoid}[neuron.surrogate]
    options = {
        "v_threshold": neuron.threshold,
        "v_reset": 0.0 if neuron.reset == "hard" else None,
        "surrogate_function": family(alpha=neuron.surrogate_slope),
        "detach_reset": neuron.detach_reset,
        "step_mode": "m",
    }
    if neuron.leak_tau is None:
        return sj_neuron.IFNode(**options)
    return sj_neuron.LIFNode(tau=neuron.leak_tau, decay_input=True, **options)


def outputs_and_gradient(population: Any, currents: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    currents = currents.clone().requires_grad_()
    spikes = population(currents)
    (gradient,) = torch.autograd.grad((spikes * cotangent).sum(), currents)
    return spikes.detach(), gradient


@pytest.mark.parametrize(
    ("kind", "reset", "detach_reset", "surrogate"),
    list(
        itertools.product(["lif", "if"], ["hard", "soft"], [True, False], [("atan", 2.0), ("sigmoid", 4.0)])
    ),
)
def test_spikes_and_input_gradient_equal_spikingjellys(
    kind: Any, reset: Any, detach_reset: bool, surrogate: Any
) -> None:
    neuron = {"lif": LIF, "if": IF}[kind](
        threshold=1.0,
        reset=reset,
        detach_reset=detach_reset,
        surrogate=surrogate[0],
        surrogate_slope=surrogate[1],
    )
    generator = torch.Generator().manual_seed(3)
    currents = 0.9 + torch.randn(12, 3, 50, generator=generator)  # [T, B, N]
    cotangent = torch.randn(12, 3, 50, generator=generator)
    ours = outputs_and_gradient(lambda x: run(x, neuron), currents, cotangent)
    theirs = outputs_and_gradient(spikingjelly_node(neuron), currents, cotangent)
    assert 0.1 < ours[0].mean() < 0.9
    assert ours[1].abs().max() > 0.1
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-5)


def test_other_time_constants_and_thresholds_equal_spikingjellys() -> None:
    neuron = LIF(tau=3.5, threshold=0.4, surrogate_slope=3.0)
    generator = torch.Generator().manual_seed(4)
    currents, cotangent = torch.randn(2, 12, 3, 50, generator=generator)
    ours = outputs_and_gradient(lambda x: run(x, neuron), currents, cotangent)
    theirs = outputs_and_gradient(spikingjelly_node(neuron), currents, cotangent)
    assert ours[0].mean() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_detaching_the_reset_changes_the_gradient_and_not_the_spikes() -> None:
    # Guards the comparisons above: they would prove little if the option did nothing at these currents.
    currents = 0.9 + torch.randn(12, 3, 50, generator=torch.Generator().manual_seed(3))
    attached = LIF(detach_reset=False)
    spikes, gradient = outputs_and_gradient(lambda x: run(x, attached), currents, torch.ones(()))
    detached = replace(attached, detach_reset=True)
    spikes_too, other = outputs_and_gradient(lambda x: run(x, detached), currents, torch.ones(()))
    assert torch.equal(spikes, spikes_too)
    assert not torch.allclose(gradient, other, atol=1e-3)


# Surrogate gradients ---------------------------------------------------------------------------------


def test_atan_derivative_at_points_made_by_hand() -> None:
    # Slope 2: 1 / (1 + (pi x)^2).
    x = torch.tensor([0.0, 1 / torch.pi, -2 / torch.pi])
    torch.testing.assert_close(atan_derivative(x, 2.0), torch.tensor([1.0, 0.5, 0.2]))


def test_sigmoid_derivative_at_points_made_by_hand() -> None:
    # Slope 4: sigma(log 3) = 3/4, so 4 x 3/4 x 1/4 at x = log(3) / 4, on both sides.
    x = torch.tensor([0.0, math.log(3) / 4, -math.log(3) / 4])
    torch.testing.assert_close(sigmoid_derivative(x, 4.0), torch.tensor([1.0, 0.75, 0.75]))


@pytest.mark.parametrize("slope", [0.5, 2.0, 5.0])
def test_atan_derivative_is_that_of_the_arc_tangent(slope: float) -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    primitive = torch.atan(torch.pi / 2 * slope * x) / torch.pi + 0.5
    (expected,) = torch.autograd.grad(primitive.sum(), x)
    torch.testing.assert_close(atan_derivative(x.detach(), slope), expected)


@pytest.mark.parametrize("slope", [0.5, 4.0])
def test_sigmoid_derivative_is_that_of_the_sigmoid(slope: float) -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.sigmoid(slope * x).sum(), x)
    torch.testing.assert_close(sigmoid_derivative(x.detach(), slope), expected)


def test_triangle_derivative_at_points_made_by_hand() -> None:
    # Slope 2: 2 at the threshold, half of it at 1/4, nothing from 1/2 on.
    x = torch.tensor([0.0, 0.25, -0.25, 0.5, -3.0])
    assert triangle_derivative(x, 2.0).tolist() == [2.0, 1.0, 1.0, 0.0, 0.0]


def test_rectangle_derivative_at_points_made_by_hand() -> None:
    # Slope 2: 2 within 1/4 of the threshold.
    x = torch.tensor([0.0, 0.125, -0.125, 0.25, -3.0])
    assert rectangle_derivative(x, 2.0).tolist() == [2.0, 2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("width", [0.125, 1.0, 3.0])
def test_a_surrogate_encloses_one_and_is_half_as_high_at_its_width(
    surrogate: Surrogate, width: float
) -> None:
    derivative, slope = DERIVATIVES[surrogate], slope_of_width(surrogate, width)
    ends = torch.tensor([0.0, 0.999 * width, 1.001 * width], dtype=torch.float64)
    top, inside, outside = derivative(ends, slope).tolist()
    assert outside <= top / 2 <= inside
    # The integral, by the substitution x = width tan(u), which takes in all of the arc tangent's tails.
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * math.pi - math.pi / 2
    heights = derivative(width * torch.tan(u), slope) * width / torch.cos(u) ** 2
    assert heights.mean().item() * math.pi == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_firing_passes_on_the_surrogate_around_its_threshold(surrogate: Any) -> None:
    neuron = LIF(threshold=0.25, surrogate=surrogate, surrogate_slope=3.0)
    h = torch.linspace(-1, 1, 21, dtype=torch.float64, requires_grad=True)
    spikes = neuron.fire(h)
    (gradient,) = torch.autograd.grad((2 * spikes).sum(), h)
    derivative = DERIVATIVES[surrogate]
    assert torch.equal(spikes, (h >= 0.25).double())
    torch.testing.assert_close(gradient, 2 * derivative(h.detach() - 0.25, 3.0))


# Leaky integrator ------------------------------------------------------------------------------------


def test_leaky_integral_by_hand() -> None:
    voltages = leaky_integral(torch.tensor([1.0, 0.0, 2.0, -4.0]), tau=2.0)
    assert voltages.tolist() == [0.5, 0.25, 1.125, -1.4375]


def explicit_integral(currents: Tensor, tau: float) -> Tensor:
    v, voltages = torch.zeros_like(currents[0]), []
    for x in currents:
        v = v + (x - v) / tau
        voltages.append(v)
    return torch.stack(voltages)


@pytest.mark.parametrize("tau", [1.0, 2.0, 3.5])
def test_leaky_integral_equals_an_explicit_loop_in_values_and_gradient(tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    currents, cotangent = torch.randn(2, 16, 3, 5, generator=generator)  # [T, B, A]
    values, gradient = outputs_and_gradient(lambda x: leaky_integral(x, tau), currents, cotangent)
    expected, expected_gradient = outputs_and_gradient(
        lambda x: explicit_integral(x, tau), currents, cotangent
    )
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5)


# Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reset": "none"}, "none"),
        ({"surrogate": "relu"}, "relu"),
        ({"tau": 0.5}, "0.5"),
        ({"tau": float("nan")}, "nan"),
        ({"threshold": 0.0}, "0.0"),
        ({"threshold": -1.0}, "-1.0"),
        ({"threshold": float("nan")}, "nan"),
        ({"surrogate_slope": 0.0}, "0.0"),
        ({"surrogate_slope": float("nan")}, "nan"),
    ],
)
def test_a_neuron_refuses_what_it_cannot_be_and_names_it(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Refusal, match=named):
        LIF(**options)


# Equations of one's own ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Doubled(LIF):
    """A neuron whose input counts twice."""

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return super().charge(v, 2 * x)


@torch.no_grad()
def test_a_neuron_with_another_charge_takes_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    currents = torch.rand(8, 3, 50, generator=torch.Generator().manual_seed(0))
    usual = LIF().population((50,))(currents, 8)
    found = Doubled().population((50,))(currents, 8)
    assert torch.equal(found, run(currents, Doubled()))
    assert torch.equal(found, LIF().population((50,))(2 * currents, 8))
    assert found.sum() > usual.sum()
    assert Doubled().population((50,)).weighted_spikes(currents, 8, torch.ones(8)) is None
    monkeypatch.setattr("core.neurons.compiled.run", None)  # the compiled pass is not even asked
    assert torch.equal(Doubled().population((50,))(currents, 8), found)


def test_a_neuron_with_another_charge_has_no_facts_of_the_usual_one() -> None:
    assert LIF().has_these_equations
    assert not Doubled().has_these_equations
    assert Doubled().rate_range() is None
    with pytest.raises(Refusal, match="neuron Doubled is not registered"):
        Doubled().nir_node()
    assert LIF().rate_range() == (1.0, 2.0)
    assert LIF().nir_node().type_name == "LIF"


class Counting(SteppedPopulation):
    """Neurons that fire at every second current above 0: two state variables, one of them only looked at."""

    def start(self, current: Tensor) -> tuple[Tensor, ...]:
        return torch.zeros_like(current), torch.zeros_like(current)

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        count, steps = state
        count = count + (current > 0).to(count.dtype)
        spikes = (count == 2).to(count.dtype)
        return spikes, (count * (1 - spikes), steps + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stepped_population_is_stepped_from_its_start(dtype: torch.dtype) -> None:
    currents = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0, -1.0], dtype=dtype)[:, None, None]
    population = Counting()
    for _ in range(2):  # it keeps nothing between calls
        spikes = population(currents, 6)
        assert spikes.dtype == dtype
        assert spikes.flatten().tolist() == [0, 0, 1, 0, 1, 0]
    constant = population(torch.ones(1, 2, 3, dtype=dtype), 5)
    assert constant.shape == (5, 2, 3)
    assert constant[:, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert population.weighted_spikes(currents, 6, torch.ones(6)) is None
