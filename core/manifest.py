"""What a piece of work was asked to do, and whether it was done: so that asking twice does it once.

A manifest lies beside what it describes. It is written before the work starts (with the specification) and
again when the work is done (with the SHA-256 of every result). Never imports torch.
"""

import contextlib
import fcntl
import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import Refusal
from core.records import digest, to_json, write_bytes
from core.rows import ROWS_FORMAT

LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "minatar")
LOCK_PATIENCE_S = 30.0


@functools.cache
def library_versions() -> Mapping[str, str]:
    """Versions of the libraries that can change numbers; read once, because every row names them."""
    return {name: version(name) for name in LIBRARIES}


@dataclass(frozen=True)
class Record:
    """A manifest as it was found."""

    path: Path
    spec: dict[str, Any]
    outputs: dict[str, str]
    """SHA-256 of each result by file name; empty while the work is unfinished."""
    command: list[str]
    """The command line that last asked for it, after `python -m`."""
    format: str
    """Of the rows that the version of SpikeQ that made it writes."""

    @property
    def missing(self) -> list[Path]:
        """Results that were recorded and are not there."""
        outputs = [self.path.parent / name for name in self.outputs]
        return [output for output in outputs if not output.is_file()]

    def mismatches(self) -> Iterator[tuple[Path, str]]:
        """Every result that is not what was recorded, and what is wrong with it."""
        for name, recorded in self.outputs.items():
            output = self.path.parent / name
            if not output.is_file():
                yield output, f"{output} is missing, though {self.path.name} says it was finished"
            elif digest(output.read_bytes()) != recorded:
                yield output, f"{output} was changed after {self.path.name} recorded it"


def read_manifest(path: Path) -> Record | None:
    """The manifest at a path, or None if there is none; refuses what is not a manifest."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        record = Record(path, content["spec"], content["outputs"], content["command"], content["format"])
        if isinstance(record.spec, dict) and isinstance(record.outputs, dict):
            return record
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        pass
    raise Refusal(f"{path} is not a manifest; move it away, or choose another --out")


class Manifest:
    """The manifest of one run folder, or of one result file, held by the process that works on it.

    Args:
        path: where the manifest lies.
        spec: all that decides the numbers of the work, JSON-able.
        adjustable: entries of the specification that unfinished work may be resumed with other values of.

    Finished work whose results are not all there (committed rows come without the weights they are of) is done again.

    Raises:
        Refusal: another specification was run here, the manifest is damaged, a finished result was changed, or the
            place cannot be written.
    """

    def __init__(self, path: Path, spec: dict[str, Any], adjustable: Sequence[str] = ()):
        self.path = path
        self._adjustable = adjustable
        self.spec = json.loads(to_json(spec))
        self.done = self._is_done()
        if not self.done:
            _require_writable(path.parent)

    @contextlib.contextmanager
    def work(self) -> Iterator[bool]:
        """Enter the work: whether there is any to do, and if so, no other process does it meanwhile.

        That it began is recorded. Where it is refused before it gave anything, nothing is left of it.
        """
        if self.done and not self._lock_file.exists():
            self._remember_command()
            yield False
            return
        made = _make_folders(self.path.parent)
        lock = self._acquire()
        before = {*self.path.parent.iterdir(), self.path}
        fresh = not self.path.exists()
        try:
            self.done = self._is_done()  # another process may have finished it meanwhile
            if not self.done:
                if (record := read_manifest(self.path)) and record.missing:
                    print(f"{record.missing[0]} is missing: the work is done again", file=sys.stderr)
                self._write({})
            yield not self.done
        except (Refusal, OSError):
            # What was begun keeps its manifest: without it, other work could take it for its own.
            if fresh and before.issuperset(self.path.parent.iterdir()):
                self.path.unlink(missing_ok=True)
            raise
        finally:
            self._lock_file.unlink(missing_ok=True)
            os.close(lock)
            if not self.path.exists():
                for folder in reversed(made):
                    with contextlib.suppress(OSError):  # not empty: somebody else's files stay
                        folder.rmdir()

    def _acquire(self) -> int:
        """Hold the lock file; wait a while, because a killed predecessor may be saving its last state."""
        give_up = time.monotonic() + LOCK_PATIENCE_S
        while True:
            lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its holder removes the file when it leaves: what was locked may be nobody's file any more.
                if self._lock_file.exists() and os.fstat(lock).st_ino == self._lock_file.stat().st_ino:
                    return lock
            except BlockingIOError:
                pass
            os.close(lock)
            if time.monotonic() > give_up:
                raise Refusal(
                    f"another process is at work on {self.path.parent}; wait for it, or choose another --out"
                )
            time.sleep(0.1)

    def finish(self, outputs: Sequence[Path]) -> None:
        """Record that the work is done, and what it gave."""
        self._write({output.name: digest(output.read_bytes()) for output in outputs})
        self.done = True

    def _remember_command(self) -> None:
        """Finished work may be asked for in other words; who asked last is recognised next time."""
        content = json.loads(self.path.read_text())
        if content["command"] != _command():
            write_bytes(self.path, _pretty({**content, "command": _command()}))

    def _is_done(self) -> bool:
        """Whether this very work was finished here; refuses what stands in its way."""
        record = read_manifest(self.path)
        if record is None:
            return False
        if record.format != ROWS_FORMAT:
            raise Refusal(
                f"{self.path} is of another version of SpikeQ, whose rows differ; choose another --out"
            )
        self.require_same(record.spec, finished=bool(record.outputs))
        for output, mismatch in record.mismatches():
            if output.is_file():  # what is missing is made again
                raise Refusal(f"{mismatch}; remove {self.path} to run again")
        return bool(record.outputs) and not record.missing

    @property
    def _lock_file(self) -> Path:
        return self.path.with_suffix(".lock")

    def _write(self, outputs: dict[str, str]) -> None:
        content = {
            "command": _command(),
            "format": ROWS_FORMAT,
            "spec": self.spec,
            "versions": library_versions(),
            "outputs": outputs,
        }
        write_bytes(self.path, _pretty(content))

    def require_same(self, recorded: dict[str, Any], finished: bool) -> None:
        """Refuse a specification that is not this one; that of unfinished work may differ where it is adjustable."""
        differing = sorted(
            key
            for key in recorded.keys() | self.spec.keys()
            if recorded.get(key) != self.spec.get(key) and (finished or key not in self._adjustable)
        )
        if differing:
            changes = ", ".join(
                f"{key} is {recorded.get(key)!r} there and {self.spec.get(key)!r} here" for key in differing
            )
            raise Refusal(f"{self.path} is of another specification ({changes}); choose another --out")


def _command() -> list[str]:
    """What was typed behind `python -m`."""
    program = Path(sys.argv[0])
    return [program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]]


def _pretty(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents; those that were not there, outermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _require_writable(folder: Path) -> None:
    """Refuse now what would fail after hours: the nearest existing parent must be a writable folder."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(f"cannot write to {folder}: {nearest} is not a folder this user may write to")
