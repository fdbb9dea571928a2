"""Extensions: modules of users that are imported by name and register what they define. Never imports torch."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from core.errors import Refusal
from core.records import digest, to_json

EXTENSIONS: dict[str, str] = {}
"""SHA-256 of every loaded extension, by name. It has only those that the user named."""
_USED: set[str] = set()
"""Extensions of which an entry was taken from a registry by name."""


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
    EXTENSIONS[name] = _digest_of(files_of(name))


def files_of(name: str) -> list[Path]:
    """The files of a loaded extension: a module's own; of one in a package, all Python files of its folder."""
    module = sys.modules[name]
    file = Path(str(module.__file__))
    in_a_package = module.__spec__ is not None and module.__spec__.parent
    return sorted(file.parent.rglob("*.py")) if in_a_package else [file]


def extension_of(module: str) -> str | None:
    """The extension that a module is, or whose package it is in."""

    def is_in(package: str) -> bool:
        return bool(package) and module.startswith(f"{package}.")

    own = (name for name in EXTENSIONS if module == name or is_in(name))
    beside = (name for name in EXTENSIONS if is_in(name.rpartition(".")[0]))
    return next(own, None) or next(beside, None)


def use(origin: str) -> None:
    """Note that an entry which a module registered was taken from its registry."""
    if (name := extension_of(origin)) is not None:
        _USED.add(name)


def used_extensions() -> dict[str, str]:
    """SHA-256 of the loaded extensions by name, if this process used an entry of one. One may import another."""
    return dict(EXTENSIONS) if _USED & EXTENSIONS.keys() else {}


def changed_extensions(recorded: Mapping[str, str]) -> list[str]:
    """Names of recorded extensions that are imported now with other code, or in whose place another one is.

    Args:
        recorded: SHA-256 by name, as a manifest holds them.
    """
    changed = [name for name, sha256 in recorded.items() if EXTENSIONS.get(name, sha256) != sha256]
    others = {name: sha256 for name, sha256 in EXTENSIONS.items() if name not in recorded}
    gone = [name for name in recorded if name not in EXTENSIONS and recorded[name] not in others.values()]
    return changed + (gone if others else [])


def _digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of a file; or of the names and contents of several, which lie in one folder."""
    if len(files) == 1:
        return digest(files[0].read_bytes())
    folder = os.path.commonpath([file.parent for file in files])
    named = [[file.relative_to(folder).as_posix(), digest(file.read_bytes())] for file in files]
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
