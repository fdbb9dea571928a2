"""What the columns of rows accept, declared beside the fields in core/rows.py. Never imports torch.

A field's annotation names its rule, as in `length_steps: Positive`. Rows of a file are checked by these rules when they
are read (`core.records.read_rows`), so that whoever uses rows can rely on them.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_origin, get_type_hints

from core.errors import Refusal
from core.reading import parse_json

MAX_TEXT = 2**16
"""Largest number of characters of any text in a row."""
MAX_NAME = 500
"""Largest number of characters of a name."""
MAX_COUNT = 2**53
"""Largest count. Up to this number, floats hold every integer."""


class Rule(Protocol):
    """What values of a column are accepted, besides their type."""

    @property
    def accepted(self) -> str:
        """The accepted values, in words."""
        ...

    def holds(self, value: Any) -> bool:
        """Whether a value of the column's type is accepted."""
        ...


@dataclass(frozen=True)
class Between:
    """Integers in a range, both ends included."""

    least: int
    most: int = MAX_COUNT

    @property
    def accepted(self) -> str:
        return f"an integer from {self.least} to {self.most}"

    def holds(self, value: int) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Words:
    """A closed set of words."""

    words: tuple[str, ...]

    @property
    def accepted(self) -> str:
        return "one of " + ", ".join(map(repr, self.words))

    def holds(self, value: str) -> bool:
        return value in self.words


@dataclass(frozen=True)
class Pattern:
    """Texts that a regular expression describes."""

    pattern: str
    accepted: str

    def holds(self, value: str) -> bool:
        return len(value) <= MAX_TEXT and re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Printable:
    """Texts on one line."""

    accepted: str = f"a text of at most {MAX_NAME} printable characters"

    def holds(self, value: str) -> bool:
        return len(value) <= MAX_NAME and value.isprintable()


@dataclass(frozen=True)
class JsonNumbers:
    """JSON of a list of numbers."""

    or_empty: bool = False
    """Whether the empty text is accepted too."""

    @property
    def accepted(self) -> str:
        return "JSON of a list of numbers" + (", or the empty text" if self.or_empty else "")

    def holds(self, value: str) -> bool:
        found = _parsed(value, list) if value or not self.or_empty else []
        return found is not None and all(type(each) in (int, float) for each in found)


@dataclass(frozen=True)
class JsonObject:
    """JSON of an object. Entries that readers use have a type, if they are there."""

    or_empty: bool
    """Whether the empty text is accepted too."""
    entries: tuple[tuple[str, type], ...]

    @property
    def accepted(self) -> str:
        entries = ", ".join(f"{name} ({kind.__name__})" for name, kind in self.entries)
        return f"JSON of an object{', if it has them with ' + entries if entries else ''}"

    def holds(self, value: str) -> bool:
        found = _parsed(value, dict) if value or not self.or_empty else {}
        return found is not None and all(
            name not in found or type(found[name]) in ((int, float) if kind is float else (kind,))
            for name, kind in self.entries
        )


def _parsed(text: str, kind: type) -> Any:
    """The value of that type in a text; None if there is none."""
    try:
        return parse_json(text, kind, not_finite=True) if len(text) <= MAX_TEXT else None
    except Refusal:
        return None


def json_object(*, or_empty: bool = False, **entries: type) -> JsonObject:
    """The rule of a column with a JSON object, with types of entries."""
    return JsonObject(or_empty, tuple(entries.items()))


Name = Annotated[str, Printable()]
"""A name of a game, an agent, weights and the like."""
Bits = Annotated[str, Pattern("([0-9a-f]{2})*", "pairs of hex digits")]
Training = Annotated[str, Pattern("([0-9a-f]{12})?", "12 hex digits, or the empty text")]
Seed = Annotated[int, Between(-1, 2**63 - 1)]
"""A seed; -1 if there is none."""
Count = Annotated[int, Between(0)]
Positive = Annotated[int, Between(1)]
MaybeUnknown = Annotated[int, Between(-1)]
"""A count; -1 if it is unknown."""
Numbers = Annotated[str, JsonNumbers()]
MaybeNumbers = Annotated[str, JsonNumbers(or_empty=True)]
Threat = Annotated[
    str, json_object(attack=str, steps=int, restarts=int, queries=int, loss=str, surrogate=str)
]
"""A threat model (`adversarial.threat.Threat.record`)."""


def rules(row_type: Any) -> dict[str, Rule]:
    """The rule of every column that has one."""
    hints = get_type_hints(row_type, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}
