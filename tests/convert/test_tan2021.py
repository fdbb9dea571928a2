"""Tan's normalisation, against what it promises exactly."""

import numpy as np
import pytest
import torch

from convert.bindsnet_check import bindsnet_scores
from convert.methods import tan2021
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.dqn import DQN
from core.errors import Refusal
from core.games import GAMES
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import simulate
from play.states import batches, collect, greedy_actions
from tests.conftest import AGENTS, opening
from tests.convert.conftest import GAME, make_dqn


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 100.0])
def test_percentiles_are_numpys(dqn: DQN, states: np.ndarray, percentile: float) -> None:
    outputs = dqn.preactivations(next(batches(dqn, states, size=len(states))))
    expected = [np.percentile(output.double().numpy(), percentile) for output in outputs]
    assert tan2021.percentiles(dqn, states, percentile) == pytest.approx(expected, rel=1e-5)


def test_normalised_network_gives_q_over_the_last_scale(dqn: DQN, states: np.ndarray) -> None:
    scales, _ = tan2021.guarded_scales(dqn, states, 99.9)
    snn = scaled_network(dqn, scales, RateCoding(4))
    inputs = next(batches(dqn, states))
    plain = DQN(GAME)
    plain.load_state_dict({name: value for name, value in snn.state_dict().items() if name != "output_scale"})
    torch.testing.assert_close(plain(inputs), dqn(inputs) / scales[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(snn.twin()(inputs), dqn(inputs), rtol=1e-4, atol=1e-5)
    # Each hidden layer's percentile is now the threshold.
    assert tan2021.percentiles(plain, states, 99.9)[:-1] == pytest.approx([1.0, 1.0], rel=1e-4)


def test_agreement_and_q_values_converge_with_sim_steps(dqn: DQN, states: np.ndarray) -> None:
    scales, _ = tan2021.guarded_scales(dqn, states, 100.0)  # nothing saturates on these states
    snn = scaled_network(dqn, scales, RateCoding(4096))
    inputs = next(batches(dqn, states, size=40))
    scores = snn.scores_over_time(inputs, [16, 256, 4096])["robust"]
    errors = (scores - dqn(inputs)).abs().amax((1, 2))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01 * dqn(inputs).abs().max()


def test_negative_q_values_keep_their_order(dqn: DQN, states: np.ndarray) -> None:
    """An agent that expects to lose has only negative Q-values; a negative scale would reverse them."""
    loser = DQN(GAME)
    loser.load_state_dict(dqn.state_dict())
    *_, output = loser.layers
    with torch.no_grad():
        output.bias -= 5.0
    scales, guarded = tan2021.guarded_scales(loser, states, 99.9)
    assert guarded
    assert scales[-1] > 0
    snn = scaled_network(loser, scales, RateCoding(2048))
    agreement = (greedy_actions(snn, states[:60]) == greedy_actions(loser, states[:60])).mean()
    assert agreement > 0.9


def test_a_dead_layer_is_refused(dqn: DQN, states: np.ndarray) -> None:
    dead = DQN(GAME)
    dead.load_state_dict(dqn.state_dict())
    first = next(iter(dead.layers))
    with torch.no_grad():
        first.bias.fill_(-100.0)
    with pytest.raises(Refusal, match="layer 1 is dead"):
        tan2021.guarded_scales(dead, states, 99.9)


def test_bindsnet_agrees_spike_for_spike_on_dyadic_weights() -> None:
    """Multiples of 1/64 add up exactly in any order, so two simulators have no excuse to differ."""
    snn = RateCodedNetwork(GAME, RateCoding(40, layer_delay=True))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer, spread in zip(snn.layers, (16, 3, 6), strict=True):
            for parameter in layer.parameters():
                parameter.copy_(torch.randint(-spread, spread + 3, parameter.shape, generator=generator) / 64)
    inputs = torch.randint(0, 2, (6, *GAME.observation_shape), generator=generator).float()
    simulation = simulate(snn.layers, inputs, 40, layer_delay=True)
    assert simulation.counts.sum() > 50  # otherwise nothing was compared
    for batch_size in (1, 4):
        counts, residuals = bindsnet_scores(snn, inputs, batch_size)
        np.testing.assert_array_equal(simulation.counts[0].numpy(), counts)
        np.testing.assert_array_equal(simulation.residuals[0].numpy(), residuals)


def test_bindsnet_agrees_on_atari_with_real_weights() -> None:
    agent = make_dqn(1, GAMES["pong"])
    states = collect(agent, 40, seed=0, stream="calibration", num_envs=2)
    scales, _ = tan2021.guarded_scales(agent.requires_grad_(False), states, 99.0)
    snn = scaled_network(agent, scales, RateCoding(12, layer_delay=True))
    inputs = next(batches(agent, states[-2:]))
    simulation = simulate(snn.layers, inputs, 12, layer_delay=True)
    counts, residuals = bindsnet_scores(snn, inputs)
    np.testing.assert_array_equal(simulation.counts[0].numpy(), counts)
    np.testing.assert_allclose(simulation.residuals[0].numpy(), residuals, atol=1e-4)


@pytest.mark.parametrize(("name", "num_states"), [("minatar-breakout", 100), ("pong", 8)])
def test_bindsnet_agrees_on_trained_weights(name: str, num_states: int) -> None:
    agent = load_agent(AGENTS / f"{name}-dqn-s0.safetensors").agent
    assert isinstance(agent, DQN)
    states = opening(agent, 300)
    scales, _ = tan2021.guarded_scales(agent, states, 99.9)
    snn = scaled_network(agent, scales, RateCoding(50, layer_delay=True))
    (inputs,) = batches(agent, states[-num_states:], size=num_states)
    simulation = simulate(snn.layers, inputs, 50, layer_delay=True)
    counts, residuals = bindsnet_scores(snn, inputs, num_states)
    assert simulation.counts.sum() > 50
    np.testing.assert_array_equal(simulation.counts[0].numpy(), counts)
    np.testing.assert_allclose(simulation.residuals[0].numpy(), residuals, atol=1e-4)
