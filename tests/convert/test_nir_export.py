"""A NIR file, read and executed by equations that are NIR's and not ours, fires our spikes and gives our Q-values."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import nir_exchange
from torch import Tensor

from convert import nir_export
from core.checkpoint import load_agent, save_agent
from core.choices import CHARGE_READOUTS
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES, Game
from core.layers import Layers, initialise
from core.networks import NETWORKS
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.neurons.membrane import MembraneNeuron
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import READOUTS
from play.states import batches
from tests.conftest import Command
from tests.convert.conftest import GAME, make_dqn
from tests.test_refusals import PROVENANCE, is_refused

TIERS = [("minatar/breakout", 12), ("pong", 4), ("cartpole", 12)]


class Executed(NamedTuple):
    """What a graph did."""

    spikes: Tensor
    """[B, L] spikes of each layer."""
    q: Tensor
    """[B, A]."""


def in_order(graph: nir.NIRGraph) -> Iterator[tuple[str, nir.NIRNode]]:
    """The nodes of a chain, from its input on."""
    following = dict(graph.edges)
    assert len(following) == len(graph.edges) == len(graph.nodes) - 1
    name = "input"
    while name != "output":
        name = following[name]
        yield name, graph.nodes[name]


def execute(graph: nir.NIRGraph, images: Tensor) -> Executed:
    """Forward Euler, dt = 1, of the equations in the docstrings of nir 1.0.8; the metadata say the rest."""
    meta = graph.metadata
    assert (meta["dt"], meta["input"], meta["layer_delay"]) == (1, "constant", 0)
    assert (meta["firing"], meta["spike_when"]) == ("at-once", "v >= v_threshold")
    sim_steps = int(meta["sim_steps"])
    voltages: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    outputs: list[Tensor] = []
    for _ in range(sim_steps):
        x = images
        for name, node in in_order(graph):
            at = {
                key: torch.as_tensor(value)
                for key, value in vars(node).items()
                if isinstance(value, np.ndarray)
            }
            if isinstance(node, nir.Conv2d):
                stride, padding = (tuple(map(int, size)) for size in (node.stride, node.padding))
                x = F.conv2d(x, at["weight"], at["bias"], stride, padding, groups=int(node.groups))
            elif isinstance(node, nir.Linear | nir.Affine):
                x = x @ at["weight"].T
                x = x + at["bias"] if "bias" in at else x
            elif isinstance(node, nir.Flatten):
                assert (node.start_dim, node.end_dim) == (0, -1)  # of what has no batch dimension
                x = x.flatten(1)
            elif isinstance(node, nir.IF | nir.LIF | nir.LI):
                fires = not isinstance(node, nir.LI)
                v = voltages.get(name, torch.full_like(x, float(meta["v_init"]) if fires else 0.0))
                leaks = not isinstance(node, nir.IF)
                v = v + (((at["v_leak"] - v) + at["r"] * x) / at["tau"] if leaks else at["r"] * x)
                if fires:
                    x = (v >= at["v_threshold"]).float()
                    soft = {"soft": True, "hard": False}[meta["reset"]]
                    v = v - at["v_threshold"] * x if soft else torch.where(x > 0, at["v_reset"], v)
                    counts[name] = counts.get(name, 0.0) + x.flatten(1).sum(1)
                else:
                    x = v
                voltages[name] = v
            else:
                assert isinstance(node, nir.Output)
        outputs.append(x)
    given = torch.stack(outputs)  # [T, B, A]
    match meta["readout"]:
        case "robust":
            *_, last = voltages
            q = (given.sum(0) + voltages[last] - float(meta["v_init"])) / sim_steps
        case "last-mem":
            q = given[-1]
        case "max-mem":
            q = given.amax(0)
        case "max-abs-mem":
            most, least = given.amax(0), given.amin(0)
            q = torch.where(most.abs() >= least.abs(), most, least)
        case "current" | "spikes" | "rate" | "spike-rate" | "mean-mem":
            q = given.mean(0)
    return Executed(torch.stack(list(counts.values()), 1), float(meta["output_scale"]) * q)


def through_a_file(agent: RateCodedNetwork | DSQN, folder: Path) -> nir.NIRGraph:
    (folder / "agent.nir").write_bytes(nir_export.to_bytes(agent))
    return nir.read(folder / "agent.nir")


@torch.no_grad()
def fill_dyadic(layers: Layers, seed: int) -> None:
    """Multiples of 1/64, whose sums are exact in any order, of a size and skew at which every layer spikes."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        largest = max(2, round(64 * 4.0 / layer.weight[0].numel() ** 0.5))
        for parameter in layer.parameters():
            drawn = torch.randint(-largest, largest + 1 + largest // 8, parameter.shape, generator=generator)
            parameter.copy_(drawn / 64)


def dyadic_images(game: Game, batch: int) -> Tensor:
    shape = (batch, *game.observation_shape)
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(1)) / 16


def require_equal(agent: RateCodedNetwork | DSQN, folder: Path, batch: int = 2) -> None:
    """The same spikes of every layer, all of which fire, and the same Q-values."""
    fill_dyadic(agent.layers, 0)
    images = dyadic_images(agent.game, batch)
    with torch.no_grad():
        executed, decision = execute(through_a_file(agent, folder), images), agent.decide(images)
    assert decision.activity is not None
    assert torch.equal(executed.spikes, decision.activity.spikes)
    assert executed.spikes.shape == (batch, len(agent.neuron_counts))
    assert bool((executed.spikes.sum(0) > 0).all())  # otherwise nothing was compared
    torch.testing.assert_close(executed.q, decision.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("readout", ["robust", "current", "spikes"])
@pytest.mark.parametrize(("game", "sim_steps"), TIERS)
def test_a_converted_network(game: str, sim_steps: int, readout: Any, bias: bool, tmp_path: Path) -> None:
    agent = RateCodedNetwork(GAMES[game], RateCoding(sim_steps, readout, IFNeuron(v_init=0.5)), bias)
    agent.output_scale.fill_(3.0)
    require_equal(agent, tmp_path)


def test_a_converted_network_that_leaks(tmp_path: Path) -> None:
    """Its leak is no dyadic number: the membranes are equal up to rounding, and the spikes of these weights equal."""
    for tau in (0.7, 5.0, 100.0):
        require_equal(RateCodedNetwork(GAME, RateCoding(10, neuron=IFNeuron(tau=tau))), tmp_path)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("network", ["liu2022", "liu2022-if", "liu2022-spike", "chen2022"])
@pytest.mark.parametrize(("game", "sim_steps"), TIERS)
def test_a_dsqn(game: str, sim_steps: int, network: str, reset: Any, bias: bool, tmp_path: Path) -> None:
    spiking = NETWORKS[network].spiking
    assert spiking is not None
    spiking = replace(spiking, sim_steps=sim_steps, neuron=replace(spiking.neuron, reset=reset))
    require_equal(DSQN(GAMES[game], spiking, bias), tmp_path)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("neuron", [LIF(), LIF(tau=3.0, threshold=0.75, reset="soft"), IF(threshold=2.0)])
def test_every_read_out_and_neuron_of_a_dsqn(readout: Any, neuron: MembraneNeuron, tmp_path: Path) -> None:
    require_equal(DSQN(GAME, Spiking(neuron, 8, READOUTS[readout]())), tmp_path)


def test_real_weights_of_a_paper_network(tmp_path: Path) -> None:
    """64 steps of floating-point weights: a membrane may fall to the other side of a threshold, Q-values may not."""
    agent = DSQN(GAME, Spiking(LIF(), 64, READOUTS["rate"]()))
    initialise(agent.layers, torch.Generator().manual_seed(0))
    images = dyadic_images(GAME, 8)
    with torch.no_grad():
        executed, decision = execute(through_a_file(agent, tmp_path), images), agent.decide(images)
    torch.testing.assert_close(executed.q, decision.scores, rtol=0, atol=2e-3)


@pytest.mark.parametrize("neuron", [LIF(), IF(), LIF(tau=4.0, threshold=0.5)])
@pytest.mark.parametrize(("game", "sim_steps"), TIERS)
def test_spikingjelly_reads_a_network_with_hard_reset(
    game: str, sim_steps: int, neuron: MembraneNeuron, tmp_path: Path
) -> None:
    agent = DSQN(GAMES[game], Spiking(neuron, sim_steps, READOUTS["rate"]()))
    fill_dyadic(agent.layers, 0)
    images = dyadic_images(agent.game, 2)
    imported = nir_exchange.import_from_nir(through_a_file(agent, tmp_path), dt=1.0)
    counts: dict[str, Tensor] = {}

    def counting(name: str) -> Any:
        def count(module: Any, given: Any, returned: tuple[Tensor, Any]) -> None:
            counts[name] = counts.get(name, 0.0) + returned[0].flatten(1).sum(1)

        return count

    for name, module in imported.named_children():
        if name.endswith("_neurons"):
            module.register_forward_hook(counting(name))
    state, outputs = None, []
    with torch.no_grad():
        for _ in range(sim_steps):
            output, state = imported(images, state)
            outputs.append(output)
        decision = agent.decide(images)
    assert decision.activity is not None
    spikes = torch.stack([counts[name] for name in sorted(counts)], 1)
    assert torch.equal(spikes, decision.activity.spikes)
    assert bool((spikes.sum(0) > 0).all())
    torch.testing.assert_close(torch.stack(outputs).mean(0), decision.scores, rtol=1e-5, atol=1e-6)


# What the graph is -----------------------------------------------------------------------------------


def test_a_graph_says_what_it_is_of(tmp_path: Path) -> None:
    snn = RateCodedNetwork(GAMES["pong"], RateCoding(500, neuron=IFNeuron(v_init=0.5)))
    snn.output_scale.fill_(2.5)
    fill_dyadic(snn.layers, 0)
    graph = through_a_file(snn, tmp_path)
    assert [name for name, _ in in_order(graph)] == [
        *("layer1_conv", "layer1_neurons", "layer2_conv", "layer2_neurons", "layer3_conv", "layer3_neurons"),
        *("layer4_flatten", "layer4_linear", "layer4_neurons", "layer5_linear", "layer5_neurons", "output"),
    ]
    assert graph.nodes["layer1_neurons"].v_threshold.shape == (32, 20, 20)
    assert list(graph.nodes["output"].input_type["input"]) == [6]
    expected = {
        "kind": "rate-coded",
        "game": "pong",
        "sim_steps": 500,
        "dt": 1,
        "reset": "soft",
        "v_init": 0.5,
    }
    expected |= {"firing": "at-once", "readout": "robust", "output_scale": 2.5}
    assert expected.items() <= graph.metadata.items()
    assert "readout_tau" not in graph.metadata
    chen = through_a_file(DSQN(GAME, Spiking(LIF(), 8, READOUTS["max-mem"](tau=3.0))), tmp_path)
    expected = {
        "kind": "dsqn",
        "sim_steps": 8,
        "reset": "hard",
        "v_init": 0,
        "readout": "max-mem",
        "readout_tau": 3,
    }
    assert expected.items() <= chen.metadata.items()
    assert isinstance(chen.nodes["layer3_readout"], nir.LI)


def test_every_read_out_is_put_into_words() -> None:
    assert set(nir_export.Q_VALUES) == set(CHARGE_READOUTS)
    assert all(readout.q_values for readout in READOUTS.values())


def test_a_graph_is_nobody_elses_memory() -> None:
    agent = DSQN(GAME, Spiking())
    fill_dyadic(agent.layers, 0)
    before = nir_export.to_bytes(agent)
    nir_export.to_graph(agent).nodes["layer1_conv"].weight[:] = 7.0
    assert nir_export.to_bytes(agent) == before  # and equal networks give equal bytes


def test_uneven_padding_is_refused() -> None:
    snn = RateCodedNetwork(GAMES["pong"], RateCoding(4), padding="same")
    with pytest.raises(Refusal, match="NIR cannot express padding same"):
        nir_export.to_graph(snn)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"neuron": IFNeuron("signed")}, "firing signed"),
        ({"neuron": IFNeuron("afterwards")}, "firing afterwards"),
        ({"presteps": 4}, "presteps 4"),
        ({"residual_alpha": 0.5}, "residual_alpha 0.5"),
        ({"stop_gap": 0.0}, "stop_gap 0.0"),
        ({"layer_delay": True}, "layer_delay"),
        ({"image_bits": 10}, "image_bits 10"),
        ({"presteps": 4, "stop_gap": 1.0}, "presteps 4, stop_gap 1.0"),
    ],
)
def test_what_nir_has_no_word_for_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Refusal, match=f"NIR cannot express {named}|{named}: export a network without"):
        nir_export.to_graph(RateCodedNetwork(GAME, RateCoding(4, **options)))


# The command line ------------------------------------------------------------------------------------


def test_a_converted_network_is_exported_by_either_verb(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "snn" / "agent.safetensors", tmp_path / "other.nir"
    few = ("--sim-steps", 4, "--calibration-states", 60, "--test-states", 40, "--v-init", 0.5)
    run = ("run", "--agent", checkpoint, "--out", out, *few)
    assert command("convert", *run).code == 0
    rows = out.with_suffix(".conversion.parquet").read_bytes()
    finished = command(
        "convert", *run, "--nir", out.with_suffix(".nir")
    )  # what was converted is only exported
    assert (finished.code, "already done" in finished.out) == (0, True), finished.err
    assert command("convert", "export", "--agent", out, "--out", other).code == 0
    assert other.read_bytes() == out.with_suffix(".nir").read_bytes()
    again = command("convert", "export", "--agent", out, "--out", other)
    assert (again.code, again.out) == (0, f"{other}: already done\n")
    assert out.with_suffix(".conversion.parquet").read_bytes() == rows
    assert not list(tmp_path.rglob("*.lock")) + list(tmp_path.rglob("*.partial"))
    # What was written is the network of the checkpoint, on states that it would meet.
    snn = load_agent(out).agent
    (images,) = batches(make_dqn(0), np.random.default_rng(0).integers(2, size=(3, *GAME.observation_shape)))
    executed = execute(nir.read(other), images.float())
    torch.testing.assert_close(executed.q, snn(images.float()), rtol=1e-4, atol=1e-4)


def test_bad_exports_are_refused_in_one_line(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    export = ("convert", "export", "--out", tmp_path / "agent.nir", "--agent")
    is_refused(command(*export, checkpoint), "holds the agent 'dqn'", "rate-coded or a dsqn")
    is_refused(command(*export, tmp_path / "no.safetensors"), "no checkpoint at")
    is_refused(command("convert", "export", "--agent", checkpoint, "--out", tmp_path / "agent.h5"), ".nir")
    run = ("convert", "run", "--agent", checkpoint, "--out", tmp_path / "snn.safetensors", "--nir")
    is_refused(command(*run, tmp_path / "snn.h5"), "--nir", ".nir")
    is_refused(command(*run, tmp_path / "snn.nir", "--presteps", 2), "presteps 2")
    is_refused(command(*run, tmp_path / "snn.nir", "--method", "qcfs"), "firing signed")
    assert sorted(tmp_path.iterdir()) == before
    signed = RateCodedNetwork(GAME, RateCoding(4, neuron=IFNeuron("signed")))
    fill_dyadic(signed.layers, 0)
    save_agent(tmp_path / "signed.safetensors", signed, PROVENANCE)
    before = sorted(tmp_path.iterdir())
    is_refused(command(*export, tmp_path / "signed.safetensors"), "firing signed")
    assert sorted(tmp_path.iterdir()) == before


def test_without_nir_one_line_says_what_brings_it(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    dsqn = DSQN(GAME, Spiking())
    fill_dyadic(dsqn.layers, 0)
    save_agent(tmp_path / "dsqn.safetensors", dsqn, PROVENANCE)
    before = sorted(tmp_path.iterdir())
    export = ("convert", "export", "--agent", tmp_path / "dsqn.safetensors", "--out", tmp_path / "agent.nir")
    is_refused(command(*export), "nir is not installed", "pip install '.[nir]'")
    run = ("convert", "run", "--agent", checkpoint, "--out", tmp_path / "snn.safetensors")
    is_refused(command(*run, "--nir", tmp_path / "snn.nir"), "nir is not installed")
    assert sorted(tmp_path.iterdir()) == before
