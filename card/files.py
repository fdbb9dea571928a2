"""Card files: reading with a check of the schema, and writing. Never imports torch."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import jsonschema

from core.errors import Refusal
from core.manifest import read_manifest, require_recorded
from core.reading import read_json
from core.records import digest, write_bytes

CARD = "card.json"
"""Name of the file."""
VERB = "card"
"""What the manifest of a card calls its work."""


def is_of_card(folder: Path) -> bool:
    """Whether a folder is that of a card, finished or not."""
    if (folder / CARD).exists():
        return True
    record = read_manifest(folder / "manifest.json")
    return record is not None and record.spec.get("verb") == VERB


@functools.cache
def validator() -> Any:
    """The validator of card/schema.json."""
    schema = json.loads((Path(__file__).parent / "schema.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema)


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card in a file.

    Raises:
        Refusal: there is no such file, it is not a card, or it was changed after its manifest recorded it.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no card at {path}")
    found: dict[str, Any] = read_json(path, "a card")
    require_schema(found, path)
    require_recorded(path, digest(path.read_bytes()))
    return found


def require_schema(card: Any, path: Path) -> None:
    """Refuse a value that the schema does not describe. The message names the first wrong entry."""
    error = jsonschema.exceptions.best_match(validator().iter_errors(card))
    if error is not None:
        raise Refusal(f"{path} is not a card: {error.json_path}: {error.message[:200]}")


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Write a card, whose schema is checked first."""
    require_schema(card, path)
    write_bytes(path, (json.dumps(card, indent=1, allow_nan=False) + "\n").encode())
