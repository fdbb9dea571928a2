"""Safetensors files with a JSON header of our own, which hold their own digest: damage is found when they are read.

Nothing is unpickled. What a file says of its tensors is checked before they are made.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from core.errors import Refusal, shown
from core.reading import parse_json
from core.records import digest, write_bytes

SEAL = "seal"
"""Entry of the header: SHA-256 of the file in which these 64 digits are zeros. Older files have none."""
# The header is a text in the JSON of the file's own header, so that its quotes have backslashes.
_SEAL = re.compile(rb'\\"seal\\": \\"([0-9a-f]{64})\\"')
FLOATS = ("F64", "F32", "F16", "BF16")
NUMBERS = (*FLOATS, "I64", "I32", "I16", "I8", "U8", "BOOL")
"""Types of numbers, by their names in files, that this project writes."""
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


def read_tensors(
    path: str | os.PathLike[str],
    key: str,
    types: Sequence[str] = NUMBERS,
    not_finite: bool = False,
    most_bytes: int | None = None,
) -> TensorFile:
    """Read a file that `write_tensors` wrote.

    Args:
        path: the file. It is read at once, because another process may replace it at any time.
        key: name under which the file's metadata holds the header.
        types: accepted types of numbers.
        not_finite: whether the header may hold NaN and Infinity.
        most_bytes: size of the largest file that is read; None for any.

    Raises:
        Refusal: the file is damaged, too large, was not written by SpikeQ, or has tensors of another type.
    """
    path = Path(path)
    if most_bytes is not None and path.stat().st_size > most_bytes:
        raise Refusal(f"{path} has {path.stat().st_size:,} bytes: at most {most_bytes:,} are read")
    content = path.read_bytes()
    described = _described(path, content, types)
    try:
        tensors = load(content)
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError, OverflowError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal(f"{path} is not a whole safetensors file ({first[:200]})")
    metadata = described.get("__metadata__", {})
    try:
        header = parse_json(metadata[key], not_finite=not_finite)
    except KeyError:
        raise Refusal(f"{path}: a safetensors file, but not written by SpikeQ (no {key!r} entry)")
    except Refusal as refusal:
        raise Refusal(f"{path}: a safetensors file without a readable {key!r} entry: {refusal}")
    if SEAL in header and not _is_whole(content):
        raise Refusal(f"{path} is damaged: its content does not have the digest that it holds")
    return TensorFile(header, tensors, digest(content))


def _described(path: Path, content: bytes, types: Sequence[str]) -> dict[str, Any]:
    """What the file says of its tensors, with their types checked."""
    size = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if size > len(content) - _LENGTH_BYTES:
        raise Refusal(f"{path} is not a whole safetensors file (it ends within its header)")
    try:
        described: dict[str, Any] = parse_json(_header_of(content))
    except Refusal as refusal:
        raise Refusal(f"{path} is not a whole safetensors file ({refusal})")
    for name, tensor in described.items():
        kind = tensor.get("dtype") if isinstance(tensor, dict) else None
        if name != "__metadata__" and kind not in types:
            raise Refusal(
                f"{path}: tensor {shown(name)} has the type {shown(kind)}: accepted are {', '.join(types)}"
            )
    return described


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
