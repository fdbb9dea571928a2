"""What help lists is what is registered, though nothing is imported for it."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.registered import Listed, explanation, listed
from core.registry import Registry
from spikeq.__main__ import VERBS
from train_direct.network_options import is_relu, is_spiking, is_spiking_actor

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numba", "pandas", "pyarrow", "matplotlib", "sklearn", "gymnasium", "jinja2", "PIL")
"""Libraries that take longer to import than a help page may take to be printed."""


def places() -> list[str]:
    """Every registry that an option of a command names."""
    rooms = ("adversarial", "analysis", "card", "convert", "evaluate", "play", "train_direct")
    sources = [path.read_text() for room in rooms for path in (REPOSITORY / room).rglob("*.py")]
    return sorted({place for text in sources for place in re.findall(r'"([a-z_.]+:[A-Z_]+)"', text)})


@pytest.fixture(scope="module")
def unimported() -> dict[str, list[Listed]]:
    """What a process that imported none of the registries lists."""
    script = (
        "from core.registered import listed\n"
        f"print({{place: [tuple(entry[:3]) for entry in listed(place)] for place in {places()!r}}})\n"
        "import sys; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[tuple[str, str, str]]] = eval(done.stdout)  # our own print
    return {place: [Listed(*entry, None) for entry in entries] for place, entries in found.items()}


def test_registries_are_named() -> None:
    assert {"core.neurons.base:NEURONS", "convert.method:METHODS", "adversarial.attack:ATTACKS"} <= set(
        places()
    )
    assert len(places()) >= 10


@pytest.mark.parametrize("place", places())
def test_sources_tell_what_is_registered(place: str, unimported: dict[str, list[Listed]]) -> None:
    module, name = place.split(":")
    registry: Registry[object] = getattr(importlib.import_module(module), name)
    own = [(key, entry) for key, entry in registry.items() if not registry.origin(key).startswith("tests.")]
    assert [entry.name for entry in unimported[place]] == [key for key, _ in own]
    assert [entry.explanation for entry in unimported[place]] == [explanation(entry) for _, entry in own]


def test_networks_are_told_apart_by_their_sources(unimported: dict[str, list[Listed]]) -> None:
    place = "core.networks:NETWORKS"
    imported = {entry.name: entry for entry in listed(place)}
    for entry in unimported[place]:
        for rule in (is_relu, is_spiking, is_spiking_actor):
            assert rule(entry) == rule(imported[entry.name]), entry.name
    assert any(map(is_spiking_actor, unimported[place]))
    assert not all(map(is_spiking_actor, filter(is_spiking, unimported[place])))


COMMANDS = [
    *((verb.module,) for verb in VERBS.values()),
    *(("train_direct", name) for name in ("dqn", "dsqn", "ppo", "spiking-ppo", "ship")),
    *(("convert", name) for name in ("run", "compare", "import", "export")),
    *(("evaluate", name) for name in ("run", "watch", "probe", "check")),
    *(("adversarial", name) for name in ("run", "states", "verdict")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        f"import runpy, sys; sys.argv = {[*words, '--help']!r}\n"
        "try: runpy.run_module(sys.argv.pop(0), run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    script = script.replace("sys.argv.pop(0)", repr(words[0]))
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"
