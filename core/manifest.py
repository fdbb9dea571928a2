"""Manifests: records of what work was asked for and whether it is done, so that no work is done twice.

A manifest is a JSON file beside the results. It is written with the specification before the work starts. When the work
is done, the SHA-256 of every result is added. It also tells by what the results were made, and holds the SHA-256 of all
its other entries. Never imports torch.
"""

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core import extensions, locks
from core.errors import Refusal
from core.machine import machine
from core.reading import is_of_texts, is_plain_name, parse_json, read_json
from core.records import digest, require_no_link, to_json, write_bytes
from core.rows import ROWS_FORMAT

LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "minatar")
IMPORTED_LIBRARIES = {
    "sklearn": "scikit-learn",
    **{name: name for name in ("bindsnet", "norse", "snntorch", "spikingjelly", "stable_baselines3")},
}
"""Libraries that some work takes numbers from, by the name of their module."""
LOCK_PATIENCE_S = 30.0
"""Seconds to wait for another process that holds the lock."""
_REQUIRED: Mapping[str, type] = {
    "spec": dict,
    "outputs": dict,
    "command": list,
    "format": str,
}
_OPTIONAL: Mapping[str, type] = {"versions": dict, "extensions": dict, "made_with": dict, "digest": str}
"""Entries of a manifest. Older ones have no `made_with` and no `digest`."""


@functools.cache
def library_versions() -> Mapping[str, str]:
    """Versions of the libraries that can change numbers. They are read once, because every row names them."""
    return {name: version(name) for name in LIBRARIES}


def versions() -> dict[str, str]:
    """Versions of these libraries, and of those of IMPORTED_LIBRARIES that this process has imported."""
    imported = [name for module, name in IMPORTED_LIBRARIES.items() if module in sys.modules]
    return {**library_versions(), **{name: _version(name) for name in imported}}


def _version(library: str) -> str:
    """The version of a library that may have been imported from a checkout of its own."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class Record:
    """The content of a manifest file."""

    path: Path
    spec: dict[str, Any]
    outputs: dict[str, str]
    """SHA-256 of each result by file name; empty while the work is unfinished."""
    command: list[str]
    """The last command line that asked for this work, without `python -m`."""
    format: str
    """Format of rows (`core.rows.ROWS_FORMAT`) of the version of SpikeQ that wrote it."""
    versions: Mapping[str, str]
    """Versions of the libraries that can change numbers."""
    extensions: Mapping[str, str]
    """SHA-256 by name of the extensions that were imported. Finished work that used none of them has none."""
    made_with: Mapping[str, Any]
    """Source code, machine, threads, and the time it took; empty in older manifests. See `Manifest`."""

    @property
    def missing(self) -> list[Path]:
        """Recorded results whose files are missing."""
        outputs = [self.path.parent / name for name in self.outputs]
        return [output for output in outputs if not output.is_file()]

    def mismatches(self) -> Iterator[tuple[Path, str]]:
        """Every result whose file is missing or changed, with a message that says so."""
        for name, recorded in self.outputs.items():
            output = self.path.parent / name
            if not output.is_file():
                yield output, f"{output} is missing, though {self.path.name} says it was finished"
            elif digest(output.read_bytes()) != recorded:
                yield output, f"{output} was changed after {self.path.name} recorded it"


def read_manifest(path: str | os.PathLike[str]) -> Record | None:
    """The manifest at a path; None if there is no file.

    Raises:
        Refusal: the file is not a manifest, was changed, or names results outside its folder.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return None
    record = _parsed(path)
    if record is None:
        raise Refusal(f"{path} is not a manifest; move it away, or choose another --out")
    return record


def require_recorded(path: Path, sha256: str) -> None:
    """Refuse a file whose SHA-256 is not the one that a manifest beside it records.

    Args:
        path: a file that may be a result of a run, or belong to nothing.
        sha256: digest of its content in hex digits.
    """
    for record in _records_beside(path):
        if record.outputs.get(path.name, sha256) != sha256:
            raise Refusal(f"{path} was changed after {record.path.name} recorded it")


def recorded_digests(path: Path) -> list[str]:
    """The SHA-256 that manifests beside a file record for it, also if the file is missing."""
    return [record.outputs[path.name] for record in _records_beside(path) if path.name in record.outputs]


def _records_beside(path: Path) -> Iterator[Record]:
    """The manifests that may have a file among their results."""
    # Conversions write NAME.manifest.json for NAME.safetensors, NAME.quantised.safetensors and so on.
    names = path.name.split(".")
    heads = [".".join(names[:length]) for length in range(1, len(names))]
    for name in ("manifest.json", *(f"{head}.manifest.json" for head in heads)):
        beside = path.with_name(name)
        record = _parsed(beside) if beside.is_file() else None
        if record is not None:
            yield record


def _parsed(path: Path) -> Record | None:
    """The content of a manifest file; None if it is no manifest.

    Raises:
        Refusal: it is a manifest that was changed, or names results outside its folder.
    """
    try:
        content = read_json(path, "a manifest", not_finite=True)
    except Refusal:
        return None
    if not _REQUIRED.keys() <= content.keys():
        return None
    known = {**_REQUIRED, **_OPTIONAL}
    wrong = [name for name, value in content.items() if not isinstance(value, known.get(name, ()))]
    wrong += [
        name for name in ("outputs", "extensions", "versions") if not is_of_texts(content.get(name, {}))
    ]
    if not wrong and not (content["command"] and all(isinstance(word, str) for word in content["command"])):
        wrong = ["command"]
    if wrong:
        raise Refusal(f"{path} has an entry {wrong[0]!r} that this version does not know, or it is damaged")
    if content.get("digest", _digest_of(content)) != _digest_of(content):
        raise Refusal(f"{path} was changed after it was written: it does not have the digest that it holds")
    for name in content["outputs"]:  # folders of results are sent around, and results may be removed
        if not is_plain_name(name):
            raise Refusal(f"{path} names the result {name!r}: a file beside it is needed")
    return Record(
        path,
        content["spec"],
        content["outputs"],
        content["command"],
        content["format"],
        content.get("versions", {}),
        content.get("extensions", {}),
        content.get("made_with", {}),
    )


def require_unchanged_extensions(record: Record) -> None:
    """Refuse work that was done with other code of an extension than is imported now."""
    for name in extensions.changed_extensions(record.extensions):
        raise Refusal(
            f"{record.path} is of the extension {name!r} before it was changed; remove its folder, or choose another "
            "--out"
        )


def begun(content: bytes) -> bytes:
    """The content of a finished manifest as it is before its work is done: without results."""
    return _with_outputs(parse_json(content), {})


def write_copy(manifest: Path, folder: Path, outputs: Sequence[Path]) -> None:
    """Write a copy of a finished manifest beside a copy of its results, some of which are other bytes.

    Args:
        manifest: the manifest of the work.
        folder: folder of the copies.
        outputs: copies of the results, in that folder.
    """
    digests = {output.name: digest(output.read_bytes()) for output in outputs}
    content = read_json(manifest, "a manifest", not_finite=True)
    write_bytes(folder / manifest.name, _with_outputs(content, digests))


def _with_outputs(content: Mapping[str, Any], outputs: Mapping[str, str]) -> bytes:
    """A manifest with other results."""
    changed = {**content, "outputs": outputs}
    return _pretty({**changed, "digest": _digest_of(changed)})


def _digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the digest itself."""
    return digest(to_json({name: value for name, value in content.items() if name != "digest"}).encode())


def lock_of(manifest: Path) -> Path:
    """The lock file of the process that does the work of a manifest."""
    return manifest.with_suffix(".lock")


def require_free(manifest: Path, results: Sequence[Path]) -> None:
    """Refuse files that are there before the work which would make them, if there is no manifest of such work."""
    for result in results:
        if not manifest.exists() and os.path.lexists(result):
            raise Refusal(
                f"{result} exists, and {manifest.name} does not say that this command made it: move it away, or choose "
                "another --out"
            )


class Manifest:
    """The manifest of one run folder or result file, for the process that does the work.

    Finished work is done again if results are missing, as for committed rows without their weights. A manifest's entry
    `made_with` has the commit of the source code and whether it was changed, the processor, cores and threads, when the
    work began (`started`), and the seconds that it took (`wall_s`; those of killed processes are not known).

    Args:
        path: the manifest file.
        spec: JSON-able values that determine the numbers of the work.
        results: files that the work will make. Those that are there before it begins belong to somebody else.
        adjustable: entries of the specification that may differ when unfinished work is resumed.
        grows_from: specification of finished work here, to which this work adds.

    Raises:
        Refusal: other work was recorded here, an extension has changed since, the manifest is damaged, a finished
            result was changed, a file is in the way, or the folder is not writable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: dict[str, Any],
        results: Sequence[Path],
        adjustable: Sequence[str] = (),
        grows_from: Mapping[str, Any] | None = None,
    ):
        self.path = path = Path(path)
        self._results = results
        self._grows_from = grows_from
        self._adjustable = adjustable
        self._kept_from: Record | None = None  # manifest of rows that stay, whose code is told too
        self._began, self._began_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        self.spec = json.loads(to_json(spec))
        self.done = self._is_done()
        if not self.done:
            _require_writable(path.parent)

    @contextlib.contextmanager
    def work(self) -> Iterator[bool]:
        """Context in which no other process does the same work. Its value: whether there is work to do.

        The start is recorded. If the work fails before it wrote a file, the manifest and new folders are removed.
        """
        if self.done and not self._lock_file.exists():
            self._remember_command()
            yield False
            return
        made = _make_folders(self.path.parent)
        try:
            lock = self._acquire()
        except Refusal:
            _remove_empty(made)
            raise
        before = {*self.path.parent.iterdir(), self.path}
        fresh, begun = not self.path.exists(), False
        try:
            self.done = self._is_done()  # another process may have finished the work
            if not self.done:
                if (record := read_manifest(self.path)) and record.missing:
                    print(f"{record.missing[0]} is missing: the work is done again", file=sys.stderr)
                self._begin(record)
                begun = True
                self._write({})
            yield not self.done
        except Exception:
            # Files of unfinished work keep their manifest. Without it, other work could continue them as its own.
            if fresh and before.issuperset(self.path.parent.iterdir()):
                self.path.unlink(missing_ok=True)
            raise
        finally:
            if begun and not self.done and self.path.exists():
                with contextlib.suppress(OSError):  # a full disk: only the time that it took is lost
                    self._write({})
            locks.release(self._lock_file, lock)
            if not self.path.exists():
                _remove_empty(made)

    def _acquire(self) -> int:
        """Lock the lock file. Ours are empty: one with content is somebody else's."""
        require_no_link(self._lock_file)
        if self._lock_file.is_file() and self._lock_file.stat().st_size:
            raise Refusal(f"{self._lock_file} is not a lock of SpikeQ; move it away, or choose another --out")
        lock = locks.acquire(self._lock_file, LOCK_PATIENCE_S)
        if lock is None:
            raise Refusal(
                f"another process is at work on {self.path.parent}; wait for it, or choose another --out"
            )
        return lock

    @property
    def journal_spec(self) -> dict[str, Any]:
        """The specification with the code of extensions, for a `Journal`: rows of other code are not continued."""
        code = {"extensions": dict(extensions.EXTENSIONS)} if extensions.EXTENSIONS else {}
        return {**self.spec, **code}

    def finish(self, outputs: Sequence[Path]) -> None:
        """Record that the work is done, with the digests of its result files."""
        self._write({output.name: digest(output.read_bytes()) for output in outputs})
        self.done = True

    def _remember_command(self) -> None:
        """Record this command line, if finished work was asked for by another one before."""
        content = read_json(self.path, "a manifest", not_finite=True)
        if content["command"] != _command():
            self._write_content({**content, "command": _command()})

    def _is_done(self) -> bool:
        """Whether this work is finished; refuses other work and changed results."""
        record = read_manifest(self.path)
        if record is None:
            require_free(self.path, self._results)
            return False
        if record.format != ROWS_FORMAT:
            raise Refusal(
                f"{self.path} is of another version of SpikeQ, whose rows differ; choose another --out"
            )
        has_files = any(map(os.path.lexists, self._results))
        if has_files or record.outputs or record.spec != self.spec:
            require_unchanged_extensions(record)
        grows = record.spec == self._grows_from
        # A process that added rows may have been killed.
        if grows or (has_files and not record.outputs):
            self._kept_from = record
        if not grows:
            self.require_same(record.spec, finished=bool(record.outputs))
        for output, mismatch in record.mismatches():
            if output.is_file():  # missing results are made again
                raise Refusal(f"{mismatch}; remove it to run again")
        return bool(record.outputs) and not record.missing and not grows

    @property
    def _lock_file(self) -> Path:
        return lock_of(self.path)

    def _begin(self, record: Record | None) -> None:
        """Count the time of the work from now, in addition to what earlier processes of the same work took."""
        made_with = record.made_with if record is not None and not record.outputs else {}
        started, wall_s = made_with.get("started"), made_with.get("wall_s")
        self._began_at = started if isinstance(started, str) else self._began_at
        self._began = time.monotonic() - (wall_s if isinstance(wall_s, float) else 0.0)

    def _write(self, outputs: dict[str, str]) -> None:
        content: dict[str, Any] = {
            "command": _command(),
            "format": ROWS_FORMAT,
            "spec": self.spec,
            "versions": {**(self._kept_from.versions if self._kept_from else {}), **versions()},
            "outputs": outputs,
            "made_with": {
                **machine(),
                "threads": _threads(),
                "started": self._began_at,
                "wall_s": round(time.monotonic() - self._began, 1),
            },
        }
        # What will be used is not known before the work is done.
        named = extensions.used_extensions() if outputs else extensions.EXTENSIONS
        if named := {**(self._kept_from.extensions if self._kept_from else {}), **named}:
            content["extensions"] = named
        self._write_content(content)

    def _write_content(self, content: dict[str, Any]) -> None:
        content = json.loads(to_json(content))  # as it will be read
        write_bytes(self.path, _pretty({**content, "digest": _digest_of(content)}))

    def require_same(self, recorded: dict[str, Any], finished: bool) -> None:
        """Refuse a recorded specification that differs from this one. Adjustable entries of unfinished work may."""
        differing = sorted(
            key
            for key in recorded.keys() | self.spec.keys()
            if recorded.get(key) != self.spec.get(key) and (finished or key not in self._adjustable)
        )
        if differing:
            changes = ", ".join(
                f"{key} is {recorded.get(key)!r} there and {self.spec.get(key)!r} here" for key in differing
            )
            raise Refusal(
                f"{self.path} is of another specification ({changes}); remove its folder, or choose another"
            )


def _command() -> list[str]:
    """This process's command line without `python -m`. Bytes that are not UTF-8 become escapes, as in "\\xff"."""
    program = Path(sys.argv[0])
    words = [program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]]
    return [os.fsencode(word).decode(errors="backslashreplace") for word in words]


def _threads() -> int | None:
    """CPU threads of torch in this process; None if it does not use torch."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def _pretty(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents. Returns the new ones, outermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that `_make_folders` made. Those with files of others stay."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before hours of work: its nearest existing parent must be writable."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(f"cannot write to {folder}: {nearest} is not a folder this user may write to")
