"""`convert import`: files as the other projects write them, read to equal Q-values; bad ones refused, never run."""

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from adversarial.hook import make_attack
from analysis.tables import markdown, score_lines
from convert import archives, foreign, foreign_files
from convert.bindsnet_check import bindsnet_scores
from convert.measurement import fan_out
from convert.methods import exact
from convert.scaling import scaled_network
from core.checkpoint import load_agent, save_agent
from core.dqn import DQN
from core.dsqn import DSQN
from core.games import get_game
from core.networks import NETWORKS
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.records import digest
from play.episodes import Played, episode_row
from play.protocols import get_protocol
from tests.conftest import Command
from tests.test_refusals import PROVENANCE, Payload, is_refused

GAME = get_game("breakout")


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Random stacks of frames [8, 4, 84, 84], uint8."""
    return torch.randint(
        0, 256, (8, *GAME.observation_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


# What the other projects write ----------------------------------------------------------------------


class Noise(gymnasium.Env[np.ndarray, np.int64]):
    """Stacks of random frames, as Stable-Baselines3's Atari wrappers give them (channels last)."""

    observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._frames(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._frames(), float(action), False, False, {}

    def _frames(self) -> np.ndarray:
        return self.np_random.integers(0, 256, (84, 84, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def sb3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A Stable-Baselines3 DQN, trained for a few steps and saved; its online network."""
    path = tmp_path_factory.mktemp("sb3") / "dqn.zip"
    settings = {
        "buffer_size": 20,
        "learning_starts": 4,
        "batch_size": 2,
        "train_freq": 4,
        "learning_rate": 1e-2,
    }
    model = stable_baselines3.DQN("CnnPolicy", Noise(), seed=0, device="cpu", **settings)  # type: ignore[arg-type]
    model.learn(20)
    model.save(path)
    # Otherwise the wrong one of the two could be read unseen.
    assert not torch.equal(model.q_net.q_net[0].weight, model.q_net_target.q_net[0].weight)
    return path, model.q_net


class CleanRL(nn.Module):
    """The network of CleanRL's dqn_atari.py, by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 4)),
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.network(frames / 255.0)


class AtariNet(nn.Module):
    """The network of floringogianu/atari-agents, by its names: private ones, which Python mangles."""

    def __init__(self) -> None:
        super().__init__()
        self.__features = nn.Sequential(
            *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, 1), nn.ReLU()),
        )
        self.__head = nn.Sequential(nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 4))

    def forward(self, frames: Tensor) -> Tensor:
        return self.__head(self.__features(frames.float().div(255)).flatten(1))


class AptxDqn(nn.Module):
    """Dqn of AptX395/Deep-Spiking-Q-Networks, by its names; bytes are divided by 255 before it."""

    def __init__(self) -> None:
        super().__init__()
        self._conv1 = nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU())
        self._conv2 = nn.Sequential(nn.Conv2d(32, 64, 4, 2), nn.ReLU())
        self._conv3 = nn.Sequential(nn.Conv2d(64, 64, 3, 1), nn.ReLU())
        self._fc1 = nn.Sequential(nn.Flatten(), nn.Linear(3136, 512), nn.ReLU())
        self._fc2 = nn.Linear(512, 4)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames / 255.0
        for part in (self._conv1, self._conv2, self._conv3, self._fc1, self._fc2):
            x = part(x)
        return x


class AptxDsqn(nn.Module):
    """Dsqn, DsqnIF or DsqnSpike of the same code, by its names, of SpikingJelly's layers and neurons."""

    def __init__(self, charge: str = "lif", output_spikes: bool = False):
        super().__init__()

        def spiking(*layers: nn.Module) -> nn.Sequential:
            return nn.Sequential(layer.SeqToANNContainer(*layers), neurons())

        def neurons() -> nn.Module:
            options = {"v_threshold": 1.0, "v_reset": 0.0, "surrogate_function": surrogate.ATan(2.0)}
            if charge == "if":
                return neuron.IFNode(step_mode="m", **options)
            return neuron.LIFNode(tau=2.0, step_mode="m", **options)

        self._static_conv1 = nn.Conv2d(4, 32, 8, 4)
        self._conv1 = neurons()
        self._conv2 = spiking(nn.Conv2d(32, 64, 4, 2))
        self._conv3 = spiking(nn.Conv2d(64, 64, 3, 1))
        self._fc1 = spiking(nn.Flatten(), nn.Linear(3136, 512))
        output = nn.Linear(512, 4)
        self._fc2 = spiking(output) if output_spikes else output
        self._output_spikes = output_spikes
        # Larger than fresh weights, or deeper layers would fall silent; multiples of 1/64, which add up exactly in
        # any order, so that no spike hangs on rounding.
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_((8 * 64 * parameter).round() / 64)

    def forward(self, frames: Tensor) -> Tensor:
        functional.reset_net(self)
        train = self._static_conv1(frames / 255.0).repeat(64, 1, 1, 1, 1)
        for part in (self._conv1, self._conv2, self._conv3, self._fc1):
            train = part(train)
        return self._fc2(train).mean(0) if self._output_spikes else self._fc2(train.mean(0))


class TanNet(nn.Module):
    """Net of Tan et al.'s code (WeihaoTan/bindsnet-1), by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 32, 8, stride=4, padding=2)
        self.pad2 = nn.ConstantPad2d((1, 2, 1, 2), value=0)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2, padding=0)
        self.pad3 = nn.ConstantPad2d((1, 1, 1, 1), value=0)
        self.conv3 = nn.Conv2d(64, 64, 3, stride=1, padding=0)
        self.fc1 = nn.Linear(7744, 512)
        self.fc2 = nn.Linear(512, 4)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.conv1(frames / 255.0).relu()
        x = self.conv2(self.pad2(x)).relu()
        x = self.conv3(self.pad3(x)).relu()
        x = x.permute(0, 2, 3, 1).contiguous()
        return self.fc2(self.fc1(x.view(len(x), -1)).relu())


SAME_NAMES = {
    "dopamine": [
        (f"Online/{name}/weights", f"Online/{name}/biases")
        for name in ("Conv", "Conv_1", "Conv_2", "fully_connected", "fully_connected_1")
    ],
    "dopamine, jax": [
        (f"params/{name}/kernel", f"params/{name}/bias")
        for name in ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")
    ],
    "baselines": [
        (f"deepq/q_func/{name}/weights:0", f"deepq/q_func/{name}/biases:0")
        for name in (
            *("convnet/Conv", "convnet/Conv_1", "convnet/Conv_2"),
            *("action_value/fully_connected", "action_value/fully_connected_1"),
        )
    ],
}


def same_weights(dyadic: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases as TensorFlow keeps them: kernels [height, width, in, out], matrices [in, out].

    Args:
        dyadic: multiples of 1/64, skewed to the positive side so that all layers spike, instead of normal ones.
    """
    rng = np.random.default_rng(0)
    made = []
    for shape in ((8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (7744, 512), (512, 4)):
        fan_in = int(np.prod(shape[:-1]))
        if dyadic:
            largest = max(2, round(64 * 4.0 / fan_in**0.5))
            pair = [
                rng.integers(-largest, largest + 1 + largest // 8, size) / 64 for size in (shape, shape[-1])
            ]
        else:
            pair = [rng.normal(scale=(2 / fan_in) ** 0.5, size=shape), rng.normal(scale=0.1, size=shape[-1])]
        made.append((pair[0].astype(np.float32), pair[1].astype(np.float32)))
    return made


def same_currents(index: int, weights: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What a layer gives before its ReLU, in NumPy and double precision, from [B, H, W, C] or [B, inputs].

    Written from TensorFlow's documentation of SAME ("Notes on padding", in the form with size % stride).
    """
    weight, bias = (array.astype(np.float64) for array in weights)
    if index > 2:
        return x.reshape(len(x), -1) @ weight + bias
    kernel, stride = ((8, 4), (4, 2), (3, 1))[index]
    size = x.shape[1]
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    around = (total // 2, total - total // 2)
    x = np.pad(x, ((0, 0), around, around, (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
    return np.einsum("bijcrs,rsco->bijo", views, weight, optimize=True) + bias


def same_q(weights: list[tuple[np.ndarray, np.ndarray]], frames: Tensor) -> np.ndarray:
    """Q-values [B, 4] of [B, 4, 84, 84] bytes."""
    x = frames.permute(0, 2, 3, 1).numpy() / 255.0
    for index, each in enumerate(weights):
        x = same_currents(index, each, x)
        x = np.maximum(x, 0.0) if index < 4 else x
    return x


def npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def same_arrays(
    names: str = "dopamine", weights: list[tuple[np.ndarray, np.ndarray]] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a file of theirs, by name."""
    pairs = zip(SAME_NAMES[names], weights or same_weights(), strict=True)
    return {name: array for both, pair in pairs for name, array in zip(both, pair, strict=True)}


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().requires_grad_(False)


def torch_file(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def with_payload(container: str, payload: bytes) -> bytes:
    """A torch file or a pickle, in each thing that one may come in."""
    if container == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data", "{}")
            archive.writestr("policy.pth", payload)
        return buffer.getvalue()
    return gzip.compress(payload) if container == "gzip" else payload


def cleanrl_weights() -> dict[str, Tensor]:
    return dict(seeded(CleanRL).state_dict())


# Q-values -------------------------------------------------------------------------------------------


def import_options(source: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("convert", "import", "--source", source, "--game", "breakout", "--out", out, *more)


def imported(command: Command, source: Path, out: Path, *more: object) -> DQN | DSQN:
    finished = command(*import_options(source, out, *more))
    assert finished.code == 0, finished.err
    agent = load_agent(out, GAME).agent
    assert isinstance(agent, (DQN, DSQN))
    return agent


def test_stable_baselines3(
    command: Command, sb3: tuple[Path, nn.Module], frames: Tensor, tmp_path: Path
) -> None:
    source, q_net = sb3
    for name in ("auto", "sb3"):
        agent = imported(command, source, tmp_path / f"{name}.safetensors", "--format", name)
        with torch.no_grad():
            torch.testing.assert_close(agent(frames / 255), q_net(frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize("old_file", [False, True])
@pytest.mark.parametrize(
    ("format", "make"),
    [("cleanrl", CleanRL), ("aptx395", AptxDqn), ("atari-agents", AtariNet), ("tan2021", TanNet)],
)
def test_a_dqn_in_pytorch(
    command: Command,
    frames: Tensor,
    tmp_path: Path,
    format: str,
    make: Callable[[], nn.Module],
    old_file: bool,
) -> None:
    """Also in a file as PyTorch wrote it before 1.6."""
    network = seeded(make)
    content: Mapping[str, object] = network.state_dict()
    if format == "atari-agents":
        content = {"step": 50_000_000, "estimator_state": content}
    saved = torch_file(content, _use_new_zipfile_serialization=not old_file)
    source = tmp_path / "model"
    source.write_bytes(gzip.compress(saved) if format == "atari-agents" else saved)
    for name in ("auto", format):
        agent = imported(command, source, tmp_path / f"{name}.safetensors", "--format", name)
        assert isinstance(agent, DQN)
        torch.testing.assert_close(agent(frames / 255), network(frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "asked", "options"),
    [
        ("liu2022", (), {}),
        ("liu2022-if", ("--network", "liu2022-if"), {"charge": "if"}),
        ("liu2022-spike", (), {"output_spikes": True}),
    ],
)
def test_a_dsqn_of_liu_et_al(
    command: Command,
    frames: Tensor,
    tmp_path: Path,
    network: str,
    asked: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    theirs = seeded(lambda: AptxDsqn(**options))
    source, out = tmp_path / "Dsqn_BreakoutNoFrameskip-v4.pkl", tmp_path / "agent.safetensors"
    source.write_bytes(torch_file(theirs.state_dict()))
    agent = imported(command, source, out, *asked)
    assert isinstance(agent, DSQN)
    assert agent.spiking == NETWORKS[network].spiking
    expected = theirs(frames[:2])
    assert expected.unique().numel() > 2  # otherwise nothing was compared
    torch.testing.assert_close(agent(frames[:2] / 255), expected, rtol=0, atol=1e-5)
    provenance = load_agent(out).provenance
    assert (provenance["network"], provenance["assumed"]) == (network, ["pixels", "neuron", "sim_steps"])


def test_what_the_file_does_not_tell_is_said(command: Command, tmp_path: Path) -> None:
    source, out = tmp_path / "dsqn.pkl", tmp_path / "agent.safetensors"
    source.write_bytes(torch_file(seeded(AptxDsqn).state_dict()))
    said = command(*import_options(source, out)).out
    assert "not in the file; assumed are those of liu2022: lif, threshold 1, reset hard" in said
    assert ", tau 2, 64 sim steps" in said
    is_refused(
        command(*import_options(source, tmp_path / "other.safetensors", "--network", "chen2022")),
        "'chen2022'",
        "liu2022 or liu2022-if",
    )


def test_pixels_that_were_bytes(command: Command, frames: Tensor, tmp_path: Path) -> None:
    """A network of the same names whose owner left out the division."""
    network = seeded(CleanRL)
    source, out = tmp_path / "bytes.cleanrl_model", tmp_path / "agent.safetensors"
    source.write_bytes(torch_file(network.state_dict()))
    agent = imported(command, source, out, "--pixels", "bytes")
    expected = network(255.0 * frames)  # their forward divides by 255
    torch.testing.assert_close(agent(frames / 255), expected, rtol=1e-5, atol=1e-5)
    provenance = load_agent(out).provenance
    assert (provenance["source_pixels"], provenance["assumed"]) == ("bytes", ["activation"])
    is_refused(command(*import_options(source, out)), "bytes")  # the same file, read otherwise


def test_a_network_without_padding_is_not_tans(command: Command, tmp_path: Path) -> None:
    weights = {**seeded(TanNet).state_dict(), "fc1.weight": torch.zeros(512, 3136)}
    refused(command, torch_file(weights), tmp_path, "'fc1.weight'", "(512, 3136)", "(512, 7744)")


@pytest.mark.parametrize("names", SAME_NAMES)
def test_a_dqn_with_tensorflows_padding(command: Command, frames: Tensor, tmp_path: Path, names: str) -> None:
    source = tmp_path / "dqn.npz"
    arrays = same_arrays(names)
    prefix = {"dopamine": ("Online", "Target"), "baselines": ("deepq/q_func", "deepq/target_q_func")}
    if names in prefix:  # their target networks, which are not to be read
        arrays |= {name.replace(*prefix[names]): 0 * array for name, array in arrays.items()}
    source.write_bytes(npz(arrays))
    expected = same_q(same_weights(), frames)
    assert expected.std() > 0.1
    for name in ("auto", "nature-same"):
        out = tmp_path / f"{name}.safetensors"
        agent = imported(command, source, out, "--format", name)
        assert isinstance(agent, DQN)
        assert agent.layer_shapes[:3] == [(32, 21, 21), (64, 11, 11), (64, 11, 11)]
        np.testing.assert_allclose(agent(frames / 255).numpy(), expected, rtol=0, atol=1e-5)
        assert load_agent(out).provenance["source_format"] == "nature-same"


@pytest.fixture(scope="module")
def same_dqn(tmp_path_factory: pytest.TempPathFactory) -> DQN:
    """A nature-same DQN whose currents add up exactly."""
    path = tmp_path_factory.mktemp("same") / "dqn.npz"
    path.write_bytes(npz(same_arrays(weights=same_weights(dyadic=True))))
    agent, _ = foreign.rebuild(foreign.recognise(foreign_files.read(path)), GAME, "relu")
    assert isinstance(agent, DQN)
    return agent


def dyadic_images(rows: int) -> Tensor:
    """[B, 4, 84, 84] multiples of 1/16."""
    shape = (rows, *GAME.observation_shape)
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(0)) / 16


SCALES = (8.0, 4.0, 4.0, 4.0, 2.0)
"""Thresholds: powers of two, so that dividing by them rounds nothing."""


def test_a_padded_network_spikes_as_a_slow_simulation_of_the_file_does(same_dqn: DQN) -> None:
    """Spike counts of every layer, from the arrays in their own order: v += z, and at theta a spike worth theta."""
    images, sim_steps = dyadic_images(2), 8
    membranes: list[Any] = [0.0] * 5
    counts: list[Any] = [0] * 5
    for _ in range(sim_steps):
        x = images.permute(0, 2, 3, 1).double().numpy()
        for index, (weights, theta) in enumerate(zip(same_weights(dyadic=True), SCALES, strict=True)):
            v = membranes[index] + same_currents(index, weights, x)
            fired = v >= theta
            x = theta * fired
            membranes[index] = v - x
            counts[index] = counts[index] + fired
    assert all(0.001 < (count > 0).mean() < 0.999 for count in counts[:4])
    snn = scaled_network(same_dqn, SCALES, RateCoding(sim_steps))
    slow = torch_engine.simulate(snn.layers, images, sim_steps)
    for ours, theirs in zip(slow.layer_counts, counts, strict=True):
        shown = np.moveaxis(theirs, -1, 1) if theirs.ndim == 4 else theirs
        np.testing.assert_array_equal(ours[0].numpy(), shown)
    decision = snn.decide(images)  # with the engine that visits spikes only
    assert decision.activity is not None
    spikes = [count.reshape(2, -1).sum(1) for count in counts]
    np.testing.assert_array_equal(decision.activity.spikes.numpy(), np.stack(spikes, 1))
    charge = theta * counts[-1] + membranes[-1]
    np.testing.assert_array_equal(decision.scores.numpy(), charge / sim_steps)


def test_a_padded_network_in_bindsnet(same_dqn: DQN) -> None:
    images = dyadic_images(1)
    snn = scaled_network(same_dqn, SCALES, RateCoding(12, layer_delay=True))
    simulation = torch_engine.simulate(snn.layers, images, 12, layer_delay=True)
    counts, residuals = bindsnet_scores(snn, images)
    assert (residuals != 0).any()
    np.testing.assert_array_equal(simulation.counts[0].numpy(), counts)
    np.testing.assert_array_equal(simulation.residuals[0].numpy(), residuals)


def test_no_derived_network_forgets_the_padding(same_dqn: DQN, tmp_path: Path) -> None:
    """The twin, the quantised network, another T, whole numbers, a checkpoint of each, and an attack on them."""
    images = dyadic_images(2)
    snn = scaled_network(same_dqn, SCALES, RateCoding(4))
    torch.testing.assert_close(snn.twin()(images), same_dqn(images))
    afterwards = RateCoding(4, neuron=IFNeuron("afterwards", 0.5))
    whole = exact.whole_numbers(scaled_network(same_dqn, SCALES, afterwards))
    torch.testing.assert_close(whole(images), whole.quantised()(images))
    for number, agent in enumerate((same_dqn, snn, snn.varied(sim_steps=5), snn.quantised(), whole)):
        path = tmp_path / f"{number}.safetensors"
        save_agent(path, agent, PROVENANCE)
        again = load_agent(path).agent
        assert torch.equal(again(images), agent(images))
        _, perturb = make_attack("fgsm", 1 / 255, again, GAME)
        assert perturb is not None
        attacked = perturb(images, again(images), [np.random.default_rng(0)] * 2, torch.zeros_like(images))
        assert not torch.equal(attacked.inputs, images)


def test_a_spike_causes_no_additions_on_padding(same_dqn: DQN) -> None:
    """Of the 11 kernels in a row of 21 pixels, which begin at -1, 1, ... 19, 1 pixel of 4 lies before the image and 2
    behind it; of the 11 in a row of 11, one of 3 before and one behind."""
    snn = scaled_network(same_dqn, SCALES, RateCoding(4))
    assert fan_out(snn)[0] == pytest.approx((11 * 4 - 3) ** 2 / 21**2 * 64)
    assert fan_out(snn)[1] == pytest.approx((11 * 3 - 2) ** 2 / 11**2 * 64)
    assert fan_out(snn)[2:].tolist() == [512, 4, 0]


# What is said of an imported agent ------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "dqn_atari.cleanrl_model"
    path.parent.mkdir()
    path.write_bytes(torch_file(cleanrl_weights()))
    return path


def test_provenance_claims_no_training(command: Command, source: Path, tmp_path: Path) -> None:
    imported(command, source, tmp_path / "agent.safetensors")
    checkpoint = load_agent(tmp_path / "agent.safetensors")
    assert checkpoint.provenance == {
        "train_seed": -1,
        "train_steps": -1,
        "recipe_steps": 0,
        "recipe": "imported (cleanrl)",
        "network": "relu",
        "scores_are_q_values": True,
        "source_name": "dqn_atari.cleanrl_model",
        "source_format": "cleanrl",
        "source_sha256": digest(source.read_bytes()),
        "source_actions": [0, 1, 2, 3],
        "source_pixels": "unit",
        "assumed": ["pixels", "activation"],
    }
    played = Played(0)
    played.score, played.length_steps, played.length_frames = 400.0, 1000, 4000
    row = episode_row(played, checkpoint, GAME, get_protocol("nature", GAME), 0)
    (line,) = score_lines([replace(row, episode=number) for number in range(10)])
    assert line.note == ""
    assert [cell.strip() for cell in markdown([line]).splitlines()[-1].split("|")][3:5] == ["", "unknown"]


def test_twice_does_it_once(command: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "agent.safetensors"
    imported(command, source, out)
    before = out.stat().st_mtime_ns
    moved = source.rename(tmp_path / "moved.pt")
    again = command(*import_options(moved, out, "--format", "cleanrl"))
    assert (again.code, "already done" in again.out, out.stat().st_mtime_ns) == (0, True, before)
    manifest = json.loads(out.with_suffix(".manifest.json").read_text())
    assert manifest["outputs"] == {out.name: digest(out.read_bytes())}
    is_refused(
        command("convert", "import", "--source", moved, "--game", "atlantis", "--out", out),
        "'breakout' there and 'atlantis' here",
    )


@pytest.mark.usefixtures("forget_extensions")
def test_a_format_of_an_extension(command: Command, tmp_path: Path) -> None:
    inner, outer = seeded(lambda: nn.Linear(4, 8)), seeded(lambda: nn.Linear(8, 2))
    weights = {
        f"{name}.{parameter}": tensor
        for name, layer in (("inner", inner), ("outer", outer))
        for parameter, tensor in layer.state_dict().items()
    }
    source, out = tmp_path / "own.pt", tmp_path / "agent.safetensors"
    source.write_bytes(torch_file({"network": weights}))
    options = ("convert", "import", "--source", source, "--game", "cartpole", "--out", out)
    is_refused(command(*options), "no layers of a DQN")
    is_refused(command(*options, "--format", "own-format"), "'own-format'", "--extension")
    extension = ("--extension", "tests.extensions.own_format")
    assert "own-format: a test of the project" in command("convert", "import", *extension, "--help").out
    finished = command(*options, *extension)
    assert "read as own-format" in finished.out, finished.err
    states = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_agent(out).agent(states), outer(inner(states).relu()))


# Refusals -------------------------------------------------------------------------------------------


def refused(command: Command, content: bytes, tmp_path: Path, *words: str, game: str = "breakout") -> None:
    """Refused in one line, and nothing but the source left."""
    source = tmp_path / "source"
    source.write_bytes(content)
    finished = command(
        *("convert", "import", "--source", source, "--game", game),
        *("--out", tmp_path / "out" / "agent.safetensors"),
    )
    is_refused(finished, *words)
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("container", ["bare", "zip", "gzip"])
def test_code_in_a_file_is_never_run(command: Command, tmp_path: Path, container: str) -> None:
    """Pickles that would create a file, as such and as torch saves them, beside weights and in their place."""
    target = tmp_path / "executed"
    trap = Payload(target)
    pickle.loads(pickle.dumps(trap))
    assert target.exists()  # the traps work
    target.unlink()
    for content in (
        *(pickle.dumps(trap, protocol) for protocol in (0, 2, 5)),
        *(torch_file(trap, _use_new_zipfile_serialization=new) for new in (True, False)),
        torch_file({**cleanrl_weights(), "network.0.weight": trap}),
        torch_file({"estimator_state": cleanrl_weights(), "step": trap}),
    ):
        refused(command, with_payload(container, content), tmp_path, "source", "tensors")
        assert not target.exists()
    refused(command, with_payload(container, torch_file(trap)), tmp_path, "only tensors", "no code was run")


@pytest.mark.parametrize("container", ["bare", "zip", "gzip"])
def test_truncated_files(command: Command, tmp_path: Path, container: str) -> None:
    for new in (True, False):
        whole = with_payload(container, torch_file(cleanrl_weights(), _use_new_zipfile_serialization=new))
        for tenth in range(10):
            refused(command, whole[: len(whole) * tenth // 10], tmp_path, "not a whole file of tensors")
        refused(command, whole[:-1], tmp_path, "not a whole file of tensors")
    refused(command, b"no weights at all", tmp_path, "not a whole file of tensors")


def test_what_unpacks_to_more_than_a_dqn(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of a zip, a gzip, a member of a torch file that says it is huge, a huge file: none is unpacked."""
    monkeypatch.setattr(archives, "MAX_BYTES", 2**20)
    zeros = bytes(2**21)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", zeros)
    refused(command, buffer.getvalue(), tmp_path, "more than 1 MiB")
    refused(command, gzip.compress(zeros), tmp_path, "more than 1 MiB")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", zeros)
    assert len(buffer.getvalue()) < 2**16
    refused(command, buffer.getvalue(), tmp_path, "more than 1 MiB")
    refused(command, zeros, tmp_path, "more than 1 MiB")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network.0.weight": torch.zeros(32, 3, 8, 8)}, ("'network.0.weight'", "(32, 3, 8, 8)", "(32, 4, 8, 8)")),
        ({"network.9.weight": torch.zeros(6, 512)}, ("6 actions", "breakout has 4")),
        ({"network.2.bias": torch.full((64,), torch.nan)}, ("'network.2.bias'", "NaN")),
        ({"network.2.bias": torch.full((64,), 1e300, dtype=torch.float64)}, ("'network.2.bias'", "infinity")),
        ({"network.2.bias": torch.zeros(64, dtype=torch.int64)}, ("'network.2.bias'", "not a plain tensor")),
        ({"network.2.bias": torch.zeros(64, device="meta")}, ("'network.2.bias'", "not a plain tensor")),
        ({"network.2.bias": torch.zeros(64).to_sparse()}, ("'network.2.bias'", "not a plain tensor")),
        ({"network.2.bias": 3}, ("'network.2.bias'", "not a plain tensor")),
        ({"network.2.bias": None}, ("cleanrl", "missing weights: 'network.2.bias'", "unknown weights: none")),
        ({"critic.weight": torch.zeros(1), 7: 7}, ("missing weights: none", "unknown weights: 'critic.weight', 7")),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(
    command: Command, tmp_path: Path, change: dict[Any, Any], words: tuple[str, ...]
) -> None:
    """None stands for a weight that is missing."""
    weights = {name: value for name, value in {**cleanrl_weights(), **change}.items() if value is not None}
    refused(command, torch_file(weights), tmp_path, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Online/Conv/weights": np.zeros((8, 8, 3, 32))}, ("'Online/Conv/weights'", "(8, 8, 3, 32)", "(8, 8, 4, 32)")),
        ({"Online/Conv/weights": np.zeros((32, 4, 8, 8))}, ("(32, 4, 8, 8)", "(8, 8, 4, 32)")),
        ({"Online/Conv/weights": np.zeros((8, 8, 128))}, ("(8, 8, 128)",)),
        ({"Online/Conv/weights": np.zeros(())}, ("shape ()",)),
        # What VALID padding leaves: such a network is none of these.
        ({"Online/fully_connected/weights": np.zeros((3136, 512))}, ("(3136, 512)", "(7744, 512)")),
        ({"Online/fully_connected_1/weights": np.zeros((512, 6))}, ("6 actions", "breakout has 4")),
        ({"Online/Conv/biases": np.full(32, np.nan)}, ("'Online/Conv/biases'", "NaN")),
        ({"Online/Conv/biases": np.zeros(32, np.int64)}, ("'Online/Conv/biases'", "not a plain tensor")),
        ({"Online/Conv/biases": np.array(["one"] * 32)}, ("'Online/Conv/biases'", "not a plain tensor")),
        ({"Online/Conv_2/biases": None}, ("weights: 'Online/Conv_2/biases'; unknown weights: none",)),
        ({"global_step": np.zeros(())}, ("missing weights: none", "unknown weights: 'global_step'")),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(
    command: Command, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    arrays = {name: array for name, array in {**same_arrays(), **change}.items() if array is not None}
    refused(command, npz(arrays), tmp_path, *words)


def test_an_npz_with_pickles_or_cut_off(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    trap = np.array([Payload(target)], dtype=object)
    refused(
        command,
        npz({**same_arrays(), "Online/Conv/biases": trap}),
        tmp_path,
        "Python objects",
        "no code was run",
    )
    assert not target.exists()
    whole = npz(same_arrays())
    for tenth in range(10):
        refused(command, whole[: len(whole) * tenth // 10], tmp_path, "not a whole file of tensors")
    refused(command, npz({"weights": np.zeros(1)}), tmp_path, "'weights'", "nature-same (Online/Conv ...")


def test_files_of_no_known_layout(
    command: Command, sb3: tuple[Path, nn.Module], source: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "out"
    inside.mkdir()
    looked_for = (
        "looked for aptx395 (_conv1.0",
        "atari-agents",
        "cleanrl (network.0 ... network.9)",
        "sb3 (q_net.",
    )
    refused(command, torch_file({"linear.weight": torch.zeros(1)}), inside, "'linear.weight'", *looked_for)
    refused(command, torch_file([torch.zeros(1)]), inside, *looked_for)
    refused(command, torch_file({}), inside, *looked_for)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data", "{}")
    refused(command, buffer.getvalue(), inside, "policy.pth")
    out = inside / "agent.safetensors"
    is_refused(command(*import_options(sb3[0], out, "--format", "cleanrl")), "looked for cleanrl (")
    is_refused(command(*import_options(source, out, "--format", "aptx395")), "looked for aptx395 (_conv1.0")


def test_options(command: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "agent.safetensors"
    game = ("--source", source, "--out", out, "--game")
    is_refused(command("convert", "import", *game, "minatar/breakout"), "minatar/breakout", "atari", "pong")
    is_refused(command("convert", "import", *game, "pong"), "4 actions", "pong has 6")
    is_refused(command("convert", "import", *game, "brekout"), "did you mean 'breakout'?")
    is_refused(command(*import_options(source, out, "--format", "dopamine")), "dopamine", "atari-agents")
    is_refused(command(*import_options(source, out, "--network", "liu2022")), "'liu2022'", "relu")
    is_refused(command(*import_options(tmp_path / "no", out)), f"no file at {tmp_path / 'no'}")
    is_refused(command(*import_options(tmp_path, out)), f"no file at {tmp_path}")
    is_refused(command(*import_options(source, tmp_path / "agent.pt")), ".safetensors")
    own = source.rename(source.with_suffix(".safetensors"))
    is_refused(command(*import_options(own, own)), "is the source")
    assert sorted(tmp_path.iterdir()) == [source.parent]
