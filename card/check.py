"""Check a card: its schema, its rows, what follows from them, and some of its games. Never imports torch."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from card import battery
from card.battery import Battery
from card.content import measured
from card.files import read_card
from core.errors import Refusal
from core.extensions import EXTENSIONS
from core.games import get_game
from core.machine import machine
from core.manifest import library_versions
from core.reading import read_json
from core.records import digest, read_rows, write_bytes
from core.rows import EpisodeRow

CHECK = "check.json"
"""Name of the file that records a passed check, beside the card."""
CHECKED_EPISODES = 10
"""Games that are played again unless the user says otherwise."""
ENTRIES = {"card_sha256", "episodes", "made_with"}
"""Entries of the record."""
MEASURED = ("scores", "activity", "operations", "robustness")
"""Entries of a card that follow from its rows."""
_WHAT = "the record of a check; move it away"


def check(path: Path, agent: str | None, episodes: int | None, threads: int) -> Iterator[str]:
    """Verify a card.

    Args:
        path: the card.
        agent: the agent, if it is not where the card says.
        episodes: games to play again, the first ones; 0 plays none. None plays CHECKED_EPISODES, or all if there are
            fewer.
        threads: CPU threads; 0 takes all.

    Yields:
        A line for each thing that holds.

    Raises:
        Refusal: something does not hold, or a file that no check wrote has the name of the record.
    """
    card = read_card(path)
    _require_own_record(path.parent / CHECK)
    if episodes is None:
        episodes = min(CHECKED_EPISODES, len(card["scores"]["episodes"]))
    if episodes:
        _require_extensions(card)  # before the work, and before anything is said to hold
    yield "the schema holds"
    for name, recorded in card["files"].items():
        file = path.parent / name
        if "\0" in name or not file.resolve().is_relative_to(path.parent.resolve()) or not file.is_file():
            raise Refusal(f"{file}, which the card names, is missing")
        if digest(file.read_bytes()) != recorded:
            raise Refusal(f"{file} was changed after the card recorded it")
    yield f"{len(card['files'])} files of rows have the digests of the card"
    _require_measured(card, path.parent)
    yield "scores, activity, operations and robustness follow from the rows"
    if episodes:
        _play_again(card, path.parent, agent or card["agent"]["given"], episodes, threads)
        yield f"{episodes} games of {card['agent']['label']}, played again, have the same scores and lengths"
    record = {
        "card_sha256": digest(path.read_bytes()),
        "episodes": episodes,
        "made_with": {"versions": dict(library_versions()), **machine()},
    }
    write_bytes(path.parent / CHECK, (json.dumps(record, indent=1) + "\n").encode())


def is_checked(path: Path) -> int:
    """Number of games that were played again when the card was checked; 0 if it was not, or was changed since."""
    try:
        record = read_json(path.parent / CHECK, _WHAT)
        same = record["card_sha256"] == digest(path.read_bytes())
        return record["episodes"] if same and type(record["episodes"]) is int else 0
    except (OSError, Refusal, KeyError):
        return 0


def _require_own_record(path: Path) -> None:
    """Refuse a file that does not have the entries of a record, which would be replaced."""
    if os.path.lexists(path) and read_json(path, _WHAT).keys() != ENTRIES:
        raise Refusal(f"{path} is not {_WHAT}: its entries are not {', '.join(sorted(ENTRIES))}")


def _require_measured(card: dict[str, Any], folder: Path) -> None:
    """Compare the card with what its rows say, value by value."""
    refused = {
        part: card[entry]["refused"]
        for part, entry in (("operations", "operations"), ("states", "robustness"))
        if card[entry] is not None and "refused" in card[entry]
    }
    found = json.loads(json.dumps(measured(folder, refused)))
    for entry in MEASURED:
        if card[entry] != found[entry]:
            raise Refusal(f"{entry} of the card are not what its rows say")


def _require_extensions(card: dict[str, Any]) -> None:
    """Refuse to play the games of a card whose extensions were not named, or changed."""
    for name, recorded in card["agent"]["extensions"].items():
        if EXTENSIONS.get(name) != recorded:
            state = "was not named (--extension)" if name not in EXTENSIONS else "has changed since"
            raise Refusal(f"extension {name!r} of the card {state}")


def _play_again(card: dict[str, Any], folder: Path, agent: str, episodes: int, threads: int) -> None:
    """Play the first games of a card again, and compare.

    Raises:
        Refusal: a score or a length differs, or the agent is another one.
    """
    wanted = card["scores"]["episodes"][:episodes]
    if len(wanted) < episodes:
        raise Refusal(f"episodes is {episodes}: the card has {len(wanted)} games")
    asked = Battery(agent, get_game(card["game"]), episodes, threads=threads)
    part = next(asked.parts())
    with tempfile.TemporaryDirectory() as scratch:
        reason = battery.start(part.words, asked, Path(scratch))
        if reason is not None:
            raise Refusal(f"{agent} cannot be played again: {reason}")
        rows = read_rows(Path(scratch) / "episodes.parquet", EpisodeRow)
    if rows[0].checkpoint_id != card["agent"]["id"]:
        raise Refusal(f"{agent} is {rows[0].checkpoint_id}, and the card is of {card['agent']['id']}")
    for row, game in zip(rows, wanted, strict=True):
        again = {"episode": row.episode, "score": row.score, "length_steps": row.length_steps}
        if again != game:
            raise Refusal(
                f"game {row.episode} ends at score {again['score']:g} after {again['length_steps']} decisions; "
                f"the card says {game['score']:g} after {game['length_steps']}"
            )
