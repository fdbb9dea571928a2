"""The text of a study's file, and checks of its values whose refusals name file, line and keys. Never imports torch."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from core.errors import Refusal
from core.words import nearest

Scalar: TypeAlias = bool | int | float | str
Options: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
"""Options of one command, by name."""


def read_source(file: Path) -> "Source":
    """The text of a study's file.

    Raises:
        Refusal: it is not UTF-8.
    """
    content = file.read_bytes()
    try:
        return Source(file, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refusal(
            f"{file}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8, as TOML files are"
        )


@dataclass(frozen=True)
class Source:
    """The text of a study's file, and checks of its values that name the line."""

    file: Path
    text: str

    def refuse(self, keys: Sequence[str], message: str) -> NoReturn:
        """Refuse the value at some keys."""
        line = self._line(keys)
        where = f"{self.file}, line {line}" if line else str(self.file)
        raise Refusal(f"{where}: {'.'.join(keys)} {message}")

    def naming(self, keys: Sequence[str], work: Callable[[], object]) -> None:
        """Run the work. The message of a refusal gets the file and the line of some keys."""
        try:
            work()
        except Refusal as refusal:
            raise Refusal(self.told(keys, refusal))

    def told(self, keys: Sequence[str], refusal: Refusal) -> str:
        """The message of a refusal, with the file and the line of some keys."""
        line = self._line(keys)
        return f"{self.file}{f', line {line}' if line else ''}: {refusal}"

    def _line(self, keys: Sequence[str]) -> int | None:
        """The line of the last of some keys, each of which stands in or below the line of the one before."""
        lines = self.text.splitlines()
        at = 0
        for key in keys:
            quoted = re.escape(key)
            word = re.compile(rf"(?<![\w-])(\"{quoted}\"|'{quoted}'|{quoted})\s*[=.,\]]")
            found = (n for n in range(at, len(lines)) if word.search(lines[n].split("#")[0]))
            line = next(found, None)
            if line is None:
                return None
            at = line
        return at + 1 if keys else None

    def parsed(self) -> dict[str, Any]:
        """The content of the file."""
        try:
            return tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # also of numbers and of nesting beyond Python's limits
            message = str(error)
            at = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message)
            line = f", line {at[2]}" if at and at[2] else ""
            raise Refusal(f"{self.file}{line}: not TOML: {at[1] if at else message}")

    def table(
        self,
        value: object,
        keys: Sequence[str],
        needed: Sequence[str] | None = None,
        others: Sequence[str] = (),
    ) -> dict[str, Any]:
        """A table, with the keys that it needs and no others than these. Any keys are accepted if `needed` is None."""
        if not isinstance(value, dict):
            self.refuse(keys, f"is {shown(value)}: a table is needed, as in [{'.'.join(keys)}]")
        if needed is not None:
            for key in value:
                if key not in (*needed, *others):
                    near = nearest(key, (*needed, *others))
                    self.refuse(
                        (*keys, key), f"is unknown: {near}accepted are {', '.join((*needed, *others))}"
                    )
            for key in needed:
                if key not in value:
                    raise Refusal(f"{self.file}: {key} is missing: a study needs {', '.join(needed)}")
        return value

    def options(self, value: object, keys: Sequence[str]) -> Options:
        """The options of a command."""
        if not isinstance(value, dict):
            self.refuse(keys, f"is {shown(value)}: a table of options is needed, as in {keys[-1]} = {{ }}")
        for name, option in value.items():
            if not all(
                isinstance(each, Scalar) for each in (option if isinstance(option, list) else [option])
            ):
                self.refuse(
                    (*keys, name), f"is {shown(option)}: a text, a number, true or false, or a list is needed"
                )
        return value

    def list_of(self, value: object, keys: Sequence[str], kind: type, what: str) -> tuple[Any, ...]:
        """A list whose elements are of one type."""
        if not isinstance(value, list) or not all(type(each) is kind for each in value):
            self.refuse(keys, f"is {shown(value)}: a list of {what}, is needed")
        return tuple(value)

    def seeds(self, value: object, keys: Sequence[str]) -> tuple[int, ...]:
        """Different whole numbers of 0 or more."""
        return self.different(value, keys, 0, "[0, 1]")

    def different(self, value: object, keys: Sequence[str], least: int, example: str) -> tuple[int, ...]:
        """Different whole numbers that are not too small; one or more, if 0 is too small."""
        numbers = self.list_of(value, keys, int, f"whole numbers, as in {example}")
        if min(numbers, default=0) < least or len(set(numbers)) < len(numbers):
            self.refuse(keys, f"is {shown(value)}: different numbers of {least} or more are needed")
        return numbers

    def whole(self, value: object, keys: Sequence[str], least: int) -> int:
        """A whole number that is not too small."""
        if type(value) is not int or value < least:
            self.refuse(keys, f"is {shown(value)}: a whole number of {least} or more is needed")
        return value

    def one_of(self, value: object, keys: Sequence[str], accepted: Sequence[str]) -> Any:
        """One of some words."""
        if value not in accepted:
            self.refuse(keys, f"is {shown(value)}: accepted are {', '.join(accepted)}")
        return value


def shown(value: object) -> str:
    """A value as TOML writes it, shortened."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
