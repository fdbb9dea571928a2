"""JSON and texts from files that anybody may have written. Never imports torch.

Nothing in such a file is believed: not its size, not its depth, not that its numbers and words are any.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import Refusal

MAX_JSON_BYTES = 50_000_000
"""Size of the largest JSON that is read."""
MAX_TEXT_BYTES = 5_000_000
"""Size of the largest text that is read."""
MAX_DEPTH = 64
"""Largest depth of nesting. Python's own limit would end in a RecursionError at a place that depends on the caller."""
MAX_DIGITS = 40
"""Largest number of characters of an integer. The states of random generators have integers of 128 bits."""


def read_json(path: str | os.PathLike[str], what: str, kind: type = dict, not_finite: bool = False) -> Any:
    """The JSON in a file.

    Args:
        path: the file.
        what: what the file should be, for messages, as in "a manifest".
        kind: type of the whole value.
        not_finite: whether NaN and Infinity are accepted. JSON has neither, but Python writes them.

    Raises:
        Refusal: the file is missing, too large, or does not hold such a value. The message names the file.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"{path} is not {what}: there is no such file")
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    try:
        return parse_json(content, kind, not_finite)
    except Refusal as refusal:
        raise Refusal(f"{path} is not {what}: {refusal}")


def read_text(path: Path) -> str:
    """The text in a file.

    Raises:
        Refusal: the file is missing, too large, or not UTF-8.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise Refusal(f"{path} is not a text: there is no such file")
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise Refusal(f"{path} has more than {MAX_TEXT_BYTES:,} bytes, the most that is read of a text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is not a text in UTF-8 (byte {error.start}: {error.reason})")


def parse_json(content: bytes | str, kind: type = dict, not_finite: bool = False) -> Any:
    """A value from JSON; see `read_json`.

    Raises:
        Refusal: the text is too large, no UTF-8 or no JSON, is nested too deep, has a key twice, a number that is no
            finite float or has too many digits, or half a surrogate pair, or the value is of another type.
    """
    if len(content) > MAX_JSON_BYTES:
        raise Refusal(f"more than {MAX_JSON_BYTES:,} bytes")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        found = json.loads(
            text,
            object_pairs_hook=_without_twins,
            parse_int=_integer,
            parse_float=None if not_finite else _finite,
            parse_constant=None if not_finite else _finite,
        )
        _require_shallow(found)
        json.dumps(
            found, ensure_ascii=False
        ).encode()  # half a surrogate pair can be neither printed nor written
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise Refusal(f"no JSON ({reason[:200]})")
    if not isinstance(found, kind):
        raise Refusal(f"a JSON {_NAMES.get(kind, kind.__name__)} is needed")
    return found


_NAMES: dict[Any, str] = {dict: "object", list: "list", str: "text"}


def is_plain_name(name: str) -> bool:
    """Whether a name from a file is that of a file in one folder: no path, which could lead out of it."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def is_of_texts(value: Any) -> bool:
    """Whether a value is a JSON object all of whose values are texts."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise Refusal(f"the key {twice[:80]!r} is there twice")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Refusal(f"a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise Refusal(f"the number {text[:40]} is not finite")
    return number


def _require_shallow(value: Any) -> None:
    """Refuse a value that is nested too deep, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            each
            for outer in level
            if isinstance(outer, (dict, list))
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Refusal("nested too deep")
