"""Files of rows, one Parquet file for each type; the journal of unfinished rows; atomic writes. Never imports torch.

Reading checks the schema. A file of another version is refused as a whole. Arrow is imported when it is used, because
command lines need this module before anything is read.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Generic, Literal, get_type_hints

from core.columns import MAX_TEXT, Rule, rules
from core.errors import Refusal, naming
from core.rows import Row, required_columns, schema

KEEP_EVERY_S = 1.0
"""Seconds between writes of a journal: the most work that a killed process loses, besides the row in progress."""

Mode = Literal["ab", "wb"]
"""How a log is opened: to add to it, or to write it anew."""
MAX_ROWS, MAX_ROWS_BYTES = 2**19, 2**28
"""Upper bounds of a file that is read: its rows, and its bytes before and after unpacking."""


def digest(content: bytes) -> str:
    """SHA-256 of a file's content in hex digits. Its first 12 digits are the id of weights in rows."""
    return hashlib.sha256(content).hexdigest()


def write_rows(path: str | os.PathLike[str], row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write rows to a Parquet file, atomically.

    Args:
        path: the file; missing folders are made.
        row_type: type of all rows.
        rows: the rows, which may be none.

    Raises:
        Refusal: there are more rows than `read_rows` reads.
        TypeError: a value has another type than its field.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(rows) > MAX_ROWS:
        raise Refusal(f"{path} would have {len(rows):,} rows: at most {MAX_ROWS:,} are kept in a file")
    hints = get_type_hints(row_type)
    for row in rows:
        for name, value in vars(row).items():
            # An integer is accepted as a float. A bool is no number here, though Python says that it is one.
            accepted = (int, float) if hints[name] is float else hints[name]
            if not isinstance(value, accepted) or isinstance(value, bool) != (hints[name] is bool):
                raise TypeError(
                    f"{os.fspath(path)}: {row_type.__name__}.{name} is {value!r}, a {hints[name].__name__} is needed"
                )
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema(row_type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_rows(path: str | os.PathLike[str], row_type: type[Row]) -> list[Row]:
    """Read the rows of a Parquet file.

    Args:
        path: a file that `write_rows` wrote.
        row_type: type of all rows.

    Raises:
        Refusal: the file is missing, damaged or too large, has other columns, or a value that its column does not
            accept (`core.columns`).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no rows at {path}")
    try:
        if path.stat().st_size > MAX_ROWS_BYTES:
            raise Refusal(f"{path} has more than {MAX_ROWS_BYTES >> 20} MiB, the most that is read")
        # Arrow does not open paths that are not UTF-8.
        content = pa.BufferReader(path.read_bytes())
        metadata = pq.read_metadata(content)
        _require_bounded(path, metadata)
        found: pa.Schema = metadata.schema.to_arrow_schema()
        present = {*required_columns(row_type), *found.names}
        expected = pa.schema([field for field in schema(row_type) if field.name in present])
        if not found.equals(expected):
            columns = [name for name in expected.names if name not in found.names]
            raise Refusal(
                f"{path} does not hold {row_type.__name__}s (missing or different columns: {columns or 'types'})"
            )
        texts = [field.name for field in expected if field.type == pa.string()]
        # Without Arrow's threads. They free Python's bytes when they like, and one that asks for the interpreter's lock
        # while the process exits aborts it, after its work was done.
        file = pq.ParquetFile(
            content,
            metadata=metadata,
            page_checksum_verification=True,
            read_dictionary=texts,
            pre_buffer=False,
        )
        table = file.read(use_threads=False)
        values_of = {name: _values(table.column(name)) for name in expected.names}
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, Refusal):
            raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal(f"{path} is not a whole Parquet file ({first})")
    accepted = rules(row_type)
    for name, values in values_of.items():
        _require_accepted(f"{path}: {name}", values, accepted.get(name))
    rows = zip(*values_of.values(), strict=True)
    return [row_type(**dict(zip(values_of, values, strict=True))) for values in rows]


def _require_bounded(path: Path, metadata: Any) -> None:
    """Refuse a file that would unpack to more than any work writes. Equal rows take next to no bytes in a file."""
    if metadata.num_rows > MAX_ROWS:
        raise Refusal(f"{path} has {metadata.num_rows:,} rows: at most {MAX_ROWS:,} are read from a file")
    unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if unpacked > MAX_ROWS_BYTES:
        raise Refusal(f"{path} unpacks to more than {MAX_ROWS_BYTES >> 20} MiB, the most that is read")


def _values(column: Any) -> list[Any]:
    """The values of a column. Equal texts are one object: a file can hold a long one once for all of its rows."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        values: list[Any] = column.to_pylist()
        return values
    found: list[Any] = []
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        found += [None if index is None else words[index] for index in chunk.indices.to_pylist()]
    return found


def _require_accepted(name: str, values: Sequence[Any], rule: Rule | None) -> None:
    """Refuse a column with a value that is missing, too long or against its rule."""
    for value in set(values):
        if value is None:
            accepted = "a value"
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            accepted = f"a text of at most {MAX_TEXT:,} characters"
        elif rule is not None and not rule.holds(value):
            accepted = rule.accepted
        else:
            continue
        shown = repr(value[:60] if isinstance(value, str) else value)
        raise Refusal(f"{name} is {shown} in row {values.index(value)}: accepted is {accepted}")


class Journal(Generic[Row]):
    """Rows of long work, kept so that the same work continues after its process was killed.

    Rows are in a hidden file until all are there, because readers take a file of rows for a finished one.

    Args:
        path: the finished file.
        row_type: type of all rows.
        spec: JSON-able values that determine the work's numbers. Rows of another specification are not continued.
    """

    rows: list[Row]
    """All rows so far, those of an earlier process included."""

    def __init__(self, path: str | os.PathLike[str], row_type: type[Row], spec: Mapping[str, Any]):
        self._path = path = Path(path)
        self._row_type: type[Row] = row_type
        self._kept = path.with_name(f".{path.stem}-{digest(to_json(spec).encode())[:12]}.parquet")
        self._kept_at = time.monotonic()
        require_no_link(self._kept)
        self.rows = read_rows(self._kept, row_type) if self._kept.exists() else []

    def add(self, *rows: Row) -> None:
        """Add rows. They are written together, at most `KEEP_EVERY_S` after the last write or with the next rows."""
        self.rows += rows
        if time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Write all rows so far to the hidden file."""
        write_rows(self._kept, self._row_type, self.rows)
        self._kept_at = time.monotonic()

    def write(self, key: Callable[[Row], Any] = lambda row: 0) -> None:
        """Write the finished file, sorted by a key; in the order of the work by default."""
        self.rows.sort(key=key)
        write_rows(self._path, self._row_type, self.rows)

    def close(self) -> None:
        """Delete the hidden file, once the finished file is recorded as a result.

        Those of earlier specifications, or of other code, which nothing continues, are deleted too.
        """
        for kept in self._path.parent.glob(f".{self._path.stem}-*.parquet"):
            if re.fullmatch(r"[0-9a-f]{12}", kept.stem.rpartition("-")[2]):
                kept.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: after a crash, the complete old file or the complete new one is there.

    Args:
        path: the file, which is replaced if it exists; missing folders are made.
        content: its new content.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is fixed, so the next attempt overwrites what a killed process left. The manifest's lock keeps two
    # processes from writing the same file.
    temporary = path.with_name(f".{path.name}.partial")
    # A link of this name, in a folder that somebody sent, must not lead the content into another file.
    temporary.unlink(missing_ok=True)
    try:
        with naming(path), open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_own(path: str | os.PathLike[str], mode: Mode) -> IO[bytes]:
    """Open a log: a file that is written bit by bit, so `write_bytes` cannot write it.

    Args:
        path: the file. Its folder exists.
        mode: how.

    Raises:
        Refusal: there is a symbolic link, which could lead out of the folder.
    """
    require_no_link(Path(path))
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


def require_no_link(path: Path) -> None:
    """Refuse a symbolic link where a run keeps what only it reads and writes: it would lead out of the run's folder."""
    if path.is_symlink():
        raise Refusal(
            f"{path} is a symbolic link: a file or folder of the run itself is needed; remove the link"
        )


def to_json(value: Any) -> str:
    """JSON with sorted keys, so that equal settings are equal strings."""
    return json.dumps(value, sort_keys=True)


def require_single(values: Iterable[Any], what: str) -> None:
    """Refuse values that are not all equal.

    Args:
        values: sortable values of one column.
        what: name of the column, for the message.
    """
    distinct = sorted(set(values))
    if len(distinct) > 1:
        raise Refusal(f"rows with more than one {what} do not compare: {', '.join(map(str, distinct))}")
