"""Files that are made again at each call, in a folder that may hold files of others. Never imports torch."""

import json
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from core.errors import Refusal
from core.reading import is_of_texts, is_plain_name, read_json
from core.records import digest, require_no_link, write_bytes

RECORD = "plot.json"
"""File in the folder that holds the SHA-256 of every file that was made there, by its path in the folder."""
FIGURES = "figures"
"""The only folder in the folder."""


_WHAT = "a record of figures; move it and what was drawn there away"
_SHA256 = re.compile("[0-9a-f]{64}")


class Drawn:
    """Figures and tables in a folder. Only what was made there, and was not changed since, is replaced or removed.

    Args:
        folder: the folder; it is made with the first file.

    Raises:
        Refusal: the folder's record is damaged or of somebody else, names files outside the folder, or it or
            figures/ is a symbolic link.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._record = folder / RECORD
        self._made: dict[str, str] = {}
        require_no_link(folder / FIGURES)
        require_no_link(self._record)
        if os.path.lexists(self._record):
            self._made = read_json(self._record, _WHAT)
            _require_own(self._record, self._made)

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            Refusal: another file has this name.
        """
        path = self.folder / name
        is_same = path.is_file() and path.read_bytes() == content
        if os.path.lexists(path) and not is_same and not self._is_own(name):
            raise Refusal(
                f"{path} was not made here, or was changed since: move it away, or choose another --out"
            )
        write_bytes(path, content)
        self._note(name, digest(content))

    def names(self, *patterns: str) -> list[str]:
        """Names of files that were made at earlier calls and fit one of some patterns."""
        return [name for name in self._made if any(fnmatchcase(name, pattern) for pattern in patterns)]

    def remove(self, name: str) -> None:
        """Remove a file that was made at an earlier call; others of this name stay."""
        if self._is_own(name):
            (self.folder / name).unlink()
            self._note(name, None)

    def _is_own(self, name: str) -> bool:
        path = self.folder / name
        return name in self._made and path.is_file() and digest(path.read_bytes()) == self._made[name]

    def _note(self, name: str, sha256: str | None) -> None:
        before = dict(self._made)
        self._made.pop(name, None)
        if sha256 is not None:
            self._made[name] = sha256
        if self._made != before:
            write_bytes(self._record, (json.dumps(self._made, indent=1, sort_keys=True) + "\n").encode())


def _require_own(record: Path, made: dict[str, str]) -> None:
    """Refuse a record that `Drawn` did not write: the files that it names are replaced and removed."""
    if not is_of_texts(made):
        raise Refusal(f"{record} is not {_WHAT}: digests by names of files are needed")
    for name, sha256 in made.items():
        if not is_plain_name(name.removeprefix(f"{FIGURES}/")):
            raise Refusal(f"{record} names {name!r}: a file in its folder or in {FIGURES}/ is needed")
        if not _SHA256.fullmatch(sha256):
            raise Refusal(f"{record} is not {_WHAT}: {sha256[:80]!r} is no SHA-256")
