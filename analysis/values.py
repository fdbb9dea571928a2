"""Check the values of rows beyond what every reader refuses (`core.columns`). Never imports torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from analysis.attackers import AttackerKind
from core.errors import Refusal
from core.games import get_game
from core.rows import AttackRow, ConversionRow, CurveRow, EpisodeRow, StateAttackRow

MAY_BE_NAN = {
    EpisodeRow: {"max_q_mean", "max_q", "mean_sim_steps"},
    AttackRow: {"max_q_mean", "max_q", "mean_sim_steps", "zero_gradient_share", "attacked_share"},
    StateAttackRow: {"q_drop", "zero_gradient_share", "attacked_share"},
    CurveRow: {"epsilon", "loss", "q_mean", "train_score"},
    ConversionRow: {
        *("kappa", "regret", "common_error", "differential_error"),
        *("spikes_per_decision", "additions_per_decision", "mean_sim_steps"),
    },
}
"""Columns in which NaN means "no value" (see core/rows.py). In all other columns NaN is a fault."""


def _is_game(name: str) -> bool:
    try:
        get_game(name)
    except Refusal:
        return False
    return True


UNDERSTOOD: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "game": ("a game; one of your own needs its --extension", _is_game),
    "agent": ("a word", bool),
    "attacker": (", ".join(get_args(AttackerKind)), lambda word: word in ("", *get_args(AttackerKind))),
}
"""What is understood in a column, and whether a value is, whatever the type of its rows."""


def value_faults(rows: Sequence[object], row_type: type) -> Iterator[str]:
    """One line for each column with values that nobody understands."""
    if not rows:
        yield "no rows"
    for field in fields(row_type):
        values: list[Any] = [getattr(row, field.name) for row in rows]
        if field.name in UNDERSTOOD:
            words, holds = UNDERSTOOD[field.name]
            wrong = {value for value in set(values) if not holds(value)}
            if wrong:
                bad = [index for index, value in enumerate(values) if value in wrong]
                yield f"{field.name} is {values[bad[0]]!r} {_where(bad, rows)}; accepted: {words}"
        if field.name not in MAY_BE_NAN.get(row_type, ()):
            bad = [
                index
                for index, value in enumerate(values)
                if isinstance(value, float) and not math.isfinite(value)
            ]
            if bad:
                yield f"{field.name} is not finite {_where(bad, rows)}"


def _where(bad: Sequence[int], rows: Sequence[object]) -> str:
    return f"in {len(bad)} of {len(rows)} rows, first in row {bad[0]}"
