"""python plot.py FOLDER [FOLDER ...]: draw the figures and write the tables of the rows below some folders.

Figures are registered in analysis.figures. No network is run, and torch is never imported.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from analysis.drawn import Drawn
from analysis.figures.registry import in_order
from analysis.figures.style import NothingToDraw
from analysis.rows import CONVERSIONS, StudyRows, folder_names, study_folder
from analysis.study_tables import agreement_lines, write_tables
from core.cli import main
from core.errors import Refusal


@dataclass(frozen=True)
class Plot:
    """Draw the figures (PNG and PDF) and write the tables of a folder of rows. Nothing is trained or played.

    Rows are found wherever they lie in the folder. Several folders are drawn together: their networks share the
    figures, and are told apart by what differs, or by the name of their folder. Runs that differ in their seed only are
    seeds of one network. Figures of your own are drawn too: --extension MODULE imports the module that registers them.
    """

    folder: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of rows, such as runs/a, or names of studies in results/, such as quick."""
    out: Path | None = None
    """Folder for the tables and for figures/. Default: the folder itself. Of several folders, a new one beside the
    first, whose name joins theirs (runs/a+b)."""
    list: bool = False
    """Only list which figures can be drawn from these rows and which cannot."""

    def run(self) -> None:
        if not self.folder:
            raise Refusal("no folder given: a folder of rows, or the name of a study in results/, is needed")
        folders = [study_folder(name) for name in self.folder]
        study = StudyRows(*folders)
        drawn = Drawn(self.out or (folders[0] if len(folders) == 1 else _joined(folders)))
        refused = 0
        for name, figure in in_order():
            try:
                made = figure.of_study(study)
                if not self.list:
                    _save(made, name, drawn)
            except NothingToDraw as reason:
                if not self.list:
                    for ending in ("png", "pdf"):
                        drawn.remove(f"figures/{name}.{ending}")
                print(f"{name}: skipped, {reason}")
            except Refusal as refusal:
                print(f"{name}: refused, {refusal}")
                refused += 1
            else:
                target = drawn.folder / "figures" / f"{name}.png"
                print(f"{name}: {figure.caption}" if self.list else os.path.relpath(target))
        if not self.list:
            print(write_tables(study, drawn), end="")
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
    figure.savefig(png, format="png", dpi=200)
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    drawn.write(f"figures/{name}.png", png.getvalue())
    drawn.write(f"figures/{name}.pdf", pdf.getvalue())


if __name__ == "__main__":
    main("python plot.py", Plot)
