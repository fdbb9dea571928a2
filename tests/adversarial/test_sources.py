"""Whose gradient is followed: what there is for which victim, that it is finite, and that the best is found."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial.goals import Goal, goal
from adversarial.gradient_ascent import input_gradient
from adversarial.sources import (
    best_sources,
    freeze,
    gradient_source,
    sources,
    transfer,
    try_sources,
)
from convert.methods import tan2021
from convert.scaling import scaled_network
from core import seeding
from core.agents import Agent, Decision, RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.choices import SURROGATES
from core.clipped_rates import ClippedRates
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import Game, get_game
from core.gradients import WIDTHS, GradientSource
from core.networks import NETWORKS
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.neurons.membrane import MembraneNeuron, run
from core.neurons.surrogates import SpikeDerivative
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import READOUTS
from play.environments import bounds, network_input
from tests.conftest import AGENTS, opening

GAME = get_game("minatar/breakout")
TOY = Game("toy", "control", (1,), 2)
SWEPT = [f"{family} width {width:g}" for family in SURROGATES for width in WIDTHS]


def shipped(name: str) -> Agent:
    return load_agent(AGENTS / f"{name}.safetensors").agent


@pytest.fixture(scope="module")
def breakout() -> tuple[DQN, np.ndarray]:
    """A trained agent and states of its play."""
    dqn = shipped("minatar-breakout-dqn-s0")
    assert isinstance(dqn, DQN)
    return dqn, opening(dqn, 120)


def converted(dqn: DQN, states: np.ndarray, sim_steps: int) -> RateCodedNetwork:
    scales, _ = tan2021.guarded_scales(dqn, states, 99.9)
    return scaled_network(dqn, scales, RateCoding(sim_steps)).requires_grad_(False)


def names(found: list[GradientSource]) -> list[tuple[str, str]]:
    return [(source.name, source.surrogate) for source in found]


# What there is ----------------------------------------------------------------------------------------


def test_there_are_at_least_four_families_at_eight_widths() -> None:
    assert len(SURROGATES) >= 4
    assert len(WIDTHS) >= 8


def test_every_victim_has_its_sources(breakout: tuple[DQN, np.ndarray]) -> None:
    dqn, states = breakout
    dsqn = shipped("minatar-breakout-dsqn-s0")
    brief, long = converted(dqn, states, 8), converted(dqn, states, 64)
    swept = [("swept-surrogate", name) for name in SWEPT]
    own, before = ("ann-twin", "relu, own weights"), ("ann-twin", "relu, weights before conversion")
    assert names(sources(dqn)) == [("own", "")]
    assert names(sources(brief.quantised())) == [("straight-through", ""), own]
    assert names(sources(brief.quantised(), dqn)) == [("straight-through", ""), before, own]
    assert names(sources(long)) == [own, ("rate-gradient", "clipped relu")]
    assert names(sources(brief, dqn)) == [own, before, ("rate-gradient", "clipped relu"), *swept]
    assert names(sources(dsqn)) == [
        ("own-surrogate", "atan slope 2"),
        ("ann-twin", "ramp"),
        ("rate-gradient", "ramp"),
        *swept,
    ]


def test_only_a_network_that_scores_as_the_victim_does_same_scores(
    breakout: tuple[DQN, np.ndarray],
) -> None:
    """A converted network is simulated otherwise than it plays, and sums are rounded otherwise."""
    dqn, states = breakout
    snn = converted(dqn, states, 8)
    assert not any(source.same_scores for source in sources(snn, dqn))
    for victim in (dqn, snn.quantised(), shipped("minatar-breakout-dsqn-s0")):
        x = network_input(states[:20], GAME, dqn.device)
        for source in sources(victim):
            if source.name != "swept-surrogate" or source.surrogate.endswith("width 0.25"):
                assert torch.equal(source.network(x), victim(x)) >= source.same_scores
        assert gradient_source(victim).same_scores


def test_resets_are_detached_and_steps_counted_where_a_surrogate_is_swept(
    breakout: tuple[DQN, np.ndarray],
) -> None:
    dqn, states = breakout
    dsqn = DSQN(GAME, Spiking(LIF(detach_reset=False), 4, READOUTS["max-mem"]()), bias=True)
    found = sources(dsqn)
    for source in found[3:]:
        assert isinstance(source.network, DSQN)
        assert source.network.spiking.neuron.detach_reset
    assert [source.sim_steps for source in found] == [4, 0, 0, *[4] * len(SWEPT)]
    snn = converted(dqn, states, 8)
    assert [source.sim_steps for source in sources(snn)] == [0, 0, *[8] * len(SWEPT)]


def test_another_agents_gradient_is_named_after_its_checkpoint() -> None:
    checkpoint = load_agent(AGENTS / "minatar-breakout-dsqn-s0.safetensors")
    found = transfer(checkpoint)
    assert found == GradientSource(
        checkpoint.agent, f"transfer:dsqn {checkpoint.id}", "atan slope 2", sim_steps=4
    )


def test_random_play_has_no_gradient() -> None:
    for function in (gradient_source, sources, lambda agent: transfer(Checkpoint(agent, {}, ""))):
        with pytest.raises(Refusal, match="random play"):
            function(RandomPlay(GAME))


def test_a_twin_that_is_none_is_refused(breakout: tuple[DQN, np.ndarray]) -> None:
    dqn, states = breakout
    with pytest.raises(Refusal, match="given for a dqn agent"):
        sources(dqn, dqn)
    with pytest.raises(Refusal, match="twin is a random agent"):
        sources(converted(dqn, states, 8), RandomPlay(GAME))
    other = NETWORKS["relu"].make(get_game("minatar/freeway"), seeding.torch_generator(0, "weights"))
    with pytest.raises(Refusal, match="twin is a dqn agent of minatar/freeway: a dqn of minatar/breakout"):
        sources(converted(dqn, states, 8), other)


# What they compute ------------------------------------------------------------------------------------


def test_a_swept_surrogate_changes_the_gradient_and_not_the_scores(
    breakout: tuple[DQN, np.ndarray],
) -> None:
    dqn, states = breakout
    x = network_input(states[:6], GAME, dqn.device)
    actions = torch.zeros(6, dtype=torch.int64)
    for victim in (shipped("minatar-breakout-dsqn-s0"), converted(dqn, states, 8)):
        gradients = []
        for source in sources(victim):
            if source.name == "swept-surrogate":
                torch.testing.assert_close(source.network(x), victim(x), rtol=1e-4, atol=1e-4)
                gradients.append(input_gradient(source.network, x, Goal("cross-entropy", actions)))
        assert len({gradient.numpy().tobytes() for gradient in gradients}) == len(SWEPT)


def test_a_width_is_in_units_of_the_threshold() -> None:
    """A rectangle of width 1/2 lets through membranes within half a threshold of it: of inputs 0.9, 1.1, 2.9, 3.1 of an
    IF neuron with threshold 2, at its only step, the middle ones; a slope of 1 in thresholds, 1/2 in inputs."""
    dsqn = toy(Spiking(IF(threshold=2.0), 1, READOUTS["rate"]()))
    (source,) = [source for source in sources(dsqn) if source.surrogate == "rectangle width 0.5"]
    x = torch.tensor([[0.9], [1.1], [2.9], [3.1]], requires_grad=True)
    (gradient,) = torch.autograd.grad(source.network(x)[:, 0].sum(), x)
    assert gradient[:, 0].tolist() == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("game", ["minatar-breakout", "pong"])
@pytest.mark.parametrize("kind", ["dqn", "quantised", "converted", "signed", "afterwards", "long", "dsqn"])
def test_gradients_are_finite_for_every_agent_at_every_width(game: str, kind: str) -> None:
    dqn = shipped(f"{game}-dqn-s0")
    assert isinstance(dqn, DQN)
    states = opening(dqn, 60)
    victim: Agent = dqn
    if kind == "dsqn":
        victim = shipped(f"{game}-dsqn-s0")
    elif kind != "dqn":
        snn = converted(dqn, states, 64 if kind == "long" else 16)
        if kind == "signed" or kind == "afterwards":
            snn = snn.varied(neuron=IFNeuron(kind, 0.5))
        victim = snn.quantised() if kind == "quantised" else snn
    # Saturated and empty images too.
    x = network_input(states[[0, 30, 59]], victim.game, victim.device)
    x = torch.cat([x, torch.zeros_like(x[:1]), torch.ones_like(x[:1])])
    with torch.no_grad():
        actions = victim(x).argmax(1)
    for source in sources(victim):
        gradient = input_gradient(source.network, x, Goal("cross-entropy", actions))
        assert bool(torch.isfinite(gradient).all()), (source.name, source.surrogate)
        # The narrowest windows may let nothing through; others must lead somewhere.
        if source.name != "swept-surrogate":
            assert bool((gradient[:3] != 0).any()), source.name


@pytest.mark.parametrize("name", ["liu2022", "liu2022-spike", "liu2022-if", "chen2022"])
def test_gradients_are_finite_through_64_simulation_steps(name: str) -> None:
    network = NETWORKS[name]
    assert network.spiking is not None
    victim = network.make(GAME, seeding.torch_generator(0, "weights")).requires_grad_(False)
    x = torch.rand((4, *GAME.observation_shape), generator=torch.Generator().manual_seed(0))
    for source in sources(victim):
        gradient = input_gradient(source.network, x, goal(victim(x)))
        assert bool(torch.isfinite(gradient).all()), (source.name, source.surrogate)


# A DSQN without time ----------------------------------------------------------------------------------


def toy(spiking: Spiking) -> DSQN:
    """One hidden neuron hears the input itself; the two outputs hear its spikes, weighed 1 and -2."""
    dsqn = DSQN(TOY, spiking).requires_grad_(False)
    for parameter in dsqn.parameters():
        parameter.zero_()
    weights = dict(dsqn.named_parameters())
    weights["layers.0.weight"][0, 0] = 1.0
    weights["layers.1.weight"][:, 0] = torch.tensor([1.0, -2.0])
    return dsqn


@pytest.mark.parametrize(
    ("neuron", "low", "high"),
    [
        (IF(threshold=0.5), 0.0, 0.5),
        (LIF(tau=2.0), 1.0, 2.0),
        (LIF(tau=3.0, threshold=0.5), 0.5, 1.5),
        (LIF(tau=1.0), 0.0, 1.0),
    ],
)
def test_the_ramp_ends_where_neurons_fall_silent_and_fire_at_every_step(
    neuron: MembraneNeuron, low: float, high: float
) -> None:
    rates = ClippedRates(toy(Spiking(neuron, 64, READOUTS["rate"]())), real=False)
    assert (rates.low, rates.high) == (low, high)
    ends = torch.tensor([low - 0.01, high])
    assert run([ends] * 64, neuron).mean(0).tolist() == [0.0, 1.0]
    middle = (low + high) / 2
    x = torch.tensor([[low], [middle], [high]], requires_grad=True)
    scores = rates(x)
    assert scores[:, 0].tolist() == pytest.approx([0.0, 0.5, 1.0])
    (gradient,) = torch.autograd.grad(scores[1, 1], x)
    assert gradient[:, 0].tolist() == pytest.approx([0.0, -2.0 / (high - low), 0.0])


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        # A constant 0.5 or -1 charges the integrator (tau 2) by 1/2, 3/4 and 7/8 of itself.
        ("last-mem", [0.4375, -0.875]),
        ("max-mem", [0.4375, -0.5]),
        ("mean-mem", [0.5 * 17 / 24, -17 / 24]),
        ("max-abs-mem", [0.4375, -0.875]),
        ("spike-rate", [0.0, 0.0]),
    ],
)
def test_read_outs_hear_a_constant_current(readout: Any, expected: list[float]) -> None:
    rates = ClippedRates(toy(Spiking(LIF(tau=2.0), 3, READOUTS[readout]())), real=False)
    assert rates(torch.tensor([[1.5]]))[0].tolist() == pytest.approx(expected)


def test_real_rates_go_forward_and_ramps_back() -> None:
    # 1.5 charges a LIF neuron (tau 2) to 0.75, 1.125 and, after the reset, 0.75, 1.125: it fires at every other step.
    dsqn = toy(Spiking(LIF(tau=2.0), 5, READOUTS["rate"]()))
    x = torch.tensor([[1.5], [1.7]], requires_grad=True)
    scores = ClippedRates(dsqn, real=True)(x)
    assert scores[0].tolist() == pytest.approx([0.4, -0.8])
    torch.testing.assert_close(scores, dsqn(x))
    (gradient,) = torch.autograd.grad(scores[:, 0].sum(), x)
    assert gradient[:, 0].tolist() == [1.0, 1.0]


# Agents from outside ----------------------------------------------------------------------------------


class Outside(Agent):
    """One linear layer, as another library would write it.

    Args:
        cut: whether its scores cannot be differentiated.
    """

    kind = "outside"

    def __init__(self, game: Game, cut: bool = False):
        super().__init__()
        self.game, self.cut = game, cut
        self.layer = nn.Linear(math.prod(game.observation_shape), game.num_actions)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        scores = self.layer(observations.flatten(1))
        return Decision(scores.detach() if self.cut else scores, None, None)

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        return cls(game)


class Offering(Outside):
    """The same, with a second gradient of its own making."""

    def gradient_sources(self) -> Iterator[GradientSource]:
        yield from super().gradient_sources()
        yield GradientSource(Times(self, 2.0), "doubled", "of its own making")


@dataclass(frozen=True, kw_only=True)
class Plain(LIF):
    """A neuron of which nothing is known but how it fires."""

    def with_surrogate(self, derivative: SpikeDerivative) -> None:
        return None

    def rate_range(self) -> None:
        return None


def test_an_agent_from_outside_is_attacked_along_its_own_gradient_and_those_it_offers() -> None:
    assert names(sources(Outside(GAME))) == [("own", "")]
    agent = Offering(GAME)
    assert names(sources(agent)) == [("own", ""), ("doubled", "of its own making")]
    x = torch.rand((5, *GAME.observation_shape), generator=torch.Generator().manual_seed(0))
    actions = agent(x).argmax(1)
    own, doubled = (input_gradient(source.network, x, Goal("margin", actions)) for source in sources(agent))
    torch.testing.assert_close(doubled, 2 * own)
    assert freeze(gradient_source(agent)).same_scores


def test_an_agent_whose_scores_cannot_be_differentiated_is_refused_by_attacks_that_follow_a_gradient() -> (
    None
):
    agent = Outside(GAME, cut=True)
    x = torch.rand((2, *GAME.observation_shape), generator=torch.Generator().manual_seed(0))
    with pytest.raises(Refusal, match="cannot be differentiated"):
        input_gradient(gradient_source(agent).network, x, goal(agent(x)))


def test_a_neuron_that_offers_no_other_gradient_leaves_its_own_surrogate() -> None:
    dsqn = DSQN(GAME, Spiking(Plain(), 4, READOUTS["max-mem"]()))
    assert names(sources(dsqn)) == [("own-surrogate", "atan slope 2")]


# The best of them -------------------------------------------------------------------------------------


class Times(nn.Module):
    """An agent's scores, times a number."""

    def __init__(self, agent: Agent, factor: float):
        super().__init__()
        self.agent, self.factor = agent, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.agent(x)


def test_trials_are_those_of_fgsm_by_formula(breakout: tuple[DQN, np.ndarray]) -> None:
    """Against the DQN itself: along its gradient, the same turned round, and none."""
    dqn, states = breakout
    candidates = [GradientSource(Times(dqn, factor), str(factor)) for factor in (1.0, -1.0, 0.0)]
    epsilons = (0.002, 0.02)
    along, against, nowhere = try_sources(dqn, states, epsilons, candidates)
    x = network_input(states, GAME, dqn.device).requires_grad_()
    actions = dqn(x).argmax(1)
    F.cross_entropy(dqn(x), actions, reduction="sum").backward()
    assert x.grad is not None
    for epsilon, share in zip(epsilons, along.flip_shares, strict=True):
        moved = (x.detach() + epsilon * x.grad.sign()).clamp(0, 1)
        assert share == int((dqn(moved).argmax(1) != actions).sum()) / len(states)
    assert 0 < along.flip_shares[0] < along.flip_shares[1]
    assert sum(against.flip_shares) < sum(along.flip_shares)
    assert nowhere.flip_shares == (0.0, 0.0)


def test_sizes_are_in_units_of_the_games_scale() -> None:
    """Of cart-pole's four elements scales differ."""
    game = get_game("cartpole")
    dqn = NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))
    next(dqn.parameters()).data[:, 0] = 0.0
    states = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    (found,) = try_sources(dqn, states, (0.05,), [GradientSource(dqn, "own")])
    x = network_input(states, game, dqn.device)
    gradient = input_gradient(dqn, x, Goal("cross-entropy", dqn(x).argmax(1)))
    low, high = bounds(game, dqn.device)

    def flips(unit: Tensor) -> float:
        moved = (x + 0.05 * unit * gradient.sign()).clamp(low, high)
        return (dqn(moved).argmax(1) != dqn(x).argmax(1)).double().mean().item()

    assert found.flip_shares[0] == flips(torch.tensor(game.scale)) != flips(torch.ones(4))


def test_the_best_source_of_a_size_is_the_one_that_flips_most_at_it(breakout: tuple[DQN, np.ndarray]) -> None:
    victim = shipped("minatar-breakout-dsqn-s0")
    _, states = breakout
    sizes = (0.001, 0.05)
    found = try_sources(victim, states, sizes, sources(victim))
    best = best_sources(victim, states, sizes)
    assert list(best) == [*sizes]
    for column, source in enumerate(best.values()):
        shares = {(s.source.name, s.source.surrogate): s.flip_shares[column] for s in found}
        assert shares[source.name, source.surrogate] == max(shares.values()) > min(shares.values())
    assert len({source.surrogate for source in best.values()}) == 2  # what leads best depends on the size


def test_a_victim_with_one_gradient_needs_no_search(breakout: tuple[DQN, np.ndarray]) -> None:
    dqn, states = breakout
    own = GradientSource(dqn, "own", same_scores=True)
    assert best_sources(dqn, states, (0.01, 0.5)) == {0.01: own, 0.5: own}


def test_a_gradient_that_is_not_finite_is_refused(breakout: tuple[DQN, np.ndarray]) -> None:
    dqn, states = breakout
    broken = GradientSource(Times(dqn, float("nan")), "swept-surrogate", "atan width 0.1")
    with pytest.raises(Refusal, match=r"atan width 0\.1"):
        try_sources(dqn, states[:2], (0.01,), [broken])


@pytest.mark.parametrize(
    ("rows", "epsilons"), [(0, (0.1,)), (2, ()), (2, (0.0,)), (2, (float("inf"),)), (2, (float("nan"),))]
)
def test_a_search_over_nothing_is_refused(
    rows: int, epsilons: tuple[float, ...], breakout: tuple[DQN, np.ndarray]
) -> None:
    dqn, states = breakout
    with pytest.raises(Refusal, match="at least one state"):
        try_sources(dqn, states[:rows], epsilons, [GradientSource(dqn, "own")])
