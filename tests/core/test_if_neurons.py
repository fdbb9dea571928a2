"""The neurons of converted networks beyond Tan's, against each one written out for a single neuron."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.errors import Refusal
from core.games import GAMES
from core.layers import Layers
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron, Simulation, simulate

FillDyadic = Callable[[Layers, int], None]
DyadicInputs = Callable[[tuple[int, ...], int], Tensor]

GAME = GAMES["minatar/breakout"]
SIGNED = IFNeuron("signed", 0.5)
AFTERWARDS = IFNeuron("afterwards", 0.5)


def make(fill_dyadic: FillDyadic, coding: RateCoding, seed: int = 0) -> RateCodedNetwork:
    snn = RateCodedNetwork(GAME, coding)
    fill_dyadic(snn.layers, seed)
    return snn


def trains_of(layers: Layers, x: Tensor, sim_steps: int, neuron: IFNeuron) -> list[Tensor]:
    """Spike trains [T, B, ...] of all layers, each neuron looked at in pure Python."""
    arriving = [x] * sim_steps
    trains = []
    for layer in layers:
        currents = torch.stack([layer(one.flatten(1) if layer.weight.ndim == 2 else one) for one in arriving])
        flat = currents.flatten(1).T.tolist()  # a list of T currents for each neuron
        fired = torch.tensor([one_neuron(each, neuron) for each in flat]).T.reshape(currents.shape)
        trains.append(fired)
        arriving = list(fired)
    return trains


def one_neuron(currents: Sequence[float], neuron: IFNeuron) -> list[float]:
    """What a neuron fires as its currents arrive."""
    v, count, fired = neuron.v_init, 0, []
    for current in currents:
        v = v * (math.exp(-1 / neuron.tau) if neuron.tau else 1.0) + current
        spike = 1 if v >= 1 else -1 if neuron.firing == "signed" and v < 0 and count > 0 else 0
        v -= spike
        count += spike
        fired.append(float(spike))
    return fired


@torch.no_grad()
@pytest.mark.parametrize("neuron", [SIGNED, IFNeuron("signed"), IFNeuron(v_init=0.25)])
def test_every_neuron_fires_as_written_out(
    neuron: IFNeuron, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    snn = make(fill_dyadic, RateCoding(20, neuron=neuron))
    x = dyadic_inputs((2, *GAME.observation_shape), 1)
    expected = trains_of(snn.layers, x, 20, neuron)
    given = simulate(snn.layers, x, 20, neuron, record_at=(3, 11, 20))
    for index, train in enumerate(expected):
        for position, step in enumerate((3, 11, 20)):
            assert torch.equal(given.layer_counts[index][position], train[:step].sum(0))
            assert torch.equal(given.spikes[position, :, index], train[:step].abs().sum(0).flatten(1).sum(1))
    if neuron.firing == "signed":
        assert any(bool((train < 0).any()) for train in expected)  # or nothing was shown


@torch.no_grad()
def test_a_leak_shrinks_membranes(fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs) -> None:
    neuron = IFNeuron(tau=5.0)
    snn = make(fill_dyadic, RateCoding(16, neuron=neuron))
    x = dyadic_inputs((2, *GAME.observation_shape), 1)
    leaking = simulate(snn.layers, x, 16, neuron)
    # Leaky membranes are no dyadic numbers: the first layer, which hears no rounded neighbours, can be compared.
    (first, *_) = trains_of(snn.layers, x, 16, neuron)
    differing = (leaking.layer_counts[0][0] != first.sum(0)).float().mean()
    assert differing < 0.001
    assert leaking.spikes[0].sum() < simulate(snn.layers, x, 16).spikes[0].sum()


def test_an_if_neuron_follows_the_largest_whole_charge_one_spike_a_step() -> None:
    """N_t = max(N_{t-1}, min(N_{t-1} + 1, floor(C_t))) for the charge C_t received so far."""
    generator = torch.Generator().manual_seed(0)
    currents = (torch.randint(-96, 129, (200, 60), generator=generator) / 64).tolist()
    for arriving in currents:
        count, charge = 0, 0.0
        for current, spike in zip(arriving, one_neuron(arriving, IFNeuron()), strict=True):
            charge += current
            before, count = count, count + int(spike)
            assert count == max(before, min(before + 1, math.floor(charge)))


# Afterwards: one layer after the other ----------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("sim_steps", [1, 4, 6, 150])
def test_neurons_that_fire_afterwards_count_what_the_charge_says(
    sim_steps: int, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    """N_l = clip(floor(sum W N + T b + v_init), 0, T), whatever the order in which spikes arrive."""
    snn = make(fill_dyadic, RateCoding(sim_steps, neuron=AFTERWARDS))
    x = dyadic_inputs((3, *GAME.observation_shape), 1)
    given = simulate(snn.layers, x, sim_steps, AFTERWARDS)
    heard = sim_steps * x
    for layer, counts in zip(snn.layers, given.layer_counts, strict=True):
        assert layer.bias is not None
        flat = heard.flatten(1) if layer.weight.ndim == 2 else heard
        shape = (1, -1, *[1] * (flat.ndim - 2))
        charge = layer(flat) + ((sim_steps - 1) * layer.bias).reshape(shape)
        heard = (charge + 0.5).floor().clamp(0, sim_steps)
        assert torch.equal(counts[0], heard)
    assert (given.spikes[0] > 0).all()
    torch.testing.assert_close(given.counts[0] + given.residuals[0] - 0.5, charge, rtol=0, atol=0)


def test_a_quantised_dqn_is_the_network_without_time(
    fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    snn = make(fill_dyadic, RateCoding(8, neuron=AFTERWARDS))
    snn.output_scale.fill_(3.0)
    x = dyadic_inputs((5, *GAME.observation_shape), 2)
    assert torch.equal(snn(x), snn.quantised()(x))


def test_latency_counts_the_layers_that_wait(fill_dyadic: FillDyadic) -> None:
    assert make(fill_dyadic, RateCoding(8)).latency_sim_steps == 8
    assert make(fill_dyadic, RateCoding(8, presteps=4)).latency_sim_steps == 12
    assert make(fill_dyadic, RateCoding(8, neuron=AFTERWARDS)).latency_sim_steps == 16  # two hidden layers
    assert make(fill_dyadic, RateCoding(8, "spikes", AFTERWARDS)).latency_sim_steps == 24


# Presteps, residuals, early stop ----------------------------------------------------------------------


@torch.no_grad()
def test_presteps_silence_whom_they_find_below_zero(
    fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    coding = RateCoding(12, presteps=5)
    snn = make(fill_dyadic, coding)
    x = dyadic_inputs((3, *GAME.observation_shape), 1)
    before = simulate(snn.layers, x, 5)
    silent = [v < 0 for v in before.membranes[:-1]]
    assert any(
        bool((quiet & (count[0] > 0)).any())
        for quiet, count in zip(silent, before.layer_counts, strict=False)
    )
    after = simulate(snn.layers, x, 12, silent=[*silent, torch.zeros(3, 6, dtype=torch.bool)])
    for quiet, count in zip(silent, after.layer_counts, strict=False):
        assert bool((count[0][quiet] == 0).all())
    decision = snn.decide(x)
    assert torch.equal(decision.scores, (after.counts + after.residuals)[0] / 12)
    assert decision.activity is not None
    assert torch.equal(decision.activity.spikes, before.spikes[0] + after.spikes[0])
    assert decision.activity.sim_steps.tolist() == [17.0] * 3


@torch.no_grad()
def test_residuals_are_what_a_decision_leaves_to_the_next(
    fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    """u_{k+1}(0) = v_init + alpha (u_k(T) - v_init)."""
    neuron = IFNeuron(v_init=0.5)
    snn = make(fill_dyadic, RateCoding(4, neuron=neuron, residual_alpha=0.5))
    x, y = (dyadic_inputs((3, *GAME.observation_shape), seed) for seed in (1, 2))
    first = simulate(snn.layers, x, 4, neuron)
    starts = [0.5 + 0.5 * (v - 0.5) for v in first.membranes]
    starts[-1] = torch.full_like(starts[-1], 0.5)  # the robust read-out leaves nothing
    second = simulate(snn.layers, y, 4, neuron, starts=starts)
    left = snn.decide(x).carry
    assert left is not None
    assert torch.equal(snn.decide(y, left).scores, read(second))
    assert not torch.equal(read(second), snn(y))
    nothing = tuple(torch.zeros_like(each) for each in left)
    assert torch.equal(snn.decide(y, nothing).scores, snn(y))  # zero rows are an episode's start


def read(simulation: Simulation) -> Tensor:
    return (simulation.counts + simulation.residuals - 0.5)[0] / 4


@torch.no_grad()
def test_a_decision_ends_when_the_best_action_stands_out(
    fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    patient = make(fill_dyadic, RateCoding(16))
    x = dyadic_inputs((40, *GAME.observation_shape), 1)
    q = patient.scores_over_time(x, range(1, 17))["robust"]
    gaps = q.sort(2).values.diff(dim=2)[:, :, -1]  # [T, B]
    bound = gaps[7].median().item()
    hasty = make(fill_dyadic, replace(patient.coding, stop_gap=bound))
    decision = hasty.decide(x)
    assert decision.activity is not None
    for row in range(40):
        reached = [step for step in range(16) if gaps[step, row] >= bound]
        step = reached[0] if reached else 15
        assert decision.activity.sim_steps[row] == step + 1
        assert torch.equal(decision.scores[row], q[step, row])
        spikes = simulate(patient.layers, x[row : row + 1], step + 1).spikes[0, 0]
        assert torch.equal(decision.activity.spikes[row], spikes)
    assert len(set(decision.activity.sim_steps.tolist())) > 3


@torch.no_grad()
def test_the_current_read_out_is_the_charge_of_an_output_that_does_not_fire(
    fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    neuron = IFNeuron(v_init=0.5)
    robust, current = (make(fill_dyadic, RateCoding(11, name, neuron)) for name in ("robust", "current"))
    x = dyadic_inputs((3, *GAME.observation_shape), 1)
    *_, last_hidden, _ = trains_of(robust.layers, x, 11, neuron)
    *_, output = robust.layers
    charge = torch.stack([output(spikes) for spikes in last_hidden]).mean(0)
    assert torch.equal(robust(x), charge)
    assert torch.equal(current(x), charge)
    fired = [agent.decide(x).activity for agent in (robust, current)]
    assert fired[0] is not None
    assert fired[1] is not None
    assert torch.equal(fired[0].spikes[:, :2], fired[1].spikes)
    assert current.neuron_counts == robust.neuron_counts[:2]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"presteps": -1}, "presteps is -1"),
        ({"residual_alpha": 1.5}, "residual_alpha is 1.5"),
        ({"stop_gap": math.nan}, "stop_gap is nan"),
        ({"neuron": IFNeuron(tau=9.0), "readout": "current"}, "'current' goes with no tau"),
        ({"stop_gap": 0.1, "residual_alpha": 0.1}, "stop_gap goes with no residual_alpha"),
        ({"neuron": AFTERWARDS, "presteps": 2}, "afterwards go with no"),
        ({"neuron": AFTERWARDS, "stop_gap": 0.1}, "afterwards go with no"),
    ],
)
def test_what_no_network_can_do_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        RateCoding(8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"firing": "later"}, "firing 'later'"),
        ({"v_init": 1.0}, "v_init is 1.0"),
        ({"tau": 0.0}, "tau is 0.0"),
    ],
)
def test_what_no_neuron_can_be_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        IFNeuron(**options)  # type: ignore[arg-type]
