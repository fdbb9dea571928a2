"""What is wrong with a command line, on one line. Never imports torch."""

import contextlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from core.errors import Refusal
from core.words import nearest

Parsed = TypeVar("Parsed")
_WIDTH = "100000"
"""Columns of the box that tyro draws around its message. Nothing is broken into several lines in one so wide."""
_WORD = r"[\w-][\w./=-]*"


def parsed(parse: Callable[[], Parsed], whole: str, command: type) -> Parsed:
    """What a parser returns. Where it would draw a box around a wrong option, one line is raised instead.

    Args:
        parse: calls tyro.
        whole: the program and its verb, as the user typed them.
        command: the dataclass of their options.

    Raises:
        Refusal: the options are not accepted.
    """
    drawn, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        with contextlib.redirect_stderr(drawn):
            return parse()
    except SystemExit as leaving:
        if leaving.code != 2:
            raise
        raise Refusal(f"{whole}: {_told(drawn.getvalue(), command)}--help lists what is accepted") from None
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _options(command: type) -> list[tuple[str, Any]]:
    """The options of a command, with the types of their fields."""
    if not is_dataclass(command):
        return []
    hints = get_type_hints(command)
    return [(f"--{option.name.replace('_', '-')}", hints[option.name]) for option in fields(command)]


def _told(drawn: str, command: type) -> str:
    """The message in a box of tyro, without its title (above the first line), types and help of other options.

    Another sentence can be appended as it is.
    """
    sections: list[list[str]] = [[]]
    for line in drawn.splitlines():
        if re.search("[─-]{4}", line):  # a line between sections; ASCII where the terminal has nothing else
            sections.append([])
        elif content := line.strip("│| "):
            sections[-1].append(content)
    first, *others = filter(None, sections[1:])
    text = " ".join(" ".join(first).split())
    unknown = [section[1:] for section in others if section[0] == "Unrecognized options:"]
    if found := re.match(r"Unrecognized options: (.*)", text):
        unknown = [found[1].split(", ")]
    elif text.startswith("Unrecognized or misplaced"):
        unknown = [re.findall(r"(\S+) \(applied to", text)]
    if unknown:
        (words,) = unknown
        near = nearest(words[0], [name for name, _ in _options(command)]) if words[0][0] == "-" else ""
        if not near and "--set" in {name for name, _ in _options(command)}:
            near = "--set FIELD=VALUE sets other fields; "
        return f"no such option: {' '.join(words)}; {near}"
    if text.startswith("Missing from"):
        options = {name for name, _ in _options(command)}
        missing = [word for line in first if (word := line.split()[0]) in options]
        return f"{' and '.join(missing or _positional(command))} must be given; "
    if found := re.match(r"Missing value for argument '([^']*)'", text):
        return f"{found[1]}: a value is needed; "
    if found := re.match(r"invalid choice (.*) for argument '([^']*)'. Expected one of (.*)\.$", text):
        accepted = dict.fromkeys(word for word in re.findall(_WORD, found[3]) if word != "None")
        return f"{found[2]} is {found[1]}: accepted are {', '.join(sorted(accepted))}; "
    if found := re.match(r"Error parsing ([^:]*): .*?\[(.*?)\]", text):
        (kind,) = [line for section in others for line in section if line.startswith(f"{found[1]} ")] or [""]
        accepted = dict.fromkeys(re.findall(_WORD, kind.removeprefix(found[1])))
        accepted.pop("None", None)
        return f"{found[1]} is {found[2]}: accepted is {' or '.join(accepted)}; "
    return f"{text.removeprefix('Error parsing ')}; "


def _positional(command: type) -> list[str]:
    """What a command needs besides options."""
    return [option.name.upper() for option in fields(command) if option.default is MISSING]
