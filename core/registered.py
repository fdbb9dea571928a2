"""What is registered, as `--help` lists it: read from source files, so that nothing heavy is imported.

A registry that was imported already, by an extension perhaps, is asked itself. So is one that registers in a loop.
"""

import ast
import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core.registry import Registry


class Listed(NamedTuple):
    """A registered entry, as far as `--help` knows it."""

    name: str
    explanation: str
    """First sentence of a class's docstring, or an entry's `description`; empty if it has neither."""
    source: str
    """Source code of the registration. Empty if the entry's registry was imported."""
    entry: object
    """The entry; None if its registry was not imported."""


def listed(place: str) -> list[Listed]:
    """The entries of a registry, in its order.

    Args:
        place: module and name of the registry, as in "core.neurons.base:NEURONS".
    """
    module, name = place.split(":")
    if module not in sys.modules:
        with contextlib.suppress(_NamesAreComputed):
            return _from_sources(module, name)
    registry: Registry[object] = getattr(importlib.import_module(module), name)
    return [Listed(key, explanation(entry), "", entry) for key, entry in registry.items()]


def require_registered(name: str, *places: str) -> None:
    """Refuse a name that is in none of some registries, in the words of the first. Nothing heavy is imported for it.

    Args:
        name: what the user typed.
        places: registries, as for `listed`.

    Raises:
        Refusal: it is not registered; the message names the nearest one.
    """
    accepted = dict.fromkeys(entry.name for place in places for entry in listed(place))
    if name not in accepted:
        module, registry = places[0].split(":")
        known: Registry[object] | None = getattr(sys.modules.get(module), registry, None)
        if known is None:
            known = Registry(_definition(module, registry).concept)
        raise known.unknown(name, accepted)


def explanation(entry: object) -> str:
    """One line on an entry; empty if it has no words of its own."""
    words = entry.__doc__ if isinstance(entry, type) else getattr(entry, "description", None)
    return first_sentence(words) if words else ""


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring on one line."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)]\.) (?=[A-Z])", paragraph)[0]


class _NamesAreComputed(Exception):
    """A registration whose name is not written out in the source, as in a loop."""


class _Definition(NamedTuple):
    """The arguments of a registry's definition."""

    concept: str
    package: str | None


def _from_sources(module: str, name: str) -> list[Listed]:
    own, package = _file_of(module), _definition(module, name).package
    files = sorted(_file_of(package).parent.glob("*.py")) if package else []
    of_package = sorted(entry for file in files for entry in _registrations(file, name))
    # A registry lists the entries of its package first, sorted by name, then those of its own module.
    return [*of_package, *(() if own in files else _registrations(own, name))]


def _file_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module  # noqa: PT018
    return Path(spec.origin)


def _definition(module: str, name: str) -> _Definition:
    """How a module defines a registry, as in NAME: Registry[Thing] = Registry("thing", package="things")."""
    for node in ast.parse(_file_of(module).read_text("utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert isinstance(node.value, ast.Call)
            named = {keyword.arg: keyword.value for keyword in node.value.keywords}
            package = ast.literal_eval(named["package"]) if "package" in named else None
            return _Definition(ast.literal_eval(node.value.args[0]), package)
    raise LookupError(f"{module} defines no registry {name}")


def _registrations(file: Path, name: str) -> Iterator[Listed]:
    """Every NAME.register("...") in a file: of classes and functions, and of values."""
    text = file.read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for decorator in node.decorator_list:
                if key := _key(decorator, name):
                    words = ast.get_docstring(node) if isinstance(node, ast.ClassDef) else None
                    yield Listed(key, first_sentence(words) if words else "", "", None)
        elif isinstance(node, ast.Call) and (key := _key(node.func, name)):
            (value,) = node.args
            told = [
                keyword.value.value
                for keyword in getattr(value, "keywords", ())
                if keyword.arg == "description" and isinstance(keyword.value, ast.Constant)
            ]
            source = ast.get_source_segment(text, value) or ""
            yield Listed(key, first_sentence(str(told[0])) if told else "", source, None)


def _key(node: ast.expr, name: str) -> str | None:
    """The name in NAME.register("..."); None for any other expression."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "register"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == name
    ):
        if not isinstance(node.args[0], ast.Constant):
            raise _NamesAreComputed
        return str(node.args[0].value)
    return None
