"""`evaluate check` on rows that no reader understands: a line for each fault, no traceback, no memory by numbers."""

import resource
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from analysis.check import MOST_CHARACTERS, findings
from analysis.rows import ROW_FILES
from analysis.values import UNDERSTOOD
from core.columns import rules
from core.records import write_rows
from core.rows import EpisodeRow
from tests.conftest import Command, episode

WRONG: dict[str, tuple[Any, ...]] = {
    "game": ("", "nowhere", "pong\n", "x" * 100_000, "../pong"),
    "agent": ("", "dqn\nall is well", "\x1b[2J"),
    "checkpoint": ("worst", "best ", "BEST"),
    "attacker": ("grey-box",),
    "training": ("3f0a", "3F0A91C2D4E5", "z" * 12),
    "flipped": ("xyz", "f", "-1"),
    "settings": ("", "none", "[]", "3", "[" * 100_000, "9" * 5_000),
    "threat": ("", "none", "[]", "{" * 100_000),
    "layer_rates": ("", "{}", "0.5", "[" * 100_000),
    "layer_r2": ("{}", "x"),
    "train_seed": (-2, -(2**62)),
    "train_steps": (-2,),
    "recipe_steps": (-1,),
    "episode": (-1, -(2**62)),
    "sim_steps": (-1,),
    "layer": (-1,),
    "state": (-1,),
    "action": (-1,),
    "length_steps": (0, -1),
    "length_frames": (-1,),
    "num_states": (0, -1),
}
"""Values that no reader understands, by column."""


def row_of(row_type: type, **changes: Any) -> Any:
    """A row of any type, with what is changed in it."""
    usual = {str: "", int: 1, float: 0.5, bool: False}
    told = {"game": "cartpole", "agent": "dqn", "settings": "{}", "threat": "{}", "layer_rates": "[]"}
    hints = get_type_hints(row_type)
    values = {
        field.name: told.get(field.name, usual[hints[field.name]])
        for field in fields(row_type)
        if field.default is MISSING
    }
    return row_type(**{**values, **changes})


def cases() -> Iterator[Any]:
    for files in ROW_FILES:
        for field in fields(files.row_type):
            for number, value in enumerate(WRONG.get(field.name, ())):
                name = files.pattern.replace("*", "a")
                yield pytest.param(
                    name, files.row_type, field.name, value, id=f"{name}-{field.name}-{number}"
                )


def test_every_column_that_is_checked_has_a_wrong_value() -> None:
    ruled = {name: rule for files in ROW_FILES for name, rule in rules(files.row_type).items()}
    assert WRONG.keys() <= UNDERSTOOD.keys() | ruled.keys()
    assert UNDERSTOOD.keys() <= WRONG.keys()
    assert {type(rule) for rule in ruled.values()} == {type(ruled[name]) for name in WRONG if name in ruled}


@pytest.mark.parametrize(("file", "row_type", "column", "value"), [*cases()])
def test_a_value_that_no_reader_understands_is_a_line(
    file: str, row_type: type, column: str, value: object, tmp_path: Path
) -> None:
    write_rows(tmp_path / file, row_type, [row_of(row_type)])
    assert [line for line in findings(tmp_path) if "accepted" in line] == []
    write_rows(tmp_path / file, row_type, [row_of(row_type, **{column: value})])
    (line,) = [line for line in findings(tmp_path) if "accepted" in line]
    assert f"{column} is " in line
    assert "row 0" in line
    for line in findings(tmp_path):
        assert len(line) <= MOST_CHARACTERS
        assert line.isprintable()


def test_an_episodes_number_takes_no_memory(tmp_path: Path) -> None:
    rows = [episode(episode=number) for number in (0, 1, 2**33, 2**53)]
    write_rows(tmp_path / "episodes.parquet", EpisodeRow, rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = "\n".join(findings(tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert f"missing episode 2 ({2**53 + 1 - 4} in all)" in found


def test_the_command_ends_with_1_and_the_lines(tmp_path: Path, command: Command) -> None:
    write_rows(tmp_path / "episodes.parquet", EpisodeRow, [episode(game="nowhere")])
    write_rows(tmp_path / "more" / "episodes.parquet", EpisodeRow, [episode(length_steps=0)])
    done = command("evaluate", "check", tmp_path)
    assert done.code == 1
    assert "game is 'nowhere' in 1 of 1 rows, first in row 0; accepted: a game" in done.out
    assert "length_steps is 0 in row 0: accepted is an integer from 1 to" in done.out
