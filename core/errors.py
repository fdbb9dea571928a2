"""The exception for bad input, whose message is for the user."""

import reprlib
import traceback
from pathlib import Path


class Refusal(ValueError):
    """Bad input, refused before anything is changed.

    The message is one line that names the wrong value and what is accepted. The command line prints it and exits with
    code 2. Callers of the library can catch it as a ValueError.
    """


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
