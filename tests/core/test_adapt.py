"""Foreign modules as agents: equal to our own DSQN where they are the same network, counted, or refused by name."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.adapt.adapted import AdaptedAgent, adapt
from core.agents import Agent
from core.checkpoint import load_agent
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import get_game
from core.operations import LayerOperations
from play.episodes import play
from play.protocols import get_protocol
from tests.conftest import AGENTS

GAME = get_game("minatar/breakout")
snn = pytest.importorskip("snntorch")
norse = pytest.importorskip("norse.torch")


def observations(size: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(size, *GAME.observation_shape, generator=generator) < 0.2).float()


def ours() -> DSQN:
    agent = load_agent(AGENTS / "minatar-breakout-dsqn-s0.safetensors").agent
    assert isinstance(agent, DSQN)
    return agent


def games_of(agent: Agent) -> dict[int, tuple[float, int]]:
    """Score and length of three games."""
    played = play(agent, GAME, get_protocol(None, GAME), eval_seed=1, episodes=range(3))
    return {each.episode: (each.score, each.length_steps) for each in played}


class SpikingJellyDSQN(nn.Module):
    """Chen et al. 2022's network of SpikingJelly's own layers, read by the largest voltage."""

    def __init__(self, multi_step: bool):
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        mode = "m" if multi_step else "s"
        make = lambda: neuron.LIFNode(  # noqa: E731
            tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(alpha=2.0), step_mode=mode
        )
        self.multi_step = multi_step
        self.conv, self.fc, self.head = nn.Conv2d(4, 16, 3), nn.Linear(1024, 128), nn.Linear(128, 6)
        self.first, self.second = make(), make()

    def forward(self, x: Tensor) -> Tensor:
        """[B, A] voltages' input at one step, or [T, B, A] of all steps."""
        if not self.multi_step:
            return self.head(self.second(self.fc(self.first(self.conv(x)).flatten(1))))
        steps = x.shape[:2]
        spikes = self.first(self.conv(x.flatten(0, 1)).unflatten(0, steps))
        spikes = self.second(self.fc(spikes.flatten(2)))
        return self.head(spikes)


def largest_voltage(currents: Tensor) -> Tensor:
    """The read-out max-mem, step by step."""
    v, voltages = torch.zeros_like(currents[0]), []
    for current in currents:
        v = v + (current - v) / 2.0
        voltages.append(v)
    return torch.stack(voltages).max(0).values


class ReadBySpikingJelly(SpikingJellyDSQN):
    """The same, read by SpikingJelly's own neuron without spikes. It simulates by itself."""

    def __init__(self) -> None:
        super().__init__(multi_step=True)
        from spikingjelly.activation_based import neuron

        self.voltages = neuron.NonSpikingLIFNode(tau=2.0, decode="max-mem")

    def forward(self, x: Tensor) -> Tensor:
        return self.voltages(super().forward(x.expand(4, *x.shape)))


def with_our_weights(module: nn.Module) -> nn.Module:
    for mine, its in zip(ours().layers, (module.conv, module.fc, module.head), strict=True):
        its.load_state_dict(mine.state_dict())  # type: ignore[union-attr]
    return module


@pytest.fixture(params=["sequence", "steps", "once"])
def theirs(request: pytest.FixtureRequest) -> AdaptedAgent:
    """SpikingJelly's network with our weights, called in each of the three ways."""
    if request.param == "once":
        found = adapt(with_our_weights(ReadBySpikingJelly()), GAME)
    else:
        module = with_our_weights(SpikingJellyDSQN(multi_step=request.param == "sequence"))
        found = adapt(module, GAME, sim_steps=4, read=largest_voltage)
    assert found.call == request.param
    return found


def test_a_spikingjelly_network_with_our_weights_plays_and_spikes_as_ours(theirs: AdaptedAgent) -> None:
    dsqn = ours()
    assert theirs.neuron_counts == dsqn.neuron_counts
    mine, foreign = dsqn.decide(observations()), theirs.decide(observations())
    torch.testing.assert_close(foreign.scores, mine.scores)
    assert mine.activity is not None and foreign.activity is not None  # noqa: PT018
    assert torch.equal(foreign.activity.spikes, mine.activity.spikes)
    assert foreign.activity.sim_steps.tolist() == mine.activity.sim_steps.tolist() == [4.0] * 5

    assert games_of(theirs) == games_of(dsqn)


def same(one: LayerOperations, other: LayerOperations) -> bool:
    """Whether all counts are equal."""
    return all(
        mine.tolist() == its.tolist() if isinstance(mine, Tensor) and isinstance(its, Tensor) else mine == its
        for mine, its in zip(one, other, strict=True)
    )


def test_operations_are_those_of_our_network(theirs: AdaptedAgent) -> None:
    """So are the membranes of the output, where they are the network's and not of a function that reads it."""
    mine, its = ours().operations(observations()), theirs.operations(observations())
    for layer, (own, foreign) in enumerate(zip(mine, its, strict=True)):
        outside = layer == 2 and theirs.call != "once"
        assert foreign.neuron_updates.tolist() == ([0.0] * 5 if outside else own.neuron_updates.tolist())
        foreign = foreign._replace(neuron_updates=own.neuron_updates)
        assert same(own, foreign)
    assert bool((its[2].acs > 0).all())
    torch.testing.assert_close(theirs.representation(observations()), ours().representation(observations()))


def test_operations_of_a_plain_network_are_those_of_our_dqn() -> None:
    dqn = load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent
    first, second, third = dqn.layers  # type: ignore[misc]
    plain = adapt(nn.Sequential(first, nn.ReLU(), nn.Flatten(), second, nn.ReLU(), third), GAME)
    for own, foreign in zip(dqn.operations(observations()), plain.operations(observations()), strict=True):
        assert same(own, foreign)


class SnnTorchDSQN(nn.Module):
    """Chen et al. 2022's network of snnTorch's neurons: reset to 0 at once, and currents scaled by 1 - beta."""

    def __init__(self) -> None:
        super().__init__()
        make = functools.partial(
            snn.Leaky, beta=0.5, reset_mechanism="zero", reset_delay=False, init_hidden=True
        )
        self.conv, self.fc, self.head = nn.Conv2d(4, 16, 3), nn.Linear(1024, 128), nn.Linear(128, 6)
        self.first, self.second = make(), make()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.first(0.5 * self.conv(x))
        return self.head(self.second(0.5 * self.fc(spikes.flatten(1))))


def test_an_snntorch_network_with_our_weights_plays_and_spikes_as_ours() -> None:
    dsqn = ours()
    theirs = adapt(with_our_weights(SnnTorchDSQN()), GAME, sim_steps=4, read=largest_voltage)
    mine, foreign = dsqn.decide(observations()), theirs.decide(observations())
    torch.testing.assert_close(foreign.scores, mine.scores)
    assert mine.activity is not None and foreign.activity is not None  # noqa: PT018
    assert torch.equal(foreign.activity.spikes, mine.activity.spikes)
    assert games_of(theirs) == games_of(dsqn)
    for own, counted in zip(dsqn.operations(observations()), theirs.operations(observations()), strict=True):
        assert (own.acs.tolist(), own.dense_macs) == (counted.acs.tolist(), counted.dense_macs)


class SnnTorchNet(nn.Module):
    """A leaky network of snnTorch with hidden states kept inside."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(400, 32), snn.Leaky(beta=0.5, init_hidden=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lif(3 * self.fc(x.flatten(1))))


class NorseNet(nn.Module):
    """A LIF network of Norse, whose state is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = norse.SequentialState(nn.Flatten(), nn.Linear(400, 32), norse.LIFCell(), nn.Linear(32, 6))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return self.net(10 * x, state)


@pytest.mark.parametrize(("make", "library"), [(SnnTorchNet, "snntorch"), (NorseNet, "norse")])
def test_spikes_are_counted_as_by_hand(make: Callable[[], nn.Module], library: str) -> None:
    torch.manual_seed(0)
    module = make()
    agent = adapt(module, GAME, sim_steps=6)
    assert (agent.library_name, agent.call, agent.sim_steps) == (library, "steps", 6)
    activity = agent.decide(observations()).activity
    assert activity is not None

    # By hand: the same steps once more, with the spikes of the one layer of neurons summed.
    total, state = torch.zeros(5), None
    if library == "snntorch":
        module.lif.reset_mem()  # type: ignore[union-attr,operator]
    for _ in range(6):
        if library == "snntorch":
            spikes = module.lif(3 * module.fc(observations().flatten(1)))  # type: ignore[operator]
        else:
            cell, linear = module.net[2], module.net[1]  # type: ignore[index]
            spikes, state = cell(linear(10 * observations().flatten(1)), state)  # type: ignore[operator]
        total += spikes.sum(1)
    assert total.sum() > 0
    assert activity.spikes[:, 0].tolist() == total.tolist()


def test_surrogates_are_swept_where_the_library_lets_them_be_exchanged() -> None:
    agent = adapt(with_our_weights(SpikingJellyDSQN(True)), GAME, sim_steps=4, read=largest_voltage)
    found = list(agent.gradient_sources())
    assert (found[0].name, len(found)) == ("own", 41)
    wide = next(each for each in found if each.surrogate == "triangle width 4")
    x = observations().requires_grad_()
    scores = wide.network(x)
    assert torch.equal(scores, agent(observations()))
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert bool((gradient != 0).any())
    assert [each.name for each in adapt(NorseNet(), GAME, sim_steps=4).gradient_sources()] == ["own"]


class Plain(nn.Module):
    def __init__(self, actions: int = 6) -> None:
        super().__init__()
        self.fc = nn.Linear(400, actions)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Noisy(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * torch.rand(())


class Remembers(Plain):
    last: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        scores, self.last = super().forward(x) + 0.1 * self.last, super().forward(x).detach()
        return scores


class Normalises(Plain):
    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores - scores.mean(0)


def test_a_plain_network_is_an_agent_without_spikes() -> None:
    agent = adapt(Plain(), GAME)
    decision = agent.decide(observations())
    assert decision.activity is None
    assert agent.sim_steps == 0
    assert [each.name for each in agent.gradient_sources()] == ["own"]


class Loop(nn.Module):
    """A network of snnTorch that simulates by itself, with parts of it in several ways that give the same spikes."""

    def __init__(
        self, first: str = "inside", second: str = "called", width: int = 48, own_neurons: bool = True
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = first, second
        self.f1, self.f2, self.head = nn.Linear(400, 48), nn.Linear(48, width), nn.Linear(width, 6)
        self.lif1 = snn.Leaky(beta=0.5)
        self.lif2 = snn.Leaky(beta=0.5) if own_neurons else self.lif1

    def forward(self, x: Tensor) -> Tensor:
        m1, m2, total = None, None, torch.zeros(len(x), 6)
        if self.first == "outside":
            current = 4 * self.f1(x.flatten(1))
        for _ in range(8):
            if self.first == "inside":
                current = 4 * self.f1(x.flatten(1))
            spikes, m1 = self.lif1(current, m1)
            if self.second == "called":
                second = self.f2(spikes)
            else:
                second = nn.functional.linear(spikes, self.f2.weight, self.f2.bias)
            spikes, m2 = self.lif2(3 * second, m2)
            total = total + self.head(spikes)
        return total


@pytest.mark.parametrize("scale", [1.0, 0.7], ids=["binary", "graded"])
def test_a_first_layer_before_the_loop_costs_what_one_inside_it_costs(scale: float) -> None:
    """It is computed once a decision either way."""
    inside, outside = adapt(Loop("inside"), GAME), adapt(Loop("outside"), GAME)
    x = scale * observations()
    assert torch.equal(inside(x), outside(x))
    assert (inside.sim_steps, outside.sim_steps) == (8, 8)
    mine, its = inside.operations(x), outside.operations(x)
    assert mine[0].dense_macs == its[0].dense_macs == 400 * 48
    assert bool((its[0].effective_macs > 0).all())
    assert not bool(its[0].acs.any())
    assert its[0].binary_input == (scale == 1.0)
    assert bool((its[0].spikes > 0).all())
    assert len(mine) == len(its) == 3
    assert all(map(same, mine, its))
    torch.testing.assert_close(outside.representation(x), inside.representation(x))


def test_a_layer_whose_weights_a_function_uses_is_refused_by_name() -> None:
    agent = adapt(Loop(second="functional"), GAME)
    with pytest.raises(Refusal, match="layer 'f2' of module Loop is not called in a decision"):
        agent.operations(observations())


@pytest.mark.parametrize("first", ["inside", "outside"])
@pytest.mark.parametrize(
    ("width", "named"), [(48, "'lif1' is used behind both"), (24, "'lif1' is used for 48 neurons and for 24")]
)
def test_a_layer_of_neurons_at_two_places_is_refused_by_name(first: str, width: int, named: str) -> None:
    """Its steps and spikes would be those of both."""
    with pytest.raises(Refusal, match=f"layer of neurons {named}"):
        adapt(Loop(first, width=width, own_neurons=False), GAME)


def test_simulation_steps_need_neurons_that_are_known() -> None:
    with pytest.raises(Refusal, match=r"sim_steps is 4: module Plain has no layers of neurons of .*snntorch"):
        adapt(Plain(), GAME, sim_steps=4)


class Mistaken(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flaten(1))  # type: ignore[attr-defined]


def test_a_mistake_in_a_module_is_one_line_with_its_place() -> None:
    with pytest.raises(
        Refusal, match=r"AttributeError: 'Tensor' object has no attribute 'flaten'.*line \d+\)"
    ):
        adapt(Mistaken(), GAME)


class Recurrent(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.zeros(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores + scores @ self.mixing


def test_weights_that_cannot_be_counted_are_refused_by_name() -> None:
    agent = adapt(Recurrent(), GAME)
    with pytest.raises(Refusal, match="'mixing' of module Recurrent cannot be counted"):
        agent.operations(observations())


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (lambda: Plain(5), {}, r"returns \(3, 5\).*\(3, 6\)"),
        (Noisy, {}, "answers the same observations differently"),
        (Remembers, {}, "differently|keeps state"),
        (Normalises, {}, "batch otherwise than its rows"),
        (lambda: nn.Linear(7, 6), {}, "cannot be called with observations"),
        (Plain, {"sim_steps": 0}, "sim_steps is 0"),
        (Plain, {"read": "loudest"}, "read 'loudest'"),
        (Plain, {"call": "once", "sim_steps": 3}, "called once"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(
    make: Callable[[], nn.Module], options: dict[str, Any], named: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(Refusal, match=named):
        adapt(make(), GAME, **options)


def test_inputs_outside_the_bounds_are_refused() -> None:
    with pytest.raises(Refusal, match="outside the bounds"):
        adapt(Plain(), GAME)(torch.full((1, *GAME.observation_shape), 255.0))
    assert np.isfinite(GAME.high).all()


class HandWritten(nn.Module):
    """Leaky neurons in plain torch, and the same layer once without them."""

    def __init__(self, sim_steps: int):
        super().__init__()
        self.sim_steps = sim_steps
        self.output = nn.Linear(400, 6)

    def forward(self, observations: Tensor) -> Tensor:
        voltage, spikes = torch.zeros_like(observations.flatten(1)), []
        for _ in range(self.sim_steps):
            voltage = 0.5 * voltage + observations.flatten(1)
            spikes.append(self.output((voltage > 1.0).float()))
        return torch.stack(spikes).mean(0)


def test_neurons_written_by_hand_are_told_to_be_uncounted(capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt(HandWritten(1), GAME).neuron_counts == ()
    assert capsys.readouterr().err == ""
    assert adapt(HandWritten(3), GAME).neuron_counts == ()
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert "module HandWritten calls its layers several times" in warned
    assert "its spikes are not counted" in warned
