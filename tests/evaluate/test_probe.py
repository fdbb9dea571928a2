"""Responses of neurons against their closed forms, and representations against what the output layer makes of them."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from convert.methods import tan2021
from convert.scaling import scaled_network
from core.agents import RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import get_game
from core.layers import apply_layer
from core.networks import NETWORKS
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.neurons.membrane import MembraneNeuron
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import Rate
from core.records import read_rows, write_rows
from core.rows import EmbeddingRow, ResponseRow
from evaluate.embedding import embed
from evaluate.responses import neuron_responses, parameters
from play.environments import network_input
from play.states import q_values
from tests.conftest import AGENTS, opening

# Responses of neurons --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def responses() -> list[ResponseRow]:
    return neuron_responses()


def curve(
    responses: list[ResponseRow], neuron: MembraneNeuron, quantity: str, sim_steps: int
) -> list[tuple[float, float]]:
    """Inputs and responses, which exist and are in order."""
    found = [
        (row.input, row.response)
        for row in responses
        if (row.neuron, row.quantity, row.sim_steps) == (parameters(neuron), quantity, sim_steps)
    ]
    assert len(found) > 100
    assert all(one[0] < other[0] for one, other in pairwise(found))
    return found


@pytest.mark.parametrize("slope", [1.0, 2.0, 4.0])
def test_the_arc_tangents_derivative_is_half_its_slope_at_the_threshold(
    responses: list[ResponseRow], slope: float
) -> None:
    drawn = dict(curve(responses, LIF(surrogate_slope=slope), "surrogate", 0))
    assert drawn[0.0] == max(drawn.values()) == slope / 2
    assert drawn[1.0] == drawn[-1.0] == pytest.approx(slope / 2 / (1 + (math.pi / 2 * slope) ** 2), rel=1e-12)


@pytest.mark.parametrize("slope", [2.0, 4.0, 8.0])
def test_the_sigmoids_derivative_is_a_quarter_of_its_slope_at_the_threshold(
    responses: list[ResponseRow], slope: float
) -> None:
    drawn = dict(curve(responses, LIF(surrogate="sigmoid", surrogate_slope=slope), "surrogate", 0))
    assert drawn[0.0] == max(drawn.values()) == slope / 4
    assert drawn[1.0] == pytest.approx(slope / 4 / math.cosh(slope / 2) ** 2, rel=1e-12)


@pytest.mark.parametrize(("threshold", "sim_steps"), [(1.0, 4), (1.0, 16), (1.0, 64), (0.5, 64), (0.2, 64)])
def test_an_if_neuron_with_soft_reset_counts_the_thresholds_in_its_charge(
    responses: list[ResponseRow], threshold: float, sim_steps: int
) -> None:
    neuron = IF(reset="soft", threshold=threshold)
    for current, rate in curve(responses, neuron, "rate", sim_steps):
        assert rate == min(max(math.floor(sim_steps * current / threshold), 0), sim_steps) / sim_steps


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_an_if_neuron_with_hard_reset_fires_whenever_as_many_inputs_reach_its_threshold(
    responses: list[ResponseRow], threshold: float
) -> None:
    for current, rate in curve(responses, IF(threshold=threshold), "rate", 64):
        period = math.ceil(threshold / current) if current > 0 else 65
        assert rate == 64 // period / 64


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_a_lif_neuron_with_hard_reset_needs_more_than_its_threshold(
    responses: list[ResponseRow], threshold: float
) -> None:
    # With tau 2 the membrane after n steps is (1 - 2^-n) x: it comes close to x and never further.
    for current, rate in curve(responses, LIF(threshold=threshold), "rate", 64):
        period = math.ceil(-math.log2(1 - threshold / current)) if current > threshold else 65
        assert rate == 64 // period / 64


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
def test_a_lif_neuron_with_soft_reset_fires_between_one_and_two_thresholds(
    responses: list[ResponseRow], threshold: float
) -> None:
    soft = dict(curve(responses, LIF(reset="soft", threshold=threshold), "rate", 64))
    hard = dict(curve(responses, LIF(threshold=threshold), "rate", 64))
    assert soft.keys() == hard.keys()
    for current, rate in soft.items():
        # What is left over after a spike makes the next one come sooner.
        assert rate >= hard[current]
        if current < threshold:
            assert rate == 0
        elif current > 2 * threshold:
            assert rate == 1
        elif current > 1.1 * threshold:
            assert 0 < rate < 1


def test_voltages_behind_a_neuron_are_those_made_by_hand(responses: list[ResponseRow]) -> None:
    last, largest, mean = (
        curve(responses, LIF(detach_reset=True), statistic, 8)
        for statistic in ("last-mem", "max-mem", "mean-mem")
    )
    for (current, v_last), (_, v_max), (_, v_mean) in zip(last, largest, mean, strict=True):
        if current < 1:
            expected = (0.0, 0.0, 0.0)
        elif 8 / 7 < current < 4 / 3:  # spikes at steps 3 and 6: v = 0 0 1/2 1/4 1/8 9/16 9/32 9/64
            expected = (9 / 64, 9 / 16, 119 / 64 / 8)
        elif current > 2:  # a spike at every step: v = 1 - 2^-t
            expected = (255 / 256, 255 / 256, 1 - 255 / 256 / 8)
        else:
            continue
        assert (v_last, v_max, v_mean) == expected


def test_relu_is_no_neuron(responses: list[ResponseRow]) -> None:
    found = [row for row in responses if row.quantity == "relu"]
    assert {row.neuron for row in found} == {""}
    assert all(row.response == max(row.input, 0) for row in found)
    assert min(row.input for row in found) < 0 < max(row.response for row in found)


def test_responses_can_be_stored(responses: list[ResponseRow], tmp_path: Path) -> None:
    write_rows(tmp_path / "responses.parquet", ResponseRow, responses)
    assert read_rows(tmp_path / "responses.parquet", ResponseRow) == responses


# Representations of states ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dqn() -> Checkpoint:
    return load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors")


@pytest.fixture(scope="module")
def dsqn() -> Checkpoint:
    return load_agent(AGENTS / "minatar-breakout-dsqn-s0.safetensors")


@pytest.fixture(scope="module")
def states(dqn: Checkpoint) -> np.ndarray:
    return opening(dqn.agent, 60)


def converted(dqn: DQN, states: np.ndarray, coding: RateCoding) -> RateCodedNetwork:
    scales, _ = tan2021.guarded_scales(dqn, states, 99.0)
    return scaled_network(dqn, scales, coding)


def test_q_values_are_the_output_layer_of_a_dqns_activations(dqn: Checkpoint, states: np.ndarray) -> None:
    agent = dqn.agent
    assert isinstance(agent, DQN)
    inputs = network_input(states, agent.game, agent.device)
    hidden = agent.representation(inputs)
    assert hidden.shape == (60, 128)
    assert hidden.min() == 0
    *_, output = agent.layers
    torch.testing.assert_close(apply_layer(output, hidden), agent(inputs), rtol=0, atol=0)


def test_a_dsqns_rates_are_its_last_spikes_whatever_is_read_from_them(
    dsqn: Checkpoint, states: np.ndarray
) -> None:
    agent = dsqn.agent
    assert isinstance(agent, DSQN)
    inputs = network_input(states, agent.game, agent.device)
    rates = agent.representation(inputs)
    activity = agent.decide(inputs).activity
    assert activity is not None
    assert agent.spiking.sim_steps == 4
    assert set(rates.unique().tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert torch.equal(4 * rates.sum(1), activity.spikes[:, -1])
    # The rate read-out is the output layer applied to just these.
    by_rate = DSQN(agent.game, replace(agent.spiking, readout=Rate()), agent.bias)
    by_rate.load_state_dict(agent.state_dict())
    assert torch.equal(by_rate.representation(inputs), rates)
    *_, output = by_rate.layers
    torch.testing.assert_close(apply_layer(output, rates), by_rate(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("firing", ["at-once", "signed", "afterwards"])
def test_a_converted_networks_rates_carry_the_charge_that_its_output_hears(
    dqn: Checkpoint, states: np.ndarray, firing: str
) -> None:
    assert isinstance(dqn.agent, DQN)
    neuron = IFNeuron(firing, 0.5)  # type: ignore[arg-type]
    snn = converted(dqn.agent, states, RateCoding(8, "current", neuron))
    inputs = network_input(states, snn.game, snn.device)
    rates = snn.representation(inputs)
    assert rates.shape == (60, 128)
    assert 0 <= rates.min() < rates.max() <= 1
    *_, output = snn.layers
    expected = snn.output_scale * apply_layer(output, rates)
    torch.testing.assert_close(expected, snn(inputs), rtol=1e-4, atol=1e-4)
    quantised = snn.quantised()
    levels = quantised.representation(inputs)
    *_, output = quantised.layers
    torch.testing.assert_close(quantised.output_scale * apply_layer(output, levels), quantised(inputs))


def test_agents_without_a_hidden_layer_to_tell_of_are_refused(dqn: Checkpoint, states: np.ndarray) -> None:
    assert isinstance(dqn.agent, DQN)
    inputs = network_input(states, dqn.agent.game, dqn.agent.device)
    with pytest.raises(Refusal, match="'random' has no hidden layer"):
        RandomPlay(dqn.agent.game).representation(inputs)
    with pytest.raises(Refusal, match="presteps is 2"):
        converted(dqn.agent, states, RateCoding(4, presteps=2)).representation(inputs)


def test_an_embedding_tells_of_every_state(
    dqn: Checkpoint, dsqn: Checkpoint, states: np.ndarray, tmp_path: Path
) -> None:
    repeated = np.concatenate([states, states[:5]])
    for checkpoint in (dqn, dsqn):
        rows = embed(checkpoint, repeated, dqn.id, seed=0)
        scores = q_values(checkpoint.agent, repeated)
        assert [row.state for row in rows] == list(range(65))
        assert [row.value for row in rows] == scores.max(1).tolist()
        assert [row.action for row in rows] == scores.argmax(1).tolist()
        assert {(row.game, row.agent, row.checkpoint_id, row.states_of) for row in rows} == {
            ("minatar/breakout", checkpoint.agent.kind, checkpoint.id, dqn.id)
        }
        plane = np.array([(row.x, row.y) for row in rows])
        apart = np.linalg.norm(plane[:, None] - plane[None], axis=2)
        assert np.diag(apart[:5, 60:]).max() < np.percentile(apart[np.triu_indices(65, 1)], 10)
        assert embed(checkpoint, repeated, dqn.id, seed=0) == rows
        write_rows(tmp_path / "embedding.parquet", EmbeddingRow, rows)
        assert read_rows(tmp_path / "embedding.parquet", EmbeddingRow) == rows


def test_scores_that_are_no_q_values_are_no_value(dsqn: Checkpoint, states: np.ndarray) -> None:
    common_mode = replace(dsqn, provenance={**dsqn.provenance, "scores_are_q_values": False})
    assert all(math.isnan(row.value) for row in embed(common_mode, states[:40], "", seed=0))


def test_too_few_states_are_refused(dqn: Checkpoint, states: np.ndarray) -> None:
    with pytest.raises(Refusal, match="number of states is 30: t-SNE needs more than 30"):
        embed(dqn, states[:30], dqn.id, seed=0)


def test_states_that_an_agent_cannot_tell_apart_lie_in_one_point() -> None:
    game = get_game("minatar/breakout")
    agent = NETWORKS["chen2022"].make(game, torch.Generator().manual_seed(0))
    for parameter in agent.parameters():
        parameter.data.zero_()
    states = np.random.default_rng(0).integers(2, size=(40, *game.observation_shape), dtype=np.uint8)
    provenance = {"train_seed": 0, "scores_are_q_values": True}
    rows = embed(Checkpoint(agent.requires_grad_(False), provenance, "silent"), states, "silent", seed=0)
    assert {(row.x, row.y) for row in rows} == {(0.0, 0.0)}
