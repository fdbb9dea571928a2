"""What help lists is what is registered, though nothing heavy is imported for it."""

import importlib
import json
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


def without_heavy_imports(script: str) -> str:
    """What a script prints in a process of its own, which must import nothing heavy."""
    script += f"\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    return "\n".join([*printed, done.stderr])


@pytest.fixture(scope="module")
def unimported() -> dict[str, list[Listed]]:
    """What a process that imported none of the registries lists."""
    printed = without_heavy_imports(
        "import json\nfrom core.registered import listed\n"
        f"print(json.dumps({{place: [entry[:3] for entry in listed(place)] for place in {places()!r}}}))"
    )
    found: dict[str, list[list[str]]] = json.loads(printed)
    return {
        place: [Listed(name, told, source, None) for name, told, source in entries]
        for place, entries in found.items()
    }


@pytest.fixture(scope="module")
def refused() -> dict[str, str]:
    """What a process that imported none of the registries says of an unknown name."""
    printed = without_heavy_imports(
        "import json\nfrom core.errors import Refusal\nfrom core.registered import require_registered\n"
        f"said = dict.fromkeys({places()!r})\n"
        "for place in said:\n"
        " try: require_registered('no-such-name', place)\n"
        " except Refusal as refusal: said[place] = str(refusal)\n"
        "print(json.dumps(said))"
    )
    found: dict[str, str] = json.loads(printed)
    return found


def test_registries_are_named() -> None:
    assert {"core.neurons.base:NEURONS", "convert.method:METHODS", "adversarial.attack:ATTACKS"} <= set(
        places()
    )
    assert len(places()) >= 10


@pytest.mark.parametrize("place", places())
def test_sources_tell_what_is_registered(place: str, unimported: dict[str, list[Listed]]) -> None:
    module, name = place.split(":")
    registry: Registry[object] = getattr(importlib.import_module(module), name)
    own = [(key, entry) for key, entry in registry.items() if not registry._origins[key].startswith("tests.")]
    assert [entry.name for entry in unimported[place]] == [key for key, _ in own]
    assert [entry.explanation for entry in unimported[place]] == [explanation(entry) for _, entry in own]


@pytest.mark.parametrize("place", places())
def test_an_unknown_name_is_refused_in_the_words_of_the_registry(
    place: str, refused: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = place.split(":")
    registry: Registry[object] = getattr(importlib.import_module(module), name)
    own = [key for key in registry if not registry._origins[key].startswith("tests.")]
    monkeypatch.setattr("core.extensions.EXTENSIONS", {})
    assert refused[place] == str(registry.unknown("no-such-name", own))


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


def run_without_heavy_imports(*words: str) -> str:
    """What a command prints, on standard output and error."""
    return without_heavy_imports(
        f"import runpy, sys\nsys.argv = {[*words]!r}\n"
        f"try: runpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass"
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    assert "usage:" in run_without_heavy_imports(*words, "--help")


@pytest.mark.parametrize("words", [["spikeq"], ["spikeq", "train", "dqn", "--help"]], ids=" ".join)
def test_the_public_face_imports_nothing_heavy(words: list[str]) -> None:
    assert "usage:" in run_without_heavy_imports(*words)
    without_heavy_imports("import spikeq")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train_direct dqn --gmae pong", "no such option: --gmae pong; did you mean '--game'?"),
        ("train_direct dqn --out x --game ponk", "unknown game 'ponk': did you mean 'pong'?"),
        ("train_direct dqn --out x --game pong --network relo", "unknown network 'relo'"),
        ("train_direct dqn --out x --game pong --recipe slow", "unknown recipe 'slow'"),
        ("train_direct ppo --out x --game cartpole --recipe slow", "unknown PPO recipe 'slow'"),
        ("train_direct dsqn --out x --game pong --neuron lff tau=2", "unknown neuron 'lff'"),
        ("train_direct dsqn --out x --game pong --readout mem tau=2", "unknown read-out 'mem'"),
        ("train_direct dsqn --out x --game pong --normalisation batch", "unknown normalisation 'batch'"),
        ("evaluate run --out x --agent a --game ALE/Pong-v5", "did you mean 'pong'?"),
        ("evaluate watch --agent a --protocol fast", "unknown protocol 'fast'"),
        ("adversarial states --out x --agent a --attack fgsm pdg", "unknown attack 'pdg'"),
        ("convert run --out x --agent a --method tan", "unknown conversion method 'tan'"),
        ("convert compare --out x --agent a --variants max tan", "unknown conversion variant 'tan'"),
        ("convert import --out x --source a --game pong --format sb4", "unknown format 'sb4'"),
    ],
)
def test_a_bad_option_is_refused_before_anything_heavy_is_imported(line: str, said: str) -> None:
    printed = run_without_heavy_imports(*line.split()).strip()
    assert said in printed
    assert printed.startswith("error: ")
    assert "\n" not in printed
