"""`convert compare`: its measures by hand, its rows against decisions made one by one, and what a kill leaves."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.comparison import MethodComparison
from convert.measurement import ANYTIME_AGREEMENT, decide_all, fan_out, measures, stop_gap
from convert.method import METHODS, Training
from convert.methods import hybrid, qcfs
from convert.methods.reconstruct import Reconstruct
from convert.methods.tan2021 import Tan2021
from convert.options import CodingOptions, Compare
from convert.variants import VARIANTS, Variant, all_variants
from convert.workload import of_comparison
from core.checkpoint import load_agent, save_agent
from core.dqn import DQN
from core.layers import Conv
from core.rate_coded.network import RateCodedNetwork
from core.records import read_rows
from core.rows import ConversionRow, EpisodeRow
from play.episodes import play
from play.expected import Expected
from play.protocols import get_protocol
from play.states import collect, q_values
from tests.conftest import AGENTS, Command
from tests.convert.conftest import GAME, PROVENANCE, converted
from tests.test_refusals import is_refused

FEW = ("--calibration-states", 80, "--test-states", 40)


def test_measures_by_hand() -> None:
    q_dqn = np.array([[1.0, 3.0], [2.0, 0.0], [0.0, 1.0], [5.0, 1.0]])
    q_snn = np.array([[2.0, 4.0], [0.0, 2.0], [0.0, 1.0], [5.0, 1.0]])
    found = measures(q_dqn, q_snn)
    assert found.agreement == 0.75  # the second state is decided otherwise, and costs 2
    assert found.regret == 0.5
    # Both prefer action 1 with shares 2/4 and 3/4: by chance they agree in (2*3 + 2*1) / 16 of states.
    assert found.kappa == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    # Errors are (1, 1), (-2, 2), 0, 0: in common 1, 0, 0, 0; the rest 0, (-2, 2), 0, 0.
    assert found.common_error == 0.5
    assert found.differential_error == pytest.approx(math.sqrt(8 / 8))


def test_kappa_of_one_action_is_no_number() -> None:
    assert math.isnan(measures(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])).kappa)


def test_the_gap_to_stop_at_is_the_smallest_that_keeps_choices() -> None:
    dqn = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    states = collect(dqn, 400, 0, "calibration")
    snn = converted(dqn, states, Reconstruct(), 16).snn
    gap = stop_gap(snn, states)
    patient = decide_all(snn, states).q.argmax(1)

    def hasty(bound: float) -> tuple[float, float]:
        found = decide_all(snn.varied(stop_gap=bound), states)
        return float((found.q.argmax(1) == patient).mean()), float(found.sim_steps.mean())

    agreement, sim_steps = hasty(gap)
    assert agreement >= ANYTIME_AGREEMENT
    assert sim_steps < 16
    assert hasty(0.5 * gap)[0] < ANYTIME_AGREEMENT


def test_a_spike_reaches_on_average_what_the_next_layer_multiplies(dqn: DQN, states: np.ndarray) -> None:
    snn = converted(dqn, states, Tan2021(), 2).snn
    # 1,024 neurons of the convolution reach 128 each, those reach 6, the output nobody.
    assert fan_out(snn).tolist() == [128.0, 6.0, 0.0]


def test_rows_say_what_decisions_one_by_one_say(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    variants = ("tan2021", "reconstruct", "residual", "anytime", "exact")
    options = (
        "--variants",
        *variants,
        "--sim-steps",
        2,
        3,
        "--episodes",
        2,
        "--threads",
        1,
        *FEW,
        "--distil-updates",
        2,
    )
    out = tmp_path / "compare"
    finished = command("convert", "compare", "--agent", checkpoint, "--out", out, *options)
    assert finished.code == 0, finished.err
    rows = read_rows(out / "methods.parquet", ConversionRow)
    assert {(row.variant, row.sim_steps, row.states) for row in rows} == {
        (variant, steps, states)
        for variant in variants
        for steps in (2, 3)
        for states in ("validation", "dqn-driven", "snn-driven")
        if variant != "residual" or states == "snn-driven"
    }
    dqn = load_agent(checkpoint).agent
    assert isinstance(dqn, DQN)
    calibration = collect(dqn, 80, 0, "calibration")
    test = collect(dqn, 40, 0, "conversion test", apart_from=calibration)
    held_out = np.concatenate([collect(dqn, 40, 0, "conversion validation", apart_from=calibration), test])
    q = q_values(dqn, test)
    games = read_rows(out / "conversion_episodes.parquet", EpisodeRow)
    protocol = get_protocol(None, GAME)
    for row in rows:
        variant = VARIANTS[row.variant]
        assert json.loads(row.settings)["method"] == variant.method == row.method
        assert json.loads(row.settings)["distil_updates"] == 2
        method = variant.chosen({"distil_updates": 2})
        coding = variant.coding.coding(row.sim_steps, method)
        snn = method.convert(dqn, calibration, coding, Training(0, held_out)).snn
        if row.variant == "anytime":
            snn = snn.varied(stop_gap=stop_gap(snn, calibration))
        if row.states == "dqn-driven":
            decisions = [snn.decide(torch.as_tensor(state).float()[None]) for state in test]
            found = measures(q, np.concatenate([decision.scores.numpy() for decision in decisions]))
            assert row.agreement == found.agreement
            assert row.regret == pytest.approx(found.regret, abs=1e-6)
            spikes = [decision.activity.spikes.sum() for decision in decisions if decision.activity]
            assert row.spikes_per_decision == pytest.approx(float(np.mean(spikes)))
            assert (len(json.loads(row.layer_r2)) == 2) if row.variant != "exact" else row.layer_r2 == ""
        if row.states == "snn-driven":
            played = list(play(snn, GAME, protocol, eval_seed=0, episodes=range(2)))
            of_row = [game for game in games if game.variant == f"{row.variant} T={row.sim_steps}"]
            assert sorted(game.score for game in of_row) == sorted(each.score for each in played)
            assert row.num_states == sum(game.length_steps for game in of_row)
            latency = {"anytime": row.mean_sim_steps, "exact": 2 * row.sim_steps}
            assert row.mean_sim_steps == latency.get(row.variant, row.sim_steps)
            assert row.mean_sim_steps <= snn.latency_sim_steps
    assert len([game for game in games if game.variant == "dqn"]) == 2
    assert "reconstruct" in (out / "comparison.md").read_text()
    again = command("convert", "compare", "--agent", checkpoint, "--out", out, *options)
    assert "already done" in again.out


def test_what_was_measured_before_a_kill_is_not_measured_again(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--variants", "tan2021", "threshold-search", "--sim-steps", 1, 2, "--episodes", 1, *FEW)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command("convert", "compare", "--agent", checkpoint, "--out", whole, *options).code == 0
    measured: list[str] = []
    measure = MethodComparison._measure

    def until_third(self: MethodComparison, name: str, *rest: object) -> object:
        measured.append(name)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(MethodComparison, "_measure", until_third)
    assert command("convert", "compare", "--agent", checkpoint, "--out", killed, *options).code == 130
    assert command("convert", "compare", "--agent", checkpoint, "--out", killed, *options).code == 0
    assert measured == ["tan2021", "tan2021", "threshold-search", "threshold-search", "threshold-search"]
    for name, row_type in (
        ("methods.parquet", ConversionRow),
        ("conversion_episodes.parquet", EpisodeRow),
    ):
        one, other = (str(read_rows(folder / name, row_type)) for folder in (whole, killed))
        assert one == other


def test_weights_are_shared_by_methods_that_train_alike(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order they come; and the forecast counts each training once."""
    begun: list[int] = []
    train = qcfs.distil

    def counted(*rest: Any) -> None:
        begun.append(1)
        train(*rest)

    monkeypatch.setattr(qcfs, "distil", counted)
    agent = AGENTS / "minatar-breakout-dqn-s0.safetensors"

    def compared(*variants: str) -> tuple[int, float]:
        options = ("--variants", *variants, "--sim-steps", 2, "--distil-updates", 1, *FEW)
        begun.clear()
        folder = tmp_path / "-".join(variants)
        done = command("convert", "compare", "--agent", agent, "--out", folder, *options)
        assert done.code == 0, done.err
        (found,) = (
            row.agreement
            for row in read_rows(folder / "methods.parquet", ConversionRow)
            if row.variant == "qcfs" and row.states == "dqn-driven"
        )
        work = of_comparison(
            Compare(agent=str(agent), out=folder, variants=variants, sim_steps=(2,), distil_updates=1),
            Expected(),
        )
        forecast = [part for part in work.parts if part.work == "update"]
        assert len(forecast) == len(begun)
        return len(begun), found

    both, found = compared("qcfs", "exact")
    assert both == 1
    # The weights that exact rounded are not those that qcfs would have.
    assert compared("exact", "qcfs") == (2, found)
    assert compared("qcfs", "qcfs-pursuit", "exact", "exact-pursuit")[0] == 2


def test_a_network_that_decides_early_is_trained_for_all_its_steps(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gap to stop at is found afterwards, so that weights are those of the network that never stops early."""
    gaps: list[float | None] = []
    train = hybrid.distil

    def looking(student: RateCodedNetwork, *rest: Any, **named: Any) -> None:
        gaps.append(student.coding.stop_gap)
        train(student, *rest, **named)

    monkeypatch.setattr(hybrid, "distil", looking)
    monkeypatch.setattr(VARIANTS, "_entries", dict(VARIANTS.items()))
    monkeypatch.setattr(VARIANTS, "_origins", dict(VARIANTS._origins))
    VARIANTS.register("early")(Variant(method="hybrid", coding=CodingOptions(stop_gap=0.0)))
    agent, folder = AGENTS / "minatar-breakout-dqn-s0.safetensors", tmp_path / "out"
    options = ("--variants", "hybrid", "early", "--sim-steps", 2, "--distil-updates", 1, *FEW)
    done = command("convert", "compare", "--agent", agent, "--out", folder, *options)
    assert done.code == 0, done.err
    assert gaps == [None]
    rows = read_rows(folder / "methods.parquet", ConversionRow)
    assert all(json.loads(row.settings)["stop_gap"] > 0 for row in rows if row.variant == "early")
    asked = Compare(
        agent=str(agent), out=folder, variants=("hybrid", "early"), sim_steps=(2,), distil_updates=1
    )
    assert len([part for part in of_comparison(asked, Expected()).parts if part.work == "update"]) == 1


def test_variants_that_cannot_convert_the_dqn_are_left_out_unless_they_are_named(
    command: Command, tmp_path: Path
) -> None:
    dqn = DQN(GAME, hidden=(Conv(4, 3, 1),))
    with torch.no_grad():
        for parameter in dqn.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    save_agent(tmp_path / "dqn.safetensors", dqn, PROVENANCE)
    options = ("--agent", tmp_path / "dqn.safetensors", "--sim-steps", 64, *FEW, "--out", tmp_path / "out")
    named = command("convert", "compare", *options, "--variants", "max", "pursuit")
    is_refused(named, "the last hidden layer is a convolution")
    assert not (tmp_path / "out").exists()
    done = command("convert", "compare", *options)
    assert done.code == 0, done.err
    assert "left out: pursuit: the last hidden layer is a convolution" in done.out
    found = {row.variant for row in read_rows(tmp_path / "out" / "methods.parquet", ConversionRow)}
    assert "max" in found
    assert "pursuit" not in found
    agent = str(tmp_path / "dqn.safetensors")
    work = of_comparison(Compare(agent=agent, out=tmp_path / "out", sim_steps=(64,)), Expected())
    assert {part.kind for part in work.parts if part.work == "convert"} == {
        variant.method for name, variant in all_variants().items() if name in found
    }


def test_every_method_is_a_variant() -> None:
    assert {variant.method for variant in all_variants().values()} >= set(METHODS)
    assert all_variants().names()[: len(VARIANTS)] == VARIANTS.names()


def test_no_variant_trains_without_saying_so() -> None:
    trained = {name for name, variant in VARIANTS.items() if variant.method in ("qcfs", "exact", "hybrid")}
    assert trained == {name for name, variant in VARIANTS.items() if variant.method_class.training}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--variants", "tan2022"), "tan2022"),
        (("--sim-steps", 0), "sim_steps is 0"),
        (("--episodes", -1), "episodes is -1"),
        (("--distil-updates", 0), "distil_updates is 0"),
        (("--percentile", 101), "percentile is 101"),
        (("--percentile", 99, "--variants", "max", "qcfs"), "no method of max qcfs has such an option"),
        (("--distil-updates", 5, "--variants", "reconstruct"), "no method of reconstruct has such an option"),
        (("--variants", "qcfs", "--sim-steps", 32), "the least sim_steps is 32: qcfs is measured up to 16"),
        (("--variants", "residual"), "residual is compared by whole games alone: --episodes is needed"),
    ],
)
def test_bad_comparisons_are_refused(
    command: Command, checkpoint: Path, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    finished = command("convert", "compare", "--agent", checkpoint, "--out", tmp_path / "out", *options)
    assert finished.code == 2
    assert complaint in finished.err
    assert not (tmp_path / "out").exists()
