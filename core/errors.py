"""The exception for bad input, whose message is for the user."""

import contextlib
import os
import reprlib
import traceback
from collections.abc import Iterator
from pathlib import Path


class Refusal(ValueError):
    """Bad input, refused before anything is changed.

    The message is one line that names the wrong value and what is accepted. The command line prints it and exits with
    code 2. Callers of the library can catch it as a ValueError.
    """


@contextlib.contextmanager
def naming(what: str | os.PathLike[str]) -> Iterator[None]:
    """Context in which an OSError that names no file, as that of a full disk, is given the name of what is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(what)
        raise


def failure(error: BaseException) -> str:
    """An exception of somebody else's code on one line: its type, the first line of its text, and its place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first} ({Path(place.filename).name}, line {place.lineno})"


_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxtuple, _brief.maxlist, _brief.maxstring = 2, 3, 4, 80
_brief.maxdict, _brief.maxother, _brief.maxlong = 2, 80, 40


def shown(value: object) -> str:
    """A value from a file for a message: its repr, shortened to at most 100 characters."""
    try:
        text = _brief.repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"{type(value).__name__} of too many digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
