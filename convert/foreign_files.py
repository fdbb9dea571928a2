"""Weights in the files of other projects: unpacked within bounds and read as tensors, never run as code."""

import gzip
import io
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convert import archives, pickles
from convert.archives import require_bounded
from core.errors import Refusal, shown
from core.records import digest

MAX_WEIGHTS = archives.MAX_BYTES // 2
"""Largest accepted number of weights: as many as fit into a file in half precision."""
MAX_DATA_BYTES = 2**23
"""Largest accepted size of the description in a file of Stable-Baselines3. Usual ones take 0.2 MB."""

_GZIP, _ZIP = (
    b"\x1f\x8b",
    archives.SIGNATURE,
)  # a torch file is itself a zip, or (before PyTorch 1.6) bare pickles


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
        Refusal: there is no such file, it is damaged, larger than `archives.MAX_BYTES`, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no file at {path}: the file of a pretrained DQN is needed")
    with path.open("rb") as file:
        content = file.read(archives.MAX_BYTES + 1)
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
    require_bounded(len(content))
    data = None
    if content.startswith(_GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = stream.read(archives.MAX_BYTES + 1)
        require_bounded(len(content))
    if content.startswith(_ZIP):
        with archives.opened(content) as archive:
            members = archive.namelist()
            if "policy.pth" in members:
                if "data" in members:
                    if archive.getinfo("data").file_size > MAX_DATA_BYTES:
                        raise Refusal(f"its member data unpacks to more than {MAX_DATA_BYTES >> 20} MiB")
                    data = archive.read("data")
                content = archive.read("policy.pth")
            elif not any(name.endswith(("/data.pkl", ".npy")) for name in members):
                raise Refusal("a zip without policy.pth (sb3), data.pkl (a torch file) or arrays (.npz)")
    if content.startswith(_ZIP):
        content = archives.repacked(content)
    return content, data


def _holds_arrays(content: bytes) -> bool:
    """Whether a file is an .npz and not a torch file."""
    if not content.startswith(_ZIP):
        return False
    with archives.opened(content) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _read_arrays(content: bytes) -> dict[str, Any]:
    """The arrays of an .npz by name. Floating-point numbers become a tensor, of others only the type is read."""
    held: dict[str, Any] = {}
    with archives.opened(content) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            held[name.removesuffix(":0")] = _read_array(name, archive.read(member))
    return held


def _read_array(name: str, content: bytes) -> torch.Tensor | np.dtype:
    """An array of floating-point numbers as a tensor; the type of any other array."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, column_major, dtype = read(stream)
    if dtype.hasobject:
        raise Refusal(
            f"{name!r} is an array of Python objects: only numbers are accepted, and no code was run"
        )
    if dtype.kind != "f":
        return dtype
    # NumPy would allocate what the header says.
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise Refusal(f"{name!r} says that it has the shape {shown(shape)}, and is of another size")
    numbers = np.frombuffer(content, dtype, offset=stream.tell())
    array = numbers.reshape(shape, order="F" if column_major else "C")
    return torch.from_numpy(array.astype(np.float64))
