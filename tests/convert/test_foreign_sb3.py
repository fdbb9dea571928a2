"""`convert import` of files of Stable-Baselines3: equal Q-values where a network is ours, refusals elsewhere."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.dqn import CnnPolicy
from torch import Tensor, nn

from convert import foreign_files
from core.checkpoint import load_agent
from core.dqn import DQN
from core.games import get_game
from tests.conftest import Command, Finished
from tests.test_refusals import is_refused

BYTES = spaces.Box(0, 255, (84, 84, 4), np.uint8)
SMALL: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 16}}
"""A network that is saved quickly."""


class Noise(gymnasium.Env[Any, np.int64]):
    """Random observations of a space."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Discrete):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def saved(
    path: Path,
    space: spaces.Space[Any] | None,
    policy: Any = "CnnPolicy",
    num_actions: int = 4,
    start: int = 0,
    **policy_kwargs: Any,
) -> nn.Module:
    """Save a DQN of Stable-Baselines3; its online network. Without a space it plays CartPole."""
    env = gymnasium.make("CartPole-v1")
    if space is not None:
        env = Noise(space, spaces.Discrete(num_actions, start=start))
    model = stable_baselines3.DQN(
        policy, env, seed=0, device="cpu", buffer_size=1, policy_kwargs=policy_kwargs or None
    )
    model.save(path)
    return model.q_net


def imported(command: Command, source: Path, *more: object, game: str = "breakout") -> Finished:
    out = source.parent / "out" / "agent.safetensors"
    return command("convert", "import", "--source", source, "--game", game, "--out", out, *more)


def refused(command: Command, source: Path, *words: str, more: Any = (), game: str = "breakout") -> None:
    """Refused in one short line, and nothing but the source left."""
    finished = imported(command, source, *more, game=game)
    is_refused(finished, *words)
    assert len(finished.err) < 500
    assert [*source.parent.iterdir()] == [source]


def agent_of(source: Path) -> DQN:
    agent = load_agent(source.parent / "out" / "agent.safetensors").agent
    assert isinstance(agent, DQN)
    return agent


def frames() -> Tensor:
    """Random stacks of frames [8, 4, 84, 84], uint8."""
    return torch.randint(
        0, 256, (8, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "dqn.zip"


# Networks that are ours -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "policy_kwargs", "unit_of_theirs", "pixels"),
    [
        (BYTES, {}, 1.0, "unit"),
        (BYTES, {"normalize_images": True, "optimizer_class": torch.optim.SGD, **SMALL}, 1.0, "unit"),
        (BYTES, {"normalize_images": False}, 1.0, "bytes"),
        (BYTES, {"normalize_images": False, "activation_fn": nn.ReLU, **SMALL}, 1.0, "bytes"),
        (spaces.Box(0, 1, (4, 84, 84), np.float32), {"normalize_images": False, **SMALL}, 1 / 255, "unit"),
        (spaces.Box(0, 255, (4, 84, 84), np.float32), {"normalize_images": False, **SMALL}, 1.0, "bytes"),
    ],
)
def test_pixels_are_scaled_as_the_file_says(
    command: Command,
    source: Path,
    space: spaces.Box,
    policy_kwargs: dict[str, Any],
    unit_of_theirs: float,
    pixels: str,
) -> None:
    """Their Q-values, which Stable-Baselines3 computes from what its environment would give for the same frames."""
    q_net = saved(source, space, **policy_kwargs)
    finished = imported(command, source)
    assert finished.code == 0, finished.err
    assert ("its first layer are multiplied by 255" in finished.out) == (pixels == "bytes")
    assert "assumed: observations as the game gives them, without VecNormalize" in finished.out
    theirs = frames() if unit_of_theirs == 1.0 else frames() * unit_of_theirs
    with torch.no_grad():
        expected = q_net(theirs)
    assert expected.std() > 1e-3
    torch.testing.assert_close(agent_of(source)(frames() / 255), expected, rtol=1e-5, atol=1e-5)
    provenance = load_agent(source.parent / "out" / "agent.safetensors").provenance
    assert (provenance["source_pixels"], provenance["assumed"]) == (pixels, ["observations"])


def test_layers_are_those_of_the_file(command: Command, source: Path) -> None:
    q_net = saved(source, BYTES, net_arch=[32, 16], **SMALL)
    assert imported(command, source).code == 0
    agent = agent_of(source)
    with torch.no_grad():
        torch.testing.assert_close(agent(frames() / 255), q_net(frames()), rtol=0, atol=1e-5)
    provenance = load_agent(source.parent / "out" / "agent.safetensors").provenance
    assert provenance["network"] == "relu+layers=32c8s4,64c4s2,64c3s1,16,32,16"


@pytest.mark.parametrize(
    "policy_kwargs", [{}, {"net_arch": [32]}, {"net_arch": [16, 24, 8], "activation_fn": nn.ReLU}]
)
def test_mlp_policy_on_cartpole(command: Command, source: Path, policy_kwargs: dict[str, Any]) -> None:
    q_net = saved(source, None, "MlpPolicy", **policy_kwargs)
    finished = imported(command, source, game="cartpole")
    assert finished.code == 0, finished.err
    states = 3 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(agent_of(source)(states), q_net(states), rtol=0, atol=1e-5)


def test_an_imported_mlp_plays_and_is_converted(command: Command, source: Path, tmp_path: Path) -> None:
    saved(source, None, "MlpPolicy")
    assert imported(command, source, game="cartpole").code == 0
    agent, snn = tmp_path / "out" / "agent.safetensors", tmp_path / "snn.safetensors"
    sizes = ("--calibration-states", 50, "--test-states", 20, "--sim-steps", 8)
    finished = command("convert", "run", "--agent", agent, "--out", snn, *sizes)
    assert finished.code == 0, finished.err
    options = ("--game", "cartpole", "--episodes", 1, "--out", tmp_path / "rows")
    for each in (agent, snn):
        finished = command("evaluate", "run", "--agent", each, *options[:-1], tmp_path / each.stem / "rows")
        assert finished.code == 0, finished.err


def test_weights_alone_leave_more_open(command: Command, source: Path) -> None:
    """policy.pth without the rest of the zip. The user says how pixels are scaled."""
    q_net = saved(source, BYTES, normalize_images=False, **SMALL)
    bare = source.with_name("policy.pth")
    bare.write_bytes(zipfile.ZipFile(source).read("policy.pth"))
    finished = imported(command, bare)
    assert finished.code == 0
    assert "assumed: pixels from 0 to 1 (else --pixels bytes); ReLU after each hidden layer" in finished.out
    is_refused(
        imported(command, bare, "--pixels", "bytes"), "'bytes'", "pixels"
    )  # other work of the same name
    (source.parent / "out" / "agent.safetensors").unlink()
    (source.parent / "out" / "agent.manifest.json").unlink()
    finished = imported(command, bare, "--pixels", "bytes")
    assert finished.code == 0
    assert "else --pixels" not in finished.out
    with torch.no_grad():
        torch.testing.assert_close(agent_of(source)(frames() / 255), q_net(frames()), rtol=1e-5, atol=1e-5)


# Networks that are not ------------------------------------------------------------------------------


class OtherCNN(NatureCNN):
    """Another extractor with weights of the same names."""


class OtherPolicy(CnnPolicy):
    """Another policy with weights of the same names."""


@pytest.mark.parametrize(
    ("game", "options", "words"),
    [
        ("cartpole", {"space": None, "policy": "MlpPolicy", "activation_fn": nn.Tanh}, ("activation_fn", "Tanh")),
        ("cartpole", {"space": None, "policy": "MlpPolicy", "net_arch": []}, ("missing weights: 'q_net.q_net.2",)),
        ("breakout", {"activation_fn": nn.Tanh}, ("activation_fn", "Tanh", "ReLU")),
        ("breakout", {"features_extractor_class": OtherCNN}, ("features_extractor_class", "OtherCNN", "NatureCNN")),
        ("breakout", {"policy": OtherPolicy}, ("policy", "test_foreign_sb3", "CnnPolicy")),
        ("breakout", {"num_actions": 6}, ("6 actions", "breakout has 4")),
        ("breakout", {"start": 1}, ("actions begin at '1'",)),
        ("breakout", {"space": spaces.Box(0, 255, (84, 84, 3), np.uint8)}, ("[3, 84, 84]", "(4, 84, 84)")),
        ("breakout", {"space": spaces.Box(0, 255, (64, 64, 4), np.uint8)}, ("[4, 64, 64]", "(4, 84, 84)")),
        (
            "breakout",
            {"space": spaces.Box(-1, 1, (4, 84, 84), np.float32), "normalize_images": False},
            ("'float32' from -1 to 1",),
        ),
        (
            "breakout",
            {"space": spaces.Box(0, 1, (4, 84, 84), np.uint8), "normalize_images": False},
            ("'uint8' from 0 to 1",),
        ),
        ("breakout", {"policy": "MlpPolicy"}, ("games of control", "cartpole")),
        ("cartpole", {}, ("games of atari", "pong")),
        ("cartpole", {"policy": "MlpPolicy", "space": spaces.Box(-1, 1, (4,), np.float32)}, ("lowest", "-1.0", "-4.8")),
        ("cartpole", {"policy": "MlpPolicy", "space": spaces.Box(-np.inf, np.inf, (4,), np.float32)}, ("-inf", "-4.8")),
        ("cartpole", {"policy": "MlpPolicy", "space": spaces.Box(-1, 1, (6,), np.float32)}, ("[6]", "(4,)")),
        ("cartpole", {"policy": "MlpPolicy", "space": spaces.Discrete(4)}, ("observation_space", "Discrete", "Box")),
        (
            "breakout",
            {"policy": "MultiInputPolicy", "space": spaces.Dict({"frames": BYTES})},
            ("weights: 'q_net.features_extractor.",),
        ),
    ],
)  # fmt: skip
def test_another_network_is_refused_by_name(
    command: Command, source: Path, game: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    small = {} if options.get("policy") in ("MlpPolicy", "MultiInputPolicy") else SMALL
    saved(source, **{"space": BYTES, **small, **options})
    refused(command, source, "dqn.zip", *words, game=game)


@pytest.mark.parametrize(
    ("algorithm", "options"), [(stable_baselines3.PPO, {"batch_size": 2}), (stable_baselines3.A2C, {})]
)
@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_another_algorithm_is_refused_by_name(
    command: Command, source: Path, algorithm: Callable[..., Any], options: dict[str, int], policy: str
) -> None:
    env = Noise(BYTES, spaces.Discrete(4)) if policy == "CnnPolicy" else "CartPole-v1"
    algorithm(policy, env, device="cpu", n_steps=2, **options).save(source)
    refused(command, source, "stable_baselines3.common.policies", "PPO or A2C", "DQN's")


def test_file_and_user_do_not_contradict_each_other(command: Command, source: Path) -> None:
    saved(source, BYTES, **SMALL)
    refused(command, source, "'bytes'", "'unit'", more=("--pixels", "bytes"))
    saved(source, None, "MlpPolicy")
    refused(command, source, "cartpole has no pixels", more=("--pixels", "unit"), game="cartpole")


# Descriptions that are wrong or hostile -------------------------------------------------------------


def described(source: Path, data: bytes) -> None:
    """The file with another description beside its weights."""
    weights = zipfile.ZipFile(source).read("policy.pth")
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", weights)


def test_the_description_is_needed_whole(command: Command, source: Path) -> None:
    saved(source, BYTES, **SMALL)
    whole = json.loads(zipfile.ZipFile(source).read("data"))
    space = whole["observation_space"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"policy_class": None}, "policy_class"),
        ({"policy_class": {"__module__": "sb3_contrib.qrdqn.policies"}}, "'sb3_contrib.qrdqn.policies'"),
        ({"policy_class": {"__module__": "\ud800"}}, "its member data cannot be read"),
        ({"policy_class": {"__module__": 9999 * "x"}}, "its policy is one of"),
        ({"policy_kwargs": [1]}, "policy_kwargs"),
        ({"policy_kwargs": {"normalize_images": "no"}}, "normalize_images"),
        ({"policy_kwargs": {"dueling": True}}, "'dueling' = True"),
        ({"policy_kwargs": {9999 * "x": {"y": 999 * [999 * "z"]}}}, "policy_kwargs"),
        ({"action_space": 7}, "action_space"),
        ({"observation_space": {}}, "observation_space is None"),
        ({"observation_space": {**space, "low": "dark"}}, "does not say low"),
        ({"observation_space": {**space, "high": "[nan 255]"}}, "from 0 to"),
        ({"observation_space": {**space, "_shape": 9999 * [84]}}, "have shape [84, 84, 84, 84, ...]"),
    ]  # fmt: skip
    for change, word in changes:
        described(source, json.dumps({**whole, **change}).encode())
        refused(command, source, word)
    described(source, b"[]")
    refused(command, source, "a JSON object is needed")
    for data in (b"", b"{", b"\xff", 100_000 * b"[", b'{"a": 1' + 9999 * b"0" + b"}"):
        described(source, data)
        refused(command, source, "its member data cannot be read")
    described(source, bytes(foreign_files.MAX_DATA_BYTES + 1))
    refused(command, source, "data unpacks to more than 8 MiB")


def test_a_pickle_in_the_description_is_never_opened(command: Command, source: Path) -> None:
    """Values that are no JSON stand there as base64; here they are no pickles at all, and the agent is the same."""
    q_net = saved(source, BYTES, normalize_images=False, activation_fn=nn.ReLU, **SMALL)
    data = json.loads(zipfile.ZipFile(source).read("data"))
    for entry in data.values():
        if isinstance(entry, dict) and ":serialized:" in entry:
            entry[":serialized:"] = "no base64"
    described(source, json.dumps(data).encode())
    finished = imported(command, source)
    assert finished.code == 0, finished.err
    with torch.no_grad():
        torch.testing.assert_close(agent_of(source)(frames() / 255), q_net(frames()), rtol=1e-5, atol=1e-5)


def test_dueling_weights_are_unknown(command: Command, source: Path) -> None:
    saved(source, BYTES, **SMALL)
    archive = zipfile.ZipFile(source)
    data, weights = (
        archive.read("data"),
        torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True),
    )
    weights["q_net.value_net.0.weight"] = torch.zeros(1, 16)
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    with zipfile.ZipFile(source, "w") as changed:
        changed.writestr("data", data)
        changed.writestr("policy.pth", buffer.getvalue())
    refused(command, source, "not the DQN of sb3", "unknown weights: 'q_net.value_net.0.weight'")


def test_the_game_is_the_users_word(command: Command, source: Path) -> None:
    saved(source, BYTES, num_actions=get_game("pong").num_actions, **SMALL)
    refused(command, source, "6 actions", "breakout has 4")
    assert imported(command, source, game="pong").code == 0
