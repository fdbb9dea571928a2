"""Pretrained Nature-DQNs of other projects. Formats are recognised by the names of the weights.

All of these networks see four grey 84x84 frames, oldest first, and choose among the emulator's minimal actions. They
divide bytes by 255, before the network or as its first step. The networks of this project are given divided bytes, so
the weights are taken as they are. Only layouts with `channels_last` have axes in another order.

An extension registers a format of its own:

    FORMATS.register("my-format")(Format("of my project", (Layout(("conv1", "conv2", "conv3", "fc", "q")),)))
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import GAMES, Game
from core.layers import Padding
from core.networks import NETWORKS, Network
from core.registry import Registry


@dataclass(frozen=True)
class Layout:
    """How the weights of a Nature-DQN are named and stored in one kind of file."""

    layers: tuple[str, ...]
    """Names of the layers from the input to the Q-values. Each has a weight and a bias."""
    networks: tuple[str, ...] = ("relu",)
    """Networks of this project that weights of these names may belong to. The first is the usual one."""
    ignored: str | None = None
    """Prefix of the names of weights that are not read, such as those of a target network."""
    weight: str = ".weight"
    """Suffix of the names of weights."""
    bias: str = ".bias"
    """Suffix of the names of biases."""
    padding: Padding = "valid"
    """Padding of the convolutions."""
    channels_last: bool = False
    """Whether kernels are [height, width, in, out], matrices [in, out], and images [height, width, channels]."""

    @property
    def names(self) -> set[str]:
        """Names of all weights and biases."""
        return {f"{layer}{parameter}" for layer in self.layers for parameter in (self.weight, self.bias)}


@dataclass(frozen=True)
class Format:
    """A format of files of pretrained Nature-DQNs."""

    description: str
    """Where such files come from, for --help."""
    layouts: tuple[Layout, ...]
    """The layouts that weights in such a file may have."""


FORMATS: Registry[Format] = Registry("format")
"""Formats of files that can be imported, by name."""

# `DQN.save` writes a zip. Its member policy.pth is a torch file of the policy's weights, of the online network (q_net)
# and the target network (q_net_target). Nothing else in the zip is opened.
FORMATS.register("sb3")(
    Format(
        "Stable-Baselines3, a zip written by DQN.save",
        (
            Layout(
                (
                    *(f"q_net.features_extractor.cnn.{index}" for index in (0, 2, 4)),
                    "q_net.features_extractor.linear.0",
                    "q_net.q_net.0",
                ),
                ignored="q_net_target.",
            ),
        ),
    )
)
# dqn_atari.py --save-model writes a torch file of the weights.
FORMATS.register("cleanrl")(
    Format(
        "CleanRL, a .cleanrl_model written by dqn_atari.py",
        (Layout(tuple(f"network.{index}" for index in (0, 2, 4, 7, 9))),),
    )
)
# Torch files (.pkl) of the weights of Dqn, of Dsqn (LIF) and DsqnIF, and of DsqnSpike. Neurons have no weights, so the
# names of Dsqn and DsqnIF are the same. Tau, threshold and T are command-line options of that code and are not saved.
_SPIKING_TRUNK = ("_static_conv1", "_conv2.0.0", "_conv3.0.0", "_fc1.0.1")
FORMATS.register("aptx395")(
    Format(
        "AptX395/Deep-Spiking-Q-Networks, the code of Liu et al. 2022",
        (
            Layout(("_conv1.0", "_conv2.0", "_conv3.0", "_fc1.1", "_fc2")),
            Layout((*_SPIKING_TRUNK, "_fc2"), ("liu2022", "liu2022-if")),
            Layout((*_SPIKING_TRUNK, "_fc2.0.0"), ("liu2022-spike",)),
        ),
    )
)
# A gzip of a torch file, whose entry `estimator_state` has the weights.
FORMATS.register("atari-agents")(
    Format(
        "floringogianu/atari-agents",
        (
            Layout(
                (
                    *(f"_AtariNet__features.{index}" for index in (0, 2, 4)),
                    "_AtariNet__head.0",
                    "_AtariNet__head.2",
                )
            ),
        ),
    )
)
# SAME padding (84 -> 21 -> 11 -> 11 pixels, so the first fully connected layer has 7,744 inputs). Arrays keep the names
# that their framework gives them; a ":0" at the end is dropped. Weights of the target network may be in the file.
_CONVOLUTIONS, _MATRICES = ("Conv", "Conv_1", "Conv_2"), ("fully_connected", "fully_connected_1")
FORMATS.register("nature-same")(
    Format(
        "Dopamine (TensorFlow or JAX) and OpenAI Baselines, an .npz of named arrays written by numpy.savez",
        (
            # Dopamine in TensorFlow.
            Layout(
                tuple(f"Online/{layer}" for layer in (*_CONVOLUTIONS, *_MATRICES)),
                ignored="Target/",
                weight="/weights",
                bias="/biases",
                padding="same",
                channels_last=True,
            ),
            # Dopamine in JAX: flax.traverse_util.flatten_dict(bundle["online_params"], sep="/").
            Layout(
                tuple(f"params/{layer}" for layer in ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")),
                weight="/kernel",
                bias="/bias",
                padding="same",
                channels_last=True,
            ),
            # OpenAI Baselines, deepq: models.cnn_to_mlp with hiddens=[512], dueling=False.
            Layout(
                (
                    *(f"deepq/q_func/convnet/{layer}" for layer in _CONVOLUTIONS),
                    *(f"deepq/q_func/action_value/{layer}" for layer in _MATRICES),
                ),
                ignored="deepq/target_q_func/",
                weight="/weights",
                bias="/biases",
                padding="same",
                channels_last=True,
            ),
        ),
    )
)


def networks() -> dict[str, Network]:
    """Networks of this project that files of the registered formats may hold, by name."""
    names = (name for form in FORMATS.values() for layout in form.layouts for name in layout.networks)
    return {name: NETWORKS[name] for name in names}


def recognise(
    path: str | os.PathLike[str], weights: Mapping[Any, Any], format: str | None = None
) -> tuple[str, Layout]:
    """Find the layout whose names the weights have, all of them and no others.

    Args:
        path: the file that the weights were read from, for the refusal.
        weights: from `foreign_files.read_weights`.
        format: name of the file's format; None tries all.

    Returns:
        Name of the format, and the layout.

    Raises:
        Refusal: there is no such format, or the names fit none of its layouts.
    """
    possible = [
        (name, layout)
        for name, form in (FORMATS.items() if format is None else [(format, FORMATS[format])])
        for layout in form.layouts
    ]
    name, nearest = max(possible, key=lambda each: len(each[1].names & weights.keys()))
    if not nearest.names & weights.keys():
        looked_for = "; ".join(f"{name} ({each.layers[0]} ... {each.layers[-1]})" for name, each in possible)
        raise Refusal(
            f"{path}: no layers of a DQN among its weights ({_some(weights)}); looked for {looked_for}"
        )
    surplus = [
        weight
        for weight in weights.keys() - nearest.names
        if not (nearest.ignored and isinstance(weight, str) and weight.startswith(nearest.ignored))
    ]
    missing = nearest.names - weights.keys()
    if missing or surplus:
        raise Refusal(
            f"{path}: not the Nature-DQN of {name}: missing weights: {_some(missing)}; "
            f"unknown weights: {_some(surplus)}"
        )
    return name, nearest


def choose_network(path: str | os.PathLike[str], layout: Layout, network: str | None) -> str:
    """The network that was asked for, or else the first one that the names may belong to.

    Raises:
        Refusal: the names do not belong to the network that was asked for.
    """
    if network is not None and network not in layout.networks:
        raise Refusal(
            f"network is {network!r}: the weights in {path} have the names of {' or '.join(layout.networks)}"
        )
    return network or layout.networks[0]


def rebuild(
    path: str | os.PathLike[str], weights: Mapping[str, Any], layout: Layout, game: Game, network: str
) -> DQN | DSQN:
    """Make an agent of this project with these weights, in evaluation mode.

    Args:
        path: the file that the weights were read from, for refusals.
        weights: from `foreign_files.read_weights`.
        layout: from `recognise`.
        game: the game that the agent plays.
        network: from `choose_network`.

    Raises:
        Refusal: the game has no Nature-DQN, or a weight has another shape, is not a plain tensor or is not finite.
    """
    if game.tier != "atari":
        atari = ", ".join(other.name for other in GAMES.values() if other.tier == "atari")
        raise Refusal(f"game is {game.name}: a Nature-DQN plays Atari games ({atari})")
    if layout.padding == "valid":
        agent = NETWORKS[network].make(game, torch.Generator())
    else:
        agent = DQN(game, padding=layout.padding)
    input_shapes = (game.observation_shape, *agent.layer_shapes)
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
            raise Refusal(f"{path}: {theirs!r} is not a plain tensor of floating-point numbers")
        given, needed = tuple(tensor.shape), tuple(wanted.shape)
        if layout.channels_last and tensor.ndim > 1:
            tensor = tensor.movedim((-1, -2), (0, 1))  # [out, in] or [out, in, height, width]
            needed = (*needed[2:], *needed[1::-1])
        if tensor.shape != wanted.shape:
            if int(index) == len(layout.layers) - 1 and tensor.shape[1:] == wanted.shape[1:]:
                raise Refusal(f"{path}: a DQN of {len(tensor)} actions, {game.name} has {game.num_actions}")
            raise Refusal(f"{path}: {theirs!r} has shape {given}, a Nature-DQN's has {needed}")
        channels, *pixels = input_shapes[int(index)]
        if layout.channels_last and tensor.ndim == 2 and pixels:
            tensor = tensor.unflatten(1, (*pixels, channels)).movedim(-1, 1).flatten(1)
        own[name] = tensor.float()
        if not bool(torch.isfinite(own[name]).all()):
            raise Refusal(f"{path}: {theirs!r} holds NaN or infinity; only finite weights are accepted")
    agent.load_state_dict(own)
    return agent.requires_grad_(False).eval()


def _some(names: Iterable[object], most: int = 3) -> str:
    """The first names for a message, and how many more there are."""
    shown = sorted(repr(name) for name in names)
    more = [f"{len(shown) - most} more"] if len(shown) > most else []
    return ", ".join([*shown[:most], *more]) or "none"
