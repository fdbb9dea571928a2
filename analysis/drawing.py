"""Draw the figures and write the tables of the rows below some folders. Never imports torch."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from analysis.drawn import Drawn
from analysis.figures.registry import in_order
from analysis.figures.style import NothingToDraw
from analysis.rows import CONVERSIONS, EVERYTHING, ROW_FILES, Only, StudyRows, folder_names, study_folder
from analysis.study_tables import agreement_lines, require_columns_of, write_tables
from core.errors import Refusal


def draw(
    names: Sequence[str],
    out: Path | None = None,
    only: Only = EVERYTHING,
    only_list: bool = False,
    columns: Sequence[str] = (),
) -> None:
    """Draw every registered figure of some folders, and write their tables.

    Args:
        names: folders of rows, or names of studies. Several are drawn together.
        out: folder for tables and figures; see `plot.Plot`.
        only: which rows are drawn.
        only_list: whether to say only which figures can be drawn.
        columns: of games.tex, by their names in games.md; those that fit if empty.

    Raises:
        Refusal: there is no such folder, or rows do not compare.
    """
    folders = [study_folder(name) for name in names]
    study = StudyRows(*folders)
    if only != EVERYTHING:
        only.require_known(row for files in ROW_FILES for row in study.rows(files))
        study = StudyRows(*folders, only=only)
    if columns:
        require_columns_of(study, columns)
    drawn = Drawn(out or (folders[0] if len(folders) == 1 else _joined(folders)))
    refused = 0
    for name, figure in in_order():
        made: dict[str, Figure] = {}
        try:
            made = figure.of_study(study)
        except NothingToDraw as reason:
            print(f"{name}: skipped, {reason}")
        except Refusal as refusal:
            print(f"{name}: refused, {refusal}")
            refused += 1
            continue
        if only_list:
            if made:
                print(f"{name}: {figure.caption}")
            continue
        files = {f"{name}-{ending}" if ending else name: each for ending, each in made.items()}
        for old in drawn.names(f"figures/{name}.*", f"figures/{name}-*.*"):
            if Path(old).stem not in files:
                drawn.remove(old)
        for file, each in files.items():
            try:
                _save(each, file, drawn)
                print(os.path.relpath(drawn.folder / "figures" / f"{file}.png"))
            except Refusal as refusal:
                print(f"{file}: refused, {refusal}")
                refused += 1
    if not only_list:
        print(write_tables(study, drawn, columns), end="")
        print(*agreement_lines(study.rows(CONVERSIONS)), sep="\n")
    if refused:
        raise Refusal(f"{refused} figures were refused; the reasons are above")


def _joined(folders: Sequence[Path]) -> Path:
    """The folder of what is drawn from several folders, beside the first of them."""
    return folders[0].absolute().parent / "+".join(folder_names(folders).values())


def _save(figure: Figure, name: str, drawn: Drawn) -> None:
    """Write a figure as PNG and as PDF with the same layout and without a date."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # Both formats keep the layout computed above.
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=300, bbox_inches="tight", pad_inches=0.02)
    figure.savefig(pdf, format="pdf", bbox_inches="tight", pad_inches=0.02, metadata={"CreationDate": None})
    drawn.write(f"figures/{name}.png", png.getvalue())
    drawn.write(f"figures/{name}.pdf", pdf.getvalue())
