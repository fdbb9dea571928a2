"""Generated texts that a command makes again at each call: tables in Markdown and pages in HTML. Never imports torch.

The last line of such a file is a comment with the digest of the others. Only a text that is as a command wrote it is
replaced.
"""

import os
import re
from pathlib import Path

from core.errors import Refusal
from core.records import digest, write_bytes

_SEAL = re.compile(rb"<!-- Made by SpikeQ\. SHA-256 of the text above: ([0-9a-f]{64}) -->\n")


def write_generated(path: str | os.PathLike[str], text: bytes) -> None:
    """Write a generated text, atomically.

    Args:
        path: the file; missing folders are made.
        text: Markdown or HTML that ends with a newline.

    Raises:
        Refusal: there is another file, or one that was changed after it was made.
    """
    require_as_made(path)
    write_bytes(
        path, text + b"<!-- Made by SpikeQ. SHA-256 of the text above: %s -->\n" % digest(text).encode()
    )


def require_as_made(path: str | os.PathLike[str]) -> None:
    """Refuse a place for a generated text where there is another file, or one that was changed. A missing one is fine.

    Raises:
        Refusal: the message names the file.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_file() and is_as_made(path.read_bytes())):
        raise Refusal(
            f"{path} was not made by SpikeQ, or was changed since: move it away, or choose another --out"
        )


def is_as_made(content: bytes) -> bool:
    """Whether a file is one of `write_generated`, and unchanged."""
    found = list(_SEAL.finditer(content))
    if not found or found[-1].end() != len(content):
        return False
    return found[-1][1].decode() == digest(content[: found[-1].start()])
