"""What tests share: one thread, and commands run as a user types them."""

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from core.games import get_game
from train_direct.replay import Batch


class Finished(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Equal bits need equal thread counts, and tiny tensors are fastest on one."""
    torch.set_num_threads(1)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("evaluate", "run", "--agent", ...)` is `python -m evaluate run --agent ...`, in this process."""

    def run(stage: str, *arguments: object) -> Finished:
        from core.cli import main

        module = importlib.import_module(f"{stage}.__main__")
        verbs = {
            "train_direct": ("Dqn", "Dsqn"),
            "evaluate": ("Run",),
            "convert": ("Run", "Compare", "Import", "Export"),
            "adversarial": ("Run",),
        }[stage]
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, arguments)])
        code = 0
        capsys.readouterr()
        try:
            main(f"python -m {stage}", {name.lower(): getattr(module, name) for name in verbs})
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


def random_batch(size: int = 8) -> Batch:
    """Transitions of minatar/breakout that mean nothing, always the same ones."""
    rng = np.random.default_rng(0)
    shape = (size, *get_game("minatar/breakout").observation_shape)
    return Batch(
        rng.integers(2, size=shape, dtype=np.uint8),
        rng.integers(6, size=size),
        rng.normal(size=size).astype(np.float32),
        np.full(size, 0.99, dtype=np.float32),
        rng.integers(2, size=shape, dtype=np.uint8),
    )
