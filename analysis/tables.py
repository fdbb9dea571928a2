"""Tables of scores, one line for each agent. Never imports torch."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.aggregates import ROUNDING
from analysis.runs import (
    CHECKPOINT_ORDER,
    Family,
    families,
    require_comparable,
    steps_of_runs,
)
from analysis.statistics import LEAST_EPISODES, Interval, mean_interval
from analysis.trainings import changes
from analysis.words import score_bounds, tenths
from core import kinds
from core.games import get_game, reference
from core.rows import EpisodeRow

UNTRAINED = "not a trained agent"
"""Begins the note of a network that was not trained. Of others it is only unknown."""


@dataclass(frozen=True)
class Line:
    """The scores of one checkpoint on one game under one protocol."""

    game: str
    agent: str
    network: str
    recipe: str
    family: Family
    train_seed: int
    train_steps: int
    checkpoint: str
    """"best" or "final". Empty if unknown."""
    protocol: str
    score: Interval
    """Mean with its 95 % interval over the episodes of this network."""
    random: float | None
    human: float | None
    sim_steps: int
    spikes_per_decision: float
    truncated: int
    note: str
    """Why the network does not count as a trained agent; empty if it does."""


def score_lines(
    rows: Sequence[EpisodeRow], longest: Mapping[tuple[Any, ...], int] | None = None
) -> list[Line]:
    """Summarise rows: one line for each game and checkpoint.

    Args:
        rows: EpisodeRows.
        longest: lengths of training runs from `runs.longest_steps`. Needed if `rows` are only part of a study.

    Raises:
        Refusal: rows of one game have different protocols, evaluation seeds or settings.
    """
    if not rows:
        return []
    frame = pd.DataFrame([vars(row) for row in rows])
    require_comparable(frame)
    groups: dict[tuple[str, Family, int, str, str], list[EpisodeRow]] = defaultdict(list)
    made: dict[tuple[str, str, int], int] = {}
    for row, family, steps in zip(rows, families(frame, longest), steps_of_runs(frame, longest), strict=True):
        # The best and the final weights may be the same. Each gets its own line.
        groups[row.game, family, row.train_seed, row.checkpoint_id, row.checkpoint].append(row)
        made[row.game, row.checkpoint_id, row.train_steps] = steps
    random_high: dict[str, float | None] = {}
    for game in {row.game for row in rows}:
        played = [row.score for row in rows if row.game == game and row.agent == "random"]
        known = [reference(get_game(game)).random]
        if len(played) >= LEAST_EPISODES:
            known.append(mean_interval(played).high)
        random_high[game] = max((score for score in known if score is not None), default=None)
    lines = []
    for (game, family, train_seed, checkpoint_id, checkpoint), group in groups.items():
        score = mean_interval([row.score for row in group])
        references = reference(get_game(game))
        decisions = sum(row.length_steps for row in group)
        lines.append(
            Line(
                game=game,
                agent=family.agent,
                network=family.network,
                recipe=family.recipe,
                family=family,
                train_seed=train_seed,
                train_steps=group[0].train_steps,
                checkpoint=checkpoint,
                protocol=group[0].protocol,
                score=score,
                random=references.random,
                human=references.human,
                sim_steps=group[0].sim_steps,
                spikes_per_decision=sum(row.spikes_per_decision * row.length_steps for row in group)
                / decisions,
                truncated=sum(row.truncated for row in group),
                note=_note(
                    family,
                    made[game, checkpoint_id, group[0].train_steps] / max(group[0].recipe_steps, 1),
                    score,
                    random_high[game],
                ),
            )
        )
    return sorted(
        lines,
        key=lambda line: (
            *(line.game, kinds.order(line.agent), line.family, line.train_seed, line.train_steps),
            CHECKPOINT_ORDER.index(line.checkpoint),
        ),
    )


def _note(family: Family, trained_share: float, score: Interval, random_high: float | None) -> str:
    """Why a network does not count as a trained agent; empty if it does.

    Its whole interval must lie above random play, so a few lucky episodes are not enough.

    Args:
        trained_share: decisions of the training run, as a share of the recipe's.
        random_high: the score of random play, or the upper bound of its interval; None if unknown.
    """
    if family.agent == "random":
        return ""
    if family.untrained:
        return f"{UNTRAINED}: {tenths(trained_share)} of its recipe"
    if not score.is_given:
        return f"not shown to be trained: n = {score.n}, at least {LEAST_EPISODES} games are needed"
    if random_high is None:
        return "not shown to be trained: the score of random play is unknown"
    if score.low > random_high and not math.isclose(score.low, random_high, rel_tol=ROUNDING):
        return ""
    return f"{UNTRAINED}: no better than random play"


def markdown(lines: Sequence[Line]) -> str:
    """The lines as an aligned Markdown table, which is also readable as plain text."""
    header = (
        "game", "agent", "seed", "decisions trained", "network", "checkpoint", "protocol", "episodes", "mean score",
        "95 % interval", "random", "human", "sim steps", "spikes/decision", "truncated", "note",
    )  # fmt: skip
    cells = [header] + [
        (
            line.game,
            line.agent,
            "" if line.train_seed < 0 else str(line.train_seed),
            "unknown" if line.train_steps < 0 else f"{line.train_steps:,}",
            ", ".join([line.family.variant or line.network, *changes(line.recipe)]),
            line.checkpoint,
            line.protocol,
            str(line.score.n),
            f"{line.score.estimate:,.2f}",
            score_bounds(line.score),
            _number(line.random),
            _number(line.human),
            str(line.sim_steps) if line.sim_steps else "",
            f"{line.spikes_per_decision:,.0f}" if line.sim_steps else "",
            str(line.truncated),
            line.note,
        )
        for line in lines
    ]
    return aligned(cells)


def aligned(cells: Sequence[tuple[str, ...]]) -> str:
    """Format rows of cells, the header first, as a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
