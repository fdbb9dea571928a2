"""Pretrained Nature-DQNs of other projects: told apart by their weights' names, read as tensors and never as code.

What the projects write, as their own saving and loading code has it:

    sb3           Stable-Baselines3, `DQN.save`: a zip, whose `policy.pth` is a torch file of the policy's weights,
                  online network (q_net) and target network (q_net_target). The rest of the zip is not opened.
    cleanrl       CleanRL, `dqn_atari.py --save-model`: a torch file (.cleanrl_model) of the network's weights.
    aptx395       AptX395/Deep-Spiking-Q-Networks, the code of Liu et al. 2022: a torch file (.pkl) of the weights
                  of its Dqn, Dsqn, DsqnIF or DsqnSpike.
    atari-agents  floringogianu/atari-agents: a gzip of a torch file, whose entry `estimator_state` has the weights.
    nature-same   A DQN of TensorFlow or Flax, whose convolutions have SAME padding (84 -> 21 -> 11 -> 11 pixels, so
                  7,744 inputs of the first fully connected layer): an .npz of named arrays, as numpy.savez writes it.

Arrays of nature-same keep the names that their framework gives them (a ":0" at the end is dropped), those of the target
network may be there too, and there are no others:

    Dopamine, TensorFlow   Online/{Conv, Conv_1, Conv_2, fully_connected, fully_connected_1}/{weights, biases}
    Dopamine, JAX          params/{Conv_0, Conv_1, Conv_2, Dense_0, Dense_1}/{kernel, bias}, which is
                           flax.traverse_util.flatten_dict(bundle["online_params"], sep="/")
    Baselines, deepq       deepq/q_func/convnet/{Conv, Conv_1, Conv_2}/{weights, biases} and
                           deepq/q_func/action_value/{fully_connected, fully_connected_1}/{weights, biases}, which is
                           models.cnn_to_mlp with hiddens=[512], dueling=False

All of them see four grey 84x84 frames, oldest first, have the emulator's minimal actions, and divide bytes by 255,
before the network or as its first step. Ours is given what was divided, so their weights are taken as they are; those
of nature-same change the order of their axes, and of what the first fully connected layer sees.
"""

import gzip
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import GAMES, Game
from core.networks import NETWORKS
from core.records import digest

Format = Literal["auto", "sb3", "cleanrl", "aptx395", "atari-agents", "nature-same"]
MAX_BYTES = 2**26
"""Of a file, and of what it unpacks to. A Nature-DQN with target network and optimiser state has 27 MB."""

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"  # a torch file is itself a zip, or (before PyTorch 1.6) bare pickles


@dataclass(frozen=True)
class Layout:
    """What one kind of file calls the layers of a Nature-DQN."""

    format: Format
    layers: tuple[str, ...]
    """Names of the layers from the input to the Q-values; each has a weight and a bias."""
    networks: tuple[str, ...] = ("relu",)
    """Networks of ours that these names may belong to: they do not tell which."""
    left_out: str | None = None
    """What the names of weights begin with that are not the agent's."""
    weight: str = ".weight"
    bias: str = ".bias"
    """What the names of a layer's weight and bias end with."""

    @property
    def names(self) -> set[str]:
        return {f"{layer}{parameter}" for layer in self.layers for parameter in (self.weight, self.bias)}

    @property
    def channels_last(self) -> bool:
        """Whether kernels are [height, width, in, out], matrices [in, out], and images flattened pixel by pixel."""
        return self.format == "nature-same"


_SPIKING_TRUNK = ("_static_conv1", "_conv2.0.0", "_conv3.0.0", "_fc1.0.1")
LAYOUTS = (
    Layout(
        "sb3",
        (
            *(f"q_net.features_extractor.cnn.{index}" for index in (0, 2, 4)),
            "q_net.features_extractor.linear.0",
            "q_net.q_net.0",
        ),
        left_out="q_net_target.",
    ),
    Layout("cleanrl", tuple(f"network.{index}" for index in (0, 2, 4, 7, 9))),
    Layout("aptx395", ("_conv1.0", "_conv2.0", "_conv3.0", "_fc1.1", "_fc2")),
    # Neurons have no weights: Dsqn (LIF) and DsqnIF have the same names, and tau, threshold and T are options of
    # that code's command line, which are not saved.
    Layout("aptx395", (*_SPIKING_TRUNK, "_fc2"), ("liu2022", "liu2022-if")),
    Layout("aptx395", (*_SPIKING_TRUNK, "_fc2.0.0"), ("liu2022-spike",)),
    Layout(
        "atari-agents",
        (*(f"_AtariNet__features.{index}" for index in (0, 2, 4)), "_AtariNet__head.0", "_AtariNet__head.2"),
    ),
    Layout(
        "nature-same",
        tuple(
            f"Online/{layer}"
            for layer in ("Conv", "Conv_1", "Conv_2", "fully_connected", "fully_connected_1")
        ),
        left_out="Target/",
        weight="/weights",
        bias="/biases",
    ),
    Layout(
        "nature-same",
        tuple(f"params/{layer}" for layer in ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")),
        weight="/kernel",
        bias="/bias",
    ),
    Layout(
        "nature-same",
        (
            *(f"deepq/q_func/convnet/{layer}" for layer in ("Conv", "Conv_1", "Conv_2")),
            *(f"deepq/q_func/action_value/{layer}" for layer in ("fully_connected", "fully_connected_1")),
        ),
        left_out="deepq/target_q_func/",
        weight="/weights",
        bias="/biases",
    ),
)


def read_weights(path: Path) -> tuple[Mapping[Any, Any], str]:
    """What a file of any of the formats holds, unpacked, and the SHA-256 of the file.

    Returns:
        Weights by name as far as they are (nothing about them was looked at), and 64 hex digits.

    Raises:
        Refusal: there is no such file, it is damaged, larger than MAX_BYTES, or holds code.
    """
    if not path.is_file():
        raise Refusal(f"no file at {path}: accepted is a pretrained DQN ({', '.join(_formats())})")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        packed = _unpacked(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on pickles that it then refuses
            if _holds_arrays(packed):
                held: Any = _read_arrays(packed)
            else:
                held = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}")
    except Exception as error:  # damage shows as nearly any exception, of the unpackers' and of torch's
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise Refusal(f"{path} asks for {code[1]!r}: only tensors are accepted, and none of it was run")
        raise Refusal(f"{path} is not a whole file of tensors as torch.save writes it, nor of arrays (.npz)")
    if isinstance(held, dict) and isinstance(held.get("estimator_state"), dict):
        held = held["estimator_state"]
    return (held if isinstance(held, dict) else {}), digest(content)


def _unpacked(content: bytes) -> bytes:
    """The torch file within a file: what a gzip holds, the policy.pth of a zip, or the file itself."""
    _require_bounded(len(content))
    if content.startswith(_GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = _read_bounded(stream)
    if content.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            if "policy.pth" in members:
                with archive.open("policy.pth") as member:
                    content = _read_bounded(member)
            elif not any(name.endswith(("/data.pkl", ".npy")) for name in members):
                raise Refusal(
                    "a zip with neither policy.pth (sb3) nor data.pkl (a torch file) nor arrays (.npz)"
                )
    if content.startswith(_ZIP):
        # torch.load and numpy.load allocate what a member says that it unpacks to.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_bounded(sum(member.file_size for member in archive.infolist()))
    return content


def _holds_arrays(content: bytes) -> bool:
    """Whether a file is an .npz, and no torch file."""
    if not content.startswith(_ZIP):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _read_arrays(content: bytes) -> dict[str, Any]:
    """The arrays of an .npz: tensors if they hold floating-point numbers, and whatever they are if not."""
    held: dict[str, Any] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                array = arrays[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise Refusal(
                    f"{name!r} is an array of Python objects: only numbers are accepted, and no code was run"
                )
            numbers = isinstance(array, np.ndarray) and array.dtype.kind == "f"
            held[name.removesuffix(":0")] = torch.from_numpy(array.astype(np.float64)) if numbers else array
    return held


def _read_bounded(stream: IO[bytes] | gzip.GzipFile) -> bytes:
    content = stream.read(MAX_BYTES + 1)
    _require_bounded(len(content))
    return content


def _require_bounded(size_bytes: int) -> None:
    if size_bytes > MAX_BYTES:
        raise Refusal(f"more than {MAX_BYTES >> 20} MiB, unpacked or not: a Nature-DQN needs less than half")


def recognise(path: Path, weights: Mapping[Any, Any], format: Format) -> Layout:
    """The layout whose names the weights have, all of them and no others.

    Args:
        path: the file they were read from, for the refusal.
        weights: from `read_weights`.
        format: what the file is said to be; "auto" if nothing is said.
    """
    possible = [layout for layout in LAYOUTS if format in ("auto", layout.format)]
    nearest = max(possible, key=lambda layout: len(layout.names & weights.keys()))
    if not nearest.names & weights.keys():
        looked_for = "; ".join(
            f"{layout.format} ({layout.layers[0]} ... {layout.layers[-1]})" for layout in possible
        )
        raise Refusal(
            f"{path}: no layers of a DQN among its weights ({_some(weights)}); looked for {looked_for}"
        )
    surplus = [
        name
        for name in weights.keys() - nearest.names
        if not (nearest.left_out and isinstance(name, str) and name.startswith(nearest.left_out))
    ]
    missing = nearest.names - weights.keys()
    if missing or surplus:
        raise Refusal(
            f"{path}: not the Nature-DQN of {nearest.format}: lacks {_some(missing)}, holds {_some(surplus)} besides"
        )
    return nearest


def choose_network(path: Path, layout: Layout, network: str | None) -> str:
    """The network of ours that was asked for, or the first one that the names may belong to."""
    if network is not None and network not in layout.networks:
        raise Refusal(
            f"network is {network!r}: the weights' names in {path} are those of {' or '.join(layout.networks)}"
        )
    return network or layout.networks[0]


def rebuild(path: Path, weights: Mapping[str, Any], layout: Layout, game: Game, network: str) -> DQN | DSQN:
    """Our agent with these weights, in evaluation mode.

    Raises:
        Refusal: the game has no Nature-DQN, or a weight does not fit it, is no plain tensor or not finite.
    """
    if game.tier != "atari":
        atari = ", ".join(other.name for other in GAMES.values() if other.tier == "atari")
        raise Refusal(f"game is {game.name}: a Nature-DQN plays Atari games ({atari})")
    agent = (
        DQN(game, padding="same") if layout.channels_last else NETWORKS[network].make(game, torch.Generator())
    )
    shapes = (game.observation_shape, *agent.layer_shapes)  # of what each layer is given
    own: dict[str, Tensor] = {}
    for name, wanted in agent.state_dict().items():
        _, index, parameter = name.split(".")  # layers.0.weight, ...
        theirs = layout.layers[int(index)] + (layout.weight if parameter == "weight" else layout.bias)
        tensor = weights[theirs]
        if not (
            isinstance(tensor, Tensor)
            and tensor.is_floating_point()
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
        ):
            raise Refusal(f"{path}: {theirs!r} is no plain tensor of floating-point numbers")
        given, needed = tuple(tensor.shape), tuple(wanted.shape)
        if layout.channels_last and tensor.ndim > 1:
            tensor = tensor.movedim((-1, -2), (0, 1))  # [out, in] or [out, in, height, width]
            needed = (*needed[2:], *needed[1::-1])
        if tensor.shape != wanted.shape:
            if int(index) == len(layout.layers) - 1 and tensor.shape[1:] == wanted.shape[1:]:
                raise Refusal(f"{path}: a DQN of {len(tensor)} actions, {game.name} has {game.num_actions}")
            raise Refusal(f"{path}: {theirs!r} has shape {given}, a Nature-DQN's has {needed}")
        channels, *pixels = shapes[int(index)]
        if layout.channels_last and tensor.ndim == 2 and pixels:
            tensor = tensor.unflatten(1, (*pixels, channels)).movedim(-1, 1).flatten(1)
        own[name] = tensor.float()
        if not bool(torch.isfinite(own[name]).all()):
            raise Refusal(f"{path}: {theirs!r} holds NaN or infinity; only finite weights are accepted")
    agent.load_state_dict(own)
    return agent.requires_grad_(False).eval()


def _formats() -> list[str]:
    return list(dict.fromkeys(layout.format for layout in LAYOUTS))


def _some(names: Iterable[object], most: int = 3) -> str:
    """Names for a message, not all of a long list."""
    shown = sorted(repr(name) for name in names)
    more = [f"{len(shown) - most} more"] if len(shown) > most else []
    return ", ".join([*shown[:most], *more]) or "nothing"
