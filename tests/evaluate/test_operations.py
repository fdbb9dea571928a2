"""Operations against counts by hand, a loop over spikes and kernel positions, and SpikingJelly's counters."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import Tensor, nn

from core.agents import Agent, RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES, Game
from core.layers import Layer, SameConv2d, initialise, same_margins
from core.neurons.lif import LIF
from core.operations import LayerOperations, fan_out
from core.quantised import QuantisedDQN
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import READOUTS
from evaluate.operations import operations_rows
from play.environments import network_input
from play.states import batches
from tests.conftest import AGENTS, opening

MINATAR = GAMES["minatar/breakout"]
PONG = GAMES["pong"]
TOY = Game("toy", "control", (2,), 2)


def boards(number: int, seed: int = 0) -> Tensor:
    """Boards with one object in eight cells."""
    shape = (number, *MINATAR.observation_shape)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 1 / 8).float()


def pictures(number: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 256, (number, *shape), generator=torch.Generator().manual_seed(0)) / 255


def lively(agent: Any, gain: float = 3.0) -> Any:
    """The agent with random weights, large enough for deep layers to spike."""
    initialise(agent.layers, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for layer in agent.layers:
            layer.weight.mul_(gain)
            layer.bias.abs_()
    return agent.requires_grad_(False).eval()


def shipped(name: str) -> Agent:
    return load_agent(AGENTS / f"{name}.safetensors").agent


# Fan-out -------------------------------------------------------------------------------------------------


def reached_by_hand(layer: Layer, input_shape: tuple[int, ...]) -> Tensor:
    """Every kernel position of every output neuron, one after the other."""
    reached = torch.zeros(input_shape)
    if not isinstance(layer, nn.Conv2d):
        return reached + layer.out_features
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    _, size, _ = input_shape
    before, after = same_margins(size, kernel, stride) if isinstance(layer, SameConv2d) else (0, 0)
    for top in range(-before, size + after - kernel + 1, stride):
        for left in range(-before, size + after - kernel + 1, stride):
            for row in range(max(top, 0), min(top + kernel, size)):
                for column in range(max(left, 0), min(left + kernel, size)):
                    reached[:, row, column] += layer.out_channels
    return reached


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 1, 5), (8, 4, 20), (4, 2, 9), (3, 2, 8), (2, 3, 7), (1, 1, 1)]
)
@pytest.mark.parametrize("kind", [nn.Conv2d, SameConv2d])
def test_fan_out_is_that_of_a_walk_over_kernel_positions(
    kind: type[nn.Conv2d], kernel: int, stride: int, size: int
) -> None:
    layer = kind(2, 3, kernel, stride)
    found = fan_out(layer, torch.zeros(1, 2, size, size))[0]
    assert found.tolist() == reached_by_hand(layer, (2, size, size)).tolist()


def test_neurons_at_the_border_reach_fewer() -> None:
    # A 3 x 3 kernel on 4 x 4 pixels has 2 x 2 positions: a corner is seen once, an edge twice, the middle four times.
    found = fan_out(nn.Conv2d(1, 5, 3), torch.zeros(1, 4, 4))
    assert found[0].tolist() == [[5, 10, 10, 5], [10, 20, 20, 10], [10, 20, 20, 10], [5, 10, 10, 5]]
    # With stride 2 on 4 pixels a kernel of 1 passes over every second one.
    assert fan_out(nn.Conv2d(1, 1, 1, 2), torch.zeros(1, 4, 4))[0, 0].tolist() == [1, 0, 1, 0]
    assert fan_out(nn.Linear(6, 7), torch.zeros(6)).tolist() == [7.0] * 6


# Dense ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", ["breakout", "pong", "boxing"])
def test_the_nature_network_multiplies_as_often_as_the_papers_say(game: str) -> None:
    dqn = lively(DQN(GAMES[game]))
    counted = dqn.operations(pictures(1, PONG.observation_shape))
    actions = GAMES[game].num_actions
    assert [layer.dense_macs for layer in counted] == [3276800, 2654208, 1806336, 1605632, 512 * actions]
    if actions == 4:
        assert sum(layer.dense_macs for layer in counted) == 9345024
    assert [layer.num_neurons for layer in counted] == [32 * 400, 64 * 81, 64 * 49, 512, actions]
    assert [layer.binary_input for layer in counted] == [False] * 5


def test_effective_multiplications_are_those_of_numbers_that_are_not_zero() -> None:
    """A network of two inputs and 256 hidden neurons, of which three listen to the first input alone."""
    dqn = DQN(TOY)
    hidden, _ = dqn.layers
    with torch.no_grad():
        for parameter in dqn.parameters():
            parameter.zero_()
        hidden.weight[:3, 0] = 1.0
        hidden.weight[3, 0] = -1.0
    x = torch.tensor([[0.5, 0.0], [0.0, 7.0], [-1.0, 2.0], [1.0, 1.0]])
    first, last = dqn.operations(x)
    assert first.effective_macs.tolist() == [256, 256, 512, 512]
    # Three hidden neurons are above zero, none, the fourth, three; each is heard by two.
    assert last.effective_macs.tolist() == [6, 0, 2, 6]
    assert (first.dense_macs, last.dense_macs) == (512, 512)
    for layer in (first, last):
        for nothing in (layer.acs, layer.spikes, layer.neuron_updates):
            assert nothing.tolist() == [0, 0, 0, 0]
    assert not first.binary_input
    assert dqn.operations(x[3:])[0].binary_input


def test_a_quantised_network_multiplies_its_levels() -> None:
    quantised = lively(QuantisedDQN(MINATAR, levels=4))
    x = boards(3)
    levels = quantised.activations(x)
    image, hidden, output = quantised.operations(x)
    by_hand = (x.flatten(1) != 0) * reached_by_hand(next(iter(quantised.layers)), (4, 10, 10)).flatten()
    assert image.effective_macs.tolist() == by_hand.sum(1).tolist()
    assert image.binary_input
    assert hidden.effective_macs.tolist() == [128 * int((row > 0).sum()) for row in levels[0]]
    assert output.effective_macs.tolist() == [6 * int((row > 0).sum()) for row in levels[1]]
    assert not hidden.binary_input
    assert 0 < hidden.effective_macs.sum() < 3 * hidden.dense_macs


# Additions -----------------------------------------------------------------------------------------------


def test_additions_are_spikes_times_fan_out_on_paper() -> None:
    """IF neurons of threshold 1 under 4 steps of constant current: 1 fires 4 times, 1/2 twice, 1/4 once, 0 never."""
    snn = RateCodedNetwork(TOY, RateCoding(4))
    hidden, output = snn.layers
    with torch.no_grad():
        for parameter in snn.parameters():
            parameter.zero_()
        hidden.weight[:3, 0] = torch.tensor([1.0, 0.5, 0.25])
        output.weight[0, :3] = 1.0
    first, last = snn.operations(torch.tensor([[1.0, 0.0]]))
    assert (first.effective_macs.item(), first.acs.item(), first.spikes.item()) == (256, 0, 7)
    assert (last.effective_macs.item(), last.acs.item()) == (0, 2 * 7)
    assert last.spikes.item() == 4  # it hears at least one of them at every step, and fires at most once
    assert (first.neuron_updates.item(), last.neuron_updates.item()) == (4 * 256, 4 * 2)


def additions_one_by_one(layer: Layer, trains: Tensor) -> int:
    """Synapses that the spikes [T, *input] of one decision reach, found by walking from each spike to each neuron."""
    additions = 0
    for spike in trains.nonzero().tolist():
        if not isinstance(layer, nn.Conv2d):
            additions += layer.out_features
            continue
        _, _, row, column = spike
        size, kernel, stride = trains.shape[2], layer.kernel_size[0], layer.stride[0]
        for top in range(0, size - kernel + 1, stride):
            for left in range(0, size - kernel + 1, stride):
                if top <= row < top + kernel and left <= column < left + kernel:
                    additions += layer.out_channels
    return additions


def test_a_shipped_dsqn_adds_as_often_as_its_spikes_arrive_one_by_one() -> None:
    dsqn = shipped("minatar-breakout-dsqn-s0")
    assert isinstance(dsqn, DSQN)
    states = network_input(opening(dsqn, 12)[::4], MINATAR, dsqn.device)
    counted = dsqn.operations(states)
    for index, state in enumerate(states):
        trains: list[Tensor] = []
        with torch.no_grad():
            dsqn._simulate(state[None], lambda train: trains.append(train[:, 0]))  # noqa: B023
        for layer, train, of_layer in zip(list(dsqn.layers)[1:], trains, counted[1:], strict=True):
            assert of_layer.acs[index] == additions_one_by_one(layer, train) > 0
        image = additions_one_by_one(next(iter(dsqn.layers)), state[None])
        assert counted[0].effective_macs[index] == image > 0
    assert all(layer.binary_input for layer in counted)


def test_spikes_between_convolutions_arrive_at_fewer_neurons_from_the_border() -> None:
    """Nature's kernels and strides, each neuron's spikes times the neurons that a walk finds it to reach."""
    snn = lively(RateCodedNetwork(PONG, RateCoding(3)))
    x = pictures(1, PONG.observation_shape)
    fired = torch_engine.simulate(snn.layers, x, 3).fired
    counted = snn.operations(x)
    for layer, of_neurons, found in zip(list(snn.layers)[1:], fired, counted[1:], strict=False):
        reached = reached_by_hand(layer, tuple(of_neurons.shape[1:]))
        assert found.acs.item() == pytest.approx((of_neurons[0] * reached).sum().item(), rel=1e-4)
        assert found.acs.item() > 0


# Every way of firing -------------------------------------------------------------------------------------

CODINGS = {
    "at once": RateCoding(6),
    "rounded": RateCoding(6, neuron=IFNeuron(v_init=0.5)),
    "signed": RateCoding(6, neuron=IFNeuron("signed", 0.5)),
    "afterwards": RateCoding(6, neuron=IFNeuron("afterwards", 0.5)),
    "afterwards, counted": RateCoding(6, "spikes", IFNeuron("afterwards", 0.5)),
    "current": RateCoding(6, "current"),
    "presteps": RateCoding(6, presteps=3),
    "early": RateCoding(6, stop_gap=0.05),
    "early, signed": RateCoding(6, neuron=IFNeuron("signed"), stop_gap=0.1),
    "delay": RateCoding(6, layer_delay=True),
    "leak": RateCoding(6, neuron=IFNeuron(tau=50.0)),
    "carried": RateCoding(6, residual_alpha=0.5),
}


def converted(coding: RateCoding) -> RateCodedNetwork:
    snn = lively(RateCodedNetwork(MINATAR, coding))
    with torch.no_grad():  # so that neither all nor no neurons fire at every step
        for layer, gain in zip(snn.layers, (0.5, 1.0, 0.3), strict=True):
            layer.weight.mul_(gain)
    assert isinstance(snn, RateCodedNetwork)
    return snn


def spikes_by_layer(counted: list[LayerOperations], layers: int) -> Tensor:
    return torch.stack([layer.spikes for layer in counted[:layers]], 1)


@pytest.mark.parametrize("name", CODINGS)
def test_spikes_of_a_converted_network_are_those_that_deciding_takes(name: str) -> None:
    snn = converted(CODINGS[name])
    x = boards(9)
    activity = snn.decide(x).activity
    counted = snn.operations(x)
    assert activity is not None
    assert spikes_by_layer(counted, len(snn.neuron_counts)).tolist() == activity.spikes.double().tolist()
    assert (activity.spikes[:, :2] > 0).all()
    # Dense layers tell each spike to all of the next one.
    assert counted[1].acs.tolist() == (128 * activity.spikes[:, 0].double()).tolist()
    assert counted[2].acs.tolist() == (6 * activity.spikes[:, 1].double()).tolist()
    assert [layer.binary_input for layer in counted] == [True] * 3
    if snn.coding.stop_gap is not None:
        assert len(activity.sim_steps.unique()) > 1
    if "afterwards" not in name:
        for layer, neurons in zip(counted, (1024, 128, 6), strict=True):
            assert layer.neuron_updates.tolist() == (neurons * activity.sim_steps.double()).tolist()


@torch.no_grad()
def test_a_trace_begins_with_what_the_decision_before_left() -> None:
    snn = converted(CODINGS["carried"])
    carry = snn.decide(boards(9)).carry
    decision = snn.decide(boards(9), carry)
    assert decision.activity is not None
    fired = [trace.fired for trace in snn.trace(boards(9), carry)]
    counted = torch.stack([each.flatten(1).sum(1) for each in fired if each is not None], 1)
    assert torch.equal(counted, decision.activity.spikes)
    at_rest = snn.decide(boards(9)).activity
    assert at_rest is not None
    assert not torch.equal(counted, at_rest.spikes)


def test_neurons_that_fire_afterwards_listen_first() -> None:
    for name, output_steps in (("afterwards", 6), ("afterwards, counted", 12)):
        counted = converted(CODINGS[name]).operations(boards(1))
        updates = [layer.neuron_updates.item() for layer in counted]
        assert updates == [6 * 1024, 12 * 128, output_steps * 6]


def test_an_output_that_does_not_fire_spends_no_spikes_but_lives() -> None:
    output = converted(CODINGS["current"]).operations(boards(2))[-1]
    assert output.spikes.tolist() == [0, 0]
    assert output.neuron_updates.tolist() == [36, 36]


def test_spikes_taken_back_are_additions_too() -> None:
    """A neuron that hears +1 then, from a slower one, -1 fires once and takes it back."""
    snn = RateCodedNetwork(TOY, RateCoding(4, neuron=IFNeuron("signed")))
    hidden, output = snn.layers
    with torch.no_grad():
        for parameter in snn.parameters():
            parameter.zero_()
        hidden.weight[0, 0], hidden.weight[1, 0] = 1.0, 0.5
        # The first fires at every step, the second at steps 2 and 4: +1, -2, +1, -2.
        output.weight[0, 0], output.weight[0, 1] = 1.0, -3.0
    _, last = snn.operations(torch.tensor([[1.0, 0.0]]))
    # Membrane 1: fires, 0; -2: takes back, -1; 0; -2, but nothing is left to take back.
    assert last.spikes.item() == 2
    assert last.acs.item() == 2 * (4 + 2)


def test_the_two_engines_fire_the_same_neurons() -> None:
    for firing in ("at-once", "signed", "afterwards"):
        snn = converted(RateCoding(8, neuron=IFNeuron(firing, 0.5)))
        with torch.no_grad():  # sums that no order of additions changes
            for parameter in snn.parameters():
                parameter.copy_((64 * parameter).round() / 64)
        reference = torch_engine.simulate(snn.layers, boards(5), 8, snn.coding.neuron)
        traces = snn.trace(boards(5))
        for fired, trace in zip(reference.fired, traces, strict=True):
            assert trace.fired is not None
            assert torch.equal(trace.fired, fired)
            assert fired.sum() > 0


@pytest.mark.parametrize("readout", READOUTS)
def test_every_readout_of_a_dsqn_hears_the_spikes_of_deciding(readout: Any) -> None:
    dsqn = lively(DSQN(MINATAR, Spiking(LIF(), 5, READOUTS[readout]())), gain=8.0)
    x = boards(4)
    activity = dsqn.decide(x).activity
    counted = dsqn.operations(x)
    assert activity is not None
    assert spikes_by_layer(counted, activity.spikes.shape[1]).tolist() == activity.spikes.double().tolist()
    *_, output = counted
    assert output.acs.tolist() == (6 * activity.spikes[:, 1].double()).tolist()
    assert output.acs.min() > 0
    assert output.effective_macs.tolist() == [0] * 4
    assert output.neuron_updates.tolist() == [0 if readout == "rate" else 5 * 6] * 4
    assert bool((output.spikes > 0).any()) == (readout == "spike-rate")


# SpikingJelly's counters ---------------------------------------------------------------------------------


def spikingjelly_counts(run: Any) -> tuple[int, int]:
    """Multiplications and synaptic additions of what a function computes, as SpikingJelly counts them: of products
    in which one factor is 0 and 1 throughout, additions, of all others, multiplications."""
    macs, additions = MACCounter(), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([macs, additions]):
        run()
    return macs.get_total(), additions.get_total()


def total(operations: list[Tensor]) -> float:
    return torch.stack(operations).sum().item()


def test_spikingjelly_counts_the_same_multiplications_of_a_dqn() -> None:
    dqn = shipped("pong-dqn-s0")
    x = pictures(3, PONG.observation_shape)
    macs, additions = spikingjelly_counts(lambda: dqn(x))
    assert macs == 3 * sum(layer.dense_macs for layer in dqn.operations(x))
    assert additions == 0


def test_spikingjelly_counts_the_same_operations_of_a_dsqn() -> None:
    dsqn = lively(DSQN(PONG, Spiking(LIF(), 3, READOUTS["spike-rate"]())), gain=8.0)
    x = pictures(2, PONG.observation_shape)
    counted = dsqn.operations(x)
    macs, additions = spikingjelly_counts(lambda: dsqn(x))
    assert macs == 2 * counted[0].dense_macs  # the image's currents; all else adds
    assert additions == total([layer.acs for layer in counted]) > 1e6


def test_spikingjelly_counts_the_same_additions_of_a_shipped_dsqn() -> None:
    dsqn = shipped("minatar-breakout-dsqn-s0")
    x = network_input(opening(dsqn, 20), MINATAR, dsqn.device)
    counted = dsqn.operations(x)
    _, additions = spikingjelly_counts(lambda: dsqn(x))
    # The board is 0 and 1, so its layer adds too.
    assert additions == total([counted[0].effective_macs] + [layer.acs for layer in counted])


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_spikingjelly_counts_the_same_operations_of_a_converted_network(padding: Any) -> None:
    snn = lively(RateCodedNetwork(PONG, RateCoding(3), padding=padding), gain=1.2)
    x = pictures(2, PONG.observation_shape)
    counted = snn.operations(x)
    macs, additions = spikingjelly_counts(lambda: torch_engine.simulate(snn.layers, x, 3))
    assert additions == pytest.approx(total([layer.acs for layer in counted]), rel=1e-4)
    assert additions > 1e6
    # It multiplies by the zeros around the image too, where we wire nothing.
    positions = 20 * 20 if padding == "valid" else 21 * 21
    assert macs == 2 * 32 * positions * 4 * 8 * 8
    assert counted[0].dense_macs == (3276800 if padding == "valid" else 32 * 4 * (8 * 21 - 4) ** 2)


# Rows ----------------------------------------------------------------------------------------------------

PROVENANCE = {
    **{"train_seed": 3, "train_steps": 1000, "recipe_steps": 5000},
    **{"recipe": "minatar", "network": "relu", "scores_are_q_values": True},
}


def test_rows_are_means_over_states_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    snn = converted(CODINGS["early"])
    states = boards(11).numpy().astype(np.uint8)
    counted = snn.operations(boards(11))
    activity = snn.decide(boards(11)).activity
    assert activity is not None
    monkeypatch.setattr("evaluate.operations.batches", partial(batches, size=4))
    rows = operations_rows(Checkpoint(snn, PROVENANCE, "abc"), states, eval_seed=7)
    assert [row.layer for row in rows] == [0, 1, 2]
    for row, layer in zip(rows, counted, strict=True):
        assert (row.game, row.agent, row.checkpoint_id) == ("minatar/breakout", "rate-coded", "abc")
        assert (row.train_seed, row.train_steps, row.recipe, row.network) == (3, 1000, "minatar", "relu")
        assert (row.eval_seed, row.num_states) == (7, 11)
        assert row.sim_steps == activity.sim_steps.max()
        assert row.mean_sim_steps == pytest.approx(activity.sim_steps.mean().item())
        assert row.acs == pytest.approx(layer.acs.mean().item())
        assert row.effective_macs == pytest.approx(layer.effective_macs.mean().item())
        assert row.spikes == pytest.approx(layer.spikes.mean().item())
        assert row.neuron_updates == pytest.approx(layer.neuron_updates.mean().item())
        assert row.dense_macs == layer.dense_macs
        assert row.num_neurons == math.prod(snn.layer_shapes[row.layer])
    assert rows[0].mean_sim_steps < rows[0].sim_steps


def test_a_dqn_has_no_time() -> None:
    rows = operations_rows(
        Checkpoint(shipped("minatar-breakout-dqn-s0"), PROVENANCE, ""), boards(2).numpy(), 0
    )
    assert {(row.sim_steps, row.mean_sim_steps, row.neuron_updates, row.spikes, row.acs) for row in rows} == {
        (0, 0.0, 0.0, 0.0, 0.0)
    }


def test_what_has_nothing_to_count_is_refused() -> None:
    with pytest.raises(Refusal, match="'random' has no layers to count"):
        RandomPlay(MINATAR).operations(boards(1))
    with pytest.raises(Refusal, match="number of states is 0"):
        operations_rows(Checkpoint(DQN(MINATAR), PROVENANCE, ""), boards(0).numpy(), 0)
