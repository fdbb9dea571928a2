"""Loops compiled to machine code by Numba, which is kept for the next process. The one decorator for all of them.

Numba's own cache knows the file of a function, but not those of the functions that it compiles into it. Here the name
of a kept file is a digest of all that the machine code was made of. So no change leaves old machine code in use.
"""

import contextlib
import inspect
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import llvmlite  # type: ignore[import-untyped]
import numba
from numba.core.caching import IndexDataCacheFile, NullCache
from numba.core.compiler import CompileResult

from core.places import HOUSE
from core.records import digest, write_bytes

KEPT_UNUSED_S = 30 * 24 * 3600.0
"""Seconds after its last use at which kept machine code is deleted."""
OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""Permissions of others than the owner to write."""

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Decorate a function that Numba compiles at its first call, or loads if an earlier process compiled it.

    Args:
        options: of `numba.njit`.
    """

    def decorate(function: Function) -> Function:
        dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
        dispatcher._cache = _Kept(function)
        return dispatcher

    return decorate


class _Kept(NullCache):
    """Machine code of one function, kept by Numba's own reader and writer, apart for each combination of types.

    Numba keeps all combinations under one index. Two processes that compile at once could mix them up there.
    """

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The machine code for some types of arguments; None if there is none, or if a file is damaged."""
        target.refresh()
        with contextlib.suppress(Exception):  # what cannot be loaded is compiled
            folder, name = self._place(signature, target.codegen())
            seal = folder / f"{name}.sha256"
            if seal.read_text("utf-8") != _digest_of_files(folder, name):
                return None
            # Only this user can have written the files: see `_folder`.
            loaded = CompileResult._rebuild(target, *IndexDataCacheFile(str(folder), name, name).load(name))
            for file in (*_files(folder, name), seal):
                os.utime(file)
            return loaded
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep machine code for the next process, if there is a place for it."""
        if result.lifted or result.library.has_dynamic_globals:  # it has addresses of this process
            return
        with contextlib.suppress(OSError):
            folder, name = self._place(signature, result.codegen)
            for damaged in _files(folder, name):
                damaged.unlink(missing_ok=True)
            IndexDataCacheFile(str(folder), name, name).save(name, result._reduce())
            write_bytes(folder / f"{name}.sha256", _digest_of_files(folder, name).encode())
            for other in folder.iterdir():
                if time.time() - other.stat().st_mtime > KEPT_UNUSED_S:
                    other.unlink()

    def _place(self, signature: Any, codegen: Any) -> tuple[Path, str]:
        """The folder, and what the names of files begin with, for some types of arguments.

        Raises:
            OSError: no folder can be used.
        """
        folder = _folder()
        if folder is None:
            raise FileNotFoundError
        switches = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
        versions = (numba.__version__, llvmlite.__version__, sys.version)
        made_of = (*_parts(self._function), signature, codegen.magic_tuple(), versions, switches)
        key = digest("\n".join(map(str, made_of)).encode())
        return folder, f"{self._function.__module__}.{self._function.__name__}-{key[:32]}"


def _files(folder: Path, name: str) -> list[Path]:
    """The files that Numba writes: an index, and what it points to."""
    return sorted(folder.glob(f"{name}.*nb[ic]"))


def _digest_of_files(folder: Path, name: str) -> str:
    return digest(b"".join(file.read_bytes() for file in _files(folder, name)))


def _parts(function: Callable[..., Any]) -> Iterator[str]:
    """All that a function's machine code is made of: digests of source files, and values of constants.

    The files are those of the function, of every compiled function that it calls, and of this decorator.
    """
    files, seen, pending = {__file__}, set(), [function]
    while pending:
        each = inspect.unwrap(pending.pop())
        if each in seen:
            continue
        seen.add(each)
        files.add(each.__code__.co_filename)
        found = inspect.getclosurevars(each)
        for name, value in sorted({**found.globals, **found.nonlocals}.items()):
            if hasattr(value, "__wrapped__"):
                pending.append(value)
            elif not isinstance(value, ModuleType):
                yield f"{name} = {value!r}"
            elif HOUSE in Path(file := getattr(value, "__file__", None) or "").parents:
                files.add(str(file))
    for file in sorted(files):
        yield digest(Path(file).read_bytes())


def _folder() -> Path | None:
    """The folder for machine code, which is made if it is missing; None if there can be none.

    Kept files are pickles, which can do anything when they are loaded. So nobody else may be able to write to the
    folder, or to replace it by another one.
    """
    environment = os.environ
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for place in (environment.get("NUMBA_CACHE_DIR", ""), Path(__file__).parent / "__pycache__", home):
        if not os.path.isabs(place):  # not given, or a user without a home
            continue
        folder = Path(place) / "spikeq-compiled"
        with contextlib.suppress(OSError):
            Path(place).mkdir(exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            around, about = Path(place).stat().st_mode, folder.lstat()
            own = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
            if own and not about.st_mode & OTHERS and (not around & OTHERS or around & stat.S_ISVTX):
                return folder
    return None
