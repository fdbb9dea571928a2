"""Weights in the files of other projects: unpacked within bounds and read as tensors, never run as code."""

import gzip
import io
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from convert import pickles
from core.errors import Refusal
from core.records import digest

MAX_BYTES = 2**26
"""Largest accepted size of a file, and of what it unpacks to. A Nature-DQN with its target network and optimiser state
takes 27 MB."""

MAX_WEIGHTS = MAX_BYTES // 2
"""Largest accepted number of weights: as many as fit into a file in half precision."""
MAX_DATA_BYTES = 2**23
"""Largest accepted size of the description in a file of Stable-Baselines3. Usual ones take 0.2 MB."""

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"  # a torch file is itself a zip, or (before PyTorch 1.6) bare pickles


@dataclass(frozen=True)
class ForeignFile:
    """What a file of another project holds, not yet checked."""

    path: Path
    held: Mapping[Any, Any]
    """The dictionary that was saved. Names and values are not checked; it is empty if no dictionary was saved."""
    sha256: str
    """SHA-256 of the file as 64 hex digits."""
    data: bytes | None = None
    """The member `data` beside the weights in a zip; None if there is none."""


def read(path: str | os.PathLike[str]) -> ForeignFile:
    """Read a file of another project.

    A torch file, a gzip of one, a zip with a torch file `policy.pth`, and an .npz of arrays are accepted.

    Raises:
        Refusal: there is no such file, it is damaged, larger than MAX_BYTES, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no file at {path}: the file of a pretrained DQN is needed")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        packed, data = _unpacked(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on pickles that it then refuses
            if _holds_arrays(packed):
                held: Any = _read_arrays(packed)
            else:
                pickles.require_plain(packed)
                held = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}")
    except Exception:  # damage raises nearly any exception, in the unpackers and in torch
        raise Refusal(f"{path} is not a whole file of tensors (torch.save) or of arrays (.npz)")
    return ForeignFile(path, plain_dict(held), digest(content), data)


def plain_dict(held: object) -> dict[Any, Any]:
    """What a dictionary holds; nothing if it is none.

    A file can give an ordered dictionary attributes that hide its methods.
    """
    return dict(dict.items(held)) if isinstance(held, dict) else {}


def _unpacked(content: bytes) -> tuple[bytes, bytes | None]:
    """The torch file or .npz within a file, and the description beside it.

    It is the content of a gzip, policy.pth of a zip, or the file itself.
    """
    _require_bounded(len(content))
    data = None
    if content.startswith(_GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = _read_bounded(stream)
    if content.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            if "policy.pth" in members:
                with archive.open("policy.pth") as member:
                    content = _read_bounded(member)
                if "data" in members:
                    with archive.open("data") as member:
                        data = member.read(MAX_DATA_BYTES + 1)
                    if len(data) > MAX_DATA_BYTES:
                        raise Refusal(f"its member data unpacks to more than {MAX_DATA_BYTES >> 20} MiB")
            elif not any(name.endswith(("/data.pkl", ".npy")) for name in members):
                raise Refusal("a zip without policy.pth (sb3), data.pkl (a torch file) or arrays (.npz)")
    if content.startswith(_ZIP):
        # torch.load and numpy.load allocate the size that a member claims to unpack to.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_bounded(sum(member.file_size for member in archive.infolist()))
    return content, data


def _holds_arrays(content: bytes) -> bool:
    """Whether a file is an .npz and not a torch file."""
    if not content.startswith(_ZIP):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _read_arrays(content: bytes) -> dict[str, Any]:
    """The arrays of an .npz by name. Arrays of floating-point numbers become tensors, others stay as they are."""
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
    """Refuse more than MAX_BYTES."""
    if size_bytes > MAX_BYTES:
        raise Refusal(
            f"more than {MAX_BYTES >> 20} MiB, packed or unpacked: a Nature-DQN needs less than half of that"
        )
