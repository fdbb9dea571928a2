"""python -m analysis.report STUDY: one static page of a study, from its rows and the files beside them.

The page opens from disk: it has no script, and what it links to lies in the study's folder. Equal files give an
equal page. Never imports torch.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import jinja2
import tyro
from markupsafe import Markup, escape

from analysis.answer import KEPT_HEADER, Answer, Attacked, answer, under_attack
from analysis.figures.registry import in_order
from analysis.report.provenance import Card, Work, cards, works
from analysis.rows import ATTACKS, CONVERSIONS, EPISODES, METHOD_GAMES, METHODS, StudyRows, study_folder
from analysis.tables import markdown, score_lines
from analysis.words import percent, size
from core.cli import main
from core.errors import Refusal
from core.records import write_bytes
from core.rows import ConversionRow, EpisodeRow

RESULTS = Path(__file__).resolve().parents[2] / "results"
PAGE = Path("report") / "index.html"
"""Of a study's folder."""


@dataclass(frozen=True)
class Report:
    """Write the page of a study (results/STUDY/report/index.html); nothing is drawn, trained or played."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a folder in results/, as in quick, or the path of any folder."""

    def run(self) -> None:
        print(os.path.relpath(write_report(study_folder(self.study, RESULTS))))


@dataclass(frozen=True)
class Table:
    """A table of words and numbers."""

    title: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def is_number(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers only, which are read from their right end."""
        return tuple(
            any(column) and all(_NUMBER.fullmatch(cell) for cell in column if cell)
            for column in zip(*self.cells, strict=True)
        )


@dataclass(frozen=True)
class Picture:
    """A figure that lies in the study."""

    name: str
    caption: str
    link: str
    width: int
    """Pixels, as the height; figures are drawn with two for each of the page's."""
    height: int
    vector: str
    """Link to the same figure as a PDF; empty if there is none."""


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    study: str
    answer: Answer
    kept: Table
    """What each network keeps of its DQN's score."""
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    cards: tuple[Card, ...]
    works: tuple[Work, ...]
    videos: tuple[tuple[str, str], ...]
    """Names and links."""


def write_report(study: Path) -> Path:
    """Write the page of a study's folder; gives where it lies.

    Raises:
        Refusal: the folder holds no rows, or rows that do not compare, or a file that is not what it should be.
    """
    page = page_of(study)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = prose
    text = environment.get_template("report.html.j2").render(vars(page))
    write_bytes(study / PAGE, text.encode())
    return study / PAGE


def page_of(study: Path) -> Page:
    """What the page of a study shows."""
    if not any(study.rglob("*.parquet")):
        raise Refusal(f"{study} holds no rows: python reproduce.py {study.name} makes some")
    rows = StudyRows(study)
    episodes, compared, attacks = map(rows.rows, (EPISODES, METHOD_GAMES, ATTACKS))
    methods, conversions = map(rows.rows, (METHODS, CONVERSIONS))
    tables = [*_score_tables(episodes), *_agreement_tables(conversions)]
    tables += _attack_tables(under_attack(attacks, episodes))
    for path in sorted(study.rglob("*.md")):
        if path not in (study / "scores.md", study / "README.md"):
            tables += markdown_tables(_title(path.relative_to(study)), path.read_text())
    found = answer(episodes, compared, methods, attacks)
    return Page(
        study.name,
        found,
        Table("What is kept of a DQN's score above random play", KEPT_HEADER, found.kept),
        tuple(tables),
        tuple(pictures(study)),
        tuple(cards({"evaluated": episodes, "conversions compared": compared, "under attack": attacks})),
        tuple(works(study)),
        tuple((_title(path.relative_to(study)), _link(study, path)) for path in sorted(study.rglob("*.mp4"))),
    )


def prose(text: str) -> Markup:
    """A sentence as HTML: what is between backquotes is to be typed, and numbers stay with their units."""
    unbroken = str(escape(text)).replace(" %", "\xa0%").replace("n = ", "n\xa0=\xa0")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", unbroken))


# Tables ----------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?[\d,.]+(e-?\d+)?( ?%)?")


def markdown_tables(title: str, text: str) -> Iterator[Table]:
    """The tables of a Markdown text, each with the lines below it."""
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
            notes = tuple(line.strip() for line in below if line.strip() and not line.startswith("#"))
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
            "Share of states in which the converted network takes the same action as its DQN, or as its own simulation "
            "in another simulator; beside it what always taking one action would agree."
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
            f"{cell.score.low:,.2f} to {cell.score.high:,.2f}",
            f"{cell.flip_share:.1%}",
            percent(cell.kept) if cell.kept else "",
        )
        for cell in attacked
    ]
    if cells:
        notes = (
            "Sizes are l_inf, in units of the network's input; intervals are over episodes. Shares are of scores above "
            "random play in clean games of the same starts, and empty where there are none or where they are no better "
            "than random play.",
        )
        yield Table("Scores under attack", header, tuple(cells), notes)


# Figures and videos ----------------------------------------------------------------------------------


def pictures(study: Path) -> Iterator[Picture]:
    """The figures that lie in the study, in the order of the registry, then others by name."""
    known = dict(in_order())
    names = [*known]
    drawn = {path.stem: path for path in sorted((study / "figures").glob("*.png"))}
    for path in sorted(drawn.values(), key=lambda path: _position(path.stem, names)):
        width, height = png_size(path)
        vector = path.with_suffix(".pdf")
        yield Picture(
            path.stem,
            known[path.stem].description if path.stem in known else "",
            _link(study, path),
            width,
            height,
            _link(study, vector) if vector.is_file() else "",
        )


def _position(name: str, names: Sequence[str]) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels (PNG specification, section 11.2.2)."""
    start = path.read_bytes()[:24]
    if len(start) < 24 or start[:8] != b"\x89PNG\r\n\x1a\n":
        raise Refusal(f"{path} is no PNG; remove it, and draw the study again")
    return int.from_bytes(start[16:20]), int.from_bytes(start[20:24])


def _link(study: Path, path: Path) -> str:
    """A file of the study as the page links to it."""
    return quote("../" + path.relative_to(study).as_posix())


def _title(path: Path) -> str:
    """A file's place in the study, in words."""
    return " / ".join((*path.parent.parts, path.stem))


if __name__ == "__main__":
    main("python -m analysis.report", Report)
