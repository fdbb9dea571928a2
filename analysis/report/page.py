"""The page of a study: a static page, from the rows and other files in its folder.

The page opens from disk. It has no scripts and links only to files in the study's folder. Equal files give an equal
page. Never imports torch.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from analysis.answer import KEPT_HEADER, Answer, Attacked, answer, under_attack
from analysis.figures.registry import in_order
from analysis.pages import render
from analysis.report.provenance import Card, Work, cards, works
from analysis.rows import ATTACKS, CONVERSIONS, EPISODES, METHOD_GAMES, METHODS, StudyRows
from analysis.tables import markdown, score_lines
from analysis.words import percent, score_bounds, size
from core.errors import Refusal
from core.generated import require_as_made, write_generated
from core.rows import ConversionRow, EpisodeRow

PAGE = "index.html"


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def is_number(self) -> tuple[bool, ...]:
        """For each column, whether it holds only numbers. Such columns are aligned to the right."""
        return tuple(
            any(column) and all(_NUMBER.fullmatch(cell) for cell in column if cell)
            for column in zip(*self.cells, strict=True)
        )


@dataclass(frozen=True)
class Picture:
    """A figure in the study's folder."""

    name: str
    caption: str
    link: str
    width: int
    """In pixels. The page shows figures at half their size in pixels, for sharp screens."""
    height: int
    """In pixels."""
    vector: str
    """Link to the same figure as a PDF. Empty if there is none."""


@dataclass(frozen=True)
class Page:
    """The content of the page, as the template takes it."""

    study: str
    answer: Answer
    kept: Table
    """The share of its DQN's score that each network keeps."""
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    cards: tuple[Card, ...]
    works: tuple[Work, ...]
    videos: tuple[tuple[str, str], ...]
    """Name and link of each video."""


def write_report(study: Path, out: Path | None = None) -> Path:
    """Write the page of a study.

    Args:
        study: the study's folder.
        out: the folder of the page; report/ in the study's folder if None.

    Returns:
        The path of the page.

    Raises:
        Refusal: the folder holds no rows, rows that do not compare, or a damaged file, or another page is there.
    """
    target = (out or study / "report") / PAGE
    require_as_made(target)  # before the work
    page = page_of(study, target.parent)
    content = render(Path(__file__).with_name("report.html.j2"), (prose,), **vars(page))
    write_generated(target, content)
    return target


def page_of(study: Path, folder: Path) -> Page:
    """The content of a study's page, whose links start at a folder."""
    name = Path(os.path.abspath(study)).name
    if not any(study.rglob("*.parquet")):
        raise Refusal(f"{study} holds no rows: python reproduce.py {name} makes them")
    rows = StudyRows(study)
    episodes, compared, attacks = map(rows.rows, (EPISODES, METHOD_GAMES, ATTACKS))
    methods, conversions = map(rows.rows, (METHODS, CONVERSIONS))
    tables = [*_score_tables(episodes), *_agreement_tables(conversions)]
    tables += _attack_tables(under_attack(attacks, episodes))
    for path in sorted(study.rglob("*.md")):
        if path not in (study / "scores.md", study / "README.md"):
            tables += markdown_tables(_title(path.relative_to(study)), path.read_text("utf-8"))
    found = answer(episodes, compared, methods, attacks)
    return Page(
        name,
        found,
        Table("Share of a DQN's score above random play that is kept", KEPT_HEADER, found.kept),
        tuple(tables),
        tuple(pictures(study, folder)),
        tuple(cards({"evaluated": episodes, "conversions compared": compared, "under attack": attacks})),
        tuple(works(study)),
        tuple(
            (_title(path.relative_to(study)), _link(path, folder)) for path in sorted(study.rglob("*.mp4"))
        ),
    )


def prose(text: str) -> Markup:
    """A sentence as HTML. Text in backquotes becomes code, and numbers are not separated from their units."""
    unbroken = str(escape(text)).replace(" %", "\xa0%").replace("n = ", "n\xa0=\xa0")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", unbroken))


# Tables ----------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?[\d,.]+(e-?\d+)?( ?%)?")


def markdown_tables(title: str, text: str) -> Iterator[Table]:
    """The tables of a Markdown text. The lines below a table are its notes."""
    lines = text.splitlines()
    blocks = [
        (is_table, list(block)) for is_table, block in groupby(lines, lambda line: line.startswith("|"))
    ]
    for index, (is_table, block) in enumerate(blocks):
        if is_table and len(block) > 2:
            header, _, *cells = (
                [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block
            )
            below = blocks[index + 1][1] if index + 1 < len(blocks) else []
            notes = tuple(
                line.strip() for line in below if line.strip() and not line.startswith(("#", "<!--"))
            )
            yield Table(title, tuple(header), tuple(map(tuple, cells)), notes)


def _score_tables(episodes: Sequence[EpisodeRow]) -> Iterator[Table]:
    if episodes:
        note = "\nIntervals are over the episodes of one network, not over training seeds.\n"
        yield from markdown_tables("Scores", markdown(score_lines(episodes)) + note)


def _agreement_tables(conversions: Sequence[ConversionRow]) -> Iterator[Table]:
    header = (
        "game", "seed", "method", "against", "read-out", "sim steps", "states", "agreement", "constant action",
    )  # fmt: skip
    cells = [
        (
            row.game,
            str(row.train_seed) if row.train_seed >= 0 else "",
            row.method,
            row.reference,
            row.readout,
            str(row.sim_steps),
            f"{row.num_states:,}",
            f"{row.agreement:.1%}",
            f"{row.majority_share:.1%}",
        )
        for row in conversions
    ]
    if cells:
        note = (
            "Agreement: share of states in which the converted network takes the same action as its DQN, or as its own "
            "simulation in another simulator. Constant action: the agreement of always taking the same action."
        )
        yield Table("Agreement of converted networks", header, tuple(cells), (note,))


def _attack_tables(attacked: Sequence[Attacked]) -> Iterator[Table]:
    header = (
        "game", "agent", "seed", "decisions trained", "attack", "size", "gradient of", "episodes", "mean score",
        "95 % interval", "actions changed", "kept of its own clean score",
    )  # fmt: skip
    cells = [
        (
            cell.first.game,
            cell.first.agent,
            str(cell.first.train_seed) if cell.first.train_seed >= 0 else "",
            f"{cell.first.train_steps:,}" if cell.first.train_steps >= 0 else "unknown",
            cell.first.attack,
            size(cell.first.epsilon),
            cell.first.gradient_source,
            str(cell.score.n),
            f"{cell.score.estimate:,.2f}",
            score_bounds(cell.score),
            f"{cell.flip_share:.1%}",
            percent(cell.kept) if cell.kept else "",
        )
        for cell in attacked
    ]
    if cells:
        notes = (
            "Sizes are l_inf, in units of the network's input. Intervals are over episodes. Shares are of the clean "
            "score above random play on the same starts. They are empty without clean games, or if these are no better "
            "than random play.",
        )
        yield Table("Scores under attack", header, tuple(cells), notes)


# Figures and videos ----------------------------------------------------------------------------------


def pictures(study: Path, folder: Path) -> Iterator[Picture]:
    """The figures in the study's folder: registered ones in their order, then others by name."""
    known = dict(in_order())
    names = [*known]
    drawn = {path.stem: path for path in sorted((study / "figures").glob("*.png"))}
    for path in sorted(drawn.values(), key=lambda path: _position(path.stem, names)):
        width, height = png_size(path)
        vector = path.with_suffix(".pdf")
        yield Picture(
            path.stem,
            known[of].description if (of := path.stem.split("-")[0]) in known else "",
            _link(path, folder),
            width,
            height,
            _link(vector, folder) if vector.is_file() else "",
        )


def _position(name: str, names: Sequence[str]) -> tuple[int, str]:
    of = name.split("-")[0]
    return (names.index(of) if of in names else len(names), name)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels (PNG specification, section 11.2.2).

    Raises:
        Refusal: the file is not a PNG.
    """
    start = path.read_bytes()[:24]
    if len(start) < 24 or start[:8] != b"\x89PNG\r\n\x1a\n":
        raise Refusal(f"{path} is not a PNG: remove it and draw the study again")
    return int.from_bytes(start[16:20]), int.from_bytes(start[20:24])


def _link(path: Path, folder: Path) -> str:
    """The link from a page in a folder to a file."""
    return quote(os.fsencode(Path(os.path.relpath(path, folder))))


def _title(path: Path) -> str:
    """A title made from a file's path in the study."""
    return " / ".join((*path.parent.parts, path.stem))
