"""Tables of scores from rows: one line an agent. Never imports torch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from core.games import get_game, reference
from core.records import EpisodeRow
from evaluate.runs import AGENT_ORDER, CHECKPOINT_ORDER, Family, family_of, require_comparable
from evaluate.statistics import Interval, mean_interval

TRAINED_SHARE = 0.1
"""Of its recipe's decisions: an agent that made fewer is called untrained whatever it scored."""


@dataclass(frozen=True)
class Line:
    """One checkpoint on one game under one protocol."""

    game: str
    agent: str
    network: str
    recipe: str
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
    variant: str
    """The method of a converted network."""
    spikes_per_decision: float
    truncated: int
    note: str

    @property
    def family(self) -> Family:
        return family_of(self.agent, self.network, self.recipe, self.sim_steps, self.variant)


def score_lines(rows: Sequence[EpisodeRow]) -> list[Line]:
    """Sum rows up, one line for each game and checkpoint.

    Raises:
        Refusal: one game's rows come from several protocols or episodes, which do not compare.
    """
    if not rows:
        return []
    require_comparable(pd.DataFrame([vars(row) for row in rows]))
    groups: dict[tuple[str, str, int, str, str], list[EpisodeRow]] = defaultdict(list)
    for row in rows:
        # The best weights may be the final ones too: both are told.
        groups[row.game, row.agent, row.train_seed, row.checkpoint_id, row.checkpoint].append(row)
    random_high: dict[str, float] = {}
    for game in {row.game for row in rows}:
        played = [row.score for row in rows if row.game == game and row.agent == "random"]
        known = [reference(get_game(game)).random, mean_interval(played).high if played else None]
        random_high[game] = max(score for score in known if score is not None)
    lines = []
    for (game, agent, train_seed, _, checkpoint), group in groups.items():
        score = mean_interval([row.score for row in group])
        references = reference(get_game(game))
        decisions = sum(row.length_steps for row in group)
        lines.append(
            Line(
                game=game,
                agent=agent,
                network=group[0].network,
                recipe=group[0].recipe,
                train_seed=train_seed,
                train_steps=group[0].train_steps,
                checkpoint=checkpoint,
                protocol=group[0].protocol,
                score=score,
                random=references.random,
                human=references.human,
                sim_steps=group[0].sim_steps,
                variant=group[0].variant,
                spikes_per_decision=sum(row.spikes_per_decision * row.length_steps for row in group)
                / decisions,
                truncated=sum(row.truncated for row in group),
                note=_note(group[0], score, random_high[game]),
            )
        )
    return sorted(
        lines,
        key=lambda line: (
            *(line.game, AGENT_ORDER.index(line.agent), line.family, line.train_seed, line.train_steps),
            CHECKPOINT_ORDER.index(line.checkpoint),
        ),
    )


def _note(row: EpisodeRow, score: Interval, random_high: float) -> str:
    """Whether this is an agent that learnt, in words; a few lucky episodes do not make it one."""
    if row.agent == "random":
        return ""
    if 0 <= row.train_steps < TRAINED_SHARE * row.recipe_steps:
        return f"not a trained agent: {row.train_steps / row.recipe_steps:.1%} of its recipe"
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
            "+".join(filter(None, (line.network, line.variant))),
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
