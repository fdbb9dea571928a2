"""What tests share: one thread, and commands run as a user types them."""

import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch


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
            "convert": ("Run",),
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
