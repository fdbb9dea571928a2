"""The public face: names that outsiders import, and the command that runs every other one."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spikeq
from core.registry import Registry
from core.words import command_line
from spikeq.__main__ import VERBS

REPOSITORY = Path(__file__).resolve().parents[1]
REGISTRIES = (
    *(
        "AGENTS",
        "ATTACKS",
        "ENVIRONMENTS",
        "FIGURES",
        "FORMATS",
        "GAMES",
        "METHODS",
        "NETWORKS",
        "NEURONS",
        "NORMALISATIONS",
    ),
    *("PPO_RECIPES", "PROTOCOLS", "READOUTS", "RECIPES", "VARIANTS"),
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spikeq", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("name", spikeq.__all__)
def test_every_name_is_the_one_of_its_package(name: str) -> None:
    value = getattr(spikeq, name)
    assert value is getattr(importlib.import_module(spikeq._PLACES[name]), name)
    if name in REGISTRIES:
        assert isinstance(value, Registry)
        assert len(value.names()) > 0
    assert name in dir(spikeq)


def test_all_registries_are_there() -> None:
    assert {name for name in spikeq.__all__ if isinstance(getattr(spikeq, name), Registry)} == set(REGISTRIES)


def test_examples_import_nothing_else() -> None:
    """Where a name lives may change; who imports it from here is not concerned."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    texts = [page, *(file.read_text() for file in (REPOSITORY / "examples").rglob("*.py"))]
    imported = re.findall(r"^(?:from|import) (\w+)", "\n".join(texts), re.MULTILINE)
    ours = {folder.parent.name for folder in REPOSITORY.glob("*/__init__.py")}
    assert "spikeq" in imported
    assert {*imported} & ours == {"spikeq"}


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, spikeq, spikeq.__main__; assert 'torch' not in sys.modules; spikeq.nothing"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert "module 'spikeq' has no attribute 'nothing'" in done.stderr


def test_the_verbs_are_listed_and_unknown_ones_refused() -> None:
    listed = run("--help")
    assert listed.returncode == 0
    assert all(verb in listed.stdout for verb in VERBS)
    assert run().stdout == listed.stdout
    wrong = run("evalute", "run")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert "did you mean 'evaluate'?" in wrong.stderr


def test_commands_are_told_as_they_are_typed() -> None:
    assert command_line(["adversarial", "run", "--out", "a b"]) == "spikeq attack run --out 'a b'"
    for verb, (module, _) in VERBS.items():
        if "." not in module:
            assert command_line([module]) == f"spikeq {verb}"


def test_a_verb_is_the_command_of_its_module(tmp_path: Path) -> None:
    game = ("run", "--agent", "random", "--game", "minatar/breakout", "--episodes", "1", "--threads", "1")
    done = run("evaluate", *game, "--out", str(tmp_path / "scores"))
    assert done.returncode == 0, done.stderr
    # The manifest names the command as `python -m` would run it.
    assert '"evaluate"' in (tmp_path / "scores" / "manifest.json").read_text()
    assert run("evaluate", "run", "--agent", "none.safetensors", "--out", str(tmp_path)).returncode == 2
