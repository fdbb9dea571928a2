"""Every command of every verb: its help, its examples, and how it takes agents."""

import importlib
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

import pytest

import core.cli
from core.agents import AGENTS
from core.errors import Refusal
from core.games import Game
from core.help import examples
from play.options import AnAgent
from spikeq.__main__ import VERBS
from tests.conftest import AGENTS as SHIPPED
from tests.test_docs import command_line_of

REPOSITORY = Path(__file__).resolve().parents[1]
DQN = SHIPPED / "minatar-breakout-dqn-s0.safetensors"


class Typed(NamedTuple):
    """A command as the user types it."""

    program: str
    given: Any
    """What `core.cli.main` is given."""
    verb: str
    """Empty if the program has one command only."""
    command: type


def commands() -> dict[str, Typed]:
    """Every command, by its name under `spikeq`."""
    found = {}
    for name, verb in VERBS.items():
        module = f"{verb.module}.py" if (REPOSITORY / f"{verb.module}.py").exists() else verb.module
        program, given = command_line_of(module)
        is_package = (REPOSITORY / verb.module.replace(".", "/")).is_dir()
        imported = importlib.import_module(f"{verb.module}.__main__" if is_package else verb.module)

        def findable(command: type, imported: ModuleType = imported) -> Any:
            """The class where Python finds its source, which in this process is not the module __main__."""
            return getattr(imported, command.__name__)

        if isinstance(given, Mapping):
            given = {each: findable(command) for each, command in given.items()}
            found |= {f"{name} {each}": Typed(program, given, each, given[each]) for each in given}
        else:
            found[name] = Typed(program, findable(given), "", findable(given))
    return found


COMMANDS = commands()


def run(typed: Typed, *words: object) -> None:
    """Run a command in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [typed.program, *filter(None, [typed.verb]), *map(str, words)])
        core.cli.main(typed.program, typed.given, "What they have in common.")


def helped(typed: Typed, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    run(typed, "--help")
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


# Help ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_option_once_in_a_group_with_its_default(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    typed = COMMANDS[name]
    said = helped(typed, capsys)
    assert said.startswith(f"usage: {typed.program} {typed.verb}".strip())
    # A group has a title and options; the text of an option begins in its column.
    sections = dict(re.findall(r"^(\S.*):\n((?:  .*\n)+)", said, re.MULTILINE))
    assert [*sections][-2:] == ["for every command", "examples"]
    shown = [line for body in sections.values() for line in re.findall(r"^  --([a-z-]+)", body, re.MULTILINE)]
    positional = sections.get("needed", "") + sections.get("options", "")
    for option in fields(typed.command):
        word = option.name.replace("_", "-")
        assert shown.count(word) == 1 or f"  {option.name.upper().removesuffix('S')}" in positional, (
            option.name
        )
    for option in fields(typed.command):
        if isinstance(option.default, (int, str)) and option.default != "":
            value = (
                {True: "on", False: "off"}.get(option.default) if isinstance(option.default, bool) else None
            )
            text = f"(default: {value or option.default})"
            assert text in " ".join(said.split()), option.name
    assert max(map(len, said.split("examples:")[0].splitlines())) <= 90


def test_help_of_a_program_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for typed in {each.program: each for each in COMMANDS.values() if each.verb}.values():
        run(typed._replace(verb=""), "--help")
        said = capsys.readouterr().out
        assert all(f"\n  {verb} " in said for verb in typed.given)
        assert "What they have in common." in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_accepted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = COMMANDS[name]
    said = helped(typed, capsys)
    assert 1 <= len(examples(typed.command)) <= 3
    for example in examples(typed.command):
        words = shlex.split(example)
        assert example.startswith(f"spikeq {name}"), "another command"
        core.cli.parse("spikeq", typed.command, words[len(name.split()) + 1 :])
        for word in words:
            if word.startswith(("results/", "examples/")):
                assert (REPOSITORY / word).exists(), word
        assert example.replace(f"spikeq {name.split()[0]}", typed.program) in said


def test_a_program_is_named_as_it_was_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.cli, "_typed_as", "")
    typed = COMMANDS["evaluate run"]
    for program in ("python -m evaluate", "spikeq evaluate"):
        assert f"{program} run --agent" in helped(typed, capsys)
        with pytest.raises(SystemExit):
            run(typed, "--agnet", "x")
        assert capsys.readouterr().err.startswith(f"error: {program} run: no such option: --agnet x; ")
        core.cli.call_it("spikeq evaluate")


# Agents ----------------------------------------------------------------------------------------------

REFUSED = "this agent refuses every game"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered agent that cannot be made."""
    monkeypatch.setattr(AGENTS, "_entries", dict(AGENTS._entries))
    monkeypatch.setattr(AGENTS, "_origins", dict(AGENTS._origins))

    @AGENTS.register("refusing")
    def make(game: Game) -> Any:
        raise Refusal(f"{REFUSED}: {game.name}")

    return "refusing"


def takes_agents() -> list[tuple[str, str]]:
    """The options of all commands that take agents."""
    found = []
    for name, typed in COMMANDS.items():
        hints = get_type_hints(typed.command, include_extras=True)
        found += [
            (name, option.name)
            for option in fields(typed.command)
            if any(isinstance(note, AnAgent) for note in getattr(hints[option.name], "__metadata__", ()))
        ]
    return found


TAKES_AGENTS = takes_agents()


def test_no_option_takes_agents_in_a_way_of_its_own() -> None:
    named = {
        (name, option.name)
        for name, typed in COMMANDS.items()
        for option in fields(typed.command)
        if option.name in ("agent", "transfer", "twin", "states_of")
    }
    assert named == set(TAKES_AGENTS)
    assert len(named) == 17


@pytest.mark.parametrize(("name", "option"), TAKES_AGENTS, ids=lambda each: each)
def test_every_option_takes_a_file_a_run_folder_or_a_registered_name(
    name: str, option: str, refusing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "run", tmp_path / "broken.safetensors"
    folder.mkdir()
    shutil.copy(DQN, folder / "agent.safetensors")
    (folder / "best.safetensors").write_bytes(b"broken")
    file.write_bytes(b"broken")
    typed = COMMANDS[name]
    ending = {
        "convert run": "made.safetensors",
        "train ship": "made.safetensors",
        "convert export": "made.nir",
    }
    has_out = any(each.name == "out" for each in fields(typed.command))
    out = ["--out", tmp_path / ending.get(name, "made")] if has_out else []
    others = [] if option == "agent" else ["--agent", DQN]
    others += ["--best-source"] if option == "twin" and name != "card" else []

    def answer(agent: object) -> str:
        word = f"--{option.replace('_', '-')}"
        with pytest.raises(SystemExit) as left:
            run(typed, *out, *others, word, agent, "--game", "minatar/breakout")
        assert left.value.code == 2
        assert not (tmp_path / "made").exists()
        return capsys.readouterr().err

    assert f"{folder / 'best.safetensors'}" in answer(folder)
    assert f"{file}" in answer(file)
    assert f"{REFUSED}: minatar/breakout" in answer(refusing)
    assert "no agent is registered by that name" in answer("nobody")
