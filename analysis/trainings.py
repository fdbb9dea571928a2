"""Keep trainings apart whose rows have the same names. Never imports torch.

A name stands for what it meant on the day of the training: a recipe, a preset or an extension may have been edited
since. Rows hold a digest of what the training was (`core.rows.EpisodeRow.training`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from core.kinds import kind_of

MARK = "training="
"""Begins the part of a recipe's name that keeps trainings apart, as in "minatar-fast+training=3f0a91"."""
SHORT = 6
"""Digits of a digest in such a part, unless two of them begin alike."""

AnyRow = TypeVar("AnyRow")


class Name(NamedTuple):
    """What a training is called in rows. A converted network has the name of its DQN's training."""

    agent: str
    network: str
    recipe: str


def name_of(row: Any) -> Name | None:
    """What the training of a row's network is called; None for random play, and for rows that hold no recipe."""
    if not getattr(row, "recipe", "") or not row.network:
        return None
    agent = "dqn" if kind_of(row.agent).is_conversion else row.agent
    return Name(agent, row.network, row.recipe)


def shared_names(rows: Iterable[Any]) -> dict[Name, dict[str, set[int]]]:
    """Names that stand for two or more trainings: the training seeds of each digest. "" is the unknown one, if any."""
    found: dict[Name, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        name = name_of(row)
        if name is not None:
            found[name][row.training].add(row.train_seed)
    return {name: dict(digests) for name, digests in found.items() if len(digests.keys() - {""}) > 1}


def set_apart(row: AnyRow, shared: Mapping[Name, Mapping[str, Any]]) -> AnyRow:
    """A row whose recipe says which training it was, if others have its name; otherwise the row itself.

    An unknown training differs from nothing: it is taken for the one that is known. If there are several, it is called
    unknown.

    Args:
        row: any row.
        shared: `shared_names` of all rows that are shown together.
    """
    name = name_of(row)
    if name is None or name not in shared:
        return row
    values: Any = row
    told: AnyRow = replace(values, recipe=f"{name.recipe}+{MARK}{_short(values.training, shared[name])}")
    return told


def apart(digests: Iterable[str]) -> list[str]:
    """What tells the trainings of some rows without a recipe apart, for each row; empty if one training is known."""
    found = list(digests)
    known = set(found) - {""}
    return [_short(digest, known) if len(known) > 1 else "" for digest in found]


def _short(digest: str, others: Iterable[str]) -> str:
    """How a digest is shown among others."""
    alike = [other for other in others if other[:SHORT] == digest[:SHORT]]
    return (digest if len(alike) > 1 else digest[:SHORT]) or "unknown"


def told_apart(recipe: str) -> str:
    """The part of a recipe's name that keeps trainings apart, in words; empty if there is none."""
    parts = [part for part in recipe.split("+") if part.startswith(MARK)]
    return in_words(parts[0]) if parts else ""


def changes(recipe: str) -> list[str]:
    """What was changed in a recipe, in words: the parts of its name after the first, as in learning_rate=0.001."""
    return [in_words(part) for part in recipe.split("+")[1:]]


def in_words(part: str) -> str:
    """A part of a recipe's name, as it is shown."""
    return part.replace(MARK, "training ", 1) if part.startswith(MARK) else part


def plain(recipe: str) -> str:
    """A recipe's name without the part that keeps trainings apart."""
    return "+".join(part for part in recipe.split("+") if not part.startswith(MARK))
