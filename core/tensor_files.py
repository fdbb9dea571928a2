"""Safetensors files with a JSON header of our own, which hold their own digest: damage is found when they are read.

Nothing is unpickled.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from core.errors import Refusal
from core.records import digest, write_bytes

SEAL = "seal"
"""Entry of the header: SHA-256 of the file in which these 64 digits are zeros. Older files have none."""
# The header is a text in the JSON of the file's own header, so that its quotes have backslashes.
_SEAL = re.compile(rb'\\"seal\\": \\"([0-9a-f]{64})\\"')
_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its JSON header, 8 bytes little-endian."""


class TensorFile(NamedTuple):
    """The content of a file."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]
    """Tensors by name, on the CPU, in the types of the file."""
    sha256: str
    """SHA-256 of the whole file in hex digits."""


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], key: str, header: Mapping[str, Any]
) -> None:
    """Write tensors and a header to a file, atomically. Equal arguments give equal bytes.

    Args:
        path: the file; missing folders are made.
        tensors: the tensors by name.
        key: name under which the file's metadata holds the header.
        header: JSON-able values. The entry `seal` is added.
    """
    text = json.dumps({**header, SEAL: "0" * 64}, sort_keys=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(whole, {key: text})
    place = _seal_of(content)
    if place is None:
        raise ValueError(f"a header with its own {SEAL!r} cannot be sealed")
    start, end = place
    write_bytes(path, content[:start] + digest(content).encode() + content[end:])


def read_tensors(path: str | os.PathLike[str], key: str) -> TensorFile:
    """Read a file that `write_tensors` wrote.

    Args:
        path: the file. It is read at once, because another process may replace it at any time.
        key: name under which the file's metadata holds the header.

    Raises:
        Refusal: the file is damaged, or was not written by SpikeQ.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise Refusal(f"{path} is not a whole safetensors file ({str(error).splitlines()[0]})")
    try:
        header = json.loads(json.loads(_header_of(content))["__metadata__"][key])
    except (KeyError, ValueError, TypeError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise Refusal(f"{path}: a safetensors file, but not written by SpikeQ (no readable {key!r} entry)")
    if SEAL in header and not _is_whole(content):
        raise Refusal(f"{path} is damaged: its content does not have the digest that it holds")
    return TensorFile(header, tensors, digest(content))


def _is_whole(content: bytes) -> bool:
    """Whether a file with a seal is as it was written."""
    place = _seal_of(content)
    if place is None:
        return False
    start, end = place
    return digest(content[:start] + b"0" * 64 + content[end:]).encode() == content[start:end]


def _seal_of(content: bytes) -> tuple[int, int] | None:
    """Start and end of the seal's digits in a file; None if there is not exactly one."""
    found = [match.span(1) for match in _SEAL.finditer(_header_of(content))]
    if len(found) != 1:
        return None
    start, end = found[0]
    return _LENGTH_BYTES + start, _LENGTH_BYTES + end


def _header_of(content: bytes) -> bytes:
    """The JSON header of a safetensors file."""
    return content[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")]
