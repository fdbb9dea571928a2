"""Tables of scores from rows: one line an agent. Never imports torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.runs import (
    CHECKPOINT_ORDER,
    Family,
    families,
    require_comparable,
    steps_of_runs,
)
from analysis.statistics import Interval, mean_interval
from core import kinds
from core.games import get_game, reference
from core.rows import EpisodeRow


@dataclass(frozen=True)
class Line:
    """One checkpoint on one game under one protocol."""

    game: str
    agent: str
    network: str
    recipe: str
    family: Family
    train_seed: int
    train_steps: int
    checkpoint: str
    """best or final; empty where nobody said."""
    protocol: str
    score: Interval
    """Mean and 95 % interval over episodes of this one network."""
    random: float | None
    human: float | None
    sim_steps: int
    spikes_per_decision: float
    truncated: int
    note: str


def score_lines(
    rows: Sequence[EpisodeRow], longest: Mapping[tuple[Any, ...], int] | None = None
) -> list[Line]:
    """Sum rows up, one line for each game and checkpoint.

    Args:
        longest: how long the training runs were, where these rows are only some of theirs (`runs.longest_steps`).

    Raises:
        Refusal: one game's rows come from several protocols or episodes, which do not compare.
    """
    if not rows:
        return []
    frame = pd.DataFrame([vars(row) for row in rows])
    require_comparable(frame)
    groups: dict[tuple[str, Family, int, str, str], list[EpisodeRow]] = defaultdict(list)
    made: dict[tuple[str, str, int], int] = {}
    for row, family, steps in zip(rows, families(frame, longest), steps_of_runs(frame, longest), strict=True):
        # The best weights may be the final ones too: both are told.
        groups[row.game, family, row.train_seed, row.checkpoint_id, row.checkpoint].append(row)
        made[row.game, row.checkpoint_id, row.train_steps] = steps
    random_high: dict[str, float] = {}
    for game in {row.game for row in rows}:
        played = [row.score for row in rows if row.game == game and row.agent == "random"]
        known = [reference(get_game(game)).random, mean_interval(played).high if played else None]
        random_high[game] = max(score for score in known if score is not None)
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


def _note(family: Family, trained_share: float, score: Interval, random_high: float) -> str:
    """Whether this is an agent that learnt, in words; a few lucky episodes do not make it one.

    Args:
        trained_share: decisions that its training run made, in those of its recipe.
    """
    if family.agent == "random":
        return ""
    if family.untrained:
        return f"not a trained agent: {trained_share:.1%} of its recipe"
    return "" if score.low > random_high else "not a trained agent: no better than random play"


def markdown(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table, aligned to be read as plain text too."""
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
            line.family.variant or line.network,
            line.checkpoint,
            line.protocol,
            str(line.score.n),
            f"{line.score.estimate:.2f}",
            f"{line.score.low:.2f} to {line.score.high:.2f}",
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
    """Rows of cells, the header first, as a Markdown table whose columns line up."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
