"""The table of games as CSV, Markdown and LaTeX. Never imports torch."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import fields

from analysis.game_table import PUBLISHED_AGENTS, Block, Cell, PublishedScore
from analysis.statistics import LEAST_EPISODES
from analysis.tables import aligned
from core import kinds
from core.games import get_game, reference

FOOT = "better / equal / worse"
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
        cells, notes = _print(block, "≈ ", " ± ", lambda key: f" [{key}]")
        parts += [f"**{_heading(block)}**", aligned(cells).rstrip()]
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join([*parts, "\n".join(f"- {rule}" for rule in RULES)]) + "\n"


def game_table_latex(blocks: Sequence[Block]) -> str:
    """The table for LaTeX with booktabs, one `table*` for each block."""
    parts = ["% needs \\usepackage{booktabs}"]
    for block in blocks:
        cells, notes = _print(block, "@approx@", "@pm@", lambda key: f"@key@{key}@/key@")
        body = [" & ".join(map(_latex, row)) + r" \\" for row in cells]
        foot = next(index for index, row in enumerate(cells) if row[0] == FOOT)
        caption = " ".join(
            f"{_latex(text)}." for text in (_heading(block), *(x.rstrip(".") for x in (*RULES, *notes)))
        )
        parts += [
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            r"\begin{tabular}{l" + "r" * (len(cells[0]) - 1) + "}",
            *(r"\toprule", body[0], r"\midrule", *body[1:foot], r"\midrule", *body[foot:], r"\bottomrule"),
            r"\end{tabular}",
            rf"\caption{{{caption}}}",
            r"\end{table*}",
        ]
    return "\n".join(parts) + "\n"


def _print(
    block: Block, approximately: str, spread: str, mark: Callable[[str], str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows of cells, the header first, and the legend of the marks of published numbers.

    Args:
        block: the games of one tier.
        approximately: put before published numbers that are not exact.
        spread: put between a mean and its standard deviation.
        mark: formats the mark of a published source.
    """
    known = {game: reference(get_game(game)) for game in block.games}
    human = next((each.source for each in known.values() if each.human is not None), None)
    series = {kind: _series(block, kind) for kind in PUBLISHED_AGENTS if any(_series(block, kind))}
    keys = {
        source: chr(ord("a") + index)
        for index, source in enumerate(source for each in series.values() for source in each)
    }
    header = ["game", "random", *([f"human ({human})"] if human else [])]
    for column, heading in zip(block.columns, block.headings, strict=True):
        header += [heading, "n", *([] if column.family.agent == "dqn" else ["% of DQN"])]
    header += [f"published {kinds.label(kind)}" for kind in series]
    rows = [tuple(header)]
    signs = {"better": " +", "equal": " =", "worse": " -", "": ""}
    for game in block.games:
        row = [game, _score(known[game].random), *([_score(known[game].human)] if human else [])]
        for column in block.columns:
            cell = block.cells.get((game, column))
            row += [
                _spread(cell, spread),
                f"{cell.seeds} x {cell.episodes}" if cell else "",
            ]
            if column.family.agent != "dqn":
                percent = cell.percent_of_dqn if cell else None
                row.append(
                    ""
                    if percent is None or cell is None
                    else f"{percent:.0f}{signs[cell.verdict]}{cell.mark}"
                )
        for sources in series.values():
            numbers = []
            for source, scores in sources.items():
                exact = all(each.kind == "exact" for each in scores)
                values = [
                    _score(each.mean) if exact else f"{each.mean:,.0f}"
                    for each in scores
                    if each.game == game
                ]
                if values:
                    about = "" if exact else approximately
                    numbers.append(f"{about}{'/'.join(values)}{mark(keys[source])}")
            row.append(", ".join(numbers))
        rows.append(tuple(row))
    counts, means = [FOOT], ["mean % of DQN"]
    for column in block.columns:
        cells = [cell for (_, other), cell in block.cells.items() if other == column]
        percents = [cell.percent_of_dqn for cell in cells if cell.percent_of_dqn is not None]
        if column.family.agent != "dqn":
            verdicts = [cell.verdict for cell in cells]
            counts.append(" / ".join(str(verdicts.count(each)) for each in ("better", "equal", "worse")))
            games = f"{len(percents)} game{'s' if len(percents) > 1 else ''}"
            means.append(f"{sum(percents) / len(percents):.0f} ({games})" if percents else "")
        # A mean of raw scores over games has no meaning, so these cells stay blank.
    rows += [_foot(counts, block, len(rows[0])), _foot(means, block, len(rows[0]))]
    notes = []
    if any(cell.std is None for cell in block.cells.values()):
        notes.append(f"Below {LEAST_EPISODES} episodes there is no ±, and no comparison with the own DQN")
    for sources in series.values():
        for source, scores in sources.items():
            paper, table, agent, kind, note = source
            steps = "/".join(str(each) for each in dict.fromkeys(score.sim_steps for score in scores) if each)
            details = [f"{steps} sim steps" if steps else "", "" if kind == "exact" else kind, note]
            notes.append(f"{keys[source]}: {paper} {table}, {agent}; {'; '.join(filter(None, details))}")
    return rows, notes


def _foot(values: Sequence[str], block: Block, width: int) -> tuple[str, ...]:
    """One of the last lines: its name, and a value below each column of percentages."""
    name, *others = values
    row = [
        name,
        "",
        *([""] if any(reference(get_game(game)).human is not None for game in block.games) else []),
    ]
    for column in block.columns:
        row += ["", ""] if column.family.agent == "dqn" else ["", "", others.pop(0)]
    return (*row, *[""] * (width - len(row)))


def _series(block: Block, kind: str) -> dict[tuple[str, str, str, str, str], list[PublishedScore]]:
    """Published numbers of one kind of agent, grouped by paper, table, agent, kind and note."""
    found: dict[tuple[str, str, str, str, str], list[PublishedScore]] = {}
    for score in block.published:
        if score.agent in PUBLISHED_AGENTS[kind]:
            source = (score.paper, score.table, score.agent, score.kind, score.note)
            found.setdefault(source, []).append(score)
    return found


def _heading(block: Block) -> str:
    return (
        f"{block.title}: protocol {', '.join(block.protocols)}; mean ± std over the episodes of one network"
    )


def _latex(text: str) -> str:
    for plain, escaped in (
        *(("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")),
        *(("±", r"$\pm$"), ("≈", r"$\approx$"), (" x ", r" $\times$ "), ("†", r"$\dagger$")),
        *(("@approx@", r"$\approx$"), ("@pm@", r" $\pm$ "), ("@key@", r"\textsuperscript{"), ("@/key@", "}")),
    ):
        text = text.replace(plain, escaped)
    return text


def _spread(cell: Cell | None, spread: str) -> str:
    """A mean with its standard deviation, if there are enough episodes for one."""
    if cell is None:
        return ""
    mark = cell.mark if cell.percent_of_dqn is None and not cell.verdict else ""
    return _score(cell.mean) + ("" if cell.std is None else f"{spread}{_score(cell.std)}") + mark


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.1f}"
