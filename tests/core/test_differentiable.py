"""Gradients of a converted network: forward the reference engine's spikes, backward what was worked out elsewhere."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convert.methods import tan2021
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.choices import FIRINGS, SURROGATES
from core.dqn import DQN
from core.errors import Refusal
from core.games import GAMES, Game
from core.layers import Layers, initialise
from core.neurons.integrate_and_fire import IF
from core.neurons.membrane import MembraneNeuron
from core.neurons.surrogates import SpikeDerivative, slope_of_width
from core.rate_coded import fused
from core.rate_coded.differentiable import Fire, RateGradient, SurrogateSimulation, spike_train
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from play.environments import network_input
from tests.conftest import AGENTS, opening

FillDyadic = Callable[[Layers, int], None]
DyadicInputs = Callable[[tuple[int, ...], int], Tensor]

MINATAR = GAMES["minatar/breakout"]
TOY = Game("toy", "control", (1,), 2)
SIM_STEPS = 12
CODINGS: dict[str, dict[str, Any]] = {
    "at-once": {},
    "half": {"neuron": IFNeuron(v_init=0.5)},
    "signed": {"neuron": IFNeuron("signed", 0.5)},
    "afterwards": {"neuron": IFNeuron("afterwards", 0.5)},
    "leaky": {"neuron": IFNeuron(tau=20.0)},
    "rounded image": {"image_bits": 10},
    "delay": {"layer_delay": True},
    "presteps": {"presteps": 5},
}


def network(coding: RateCoding, fill_dyadic: FillDyadic) -> RateCodedNetwork:
    snn = RateCodedNetwork(MINATAR, coding)
    fill_dyadic(snn.layers, 0)
    snn.output_scale.fill_(2.0)
    return snn.requires_grad_(False)


def random_network(coding: RateCoding, game: Game = MINATAR) -> RateCodedNetwork:
    """Weights whose sums lie nowhere exactly at a threshold, and are large enough for every layer to spike."""
    snn = RateCodedNetwork(game, coding)
    initialise(snn.layers, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in snn.layers:
            layer.weight.mul_(4.0)
            layer.bias.add_(0.1)
    return snn.requires_grad_(False)


def images(rows: int, game: Game = MINATAR) -> Tensor:
    return torch.rand((rows, *game.observation_shape), generator=torch.Generator().manual_seed(1))


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of a sum of all scores in which no two weigh the same."""
    x = x.clone().requires_grad_()
    scores = function(x)
    (found,) = torch.autograd.grad((scores * torch.arange(1, scores.shape[1] + 1)).sum(), x)
    return found


# Forward ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("readout", ["robust", "spikes"])
def test_spikes_and_scores_are_the_reference_engines(
    name: str, readout: Any, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    coding = RateCoding(SIM_STEPS, readout, **CODINGS[name])
    snn = network(coding, fill_dyadic)
    x = dyadic_inputs((3, *MINATAR.observation_shape), 0)
    steps = (SIM_STEPS,) if coding.neuron.firing == "afterwards" else tuple(range(1, SIM_STEPS + 1))
    simulation = snn.reference(x, steps)
    trains, membranes = SurrogateSimulation(snn, "atan", 0.5).trains(x.clone().requires_grad_(), SIM_STEPS)
    for train, counts in zip(trains, simulation.layer_counts, strict=True):
        assert counts[-1].abs().sum() > 0
        at_steps = torch.tensor(steps) - 1
        assert torch.equal(train.cumsum(0)[at_steps], counts)
    assert torch.equal(membranes, simulation.residuals[-1])
    elapsed = torch.tensor([SIM_STEPS])
    expected = snn._read(simulation._replace(counts=simulation.counts[-1:]), readout, elapsed)[-1]
    assert torch.equal(SurrogateSimulation(snn, "atan", 0.5)(x), expected)


def test_a_signed_network_takes_spikes_back(fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs) -> None:
    # Guards the comparison above: it would prove little if no spike were ever negative.
    snn = network(RateCoding(SIM_STEPS, neuron=IFNeuron("signed", 0.5)), fill_dyadic)
    trains, _ = SurrogateSimulation(snn, "atan", 0.5).trains(
        dyadic_inputs((3, *MINATAR.observation_shape), 0), SIM_STEPS
    )
    assert any(bool((train < 0).any()) for train in trains)


@pytest.mark.parametrize("name", ["minatar-breakout", "pong"])
@pytest.mark.parametrize("firing", FIRINGS)
def test_on_trained_weights_every_count_and_membrane_is_the_reference_engines(name: str, firing: Any) -> None:
    dqn = load_agent(AGENTS / f"{name}-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    met = opening(dqn, 60)
    scales, _ = tan2021.guarded_scales(dqn, met, 99.9)
    snn = scaled_network(dqn, scales, RateCoding(16, neuron=IFNeuron(firing, 0.5)))
    x = network_input(met[20:33], dqn.game, dqn.device)
    simulation = snn.reference(x, (16,))
    trains, membranes = SurrogateSimulation(snn, "triangle", 0.5).trains(x, 16)
    for train, counts, fired in zip(trains, simulation.layer_counts, simulation.fired, strict=True):
        assert torch.equal(train.sum(0), counts[0])
        assert torch.equal(train.abs().sum(0), fired)
    assert torch.equal(membranes, simulation.membranes[-1])


@pytest.mark.parametrize("source", [lambda snn: SurrogateSimulation(snn, "atan", 0.5), RateGradient])
def test_a_decision_that_a_gap_ends_is_scored_when_it_ends(source: Any) -> None:
    snn = random_network(RateCoding(SIM_STEPS, stop_gap=2.0))
    x = images(20)
    decision = snn.decide(x)
    assert decision.activity is not None
    assert len(decision.activity.sim_steps.unique()) > 2
    torch.testing.assert_close(source(snn)(x), decision.scores, rtol=1e-5, atol=1e-5)


# Not with a delay or a leak: last spikes have not arrived there, or charge was lost, so scores are not those of rates.
@pytest.mark.parametrize("name", sorted(CODINGS.keys() - {"delay", "leaky"}))
def test_rates_are_followed_from_real_counts(name: str) -> None:
    """What the output layer hears is what it hears in the simulation, so its charge is, too."""
    snn = random_network(RateCoding(64, **CODINGS[name]))
    x = images(4)
    torch.testing.assert_close(RateGradient(snn)(x), snn(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize(
    ("neuron", "surrogate", "detach"),
    list(
        itertools.product(
            (IFNeuron(), IFNeuron("signed", 0.5), IFNeuron("signed", 0.25, tau=3.0), IFNeuron(tau=20.0)),
            SURROGATES,
            (True, False),
        )
    ),
)
def test_the_compiled_pass_is_the_reference(
    neuron: IFNeuron, surrogate: Any, detach: bool, silent: bool, constant: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    sim_steps, shape = 9, (2, 3, fused.LANES + 7)  # a width that fills no block
    given = torch.randn((1 if constant else sim_steps, *shape), generator=generator)
    # Convolutions may hand over channels-last tensors.
    currents = (0.8 * given + 0.2).transpose(2, 3).contiguous().transpose(2, 3).requires_grad_()
    mask = torch.rand(shape, generator=generator) < 0.2 if silent else None
    weights = torch.randn((sim_steps, *shape), generator=generator)
    of_membranes = torch.randn(shape, generator=generator)

    def gradient(spikes: Tensor, membranes: Tensor) -> Tensor:
        return torch.autograd.grad((spikes * weights).sum() + (membranes * of_membranes).sum(), currents)[0]

    derivative = SpikeDerivative(surrogate, 1.3, detach)
    slow = Fire.apply(currents.expand(sim_steps, *shape), mask, neuron, derivative)
    fast = spike_train(currents, sim_steps, mask, neuron, derivative)
    assert 0.05 < (slow[0] > 0).float().mean() < 0.95
    assert (neuron.firing == "signed" and not constant) <= bool((slow[0] < 0).any())
    assert torch.equal(fast[0], slow[0])
    assert torch.equal(fast[1], slow[1])
    torch.testing.assert_close(gradient(*fast), gradient(*slow), rtol=1e-5, atol=1e-5)


# Backward, by hand ------------------------------------------------------------------------------------


def one_neuron(coding: RateCoding) -> RateCodedNetwork:
    """Q_0 is the rate of a neuron that hears the input itself."""
    snn = RateCodedNetwork(TOY, coding).requires_grad_(False)
    for parameter in snn.parameters():
        parameter.zero_()
    weights = dict(snn.named_parameters())
    weights["layers.0.weight"][0, 0] = 1.0
    weights["layers.1.weight"][0, 0] = 1.0
    return snn


@pytest.mark.parametrize(("detach_reset", "expected"), [(True, 0.875), (False, 0.6875)])
def test_the_gradient_of_two_steps_is_the_one_made_by_hand(detach_reset: bool, expected: float) -> None:
    """Membranes 0.75 and 1.5: a triangle of slope 1 gives 3/4 and 1/2 there.

    Detached: (3/4 + 1/2 x 2) / 2 = 7/8. Attached: what the first step adds to the second membrane is less by 3/4, so
    (3/4 + 1/2 x (1 + 1/4)) / 2 = 11/16.
    """
    source = SurrogateSimulation(one_neuron(RateCoding(2)), "triangle", 0.5, detach_reset)
    x = torch.tensor([[0.75]], requires_grad=True)
    scores = source(x)
    assert scores.tolist() == [[0.5, 0.0]]
    assert torch.autograd.grad(scores[0, 0], x)[0].item() == expected


@pytest.mark.parametrize(("x", "slope"), [(-0.5, 0.0), (0.3, 1.0), (0.99, 1.0), (1.5, 0.0)])
def test_the_rate_gradient_of_a_neuron_is_that_of_a_clipped_relu(x: float, slope: float) -> None:
    source = RateGradient(one_neuron(RateCoding(64)))
    given = torch.tensor([[x]], requires_grad=True)
    scores = source(given)
    assert scores[0, 0].item() == pytest.approx(math.floor(64 * min(max(x, 0), 1)) / 64)
    assert torch.autograd.grad(scores[0, 0], given)[0].item() == slope


# Backward, against other implementations --------------------------------------------------------------


def loop(snn: RateCodedNetwork, x: Tensor, neuron: MembraneNeuron) -> Tensor:
    """The network as autograd sees it, one plain operation after the other, with core/neurons.py's firing."""
    coding = snn.coding
    trains = [x] * coding.sim_steps
    for index, layer in enumerate(snn.layers):
        currents = [layer(train.flatten(1) if layer.weight.ndim == 2 else train) for train in trains]
        if index == len(snn.layers) - 1 and coding.readout != "spikes":
            return snn.output_scale * torch.stack(currents).mean(0)
        if coding.neuron.firing == "afterwards" and index > 0:
            charge = torch.stack(currents).sum(0)
            currents = [charge, *[torch.zeros_like(charge)] * (coding.sim_steps - 1)]
        trains, v, count = [], torch.full_like(currents[0], coding.neuron.v_init), 0.0
        for current in currents:
            h = v + current
            spike = neuron.fire(h - 1.0 + neuron.threshold)
            if coding.neuron.firing == "signed":
                # Fires at -h >= 0.
                back = neuron.fire(neuron.threshold - h)
                spike = spike - back * torch.as_tensor(count > 0)
            v = h - (spike.detach() if neuron.detach_reset else spike)
            count = count + spike.detach()
            trains.append(spike)
    return snn.output_scale * torch.stack(trains).mean(0)


@pytest.mark.parametrize("firing", FIRINGS)
@pytest.mark.parametrize("readout", ["robust", "spikes"])
@pytest.mark.parametrize(("family", "detach_reset"), list(itertools.product(SURROGATES, [True, False])))
def test_gradients_are_those_of_a_plain_loop(
    firing: Any, readout: Any, family: Any, detach_reset: bool
) -> None:
    snn = random_network(RateCoding(6, readout, IFNeuron(firing, 0.5)))
    slope = slope_of_width(family, 0.5)
    neuron = IF(reset="soft", detach_reset=detach_reset, surrogate=family, surrogate_slope=slope)
    x = images(3)
    source = SurrogateSimulation(snn, family, 0.5, detach_reset)
    torch.testing.assert_close(source(x), loop(snn, x, neuron), rtol=1e-4, atol=1e-5)
    expected = gradient(lambda x: loop(snn, x, neuron), x)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(
        gradient(source, x), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
    )


def test_the_rate_gradient_passes_each_layer_where_its_mean_current_lies_between_0_and_1() -> None:
    """W1^T m1 W2^T m2 W3^T, with masks from the currents that real rates make."""
    snn = random_network(RateCoding(64, neuron=IFNeuron("signed", 0.5)))
    x = images(5)
    first, second, output = snn.layers
    counts = snn.reference(x, (64,)).layer_counts
    z1 = F.conv2d(x, first.weight, first.bias)
    z2 = F.linear(counts[0][0].flatten(1) / 64, second.weight, second.bias)
    masks = [((z >= 0) & (z <= 1)).float() for z in (z1, z2)]
    assert all(0.05 < mask.mean() < 0.95 for mask in masks)
    back = (torch.arange(1.0, 7.0) @ output.weight)[None] * masks[1]  # [B, 128]
    back = (back @ second.weight).view_as(z1) * masks[0]
    expected = F.conv_transpose2d(back, first.weight)
    torch.testing.assert_close(gradient(RateGradient(snn), x), expected, rtol=1e-4, atol=1e-4)


# Refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sim_steps", "surrogate", "width", "named"),
    [
        (17, "atan", 1.0, "sim_steps is 17"),
        (8, "relu", 1.0, "surrogate 'relu'"),
        (8, "atan", 0.0, "width is 0.0"),
        (8, "atan", float("nan"), "width is nan"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(
    sim_steps: int, surrogate: Any, width: float, named: str
) -> None:
    with pytest.raises(Refusal, match=named):
        SurrogateSimulation(RateCodedNetwork(TOY, RateCoding(sim_steps)), surrogate, width)
