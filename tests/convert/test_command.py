"""`convert run`: what it writes is what an independent count of the same states says."""

from pathlib import Path

import numpy as np
import pytest
import torch

import convert.run as stage
from convert.method import METHODS, Training
from convert.methods.pursuit import Pursuit
from convert.options import CodingOptions
from core import memory
from core.checkpoint import load_agent
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import read_rows
from core.rows import ConversionRow
from play.states import batches, collect
from tests.conftest import AGENTS, Command
from tests.convert.conftest import GAME, make_dqn
from tests.test_refusals import is_refused


def test_agreement_is_counted_on_the_held_out_states(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: dict[str, np.ndarray] = {}

    def collecting(agent: DQN, num_states: int, seed: int, stream: str, **apart: np.ndarray) -> np.ndarray:
        collected[stream] = collect(agent, num_states, seed, stream, **apart)  # type: ignore[arg-type]
        return collected[stream]

    monkeypatch.setattr(stage, "collect", collecting)
    options = ("--sim-steps", 6, "--calibration-states", 100, "--test-states", 80, "--bindsnet-states", 5)
    out = tmp_path / "snn" / "agent.safetensors"
    finished = command("convert", "run", "--agent", checkpoint, "--out", out, *options)
    assert finished.code == 0, finished.err
    assert {stream: len(states) for stream, states in collected.items()} == {
        "calibration": 100,
        "conversion test": 80,
    }
    met = {state.tobytes() for state in collected["calibration"]}
    assert not any(state.tobytes() in met for state in collected["conversion test"])
    snn, dqn = load_agent(out).agent, make_dqn(0)
    assert isinstance(snn, RateCodedNetwork)
    rows = read_rows(out.with_suffix(".conversion.parquet"), ConversionRow)
    held_out = torch.as_tensor(collected["conversion test"]).float()
    wanted = dqn(held_out).argmax(1)
    assert {(row.readout, row.sim_steps) for row in rows if row.reference == "dqn"} == {
        (readout, steps) for readout in ("robust", "spikes") for steps in (1, 2, 4, 6)
    }
    for row in rows:
        if row.reference == "dqn":
            simulated = RateCodedNetwork(GAME, RateCoding(row.sim_steps, row.readout))  # type: ignore[arg-type]
            simulated.load_state_dict(snn.state_dict())
            assert row.agreement == pytest.approx(
                (simulated(held_out).argmax(1) == wanted).float().mean().item()
            )
            assert row.num_states == 80
            assert row.majority_share == pytest.approx(wanted.bincount().max().item() / 80)
    # A converted network that agreed everywhere after one step would have shown nothing.
    assert min(row.agreement for row in rows) < 1
    assert {row.train_seed for row in rows} == {5}


def test_agreement_of_another_network_is_low() -> None:
    """Not a tautology: the network of another DQN disagrees, and so does BindsNET's simulation of another network."""
    states = collect(make_dqn(0), 60, 0, "test")
    dqn = make_dqn(0)
    own, other = (RateCodedNetwork(GAME, RateCoding(64)) for _ in range(2))
    own.load_state_dict({**make_dqn(0).state_dict(), "output_scale": torch.ones(())})
    other.load_state_dict({**make_dqn(1).state_dict(), "output_scale": torch.ones(())})
    assert stage.agreements(dqn, own, states)["robust", 64] > 0.8
    assert stage.agreements(dqn, other, states)["robust", 64] < 0.6


def test_agreement_of_decisions_that_stop_early_is_that_of_what_they_choose() -> None:
    """At a gap of 0 that is after one simulation step."""
    dqn = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    states = collect(dqn, 60, 0, "test")
    snn = METHODS["tan2021"]().convert(dqn, states, RateCoding(64, stop_gap=0.0), Training()).snn
    whole = stage.agreements(dqn, snn.varied(stop_gap=None), states)
    assert stage.agreements(dqn, snn, states) == {("robust", 64): whole["robust", 1]}
    assert whole["robust", 1] != whole["robust", 64]


def test_neurons_that_do_not_leak_have_no_time_constant() -> None:
    with pytest.raises(Refusal, match=r"tau is 5.0: neurons of --node if do not leak"):
        CodingOptions(tau=5.0).coding(8, METHODS["tan2021"]())
    assert CodingOptions(tau=5.0, node="lif").coding(8, METHODS["tan2021"]()).neuron.tau == 5.0


def test_states_are_drawn_from_whole_episodes() -> None:
    """All of an episode is as likely as its opening; equal seeds draw equal states, other streams others."""
    dqn = make_dqn(0)
    states = collect(dqn, 50, 0, "calibration")
    assert states.shape == (50, *GAME.observation_shape)
    assert np.array_equal(states, collect(dqn, 50, 0, "calibration"))
    assert not np.array_equal(states, collect(dqn, 50, 0, "conversion test"))
    apart = collect(dqn, 50, 0, "calibration", apart_from=states)
    assert not {state.tobytes() for state in apart} & {state.tobytes() for state in states}
    everything = collect(dqn, 400, 0, "calibration")
    # Breakout's ball is in row 3 at a start; on the way down it is lower.
    rows = {int(row) for state in everything for row in np.flatnonzero(state[1].any(1))}
    assert len(rows) > 5
    assert len(next(iter(batches(dqn, states, size=64)))) == 50


@pytest.mark.parametrize(
    ("options", "v_init", "thresholds"),
    [
        (("--method", "threshold-search"), 0.5, [16, 128, 1]),
        (("--method", "threshold-search", "--thresholds", "layer", "--v-init", 0.25), 0.25, [1, 1, 1]),
        (("--method", "max"), 0.0, None),
    ],
)
def test_methods_are_what_the_network_says_it_was_made_by(
    command: Command,
    checkpoint: Path,
    tmp_path: Path,
    options: tuple[str | float, ...],
    v_init: float,
    thresholds: list[int] | None,
) -> None:
    out = tmp_path / "snn.safetensors"
    few = ("--sim-steps", 4, "--calibration-states", 60, "--test-states", 40, "--bindsnet-states", 5)
    finished = command("convert", "run", "--agent", checkpoint, "--out", out, *options, *few)
    assert finished.code == 0, finished.err
    made = load_agent(out)
    assert isinstance(made.agent, RateCodedNetwork)
    assert made.agent.coding.neuron.v_init == v_init
    scales = made.provenance["conversion"]["scales"]
    if thresholds is None:  # the largest output of each layer
        states = collect(make_dqn(0), 60, 0, "calibration")
        outputs = make_dqn(0).preactivations(next(batches(make_dqn(0), states)))
        assert scales == pytest.approx([float(output.max()) for output in outputs], rel=1e-5)
    else:
        assert [np.size(scale) for scale in scales] == thresholds
    bindsnet = [
        row
        for row in read_rows(out.with_suffix(".conversion.parquet"), ConversionRow)
        if row.reference == "bindsnet"
    ]
    assert {row.agreement for row in bindsnet} == {1.0}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "reconstruct"),
        (("--residual-alpha", 0.05), "residual"),
        (("--residual-alpha", 0.2), "reconstruct+residual_alpha=0.2"),
        (("--firing", "afterwards"), "afterwards"),
        (("--v-init", 0.25, "--layer-delay"), "reconstruct+v_init=0.25+layer_delay=True"),
    ],
)
def test_networks_of_one_method_that_are_simulated_otherwise_have_names_of_their_own(
    command: Command, checkpoint: Path, tmp_path: Path, options: tuple[object, ...], name: str
) -> None:
    few = ("--sim-steps", 2, "--calibration-states", 20, "--test-states", 10, "--bindsnet-states", 0)
    out = tmp_path / "agent.safetensors"
    finished = command(
        "convert", "run", "--agent", checkpoint, "--method", "reconstruct", *options, *few, "--out", out
    )
    assert finished.code == 0, finished.err
    assert load_agent(out).columns["variant"] == name
    rows = read_rows(out.with_suffix(".conversion.parquet"), ConversionRow)
    assert {row.method for row in rows} == {name}
    # The method's own name is not written twice, so files of earlier versions are the same bytes.
    conversion = load_agent(out).provenance["conversion"]
    assert (conversion["method"], conversion.get("variant", "reconstruct")) == ("reconstruct", name)


@pytest.mark.parametrize(
    "verb", [("run", "--method", "hybrid"), ("compare", "--variants", "pursuit", "hybrid")]
)
def test_more_states_than_a_method_has_room_for_are_refused_before_any_work(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    """Of 400 bytes each: 1,000 states, three times 5,000 of the student's own play, and what collecting these takes."""
    learnt = 400 * (1000 + 3 * 5000) + 2 * 5000 * (400 + 100)
    wanted = max(learnt, Pursuit().conversion_bytes(make_dqn(0), 1000))
    monkeypatch.setattr(memory, "available_bytes", lambda: 0.5 * wanted / memory.SHARE)
    out = tmp_path / ("out" if verb[0] == "compare" else "snn.safetensors")
    words = ("convert", *verb, "--agent", checkpoint, "--out", out, "--calibration-states", 1000)
    is_refused(command(*words), "calibration_states is 1000", "about 500 would fit")
    assert not any(
        path.suffix in (".safetensors", ".parquet") for path in tmp_path.rglob("*") if path != checkpoint
    )
