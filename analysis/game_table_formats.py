"""The table of games as CSV and Markdown; analysis/game_table_latex.py makes it for LaTeX. Never imports torch."""

import csv
import io
import itertools
from collections.abc import Container, Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

from analysis.game_table import PUBLISHED_AGENTS, Block, Cell, Column, PublishedScore
from analysis.statistics import LEAST_EPISODES
from analysis.tables import aligned
from core import kinds
from core.games import get_game, reference
from core.words import count

FOOT = "better / equal / worse"
MEAN = "mean % of DQN"
RULES = (
    "± is the population standard deviation over the episodes of one network, not over training seeds. With several "
    "training seeds it is the root mean square over them. n is training seeds x episodes per seed.",
    "% of DQN is 100 (score - random) / (score of the own DQN - random). The own DQN has the same recipe and, for a "
    "converted network, the same training seeds and decisions. Best weights are compared with best, final with final. "
    "Blank without an own DQN above random play.",
    "+ better, - worse: the difference from the own DQN exceeds 1.96 standard errors (Welch's, over the episodes of "
    "these networks, not over training seeds). = otherwise.",
    "† this DQN, or the own DQN of a share, stands more than 20 % below a library's DQN of a like protocol, counted "
    "from random play. Libraries' DQNs of other protocols are compared with nothing.",
    "The counts and the mean % in the last two lines are over the games of that column.",
)
"""Notes below every table."""


def game_table_csv(blocks: Sequence[Block]) -> str:
    """All numbers of the table, one per line: measured scores, references and every published score."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ours = [each.name for each in fields(Cell)]
    header = (
        "block",
        "game",
        "source",
        "agent",
        "network",
        "recipe",
        "variant",
        "checkpoint",
        *ours,
        "kind",
        "note",
    )
    writer.writerow(header)

    def line(**values: object) -> None:
        writer.writerow(["" if values.get(name) is None else values[name] for name in header])

    for block in blocks:
        for game in block.games:
            known = reference(get_game(game))
            for agent, mean in (("random", known.random), ("human", known.human)):
                if mean is not None:
                    line(block=block.title, game=game, source=known.source, agent=agent, mean=mean)
            for column in block.columns:
                cell = block.cells.get((game, column))
                if cell is not None:
                    family = column.family
                    line(
                        block=block.title,
                        game=game,
                        source="ours",
                        agent=family.agent,
                        network=family.network,
                        recipe=family.recipe,
                        variant=family.variant,
                        checkpoint=column.checkpoint,
                        **{name: getattr(cell, name) for name in ours},
                    )
            for number in block.published:
                if number.game == game:
                    line(block=block.title, source=f"{number.paper} {number.table}", **vars(number))
    return out.getvalue()


def game_table_markdown(blocks: Sequence[Block]) -> str:
    """The table as Markdown, one table for each block, with notes."""
    parts = []
    for block in blocks:
        parts += [f"**{heading(block)}**", aligned(_cells(block)).rstrip()]
        parts.append("\n".join(f"- {note}" for note in notes(block)))
    return "\n\n".join([*parts, "\n".join(f"- {rule}" for rule in RULES)]) + "\n"


def _cells(block: Block) -> list[tuple[str, ...]]:
    """Rows of cells, the header first."""
    known = {game: reference(get_game(game)) for game in block.games}
    human, published = human_source(block), series(block)
    header = ["game", "random", *([f"human ({human})"] if human else [])]
    counts, means = [FOOT, *[""] * (len(header) - 1)], [MEAN, *[""] * (len(header) - 1)]
    for column, name in zip(block.columns, block.headings, strict=True):
        compared = column.family.agent != "dqn"
        header += [name, "n", *(["% of DQN"] if compared else [])]
        told = verdicts(block, column)
        # A mean of raw scores over games has no meaning, so these cells stay blank.
        counts += ["", "", *([told[0]] if compared else [])]
        means += ["", "", *([told[1]] if compared else [])]
    header += [f"published {kinds.label(kind)}" for kind in published]
    rows = [header]
    for game in block.games:
        row = [game, score(known[game].random), *([score(known[game].human)] if human else [])]
        for column in block.columns:
            cell = block.cells.get((game, column))
            row += [_spread(cell), f"{cell.seeds} x {cell.episodes}"] if cell else ["", ""]
            if column.family.agent != "dqn":
                row.append(of_dqn(cell) if cell else "")
        row += [", ".join(_published(game, sources)) for sources in published.values()]
        rows.append(row)
    blank = [""] * len(published)
    return [tuple(row) for row in (*rows, [*counts, *blank], [*means, *blank])]


def _published(game: str, sources: Sequence["PublishedSource"]) -> Iterator[str]:
    for source in sources:
        if values := source.values(game):
            yield f"{'' if source.is_exact else '≈ '}{'/'.join(values)} [{source.key}]"


def _spread(cell: Cell) -> str:
    """A mean with its standard deviation, if there are enough episodes for one."""
    return score(cell.mean) + ("" if cell.std is None else f" ± {score(cell.std)}") + own_mark(cell)


# What all formats share -------------------------------------------------------------------------------


class PublishedSource(NamedTuple):
    """Published numbers of one paper's table, agent, kind and note."""

    key: str
    """The letter that marks its numbers."""
    scores: Sequence[PublishedScore]

    @property
    def is_exact(self) -> bool:
        return all(each.kind == "exact" for each in self.scores)

    @property
    def note(self) -> str:
        """What the letter stands for."""
        first = self.scores[0]
        steps = "/".join(str(each) for each in dict.fromkeys(each.sim_steps for each in self.scores) if each)
        details = (
            f"{steps} sim steps" if steps else "",
            "" if first.kind == "exact" else first.kind,
            first.note,
        )
        return f"{self.key}: {first.paper} {first.table}, {first.agent}; {'; '.join(filter(None, details))}"

    def values(self, game: str) -> list[str]:
        """Its numbers on a game."""
        means = [each.mean for each in self.scores if each.game == game]
        return [score(mean) if self.is_exact else f"{mean:,.0f}" for mean in means]


def series(block: Block) -> dict[str, list[PublishedSource]]:
    """Published numbers, by the kind of agent that they are compared with."""
    letters = map(chr, itertools.count(ord("a")))
    found: dict[str, list[PublishedSource]] = {}
    for kind, agents in PUBLISHED_AGENTS.items():
        sources: dict[tuple[str, ...], list[PublishedScore]] = {}
        for each in block.published:
            if each.agent in agents:
                sources.setdefault((each.paper, each.table, each.agent, each.kind, each.note), []).append(
                    each
                )
        if sources:
            found[kind] = [PublishedSource(next(letters), scores) for scores in sources.values()]
    return found


def notes(block: Block, kinds_shown: Container[str] = tuple(PUBLISHED_AGENTS)) -> list[str]:
    """What is said below a block: too few episodes, and the legend of published numbers.

    Args:
        block: the games of one tier.
        kinds_shown: kinds of agents whose published numbers are shown.
    """
    few = f"Below {LEAST_EPISODES} episodes there is no ±, and no comparison with the own DQN"
    legend = [
        source.note for kind, sources in series(block).items() if kind in kinds_shown for source in sources
    ]
    return [*([few] if any(cell.std is None for cell in block.cells.values()) else []), *legend]


def human_source(block: Block) -> str | None:
    """Where the human scores of a block are from; None without any."""
    known = (reference(get_game(game)) for game in block.games)
    return next((each.source for each in known if each.human is not None), None)


def heading(block: Block) -> str:
    """The title of a block."""
    return (
        f"{block.title}: protocol {', '.join(block.protocols)}; mean ± std over the episodes of one network"
    )


def own_mark(cell: Cell) -> str:
    """The mark of a DQN's own score; empty for an agent whose share of a DQN's score carries it."""
    return cell.mark if cell.percent_of_dqn is None and not cell.verdict else ""


def of_dqn(cell: Cell) -> str:
    """The share of the own DQN's score in percent, and the verdict's sign; empty without a DQN."""
    signs = {"better": " +", "equal": " =", "worse": " -", "": ""}
    return "" if cell.percent_of_dqn is None else f"{cell.percent_of_dqn:.0f}{signs[cell.verdict]}{cell.mark}"


def verdicts(block: Block, column: Column) -> tuple[str, str]:
    """An agent over games: how often it is better, equal and worse than its DQN, and its mean share of the score.

    Both are empty for a DQN.
    """
    if column.family.agent == "dqn":
        return "", ""
    cells = [cell for (_, other), cell in block.cells.items() if other == column]
    percents = [cell.percent_of_dqn for cell in cells if cell.percent_of_dqn is not None]
    found = [cell.verdict for cell in cells]
    counts = " / ".join(str(found.count(each)) for each in ("better", "equal", "worse"))
    games = count(len(percents), "game")
    return counts, f"{sum(percents) / len(percents):.0f} ({games})" if percents else ""


def score(value: float | None) -> str:
    """A score; empty if there is none."""
    return "" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.1f}"
