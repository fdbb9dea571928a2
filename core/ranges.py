"""Ranges of numbers: declared beside an option, checked on the command line and wherever options are made.

    episodes: Annotated[int, Whole(1, 1000)] = 10
    share: Annotated[float, Real(0, 1)] | None = None

Numbers are plain text: digits 0 to 9, without underscores. Never imports torch.
"""

import abc
import contextlib
import functools
import itertools
import math
import numbers
import re
import types
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from core.errors import Refusal

MOST_STEPS = 10**9
"""No schedule or interval is longer, in any clock."""
MOST_REAL = 1e9
"""The largest number of an option without a limit of its own. It is far from the limits of float32."""
_LONGEST = 64
"""Characters of the longest text that is read as a number."""


def parse_whole(text: str) -> int:
    """The integer in a text such as 0, -3 or 10000.

    Raises:
        ValueError: the text is something else. Underscores and digits of other scripts are not accepted.
    """
    if len(text) > _LONGEST or not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{_shown(text)} is no integer")
    return int(text)


def parse_real(text: str) -> float:
    """The number in a text such as 0.001, 1e-3 or 1/255.

    Raises:
        ValueError: the text is not a finite number.
    """
    number = math.inf
    if len(text) <= _LONGEST and re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+|/[0-9]+)?", text):
        with contextlib.suppress(ValueError, ZeroDivisionError, OverflowError):
            number = float(Fraction(text)) if "/" in text else float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_shown(text)} is no finite number")
    return number


def _shown(value: object) -> str:
    """A value in messages, cut if it is long."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:20]}... ({len(text):,} characters)"


class Range(PrimitiveConstructorSpec[Any]):
    """The numbers that an option accepts, as an annotation of its type. Use `Whole` or `Real`.

    Args:
        least, most: the ends, both included.
        above, below: whether `least`, or `most`, itself is refused.
    """

    least: float
    most: float
    accepted: str
    """What is accepted, in words."""

    def __init__(self, least: float, most: float, *, above: bool = False, below: bool = False):
        half_open = above or below
        short = f"{least:.17g}..{most:.17g}"
        super().__init__(
            nargs=1,
            metavar=self._usual_metavar if half_open or len(short) > 11 else short,
            instance_from_str=lambda words: self.read(words[0]),
            is_instance=self._is_kind,
            str_from_instance=lambda value: [f"{value:.6g}" if isinstance(value, float) else str(value)],
        )
        lower = f"above {self._told(least)}" if above else f"from {self._told(least)}"
        upper = f"up to, not with, {self._told(most)}" if below else f"to {self._told(most)}"
        accepted = f"{self._kind} {lower} {'and up ' if above and not below else ''}{upper}"
        for name, value in (
            *(("least", least), ("most", most), ("above", above), ("below", below)),
            ("accepted", accepted),
        ):
            object.__setattr__(self, name, value)  # the base class is frozen

    _kind: str
    _usual_metavar: str

    @abc.abstractmethod
    def _parse(self, text: str) -> Any: ...

    @abc.abstractmethod
    def _is_kind(self, value: object) -> bool: ...

    def _told(self, end: float) -> str:
        return f"{int(end):,}" if end == int(end) and end < 2**63 else f"{end:g}"

    def has(self, value: Any) -> bool:
        """Whether a value is a finite number of the right kind in the range."""
        if not self._is_kind(value):
            return False
        above, below = vars(self)["above"], vars(self)["below"]
        # Comparisons with NaN are false. Those of integers are exact.
        lower = self.least < value if above else self.least <= value
        return lower and (value < self.most if below else value <= self.most)

    def read(self, text: str) -> Any:
        """The number that a text says.

        Raises:
            ValueError: it is no number of the right kind, or out of range.
        """
        number = self._parse(text)
        if not self.has(number):
            raise ValueError(f"{_shown(text)} is not {self.accepted}")
        return number

    # Python hashes and compares annotations.
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Whole(Range):
    """The integers that an option accepts."""

    _kind = "an integer"
    _usual_metavar = "INT"

    def _parse(self, text: str) -> int:
        return parse_whole(text)

    def _is_kind(self, value: object) -> bool:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)


class Real(Range):
    """The numbers that an option accepts. On the command line they may be fractions, as in 1/255."""

    _kind = "a number"
    _usual_metavar = "NUMBER"

    def __init__(self, least: float, most: float = MOST_REAL, *, above: bool = False, below: bool = False):
        super().__init__(least, most, above=above, below=below)

    def _parse(self, text: str) -> float:
        return parse_real(text)

    def _is_kind(self, value: object) -> bool:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)


Seed = Annotated[int, Whole(0, 2**63 - 1)]
"""A seed. Rows hold it as a signed 64-bit integer."""
Threads = Annotated[int, Whole(0, 1024)]
"""A number of CPU threads; 0 takes all."""
SimSteps = Annotated[int, Whole(1, 10_000)]
"""A number of simulation steps of a decision."""
Steps = Annotated[int, Whole(1, MOST_STEPS)]
"""A number of decisions, or of other steps of a schedule."""
EnvCount = Annotated[int, Whole(1, 1024)]
"""A number of games played side by side."""
EpisodeCount = Annotated[int, Whole(1, 100_000)]
"""A number of games that are measured."""
StateCount = Annotated[int, Whole(1, 1_000_000)]
"""A number of states of play."""


class Accepted(NamedTuple):
    """What an option with a range accepts."""

    range: Range
    words: tuple[str | None, ...]
    """Values that are accepted beside numbers: None and words."""
    several: bool
    """Whether it takes a list."""

    def require(self, name: str, value: Any) -> None:
        """Refuse a value that is not accepted.

        Raises:
            Refusal: the message has the name, the value and what is accepted.
        """
        several = self.several and isinstance(value, (list, tuple))
        for each in value if several else (value,):
            if each not in self.words and not self.range.has(each):
                raise self._refusal(name, each)

    def require_text(self, name: str, text: str) -> None:
        """Refuse a word of the command line that is not accepted."""
        if text in map(str, self.words):
            return
        try:
            self.range.read(text)
        except ValueError:
            raise self._refusal(name, text) from None

    def _refusal(self, name: str, value: object) -> Refusal:
        words = "".join(f", or {word}" for word in self.words if word is not None)
        return Refusal(f"{name} is {_shown(value)}: accepted is {self.range.accepted}{words}")


def accepted(hint: Any) -> Accepted | None:
    """What a field with a type accepts; None if the type has no range."""
    parts = _parts(hint)
    ranges = [part for part in parts if isinstance(part, Range)]
    if not ranges:
        return None
    words = [None] if type(None) in parts else []
    words += [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    return Accepted(ranges[0], tuple(words), _takes_list(hint))


def _parts(hint: Any) -> list[Any]:
    """A type, its annotations, and the types inside it."""
    inner = () if get_origin(hint) is Literal else get_args(hint)
    of_inner = itertools.chain.from_iterable(map(_parts, inner))
    annotations = getattr(hint, "__metadata__", ())
    return [hint, *annotations, *of_inner]


def _takes_list(hint: Any) -> bool:
    """Whether an option of a type takes any number of words."""
    if get_origin(hint) in (Annotated, Union, types.UnionType):
        return any(map(_takes_list, get_args(hint)))
    return get_origin(hint) in (list, tuple)


def _takes_lists(hint: Any) -> bool:
    """Whether an option may be given several times, each time with any number of words."""
    inner = get_args(get_args(hint)[0]) if get_origin(hint) is Annotated else get_args(hint)
    return _takes_list(hint) and any(map(_takes_list, inner))


def ranges(options: type) -> Mapping[str, Accepted]:
    """What the number fields of a dataclass accept, by name."""
    hints = get_type_hints(options, include_extras=True)
    found = {name: accepted(hint) for name, hint in hints.items()}
    return {name: each for name, each in found.items() if each is not None}


_accepted = functools.cache(accepted)  # seeds are checked at every episode


def require(name: str, value: object, kind: Any) -> None:
    """Refuse a value that a type with a range, such as `Seed`, does not accept.

    Raises:
        Refusal: the message has the name, the value and what is accepted.
    """
    found = _accepted(kind)
    if found is None:
        raise TypeError(f"{kind} has no range")
    found.require(name, value)


def require_ranges(options: object, of: str = "") -> None:
    """Refuse options with a number out of its range. Dataclasses call it in `__post_init__`.

    Args:
        options: the dataclass instance.
        of: owner of the options for messages, as in "pgd"; may be empty.

    Raises:
        Refusal: the message names the field, its value and what is accepted.
    """
    for name, each in ranges(type(options)).items():
        each.require(f"{name} of {of}" if of else name, getattr(options, name))


def require_words(command: type, words: Sequence[str]) -> None:
    """Refuse lists that are given twice or without a value, and words that are no values of the number options before
    them.

    Args:
        command: the dataclass of the options.
        words: the command line.

    Raises:
        Refusal: the message names the option, the word and what is accepted.
    """
    hints = get_type_hints(command, include_extras=True)
    given = set()
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in hints:
            continue
        # Of other options the last one counts, so that a script can change what it was given.
        if name in given and _takes_list(hints[name]) and not _takes_lists(hints[name]):
            raise Refusal(f"{option} is given twice: several values follow one {option}")
        given.add(name)
        after = itertools.takewhile(lambda other: not other.startswith("--"), words[place + 1 :])
        values = [value] if equals else list(after)
        option_range = ranges(command).get(name)
        if not values and _takes_list(hints[name]):
            told = f"accepted is {option_range.range.accepted}" if option_range else "at least one is needed"
            raise Refusal(f"{name} has no value: {told}")
        if option_range:
            for each in values if option_range.several else values[:1]:
                option_range.require_text(name, each)
