"""The table of games for LaTeX with booktabs, narrow enough for two columns of a paper. Never imports torch.

An agent has one column: mean, standard deviation, and share of its DQN. games.md holds everything.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from analysis.game_table import Block, Cell
from analysis.game_table_formats import (
    FOOT,
    MEAN,
    RULES,
    PublishedSource,
    heading,
    human_source,
    notes,
    of_dqn,
    own_mark,
    score,
    series,
    verdicts,
)
from core import kinds
from core.errors import Refusal
from core.games import get_game, reference
from core.words import nearest

MOST_COLUMNS = 8
"""Columns of a table, the games included. More do not fit the width of a page."""
_ESCAPED = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "_%&#${}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"±": r"$\pm$", "≈": r"$\approx$", "×": r"$\times$", "†": r"$\dagger$"},
    }
)


class _Column(NamedTuple):
    """One column, without the game's name."""

    name: str
    """As --columns takes it."""
    header: tuple[str, ...]
    """Lines of its header, in LaTeX."""
    cells: dict[str, str]
    """In LaTeX, by game."""
    foot: tuple[str, str] = ("", "")
    """How often the agent is better, equal and worse than its DQN, and the mean share of the DQN's score."""
    rank: int = 0
    """Columns of a lower rank are preferred where not all fit."""


def require_columns(blocks: Sequence[Block], columns: Sequence[str]) -> None:
    """Refuse columns that no table has, and more than fit.

    Args:
        blocks: the tables.
        columns: names of columns, as the header of games.md has them.

    Raises:
        Refusal: the message names the nearest column, or the number that fits.
    """
    known = dict.fromkeys(column.name for block in blocks for column in _columns(block))
    for name in columns:
        if name not in known:
            raise Refusal(
                f"no column {name!r}: {nearest(name, known)}accepted are {', '.join(map(repr, known)) or 'none'}"
            )
    if len(set(columns)) >= MOST_COLUMNS:
        raise Refusal(
            f"{len(set(columns))} columns: accepted are {MOST_COLUMNS - 1} at most, besides the game"
        )


def game_table_latex(blocks: Sequence[Block], columns: Sequence[str] = ()) -> str:
    """The table for LaTeX, one `table*` of at most MOST_COLUMNS columns for each block.

    Args:
        blocks: the tables.
        columns: names of the columns besides the game; those that fit if empty.

    Raises:
        Refusal: as in `require_columns`.
    """
    require_columns(blocks, columns)
    return (
        "\n".join(
            [r"% needs \usepackage{booktabs}", *(line for block in blocks for line in _table(block, columns))]
        )
        + "\n"
    )


def _table(block: Block, names: Sequence[str]) -> Iterator[str]:
    known = [*_columns(block)]
    if names:
        chosen = [column for column in known if column.name in names]
    else:
        preferred = sorted(known, key=lambda column: column.rank)[: MOST_COLUMNS - 1]
        chosen = [column for column in known if column in preferred]
    if left_out := [column.name for column in known if column not in chosen]:
        yield f"% left out, see --columns of plot.py: {'; '.join(left_out)}"
    head = ["game", *(_stacked(column.header) for column in chosen)]
    body = [[_text(game), *(column.cells.get(game, "") for column in chosen)] for game in block.games]
    foot = [
        [_text(name), *(column.foot[index] for column in chosen)] for index, name in enumerate((FOOT, MEAN))
    ]
    shown = [kind for kind in series(block) if _published_name(kind) in [column.name for column in chosen]]
    caption = (
        heading(block),
        *(text.replace(" x ", " × ").rstrip(".") for text in (*RULES, *notes(block, shown))),
    )
    yield r"\begin{table*}"
    yield r"\centering\scriptsize\setlength{\tabcolsep}{3pt}"
    yield rf"\begin{{tabular}}{{l{'r' * len(chosen)}}}"
    for rule, rows in (("toprule", [head]), ("midrule", body), ("midrule", foot)):
        yield rf"\{rule}"
        yield from (" & ".join(row) + r" \\" for row in rows)
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield rf"\caption{{{' '.join(f'{_text(text)}.' for text in caption)}}}"
    yield r"\end{table*}"


def _columns(block: Block) -> Iterator[_Column]:
    """Every column that a block may have, in their order."""
    known = {game: reference(get_game(game)) for game in block.games}
    yield _Column("random", ("random",), {game: _number(each.random) for game, each in known.items()}, rank=1)
    if source := human_source(block):
        header = ("human", _text(f"({source})"))
        yield _Column("human", header, {game: _number(each.human) for game, each in known.items()}, rank=5)
    for column, name in zip(block.columns, block.headings, strict=True):
        cells = {game: cell for game in block.games if (cell := block.cells.get((game, column)))}
        first, *others = re.split(r", | (?=\()", name)
        counts, mean = verdicts(block, column)
        yield _Column(
            name,
            (_text(first), *map(_text, others), _text(_runs(cells.values()))),
            {game: _agent(cell) for game, cell in cells.items()},
            (_text(counts), _text(mean)),
            rank=2
            if column.checkpoint == "final" and name.replace(", final", ", best") in block.headings
            else 0,
        )
    for kind, sources in series(block).items():
        yield _Column(
            _published_name(kind),
            ("published", _text(kinds.label(kind))),
            {game: _stacked(_published(game, sources)) for game in block.games},
            rank=3,
        )


def _published_name(kind: str) -> str:
    return f"published {kinds.label(kind)}"


def _runs(cells: Iterable[Cell]) -> str:
    """Training seeds and episodes of each, as in "3 × 100"."""
    numbers = [(cell.seeds, cell.episodes) for cell in cells]
    seeds, episodes = (
        "-".join(map(str, sorted({min(each), max(each)}))) for each in zip(*numbers, strict=True)
    )
    return f"{seeds} × {episodes}"


def _agent(cell: Cell) -> str:
    spread = "" if cell.std is None else rf" $\pm$ {_number(cell.std)}"
    share = f" ({_minus(of_dqn(cell))})" if cell.percent_of_dqn is not None else ""
    return f"{_number(cell.mean)}{spread}{own_mark(cell)}{share}".replace(" †", r" $\dagger$")


def _published(game: str, sources: Iterable[PublishedSource]) -> Iterator[str]:
    for source in sources:
        if values := source.values(game):
            about = "" if source.is_exact else r"$\approx$"
            yield rf"{about}{_minus('/'.join(values))}\textsuperscript{{{source.key}}}"


def _stacked(lines: Iterable[str]) -> str:
    """Lines above each other in one cell."""
    several = [*lines]
    return "".join(several) if len(several) < 2 else "\\shortstack[r]{" + r"\\".join(several) + "}"


def _number(value: float | None) -> str:
    return _minus(score(value))


def _minus(text: str) -> str:
    """A text of numbers, with minus signs for hyphens before a number or at the end."""
    return re.sub(r"(?<![\w.])-(?=\d|$)", "$-$", text)


def _text(text: str) -> str:
    return text.translate(_ESCAPED)
