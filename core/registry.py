"""Registries: the one way to add a neuron, a conversion method, an attack or any other concept.

Each concept has one registry, in the module that defines it. Built-in entries and those of extensions use the same
decorator:

    @METHODS.register("my-method")
    class MyMethod(Method): ...

Never imports torch.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from core import extensions
from core.errors import Refusal
from core.records import digest
from core.words import nearest

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(Generic[Entry]):
    """The things of one concept, by name, in the order in which they were registered.

    Args:
        concept: singular noun for messages, as in "conversion method".
        package: dotted name of a package whose modules register the built-in entries. They are imported at the first
            use of the registry. Entries of the package come first, sorted by name.
        modules: more modules to import at the first use.
        spelling: how a name that others use would be spelled here, to suggest the nearest entry.
    """

    def __init__(
        self,
        concept: str,
        package: str | None = None,
        modules: Sequence[str] = (),
        spelling: Callable[[str], str] = str,
    ):
        self.concept = concept
        self._spelling = spelling
        self._package = package
        self._modules = modules
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, str] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Register an entry under a name, as a decorator or as a function of the entry.

        Raises:
            Refusal: the name is taken, is not made of lower-case letters, digits, "-", "_" and "/", or the entry has
                another one in its field `name`.
        """
        if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_/"):
            raise Refusal(
                f"{self.concept} {name!r}: a name of lower-case letters, digits, '-', '_' and '/' is needed"
            )
        origin = sys._getframe(1).f_globals.get("__name__", "?")

        def add(entry: Registered) -> Registered:
            taken_by = self._origins.get(name)
            if taken_by not in (None, origin):
                raise Refusal(f"{self.concept} {name!r} is registered by both {taken_by} and {origin}")
            own = getattr(entry, "name", name)
            if isinstance(own, str) and own != name:  # rows would hold the name of another entry
                raise Refusal(
                    f"{self.concept} {name!r} has the name {own!r} in its fields: give it name={name!r}"
                )
            self._entries[name] = entry  # type: ignore[assignment]  # checked where it is used
            self._origins[name] = origin
            return entry

        return add

    def get(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            Refusal: nothing of that name is registered; the message names the nearest one.
        """
        self._load()
        if name in self._entries:
            extensions.use(self._origins[name])
            return self._entries[name]
        raise self.unknown(name, self._entries)

    __getitem__ = get

    def unknown(self, name: object, accepted: Iterable[str]) -> Refusal:
        """What is said of a name that is none of those accepted. Nothing is imported for it."""
        accepted = list(accepted)
        missing = "" if extensions.EXTENSIONS else "; one of your own needs its --extension"
        return Refusal(
            f"unknown {self.concept} {name!r}: {nearest(self._spelling(str(name)), accepted)}accepted are "
            f"{', '.join(accepted)}{missing}"
        )

    def copy(self) -> "Registry[Entry]":
        """A registry of the same entries, to which others may be added."""
        self._load()
        found: Registry[Entry] = Registry(self.concept, spelling=self._spelling)
        found._entries, found._origins = dict(self._entries), dict(self._origins)
        return found

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        self._load()
        return tuple(self._entries)

    def items(self) -> tuple[tuple[str, Entry], ...]:
        """All names with their entries, in order of registration, to list them. To use one, `get` it."""
        self._load()
        return tuple(self._entries.items())

    def values(self) -> tuple[Entry, ...]:
        """All entries, in order of registration."""
        return tuple(entry for _, entry in self.items())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def name_of(self, entry: object) -> str:
        """The name of a registered entry.

        Raises:
            Refusal: the entry is not registered.
        """
        self._load()
        for name, known in self._entries.items():
            if known is entry:
                return name
        raise Refusal(f"{self.concept} {getattr(entry, '__name__', entry)} is not registered")

    def source(self, name: str) -> str:
        """SHA-256 of the extension, or else the file, that registered an entry; empty if no file did."""
        self._load()
        extension = extensions.extension_of(self._origins[name])
        if extension is not None:
            return extensions.EXTENSIONS[extension]
        file = getattr(sys.modules.get(self._origins[name]), "__file__", None)
        return digest(Path(file).read_bytes()) if file else ""

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def _load(self) -> None:
        """Import the built-in entries, once."""
        modules, self._modules = self._modules, ()
        for module in modules:
            importlib.import_module(module)
        if self._package is not None:
            name, self._package = self._package, None
            for found in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
                importlib.import_module(found.name)
            # The order must not depend on which of the modules was imported earlier.
            own = {entry: self._origins[entry].startswith(f"{name}.") for entry in self._entries}
            order = sorted(filter(own.get, own)) + [entry for entry in own if not own[entry]]
            self._entries = {entry: self._entries[entry] for entry in order}
