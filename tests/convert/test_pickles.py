"""Torch files that are small and ask for much: refused before anything is loaded; those of weights are not."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from convert import foreign_files, pickles
from core.errors import Refusal


def packed(pickle: bytes) -> bytes:
    """A torch file with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little")


def nested_tuples(depth: int) -> bytes:
    """A dictionary whose key is ((((1,), (1,)), ...), ...): hashing it takes 2^depth steps."""
    levels = b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(depth))
    return b"\x80\x02}K\x01\x85" + levels + b"K\x01s."


HOSTILE = {
    "bytes": (b"\x80\x02cbuiltins\nbytearray\n" + number(2**33) + b"\x85R.", "'builtins.bytearray'"),
    "bytes in a list": (b"\x80\x02]cbuiltins\nbytearray\n" + number(2**33) + b"\x85Ra.", "'builtins.bytearray'"),
    "storage": (b"\x80\x02ctorch\nFloatStorage\n" + number(2**33) + b"\x85R.", "torch FloatStorage by itself"),
    "storage, kept": (
        b"\x80\x02(ctorch\nFloatStorage\nq\x01X\x01\x00\x00\x000th\x01" + number(2**33) + b"\x85R.",
        "torch FloatStorage by itself",
    ),
    "untyped storage": (
        b"\x80\x02ctorch.storage\nUntypedStorage\n" + number(2**33) + b"\x85R.",
        "torch.storage UntypedStorage by itself",
    ),
    "tensor": (b"\x80\x02ctorch\nFloatTensor\n" + number(2**33) + b"\x85R.", "'torch.FloatTensor'"),
    "tuples": (nested_tuples(60), "more than tensors"),
    "tuples, deep": (b"\x80\x02}K\x01" + 10**6 * b"\x85" + b"K\x01s.", "more than tensors"),
    "dictionaries": (b"\x80\x02]" + 2**24 * b"}" + b".", "more than tensors"),
    "integers": (b"\x80\x02}(" + b"".join(number(i * (2**31 - 1)) + b"N" for i in range(5000)) + b"u.", "more than"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("is_legacy", [False, True])
def test_what_asks_for_much_is_refused(kind: str, is_legacy: bool, tmp_path: Path) -> None:
    pickle, words = HOSTILE[kind]
    content = pickle if is_legacy else packed(pickle)
    if not is_legacy:
        assert len(content) < 2**15
    path = tmp_path / "small.pth"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=words):
        foreign_files.read(path)


@pytest.mark.parametrize("is_new", [True, False])
def test_weights_and_what_trainers_save_beside_them(is_new: bool, tmp_path: Path) -> None:
    """Parameters, an optimiser's state, and MinAtar's long lists of returns."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    network[0].half()
    optimiser = torch.optim.Adam([{"params": [weight]} for weight in network.parameters()])
    network.zero_grad()
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    content = {
        "policy_net_state_dict": network.state_dict(),
        "again": network.state_dict(),
        "parameters": list(network.parameters()),
        "optimizer_state_dict": optimiser.state_dict(),
        "returns": [0.5 * episode for episode in range(300_000)],
        "frame_stamps": [*range(2**31 - 100_000, 2**31 - 1)],
        "seed": 2**62,
        "shape": network[0].weight.shape,
    }
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path, _use_new_zipfile_serialization=is_new)
    held = foreign_files.read(path).held
    assert held.keys() == content.keys()
    assert torch.equal(held["policy_net_state_dict"]["2.weight"], network[2].weight)


def test_every_pickle_of_a_torch_file_is_looked_at() -> None:
    """An archive may have several; the one that is loaded depends on the names of the others."""
    buffer = io.BytesIO(packed(b"\x80\x02}."))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("other/data.pkl", HOSTILE["bytes"][0])
    with pytest.raises(Refusal, match="bytearray"):
        pickles.require_plain(buffer.getvalue())
