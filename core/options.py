"""Options as data: frozen dataclasses from and to JSON and command-line words, with every value's type checked.

Registered entries with options are such dataclasses. Checkpoints, manifests and command lines name them by registered
name and fields. Never imports torch.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from core.errors import Refusal, shown
from core.ranges import parse_real, parse_whole
from core.registry import Registry
from core.words import nearest

Entry = TypeVar("Entry")


def to_config(registry: Registry[type[Entry]], entry: Entry) -> dict[str, Any]:
    """JSON-able values of a registered entry: its name and every field."""
    return {"name": registry.name_of(type(entry)), **dataclasses.asdict(entry)}  # type: ignore[call-overload]


def from_config(registry: Registry[type[Entry]], config: object) -> Entry:
    """The entry from what `to_config` returned.

    Raises:
        Refusal: the name is not registered, or a field is unknown, missing or of the wrong type.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("name"), str):
        raise Refusal(f"{registry.concept} {shown(config)}: an object with a name and options is needed")
    cls = registry[config["name"]]
    given = {name: value for name, value in config.items() if name != "name"}
    return cls(**checked(cls, given, f"{registry.concept} {config['name']}"))


def choose(registry: Registry[type[Entry]], words: Sequence[str]) -> Entry:
    """The entry that a command line names, as in --neuron lif tau=4 threshold=0.5.

    Args:
        registry: the concept's registry.
        words: the registered name, then any number of field=value.

    Raises:
        Refusal: the name is missing or unknown, or a setting is not valid.
    """
    if not words:
        raise Refusal(f"no {registry.concept} given: accepted are {', '.join(registry)}")
    name, *settings = words
    cls = registry[name]
    return cls(**parse_settings(settings, cls, f"{registry.concept} {name}"))


def parse_settings(words: Sequence[str], options: type, what: str) -> dict[str, Any]:
    """Values for fields of a dataclass from words of the form field=value.

    Args:
        words: words field=value. A field of a nested dataclass is field.subfield=value.
        options: the dataclass.
        what: owner of the options for messages, as in "recipe minatar-fast".

    Returns:
        Values by field name as it was typed. Their ranges are not checked; the dataclass does that.

    Raises:
        Refusal: a word has no "=", a field is unknown or given twice, or a value is not of the field's type.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            known = any(word == field.name for field in dataclasses.fields(options))
            example = f"as in {word}=VALUE" if known else f"{what} has {_example(options)}"
            raise Refusal(f"{word!r}: field=value is needed; {example}")
        if name in found:
            raise Refusal(f"{name} is given twice: {found[name]!r} and {text!r}")
        found[name] = _parse(text, _hint(options, name, what), f"{name} of {what}")
    return found


def checked(options: type, given: object, what: str) -> dict[str, Any]:
    """Values from JSON after a check of their types. Integers for float fields become floats, objects dataclasses.

    Args:
        options: a dataclass.
        given: what should be an object with a value for each field without a default, and none for others.
        what: owner of the options for messages.

    Raises:
        Refusal: it is no object, a field is unknown or missing, or a value is of the wrong type.
    """
    hints = get_type_hints(options)
    fields = [field for field in dataclasses.fields(options) if field.init]
    required = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return _checked({field.name: hints[field.name] for field in fields}, required, given, what)


def checked_arguments(
    make: Callable[..., object], given: object, what: str, apart: Sequence[str] = ()
) -> dict[str, Any]:
    """Arguments of a function or class from JSON, checked as by `checked`: parameters are taken for fields.

    Args:
        make: the function; with `functools.partial` if some arguments are known.
        given: what should be an object with the arguments.
        what: owner of the arguments for messages.
        apart: parameters that are not taken from JSON.
    """
    function: Any = make.func if isinstance(make, functools.partial) else make
    hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    parameters = [each for each in inspect.signature(make).parameters.values() if each.name not in apart]
    required = [each.name for each in parameters if each.default is each.empty]
    return _checked({each.name: hints[each.name] for each in parameters}, required, given, what)


def _checked(hints: Mapping[str, Any], required: Sequence[str], given: object, what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Refusal(f"{what} is {shown(given)}: an object with options is needed")
    for name in required:
        if name not in given:
            raise Refusal(f"{what} lacks {name!r}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in hints:
            raise _unknown(name, list(hints), what)
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            values[name] = hint(**checked(hint, value, f"{name} of {what}"))  # type: ignore[operator, arg-type]
        elif not _fits(value, hint):
            raise Refusal(f"{name} of {what} is {shown(value)}: accepted is {_described(hint)}")
        else:
            values[name] = float(value) if hint is float else value
    return values


def _unknown(name: str, names: Sequence[str], what: str) -> Refusal:
    accepted = ", ".join(names) or "none"
    return Refusal(f"{what} has no option {name!r}: {nearest(name, names)}accepted are {accepted}")


def _hint(options: type, name: str, what: str) -> Any:
    """The type of a field, which may be nested."""
    first, dot, rest = name.partition(".")
    hints = get_type_hints(options)
    names = [field.name for field in dataclasses.fields(options) if field.init]
    if first not in names:
        raise _unknown(first, names, what)
    if dot:
        if not dataclasses.is_dataclass(hints[first]):
            raise Refusal(f"{what}: {first} has no parts, so there is no {name!r}")
        return _hint(hints[first], rest, f"{first} of {what}")
    return hints[first]


def _parse(text: str, hint: Any, name: str) -> Any:
    """A value of a type from its text."""
    refusal = Refusal(f"{name} is {text!r}: accepted is {_described(hint)}")
    if get_origin(hint) in (Union, types.UnionType):
        if type(None) in get_args(hint) and text.lower() in ("none", "null"):
            return None
        for each in get_args(hint):
            if each is not type(None):
                try:
                    return _parse(text, each, name)
                except Refusal:
                    continue
        raise refusal
    if get_origin(hint) is Literal:
        if text in get_args(hint):
            return text
        raise refusal
    if hint is bool:
        if text in ("True", "true", "False", "false"):
            return text in ("True", "true")
        raise refusal
    if hint is str:
        return text
    with contextlib.suppress(ValueError):
        if hint is int:
            return parse_whole(text)
        if hint is float:
            return parse_real(text)
    raise refusal


def _fits(value: object, hint: Any) -> bool:
    """Whether a value from JSON has a field's type. An integer is a float too; a bool is no number."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _is_finite(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number and can be a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _described(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    return {
        int: "an integer",
        float: "a finite number",
        bool: "True or False",
        str: "a word",
        type(None): "none",
    }.get(hint, str(getattr(hint, "__name__", hint)))


def _example(options: type) -> str:
    """One option of a dataclass, for messages."""
    for field in dataclasses.fields(options):
        if field.init:
            return f"{field.name}={'...' if field.default is dataclasses.MISSING else field.default}"
    return "no options"
