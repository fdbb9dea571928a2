"""A format that an extension registers: listed, recognised by its names, and gone without the extension."""

from pathlib import Path

import pytest
import torch
from torch import nn

from core.checkpoint import load_agent
from core.dqn import DQN
from tests.conftest import Command
from tests.test_refusals import is_refused


@pytest.fixture(autouse=True)
def forgotten(forget_extensions: None) -> None:
    """What a test registers is forgotten after it."""


def test_a_format_of_an_extension(command: Command, tmp_path: Path) -> None:
    parts = {"a": nn.Linear(4, 24), "b": nn.Linear(24, 8), "q": nn.Linear(8, 2)}
    source, out = tmp_path / "own.pth", tmp_path / "out" / "agent.safetensors"
    torch.save(nn.ModuleDict(parts).state_dict(), source)
    arguments = ("convert", "import", "--source", source, "--game", "cartpole", "--out", out)
    is_refused(command(*arguments), "no layers of a DQN among its weights ('a.bias'")
    is_refused(command(*arguments, "--format", "own-format"), "own-format")
    assert not out.parent.exists()
    extension = ("--extension", "tests.extensions.own_format")
    said = command("convert", "import", *extension, "--help").out
    assert "own-format: files of a code of one's own" in said
    finished = command(*arguments, *extension)
    assert finished.code == 0, finished.err
    assert "not in the file, and assumed: ReLU after each hidden layer" in finished.out
    checkpoint = load_agent(out)
    assert isinstance(checkpoint.agent, DQN)
    assert checkpoint.provenance["source_format"] == "own-format"
    states = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = parts["q"](parts["b"](parts["a"](states).relu()).relu())
    torch.testing.assert_close(checkpoint.agent(states), expected, rtol=0, atol=1e-6)
