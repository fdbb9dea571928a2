"""Products that visit only inputs that fired, against dense ones."""

import pytest
import torch
from torch import Tensor, nn

from core import spike_linear as module
from core.games import get_game
from core.networks import NETWORKS
from core.seeding import torch_generator
from core.spike_linear import BREAK_EVEN, LEAST_ROWS, lay_out_by_input, spike_linear
from tests.conftest import random_batch
from train_direct.learner import QLearner
from train_direct.recipe import RECIPES


def layer_of(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias)


def spikes_of(rows: int, inputs: int, rate: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(rows, inputs, generator=generator) < rate).float().requires_grad_()


@pytest.mark.parametrize("rate", [0.0, 0.08, BREAK_EVEN - 0.02, 1.0])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(64, 8, 1), (128, 1024, 128), (72, 40, 33)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("by_input", [False, True])
def test_values_and_gradients_equal_those_of_the_dense_product(
    rate: float, rows: int, inputs: int, outputs: int, bias: bool, by_input: bool
) -> None:
    layer, spikes = layer_of(inputs, outputs, bias), spikes_of(rows, inputs, rate)
    expected = layer(spikes)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    wanted = torch.autograd.grad(expected, [spikes, *layer.parameters()], grad)
    if by_input:
        lay_out_by_input(layer)
    output = spike_linear(layer, spikes)
    found = torch.autograd.grad(output, [spikes, *layer.parameters()], grad)
    for mine, its in zip((output, *found), (expected, *wanted), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)


def test_exactly_the_chosen_weights_are_added() -> None:
    """Integers, whose sums no order changes: equal to the last bit."""
    layer, spikes = layer_of(48, 24, bias=False), spikes_of(LEAST_ROWS, 48, 0.15)
    layer.weight.data = torch.arange(48.0 * 24).view(24, 48)
    assert torch.equal(spike_linear(layer, spikes), layer(spikes))


@pytest.mark.parametrize(
    ("rows", "inputs", "rate", "dtype"),
    [
        (LEAST_ROWS - 8, 64, 0.05, torch.float32),  # few rows
        (LEAST_ROWS + 4, 64, 0.05, torch.float32),  # rows that fill no bytes
        (LEAST_ROWS, 60, 0.05, torch.float32),  # inputs that fill no bytes
        (LEAST_ROWS, 64, 0.5, torch.float32),  # many spikes
        (LEAST_ROWS, 64, 0.05, torch.bfloat16),
    ],
)
def test_elsewhere_it_is_the_dense_product(
    rows: int, inputs: int, rate: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_summed", None)  # a sparse product would fail
    layer, spikes = layer_of(inputs, 16).to(dtype), spikes_of(rows, inputs, rate).to(dtype)
    assert torch.equal(spike_linear(layer, spikes), layer(spikes))


def test_a_product_on_several_threads_has_the_same_bits() -> None:
    layer, spikes = layer_of(1024, 128), spikes_of(256, 1024, 0.08)
    one = torch.autograd.grad(spike_linear(layer, spikes).square().sum(), layer.weight)
    torch.set_num_threads(2)
    try:
        two = torch.autograd.grad(spike_linear(layer, spikes).square().sum(), layer.weight)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one[0], two[0])


def test_updates_of_a_dsqn_use_it_and_equal_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> tuple[QLearner, int]:
        calls = 0
        summed = module._summed

        def counting(*arguments: object) -> Tensor:
            nonlocal calls
            calls += 1
            return summed(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_summed", counting)
        network = NETWORKS["chen2022"].make(get_game("minatar/breakout"), torch_generator(0, "weights"))
        learner = QLearner(network, RECIPES["minatar-fast"])
        for _ in range(3):
            learner.update(random_batch(32))
        monkeypatch.setattr(module, "_summed", summed)
        return learner, calls

    sparse, calls = trained()
    monkeypatch.setattr(module, "BREAK_EVEN", -1.0)
    dense, none = trained()
    assert calls > 0
    assert none == 0
    for mine, its in zip(sparse.online.parameters(), dense.online.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-4)


def test_play_after_training_is_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal observations give equal spikes in any batch, whatever a training did before."""
    network = NETWORKS["chen2022"].make(get_game("minatar/breakout"), torch_generator(0, "weights"))
    monkeypatch.setattr(module, "_summed", None)
    assert network(torch.rand(32, 4, 10, 10)).shape == (32, 6)
