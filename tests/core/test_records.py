"""Rows come back as they went; wrong ones never get in, damaged files never get out, writes are whole."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.columns import JsonNumbers, Pattern, Words, rules
from core.errors import Refusal
from core.records import read_rows, require_single, to_json, write_bytes, write_rows
from core.rows import AttackRow, ConversionRow, CurveRow, EpisodeRow, schema

REPOSITORY = Path(__file__).resolve().parents[2]
ROW_TYPES: tuple[Any, ...] = (EpisodeRow, AttackRow, CurveRow, ConversionRow)
# Without NaN, which is not equal to itself.
_NUMBERS = (0.25, 0.125, 2.0, 0.5, "[0.9]", 31.0, 62.0, 5.0)
CONVERSION = ConversionRow(
    "pong",
    "abc",
    0,
    "tan2021",
    '{"p": 99.9}',
    "dqn",
    "robust",
    5,
    10,
    0.5,
    0.3,
    "signed",
    "validation",
    *_NUMBERS,
)


def example(row_type: Any, number: int) -> Any:
    """A row with another value in every field, awkward ones among them."""
    values = {
        str: lambda index: f"text {index} é ,\" '{number}'",
        int: lambda index: index + 2**40 + number,
        float: lambda index: math.pi * 10.0 ** (index - 8) * (number + 1),
        bool: lambda index: (index + number) % 2 == 0,
    }
    hints = get_type_hints(row_type)
    row = {field.name: values[hints[field.name]](i) for i, field in enumerate(dataclasses.fields(row_type))}
    texts: dict[Any, Any] = {
        JsonNumbers: f"[{number}, NaN]",
        Pattern: f"{number:012x}",
        Words: ("", "best", "final")[number % 3],
    }
    ruled = {name: texts[type(rule)] for name, rule in rules(row_type).items() if type(rule) in texts}
    objects = {name: json.dumps({"é": number}) for name in ("settings", "threat", "neuron") if name in row}
    return row_type(**{**row, **ruled, **objects})


# What comes back -------------------------------------------------------------------------------------


READING = """
import os, sys
import pyarrow.parquet
from core.records import read_rows
from core.rows import EpisodeRow

before = len(os.listdir("/proc/self/task"))
read_rows(sys.argv[1], EpisodeRow)
print(len(os.listdir("/proc/self/task")) - before)
"""
"""Prints how many threads reading has started."""


def test_reading_starts_no_threads_that_could_abort_the_process_at_its_exit(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, EpisodeRow, [example(EpisodeRow, 0)] * 100)
    command = [sys.executable, "-c", READING, str(path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout == "0\n"


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_rows_come_back_as_they_went(row_type: Any, tmp_path: Path) -> None:
    rows = [example(row_type, number) for number in range(5)]
    write_rows(tmp_path / "rows.parquet", row_type, rows)
    assert read_rows(tmp_path / "rows.parquet", row_type) == rows


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_no_rows_come_back_as_none(row_type: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", row_type, [])
    assert read_rows(tmp_path / "rows.parquet", row_type) == []


def test_nan_is_a_number_that_a_row_may_hold(tmp_path: Path) -> None:
    row = dataclasses.replace(example(CurveRow, 0), train_score=float("nan"))
    write_rows(tmp_path / "rows.parquet", CurveRow, [row])
    (found,) = read_rows(tmp_path / "rows.parquet", CurveRow)
    assert math.isnan(found.train_score)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    path = tmp_path / "seed=3" / "rows.parquet"  # pyarrow reads such names as columns
    write_rows(path, ConversionRow, [CONVERSION])
    assert read_rows(path, ConversionRow) == [CONVERSION]


def test_the_columns_are_the_fields_in_their_order() -> None:
    names = [field.name for field in dataclasses.fields(EpisodeRow)]
    assert schema(EpisodeRow).names == names
    assert schema(AttackRow).names[: len(names)] == names  # an attacked game is a game, too


def test_paths_of_rows_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows("rows.parquet", ConversionRow, [CONVERSION])
    assert read_rows("rows.parquet", ConversionRow) == [CONVERSION]
    assert read_rows(os.fspath(tmp_path / "rows.parquet"), ConversionRow) == [CONVERSION]
    write_bytes("a file", b"new")
    assert Path("a file").read_bytes() == b"new"


# What does not get in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("game", 1),
        ("game", None),
        ("train_seed", "1"),
        ("train_seed", 1.5),
        ("train_seed", True),
        ("train_seed", None),
        ("agreement", "0.5"),
        ("agreement", None),
    ],
)
def test_a_value_of_the_wrong_type_is_a_type_error_and_nothing_is_written(
    field: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    with pytest.raises(TypeError):
        write_rows(path, ConversionRow, [CONVERSION, dataclasses.replace(CONVERSION, **{field: value})])
    assert not path.exists()


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_flag_that_is_no_bool_is_a_type_error(value: Any, tmp_path: Path) -> None:
    row = dataclasses.replace(example(EpisodeRow, 0), truncated=value)
    with pytest.raises(TypeError):
        write_rows(tmp_path / "rows.parquet", EpisodeRow, [row])


def test_a_type_error_leaves_the_old_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, ConversionRow, [CONVERSION])
    game: Any = 5
    with pytest.raises(TypeError):
        write_rows(path, ConversionRow, [dataclasses.replace(CONVERSION, game=game)])
    assert read_rows(path, ConversionRow) == [CONVERSION]


# What does not get out -------------------------------------------------------------------------------


def test_missing_rows_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no rows at .*nowhere\.parquet"):
        read_rows(tmp_path / "nowhere.parquet", EpisodeRow)


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_refused(tenths: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, EpisodeRow, [example(EpisodeRow, number) for number in range(20)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenths // 10])
    with pytest.raises(Refusal, match=r"rows\.parquet"):
        read_rows(path, EpisodeRow)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100, b"game,score\npong,1\n", bytes(5000)])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"rows\.parquet"):
        read_rows(path, EpisodeRow)


def test_a_damaged_byte_never_turns_into_another_row(tmp_path: Path) -> None:
    # Numbers that can be trusted: a row is what was written, or the file is refused.
    path = tmp_path / "rows.parquet"
    write_rows(path, ConversionRow, [CONVERSION])
    whole = path.read_bytes()
    refused = 0
    outcomes: set[str] = set()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            if read_rows(path, ConversionRow) != [CONVERSION]:
                outcomes.add(f"another row from byte {position}")
        except Refusal:
            refused += 1
        except Exception as error:
            outcomes.add(f"{type(error).__name__} from byte {position}")
    assert refused > 100
    assert outcomes == set()


def test_rows_of_another_type_are_refused_and_the_missing_columns_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, EpisodeRow, [example(EpisodeRow, 0)])
    with pytest.raises(Refusal, match=r"does not hold AttackRows.*'attack', 'epsilon'"):
        read_rows(path, AttackRow)


def test_rows_with_more_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, AttackRow, [example(AttackRow, 0)])
    with pytest.raises(Refusal, match="does not hold EpisodeRows"):
        read_rows(path, EpisodeRow)


def test_rows_from_before_a_column_was_added_have_its_default(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Before:
        game: str

    @dataclasses.dataclass(frozen=True)
    class After(Before):
        lives: int = -1

    write_rows(tmp_path / "rows", Before, [Before("pong")])  # type: ignore[type-var]
    assert read_rows(tmp_path / "rows", After) == [After("pong", -1)]  # type: ignore[type-var]
    write_rows(tmp_path / "rows", After, [After("pong", 3)])  # type: ignore[type-var]
    assert read_rows(tmp_path / "rows", After) == [After("pong", 3)]  # type: ignore[type-var]
    with pytest.raises(Refusal, match="does not hold Befores"):
        read_rows(tmp_path / "rows", Before)  # type: ignore[type-var]


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.Table.from_pylist([dataclasses.asdict(CONVERSION)])  # nullable columns, else the same
    pq.write_table(table, path)
    with pytest.raises(Refusal, match="does not hold ConversionRows"):
        read_rows(path, ConversionRow)


# Between writes ----------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from core.records import write_bytes
contents = [byte * size for byte, size in ((b"a", 1_000_000), (b"b", 3_000_000))]
print("ready", flush=True)
while True:
    for content in contents:
        write_bytes(Path(sys.argv[1]), content)
"""


def is_whole(content: bytes) -> bool:
    return content in (b"a" * 1_000_000, b"b" * 3_000_000)


@pytest.mark.parametrize("reads", [1, 23, 60])
def test_a_killed_writer_leaves_a_whole_file(reads: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"a" * 1_000_000)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer, writer.stdout:
        assert writer.stdout.readline() == "ready\n"
        seen = {path.read_bytes() for _ in range(reads)}
        while len(seen) < 2:  # until it is in the middle of its writes
            seen.add(path.read_bytes())
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert all(is_whole(content) for content in seen)
    assert is_whole(path.read_bytes())


def test_a_writer_killed_before_the_file_is_on_the_disk_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"old")
    # The process dies in the middle of its write: bytes are out, the call that makes them last is not made.
    dying = (
        "import os, signal, sys; from pathlib import Path; from core.records import write_bytes\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_bytes(Path(sys.argv[1]), b'new' * 100_000)"
    )
    finished = subprocess.run([sys.executable, "-c", dying, str(path)], cwd=REPOSITORY, check=False)
    assert finished.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert not [left for left in tmp_path.glob("*.parquet") if left != path]  # nor anything taken for rows


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "rows.parquet"
    target.mkdir()  # a file cannot replace a folder
    with pytest.raises(OSError, match=r"rows\.parquet"):
        write_bytes(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_makes_the_folders_it_needs(tmp_path: Path) -> None:
    write_bytes(tmp_path / "study" / "run" / "rows.parquet", b"new")
    assert (tmp_path / "study" / "run" / "rows.parquet").read_bytes() == b"new"


def test_a_written_file_may_be_read_by_others(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"new")
    assert os.stat(tmp_path / "file").st_mode & 0o444 == 0o444  # temporary files are private


# Small things ----------------------------------------------------------------------------------------


def test_equal_settings_are_equal_strings() -> None:
    assert (
        to_json({"b": 1, "a": [1.5, None]})
        == to_json({"a": [1.5, None], "b": 1})
        == '{"a": [1.5, null], "b": 1}'
    )


def test_a_mixture_is_refused_and_named() -> None:
    require_single(["pong", "pong"], "game")
    with pytest.raises(Refusal, match="more than one game do not compare: boxing, pong"):
        require_single(["pong", "boxing", "pong"], "game")


@pytest.mark.parametrize("module", ["core.records", "core.manifest", "core.games", "core.cli"])
def test_rows_and_studies_are_read_without_torch(module: str) -> None:
    # Figures are drawn and studies are driven from these; loading torch takes seconds.
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
