"""Check the rows of a study: schema, values, manifests, mixed protocols, gaps, duplicates. Never imports torch."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.rows import ROW_FILES
from analysis.trainings import Name, name_of, shared_names
from analysis.values import value_faults
from core.errors import Refusal
from core.manifest import Record, read_manifest
from core.records import read_rows
from core.rows import (
    AttackRow,
    EpisodeRow,
)
from core.words import command_line

MOST_CHARACTERS = 500
"""A finding is one line, no longer than this."""


def findings(study: Path) -> Iterator[str]:
    """One line for each fault under a folder.

    Args:
        study: the folder of a study, or any folder with rows below it.

    Raises:
        Refusal: the folder holds no rows.
    """
    for fault in _faults(study):
        line = "".join(letter if letter.isprintable() else "?" for letter in fault[: MOST_CHARACTERS + 1])
        yield line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 4]} ..."


def _faults(study: Path) -> Iterator[str]:
    files = sorted(study.rglob("*.parquet"))
    if not files:
        raise Refusal(f"no rows under {study}: name a folder with .parquet files written by SpikeQ")
    recorded: set[Path] = set()
    unfinished: set[Path] = set()
    for manifest in sorted(study.rglob("*manifest.json")):
        try:
            record = read_manifest(manifest)
        except Refusal as refusal:
            yield str(refusal)
            continue
        if record is not None:
            recorded |= {manifest.parent / name for name in record.outputs}
            unfinished |= set() if record.outputs else {manifest.parent}
            yield from _manifest_faults(record)
    scored: dict[Path, list[EpisodeRow]] = {}
    attacked: list[EpisodeRow] = []
    trained: dict[tuple[Name | None, str, int], Any] = {}  # one row of each
    rows: list[Any]
    for path in files:
        row_type = next((files.row_type for files in ROW_FILES if files.are_named_like(path)), None)
        name = path.relative_to(study)
        if path.name.startswith("."):
            if path.parent not in unfinished:
                yield f"{name}: left by an interrupted command that nothing resumes; it can be removed"
            continue
        if row_type is None:
            yield f"{name}: not a name of a file of rows"
            continue
        try:
            rows = read_rows(path, row_type)
        except Refusal as refusal:
            yield str(refusal)
            continue
        if path not in recorded:
            yield f"{name}: not listed in a finished manifest"
        yield from (f"{name}: {fault}" for fault in value_faults(rows, row_type))
        if row_type in (EpisodeRow, AttackRow):
            yield from (f"{name}: {fault}" for fault in _episode_faults(rows))
        elif twice := len(rows) - len(set(map(str, rows))):
            yield f"{name}: {twice} duplicate rows"
        for row in rows:
            trained.setdefault(
                (name_of(row), getattr(row, "training", ""), getattr(row, "train_seed", -1)), row
            )
        if path.name == "episodes.parquet":
            scored[name] = rows
        if row_type is AttackRow:
            attacked += rows
    everyone = [row for rows in scored.values() for row in rows]
    yield from _mixtures(everyone, "scores")
    yield from _different_numbers(everyone)
    yield from _mixtures(attacked, "scores under attack")
    yield from _doubles(scored)
    yield from _missing_seeds(everyone)
    yield from _shared_names(trained.values())


def _manifest_faults(record: Record) -> Iterator[str]:
    if not record.outputs:
        yield f"{record.path}: unfinished; {command_line(record.command)} resumes it"
    for output, mismatch in record.mismatches():
        # Weights may be absent: committed studies ship them elsewhere.
        if output.suffix == ".parquet" or output.exists():
            yield mismatch


def _episode_faults(rows: Sequence[EpisodeRow]) -> Iterator[str]:
    """Duplicate episodes and missing episode numbers."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row in rows:
        attack = (row.attack, row.gradient_source, row.threat) if isinstance(row, AttackRow) else ()
        which = (row.game, row.agent, row.train_seed, row.train_steps, row.checkpoint_id, row.checkpoint)
        groups[(*which, row.eval_seed, row.variant, *attack)].append(row.episode)
    for key, episodes in groups.items():
        name = " ".join(str(part) for part in key if part != "")
        twice = sorted(episode for episode, times in Counter(episodes).items() if times > 1)
        if twice:
            yield f"{name}: duplicate episode {twice[0]} ({len(twice)} in all)"
        # Episodes are numbered without gaps. A converted network may start at a number above 0.
        played = sorted(set(episodes))
        missing = played[-1] - played[0] + 1 - len(played)
        if missing:
            first = next(number + 1 for number, other in itertools.pairwise(played) if other != number + 1)
            yield f"{name}: missing episode {first} ({missing} in all)"


def _mixtures(rows: Sequence[EpisodeRow], what: str) -> Iterator[str]:
    """Games with rows that do not compare."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        found[row.game, "protocol"].add(row.protocol)
        found[row.game, "eval_seed"].add(str(row.eval_seed))
        if row.agent != "random":  # Random play has epsilon 1 by design.
            found[row.game, "settings"].add(row.settings)
    for (game, column), distinct in sorted(found.items()):
        if len(distinct) > 1:
            shown = ", ".join(sorted(distinct)) if column != "settings" else f"{len(distinct)} different ones"
            yield f"{game}: {what} with more than one {column} do not compare ({shown})"


def _different_numbers(rows: Sequence[EpisodeRow]) -> Iterator[str]:
    """Games in which agents played different numbers of episodes."""
    episodes: dict[str, dict[tuple[str, str], set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        episodes[row.game][row.agent, row.checkpoint_id].add(row.episode)
    for game, agents in sorted(episodes.items()):
        if len({len(played) for played in agents.values()}) > 1:
            counts = ", ".join(
                f"{agent} {name}: {len(played)}" for (agent, name), played in sorted(agents.items())
            )
            yield f"{game}: agents played different numbers of episodes ({counts})"


def _doubles(scored: dict[Path, list[EpisodeRow]]) -> Iterator[str]:
    """Checkpoints scored in more than one file. Statistics would count them twice."""
    places: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path, rows in scored.items():
        for key in sorted({(row.game, row.checkpoint_id) for row in rows}):
            places[key].append(path)
    for (game, checkpoint), paths in places.items():
        if len(paths) > 1:
            yield f"{game} {checkpoint or 'random'}: scored in {' and in '.join(map(str, paths))}"


def _missing_seeds(rows: Sequence[EpisodeRow]) -> Iterator[str]:
    """Training seeds that some agents of a game have and others lack."""
    seeds: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.train_seed >= 0:
            seeds[row.game][f"{row.agent} {row.network}"].add(row.train_seed)
    for game, agents in sorted(seeds.items()):
        everything = set().union(*agents.values())
        for agent, has in sorted(agents.items()):
            if missing := sorted(everything - has):
                yield f"{game}: {agent} lacks training seed {', '.join(map(str, missing))}, which others have"


def _shared_names(rows: Iterable[Any]) -> Iterator[str]:
    """Different trainings with one name."""
    for name, digests in sorted(shared_names(rows).items()):
        told = "; ".join(
            f"{digest or 'unknown'} with seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
            for digest, seeds in sorted(digests.items())
        )
        yield f"{' '.join(name)}: different trainings have this name ({told}); tables and figures keep them apart"
