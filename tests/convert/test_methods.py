"""Methods that change weights: reconstruction and distillation come closer to the DQN than thresholds alone."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from convert.distillation import distil
from convert.measurement import decide_all, measures
from convert.method import METHODS, Method, Training
from convert.methods import hybrid, qcfs, reconstruct
from convert.methods.exact import Exact, whole_numbers
from convert.methods.hybrid import Hybrid
from convert.methods.max import Max
from convert.methods.pursuit import MOST_VALUES, Pursuit, pursue
from convert.methods.qcfs import Qcfs
from convert.methods.reconstruct import Reconstruct
from convert.methods.tan2021 import Tan2021
from convert.methods.threshold_search import ThresholdSearch
from convert.options import CodingOptions, ConversionOptions, recorded
from convert.variants import VARIANTS, Variant, name_of
from core.checkpoint import load_agent
from core.choices import ChargeReadout, Firing
from core.dqn import DQN
from core.errors import Refusal
from core.layers import Conv, apply_layer
from core.quantised import QuantisedDQN
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron, simulate
from play.states import batches, collect, q_values
from tests.conftest import AGENTS
from tests.convert.conftest import GAME, converted, make_dqn


@pytest.fixture(scope="module")
def held_out(dqn: DQN) -> np.ndarray:
    return collect(dqn, 200, seed=0, stream="conversion test")


def differential_error(dqn: DQN, states: np.ndarray, held_out: np.ndarray, method: Method) -> float:
    """Of a method at 4 sim steps."""
    found = decide_all(converted(dqn, states, method, 4).snn, held_out)
    return measures(q_values(dqn, held_out), found.q).differential_error


def test_each_method_comes_closer_than_the_one_before(
    dqn: DQN, states: np.ndarray, held_out: np.ndarray
) -> None:
    errors = [
        differential_error(dqn, states, held_out, method)
        for method in (Max(), ThresholdSearch(), Reconstruct())
    ]
    assert errors[0] > 1.5 * errors[1]
    assert errors[1] > 1.2 * errors[2]


@pytest.mark.parametrize("firing", ["at-once", "signed", "afterwards"])
def test_a_layer_is_fitted_to_what_it_really_hears(dqn: DQN, states: np.ndarray, firing: str) -> None:
    """The last layer's weights are a ridge regression on simulated rates: no small step away from them helps."""
    coding = RateCoding(4, neuron=IFNeuron(firing, 0.5))  # type: ignore[arg-type]
    snn, scales = reconstruct.reconstruct(dqn, states, coding, by_channel=True)
    *_, output = snn.layers
    rates, wanted = [], []
    for batch in batches(dqn, states):
        hidden = simulate(snn.layers, batch, 4, coding.neuron).layer_counts[-2][0] / 4
        rates.append(hidden)
        wanted.append(dqn(batch))
    heard, q = torch.cat(rates), torch.cat(wanted)

    def error(weight: torch.Tensor) -> float:
        given = (heard @ weight.T + output.bias) * snn.output_scale
        # In the DQN's units, in which weights are held where they were.
        moved = weight * snn.output_scale / scales[-2] - dqn.layers[-1].weight
        moment = (heard * scales[-2]).square().sum(0).mean()
        return float((given - q).square().sum() + reconstruct.RIDGE * moment * moved.square().sum())

    best = error(output.weight)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        step = torch.randn(output.weight.shape, generator=generator) * output.weight.abs().mean() * 0.05
        assert error(output.weight + step) > best


def test_a_dead_layer_is_refused_while_it_is_reconstructed(dqn: DQN, states: np.ndarray) -> None:
    dead = make_dqn(0)
    with torch.no_grad():
        dead.layers[1].bias.fill_(-100.0)  # type: ignore[union-attr, operator]
    with pytest.raises(Refusal, match="layer 2 is dead"):
        reconstruct.reconstruct(dead, states, RateCoding(4), by_channel=True)


def test_distillation_teaches_choices() -> None:
    dqn = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent  # one that has preferences
    assert isinstance(dqn, DQN)
    states, held_out = (collect(dqn, 1500, 0, stream) for stream in ("calibration", "conversion test"))
    q = q_values(dqn, held_out)
    plain = converted(dqn, states, ThresholdSearch(), 2).snn.quantised()
    taught = converted(dqn, states, ThresholdSearch(), 2).snn.quantised()
    distil(taught, dqn, states, 0.5, 150, seed=0)
    before, after = (measures(q, q_values(agent, held_out)) for agent in (plain, taught))
    assert after.regret < 0.7 * before.regret
    assert not any(parameter.requires_grad for parameter in taught.parameters())


@pytest.mark.parametrize("method", [Qcfs(distil_updates=3), Hybrid(distil_updates=3)], ids=["qcfs", "hybrid"])
def test_distillation_is_repeatable_and_leaves_its_teacher_alone(
    dqn: DQN, states: np.ndarray, method: Method
) -> None:
    before = {name: value.clone() for name, value in dqn.state_dict().items()}
    students = []
    for _ in range(2):
        students.append(converted(dqn, states, method, 2, seed=7).snn)
    for one, other in zip(*(student.parameters() for student in students), strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(value, before[name]) for name, value in dqn.state_dict().items())


def test_hybrid_training_teaches_what_the_simulated_network_chooses() -> None:
    """In 3 steps, spikes do not come to the levels that a quantised network learned. Few updates show it here."""
    dqn = load_agent(AGENTS / "minatar-space_invaders-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    states = collect(dqn, 600, 0, "calibration")
    q = q_values(dqn, states)
    untrained, of_spikes, of_levels = (
        measures(q, q_values(converted(dqn, states, method, 3).snn, states)).regret
        for method in (
            Pursuit(),
            Hybrid(distil_updates=250, own_play=0.5),
            Qcfs(distil_updates=250, start="pursuit"),
        )
    )
    assert of_spikes < 0.7 * untrained
    assert of_spikes < 0.5 * of_levels


@pytest.mark.parametrize("firing", ["at-once", "signed", "afterwards"])
@pytest.mark.parametrize("readout", ["robust", "spikes"])
def test_hybrid_training_goes_through_the_spikes_that_the_network_fires(
    dqn: DQN, states: np.ndarray, firing: Firing, readout: ChargeReadout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-values are those of the simulation, and gradients those of clipped ReLUs with the rates that it fired."""
    seen: list[tuple[RateCodedNetwork, torch.nn.Module]] = []
    monkeypatch.setattr(hybrid, "distil", lambda student, *_, through: seen.append((student, through)))
    made = converted(dqn, states, Hybrid(), 3, CodingOptions(firing=firing, readout=readout)).snn
    ((student, through),) = seen
    assert student is made
    x = next(batches(made, states, size=8))
    student.requires_grad_(True)
    q = through(x)
    torch.testing.assert_close(q, made(x))

    class Fired(torch.autograd.Function):
        """Rates forward, the slope of clip(z, 0, 1) backward."""

        @staticmethod
        def forward(ctx: Any, z: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(z)
            return rates.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
            (z,) = ctx.saved_tensors
            return grads[0] * ((z >= 0) & (z <= 1)), None

    first, hidden, output = made.layers
    low, high, last = (counts / 3 for counts in made.layer_counts(x, 3))
    charge = apply_layer(
        output, Fired.apply(apply_layer(hidden, Fired.apply(apply_layer(first, x), low)), high)
    )
    wanted = made.output_scale * (Fired.apply(charge, last) if readout == "spikes" else charge)
    parameters = list(made.layers.parameters())
    given, expected = (torch.autograd.grad(each.square().sum(), parameters) for each in (q, wanted))
    assert all(bool(gradient.abs().sum() > 0) for gradient in expected)
    torch.testing.assert_close(given, expected)


def test_weights_of_hybrid_training_are_shared_by_equal_simulations_alone() -> None:
    coding = RateCoding(4, neuron=IFNeuron("signed", 0.5))
    others = [
        replace(coding, readout="current"),
        replace(coding, neuron=IFNeuron("afterwards", 0.5)),
        replace(coding, sim_steps=5),
    ]
    keys = {Hybrid().training_key(each) for each in (coding, *others)}
    assert len(keys) == 1 + len(others)
    assert Hybrid().training_key(replace(coding)) in keys
    # The quantised student does not know how its network will be simulated.
    assert Qcfs().training_key(others[1]) == Qcfs().training_key(coding)


def test_a_gradient_goes_through_a_staircase_as_through_a_ramp(dqn: DQN, states: np.ndarray) -> None:
    quantised = converted(dqn, states, ThresholdSearch(), 4).snn.quantised()
    first, *_ = quantised.layers
    x = next(batches(dqn, states, size=3)).requires_grad_()
    z = apply_layer(first, x)
    staircase = (4 * z + 0.5).floor().clamp(0, 4) / 4
    output = quantised.layers[1](staircase.flatten(1))
    wanted = z.clamp(0, 1) + (staircase - z.clamp(0, 1)).detach()
    hidden = quantised.layers[1](wanted.flatten(1))
    rates = (4 * output + 0.5).floor().clamp(0, 4) / 4
    ramp = hidden.clamp(0, 1) + (rates - hidden.clamp(0, 1)).detach()
    q = quantised.output_scale * quantised.layers[2](ramp)
    (expected,) = torch.autograd.grad(q.max(), x)
    (given,) = torch.autograd.grad(quantised(x).max(), x)
    assert bool(expected.abs().sum() > 0)
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_says_what_neurons_it_is_for(dqn: DQN, states: np.ndarray, name: str) -> None:
    cls = METHODS[name]
    options = ConversionOptions(method=name, distil_updates=1 if cls.training else None)
    made = converted(dqn, states, options.chosen(), 3)
    assert options.chosen().name == name
    assert made.snn.coding.neuron == IFNeuron(cls.firing, cls.v_init)
    assert made.snn.coding.sim_steps == 3
    assert (made.snn.coding.image_bits is None) == (name != "exact")
    assert len(made.scales) == 3
    assert [len(scale) for scale in made.scales] == (
        [1, 1, 1] if name in ("tan2021", "max") else [16, 128, 1]
    )


def test_weights_that_a_training_gave_are_taken_and_not_trained_again(dqn: DQN, states: np.ndarray) -> None:
    taught = converted(dqn, states, Qcfs(distil_updates=2), 2).snn
    endless = 10**6
    coding = RateCoding(2, neuron=IFNeuron("afterwards", 0.5))
    again = Qcfs(distil_updates=endless).convert(dqn, states, coding, Training(taught=taught)).snn
    exact = Exact(distil_updates=endless).convert(dqn, states, coding, Training(taught=taught)).snn
    for kept, wanted in zip(again.parameters(), taught.parameters(), strict=True):
        assert torch.equal(kept, wanted)
    for kept, wanted in zip(exact.parameters(), whole_numbers(again).parameters(), strict=True):
        assert torch.equal(kept, wanted)


def test_distillation_may_begin_from_the_neurons_that_pursuit_chooses(
    dqn: DQN, states: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are chosen as neurons that fire afterwards, because the student's levels are those."""
    begun: list[dict[str, torch.Tensor]] = []

    def keeping(student: QuantisedDQN, *_: object) -> None:
        begun.append({name: value.clone() for name, value in student.state_dict().items()})

    monkeypatch.setattr(qcfs, "distil", keeping)
    wanted, _ = pursue(dqn, states, RateCoding(3, neuron=IFNeuron("afterwards", 0.5)), by_channel=True)
    for method in (Qcfs(start="pursuit"), Exact(start="pursuit")):
        made = converted(dqn, states, method, 3)
        assert made.snn.coding.neuron.firing == method.firing
    assert len(begun) == 2
    for student in begun:
        assert all(torch.equal(student[name], value) for name, value in wanted.state_dict().items())
    converted(dqn, states, Qcfs(), 3)
    assert not torch.equal(begun[-1]["layers.1.weight"], wanted.layers[1].weight)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "qcfs"}, "qcfs"),
        ({"method": "qcfs", "distil_updates": 7}, "qcfs"),
        ({"method": "qcfs", "method_options": ("start=pursuit",)}, "qcfs-pursuit"),
        ({"method": "exact", "method_options": ("start=pursuit",)}, "exact-pursuit"),
        (
            {"method": "qcfs", "method_options": ("start=pursuit",), "v_init": 0.25},
            "qcfs-pursuit+v_init=0.25",
        ),
        ({"method": "reconstruct", "residual_alpha": 0.05}, "residual"),
        ({"method": "reconstruct", "residual_alpha": 0.2}, "reconstruct+residual_alpha=0.2"),
        ({"method": "pursuit", "firing": "afterwards"}, "pursuit-afterwards"),
    ],
)
def test_networks_are_named_after_their_variant(options: dict[str, object], name: str) -> None:
    chosen = replace(ConversionOptions(), **options)  # type: ignore[arg-type]
    assert name_of(chosen.chosen(), chosen) == name


def test_names_of_variants_of_others_count_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(Max):
        gain: float = 1.0
        slope: float = 0.0

    afterwards = CodingOptions(firing="afterwards")
    theirs = {
        "mine-usual": Variant(method="mine", options={"gain": 1.0}),
        "mine-loud": Variant(method="mine", options={"gain": 2.0}),
        "mine-steep": Variant(method="mine", options={"slope": 1.0}),
        "mine-late": Variant(method="mine", coding=afterwards),
    }
    for registry in (METHODS, VARIANTS):
        monkeypatch.setattr(registry, "_entries", dict(registry.items()))
        monkeypatch.setattr(registry, "_origins", dict(registry._origins))
    METHODS.register("mine")(Mine)
    for name, variant in theirs.items():
        VARIANTS.register(name)(variant)
    assert name_of(Mine(), CodingOptions()) == "mine"
    assert name_of(Mine(gain=2.0), CodingOptions()) == "mine-loud"
    assert name_of(Mine(gain=2.0, slope=1.0), CodingOptions()) == "mine-loud"
    assert name_of(Mine(gain=3.0), afterwards) == "mine-late"


def test_an_option_that_is_younger_than_records_is_recorded_where_it_was_given() -> None:
    """Records from before there was such an option stay those of the same work."""
    assert "method_options" not in recorded(Qcfs())
    assert recorded(Qcfs(start="pursuit"))["method_options"] == {"start": "pursuit"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "tan2022"}, "unknown conversion method 'tan2022': did you mean 'tan2021'"),
        ({"percentile": 0.0}, "percentile is 0.0"),
        ({"method": "max", "percentile": 99.0}, "method max has no such option; accepted are none"),
        ({"thresholds": "layer"}, "method tan2021 has no such option; accepted are percentile"),
        ({"method": "reconstruct", "distil_updates": 5}, "method reconstruct has no such option"),
        ({"method_options": ("percentil=99",)}, "did you mean 'percentile'"),
        ({"percentile": 99.0, "method_options": ("percentile=98",)}, "percentile is given twice"),
        ({"method": "qcfs", "distil_updates": 0}, "distil_updates is 0"),
        ({"method": "exact", "firing": "signed"}, "firing is signed"),
        ({"method": "hybrid", "node": "lif"}, "hybrid goes with no leak"),
        ({"method": "hybrid", "residual_alpha": 0.1}, "residual_alpha is 0.1"),
        ({"method": "hybrid", "method_options": ("own_play=0",)}, "own_play is 0"),
        ({"method": "qcfs", "method_options": ("start=pursued",)}, "pursued"),
        ({"method": "exact", "presteps": 3}, "afterwards go with no"),
        ({"v_init": 1.0}, "v_init is 1.0"),
    ],
)
def test_options_that_no_method_knows_are_refused(options: dict[str, object], complaint: str) -> None:
    chosen = replace(ConversionOptions(), **options)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match=complaint):
        chosen.chosen().require_sound(chosen.coding(8, chosen.chosen()))


@pytest.mark.parametrize(
    "options", [{"method": "pursuit"}, {"method": "qcfs", "method_options": ("start=pursuit",)}]
)
def test_a_dqn_that_a_method_cannot_convert_is_refused_before_any_work(options: dict[str, object]) -> None:
    chosen = replace(ConversionOptions(), **options).chosen()  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="the last hidden layer is a convolution"):
        chosen.require_convertible(DQN(GAME, hidden=(Conv(4, 3, 1),)))
    with pytest.raises(Refusal, match="there is no hidden layer"):
        chosen.require_convertible(DQN(GAME, hidden=()))
    chosen.require_convertible(make_dqn(0))
    Qcfs().require_convertible(DQN(GAME, hidden=(Conv(4, 3, 1),)))


def test_what_a_conversion_keeps_is_forecast() -> None:
    """Of a DQN with 1,024 outputs of the first layer and 128 of the second, on 1,000 states and on very many."""
    dqn = make_dqn(0)
    kept = 2 * 4 * 1000 * 1024
    candidates = 32 * 128
    told = 8 * candidates * 128
    assert Tan2021().conversion_bytes(dqn, 1000) == 0
    assert Reconstruct().conversion_bytes(dqn, 1000) == kept
    assert Pursuit().conversion_bytes(dqn, 1000) == kept + 2 * 4 * candidates * 1000 + told
    assert Exact(start="pursuit").conversion_bytes(dqn, 1000) == Pursuit().conversion_bytes(dqn, 1000)
    # Of 400 bytes each: 1,000 states and three times 500 of the student's, and what collecting 500 takes.
    learnt = 400 * (1000 + 3 * 500) + 2 * 500 * (400 + 100)
    assert Exact().conversion_bytes(dqn, 1000) == Qcfs().conversion_bytes(dqn, 1000) == learnt
    assert Exact(distil_updates=0).conversion_bytes(dqn, 1000) == 0
    assert Hybrid().conversion_bytes(dqn, 1000) == Pursuit().conversion_bytes(dqn, 1000)
    many = 400 * (1000 + 3 * 100_000) + 2 * 100_000 * (400 + 100)
    assert Hybrid(own_play=100.0).conversion_bytes(dqn, 1000) == many
    # Counts of more states than fit are left out; what layers receive is not.
    assert Pursuit().conversion_bytes(dqn, 10**6) == 1000 * kept + 2 * 4 * MOST_VALUES + told


def test_quantising_without_training_may_begin_from_pursuit(dqn: DQN, states: np.ndarray) -> None:
    wanted, _ = pursue(dqn, states, RateCoding(4, neuron=IFNeuron("afterwards", 0.5)), by_channel=True)
    made = converted(dqn, states, Exact(start="pursuit", distil_updates=0), 4)
    for kept, before in zip(made.snn.parameters(), whole_numbers(wanted).parameters(), strict=True):
        assert torch.equal(kept, before)


def test_an_option_may_be_given_by_name_or_as_field_and_value() -> None:
    by_name = ConversionOptions(method="qcfs", distil_updates=7, thresholds="layer")
    by_field = ConversionOptions(method="qcfs", method_options=("distil_updates=7", "thresholds=layer"))
    assert by_name.chosen() == by_field.chosen() == Qcfs(distil_updates=7, thresholds="layer")
