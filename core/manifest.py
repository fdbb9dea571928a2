"""What a piece of work was asked to do, and whether it was done: so that asking twice does it once.

A manifest lies beside what it describes. It is written before the work starts (with the specification) and
again when the work is done (with the SHA-256 of every result). Never imports torch.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import Refusal
from core.records import to_json, write_bytes

LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "minatar")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change numbers."""
    return {name: version(name) for name in LIBRARIES}


class Manifest:
    """The manifest of one run folder, or of one result file.

    Args:
        path: where the manifest lies.
        spec: all that decides the numbers of the work, JSON-able.

    Raises:
        Refusal: another specification was run here, the manifest is damaged, a finished result is
            missing or changed, or the place cannot be written.
    """

    def __init__(self, path: Path, spec: dict[str, Any]):
        self.path = path
        self.spec = json.loads(to_json(spec))
        self.done = False
        if path.exists():
            self._check_existing()
        else:
            _require_writable(path.parent)

    def start(self) -> None:
        """Record that the work began."""
        self._write({})

    def finish(self, outputs: Sequence[Path]) -> None:
        """Record that the work is done, and what it gave."""
        self._write({output.name: _digest(output) for output in outputs})
        self.done = True

    def _write(self, outputs: dict[str, str]) -> None:
        content = {"spec": self.spec, "versions": library_versions(), "outputs": outputs}
        write_bytes(self.path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def _check_existing(self) -> None:
        try:
            content = json.loads(self.path.read_text())
            recorded, outputs = content["spec"], content["outputs"]
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
            raise Refusal(f"{self.path} is not a manifest; move it away, or choose another --out")
        if recorded != self.spec:
            differing = sorted(
                key
                for key in recorded.keys() | self.spec.keys()
                if recorded.get(key) != self.spec.get(key)
            )
            changes = ", ".join(f"{key} {recorded.get(key)!r} there, {self.spec.get(key)!r} here" for key in differing)
            raise Refusal(f"{self.path.parent} holds work of another specification ({changes}); choose another --out")
        for name, digest in outputs.items():
            output = self.path.parent / name
            if not output.is_file():
                raise Refusal(f"{output} is missing, though {self.path.name} says it was finished; remove the manifest to run again")
            if _digest(output) != digest:
                raise Refusal(f"{output} does not match {self.path.name} (changed since it was finished); remove both to run again")
        self.done = bool(outputs)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_writable(folder: Path) -> None:
    """Refuse now what would fail after hours: the nearest existing parent must be a writable folder."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Refusal(f"cannot write to {folder}: {nearest} is not a folder this user may write to")
