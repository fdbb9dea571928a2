"""What every command line shares."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import extensions
from core.cli import Switch, main


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command with a switch."""

    double: Switch = None
    """Whether twice."""
    number: int = 1
    """How many."""

    def run(self) -> None:
        print(self.double, self.number)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "None 1"),
        ("--double", "True 1"),
        ("--double --number 2", "True 2"),
        ("--number 2 --double True", "True 2"),
        ("--double False", "False 1"),
    ],
)
def test_a_switch_is_on_off_or_not_given(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asked", *words.split()])
    main("asked", Asked)
    assert capsys.readouterr().out.strip() == said


def test_another_word_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asked", "--double", "maybe"])
    with pytest.raises(SystemExit) as left:
        main("asked", Asked)
    assert left.value.code == 2
    assert "maybe is neither True nor False" in capsys.readouterr().err


# Extensions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Named:
    """A command with words."""

    name: str = "none"
    """A word."""
    settings: tuple[str, ...] = ()
    """Words."""

    def run(self) -> None:
        print(self.name, *self.settings)


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that says so when it is imported."""
    (tmp_path / "cli_extension.py").write_text("print('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(extensions, "EXTENSIONS", {})
    monkeypatch.delitem(sys.modules, "cli_extension", raising=False)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--extension cli_extension", "imported none"),
        ("--extension=cli_extension", "imported none"),
        ("--extension cli_extension --name a", "imported a"),
        ("--name a --extension=cli_extension --settings b c", "imported a b c"),
        ("--settings b c --extension cli_extension --name a", "imported a b c"),
        ("--extension cli_extension --extension=cli_extension", "imported none"),
        # The value of another option is not an extension.
        ("--name=--extension", "--extension"),
        ("--name=--extension=cli_extension", "--extension=cli_extension"),
        ("--settings x=--extension y", "none x=--extension y"),
        ("--name extension", "extension"),
    ],
)
def test_extensions_are_imported_before_the_command(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["named", *words.split()])
    main("named", Named)
    assert capsys.readouterr().out.split() == said.split()


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--extension", "--extension needs the name of a module"),
        ("--extension=", "--extension is '': a value is needed"),
        ("--extension --name a", "--extension needs the name of a module"),
        ("--extension cli_nowhere", "extension 'cli_nowhere': no such module"),
        ("--extensions cli_extension", "--extensions"),
    ],
)
def test_an_extension_that_is_none_is_refused(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["named", *words.split()])
    with pytest.raises(SystemExit) as left:
        main("named", Named)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
