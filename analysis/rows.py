"""The rows of a study: which files hold them, and which command makes them. Never imports torch."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from core.errors import Refusal
from core.records import read_rows
from core.rows import (
    AttackRow,
    ConversionRow,
    CurveRow,
    EmbeddingRow,
    EpisodeRow,
    OperationsRow,
    ResponseRow,
    StateAttackRow,
)


@dataclass(frozen=True)
class RowFiles:
    """The files of one kind of rows in a study's folder."""

    pattern: str
    """Glob of the files, relative to the folder."""
    row_type: type[Any]
    made_by: str
    """The command that writes such files."""

    def read(self, study: Path) -> list[Any]:
        """All rows of these files, in the order of file names. Empty if there are no files.

        Raises:
            Refusal: a file is damaged or holds rows of another type.
        """
        return [row for path in sorted(study.glob(self.pattern)) for row in read_rows(path, self.row_type)]

    def are_named_like(self, path: Path) -> bool:
        """Whether a file has the name of such files, in whatever folder it lies."""
        return fnmatchcase(path.name, PurePath(self.pattern).name)


EPISODES = RowFiles("*/*/episodes.parquet", EpisodeRow, "evaluate run")
VALIDATION = RowFiles("*/*/validation.parquet", EpisodeRow, "train_direct dqn (dsqn)")
CURVES = RowFiles("*/*/curve.parquet", CurveRow, "train_direct dqn (dsqn)")
CONVERSIONS = RowFiles("*/*/*.conversion.parquet", ConversionRow, "convert run")
METHODS = RowFiles("*/*/methods.parquet", ConversionRow, "convert compare")
METHOD_GAMES = RowFiles("*/*/conversion_episodes.parquet", EpisodeRow, "convert compare --episodes N")
ATTACKS = RowFiles("*/*/attacks.parquet", AttackRow, "adversarial run")
STATE_ATTACKS = RowFiles("*/*/state_attacks.parquet", StateAttackRow, "adversarial states")
OPERATIONS = RowFiles("*/*/operations.parquet", OperationsRow, "evaluate probe --agent A [B ...]")
RESPONSES = RowFiles("*/*/responses.parquet", ResponseRow, "evaluate probe")
EMBEDDINGS = RowFiles("*/*/embedding.parquet", EmbeddingRow, "evaluate probe --agent A [B ...]")

ROW_FILES = (
    *(EPISODES, VALIDATION, CURVES, CONVERSIONS, METHODS, METHOD_GAMES, ATTACKS, STATE_ATTACKS),
    *(OPERATIONS, RESPONSES, EMBEDDINGS),
)
"""All kinds of files that SpikeQ writes. A file name fits one of them at most."""


class StudyRows:
    """The rows of one study. Each kind is read once.

    Args:
        folder: the study's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self._rows: dict[RowFiles, list[Any]] = {}
        self._frames: dict[RowFiles, pd.DataFrame] = {}

    def rows(self, files: RowFiles) -> Sequence[Any]:
        """The rows of some files."""
        if files not in self._rows:
            self._rows[files] = files.read(self.folder)
        return self._rows[files]

    def frame(self, files: RowFiles) -> pd.DataFrame:
        """The same rows as a data frame with one column for each field."""
        if files not in self._frames:
            self._frames[files] = pd.DataFrame([asdict(row) for row in self.rows(files)])
        return self._frames[files]


def study_folder(study: str | os.PathLike[str], results: Path) -> Path:
    """The folder of a study.

    Args:
        study: the name of a folder in results/, or the path of any folder.
        results: the folder results/ of this repository.

    Raises:
        Refusal: there is no such folder.
    """
    for folder in (results / study, Path(study)):
        if folder.is_dir():
            return folder
    raise Refusal(f"no results of study {str(study)!r}: python reproduce.py {study} makes them")
