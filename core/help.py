"""What --help prints: options in groups, with their defaults, and examples at the end. Never imports torch.

All of it is read from the dataclass of a command. The class that first declares an option is its group, and the first
sentence of that class's docstring is the group's title. A section "Examples:" that ends a command's docstring holds
command lines. They begin with `spikeq VERB` there, and are shown as the user calls the program.
"""

import ast
import inspect
import re
import shutil
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from typing_extensions import Doc

from core.registered import first_sentence

WIDEST = 110
"""Columns of help, at most."""
_INDENT = 24
"""Column in which the words on an option begin."""
_OWN = "options"
"""Title of the group of options that the command itself declares."""


@dataclass(frozen=True)
class _Option:
    """An option as it is shown."""

    usage: str
    """As it is typed, as in --seed INT."""
    text: str
    default: str = ""
    """Empty if there is none, or none to show."""

    def lines(self, width: int) -> list[str]:
        """The option and the words on it, which begin in column _INDENT."""
        paragraphs = [" ".join(part.split()) for part in re.split(r"\n(?=- )", self.text)]
        if self.default:
            told = f"(default: {self.default})"
            paragraphs += [told] if len(paragraphs) > 1 else [f"{paragraphs.pop()} {told}"]
        indent = " " * _INDENT
        lines = [
            line
            for part in paragraphs
            for line in _wrapped(part, width, indent, indent + "  " * part.startswith("- "))
        ]
        first = f"  {self.usage}"
        if len(first) + 2 > _INDENT:
            return [first, *lines]
        return [first.ljust(_INDENT) + lines[0].lstrip(), *lines[1:]]


_EVERYWHERE = (
    _Option(
        "--extension MODULE", "Import a module of your own, which registers what it adds; may be repeated."
    ),
    _Option("-h, --help", "Show this text."),
)
"""What every command takes."""


def examples(command: type) -> list[str]:
    """The command lines in the docstring of a command. Each begins with `spikeq VERB`."""
    return [line.strip() for line in _docstring(command)[1].splitlines()]


def help_of_verbs(program: str, commands: Mapping[str, type], description: str) -> str:
    """What --help of a program with several verbs prints.

    Args:
        program: as the user called it.
        commands: the dataclass of each verb.
        description: what the verbs have in common.
    """
    width, indent = _width(), max(map(len, commands)) + 4
    lines = [
        line
        for verb, command in commands.items()
        for line in _wrapped(
            first_sentence(_docstring(command)[0]), width, f"  {verb}".ljust(indent), " " * indent
        )
    ]
    return "\n\n".join(
        [
            f"usage: {program} VERB ... [--extension MODULE]",
            "\n".join(_wrapped(description, width)),
            "\n".join(["verbs:", *lines]),
            f"{program} VERB --help lists the options of a verb, with examples.",
        ]
    )


def help_of_command(program: str, verb: str, command: type) -> str:
    """What --help of one command prints.

    Args:
        program: as the user called it.
        verb: of the command; empty if the program has one command only.
        command: the dataclass of its options.
    """
    width, whole = _width(), f"{program} {verb}".strip()
    text, _ = _docstring(command)
    groups = _groups(command)
    usage = " ".join(["usage:", whole, *(option.usage for option in groups.get("needed", ())), "[options]"])
    parts = [
        *(
            "\n".join(_wrapped(part, width, "", "  " * (part is usage)))
            for part in (usage, *text.split("\n\n"))
        ),
    ]
    for title, options in {**groups, "for every command": _EVERYWHERE}.items():
        parts.append("\n".join([f"{title}:", *(line for option in options for line in option.lines(width))]))
    if lines := examples(command):
        typed = (re.sub(r"^spikeq \S+", lambda _: program, line) for line in lines)
        parts.append("\n".join(["examples:", *(f"  {line}" for line in typed)]))
    return "\n\n".join(parts)


def _width() -> int:
    return max(min(shutil.get_terminal_size().columns, WIDEST), 2 * _INDENT)


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """A paragraph in lines, with the indent of its first line and of the others. Option names are not broken."""
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _docstring(command: type) -> tuple[str, str]:
    """The docstring of a command: what it does, and its examples."""
    text, _, lines = inspect.cleandoc(command.__doc__ or "").partition("\n\nExamples:\n")
    return text, lines


def _groups(command: type) -> dict[str, Sequence[_Option]]:
    """The options of a command by the title of their group: those that must be given, its own, those it shares."""
    hints = get_type_hints(command, include_extras=True)
    texts = {name: text for cls in reversed(command.__mro__) for name, text in _texts(cls).items()}
    shared = [_title(cls) for cls in command.__mro__[1:] if "__annotations__" in vars(cls)]
    found: dict[str, list[_Option]] = {title: [] for title in ("needed", _OWN, *shared)}
    for each in fields(command):
        is_needed = each.default is MISSING and each.default_factory is MISSING
        owner = next(
            cls for cls in reversed(command.__mro__) if each.name in vars(cls).get("__annotations__", {})
        )
        title = "needed" if is_needed else _OWN if owner is command else _title(owner)
        hint = hints[each.name]
        told = next((note.documentation for note in _notes(hint) if isinstance(note, Doc)), None)
        found[title].append(_Option(_usage(each, hint), told or texts[each.name], _default(each)))
    return {title: options for title, options in found.items() if options}


def _title(group: type) -> str:
    """The title of a group: the first sentence on its class, as in "how to convert"."""
    title = first_sentence(inspect.cleandoc(group.__doc__ or "")).removesuffix(".")
    return title if title[1:2] == "-" else title[0].lower() + title[1:]  # Q-learning


def _texts(cls: type) -> dict[str, str]:
    """The docstrings of the fields that a class declares, by name."""
    if "__annotations__" not in vars(cls):
        return {}
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(found, ast.ClassDef)
    texts = {}
    for statement, following in zip(found.body, found.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str() as text)):
                texts[name] = inspect.cleandoc(text)
    return texts


def _notes(hint: Any) -> Sequence[Any]:
    """What is annotated to a type."""
    return getattr(hint, "__metadata__", ())


def _usage(option: Field[Any], hint: Any) -> str:
    """An option as it is typed."""
    values = _values(hint, option.name)
    if tyro.conf.Positional in _notes(hint):
        return values
    return f"--{option.name.replace('_', '-')} {values}".strip()


def _values(hint: Any, name: str) -> str:
    """What stands for the values of an option: the numbers or words that it takes, or its name."""
    for note in _notes(hint):
        if metavar := getattr(note, "metavar", None):
            return str(metavar)
    kind, inner = get_origin(hint), [each for each in get_args(hint) if each is not type(None)]
    if kind is Annotated:
        return _values(inner[0], name)
    if kind in (Union, types.UnionType):
        return "|".join(_values(each, name) for each in inner)
    if kind is Literal:
        return f"{{{','.join(inner)}}}" if len(inner) > 1 else str(inner[0])
    if kind in (tuple, list):
        return f"{_values(inner[0], name.removesuffix('s'))} ..."
    return "" if hint is bool else name.upper()


def _default(option: Field[Any]) -> str:
    """The default of an option; empty where none is shown."""
    value = option.default if option.default_factory is MISSING else option.default_factory()
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is MISSING or value is None else " ".join(map(_shown, _several(value)))


def _several(value: object) -> Iterable[object]:
    return value if isinstance(value, (tuple, list)) else (value,)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
