"""--help lists what is registered when it is printed, the names of extensions included."""

import re
import sys
from collections.abc import Iterator

import pytest

from adversarial.attack import ATTACKS
from convert.foreign import FORMATS
from convert.method import METHODS
from convert.variants import VARIANTS
from core import extensions
from core.agents import AGENTS
from core.games import GAMES
from core.networks import NETWORKS
from core.neurons.base import NEURONS
from core.normalisations import NORMALISATIONS
from core.readouts import READOUTS
from core.registry import Registry
from play.protocols import PROTOCOLS
from tests.conftest import Command
from train_direct.recipe import PPO_RECIPES, RECIPES

PARTS = {"neuron": NEURONS.names(), "readout": READOUTS.names(), "normalisation": NORMALISATIONS.names()}
SPIKING = {name for name, network in NETWORKS.items() if network.spiking is not None}
PLAYED = {"agent": AGENTS.names(), "game": GAMES.names(), "protocol": PROTOCOLS.names()}
LISTED: dict[tuple[str, str], dict[str, object]] = {
    ("train_direct", "dqn"): {"game": GAMES.names(), "recipe": RECIPES.names(), "network": ["relu"]},
    ("train_direct", "dsqn"): {
        "game": GAMES.names(),
        "recipe": RECIPES.names(),
        "network": SPIKING,
        **PARTS,
    },
    ("train_direct", "ppo"): {"game": ["cartpole"], "recipe": PPO_RECIPES.names()},
    ("train_direct", "spiking-ppo"): {
        "game": ["cartpole"],
        "recipe": PPO_RECIPES.names(),
        "network": SPIKING - {"liu2022-spike"},
        **PARTS,
    },
    ("evaluate", "run"): PLAYED,
    ("evaluate", "watch"): PLAYED,
    ("evaluate", "probe"): {"agent": AGENTS.names(), "game": GAMES.names()},
    # Random play is no victim.
    ("adversarial", "run"): {**PLAYED, "agent": set(AGENTS) - {"random"}, "attack": ATTACKS.names()},
    ("adversarial", "states"): {
        "states-of": AGENTS.names(),
        "game": GAMES.names(),
        "attack": ATTACKS.names(),
    },
    ("convert", "run"): {"method": METHODS.names()},
    ("convert", "compare"): {"variants": VARIANTS.names(), "protocol": PROTOCOLS.names()},
    ("convert", "import"): {
        "game": GAMES.names(),
        "format": FORMATS.names(),
        "network": ["relu", "liu2022", "liu2022-if", "liu2022-spike"],
    },
}
"""What the options of each command list."""
EXTENSIONS: dict[str, tuple[Registry, str, dict[tuple[str, str], str]]] = {  # type: ignore[type-arg]
    "adaptive": (NEURONS, "adaptive", {("train_direct", "dsqn"): "neuron"}),
    "recent": (READOUTS, "recent", {("train_direct", "spiking-ppo"): "readout"}),
    "root_mean_square": (NORMALISATIONS, "root-mean-square", {("train_direct", "dsqn"): "normalisation"}),
    "small": (NETWORKS, "small", {("train_direct", "dsqn"): "network"}),
    "half_largest": (
        METHODS,
        "half-largest",
        {("convert", "run"): "method", ("convert", "compare"): "variants"},
    ),
    "plus_minus": (
        ATTACKS,
        "plus-minus",
        {("adversarial", "run"): "attack", ("adversarial", "states"): "attack"},
    ),
}
"""For each file of tests/extensions: its registry, the name it registers, and the options that list it."""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    for each, *_ in EXTENSIONS.values():
        each.names()
        monkeypatch.setattr(each, "_entries", dict(each._entries))
        monkeypatch.setattr(each, "_origins", dict(each._origins))
    monkeypatch.setattr(extensions, "EXTENSIONS", {})
    yield
    for name in [name for name in sys.modules if name.startswith("tests.extensions.")]:
        del sys.modules[name]


def helps(command: Command, stage: str, verb: str, *more: str) -> dict[str, str]:
    """What --help says of each option of a command, by its name."""
    finished = command(stage, verb, *more, "--help")
    assert (finished.code, finished.err) == (0, "")
    found: dict[str, str] = {}
    option = ""
    for line in finished.out.splitlines():
        if begun := re.match(r"[│ ] {1,2}--([a-z-]+)", line):
            option = begun[1]
        found[option] = f"{found.get(option, '')} {line.strip('│ ')}"
    return found


def lists(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w/-]){re.escape(name)}(?![\w/-])", text) is not None


@pytest.mark.parametrize("command_line", LISTED, ids=" ".join)
def test_every_registered_name_is_listed(command_line: tuple[str, str], command: Command) -> None:
    said = helps(command, *command_line)
    for option, names in LISTED[command_line].items():
        assert [name for name in names if not lists(said[option], name)] == [], option  # type: ignore[attr-defined]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_names_of_an_extension_are_listed(extension: str, command: Command) -> None:
    _, name, options = EXTENSIONS[extension]
    for command_line, option in options.items():
        assert not lists(helps(command, *command_line)[option], name)
    for command_line, option in options.items():
        said = helps(command, *command_line, "--extension", f"tests.extensions.{extension}")
        assert lists(said[option], name), option


def test_what_is_not_accepted_is_not_listed(command: Command) -> None:
    assert not lists(helps(command, "train_direct", "dqn")["network"], "chen2022")
    assert not lists(helps(command, "train_direct", "dsqn")["network"], "relu")
    assert not lists(helps(command, "train_direct", "ppo")["recipe"], "minatar-fast")


def test_a_registered_class_is_explained(command: Command) -> None:
    said = helps(command, "adversarial", "states")["attack"]
    assert "- square: Square attack (Andriushchenko et al. 2020, arXiv 1912.00049" in said
