"""Mutations of files: of their bytes, of the JSON in them, of their rows, of the members of zips."""

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.rows import schema

RAW = "raw-json:"
"""Prefix of a text that is written into JSON as it stands."""
DEEP, LONG = RAW + "[" * 20_000 + "]" * 20_000, RAW + "7" * 5_000
HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        2.5,
        10**30,
        -(2**63),
        2**63,
        2**33,
        10**400,
        1e300,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "x",
        "8",
        "yes",
        "\ud800",
        "a\0b",
        "x" * 100_000,
        "../../outside/mine",
        "/etc/hostname",
        "random",
        "best",
    ),
    *([], {}, [1, 2], {"name": 1}, [[[[[[1]]]]]], [None], RAW + "1e400", RAW + "NaN", DEEP, LONG),
)
"""Values that readers may not expect, for any place in JSON."""
Mutation = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, rng: random.Random) -> bytes:
    """Flip some bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 3, 8))):
        at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(len(changed), 600))
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def insert(content: bytes, rng: random.Random) -> bytes:
    """Insert some bytes."""
    at = rng.randrange(len(content))
    return content[:at] + rng.randbytes(rng.choice((1, 2, 8, 100))) + content[at:]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Leave out the end, or a part."""
    at = rng.randrange(len(content))
    return content[:at] if rng.random() < 0.5 else content[:at] + content[at + rng.choice((1, 4, 64)) :]


def swap(content: bytes, rng: random.Random) -> bytes:
    """Exchange two blocks."""
    size = max(1, min(rng.choice((1, 4, 64)), len(content) // 3))
    one, other = sorted(rng.randrange(len(content) - size) for _ in range(2))
    blocks = content[one : one + size], content[other : other + size]
    changed = bytearray(content)
    changed[one : one + size], changed[other : other + size] = blocks[1], blocks[0]
    return bytes(changed)


def claim(content: bytes, rng: random.Random) -> bytes:
    """Write a huge number somewhere, as a length in a header may be."""
    at = rng.randrange(min(len(content), 600))
    number = struct.pack("<Q", rng.choice((2**63 - 1, 2**40, 2**31, 2**64 - 1)))
    return content[:at] + number + content[at + 8 :]


BYTES: tuple[Mutation, ...] = (flip, insert, cut, swap, claim)


def to_text(value: Any) -> str:
    """JSON in which texts that begin with `RAW` stand as they are."""
    return re.sub(f'"{RAW}([^"]*)"', r"\1", json.dumps(value))


def edit(value: Any, rng: random.Random) -> Any:
    """A value from JSON with one place in it changed, left out, or given another name."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        changed = value.copy()
        at = rng.choice(list(changed) if isinstance(changed, dict) else range(len(changed)))
        fate = rng.random()
        if fate < 0.1:
            del changed[at]
        elif fate < 0.2 and isinstance(changed, dict):
            changed[rng.choice((f"{at}x", "a.b", "self", "game", "\ud800"))] = changed.pop(at)
        else:
            changed[at] = edit(changed[at], rng)
        return changed
    return rng.choice(HOSTILE)


def json_edit(content: bytes, rng: random.Random) -> bytes:
    """Change a file of JSON in one place, or write a key twice."""
    if rng.random() < 0.05:
        return content.replace(b"{", b'{"twice": 1, "twice": 2, ', 1)
    return to_text(edit(json.loads(content), rng)).encode()


def unsealed(content: bytes) -> bytes:
    """A safetensors file as older versions wrote it: without a digest of itself."""
    size = int.from_bytes(content[:8], "little")
    described = json.loads(content[8 : 8 + size])
    ((entry, text),) = described["__metadata__"].items()
    header = json.loads(text)
    del header["seal"]
    if "format" in header:
        header["format"] = 1
    described["__metadata__"] = {entry: json.dumps(header)}
    told = json.dumps(described).encode()
    return len(told).to_bytes(8, "little") + told + content[8 + size :]


def tensor_file_edit(content: bytes, rng: random.Random) -> bytes:
    """Change the description of a safetensors file, or the JSON in its metadata."""
    size = int.from_bytes(content[:8], "little")
    described = json.loads(content[8 : 8 + size])
    if rng.random() < 0.75:
        metadata = described["__metadata__"]
        (entry,) = metadata
        metadata[entry] = to_text(edit(json.loads(metadata[entry]), rng))
    elif rng.random() < 0.3:
        name = rng.choice([name for name in described if name != "__metadata__"])
        kinds = ("F8_E8M0", "C64", "F4", "I64", "U8", "F64", "BOOL", "F8_E5M2", "U64")
        described[name]["dtype"] = rng.choice(kinds)
    else:
        described = edit(described, rng)
    header = to_text(described).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def rows_edit(row_type: type) -> Mutation:
    """Change rows of a type: a value, a column, the number of rows."""

    def changed(content: bytes, rng: random.Random) -> bytes:
        table = pq.read_table(io.BytesIO(content))
        fate, sink = rng.random(), io.BytesIO()
        if fate < 0.05:
            table = pa.concat_tables([table.slice(0, 1)] * 2_000).combine_chunks()
            table = pa.concat_tables([table] * rng.choice((1, 300)))
        elif fate < 0.1:
            table = table.drop_columns([rng.choice(table.column_names)])
        elif fate < 0.15:
            table = table.slice(0, rng.choice((0, 1)))
        else:
            name = rng.choice(table.column_names)
            texts = [
                *filter(lambda text: isinstance(text, str), HOSTILE),
                '{"attack": 1}',
                "[[1]]",
                "[]",
                "null",
            ]
            of_type: dict[pa.DataType, list[Any]] = {
                pa.string(): [text for text in texts if "\ud800" not in text and not text.startswith(RAW)],
                pa.int64(): [-1, 0, 1, 2**33, 2**53 + 1, 2**63 - 1, -(2**63), None],
                pa.float64(): [-1.0, 0.0, 1e308, float("nan"), float("inf"), -float("inf"), None],
                pa.bool_(): [True, False, None],
            }
            values = table.column(name).to_pylist()
            old = values[0]
            kind = table.schema.field(name).type
            new = rng.choice(of_type[kind])
            if kind == pa.string() and old.startswith("{") and rng.random() < 0.7:
                new = to_text(edit(json.loads(old), rng)).encode("utf-8", "replace").decode()
            everywhere = rng.random() < 0.5 and not (isinstance(new, str) and len(new) > 1000)
            for index in range(len(values)) if everywhere else [rng.randrange(len(values))]:
                values[index] = new
            if rng.random() < 0.05:
                kind = rng.choice((pa.string(), pa.float64()))
                values = [None if value is None else str(value) for value in values]
                values = values if kind == pa.string() else [1.5] * len(values)
            at = table.column_names.index(name)
            nullable = pa.field(name, kind, nullable=None in values)
            table = table.set_column(at, nullable, [pa.array(values, kind)])
        assert schema(row_type)
        pq.write_table(table, sink, write_page_checksum=True)
        return sink.getvalue()

    return changed


def members_edit(content: bytes, rng: random.Random) -> bytes:
    """Change a member of a zip, and pack it again with the right checksums."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        chosen = rng.choice(names)
        pickles = [name for name in names if name.endswith(("data.pkl", "data", ".npy"))]
        if pickles and rng.random() < 0.7:
            chosen = rng.choice(pickles)
        with zipfile.ZipFile(sink, "w", rng.choice((0, 8, 12, 14))) as packed:
            for name in names:
                member = archive.read(name)
                if name == chosen:
                    if member.startswith(b"PK\x03\x04") and rng.random() < 0.7:
                        member = members_edit(member, rng)
                    elif name == "data" and rng.random() < 0.7:
                        member = json_edit(member, rng)
                    else:
                        member = rng.choice(BYTES)(member.ljust(10, b"\0"), rng)
                packed.writestr(name, member)
    return sink.getvalue()


_TOML_VALUE = re.compile(rb"(?<== )[^\n#]+")
_TOML = (
    *(
        b"true",
        b"-1",
        b"0",
        b"1e400",
        b"nan",
        b"inf",
        b'""',
        b'"x"',
        b"[]",
        b"{}",
        b"[[1]]",
        b"9" * 5_000,
        b"2**3",
    ),
    *(b"99999999999999999999", b"1979-05-27", b'"../../outside/mine"', b"{ episodes = true }", b'"\\u0000"'),
    *(b"[" * 5_000, b'"' + b"y" * 50_000 + b'"', b"{a.b = 1}", b"9223372036854775808", b'["/etc/hostname"]'),
)


def toml_edit(content: bytes, rng: random.Random) -> bytes:
    """Change a value, a key or a line of a study."""
    places = list(_TOML_VALUE.finditer(content))
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines[at] = lines[at].replace(b"s", b"z", 1)
        case 1:
            lines.insert(at, rng.choice(lines))
        case 2:
            del lines[at]
        case _:
            place = rng.choice(places)
            return content[: place.start()] + rng.choice(_TOML) + content[place.end() :]
    return b"\n".join(lines)
