"""Zip files of other projects: opened only after what they say of themselves is checked."""

import contextlib
import io
import zipfile
from collections.abc import Iterator

from core.errors import Refusal

SIGNATURE = b"PK\x03\x04"
MAX_BYTES = 2**26
"""Largest accepted size of a file, and of what it unpacks to. A Nature-DQN with its target network and optimiser state
takes 27 MB."""
MAX_MEMBERS = 2**14
"""Largest number of members. Each takes a thousand bytes of memory, and next to none in the file."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Accepted methods of compression. Of these alone, Python unpacks as many bytes at a time as it is asked for."""


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[zipfile.ZipFile]:
    """A zip whose members can be read one after the other.

    Raises:
        Refusal: it has too many members or one twice, unpacks to more than MAX_BYTES, or uses another method.
        Exception: it is damaged.
    """
    if content.count(b"PK\x01\x02") > MAX_MEMBERS:  # the signature before each member in the list of members
        raise Refusal(f"a zip of more than {MAX_MEMBERS:,} members")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        require_bounded(sum(member.file_size for member in members))
        if len(set(archive.namelist())) < len(members):
            raise Refusal("a zip that has a member twice")
        if any(member.compress_type not in _METHODS for member in members):
            raise Refusal("a zip with members that are neither stored nor deflated")
        yield archive


def repacked(content: bytes) -> bytes:
    """A zip with the same members, not compressed.

    Readers of zips disagree about files that are made to confuse them. This file can be read in one way only, so what
    was checked is what another reader finds.

    Raises:
        as of `opened`.
    """
    target = io.BytesIO()
    with opened(content) as archive, zipfile.ZipFile(target, "w") as clean:
        for name in archive.namelist():
            clean.writestr(zipfile.ZipInfo(name), archive.read(name))
    return target.getvalue()


def require_bounded(size_bytes: int) -> None:
    """Refuse more than MAX_BYTES."""
    if size_bytes > MAX_BYTES:
        raise Refusal(
            f"more than {MAX_BYTES >> 20} MiB, packed or unpacked: a Nature-DQN needs less than half of that"
        )
