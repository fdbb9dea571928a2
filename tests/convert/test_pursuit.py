"""pursuit: neurons of the last hidden layer are chosen for what they tell about the Q-values."""

import numpy as np
import pytest
import torch

from convert.measurement import decide_all, measures
from convert.method import Method
from convert.methods import pursuit
from convert.methods.pursuit import Pursuit, orthogonal_least_squares, pursue
from convert.methods.reconstruct import RIDGE, Fitting, Reconstruct
from core.checkpoint import load_agent
from core.dqn import DQN
from core.errors import Refusal
from core.layers import Conv, Dense
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from play.states import collect, q_values
from tests.conftest import AGENTS
from tests.convert.conftest import GAME, converted, make_dqn

SIGNED = RateCoding(2, neuron=IFNeuron("signed", 0.5))


@pytest.fixture(scope="module")
def trained() -> DQN:
    """A DQN that has preferences."""
    dqn = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent
    assert isinstance(dqn, DQN)
    return dqn


def test_choices_are_those_of_least_squares_on_what_is_left() -> None:
    """Against the definition: of all columns, the one that leaves the smallest error beside those chosen before."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(-2, 9, (200, 30), generator=generator).float()
    targets = columns[:, [4, 11, 25]] @ torch.randn(3, 2, generator=generator)
    targets += torch.randn(200, 2, generator=generator)
    chosen = orthogonal_least_squares(columns, targets, 6).tolist()

    def error(indices: list[int]) -> float:
        given = torch.cat([columns[:, indices], torch.ones(200, 1)], 1)
        found = torch.linalg.lstsq(given, targets).solution
        return float((given @ found - targets).square().sum())

    for number in range(6):
        before = chosen[:number]
        others = [index for index in range(30) if index not in before]
        assert min(others, key=lambda index: error([*before, index])) == chosen[number]


def test_columns_that_say_the_same_are_chosen_once() -> None:
    column = torch.randint(9, (50, 1), generator=torch.Generator().manual_seed(0)).float()
    same = torch.cat([column, 2 * column, column + 3, torch.ones(50, 1), torch.zeros(50, 1)], 1)
    assert len(orthogonal_least_squares(same, column @ torch.ones(1, 2), 5)) == 1


def test_nothing_is_chosen_on_rounding() -> None:
    """Three columns explain the targets in full. What is left of them is rounding, which no other column explains."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(9, (300, 30), generator=generator).float()
    targets = columns[:, [4, 11, 25]].double() @ torch.randn(3, 2, generator=generator, dtype=torch.float64)
    assert sorted(orthogonal_least_squares(columns, targets, 10).tolist()) == [4, 11, 25]


def test_of_columns_that_tell_the_same_the_first_is_taken() -> None:
    """Rounding does not decide: it differs with the number of threads and the kind of processor."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(-2, 9, (999, 40), generator=generator).float()
    targets = columns @ torch.randn(40, 3, generator=generator)
    chosen = orthogonal_least_squares(columns, targets, 10)
    thrice = torch.cat([columns, columns * 3, columns * 7 - 2], 1)
    assert torch.equal(orthogonal_least_squares(thrice, targets, 10), chosen)


def test_the_order_of_states_does_not_matter(trained: DQN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other orders add up with other rounding, as other numbers of threads do. Counts are those of real candidates."""
    seen: list[tuple[torch.Tensor, ...]] = []

    def keeping(columns: torch.Tensor, targets: torch.Tensor, most: int) -> torch.Tensor:
        seen.append((columns, targets, orthogonal_least_squares(columns, targets, most)))
        return seen[-1][2]

    monkeypatch.setattr(pursuit, "orthogonal_least_squares", keeping)
    pursue(
        trained, collect(trained, 800, 0, "calibration"), RateCoding(16, neuron=IFNeuron("signed", 0.5)), True
    )
    ((columns, targets, chosen),) = seen
    for seed in range(4):
        order = torch.randperm(len(columns), generator=torch.Generator().manual_seed(seed))
        assert torch.equal(orthogonal_least_squares(columns[order], targets[order], 128), chosen)


def test_sums_too_large_for_float32_are_added_without_rounding() -> None:
    """As with 500 simulation steps, or with many states."""
    generator = torch.Generator().manual_seed(0)
    common = torch.rand(6000, 12, generator=generator)
    columns = (400 + 90 * (common @ torch.rand(12, 200, generator=generator) / 12)).round()
    targets = common @ torch.randn(12, 3, generator=generator)
    assert float((columns**2).sum(0).max()) > 10 * 2**24
    chosen = orthogonal_least_squares(columns, targets, 60)
    assert torch.equal(chosen, orthogonal_least_squares(columns.double(), targets, 60))
    assert len({*chosen.tolist()}) == len(chosen)


@pytest.mark.parametrize("firing", ["at-once", "signed", "afterwards"])
def test_counts_of_candidates_are_those_of_the_converted_network(
    trained: DQN, firing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is chosen was simulated as the converted network simulates it: to the spike."""
    states = collect(trained, 300, 0, "calibration")
    seen = {}

    def keeping(columns: torch.Tensor, targets: torch.Tensor, most: int) -> torch.Tensor:
        chosen = orthogonal_least_squares(columns, targets, most)
        seen["chosen"] = columns[:, chosen]
        return chosen

    monkeypatch.setattr(pursuit, "orthogonal_least_squares", keeping)
    coding = RateCoding(4, neuron=IFNeuron(firing, 0.5))  # type: ignore[arg-type]
    snn, _ = pursue(trained, states, coding, by_channel=True)
    hidden = 4 * snn.representation(torch.as_tensor(states.astype(np.float32)))
    number = seen["chosen"].shape[1]
    # The last bits of currents differ between a wide layer and a narrow one. So a spike may be missing here and there.
    assert (hidden[:, :number] == seen["chosen"]).float().mean() > 0.999
    assert not hidden[:, number:].any()


@pytest.mark.parametrize("sim_steps", [2, 4])
def test_it_loses_less_than_reconstruct(trained: DQN, sim_steps: int) -> None:
    states, held_out = (collect(trained, 1500, 0, stream) for stream in ("calibration", "conversion test"))
    q = q_values(trained, held_out)

    def found(method: Method) -> tuple[float, float]:
        of = measures(q, decide_all(converted(trained, states, method, sim_steps).snn, held_out).q)
        return of.regret, of.differential_error

    (regret, error), (regret_before, error_before) = found(Pursuit()), found(Reconstruct())
    assert regret < 0.7 * regret_before
    assert error < 0.7 * error_before


def test_the_dqn_is_left_alone_and_the_network_is_repeatable(dqn: DQN, states: np.ndarray) -> None:
    before = {name: value.clone() for name, value in dqn.state_dict().items()}
    one, other = (pursue(dqn, states, SIGNED, by_channel=True)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in dqn.state_dict().items())


def error_of_q(snn: RateCodedNetwork, dqn: DQN, states: np.ndarray) -> float:
    """Mean squared error of the Q-values, as a share of their variance."""
    q, found = q_values(dqn, states), q_values(snn, states)
    return float(np.square(found - q).mean() / q.var())


@torch.no_grad()
def test_weights_and_thresholds_are_in_the_units_of_the_dqn(trained: DQN) -> None:
    """Each neuron has the fitted weights of one of the layer's neurons, divided by its own threshold."""
    states = collect(trained, 600, 0, "calibration")
    snn, scales = pursue(trained, states, SIGNED, by_channel=True)
    assert [len(scale) for scale in scales] == [16, 128, 1]
    fitting = Fitting(trained, states, SIGNED)
    fitting.fit_hidden(by_channel=True)
    fitting.fit_weights()
    assert torch.equal(fitting.scales[0], scales[0])
    of_channel = scales[0].repeat_interleave(64)
    rows = [*snn.layers][1].weight * scales[1][:, None] / of_channel
    origin = torch.cdist(rows, fitting.layer.weight).argmin(1)
    wired = rows.any(1)
    assert wired.sum() > 100
    assert len(set(origin[wired].tolist())) < wired.sum()  # some neurons are taken several times
    torch.testing.assert_close(rows[wired], fitting.layer.weight[origin[wired]], rtol=1e-4, atol=1e-5)
    assert error_of_q(snn, trained, states) < 0.1


@torch.no_grad()
def test_the_output_layer_is_the_least_squares_reading_of_the_neurons(trained: DQN) -> None:
    """The Q-values' errors are not correlated with any neuron's rate, whether it fires often or seldom."""
    states = collect(trained, 600, 0, "calibration")
    snn, _ = pursue(trained, states, SIGNED, by_channel=True)
    rates = snn.representation(torch.as_tensor(states.astype(np.float32)))
    output = snn.layers[-1]
    errors = torch.as_tensor(q_values(trained, states)) - snn.output_scale * output(rates)
    assert errors.mean(0).abs().max() < 1e-4
    centred = (rates - rates.mean(0)).double()
    shares = (centred.T @ errors.double()) / centred.square().sum(0)[:, None]
    weights = (snn.output_scale * output.weight).T  # type: ignore[operator]
    fires = centred.any(0)
    assert fires.sum() > 100
    torch.testing.assert_close(shares[fires].float(), RIDGE * weights[fires], rtol=1e-3, atol=1e-4)


def test_without_biases_thresholds_alone_are_chosen(states: np.ndarray) -> None:
    made = DQN(GAME, bias=False)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    snn, _ = pursue(made.requires_grad_(False), states, SIGNED, by_channel=True)
    assert all(layer.bias is None for layer in snn.layers)
    assert error_of_q(snn, made, states) < 0.3


def test_a_network_whose_only_hidden_layer_is_fully_connected(states: np.ndarray) -> None:
    made = DQN(GAME, hidden=(Dense(32),))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    snn, scales = pursue(made.requires_grad_(False), states, SIGNED, by_channel=False)
    assert [len(scale) for scale in scales] == [32, 1]
    assert error_of_q(snn, made, states) < 0.3


def test_what_it_cannot_convert_is_refused(dqn: DQN, states: np.ndarray) -> None:
    with pytest.raises(Refusal, match="the last hidden layer is a convolution"):
        pursue(DQN(GAME, hidden=(Conv(4, 3, 1),)), states, SIGNED, by_channel=True)
    dead = make_dqn(0)
    with torch.no_grad():
        dead.layers[1].bias.fill_(-100.0)  # type: ignore[operator]
    with pytest.raises(Refusal, match="layer 2 is dead"):
        pursue(dead, states, SIGNED, by_channel=True)


def test_states_are_limited_where_candidates_are_many(
    dqn: DQN, states: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def sized(columns: torch.Tensor, targets: torch.Tensor, most: int) -> torch.Tensor:
        sizes.append(columns.shape)
        return orthogonal_least_squares(columns, targets, most)

    monkeypatch.setattr(pursuit, "orthogonal_least_squares", sized)
    monkeypatch.setattr(pursuit, "MOST_VALUES", 200_000)
    pursue(dqn, states, SIGNED, by_channel=True)
    ((rows, columns),) = sizes
    assert 1 < rows < len(states)
    assert rows * columns <= 200_000


def test_one_state_tells_nothing(dqn: DQN, states: np.ndarray) -> None:
    with pytest.raises(Refusal, match="1 calibration states: no neuron tells anything"):
        pursue(dqn, states[:1], SIGNED, by_channel=True)


@pytest.mark.parametrize("coding", [RateCoding(4, layer_delay=True), RateCoding(4, presteps=2)])
def test_what_candidates_are_not_simulated_with_is_refused(coding: RateCoding) -> None:
    with pytest.raises(Refusal, match="pursuit goes with no layer_delay or presteps"):
        Pursuit().require_sound(coding)
