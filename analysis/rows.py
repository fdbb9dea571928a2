"""The rows of a study: which files hold them, and which command makes them. Never imports torch."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.trainings import set_apart, shared_names
from core.errors import Refusal
from core.kinds import kind_of
from core.manifest import require_recorded
from core.places import home
from core.records import digest, read_rows
from core.rows import (
    AttackRow,
    ConversionRow,
    CurveRow,
    EmbeddingRow,
    EpisodeRow,
    OperationsRow,
    ResponseRow,
    Row,
    StateAttackRow,
)


@dataclass(frozen=True)
class RowFiles:
    """The files of one kind of rows below a folder."""

    pattern: str
    """Glob of their names, in whatever folder they lie."""
    row_type: type[Any]
    made_by: str
    """The command that writes such files."""

    def read(self, folder: Path) -> list[Any]:
        """All rows of these files below a folder, in the order of paths. Empty if there are no files.

        Rows that stand in several files count once: an agent may have been measured twice, or a folder copied.

        Raises:
            Refusal: a file is damaged, holds rows of another type, or was changed after a manifest recorded it.
        """
        rows: dict[str, list[Any]] = {}  # NaN differs from itself, so rows are compared as text
        for path in sorted(folder.rglob(self.pattern)):
            here: dict[str, list[Any]] = {}
            for row in read_rows(path, self.row_type):
                here.setdefault(repr(row), []).append(row)
            require_recorded(path, digest(path.read_bytes()))
            rows |= {text: same for text, same in here.items() if text not in rows}
        return [row for same in rows.values() for row in same]

    def are_named_like(self, path: Path) -> bool:
        """Whether a file has the name of such files, in whatever folder it lies."""
        return fnmatchcase(path.name, self.pattern)


EPISODES = RowFiles("episodes.parquet", EpisodeRow, "spikeq evaluate run")
VALIDATION = RowFiles("validation.parquet", EpisodeRow, "spikeq train dqn (dsqn)")
CURVES = RowFiles("curve.parquet", CurveRow, "spikeq train dqn (dsqn)")
CONVERSIONS = RowFiles("*.conversion.parquet", ConversionRow, "spikeq convert run")
METHODS = RowFiles("methods.parquet", ConversionRow, "spikeq convert compare")
METHOD_GAMES = RowFiles("conversion_episodes.parquet", EpisodeRow, "spikeq convert compare --episodes N")
ATTACKS = RowFiles("attacks.parquet", AttackRow, "spikeq attack run")
STATE_ATTACKS = RowFiles("state_attacks.parquet", StateAttackRow, "spikeq attack states")
OPERATIONS = RowFiles("operations.parquet", OperationsRow, "spikeq evaluate probe --agent A [B ...]")
RESPONSES = RowFiles("responses.parquet", ResponseRow, "spikeq evaluate probe")
EMBEDDINGS = RowFiles("embedding.parquet", EmbeddingRow, "spikeq evaluate probe --agent A [B ...]")

ROW_FILES = (
    *(EPISODES, VALIDATION, CURVES, CONVERSIONS, METHODS, METHOD_GAMES, ATTACKS, STATE_ATTACKS),
    *(OPERATIONS, RESPONSES, EMBEDDINGS),
)
"""All kinds of files that SpikeQ writes. A file name fits one of them at most."""


def typed(rows: pd.DataFrame, row_type: type[Row]) -> list[Row]:
    """The rows of a table as the type that they were read as."""
    return [row_type(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]


@dataclass(frozen=True)
class Only:
    """Which rows of a study are wanted, by words that rows hold. No words want all."""

    games: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    """Kinds of agents."""
    methods: tuple[str, ...] = ()
    """Conversion methods, without their options."""

    def __contains__(self, row: object) -> bool:
        """Whether a row is wanted. Rows that hold no such word are."""
        return all(
            not wanted or word is None or word in wanted
            for wanted, word in zip((self.games, self.agents, self.methods), _words(row), strict=True)
        )

    def require_known(self, rows: Iterable[object]) -> None:
        """Refuse words that no row holds."""
        held = list(zip(*map(_words, rows), strict=True)) or [(), (), ()]
        for option, wanted, known in zip(
            ("games", "agents", "methods"), (self.games, self.agents, self.methods), held, strict=True
        ):
            accepted = sorted({word for word in known if word is not None})
            for word in wanted:
                if word not in accepted:
                    raise Refusal(f"--{option} {word}: rows have {', '.join(accepted) or 'none'}")


EVERYTHING = Only()
"""All rows."""


def _words(row: object) -> tuple[str | None, str | None, str | None]:
    """Game, kind of agent and conversion method of a row; None for what it does not hold."""
    method = getattr(row, "variant", "") or getattr(row, "method", "")
    is_conversion = method and method != "dqn"
    return (
        getattr(row, "game", None),
        getattr(row, "agent", None),
        method.split(" ")[0] if is_conversion else None,
    )


class StudyRows:
    """The rows below some folders, as those of one study. Each kind is read once.

    A network whose rows are the same in several folders is taken once. If networks differ that have one name, one
    game and one training seed, all of that name get the name of their folder added to their recipe, which keeps them
    apart in tables and figures. Trainings that differ but have one name are kept apart in the same way
    (`analysis.trainings`).

    Args:
        folders: any folders of rows.
        only: which of the rows.
    """

    def __init__(self, *folders: str | os.PathLike[str], only: Only = EVERYTHING):
        self.folders = tuple(map(Path, folders))
        self._only = only
        self._rows: dict[RowFiles, list[Any]] = {}
        self._frames: dict[RowFiles, pd.DataFrame] = {}

    def rows(self, files: RowFiles) -> Sequence[Any]:
        """The rows of some files."""
        if files not in self._rows:
            read = {folder: files.read(folder) for folder in self.folders}
            shared = shared_names(itertools.chain.from_iterable(read.values()))
            if shared:
                read = {folder: [set_apart(row, shared) for row in rows] for folder, rows in read.items()}
            self._rows[files] = [row for row in _as_one_study(read) if row in self._only]
        return self._rows[files]

    def frame(self, files: RowFiles) -> pd.DataFrame:
        """The same rows as a data frame with one column for each field."""
        if files not in self._frames:
            self._frames[files] = pd.DataFrame([asdict(row) for row in self.rows(files)])
        return self._frames[files]


def _as_one_study(rows_of: Mapping[Path, Sequence[Any]]) -> Iterator[Any]:
    """The rows of several folders, see `StudyRows`."""
    if len(rows_of) == 1:
        yield from itertools.chain.from_iterable(rows_of.values())
        return
    called = folder_names([*rows_of])
    # NaN differs from itself, so rows are compared as text.
    texts: dict[object, dict[Path, set[str]]] = {}
    for folder, rows in rows_of.items():
        for row in rows:
            texts.setdefault(_network(row), {}).setdefault(folder, set()).add(repr(row))
    in_conflict = {
        _training(row)
        for folder, rows in rows_of.items()
        for row in rows
        if any(texts[_network(row)][folder] != others for others in texts[_network(row)].values())
    }
    known: set[str] = set()
    for folder, rows in rows_of.items():
        for row in rows:
            if _training(row) is not None and _training(row) in in_conflict:
                yield replace(row, recipe=f"{row.recipe}+{called[folder]}")
            elif repr(row) not in known:
                yield row
        known.update(map(repr, rows))


def _training(row: Any) -> tuple[Any, ...] | None:
    """What the trainings of a row's network are called, on any game and seed. Conversions belong to those of their DQN.

    None for random play, and for rows that hold no recipe.
    """
    network = _network(row)
    if network is None:
        return None
    _, agent, *rest = network
    return ("dqn" if kind_of(agent).is_conversion else agent, *rest[:2])


def _network(row: Any) -> tuple[Any, ...] | None:
    """What a row's network is called; None for random play, and for rows that hold no recipe."""
    if not hasattr(row, "recipe") or not row.network:
        return None
    variant = (row.variant, row.sim_steps) if hasattr(row, "variant") else ()
    return (row.game, row.agent, row.network, row.recipe, row.train_seed, *variant)


def folder_names(folders: Sequence[Path]) -> dict[Path, str]:
    """A short name for each folder: its own, with as many folders above it as tell all of them apart."""
    parts = {folder: folder.absolute().parts for folder in folders}
    for length in itertools.count(1):
        names = {folder: "-".join(each[-length:]) for folder, each in parts.items()}
        if len(set(names.values())) == len(names) or length > max(map(len, parts.values())):
            return names
    raise AssertionError("the loop ends")


def study_folder(study: str | os.PathLike[str]) -> Path:
    """The folder of a study.

    Args:
        study: the path of any folder, or the name of one in results/.

    Raises:
        Refusal: there is no such folder.
    """
    for folder in (Path(study), home() / "results" / study):
        if str(study) and folder.is_dir():
            return folder
    raise Refusal(
        f"no folder {str(study)!r}, and no results of a study of that name: spikeq reproduce makes them"
    )
