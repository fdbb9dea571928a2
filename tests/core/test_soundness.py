"""Parts of spiking networks that break their contract are refused before they are trained, each with its reason."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES
from core.layers import parse_layers
from core.networks import Network
from core.neurons.base import NEURONS, Neuron, Population, SteppedPopulation
from core.neurons.lif import LIF
from core.neurons.surrogates import spike
from core.normalisations import NORMALISATIONS, Normalisation
from core.readouts import READOUTS, LastVoltage, Output, Rate

GAME = GAMES["minatar/breakout"]
SMALL = parse_layers("2c3s1 6")


@pytest.fixture(autouse=True)
def forgotten(forget_extensions: None) -> None:
    """What a test registers is forgotten after it."""


class Leaky(SteppedPopulation):
    """A sound population, one parameter of which learns."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.rand(()))

    def start(self, current: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(current),)

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = state[0] + (current - state[0]) * self.rate.sigmoid()
        spikes = spike(h - 0.3, "atan", 2.0)
        return spikes, ((1 - spikes) * h,)


class Halved(Leaky):
    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        return super().forward(currents, sim_steps) / 2


class Keeping(Leaky):
    rested = 0.0

    def start(self, current: Tensor) -> tuple[Tensor, ...]:
        self.rested += 1.0
        return (torch.full_like(current, self.rested),)


class Detached(Leaky):
    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        return super().forward(currents.detach(), sim_steps)


class Blocking(Leaky):
    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h = state[0] + current
        return (h >= 1).float() + 0 * h, (h,)


class Flat(Leaky):
    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        return super().forward(currents, sim_steps).flatten(2)


class Failing(Leaky):
    def forward(self, currents: Tensor, sim_steps: int) -> Tensor:
        raise IndexError("a mistake")


class Precise(Leaky):
    def __init__(self) -> None:
        super().__init__()
        self.double()


class OtherSum(Leaky):
    def weighted_spikes(self, currents: Tensor, sim_steps: int, weights: Tensor) -> Tensor:
        return self(currents, sim_steps).sum(0)


class MeanOfBatch(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows - rows.mean(0)


class Running(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = 0.0

    def forward(self, rows: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + rows.detach().mean().item()
        return rows - self.mean


def neuron(population: Callable[[], Population]) -> Spiking:
    """The spiking part with a newly registered neuron."""

    @NEURONS.register("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(Neuron):
        def population(self, shape: tuple[int, ...]) -> Population:
            return population()

    return Spiking(Mine(), 4, Rate())


def normalisation(module: Callable[[], nn.Module]) -> Spiking:
    """The spiking part with a newly registered normalisation."""

    @NORMALISATIONS.register("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(Normalisation):
        def module(self, shape: tuple[int, ...]) -> nn.Module:
            return module()

    return Spiking(LIF(), 4, Rate(), Mine())


def readout(scores: Callable[[Tensor, Output], Tensor]) -> Spiking:
    """The spiking part with a newly registered read-out, which inherits the fast path of another."""

    @READOUTS.register("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(LastVoltage):
        def scores(self, train: Tensor, output: Output) -> Tensor:
            return scores(train, output)

    return Spiking(LIF(), 4, Mine())


def make(spiking: Spiking, seed: int = 0) -> Any:
    return Network(True, spiking, SMALL).make(GAME, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("spiking", "reason"),
    [
        (lambda: neuron(Halved), "neuron 'mine' gives spikes that are neither 0 nor 1"),
        (lambda: neuron(Keeping), "neuron 'mine' gives other values the second time"),
        (lambda: neuron(Detached), "neuron 'mine' has no gradient"),
        (lambda: neuron(Blocking), "neuron 'mine' has no gradient, or 0 everywhere"),
        (lambda: neuron(lambda: nn.Identity()), "neuron 'mine' makes a Identity: a Population"),  # type: ignore[arg-type,return-value]
        (lambda: neuron(Flat), "neuron 'mine' makes (4, 3, 128) of (4, 3, 2, 8, 8)"),
        (
            lambda: neuron(Failing),
            "neuron 'mine' fails on (4, 3, 2, 8, 8): IndexError: a mistake (test_soundness.py",
        ),
        (lambda: neuron(Precise), "neuron 'mine' has a parameter 'rate' of torch.float64"),
        (lambda: neuron(OtherSum), "neuron 'mine' gives other values by its fast path"),
        (lambda: normalisation(MeanOfBatch), "normalisation 'mine' gives other values for a row alone"),
        (lambda: normalisation(Running), "normalisation 'mine' gives other values the second time"),
        (
            lambda: normalisation(lambda: nn.Dropout(0.5)),
            "normalisation 'mine' gives other values the second time",
        ),
        (lambda: readout(lambda train, output: output.currents(train)), "read-out 'mine' makes (4, 3, 6)"),
        (
            lambda: readout(lambda train, output: output.mean_current(train.detach())),
            "read-out 'mine' has no gradient",
        ),
        (lambda: readout(lambda train, output: output.mean_current(train)), "other values by its weights"),
        (lambda: readout(lambda train, output: output.mean_current(train) / 0), "values that are not finite"),
    ],
)
def test_a_part_that_breaks_its_contract_is_refused(spiking: Callable[[], Spiking], reason: str) -> None:
    with pytest.raises(Refusal, match=re.escape(reason)):
        make(spiking())


def test_parameters_that_start_at_random_follow_the_seed() -> None:
    """Torch's own random numbers are as before, and equal seeds give equal parameters of neurons."""
    spiking = neuron(Leaky)
    before = torch.random.get_rng_state()
    first, same, other = make(spiking), make(spiking), make(spiking, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    rates = [agent.populations[0].rate.item() for agent in (first, same, other)]
    assert rates[0] == rates[1] != rates[2]


def test_a_subclass_with_a_population_of_its_own_is_not_taken_for_its_base_class() -> None:
    @NEURONS.register("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(LIF):
        def population(self, shape: tuple[int, ...]) -> Population:
            return Leaky()

    assert LIF().rate_range() is not None
    assert Mine().rate_range() is None
    with pytest.raises(Refusal, match="NIR has no node for the neuron 'mine'"):
        Mine().nir_node()
    names = [
        source.name for source in DSQN(GAME, Spiking(Mine(), 2, Rate()), hidden=SMALL).gradient_sources()
    ]
    assert "rate-gradient" not in names


def test_a_sound_network_is_made() -> None:
    agent = make(replace(neuron(Leaky), sim_steps=70))
    assert agent(torch.zeros(2, *GAME.observation_shape)).shape == (2, GAME.num_actions)
