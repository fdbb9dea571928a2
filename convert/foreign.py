"""Pretrained DQNs of other projects: formats of their files, and how their weights become an agent of this project.

A format is recognised by the names of the weights. Each stands in one file of `convert/formats/`. An extension
registers one of its own:

    FORMATS.register("my-format")(Format("of my project", (Layout(("conv1", "conv2", "conv3", "fc", "q")),)))

Networks of this project are given pixels from 0 to 1. Most others are, too: they divide bytes by 255, before the
network or as its first step. Their weights are taken as they are. A network that was given bytes gets the weights of
its first layer multiplied by 255, which is the same function of the frame.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convert.foreign_files import MAX_WEIGHTS, ForeignFile, plain_dict
from core.choices import Pixels
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal, shown
from core.games import GAMES, Game, Tier
from core.layers import HIDDEN_LAYERS, Conv, Dense, Hidden, Padding, format_layers, parse_layers
from core.networks import NETWORKS
from core.registry import Registry


@dataclass(frozen=True)
class Layout:
    """How the weights of a DQN are named and stored in one kind of file."""

    layers: tuple[str, ...]
    """Names of the layers from the input to the Q-values. Each has a weight and a bias."""
    tier: Tier = "atari"
    """Tier of the games that the network plays. It has the tier's usual convolutions."""
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
    any_width: bool = False
    """Whether fully connected layers have the number of neurons that the file gives them, or the tier's usual one."""
    channels_last: bool = False
    """Whether kernels are [height, width, in, out], and matrices [in, out]."""
    flattened_channels_last: bool = False
    """Whether the first fully connected layer is given images as [height, width, channels]."""

    @property
    def names(self) -> set[str]:
        """Names of all weights and biases."""
        return {f"{layer}{parameter}" for layer in self.layers for parameter in (self.weight, self.bias)}


@dataclass(frozen=True)
class Told:
    """What a file says of its network beside the weights, and what it leaves open."""

    pixels: Pixels | None = None
    """Pixels that the network was given; None if the file does not say."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """What is taken for granted because the file does not say it: names for provenance, with words for the user."""


@dataclass(frozen=True)
class Format:
    """A format of files of pretrained DQNs. Methods are overridden for formats that tell more than weights."""

    description: str
    """Where such files come from, for --help."""
    layouts: tuple[Layout, ...]
    """The layouts that weights in such a file may have."""
    inside: str | None = None
    """Entry of the saved dictionary that may hold the weights. Otherwise they are all that was saved."""

    def weights(self, file: ForeignFile) -> Mapping[Any, Any]:
        """The weights in a file, by name."""
        inside = file.held.get(self.inside)
        return plain_dict(inside) if isinstance(inside, dict) else file.held

    def examine(self, file: ForeignFile) -> None:
        """Refuse a file that says it holds something else. It is called before names are compared."""

    def told(self, file: ForeignFile, layout: Layout, game: Game) -> Told:
        """What the file says of its network.

        Raises:
            Refusal: the file says that its network is none of this project's.
        """
        if any(NETWORKS[name].spiking is not None for name in layout.networks):
            return Told()  # their neurons are told of apart
        return Told(None, {"activation": "ReLU after each hidden layer"})

    def actions(self, game: Game, num_outputs: int) -> tuple[int, ...]:
        """The game's action of each output.

        Raises:
            Refusal: the game has another number of actions.
        """
        if num_outputs != game.num_actions:
            raise Refusal(f"a DQN of {num_outputs} actions, {game.name} has {game.num_actions}")
        return tuple(range(num_outputs))


FORMATS: Registry[Format] = Registry("format", package="convert.formats")
"""Formats of files that can be imported, by name."""


class Recognised(NamedTuple):
    """A file whose weights have the names of a layout."""

    file: ForeignFile
    format: str
    layout: Layout
    weights: Mapping[str, Any]


def recognise(file: ForeignFile, format: str | None = None) -> Recognised:
    """Find the layout whose names the weights have, all of them and no others.

    Args:
        file: from `foreign_files.read`.
        format: name of the file's format; None tries all.

    Raises:
        Refusal: there is no such format, or the names fit none of its layouts.
    """
    forms = FORMATS.items() if format is None else ((format, FORMATS[format]),)
    with _naming(file):
        for _, form in forms:
            form.examine(file)
    possible = [
        Recognised(file, name, layout, form.weights(file)) for name, form in forms for layout in form.layouts
    ]

    def fit(each: Recognised) -> tuple[int, int]:
        names = each.layout.names
        return len(names & each.weights.keys()), -len(names - each.weights.keys())

    nearest = max(possible, key=fit)
    names, found = nearest.layout.names, nearest.weights.keys()
    if not names & found:
        looked_for = "; ".join(
            f"{name} ({form.layouts[0].layers[0]} ... {form.layouts[0].layers[-1]})" for name, form in forms
        )
        raise Refusal(
            f"{file.path}: no layers of a DQN among its weights ({_some(found)}); looked for {looked_for}"
        )
    ignored = nearest.layout.ignored
    surplus = [
        name for name in found - names if not (ignored and isinstance(name, str) and name.startswith(ignored))
    ]
    missing = names - found
    if missing or surplus:
        raise Refusal(
            f"{file.path}: not the DQN of {nearest.format}: missing weights: {_some(missing)}; "
            f"unknown weights: {_some(surplus)}"
        )
    return nearest


def choose_network(found: Recognised, network: str | None) -> str:
    """The network that was asked for, or else the first one that the names may belong to.

    Raises:
        Refusal: the names do not belong to the network that was asked for.
    """
    networks = found.layout.networks
    if network is not None and network not in networks:
        raise Refusal(
            f"network is {network!r}: the weights in {found.file.path} have the names of {' or '.join(networks)}"
        )
    return network or networks[0]


def told(found: Recognised, game: Game, pixels: Pixels | None = None) -> Told:
    """What a file says of its network, with what the user says where the file does not.

    Args:
        found: from `recognise`.
        game: the game that the network plays.
        pixels: pixels that the network was given, as the user says.

    Raises:
        Refusal: file, game and user contradict each other, or the network is none of this project's.
    """
    layout, path = found.layout, found.file.path
    if layout.tier != game.tier:
        games = ", ".join(other.name for other in GAMES.values() if other.tier == layout.tier)
        raise Refusal(f"game is {game.name}: the network in {path} plays games of {layout.tier} ({games})")
    with _naming(found.file):
        said = FORMATS[found.format].told(found.file, layout, game)
    if layout.tier != "atari":
        if pixels is not None:
            raise Refusal(f"pixels is {pixels!r}: {game.name} has no pixels, so the option must be left out")
        return said
    if said.pixels is not None:
        if pixels not in (None, said.pixels):
            raise Refusal(f"pixels is {pixels!r}: {path} says that its network is given {said.pixels!r} ones")
        return said
    if pixels is not None:
        return Told(pixels, said.assumed)
    return Told("unit", {"pixels": "pixels from 0 to 1 (else --pixels bytes)", **said.assumed})


def rebuild(
    found: Recognised, game: Game, network: str, pixels: Pixels | None = None
) -> tuple[DQN | DSQN, tuple[int, ...]]:
    """Make an agent of this project with the weights of a file, in evaluation mode.

    Args:
        found: from `recognise`.
        game: the game that the agent plays, of the layout's tier.
        network: from `choose_network`.
        pixels: pixels that the network was given.

    Returns:
        The agent, and the game's action of each of the file's outputs.

    Raises:
        Refusal: a weight has another shape, is not a plain tensor or is not finite, or the game has other actions.
    """
    layout, path = found.layout, found.file.path
    tensors = {theirs: _plain(path, theirs, found.weights[theirs]) for theirs in sorted(layout.names)}
    num_weights = sum(tensor.numel() for tensor in tensors.values())
    if num_weights > MAX_WEIGHTS:  # one number may be shown as many
        raise Refusal(f"{path}: {num_weights:,} weights: at most {MAX_WEIGHTS:,} are accepted")
    given = {theirs: tuple(tensor.shape) for theirs, tensor in tensors.items()}
    if layout.channels_last:  # -> [out, in] or [out, in, height, width]
        tensors = {
            theirs: tensor.movedim((-1, -2), (0, 1)) if tensor.ndim > 1 else tensor
            for theirs, tensor in tensors.items()
        }
    last = len(layout.layers) - 1
    q_weight = tensors[layout.layers[last] + layout.weight]
    num_outputs = len(q_weight) if q_weight.ndim == 2 else game.num_actions
    with _naming(found.file):
        hidden = _hidden(layout, tensors)
        actions = FORMATS[found.format].actions(game, num_outputs)
    agent: DQN | DSQN
    if NETWORKS[network].spiking is None:
        agent = DQN(game, padding=layout.padding, hidden=hidden)
    else:
        agent = NETWORKS[network].make(game, torch.Generator())
    input_shapes = (game.observation_shape, *agent.layer_shapes)
    own: dict[str, Tensor] = {}
    for name, wanted in agent.state_dict().items():
        _, number, parameter = name.split(".")  # layers.0.weight, ...
        index = int(number)
        theirs = layout.layers[index] + (layout.weight if parameter == "weight" else layout.bias)
        tensor = tensors[theirs]
        needed = tuple(wanted.shape) if index < last else (num_outputs, *wanted.shape[1:])
        if tensor.shape != needed:
            if layout.channels_last:
                needed = (*needed[2:], *needed[1::-1])
            raise Refusal(
                f"{path}: {theirs!r} has shape {given[theirs]}, the DQN of {found.format} has {needed}"
            )
        channels, *height_width = input_shapes[index]
        if layout.flattened_channels_last and tensor.ndim == 2 and height_width:
            tensor = tensor.unflatten(1, (*height_width, channels)).movedim(-1, 1).flatten(1)
        tensor = tensor.float()
        if pixels == "bytes" and name == "layers.0.weight":
            tensor = 255 * tensor
        own[name] = tensor if index < last else _on_all_actions(tensor, actions, game, parameter == "bias")
        if not bool(torch.isfinite(own[name]).all()):
            raise Refusal(f"{path}: {theirs!r} holds NaN or infinity; only finite weights are accepted")
    agent.load_state_dict(own)
    return agent.requires_grad_(False).eval(), actions


BELOW_MEAN = 0.01
"""Distance of the Q-value of an action that the file's network does not have from the mean of the others."""


def _on_all_actions(rows: Tensor, actions: Sequence[int], game: Game, is_bias: bool) -> Tensor:
    """Output weights or biases [A, ...] of the game's actions, from those of the file's outputs.

    The other actions score the mean of the file's Q-values, less `BELOW_MEAN`. So they are never greedy, and hardly
    move the mean over actions. One may be second best, and the margin loss of attacks then pushes towards it in vain.
    """
    mean = rows.double().mean(0) - (BELOW_MEAN if is_bias else 0.0)
    spread = mean.float().repeat(game.num_actions, *[1] * (rows.ndim - 1))
    spread[list(actions)] = rows
    return spread


def _plain(path: os.PathLike[str], name: str, tensor: object) -> Tensor:
    if not (
        isinstance(tensor, Tensor)
        and tensor.is_floating_point()
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
    ):
        raise Refusal(f"{path}: {name!r} is not a plain tensor of floating-point numbers")
    return tensor.detach()


def _hidden(layout: Layout, tensors: Mapping[str, Tensor]) -> Hidden:
    """The hidden layers of a network."""
    usual = HIDDEN_LAYERS[layout.tier]
    if not layout.any_width:
        return usual
    convolutions = [spec for spec in usual if isinstance(spec, Conv)]
    matrices = [tensors[layer + layout.weight] for layer in layout.layers[len(convolutions) : -1]]
    # A number has no width. Its shape is refused afterwards.
    dense = [Dense(len(matrix) if matrix.ndim else 1) for matrix in matrices]
    return parse_layers(format_layers([*convolutions, *dense]))  # refuses what no checkpoint may hold


@contextlib.contextmanager
def _naming(file: ForeignFile) -> Iterator[None]:
    """Put the file's name before refusals."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal(f"{file.path}: {refusal}")


def _some(names: Iterable[object], most: int = 3) -> str:
    """The first names for a message, and how many more there are."""
    shortened = sorted(shown(name) for name in names)
    more = [f"{len(shortened) - most} more"] if len(shortened) > most else []
    return ", ".join([*shortened[:most], *more]) or "none"
