"""Tables of scores from rows: one line an agent. Never imports torch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import Refusal
from core.games import get_game, reference
from core.records import EpisodeRow
from evaluate.statistics import Interval, mean_interval

AGENT_ORDER = ("random", "dqn", "rate-coded", "dsqn")


@dataclass(frozen=True)
class Line:
    """One agent on one game under one protocol."""

    game: str
    agent: str
    train_seed: int
    train_steps: int
    protocol: str
    score: Interval
    """Mean and 95 % interval over episodes of this one network."""
    random: float | None
    human: float | None
    sim_steps: int
    spikes_per_decision: float
    truncated: int
    note: str


def score_lines(rows: Sequence[EpisodeRow]) -> list[Line]:
    """Sum rows up, one line for each game, agent and training seed.

    Raises:
        Refusal: one game's rows come from several protocols, which do not compare.
    """
    groups: dict[tuple[str, str, int], list[EpisodeRow]] = defaultdict(list)
    for row in rows:
        groups[row.game, row.agent, row.train_seed].append(row)
    protocols: dict[str, str] = {}
    for row in rows:
        if protocols.setdefault(row.game, row.protocol) != row.protocol:
            raise Refusal(
                f"{row.game}: rows of protocols {protocols[row.game]} and {row.protocol} do not compare"
            )
    random_high = {
        game: mean_interval([row.score for row in group]).high
        for (game, agent, _), group in groups.items()
        if agent == "random"
    }
    lines = []
    for (game, agent, train_seed), group in groups.items():
        score = mean_interval([row.score for row in group])
        references = reference(get_game(game))
        beaten = agent == "random" or game not in random_high or score.low > random_high[game]
        lines.append(
            Line(
                game=game,
                agent=agent,
                train_seed=train_seed,
                train_steps=group[0].train_steps,
                protocol=group[0].protocol,
                score=score,
                random=references.random,
                human=references.human,
                sim_steps=group[0].sim_steps,
                spikes_per_decision=sum(row.spikes_per_decision for row in group) / len(group),
                truncated=sum(row.truncated for row in group),
                note="" if beaten else "not a trained agent: no better than random play",
            )
        )
    return sorted(lines, key=lambda line: (line.game, AGENT_ORDER.index(line.agent), line.train_seed))


def markdown(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table, aligned to be read as plain text too."""
    header = (
        "game", "agent", "seed", "decisions trained", "protocol", "episodes", "mean score", "95 % interval",
        "random", "human", "sim steps", "spikes/decision", "truncated", "note",
    )  # fmt: skip
    cells = [header] + [
        (
            line.game,
            line.agent,
            "" if line.train_seed < 0 else str(line.train_seed),
            f"{line.train_steps:,}",
            line.protocol,
            str(line.score.n),
            f"{line.score.mean:.2f}",
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
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
