"""Check the values of rows, one column at a time. Never imports torch."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, get_args

from analysis.attackers import AttackerKind
from analysis.runs import CHECKPOINT_ORDER
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


class Accepted(NamedTuple):
    """The values of a column that readers understand."""

    words: str
    holds: Callable[[Any], bool]


def _is_json(kind: type, or_empty: bool = False) -> Accepted:
    def holds(text: str) -> bool:
        try:
            return (or_empty and not text) or isinstance(json.loads(text), kind)
        except (ValueError, RecursionError):
            return False

    what = "a list" if kind is list else "an object"
    return Accepted(f"{what} in JSON" + (" or nothing" if or_empty else ""), holds)


def _at_least(least: int) -> Accepted:
    return Accepted(f"at least {least}", lambda number: bool(number >= least))


def _one_of(words: Sequence[str]) -> Accepted:
    return Accepted(", ".join(word or "nothing" for word in words), lambda word: word in words)


def _is_game(name: str) -> bool:
    try:
        get_game(name)
    except Refusal:
        return False
    return True


ACCEPTED: Mapping[str, Accepted] = {
    "game": Accepted("a game; one of your own needs its --extension", _is_game),
    "agent": Accepted("a word", lambda word: bool(word) and word.isprintable()),
    "checkpoint": _one_of(CHECKPOINT_ORDER),
    "attacker": _one_of(("", *get_args(AttackerKind))),
    "training": Accepted(
        "12 hex digits or nothing", lambda text: bool(re.fullmatch("([0-9a-f]{12})?", text))
    ),
    "flipped": Accepted("hex digits", lambda text: bool(re.fullmatch("([0-9a-f]{2})*", text))),
    **dict.fromkeys(("settings", "threat"), _is_json(dict)),
    "layer_rates": _is_json(list),
    "layer_r2": _is_json(list, or_empty=True),
    **dict.fromkeys(("train_seed", "train_steps"), _at_least(-1)),
    **dict.fromkeys(("recipe_steps", "episode", "sim_steps", "layer", "state", "action"), _at_least(0)),
    **dict.fromkeys(("length_steps", "length_frames", "num_states"), _at_least(1)),
}
"""What is accepted in a column, whatever the type of its rows. Columns that are not named take any value."""


def value_faults(rows: Sequence[object], row_type: type) -> Iterator[str]:
    """One line for each column with values that its readers do not understand."""
    if not rows:
        yield "no rows"
    for field in fields(row_type):
        values = [getattr(row, field.name) for row in rows]
        if field.name in ACCEPTED:
            words, holds = ACCEPTED[field.name]
            wrong = {value for value in set(values) if not holds(value)}
            if wrong:
                bad = [index for index, value in enumerate(values) if value in wrong]
                yield f"{field.name} is {_shown(values[bad[0]])} {_where(bad, rows)}; accepted: {words}"
        if field.name not in MAY_BE_NAN.get(row_type, ()):
            bad = [
                index
                for index, value in enumerate(values)
                if isinstance(value, float) and not math.isfinite(value)
            ]
            if bad:
                yield f"{field.name} is not finite {_where(bad, rows)}"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def _where(bad: Sequence[int], rows: Sequence[object]) -> str:
    return f"in {len(bad)} of {len(rows)} rows, first in row {bad[0]}"
