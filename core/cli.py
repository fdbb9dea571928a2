"""Common parts of all command lines: options from dataclasses, one-line refusals.

Never imports torch, because commands that draw figures or run studies do not need it.
"""

import io
import itertools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_type_hints

import tyro
from typing_extensions import Doc

from core import extension_errors, interrupts, processes
from core.errors import Refusal, naming
from core.extensions import load_extension
from core.help import help_of_command, help_of_verbs
from core.ranges import require_words
from core.registered import Listed, listed, require_registered
from core.words import nearest
from core.wrong_options import parsed

LONGEST = 500
"""Characters of a message, at most."""
_HELP = ("--help", "-h")
_typed_as = ""
"""How the user called the program, where that is not what `main` is given."""


def _parse_switch(words: list[str]) -> bool:
    """The value of a switch: True if it has no word, otherwise its word."""
    if words and words[0] not in ("True", "False"):
        raise ValueError(f"{words[0]} is neither True nor False")
    return words != ["False"]


Switch = Annotated[
    bool | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[True|False]",
        instance_from_str=_parse_switch,
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""An option that is on (--double or --double True), off (--double False), or None if it is not given."""


class OneOf(Doc):
    """Help of an option that takes registered names: a text, then every name, those of extensions included.

        method: Annotated[str, OneOf("Conversion method.", "convert.method:METHODS")] = "tan2021"

    The names are read when help is printed. Nothing is imported for it (`core.registered`). Other names are refused
    when the command line is parsed.

    Args:
        text: what the option is for, in whole sentences.
        places: registries, as module:NAME. A name that several of them have is listed once.
        only: which entries the option takes; all if None. The command refuses the others, and says why.
        words: which words of the option are names. settings: the first, because its settings follow. others: perhaps
            none, because the option takes paths too.
    """

    def __init__(
        self,
        text: str,
        *places: str,
        only: Callable[[Listed], bool] | None = None,
        words: Literal["names", "settings", "others"] = "names",
    ):
        self._text, self._places, self._only, self._words = text, places, only, words

    def names(self) -> list[str]:
        """The names that are listed."""
        return [entry.name for entry in self._entries()]

    def require(self, given: str | Sequence[str]) -> None:
        """Refuse a value of the option that has an unknown name.

        Raises:
            Refusal: the message names the nearest one.
        """
        words = [given] if isinstance(given, str) else given
        names = {"names": words, "settings": words[:1], "others": ()}[self._words]
        for name in names:
            require_registered(name, *self._places)

    def _entries(self) -> list[Listed]:
        found = {entry.name: entry for place in reversed(self._places) for entry in reversed(listed(place))}
        return [entry for entry in reversed(found.values()) if self._only is None or self._only(entry)]

    @property
    def documentation(self) -> str:  # type: ignore[override]  # read anew each time
        entries = self._entries()
        explained = [f"- {entry.name}: {entry.explanation}" for entry in entries if entry.explanation]
        names = [entry.name for entry in entries if not entry.explanation]
        told = [f"Registered: {', '.join(names)}."] if names else []
        return "\n".join([" ".join([self._text, *told]), *explained])

    # Python hashes and compares annotations. Doc would compare texts, and so read what is registered.
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Command(Protocol):
    """A dataclass whose fields are the options of one command."""

    def run(self) -> None: ...


def main(program: str, commands: Mapping[str, type[Command]] | type[Command], description: str = "") -> None:
    """Parse this process's command line, run the command, and leave with the right exit code.

    Args:
        program: how it is called, as in "python -m evaluate", unless `call_it` said otherwise.
        commands: the command, or one for each verb.
        description: what the verbs have in common.
    """

    def work() -> None:
        processes.follow_parent()
        _require_values(sys.argv[1:])
        words, extensions = _without_extensions(sys.argv[1:])
        for extension in extensions:
            load_extension(extension)
        if not isinstance(commands, Mapping):
            _run(called, "", commands, words)
            return
        verb, *rest = words or [""]
        if verb in _HELP:
            print(help_of_verbs(called, commands, description))
            return
        if verb not in commands:
            what = f"no verb {verb!r}: {nearest(verb, commands)}" if verb else "a verb is needed: "
            raise Refusal(f"{called}: {what}verbs are {', '.join(commands)}")
        _run(called, verb, commands[verb], rest)

    called = _typed_as or program
    _settle_environment()
    _exit_with_refusals(work)


def call_it(program: str) -> None:
    """Let messages of this process name the program as the user typed it, as in "spikeq evaluate"."""
    global _typed_as
    _typed_as = program


def _run(program: str, verb: str, command: type[Command], words: list[str]) -> None:
    """Run one command, or print its help."""
    if not set(words).isdisjoint(_HELP):
        print(help_of_command(program, verb, command))
        return
    require_words(command, words)
    _parsed(f"{program} {verb}".strip(), command, words).run()


def _settle_environment() -> None:
    """Let nothing but the command line decide what a command writes.

    Figures are drawn without a screen and by Matplotlib's defaults, whatever a notebook or a matplotlibrc says. A
    terminal that lacks a character shows another one.
    """
    os.environ["MPLBACKEND"] = "agg"
    os.environ["MATPLOTLIBRC"] = os.devnull
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _require_values(words: Sequence[str]) -> None:
    """Refuse options with an empty value. An empty path would be the working directory.

    Raises:
        Refusal: the message names the option.
    """
    for word, following in itertools.zip_longest(words, words[1:]):
        option, equals, value = word.partition("=")
        if option.startswith("--") and ((equals and not value) or (not equals and following == "")):
            raise Refusal(f"{option} is '': a value is needed")


def parse(program: str, command: type[Command], words: Sequence[str]) -> Command:
    """The command that a command line asks for, without running it.

    Args:
        program: how the user calls the command, for messages.
        command: the command.
        words: its options.

    Raises:
        Refusal: the options are not accepted.
    """
    options, _ = _without_extensions([*words])
    require_words(command, options)
    return _parsed(program, command, options)


def _without_extensions(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command line without its --extension options, and the modules that these name.

    They are taken out before the command line is parsed, because they decide which names it accepts.
    """
    left, extensions = [], []
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option != "--extension":
            left.append(word)
            continue
        module = value if equals else next(remaining, "")
        if not module or module.startswith("-"):
            raise Refusal("--extension needs the name of a module, as in --extension my_module")
        extensions.append(module)
    return left, extensions


def _parsed(whole: str, command: type[Command], words: list[str]) -> Command:
    """The command that a command line asks for, with its options.

    Args:
        whole: the program and its verb, as the user typed them.
        command: the command.
        words: its options.
    """
    found = parsed(lambda: tyro.cli(command, prog=whole, args=words), whole, command)
    _require_registered(found)
    _require_place(found)
    return found


def _require_registered(command: Command) -> None:
    """Refuse names that are not registered, before the command imports what it needs to run."""
    hints = get_type_hints(type(command), include_extras=True)
    for option in fields(command):  # type: ignore[arg-type]  # every command is a dataclass
        given = getattr(command, option.name)
        for told in getattr(hints[option.name], "__metadata__", ()):
            if isinstance(told, OneOf) and given not in (None, option.default):
                told.require(given)


def _require_place(command: Command) -> None:
    """Refuse an --out below a file, before the command imports what it needs to run."""
    out = getattr(command, "out", None)
    for folder in out.parents if isinstance(out, Path) else ():
        if folder.exists() and not folder.is_dir():
            raise Refusal(f"cannot write to {out}: {folder} is not a folder this user may write to")


def _exit_with_refusals(work: Callable[[], None]) -> None:
    """Run the work. Bad input becomes one line on standard error and exit code 2.

    An error in an extension becomes such a line with its traceback and exit code 1.
    """
    try:
        with interrupts.unwinding():
            try:
                work()
            finally:
                interrupts.finished()
                _flush()
    except Refusal as refusal:
        message = str(refusal)
    except BrokenPipeError:  # what reads the output wants no more of it, as `| head`
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        message = f"{error.filename or 'output'}: {error.strerror or error}"
    except KeyboardInterrupt as interrupt:
        interrupts.leave(str(interrupt) or interrupts.LINE)
    except Exception as error:
        of_extension = extension_errors.told(error)
        if of_extension is None:
            raise
        print(of_extension, end="", file=sys.stderr)
        sys.exit(1)
    else:
        return
    print(_one_line(f"error: {message}"), file=sys.stderr)
    sys.exit(2)


def _flush() -> None:
    """Write what was printed. If that fails, the rest is dropped: Python would complain of it when it exits."""
    try:
        with naming("standard output"):
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _one_line(message: str) -> str:
    """A message on one line of at most LONGEST characters. What is left out is in the middle."""
    line = " ".join(message.split())
    half = (LONGEST - 5) // 2
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def specification(command: Any, *without: str) -> dict[str, Any]:
    """A command's options as JSON-able values, without those that cannot change its numbers."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(command).items()
        if name not in without
    }
