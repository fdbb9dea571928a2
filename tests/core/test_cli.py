"""What every command line shares."""

import sys
from dataclasses import dataclass

import pytest

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
