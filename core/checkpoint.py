"""Checkpoints: one safetensors file for an agent's kind, configuration, weights and provenance.

Nothing is unpickled. The file's header is checked against its tensors before an agent is made.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.agents import AGENT_CLASSES, Agent
from core.columns import rules
from core.errors import Refusal, shown
from core.extensions import changed_extensions
from core.games import Game, get_game
from core.layers import MOST_WEIGHTS
from core.manifest import require_recorded
from core.rows import EpisodeRow
from core.tensor_files import FLOATS, SEAL, TensorFile, read_tensors, write_tensors

FORMAT = 2
"""Format of new files. Files of format 1, which have no seal, are read too."""
_METADATA_KEY = "spikeq"
MAX_BYTES = 4 * MOST_WEIGHTS + 2**24
"""Size of the largest file that is read."""
PROVENANCE: Mapping[str, type] = {
    "train_seed": int,
    "train_steps": int,
    "recipe_steps": int,
    "recipe": str,
    "network": str,
    "scores_are_q_values": bool,
}
"""Entries that every checkpoint's provenance has, because rows hold them. Others are allowed."""
TRAINING = re.compile("[0-9a-f]{12}")
"""Form of the entry "training", the digest of the training (`train_direct.training`). Older checkpoints have none."""


@dataclass(frozen=True)
class Checkpoint:
    """An agent from a file, with its provenance."""

    agent: Agent
    provenance: dict[str, Any]
    """How the agent was made: recipe, seed and counters, or conversion and source."""
    id: str
    """First 12 hex digits of the file's SHA-256, which name these weights in rows."""

    @property
    def training(self) -> str:
        """Digest of all that defines the training; empty if unknown."""
        digest: str = self.provenance.get("training", "")
        return digest

    @property
    def columns(self) -> dict[str, Any]:
        """The columns about the agent that every type of row has (core/rows.py)."""
        told = ("train_seed", "train_steps", "network", "recipe")
        conversion = self.provenance.get("conversion", {})
        return {
            "agent": self.agent.kind,
            "checkpoint_id": self.id,
            **{name: self.provenance[name] for name in told},
            "training": self.training,
            "variant": conversion.get("variant", conversion.get("method", "")),
        }


def save_agent(
    path: str | os.PathLike[str],
    agent: Agent,
    provenance: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write an agent to a file, atomically. Equal arguments give equal bytes.

    Args:
        path: the file; missing folders are made.
        agent: the agent.
        provenance: how it was made, JSON-able; `PROVENANCE` lists what `load_agent` requires.
        dtype: to which weights are rounded.
    """
    header = {
        "format": FORMAT,
        "kind": agent.kind,
        "game": agent.game.name,
        "config": agent.config(),
        "provenance": dict(provenance),
    }
    tensors = {name: tensor.to(dtype) for name, tensor in agent.state_dict().items()}
    write_tensors(path, tensors, _METADATA_KEY, header)


def require_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Refuse weights that hold NaN or infinity, in a message that begins with what has them."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise Refusal(f"{what}: weight {name!r} holds NaN or infinity; only finite weights are accepted")


def _warn_of_equal_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Tell the user if no training can have made these weights."""
    values = {float(value) for tensor in weights.values() if tensor.numel() for value in tensor.aminmax()}
    if len(values) == 1:
        print(f"warning: every weight of {path} is {values.pop():g}: it was not trained", file=sys.stderr)


def load_agent(
    path: str | os.PathLike[str], game: Game | None = None, device: torch.device | None = None
) -> Checkpoint:
    """Rebuild the agent of a checkpoint file, in evaluation mode.

    Args:
        path: a file that `save_agent` wrote.
        game: the game that it will play, if that is another one.
        device: the device to move it to; the CPU if None.

    Raises:
        Refusal: the file is missing, damaged, of another format, or not the one that the manifest beside it records;
            it holds NaN or infinite weights, or does not fit the game.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no checkpoint at {path}: a .safetensors file written by SpikeQ is needed")
    try:
        file = read_tensors(path, _METADATA_KEY, FLOATS, most_bytes=MAX_BYTES)
    except Refusal as refusal:
        if path.suffix == ".safetensors":
            raise
        raise Refusal(f"{refusal}; spikeq convert import reads files of other libraries")
    header = _checked_header(path, file)
    require_recorded(path, file.sha256)
    tensors = {name: tensor.float() for name, tensor in file.tensors.items()}
    try:
        own_game = get_game(header["game"])
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}")
    if game is not None and (game.num_actions, game.observation_shape) != (
        own_game.num_actions,
        own_game.observation_shape,
    ):
        raise Refusal(
            f"{path}: trained on {own_game.name} ({own_game.num_actions} actions, observation "
            f"{own_game.observation_shape}); {game.name} needs {game.num_actions} actions, observation "
            f"{game.observation_shape}"
        )
    try:
        agent = AGENT_CLASSES[header["kind"]].from_config(own_game, header["config"])
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}")
    expected = {name: tuple(tensor.shape) for name, tensor in agent.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise Refusal(
                f"{path}: weight {name!r} has shape {found.get(name)}, a {header['kind']} agent of "
                f"{own_game.name} needs {expected.get(name)}"
            )
    require_finite(tensors, str(path))
    _warn_of_equal_weights(tensors, path)
    agent.load_state_dict(tensors)
    agent.requires_grad_(False).eval()
    for name in changed_extensions(header["provenance"].get("extensions", {})):
        print(
            f"{path}: trained by the extension {name!r}, which has changed; it plays as it is now",
            file=sys.stderr,
        )
    return Checkpoint(agent.to(device or torch.device("cpu")), header["provenance"], file.sha256[:12])


def _checked_header(path: Path, file: TensorFile) -> dict[str, Any]:
    """The header of a checkpoint, once its entries are known to be there."""
    header = file.header
    if type(header.get("format")) is not int or header["format"] not in (1, FORMAT):
        raise Refusal(
            f"{path}: checkpoint format {shown(header.get('format'))}, this version reads 1 and {FORMAT}"
        )
    if header["format"] == FORMAT and SEAL not in header:
        raise Refusal(f"{path} is damaged: it lacks its {SEAL!r}")
    parts: Mapping[str, type] = {"kind": str, "game": str, "config": dict, "provenance": dict}
    for entry, kind in parts.items():
        if not isinstance(header.get(entry), kind):
            raise Refusal(f"{path}: its {entry!r} is {shown(header.get(entry))}, a {kind.__name__} is needed")
    provenance = header["provenance"]
    for entry, kind in PROVENANCE.items():
        value, rule = provenance.get(entry), rules(EpisodeRow).get(entry)
        if type(value) is not kind:
            raise Refusal(f"{path}: its provenance lacks {entry!r} (a {kind.__name__})")
        if rule is not None and not rule.holds(value):
            raise Refusal(f"{path}: its {entry} is {shown(value)}: accepted is {rule.accepted}")
    conversion = provenance.get("conversion", {})
    texts = isinstance(conversion, dict) and [conversion.get(name, "") for name in ("method", "variant")]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal(f"{path}: its conversion is {shown(conversion)}: an object with a method is needed")
    extensions = provenance.get("extensions", {})
    if not isinstance(extensions, dict) or not all(isinstance(each, str) for each in extensions.values()):
        raise Refusal(f"{path}: its extensions are {shown(extensions)}: an object with digests is needed")
    training = provenance.get("training")
    if "training" in provenance and not (isinstance(training, str) and TRAINING.fullmatch(training)):
        raise Refusal(f"{path}: its provenance has training {training!r}, 12 hex digits are needed")
    return header
