"""Checkpoints: what comes back, and what is refused before it is believed."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.agents import Agent
from core.checkpoint import load_agent, save_agent
from core.dqn import DQN, Actor
from core.dsqn import DSQN, Spiking, SpikingActor
from core.errors import Refusal
from core.games import GAMES
from core.layers import initialise, parse_layers
from core.networks import NETWORKS
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.quantised import QuantisedDQN
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import READOUTS
from core.tensor_files import write_tensors

GAME = GAMES["minatar/breakout"]
AGENTS_FOLDER = Path(__file__).resolve().parents[2] / "results" / "agents"
PROVENANCE = {
    "train_seed": 3,
    "train_steps": 1000,
    "recipe_steps": 5000,
    "recipe": "minatar",
    "network": "relu",
    "scores_are_q_values": True,
    "more": {"loss": "huber"},
}


def a_dqn(seed: int = 0) -> Agent:
    return NETWORKS["relu"].make(GAME, torch.Generator().manual_seed(seed))


def a_dsqn() -> Agent:
    # Not one option stands at its default, so none can be lost unnoticed.
    spiking = Spiking(
        IF(threshold=0.5, reset="soft", detach_reset=True, surrogate="sigmoid", surrogate_slope=4.0),
        5,
        READOUTS["mean-mem"](tau=3.0),
    )
    agent = DSQN(GAME, spiking, bias=False)
    initialise(agent.layers, torch.Generator().manual_seed(0))
    return agent


def a_rate_coded() -> Agent:
    agent = RateCodedNetwork(
        GAME, RateCoding(17, "spikes", IFNeuron("signed", 0.5), layer_delay=True), bias=False
    )
    initialise(agent.layers, torch.Generator().manual_seed(0))
    agent.output_scale.fill_(2.75)
    return agent


Alter = Callable[[dict[str, Tensor], dict[str, Any]], None]


def altered(path: Path, agent: Agent, alter: Alter) -> Path:
    """A checkpoint of an agent whose tensors or header were tampered with."""
    save_agent(path, agent, PROVENANCE)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["spikeq"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    del header["seal"]
    alter(tensors, header)
    write_tensors(path, tensors, "spikeq", header)
    return path


# What comes back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [a_dqn, a_dsqn, a_rate_coded])
def test_an_agent_comes_back_with_the_same_bits(make: Callable[[], Agent], tmp_path: Path) -> None:
    agent = make()
    path = tmp_path / "agent.safetensors"
    save_agent(path, agent, PROVENANCE)
    loaded = load_agent(path)
    assert type(loaded.agent) is type(agent)
    assert loaded.agent.game is GAME
    assert loaded.agent.config() == agent.config()
    assert loaded.provenance == PROVENANCE
    weights, others = agent.state_dict(), loaded.agent.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("make", [a_dqn, a_dsqn, a_rate_coded])
def test_a_loaded_agent_scores_as_the_saved_one(make: Callable[[], Agent], tmp_path: Path) -> None:
    agent = make()
    save_agent(tmp_path / "agent.safetensors", agent, PROVENANCE)
    x = torch.rand(3, *GAME.observation_shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(load_agent(tmp_path / "agent.safetensors").agent(x), agent(x))


@pytest.mark.parametrize(("network", "kind"), [("relu", Actor), ("tutorial", SpikingActor)])
def test_an_actor_comes_back_as_an_actor(network: str, kind: type, tmp_path: Path) -> None:
    actor = NETWORKS[network].make_actor(GAMES["cartpole"], torch.Generator().manual_seed(0))
    assert [tuple(weights.shape) for weights in actor.parameters()] == [(32, 4), (32,), (2, 32), (2,)]
    save_agent(tmp_path / "agent.safetensors", actor, PROVENANCE)
    loaded = load_agent(tmp_path / "agent.safetensors").agent
    assert type(loaded) is type(actor) is kind
    assert loaded.config() == actor.config()
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(x), actor(x))


def test_there_is_no_actor_of_games_that_ppo_does_not_play() -> None:
    with pytest.raises(
        Refusal, match="minatar/breakout is minatar: such a network is there for control games only"
    ):
        Actor(GAMES["minatar/breakout"])


def test_a_loaded_agent_is_not_trained_by_accident(tmp_path: Path) -> None:
    save_agent(tmp_path / "agent.safetensors", a_dqn(), PROVENANCE)
    agent = load_agent(tmp_path / "agent.safetensors").agent
    assert not agent.training
    assert not any(parameter.requires_grad for parameter in agent.parameters())


def test_the_same_agent_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_agent(tmp_path / name, a_dqn(), PROVENANCE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_order_of_the_provenance_does_not_change_the_bytes(tmp_path: Path) -> None:
    save_agent(tmp_path / "one", a_dqn(), PROVENANCE)
    save_agent(tmp_path / "two", a_dqn(), dict(reversed(PROVENANCE.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_id_names_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_agent(path, a_dqn(0), PROVENANCE)
    identity = load_agent(path).id
    assert identity == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    save_agent(path, a_dqn(1), PROVENANCE)
    assert load_agent(path).id != identity


def test_saving_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    save_agent(tmp_path / "agent.safetensors", a_dqn(), PROVENANCE)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"]


def test_half_precision_weights_load_as_single_precision(tmp_path: Path) -> None:
    agent = a_dqn()

    def halve(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    loaded = load_agent(altered(tmp_path / "agent.safetensors", agent, halve)).agent
    for name, weight in loaded.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, agent.state_dict()[name].half().float())


def test_an_agent_may_play_another_game_of_the_same_shape(tmp_path: Path) -> None:
    save_agent(tmp_path / "agent.safetensors", a_dqn(), PROVENANCE)
    loaded = load_agent(
        tmp_path / "agent.safetensors", game=GAMES["minatar/asterix"]
    )  # 4 planes, 6 actions too
    assert loaded.agent.game is GAME


# What is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_refused(tenths: int, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_agent(path, a_dqn(), PROVENANCE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenths // 10])
    with pytest.raises(Refusal, match=r"agent\.safetensors"):
        load_agent(path)


class _Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_under_another_name_is_refused_and_not_run(writer: str, tmp_path: Path) -> None:
    path, proof = tmp_path / "agent.safetensors", tmp_path / "proof"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(_Payload(proof)))
    else:
        torch.save({"layers.0.weight": _Payload(proof)}, path)
    with pytest.raises(Refusal):
        load_agent(path)
    assert not proof.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())
        assert proof.exists()  # so the payload was live


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["layers.1.weight", "layers.2.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        tensors[name].view(-1)[-1] = value

    with pytest.raises(Refusal, match=name):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), spoil))


def test_a_scale_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        tensors["output_scale"].fill_(float("nan"))

    with pytest.raises(Refusal, match="output_scale"):
        load_agent(altered(tmp_path / "agent.safetensors", a_rate_coded(), spoil))


@pytest.mark.parametrize("make", [a_dqn, a_rate_coded])
def test_a_file_from_before_there_was_padding_has_none(tmp_path: Path, make: Callable[[], Agent]) -> None:
    def forget(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        assert header["config"].pop("padding") == "valid"

    again = load_agent(altered(tmp_path / "agent.safetensors", make(), forget)).agent
    assert again.config() == make().config()


def test_an_unknown_padding_is_refused(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        header["config"]["padding"] = "reflect"

    with pytest.raises(Refusal, match="'reflect': accepted is valid, same"):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), spoil))


def test_a_game_with_another_number_of_actions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_agent(path, DQN(GAMES["pong"]), PROVENANCE)
    with pytest.raises(Refusal, match=r"pong \(6 actions.*breakout needs 4 actions"):
        load_agent(path, game=GAMES["breakout"])


def test_a_game_with_other_observations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_agent(path, a_dqn(), PROVENANCE)
    with pytest.raises(Refusal, match=r"minatar/seaquest needs.*10, 10, 10"):
        load_agent(path, game=GAMES["minatar/seaquest"])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no checkpoint at .*nowhere\.safetensors"):
        load_agent(tmp_path / "nowhere.safetensors")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal):
        load_agent(tmp_path)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_file(a_dqn().state_dict(), path, {"format": "pt"})
    with pytest.raises(Refusal, match="not written by SpikeQ"):
        load_agent(path)


def test_a_safetensors_file_without_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_file(a_dqn().state_dict(), path)
    with pytest.raises(Refusal, match="not written by SpikeQ"):
        load_agent(path)


@pytest.mark.parametrize("entry", ["", "{", "null", "[]", "3", '"dqn"'])
def test_a_header_that_is_no_json_object_is_refused(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_file(a_dqn().state_dict(), path, {"spikeq": entry})
    with pytest.raises(Refusal):
        load_agent(path)


@pytest.mark.parametrize("key", ["format", "kind", "game", "config", "provenance"])
def test_a_header_without_an_entry_is_refused(key: str, tmp_path: Path) -> None:
    def drop(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        del header[key]

    with pytest.raises(Refusal):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), drop))


@pytest.mark.parametrize("key", ["format", "kind", "game", "config", "provenance"])
@pytest.mark.parametrize("value", [None, 5, ["dqn"]])
def test_a_header_with_a_meaningless_entry_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        header[key] = value

    with pytest.raises(Refusal):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), spoil))


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("format", 3, "format 3"),
        ("kind", "a3c", "'a3c'"),
        ("kind", "random", "'random'"),
        ("game", "minatar/pacman", "'minatar/pacman'"),
        ("config", {"bias": True, "dueling": True}, "dueling"),
    ],
)
def test_a_header_of_something_unknown_is_refused_and_named(
    key: str, value: Any, named: str, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        header[key] = value

    with pytest.raises(Refusal, match=named):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), change))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sim_steps", 0),
        ("sim_steps", "eight"),
        ("sim_steps", 1.5),
        ("readout", "loudest"),
        ("readout", {"name": "max-mem", "tau": None}),
        ("readout", {"name": "rate", "tau": 2.0}),
        ("neuron", None),
        ("neuron", {"charge": "izhikevich"}),
        ("neuron", {"name": "izhikevich"}),
        ("neuron", {"name": "lif", "tau": "two"}),
        ("neuron", {"name": "lif", "tau": float("nan")}),
        ("neuron", {"name": "lif", "membrane": 1}),
        ("normalisation", {"name": "batch"}),
        ("loudness", 3),
    ],
)
def test_a_spiking_configuration_that_makes_no_sense_is_refused(
    option: str, value: Any, tmp_path: Path
) -> None:
    def spoil(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        header["config"]["spiking"][option] = value

    with pytest.raises(Refusal):
        load_agent(altered(tmp_path / "agent.safetensors", a_dsqn(), spoil))


def test_a_weight_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    def transpose(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        tensors["layers.1.weight"] = tensors["layers.1.weight"].T.contiguous()

    with pytest.raises(Refusal, match=r"layers\.1\.weight.*\(1024, 128\).*\(128, 1024\)"):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), transpose))


def test_a_missing_weight_is_refused_by_name(tmp_path: Path) -> None:
    def drop(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        del tensors["layers.2.bias"]

    with pytest.raises(Refusal, match=r"layers\.2\.bias"):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), drop))


def test_a_weight_that_the_agent_has_not_is_refused_by_name(tmp_path: Path) -> None:
    def add(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        tensors["value.weight"] = torch.zeros(1, 128)

    with pytest.raises(Refusal, match=r"value\.weight"):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), add))


def test_the_weights_of_another_game_are_refused(tmp_path: Path) -> None:
    def rename(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        header["game"] = "minatar/seaquest"

    with pytest.raises(Refusal, match=r"layers\.0\.weight"):
        load_agent(altered(tmp_path / "agent.safetensors", a_dqn(), rename))


# Paths, layers and older files -----------------------------------------------------------------------


def test_paths_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    agent = a_dqn()
    save_agent("x.safetensors", agent, PROVENANCE)
    save_agent(tmp_path / "y.safetensors", agent, PROVENANCE)
    assert load_agent("x.safetensors").id == load_agent(tmp_path / "y.safetensors").id
    with pytest.raises(Refusal, match=r"no checkpoint at z\.safetensors"):
        load_agent("z.safetensors")


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["spikeq"])
    return header


@pytest.mark.parametrize(
    "make",
    [
        lambda hidden: DQN(GAME, hidden=hidden),
        lambda hidden: DSQN(GAME, Spiking(), hidden=hidden),
        lambda hidden: QuantisedDQN(GAME, 8, hidden=hidden),
        lambda hidden: RateCodedNetwork(GAME, RateCoding(8), hidden=hidden),
        lambda hidden: Actor(GAME, hidden=hidden),
        lambda hidden: SpikingActor(GAME, Spiking(), hidden=hidden),
    ],
)
def test_layers_of_ones_own_come_back(make: Callable[[Any], Any], tmp_path: Path) -> None:
    agent, path = make(parse_layers("8c3s2 6c2s1 40 30")), tmp_path / "agent.safetensors"
    initialise(agent.layers, torch.Generator().manual_seed(0))
    save_agent(path, agent, PROVENANCE)
    assert header_of(path)["config"]["layers"] == "8c3s2 6c2s1 40 30"
    loaded = load_agent(path).agent
    assert type(loaded) is type(agent)
    x = torch.rand(3, *GAME.observation_shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(x), agent(x))


@pytest.mark.parametrize("make", [a_dqn, a_dsqn, a_rate_coded, lambda: QuantisedDQN(GAME, 8)])
def test_usual_layers_are_no_entry_of_a_file(make: Callable[[], Agent], tmp_path: Path) -> None:
    agent = make()
    assert "layers" not in agent.config()
    # Given by hand they are the same layers, and the same bytes.
    config = {**agent.config(), "layers": "16c3s1 128"}
    again = type(agent).from_config(GAME, config)
    again.load_state_dict(agent.state_dict())
    save_agent(tmp_path / "usual", agent, PROVENANCE)
    save_agent(tmp_path / "given", again, PROVENANCE)
    assert (tmp_path / "usual").read_bytes() == (tmp_path / "given").read_bytes()


def test_a_dqns_file_is_the_same_as_before_layers_could_be_chosen(tmp_path: Path) -> None:
    save_agent(tmp_path / "dqn", a_dqn(), PROVENANCE)
    assert header_of(tmp_path / "dqn")["config"] == {"bias": True, "padding": "valid"}


@pytest.mark.parametrize("layers", [5, ["512"], "16x3", "", "16c30s1"])
def test_layers_that_make_no_sense_are_refused(layers: Any, tmp_path: Path) -> None:
    path = altered(
        tmp_path / "x.safetensors", a_dqn(), lambda _, header: header["config"].update(layers=layers)
    )
    with pytest.raises(Refusal, match=r"x\.safetensors: layer"):
        load_agent(path)


def pattern(channels: int) -> Tensor:
    """An observation of MinAtar in which every eleventh pixel is set."""
    return (torch.arange(channels * 100).reshape(1, channels, 10, 10) * 7 % 11 == 0).float()


@pytest.mark.parametrize(
    ("name", "scores", "spikes"),
    [
        (
            "minatar-breakout-dqn-s0",
            [8.055744171, 8.831941605, 8.098867416, 6.738846779, 8.113381386, 8.073835373],
            None,
        ),
        (
            "minatar-breakout-dsqn-s0",
            [2.758590698, 4.997594833, 2.162450790, 2.787080765, 2.794826508, 2.422994614],
            [739, 103],
        ),
        (
            "minatar-space_invaders-dsqn-s1",
            [7.178500175, 8.139211655, 7.235291004, 7.586163044, 7.060852051, 7.177097321],
            [733, 146],
        ),
    ],
)
@torch.no_grad()
def test_a_shipped_agent_scores_as_when_it_was_shipped(
    name: str, scores: list[float], spikes: list[int] | None
) -> None:
    # Made by the version that wrote the files, whose neurons have a `charge` and whose read-out is a word.
    path = AGENTS_FOLDER / f"{name}.safetensors"
    config = header_of(path)["config"]
    assert ("spiking" in config) == (spikes is not None)
    if spikes is not None:
        assert config["spiking"]["neuron"]["charge"] == "lif"
        assert config["spiking"]["readout"] == "max-mem"
    agent = load_agent(path).agent
    decision = agent.decide(pattern(agent.game.observation_shape[0]))
    torch.testing.assert_close(decision.scores, torch.tensor([scores]), rtol=1e-5, atol=1e-5)
    if spikes is not None:
        assert decision.activity is not None
        assert decision.activity.spikes.tolist() == [spikes]


@pytest.mark.parametrize(
    ("neuron", "readout", "old_neuron", "old_readout"),
    [
        (IF(threshold=0.5), READOUTS["rate"](), {"charge": "if", "tau": 2.0, "threshold": 0.5}, "rate"),
        (LIF(tau=3.0), READOUTS["spike-rate"](), {"charge": "lif", "tau": 3.0}, "spike-rate"),
        (LIF(), READOUTS["mean-mem"](tau=4.0), {"charge": "lif", "tau": 2.0}, "mean-mem"),
    ],
)
@torch.no_grad()
def test_a_spiking_network_of_the_old_format_is_read(
    neuron: Any, readout: Any, old_neuron: dict[str, Any], old_readout: str, tmp_path: Path
) -> None:
    agent = DSQN(GAME, Spiking(neuron, 6, readout))
    initialise(agent.layers, torch.Generator().manual_seed(0))
    for parameter in agent.parameters():
        parameter.mul_(6.0)  # so that output neurons spike

    def age(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        spiking = header["config"]["spiking"]
        spiking["neuron"] = {**spiking["neuron"], **old_neuron}
        del spiking["neuron"]["name"]
        spiking["readout"] = old_readout
        spiking["readout_tau"] = 4.0

    loaded = load_agent(altered(tmp_path / "old.safetensors", agent, age)).agent
    assert isinstance(loaded, DSQN)
    assert loaded.spiking == agent.spiking
    x = torch.rand(3, *GAME.observation_shape, generator=torch.Generator().manual_seed(1))
    assert agent(x).std() > 0
    assert torch.equal(loaded(x), agent(x))
