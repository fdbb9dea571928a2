"""Q-networks: published sizes, hand-made read-outs, and an independent network of SpikingJelly's layers."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional as sj_functional
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from core.agents import Agent, RandomPlay
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES, Game, get_game
from core.layers import Layers, SameConv2d, same_margins
from core.networks import NETWORKS, Network
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.readouts import READOUTS

FillDyadic = Callable[[Layers, int], None]
DyadicInputs = Callable[[tuple[int, ...], int], Tensor]

SPIKING_PRESETS = [name for name, network in NETWORKS.items() if network.spiking is not None]
TIERS = ["cartpole", "minatar/breakout", "pong"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_agent(network: Network, game: Game, seed: int = 0, gain: float = 3.0) -> DQN | DSQN:
    """An initialised agent, its weights enlarged so that spikes get through all layers of a small network."""
    agent = network.make(game, seeded(seed))
    with torch.no_grad():
        for layer in agent.layers:
            layer.weight.mul_(gain)
    return agent


def dyadic_agent(spiking: Spiking | None, game: Game, fill_dyadic: FillDyadic, seed: int = 0) -> DQN | DSQN:
    agent = DQN(game) if spiking is None else DSQN(game, spiking)
    fill_dyadic(agent.layers, seed)
    return agent


def inputs_of(game: Game, batch: int, seed: int = 0) -> Tensor:
    """Network inputs that look like the game's: grey levels, binary planes, or a state."""
    shape = (batch, *game.observation_shape)
    match game.tier:
        case "atari":
            return torch.randint(0, 256, shape, generator=seeded(seed)) / 255
        case "minatar":
            return torch.randint(0, 2, shape, generator=seeded(seed)).float()
        case _:
            return torch.randn(shape, generator=seeded(seed))


# Sizes -----------------------------------------------------------------------------------------------


def test_the_nature_network_has_its_published_number_of_parameters() -> None:
    agent = DQN(GAMES["breakout"])  # 4 actions
    assert sum(parameter.numel() for parameter in agent.parameters()) == 1_686_180


def test_the_liu2022_network_has_its_published_number_of_neurons() -> None:
    network = NETWORKS["liu2022"]
    assert network.spiking is not None
    assert DSQN(GAMES["breakout"], network.spiking).neuron_counts == (12_800, 5_184, 3_136, 512)
    assert 12_800 + 5_184 + 3_136 + 512 == 21_632


def test_only_the_spike_rate_readout_has_output_neurons() -> None:
    game = GAMES["minatar/breakout"]
    counts = {readout: DSQN(game, Spiking(readout=READOUTS[readout]())).neuron_counts for readout in READOUTS}
    assert counts.pop("spike-rate") == (16 * 8 * 8, 128, 6)
    assert set(counts.values()) == {(16 * 8 * 8, 128)}


def test_the_minatar_network_has_the_layers_of_its_paper() -> None:
    shapes = [tuple(layer.weight.shape) for layer in DQN(GAMES["minatar/seaquest"]).layers]
    assert shapes == [(16, 10, 3, 3), (128, 1024), (6, 128)]


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "margins"),
    [(84, 8, 4, (2, 2)), (21, 4, 2, (1, 2)), (11, 3, 1, (1, 1)), (10, 3, 1, (1, 1)), (5, 1, 2, (0, 0))],
)
def test_the_odd_row_of_tensorflows_padding_comes_last(
    size: int, kernel_size: int, stride: int, margins: tuple[int, int]
) -> None:
    assert same_margins(size, kernel_size, stride) == margins


def test_padding_by_hand() -> None:
    """A 4 x 4 kernel with stride 2 that picks its upper left pixel sees, of 21 rows, the padding and the odd ones."""
    layer = SameConv2d(1, 1, 4, 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0] = 1.0
        image = torch.arange(1.0, 442.0).reshape(1, 1, 21, 21)
        given = layer(image)[0, 0]
    assert given.shape == (11, 11)
    assert (given[0] == 0).all()
    assert (given[:, 0] == 0).all()
    assert torch.equal(given[1:, 1:], image[0, 0, 1:20:2, 1:20:2])


def test_a_padded_network_has_dopamines_number_of_parameters() -> None:
    agent = DQN(GAMES["breakout"], padding="same")
    assert agent.layer_shapes == [(32, 21, 21), (64, 11, 11), (64, 11, 11), (512,), (4,)]
    assert sum(parameter.numel() for parameter in agent.parameters()) == 77_984 + 7744 * 512 + 512 + 2052


def test_a_network_without_biases_has_none() -> None:
    agent = Network(bias=False, spiking=None).make(GAMES["minatar/breakout"], seeded(0))
    assert [name for name, _ in agent.named_parameters()] == [f"layers.{i}.weight" for i in range(3)]


@pytest.mark.parametrize(
    ("name", "charge", "detach_reset", "sim_steps", "readout"),
    [
        ("liu2022", "lif", False, 64, "rate"),
        ("liu2022-spike", "lif", False, 64, "spike-rate"),
        ("liu2022-if", "if", False, 64, "rate"),
        ("chen2022", "lif", True, 8, "max-mem"),
    ],
)
def test_a_network_is_what_its_paper_says(
    name: str, charge: str, detach_reset: bool, sim_steps: int, readout: str
) -> None:
    spiking = NETWORKS[name].spiking
    assert spiking is not None
    assert NETWORKS[name].bias
    config = spiking.config()
    assert config["sim_steps"] == sim_steps
    assert config["readout"] == {"name": readout, **({"tau": 2.0} if readout.endswith("-mem") else {})}
    assert config["neuron"] == {
        "name": charge,
        **({"tau": 2.0} if charge == "lif" else {}),
        "threshold": 1.0,
        "reset": "hard",
        "detach_reset": detach_reset,
        "surrogate": "atan",
        "surrogate_slope": 2.0,
    }


# The contract of an agent ----------------------------------------------------------------------------


@pytest.mark.parametrize("game_name", TIERS)
@pytest.mark.parametrize("name", list(NETWORKS))
@torch.no_grad()
def test_every_network_scores_every_tier_and_remembers_nothing(name: str, game_name: str) -> None:
    game = GAMES[game_name]
    agent = random_agent(NETWORKS[name], game)
    x = inputs_of(game, 2)
    first = agent(x)
    assert first.shape == (2, game.num_actions)
    assert first.dtype == torch.float32
    assert bool(torch.isfinite(first).all())
    agent(1 - x)  # a membrane left over from this one would show in the next
    assert torch.equal(agent(x), first)


@pytest.mark.parametrize(
    ("name", "game_name"),
    [(name, game) for name in SPIKING_PRESETS for game in TIERS[:2]] + [("chen2022", "pong")],
)
@torch.no_grad()
def test_a_spiking_batch_equals_its_rows(
    name: str, game_name: str, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    agent = dyadic_agent(NETWORKS[name].spiking, GAMES[game_name], fill_dyadic)
    x = dyadic_inputs((3, *agent.game.observation_shape), 1)
    batch = agent.decide(x)
    rows = [agent.decide(row[None]) for row in x]
    assert batch.activity is not None
    assert bool((batch.activity.spikes > 0).all())  # silence would prove nothing
    assert torch.equal(
        batch.activity.spikes, torch.cat([row.activity.spikes for row in rows if row.activity])
    )
    torch.testing.assert_close(batch.scores, torch.cat([row.scores for row in rows]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("game_name", TIERS)
@torch.no_grad()
def test_a_relu_batch_equals_its_rows(game_name: str) -> None:
    agent = random_agent(NETWORKS["relu"], GAMES[game_name])
    x = inputs_of(agent.game, 3)
    torch.testing.assert_close(agent(x), torch.cat([agent(row[None]) for row in x]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list(NETWORKS))
@torch.no_grad()
def test_decide_and_forward_give_the_same_scores(name: str) -> None:
    agent = random_agent(NETWORKS[name], GAMES["minatar/breakout"])
    x = inputs_of(agent.game, 2)
    assert torch.equal(agent.decide(x).scores, agent(x))


def test_an_agent_without_spikes_reports_no_activity() -> None:
    agent = random_agent(NETWORKS["relu"], GAMES["minatar/breakout"])
    assert agent.decide(inputs_of(agent.game, 2)).activity is None
    assert agent.neuron_counts == ()


def test_random_play_scores_every_action_zero() -> None:
    game = GAMES["minatar/breakout"]
    assert torch.equal(RandomPlay(game)(inputs_of(game, 3)), torch.zeros(3, 6))


# Initialisation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPIKING_PRESETS)
@pytest.mark.parametrize("game_name", TIERS[:2])
def test_equal_generators_give_the_relu_and_the_spiking_network_equal_weights(
    name: str, game_name: str
) -> None:
    dqn = NETWORKS["relu"].make(GAMES[game_name], seeded(5)).state_dict()
    dsqn = NETWORKS[name].make(GAMES[game_name], seeded(5)).state_dict()
    other = NETWORKS[name].make(GAMES[game_name], seeded(6)).state_dict()
    assert dqn.keys() == dsqn.keys()
    assert all(torch.equal(dqn[key], dsqn[key]) for key in dqn)
    assert not any(torch.equal(dqn[key], other[key]) for key in dqn)


def test_initial_weights_fill_pytorchs_default_interval() -> None:
    first, *_ = NETWORKS["relu"].make(GAMES["minatar/breakout"], seeded(0)).layers
    bound = 1 / math.sqrt(4 * 3 * 3)
    for parameter in first.parameters():
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.8 * bound
    assert abs(first.weight.mean()) < 0.1 * bound


# Read-outs -------------------------------------------------------------------------------------------

TOY = Game("toy", "control", (1,), 2)


def toy_agent(readout: Any) -> DSQN:
    """One hidden neuron of 256 is connected. Driven by 1.5 it spikes at the second of three steps.

    Its membrane: 0.75, 1.125 (spike, back to 0), 0.75. So the output currents are 0, 4, 0 for the first
    action and 0.25, -0.75, 0.25 for the second.
    """
    agent = DSQN(TOY, Spiking(LIF(), 3, READOUTS[readout]()))
    weights = dict(agent.named_parameters())
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.zero_()
        weights["layers.0.weight"][0, 0] = 1.5
        weights["layers.1.weight"][:, 0] = torch.tensor([4.0, -1.0])
        weights["layers.1.bias"][1] = 0.25
    return agent


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        # Voltages v <- v + (x - v) / 2: 0, 2, 1 and 0.125, -0.3125, -0.03125.
        ("last-mem", [1.0, -0.03125]),
        ("max-mem", [2.0, 0.125]),
        ("mean-mem", [1.0, -0.21875 / 3]),
        ("max-abs-mem", [2.0, -0.3125]),
        # The output layer applied to the rate 1/3.
        ("rate", [4 / 3, -1 / 3 + 0.25]),
        # Output neurons charge to 0, 2 (spike), 0, and the second one never reaches 1.
        ("spike-rate", [1 / 3, 0.0]),
    ],
)
def test_a_readout_gives_the_value_made_by_hand(readout: str, expected: list[float]) -> None:
    scores = toy_agent(readout)(torch.ones(1, 1))
    torch.testing.assert_close(scores, torch.tensor([expected]), rtol=0, atol=1e-6)


def step_by_step(agent: DSQN, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output currents [T, B, A] and spike counts [B, L], one simulation step and one layer at a time."""
    neuron = agent.spiking.neuron
    layers = list(agent.layers)
    membranes: list[Tensor | None] = [None] * len(layers)
    counts = torch.zeros(len(x), len(agent.neuron_counts))
    currents = []
    for _ in range(agent.spiking.sim_steps):
        signal = x
        for index, layer in enumerate(layers):
            signal = layer(signal.flatten(1) if isinstance(layer, nn.Linear) else signal)
            if index == len(layers) - 1:
                currents.append(signal)
            if index < len(agent.neuron_counts):
                v = membranes[index]
                h = neuron.charge(torch.zeros_like(signal) if v is None else v, signal)
                signal = neuron.fire(h)
                membranes[index] = neuron.after(h, signal)
                counts[:, index] += signal.flatten(1).sum(1)
    return torch.stack(currents), counts


def read_explicitly(readout: str, currents: Tensor) -> Tensor:
    """Q [B, A] from the output layer's currents [T, B, A], by loops over simulation steps."""
    sim_steps, batch, actions = currents.shape
    scores = torch.zeros(batch, actions)
    for b in range(batch):
        for a in range(actions):
            x = currents[:, b, a].tolist()
            v, voltages, h, spikes = 0.0, [], 0.0, 0
            for current in x:
                v += (current - v) / 2
                voltages.append(v)
                h += (current - h) / 2
                if h >= 1:
                    spikes, h = spikes + 1, 0.0
            scores[b, a] = {
                "rate": sum(x) / sim_steps,  # the mean of the linear layer's outputs
                "spike-rate": spikes / sim_steps,
                "last-mem": voltages[-1],
                "max-mem": max(voltages),
                "mean-mem": sum(voltages) / sim_steps,
                "max-abs-mem": max(voltages, key=abs),
            }[readout]
    return scores


@pytest.mark.parametrize("readout", READOUTS)
@torch.no_grad()
def test_a_readout_equals_an_explicit_loop_over_simulation_steps(
    readout: Any, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    game = GAMES["minatar/breakout"]
    agent = dyadic_agent(Spiking(LIF(), 8, READOUTS[readout]()), game, fill_dyadic)
    assert isinstance(agent, DSQN)
    x = dyadic_inputs((4, *game.observation_shape), 2)
    currents, _ = step_by_step(agent, x)
    expected = read_explicitly(readout, currents)
    assert expected.std() > 0.05
    torch.testing.assert_close(agent(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("readout", ["rate", "spike-rate"])
@torch.no_grad()
def test_spike_counts_equal_an_explicit_count(
    readout: Any, fill_dyadic: FillDyadic, dyadic_inputs: DyadicInputs
) -> None:
    game = GAMES["minatar/breakout"]
    agent = dyadic_agent(Spiking(LIF(), 8, READOUTS[readout]()), game, fill_dyadic)
    assert isinstance(agent, DSQN)
    x = dyadic_inputs((4, *game.observation_shape), 2)
    activity = agent.decide(x).activity
    _, counts = step_by_step(agent, x)
    assert activity is not None
    assert activity.sim_steps.tolist() == [8] * 4
    assert bool((counts > 0).all())
    assert torch.equal(activity.spikes, counts)


@pytest.mark.parametrize("name", ["liu2022", "liu2022-if"])
@torch.no_grad()
def test_the_whole_network_equals_one_built_of_spikingjellys_layers(name: str) -> None:
    # In double precision, so that a rounding at a threshold cannot turn into a spike.
    agent = random_agent(NETWORKS[name], GAMES["minatar/breakout"], gain=5.0).double()
    x = inputs_of(agent.game, 4).double()

    def node() -> nn.Module:
        options: dict[str, Any] = {
            "v_threshold": 1.0,
            "v_reset": 0.0,
            "surrogate_function": sj_surrogate.ATan(),
        }
        if name == "liu2022-if":
            return sj_neuron.IFNode(**options)
        return sj_neuron.LIFNode(tau=2.0, decay_input=True, **options)

    conv, hidden, output = (copy.deepcopy(layer) for layer in agent.layers)
    body = nn.Sequential(conv, node(), nn.Flatten(), hidden, node())
    sj_functional.reset_net(body)
    total = sum(body(x) for _ in range(64))
    assert isinstance(total, Tensor)
    assert 0.01 < total.mean() / 64 < 0.9
    torch.testing.assert_close(agent(x), output(total / 64), rtol=0, atol=1e-5)


# Gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [NETWORKS[name] for name in SPIKING_PRESETS]
    + [
        Network(True, Spiking(readout=READOUTS[readout]()))
        for readout in ("last-mem", "mean-mem", "max-abs-mem")
    ],
    ids=[*SPIKING_PRESETS, "last-mem", "mean-mem", "max-abs-mem"],
)
def test_the_gradient_reaches_every_weight(network: Network) -> None:
    agent = random_agent(network, GAMES["minatar/breakout"])
    x = torch.rand(4, *agent.game.observation_shape, generator=seeded(2))
    weights = torch.randn(4, 6, generator=seeded(3))
    (agent(x) * weights).sum().backward()
    for name, parameter in agent.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name
        if name.endswith("bias"):
            # A weight's gradient is 0 where its input never spiked; every neuron has a surrogate's own.
            assert bool((parameter.grad != 0).all()), name


def test_the_gradient_of_the_observation_reaches_every_pixel() -> None:
    agent = random_agent(NETWORKS["chen2022"], GAMES["minatar/breakout"])
    x = torch.rand(2, *agent.game.observation_shape, generator=seeded(2)).requires_grad_()
    agent(x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all())


# Configuration ---------------------------------------------------------------------------------------


def test_the_configuration_of_a_spiking_network_survives_json() -> None:
    spiking = Spiking(
        IF(threshold=0.5, reset="soft", detach_reset=True, surrogate="sigmoid", surrogate_slope=4.0),
        5,
        READOUTS["last-mem"](tau=7.0),
    )
    agent = DSQN(GAMES["cartpole"], spiking, bias=False)
    again = DSQN.from_config(agent.game, json.loads(json.dumps(agent.config())))
    assert again.spiking == spiking
    assert not again.bias


def test_preactivations_are_what_each_layer_gives_before_its_relu() -> None:
    agent = random_agent(NETWORKS["relu"], GAMES["minatar/breakout"])
    conv, hidden, output = agent.layers
    x = inputs_of(agent.game, 2)
    assert isinstance(agent, DQN)
    first, second, third = agent.preactivations(x)
    torch.testing.assert_close(first, conv(x))
    torch.testing.assert_close(second, hidden(conv(x).relu().flatten(1)))
    torch.testing.assert_close(third, output(hidden(conv(x).relu().flatten(1)).relu()))
    assert first.min() < 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sim_steps": 0}, "0"),
        ({"sim_steps": True}, "True"),
    ],
)
def test_a_spiking_network_refuses_what_it_cannot_be_and_names_it(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refusal, match=named):
        Spiking(**options)


def test_a_read_out_refuses_a_time_constant_that_it_cannot_have() -> None:
    for tau in (0.5, float("nan")):
        with pytest.raises(Refusal, match=str(tau)):
            READOUTS["max-mem"](tau=tau)  # type: ignore[call-arg]
    with pytest.raises(Refusal, match=r"'last_mem': did you mean 'last-mem'"):
        READOUTS["last_mem"]


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match=r"'lui2022'.*liu2022.*chen2022"):
        NETWORKS["lui2022"]


def test_every_agent_says_what_it_is() -> None:
    game = GAMES["cartpole"]
    agents: list[Agent] = [DQN(game), DSQN(game, Spiking()), RandomPlay(game)]
    assert [agent.kind for agent in agents] == ["dqn", "dsqn", "random"]


def test_the_tutorials_network_of_spikingjellys_layers_gives_the_same_values_and_gradients() -> None:
    """SpikingJelly's own layers, stepped one simulation step at a time as its tutorial steps them."""
    from spikingjelly.activation_based import functional, layer, neuron

    class NonSpikingLIFNode(neuron.SimpleLIFNode):
        def single_step_forward(self, x: torch.Tensor) -> torch.Tensor:
            self.neuronal_charge(x)
            return self.v

    agent = NETWORKS["tutorial"].make(get_game("cartpole"), torch.Generator().manual_seed(0))
    theirs = torch.nn.Sequential(
        layer.Linear(4, 256),
        neuron.IFNode(),
        layer.Linear(256, 2),
        NonSpikingLIFNode(tau=2.0, decay_input=True),
    )
    for parameter, own in zip(theirs.parameters(), agent.parameters(), strict=True):
        parameter.data.copy_(own.detach())
    x = 2 * torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    cotangent = torch.randn(32, 2, generator=torch.Generator().manual_seed(2))
    functional.reset_net(theirs)
    for _ in range(16):
        theirs(x)
    expected = theirs[-1].v
    found = agent(x)
    decided = agent.decide(x)
    assert decided.activity is not None
    assert decided.activity.spikes.sum() > 1000
    torch.testing.assert_close(decided.scores, found, rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, own in zip(
        torch.autograd.grad((found * cotangent).sum(), list(agent.parameters())),
        torch.autograd.grad((expected * cotangent).sum(), list(theirs.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
