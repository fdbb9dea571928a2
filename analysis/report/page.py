"""The page of a study: a static page, from the rows and other files in its folder.

The page opens from disk and links only to files in the study's folder. Its one script sorts tables; without it
everything is there. Equal files give an equal page. Never imports torch.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from analysis.answer import KEPT_HEADER, Answer, Attacked, answer, under_attack
from analysis.attackers import BOUNDED, flips, masking_gaps, strongest
from analysis.evidence import Evidence, attacked_scores, evidence
from analysis.figures.registry import SECTIONS, Section, in_order
from analysis.gates import gates
from analysis.pages import render
from analysis.report.provenance import Card, Work, cards, works
from analysis.rows import (
    ATTACKS,
    CONVERSIONS,
    EPISODES,
    METHOD_GAMES,
    METHODS,
    OPERATIONS,
    STATE_ATTACKS,
    StudyRows,
)
from analysis.tables import markdown, score_lines
from analysis.terms import terms_in
from analysis.words import percent, points, score_bounds, size, tenths
from core.errors import Refusal
from core.generated import require_as_made, write_generated
from core.reading import read_text
from core.rows import ConversionRow, EpisodeRow

PAGE = "index.html"
HEAD_FIGURES = (
    "score_against_energy",
    "score_of_methods",
    "normalised_scores",
    "score_bars",
    "score_against_epsilon",
)
"""Figures that can answer the question at the head of the page, best first."""
TITLES: Mapping[Section, str] = {
    "scores": "Scores",
    "learning": "Learning",
    "conversion": "Conversion",
    "robustness": "Robustness",
    "cost": "Cost",
    "neurons": "Inside the networks",
    "more": "More",
}
TEXTS: Mapping[str, tuple[Section, str]] = {
    "games": ("scores", "Table of games"),
    "shares": ("scores", "Share of the DQN's score"),
    "stability": ("learning", "Stability of learning"),
    "comparison": ("conversion", "Methods compared"),
    "energy": ("cost", "Operations and energy"),
}
"""Where the tables of a Markdown file stand, and their title, by the file's name."""
WIDE = 1500
"""Pixels above which a figure gets a row of its own."""
FOLDED_ROWS = 12
"""Rows from which on a table is folded."""


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    is_summary: bool = False
    """Whether its rows are shown however many there are."""

    @property
    def is_folded(self) -> bool:
        """Whether a reader must ask to see its rows."""
        return len(self.cells) > FOLDED_ROWS and not self.is_summary

    @property
    def is_number(self) -> tuple[bool, ...]:
        """For each column, whether it holds only numbers. Such columns are aligned to the right."""
        return tuple(
            any(column) and all(_NUMBER.fullmatch(cell) for cell in column if cell)
            for column in zip(*self.cells, strict=True)
        )


@dataclass(frozen=True)
class Folded:
    """Tables of one network, folded together."""

    title: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Picture:
    """A figure in the study's folder."""

    name: str
    figure: str
    """Name of the registered figure that the file is a part of."""
    section: Section
    caption: str
    link: str
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    vector: str
    """Link to the same figure as a PDF. Empty if there is none."""

    @property
    def shown_width(self) -> int:
        """Its largest width on the page. Figures have 300 dots an inch, which sharp screens show as they are."""
        return self.width * 12 // 25

    @property
    def is_wide(self) -> bool:
        """Whether it gets a whole row of the page: figures of two columns of a paper do."""
        return self.width > WIDE


@dataclass(frozen=True)
class Chapter:
    """A section of the page: its figures, then its tables."""

    name: str
    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    folded: tuple[Folded, ...] = ()
    """Tables of single networks."""

    @property
    def terms(self) -> dict[str, str]:
        """Definitions of the terms that its captions and tables use."""
        tables = [*self.tables, *(table for network in self.folded for table in network.tables)]
        heads = [word for table in tables for word in (table.title, *table.header, *table.notes)]
        cells = (cell for table in tables for row in table.cells for cell in row)
        return terms_in([*(picture.caption for picture in self.pictures), *heads], cells)


@dataclass(frozen=True)
class Download:
    """A file of the study that readers may want."""

    name: str
    link: str
    size: str


@dataclass(frozen=True)
class Page:
    """The content of the page, as the template takes it."""

    study: str
    answer: Answer
    head: Picture | None
    """The figure that answers the question."""
    chapters: tuple[Chapter, ...]
    cards: tuple[Card, ...]
    works: tuple[Work, ...]
    downloads: tuple[Download, ...]
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
        raise Refusal(f"{study} holds no rows: spikeq reproduce and spikeq evaluate make them")
    rows = StudyRows(study)
    episodes, compared, attacks = map(rows.rows, (EPISODES, METHOD_GAMES, ATTACKS))
    methods, conversions = map(rows.rows, (METHODS, CONVERSIONS))
    found = answer(episodes, compared, methods, attacks, bool(rows.rows(OPERATIONS)))
    tables: dict[Section, list[Table]] = {section: [] for section in SECTIONS}
    if found.kept:
        tables["scores"].append(Table("Score kept of the DQN's", KEPT_HEADER, found.kept))
    tables["scores"] += _score_tables(episodes)
    tables["conversion"] += _agreement_tables(conversions)
    attacked = evidence(rows.rows(STATE_ATTACKS), attacks)
    tables["robustness"] += [*_gate_tables(attacked), *_attack_tables(under_attack(attacks, episodes))]
    for path in sorted(study.rglob("*.md")):
        if path not in [study / name for name in ("scores.md", "README.md", "verdict.md")]:
            place = path.relative_to(study)
            section, title = TEXTS.get(path.stem, ("more", path.stem))
            title = " / ".join((*place.parent.parts, title))
            tables[section] += markdown_tables(title, read_text(path))
    verdict = study / "verdict.md"
    folded = _by_network(read_text(verdict)) if verdict.is_file() else ()
    drawn = list(pictures(study, folder))
    return Page(
        name,
        found,
        _answering(drawn),
        tuple(
            Chapter(
                section,
                TITLES[section],
                shown,
                tuple(tables[section]),
                tuple(folded) if section == "robustness" else (),
            )
            for section in SECTIONS
            if (shown := tuple(each for each in drawn if each.section == section)) or tables[section]
        ),
        tuple(cards({"evaluated": episodes, "conversions compared": compared, "under attack": attacks})),
        tuple(works(study)),
        tuple(_downloads(study, folder)),
        tuple(
            (_title(path.relative_to(study)), _link(path, folder)) for path in sorted(study.rglob("*.mp4"))
        ),
    )


def _answering(drawn: Sequence[Picture]) -> Picture | None:
    """The first figure that answers the question."""
    for name in HEAD_FIGURES:
        for picture in drawn:
            if picture.figure == name:
                return picture
    return None


def _downloads(study: Path, folder: Path) -> Iterator[Download]:
    """Rows and tables. Those of a training run that only resuming needs are left out."""
    for ending in ("*.csv", "*.tex", "*.parquet"):
        for path in sorted(study.rglob(ending)):
            if not path.name.startswith("."):
                kib = f"{max(1, round(path.stat().st_size / 1024)):,} KiB"
                yield Download(str(path.relative_to(study)), _link(path, folder), kib)


def prose(text: str) -> Markup:
    """A sentence as HTML. Text in backquotes becomes code, and numbers are not separated from their units."""
    unbroken = str(escape(text)).replace(" %", "\xa0%").replace("n = ", "n\xa0=\xa0")
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", unbroken))


# Tables ----------------------------------------------------------------------------------------------

BOLD = 9
"""Level of a line in bold that names the table below it, lower than that of every heading."""
_NUMBER = re.compile(r"-?[\d,.]+(e-?\d+)?( ?%)?")


def markdown_tables(title: str, text: str) -> Iterator[Table]:
    """The tables of a Markdown text, named after the headings above them. The lines below a table are its notes."""
    lines = text.splitlines()
    blocks = [
        (is_table, list(block)) for is_table, block in groupby(lines, lambda line: line.startswith("|"))
    ]
    headings: dict[int, str] = {}
    for index, (is_table, block) in enumerate(blocks):
        for line in [] if is_table else block:
            if line.startswith("##"):
                level = len(line) - len(line.lstrip("#"))
                headings = {above: words for above, words in headings.items() if above < level}
                headings[level] = line.lstrip("# ")
            elif named := re.match(r"\*\*([^:*]+)[^*]*\*\*$", line):
                headings[BOLD] = f"{title}: {named[1]}"
        if is_table and len(block) > 2:
            header, _, *cells = (
                [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block
            )
            below = blocks[index + 1][1] if index + 1 < len(blocks) else []
            notes = tuple(
                line.strip().removeprefix("- ")
                for line in below
                if line.strip() and not line.startswith(("#", "<!--"))
            )
            yield Table(", ".join(headings.values()) or title, tuple(header), tuple(map(tuple, cells)), notes)


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
            tenths(row.agreement),
            tenths(row.majority_share),
        )
        for row in conversions
    ]
    if cells:
        note = (
            "Agreement: share of states in which the converted network takes the same action as its DQN, or as its own "
            "simulation in another simulator. Constant action: the agreement of always taking the same action."
        )
        yield Table("Agreement of converted networks", header, tuple(cells), (note,))


def _gate_tables(attacked: Sequence[Evidence]) -> Iterator[Table]:
    """One line for each attacked network: what it scores, what attacks find, and which gates did not pass."""
    header = (
        "game", "network", "clean score", "size", "kept in games", "states flipped", "largest masking gap",
        "gates passed", "not passed",
    )  # fmt: skip
    cells = []
    for shown in attacked:
        found = gates(shown)
        left = attacked_scores(shown)
        smallest = shown.sizes[0] if shown.sizes else None
        kept = left[smallest].kept if smallest in left else None
        best = strongest([row for row in shown.states if row.epsilon == smallest], *BOUNDED)
        gaps = [gap.gap for gap in masking_gaps(shown.states)]
        clean = [row.score for row in shown.clean]
        cells.append(
            (
                shown.network.game,
                _without_digest(shown.network.name),
                f"{sum(clean) / len(clean):,.2f}" if clean else "",
                "" if smallest is None else size(smallest),
                percent(kept) if kept else "",
                percent(flips(best)) if best else "",
                points(max(gaps, key=lambda gap: gap.estimate)) if gaps else "",
                f"{sum(gate.outcome == 'pass' for gate in found)} of {len(found)}",
                ", ".join(gate.name for gate in found if gate.outcome != "pass"),
            )
        )
    if cells:
        note = (
            "At the smallest size: the share that is kept of the clean score above random play under the strongest "
            "attack in games, and the share of stored states that the strongest attack flips. A gate that does not "
            "pass forbids every claim that a network is robust."
        )
        yield Table("Attacked networks", header, tuple(cells), (note,), is_summary=True)


PARTS: Mapping[str, str] = {
    "strongest attack in games": "Games under attack",
    "best attack on states": "States under attack",
    "measured": "Gates",
}
"""Titles of the tables of a network in a verdict, by a column."""


def _by_network(verdict: str) -> Iterator[Folded]:
    """The tables of a verdict, those of one network together."""
    for title, tables in groupby(markdown_tables("", verdict), lambda table: table.title):
        yield Folded(
            _without_digest(title),
            tuple(
                replace(
                    table,
                    title=next((name for column, name in PARTS.items() if column in table.header), ""),
                    notes=tuple(map(_without_digest, table.notes)),
                )
                for table in tables
            ),
        )


def _without_digest(name: str) -> str:
    """A network's name without the digest of its weights, which provenance has."""
    return re.sub(r", [0-9a-f]{12}\)", ")", name)


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
            tenths(cell.flip_share),
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
        of = _figure_of(path.stem)
        yield Picture(
            path.stem,
            of,
            known[of].section if of in known else "more",
            (known[of].caption if of in known else "") or of.replace("_", " "),
            _link(path, folder),
            width,
            height,
            _link(vector, folder) if vector.is_file() else "",
        )


def _figure_of(stem: str) -> str:
    """The registered name in the name of a file, which may end in a part of the figure."""
    return stem.split("-")[0]


def _position(stem: str, names: Sequence[str]) -> tuple[int, str]:
    of = _figure_of(stem)
    return (names.index(of) if of in names else len(names), stem)


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
