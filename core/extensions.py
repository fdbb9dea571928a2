"""Extensions: modules of users that are imported by name and register what they define. Never imports torch."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

from core.errors import Refusal
from core.records import digest, to_json

EXTENSIONS: dict[str, str] = {}
"""SHA-256 of every loaded extension, by name. It has only those that the user named."""
_USED: set[str] = set()
"""Extensions of which an entry was taken from a registry."""


def load_extension(name: str, folder: str | os.PathLike[str] = ".") -> None:
    """Import a module that the user named (--extension NAME), which registers what it defines.

    Args:
        name: a module on Python's path or in the folder, as in my_module or my_package.my_module.
        folder: the working directory, or that of the study which names the extension.

    Raises:
        Refusal: there is no such module, or it cannot be imported.
    """
    if name in EXTENSIONS:
        return
    here = str(Path(folder).absolute())
    if here not in sys.path:
        sys.path.append(here)  # last: nothing there hides a module of ours or of Python
    try:
        spec = _find(name)
        if spec is None or spec.origin is None or not spec.has_location:
            is_path = name.endswith(".py") or "/" in name
            hint = f"; the name of a module is needed, as in --extension {Path(name).stem}" if is_path else ""
            raise Refusal(f"no such module in {here} or on Python's path{hint}")
        importlib.import_module(name)
    except Refusal as refusal:
        raise Refusal(f"extension {name!r}: {refusal}")
    except (Exception, SystemExit) as error:
        raise Refusal(f"extension {name!r} cannot be imported: {type(error).__name__}: {error}")
    EXTENSIONS[name] = _digest_of(spec)


def extension_of(module: str) -> str | None:
    """The extension that a module is, or whose package it is in."""
    return next((name for name in EXTENSIONS if module == name or module.startswith(f"{name}.")), None)


def use(origin: str) -> None:
    """Note that an entry which a module registered was taken from its registry."""
    if (name := extension_of(origin)) is not None:
        _USED.add(name)


def used_extensions() -> dict[str, str]:
    """SHA-256 by name of the loaded extensions of which an entry was used in this process."""
    return {name: sha256 for name, sha256 in EXTENSIONS.items() if name in _USED}


def changed_extensions(recorded: Mapping[str, str]) -> list[str]:
    """Names of extensions that are imported now with other code than was recorded.

    Args:
        recorded: SHA-256 by name, as a manifest holds them.
    """
    return [name for name, sha256 in recorded.items() if EXTENSIONS.get(name, sha256) != sha256]


def _digest_of(spec: ModuleSpec) -> str:
    """SHA-256 of the file of a module. Of one in a package: of all Python files of the package's folder."""
    file = Path(str(spec.origin))
    if not spec.parent:
        return digest(file.read_bytes())
    files = sorted(file.parent.rglob("*.py"))
    named = [[each.relative_to(file.parent).as_posix(), digest(each.read_bytes())] for each in files]
    return digest(to_json(named).encode())


def _find(name: str) -> ModuleSpec | None:
    """Where Python finds a module; None if it does not. Packages around the module are imported."""
    if name.startswith("."):
        return None
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise  # a package around the module imports something that is missing
    except ValueError:
        return None
