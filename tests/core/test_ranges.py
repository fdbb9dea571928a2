"""Ranges of numbers: what texts and values they accept, and the one line that refuses others."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from core.errors import Refusal
from core.ranges import (
    Real,
    Seed,
    Whole,
    parse_real,
    parse_whole,
    ranges,
    require,
    require_ranges,
    require_words,
)

# Texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.001", 0.001), ("1e-3", 1e-3), ("1/255", 1 / 255), ("8/255", 8 / 255), ("-2", -2.0), (".5", 0.5)],
)
def test_numbers_may_be_fractions(text: str, number: float) -> None:
    assert parse_real(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a",
            "1/0",
            "1e999999999",
            "1e99999999/3",
            "nan",
            "inf",
            "1/2/3",
            "1/" + "9" * 5000,
            "1_0",
            "٣",
        ),
        *(" 1", "1e", ".", "0x10", "1/-2", "9" * 1_000_000),
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no finite number"):
        parse_real(text)


@pytest.mark.parametrize(
    "text", ["", "a", "1.0", "1e3", "1_000", "٣", "²", " 1", "--1", "9" * 1_000_000, "nan"]
)
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no integer") as refused:
        parse_whole(text)
    assert len(str(refused.value)) < 100


# Values ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Options of every form."""

    count: Annotated[int, Whole(1, 1000)] = 10
    share: Annotated[float, Real(0, 1)] | None = None
    rate: Annotated[float, Real(0, 1, above=True)] = 1.0
    start: Annotated[float, Real(0, 1, below=True)] = 0.0
    limit: Annotated[int, Whole(1, 5)] | Literal["unlimited"] | None = None
    sizes: tuple[Annotated[int, Whole(1, 5)], ...] = (1,)
    names: tuple[str, ...] = ()
    word: str = ""


ACCEPTED: list[tuple[str, object]] = [
    *(("count", 1), ("count", 1000), ("count", np.int64(7)), ("share", 0), ("share", 1.0), ("share", None)),
    *(
        ("rate", 1e-300),
        ("start", 0.999),
        ("limit", 5),
        ("limit", "unlimited"),
        ("sizes", (5, 1)),
        ("sizes", ()),
    ),
]
REFUSED: list[tuple[str, object, str]] = [
    ("count", 0, "count is 0: accepted is an integer from 1 to 1,000"),
    ("count", 1001, "count is 1001: accepted is an integer from 1 to 1,000"),
    ("count", 10**30, "count is 1000000000000000000000000000000: accepted is an integer from 1 to 1,000"),
    ("count", 2.0, "count is 2.0: accepted is an integer from 1 to 1,000"),
    ("count", True, "count is True: accepted is an integer from 1 to 1,000"),
    ("count", None, "count is None: accepted is an integer from 1 to 1,000"),
    ("share", -0.1, "share is -0.1: accepted is a number from 0 to 1"),
    ("share", math.nan, "share is nan: accepted is a number from 0 to 1"),
    ("share", math.inf, "share is inf: accepted is a number from 0 to 1"),
    ("share", "1", "share is 1: accepted is a number from 0 to 1"),
    ("rate", 0, "rate is 0: accepted is a number above 0 and up to 1"),
    ("start", 1.0, "start is 1.0: accepted is a number from 0 up to, not with, 1"),
    ("limit", 6, "limit is 6: accepted is an integer from 1 to 5, or unlimited"),
    ("limit", "never", "limit is never: accepted is an integer from 1 to 5, or unlimited"),
    ("sizes", (1, 6), "sizes is 6: accepted is an integer from 1 to 5"),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_values_in_range_pass(name: str, value: object) -> None:
    require_ranges(Options(**{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_values_out_of_range_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        require_ranges(Options(**{name: value}))  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_a_message_can_name_the_owner() -> None:
    with pytest.raises(Refusal, match=r"^count of pgd is 0: "):
        require_ranges(Options(count=0), "pgd")


def test_what_has_no_range_is_not_checked() -> None:
    assert set(ranges(Options)) == {"count", "share", "rate", "start", "limit", "sizes"}


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_are_what_rows_hold(seed: int) -> None:
    require("seed", seed, Seed)
    with pytest.raises(Refusal, match="accepted is an integer from 0 to 9,223,372,036,854,775,807"):
        require("seed", -seed - 1 if seed == 0 else seed + 1, Seed)


# Command lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--count 5 --share 1/2 --names a b",
        "--count=5 --share=None --limit unlimited",
        "--sizes 1 2 3 --limit 5 --rate .5",
        "--unknown --word x --count 3",
    ],
)
def test_words_in_range_pass(words: str) -> None:
    require_words(Options, words.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 0", "count is 0: accepted is an integer from 1 to 1,000"),
        ("--count=1_0 --share 1", "count is 1_0: accepted is an integer from 1 to 1,000"),
        ("--word x --count ٣", "count is ٣: accepted is an integer from 1 to 1,000"),
        ("--share -1/3", "share is -1/3: accepted is a number from 0 to 1"),
        ("--share 1e99999999", "share is 1e99999999: accepted is a number from 0 to 1"),
        ("--limit forever", "limit is forever: accepted is an integer from 1 to 5, or unlimited"),
        ("--sizes 1 2 x", "sizes is x: accepted is an integer from 1 to 5"),
        ("--sizes", "sizes has no value: accepted is an integer from 1 to 5"),
        ("--sizes --count 5", "sizes has no value: accepted is an integer from 1 to 5"),
        ("--names --count 5", "names has no value: at least one is needed"),
    ],
)
def test_words_that_are_not_accepted_are_refused(words: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        require_words(Options, words.split())
    assert str(refused.value) == message


def test_ends_are_not_numbers_of_the_other_kind() -> None:
    assert Whole(0, 5).read("5") == 5
    assert isinstance(Real(0, 5).read("5"), float)
    for text in ("5.0", "6"):
        with pytest.raises(ValueError, match="is n"):
            Whole(0, 5).read(text)
