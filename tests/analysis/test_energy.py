"""Energy accounts by hand, on the network of the papers and on rows made up for the purpose."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from analysis.energy import (
    AC_PICOJOULES,
    ACCOUNTS,
    MAC_PICOJOULES,
    by_agent,
    dqn_of,
    energy_table,
    firing_rate,
    memory_verdict,
    microjoules,
    verdict,
    window_sim_steps,
)
from core.errors import Refusal
from core.rows import OperationsRow

NATURE_MACS = (3276800, 2654208, 1806336, 1605632, 2048)
"""At 4 actions, 9.345 M in all."""
NATURE_NEURONS = (12800, 5184, 3136, 512, 4)


def row(**changes: object) -> OperationsRow:
    made = OperationsRow(
        game="breakout",
        agent="dqn",
        checkpoint_id="dqn",
        train_seed=0,
        train_steps=1000,
        network="relu",
        recipe="atari-fast",
        eval_seed=0,
        num_states=10,
        sim_steps=0,
        mean_sim_steps=0.0,
        layer=0,
        num_neurons=4,
        binary_input=False,
        dense_macs=0.0,
        effective_macs=0.0,
        acs=0.0,
        neuron_updates=0.0,
        spikes=0.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def nature(density: float = 1.0, **changes: object) -> list[OperationsRow]:
    """A DQN whose activations are not zero in a share of all places; its image is zero nowhere."""
    return [
        row(
            layer=index,
            num_neurons=NATURE_NEURONS[index],
            dense_macs=float(macs),
            effective_macs=macs * (density if index else 1.0),
            **changes,
        )
        for index, macs in enumerate(NATURE_MACS)
    ]


def spiking(sim_steps: int, rate: float, **changes: object) -> list[OperationsRow]:
    """The same network with spikes, of which every neuron fires a share of all simulation steps."""
    named = {"agent": "dsqn", "checkpoint_id": "dsqn", "network": "chen2022", **changes}
    return [
        row(
            sim_steps=sim_steps,
            mean_sim_steps=float(sim_steps),
            layer=index,
            num_neurons=NATURE_NEURONS[index],
            dense_macs=float(macs),
            binary_input=index > 0,
            effective_macs=0.0 if index else float(macs),
            acs=macs * rate * sim_steps if index else 0.0,
            neuron_updates=float(NATURE_NEURONS[index] * sim_steps),
            spikes=NATURE_NEURONS[index] * rate * sim_steps,
            **named,
        )
        for index, macs in enumerate(NATURE_MACS)
    ]


def test_a_dense_nature_dqn_costs_43_microjoules() -> None:
    energy = microjoules(nature())
    assert sum(NATURE_MACS) == 9345024
    assert energy.first_layer_once == pytest.approx(42.99, abs=0.005)
    assert energy.first_layer_every_sim_step == energy.first_layer_once == energy.effective
    # 3.2768 M of the image and half of 6.068224 M: 6.310912 M at 4.6 pJ.
    assert microjoules(nature(density=0.5)).effective == pytest.approx(29.0301952)


def test_with_a_first_layer_that_multiplies_once_no_spiking_network_saves_more_than_2_85_times() -> None:
    silent = microjoules(spiking(4, rate=0.0))
    assert silent.first_layer_once == pytest.approx(15.07328)
    assert microjoules(nature()).first_layer_once / silent.first_layer_once == pytest.approx(2.852, abs=5e-4)
    assert (
        verdict(silent.first_layer_once, microjoules(nature()).first_layer_once) == "costs 1/2.85 of its DQN"
    )


def test_with_a_first_layer_at_every_sim_step_it_loses_from_the_third() -> None:
    of_dqn = microjoules(nature()).first_layer_every_sim_step
    costs = [microjoules(spiking(steps, 0.0)).first_layer_every_sim_step for steps in (1, 2, 3)]
    assert costs == pytest.approx([15.07328, 30.14656, 45.21984])
    assert [cost > of_dqn for cost in costs] == [False, False, True]
    assert verdict(costs[2], of_dqn) == "costs more than its DQN: 1.05 times as much"


def test_the_rest_breaks_even_at_5_11_spikes_a_synapse() -> None:
    of_dqn = microjoules(nature()).first_layer_once
    even = 4.6 / 0.9
    assert even == pytest.approx(5.11, abs=0.002)
    assert microjoules(spiking(10, even / 10)).first_layer_once == pytest.approx(of_dqn)
    assert (
        microjoules(spiking(10, 0.52)).first_layer_once
        > of_dqn
        > microjoules(spiking(10, 0.5)).first_layer_once
    )
    assert verdict(of_dqn, of_dqn) == "costs as much as its DQN"


def test_a_binary_image_is_added_and_its_ceiling_does_not_hold() -> None:
    layers = spiking(4, 0.1)
    layers[0] = replace(layers[0], binary_input=True, effective_macs=100_000.0)
    spikes = 0.9 * 0.4 * 6.068224
    energy = microjoules(layers)
    assert energy.first_layer_once == pytest.approx(0.09 + spikes)
    assert energy.first_layer_every_sim_step == pytest.approx(4 * 0.09 + spikes)
    assert energy.effective == pytest.approx(energy.first_layer_once)
    dqn = nature(density=0.5)
    dqn[0] = replace(dqn[0], binary_input=True, effective_macs=100_000.0)
    # The DQN profits where both may skip, and only there.
    assert microjoules(dqn).effective == pytest.approx(0.09 + 4.6 * 3.034112)
    assert microjoules(dqn).first_layer_once == microjoules(nature()).first_layer_once


def test_what_is_zero_in_a_grey_image_is_skipped_in_one_account_only() -> None:
    layers = spiking(4, 0.0)
    layers[0] = replace(layers[0], effective_macs=1_000_000.0)
    assert microjoules(layers) == pytest.approx((15.07328, 60.29312, 4.6))


def test_the_window_is_what_a_neuron_may_fire_in_whatever_a_decision_takes() -> None:
    """Neurons that fire afterwards: two layers of 4 steps each take 8, and a membrane is stepped in up to 8."""
    layers = [
        row(agent="rate-coded", sim_steps=8, num_neurons=10, neuron_updates=40.0, spikes=8.0),
        row(agent="rate-coded", sim_steps=8, num_neurons=5, neuron_updates=40.0, spikes=4.0, layer=1),
        row(agent="rate-coded", sim_steps=8, num_neurons=3, layer=2),  # no neurons: only read
    ]
    assert window_sim_steps(layers) == 4
    assert firing_rate(layers) == 12 / (15 * 4)


def test_later_layers_whose_inputs_are_no_spikes_multiply() -> None:
    """As behind a pooling of means; and a network that spikes behind a stem without membranes has a window."""
    layers = spiking(4, 0.1)
    analogue = replace(layers[2], acs=0.0, effective_macs=1000.0, binary_input=False)
    pooled = [*layers[:2], analogue, *layers[3:]]
    more = MAC_PICOJOULES * layers[2].dense_macs - AC_PICOJOULES * layers[2].acs
    for account in range(2):
        assert microjoules(pooled)[account] == pytest.approx(microjoules(layers)[account] + 1e-6 * more)
    stem = [replace(layers[0], neuron_updates=0.0), *layers[1:]]
    assert window_sim_steps(stem) == 4
    assert firing_rate([replace(layer, neuron_updates=0.0) for layer in layers]) == 0


def test_a_last_layer_that_only_integrates_is_no_place_to_fire() -> None:
    layers = [
        row(agent="dsqn", sim_steps=4, num_neurons=10, neuron_updates=40.0, spikes=8.0),
        row(agent="dsqn", sim_steps=4, num_neurons=6, neuron_updates=24.0, layer=1),
    ]
    assert firing_rate(layers) == 8 / (10 * 4)
    assert firing_rate([layers[0], replace(layers[1], spikes=4.0)]) == 12 / (16 * 4)


@pytest.mark.parametrize(
    ("sim_steps", "rate", "found"),
    [
        (4, 0.01, "no bound is known below 5 sim steps"),
        (5, 0.056, "may win against a 3-bit network: rate 5.6 %"),
        (7, 0.058, "loses to a 3-bit network: rate 5.8 %"),
        (8, 0.2, "loses to a 4-bit network: rate 20.0 %"),
        (10, 0.01, "may win against a 4-bit network: rate 1.0 %"),
        (64, 0.01, "no bound is known above 10 sim steps at rate 1.0 %"),
        (64, 0.1, "loses to a 7-bit network: rate 10.0 %"),
    ],
)
def test_the_published_bound_is_read_where_it_holds(sim_steps: int, rate: float, found: str) -> None:
    assert memory_verdict(spiking(sim_steps, rate)) == found


def test_an_agent_meets_the_dqn_of_its_game_and_seed() -> None:
    dqns: list[Sequence[OperationsRow]] = [
        nature(checkpoint_id=name, train_seed=seed, train_steps=steps, game=game)
        for name, seed, steps, game in [
            ("best", 0, 700, "breakout"), ("final", 0, 1000, "breakout"),
            ("other", 1, 9000, "breakout"), ("elsewhere", 0, 700, "pong"),
        ]
    ]  # fmt: skip
    for train_steps, found in ((700, "best"), (1000, "final"), (600, "final")):
        dqn = dqn_of(spiking(4, 0.1, train_steps=train_steps), dqns)
        assert dqn is not None
        assert dqn[0].checkpoint_id == found
    assert dqn_of(spiking(4, 0.1, train_seed=2), dqns) is None
    text = energy_table([*spiking(4, 0.1, train_seed=2), *dqns[0]])
    assert text.count("no DQN with this recipe and seed") == 3
    assert dqn_of(spiking(4, 0.1, recipe="atari"), dqns) is None
    changed = dqn_of(spiking(4, 0.1, recipe="atari-fast+cmc=True"), dqns)
    assert changed is not None
    assert changed[0].checkpoint_id == "final"


def test_the_table_says_plainly_who_loses() -> None:
    twin = [replace(each, agent="quantised", checkpoint_id="twin") for each in nature(density=0.5)]
    text = energy_table([*spiking(8, 0.3), *twin, *nature()])
    header, _, dqn, quantised, dsqn, blank, *notes = text.splitlines()
    for letter, (name, assumed), note in zip("abcd", ACCOUNTS.items(), notes[1:], strict=True):
        assert f"({letter}) {name}" in header
        assert note == f"({letter}) {name}: {assumed}."
    assert blank == ""
    assert "4.6 pJ" in notes[0]
    assert notes[0].endswith("Quantised networks are priced in float32 too, not at their own bit width.")
    assert "quantised network is priced" not in energy_table(nature())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (dqn, quantised, dsqn)]
    assert cells[0][4:] == ["", "", "", "43 µJ", "43 µJ", "43 µJ", ""]
    assert cells[1][7:10] == ["43 µJ, costs as much as its DQN"] * 2 + ["29 µJ, costs 1/1.48 of its DQN"]
    # 21,636 neurons at 2.4 spikes; 15.07 + 0.9 * 2.4 * 6.068 and 8 * 15.07 + 13.11 microjoules.
    assert cells[2][4:8] == ["8", "51,926", "30.0 %", "28.2 µJ, costs 1/1.53 of its DQN"]
    assert cells[2][8] == "134 µJ, costs more than its DQN: 3.11 times as much"
    assert cells[2][10] == "loses to a 4-bit network: rate 30.0 %"


def test_rows_of_a_layer_twice_or_never_are_refused() -> None:
    with pytest.raises(
        Refusal, match=r"dqn on breakout have layers \[0, 1, 2, 3, 4, 4\]: each layer is needed once"
    ):
        by_agent([*nature(), nature()[-1]])
    with pytest.raises(Refusal, match=r"layers \[1, 2, 3, 4\]"):
        by_agent(nature()[1:])
    with pytest.raises(Refusal, match="more than one number of sim steps of dsqn"):
        by_agent([*spiking(4, 0.1)[:2], *spiking(8, 0.1)[2:]])
