"""Exact counts: really simulated spikes against an integer forward pass that knows no neuron and no float32."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convert.methods import exact, threshold_search
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron, simulate
from play.states import batches, collect
from tests.conftest import AGENTS, opening
from tests.convert.conftest import make_dqn

AFTERWARDS = IFNeuron("afterwards", 0.5)


def whole(name: str, sim_steps: int, num_states: int) -> tuple[RateCodedNetwork, np.ndarray]:
    """A shipped DQN quantised without training, and states of its play."""
    dqn = load_agent(AGENTS / name).agent
    assert isinstance(dqn, DQN)
    states = collect(dqn, num_states, 0, "calibration", num_envs=8)
    scales = threshold_search.least_squares(dqn, states[:500], sim_steps, 0.5, by_channel=True)
    return exact.whole_numbers(scaled_network(dqn, scales, RateCoding(sim_steps, neuron=AFTERWARDS))), states


def integer_counts(snn: RateCodedNetwork, pixels: np.ndarray, levels: int) -> list[np.ndarray]:
    """Counts of all hidden layers, [S, ...], from integer pixels of so many levels above 0.

    Integers are carried in float64, which holds every one below 2^53; a sum that came near would fail the test.
    """
    sim_steps, counts, heard = snn.coding.sim_steps, [], torch.from_numpy(pixels).double()
    for index, layer in enumerate(list(snn.layers)[:-1]):
        bits = fractional_bits(layer.weight)
        if layer.bias is not None:
            bits = max(bits, fractional_bits(layer.bias))
        weight = (layer.weight.double() * 2**bits).round()
        bias = (
            torch.zeros(len(weight)).double()
            if layer.bias is None
            else (layer.bias.double() * 2**bits).round()
        )
        assert torch.equal(weight / 2**bits, layer.weight.double())
        scale = levels if index == 0 else 1  # the pixels' sum is in units of 1 / levels
        if isinstance(layer, nn.Conv2d):
            total = F.conv2d(heard, weight, bias * scale if index == 0 else bias * sim_steps, layer.stride)
        else:
            total = F.linear(heard.flatten(1), weight, bias * scale if index == 0 else bias * sim_steps)
        assert total.abs().max() < 2**52
        integers = total.to(torch.int64)
        if index == 0:  # rounded to 2^-image_bits, then heard for T steps
            assert snn.coding.image_bits is not None
            wider = 2 ** (snn.coding.image_bits - bits)
            integers = sim_steps * torch.div(2 * wider * integers + levels, 2 * levels, rounding_mode="floor")
            bits = snn.coding.image_bits
        half = 2 ** (bits - 1)
        fired = torch.div(integers + half, 2**bits, rounding_mode="floor").clamp(0, sim_steps)
        counts.append(fired.numpy())
        heard = fired.double()
    return counts


def fractional_bits(values: torch.Tensor) -> int:
    """The least k for which all values are multiples of 2^-k."""
    return next(
        k
        for k in range(1, 40)
        if torch.equal((values.double() * 2**k) % 1, torch.zeros_like(values).double())
    )


@pytest.mark.parametrize(
    ("name", "sim_steps", "num_states", "levels"),
    [
        ("minatar-breakout-dqn-s0.safetensors", 4, 10_000, 1),
        ("minatar-space_invaders-dqn-s0.safetensors", 6, 2000, 1),
        ("pong-dqn-s0.safetensors", 8, 200, 255),
    ],
)
def test_simulated_spikes_are_the_integers_to_the_last_one(
    name: str, sim_steps: int, num_states: int, levels: int
) -> None:
    snn, states = whole(name, sim_steps, num_states)
    simulated: list[list[np.ndarray]] = [[] for _ in snn.neuron_counts[:-1]]
    for batch in batches(snn, states):
        found = simulate(snn.layers, batch, sim_steps, AFTERWARDS, image_bits=snn.coding.image_bits)
        for kept, counts in zip(simulated, found.layer_counts, strict=False):
            kept.append(counts[0].numpy())
    for index in range(0, num_states, 500):
        expected = integer_counts(snn, states[index : index + 500], levels)
        for layer, counts in enumerate(expected):
            found_counts = np.concatenate(simulated[layer])[index : index + 500]
            assert counts.any()
            np.testing.assert_array_equal(found_counts, counts)


def test_the_quantised_dqn_gives_the_networks_q_values_to_the_last_bit() -> None:
    snn, states = whole("minatar-breakout-dqn-s0.safetensors", 4, 300)
    quantised = snn.quantised()
    for batch in batches(snn, states):
        assert torch.equal(snn(batch), quantised(batch))


@pytest.mark.parametrize("are_whole", [False, True])
def test_without_whole_numbers_order_decides(are_whole: bool) -> None:
    """With the weights as they were, what a second layer heard step by step is not what it hears at once."""
    dqn = load_agent(AGENTS / "pong-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    states = opening(dqn, 200)
    scales = threshold_search.least_squares(dqn, states, 8, 0.5, by_channel=True)
    snn = scaled_network(dqn, scales, RateCoding(8, neuron=AFTERWARDS))
    if are_whole:
        snn = exact.whole_numbers(snn)
    (inputs,) = batches(snn, states[-8:])
    found = simulate(snn.layers, inputs, 8, AFTERWARDS, image_bits=snn.coding.image_bits)
    second = list(snn.layers)[1].double()
    assert second.bias is not None
    charge = second(found.layer_counts[0][0].double()) + 7 * second.bias[:, None, None]
    heard = found.layer_counts[1][0] + found.membranes[1] - 0.5
    torch.testing.assert_close(heard.double(), charge, rtol=0, atol=1e-3)
    assert torch.equal(heard.double(), charge) == are_whole


@pytest.mark.parametrize("v_init", [0.3, 0.1])
def test_a_start_that_is_no_binary_fraction_is_refused(v_init: float) -> None:
    dqn = make_dqn(0)
    snn = scaled_network(dqn, [1.0] * 3, RateCoding(4, neuron=IFNeuron("afterwards", v_init)))
    with pytest.raises(Refusal, match=f"v_init is {v_init}"):
        exact.whole_numbers(snn)


def test_sums_that_float32_cannot_hold_are_refused() -> None:
    snn = scaled_network(make_dqn(0), [1e-9, 1.0, 1.0], RateCoding(4, neuron=AFTERWARDS))
    with pytest.raises(Refusal, match="layer 1 has sums up to"):
        exact.whole_numbers(snn)
