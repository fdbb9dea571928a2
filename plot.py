"""python plot.py STUDY: draw the figures and write the tables of a study from its rows.

Figures are registered in analysis.figures. No network is run, and torch is never imported.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from analysis.figures.registry import in_order
from analysis.figures.style import NothingToDraw
from analysis.rows import CONVERSIONS, StudyRows, study_folder
from analysis.study_tables import agreement_lines, write_tables
from core.cli import main
from core.errors import Refusal

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Plot:
    """Draw the figures of a study (PNG and PDF) and write its tables. Nothing is trained or played.

    Figures of your own are drawn too: --extension MODULE imports the module that registers them.
    """

    study: Annotated[str, tyro.conf.Positional]
    """Name of a folder in results/, such as quick, or the path of any folder."""
    list: bool = False
    """Only list which figures can be drawn from this study's rows and which cannot."""

    def run(self) -> None:
        study = StudyRows(study_folder(self.study, RESULTS))
        refused = 0
        for name, figure in in_order():
            target = study.folder / "figures" / f"{name}.png"
            try:
                drawn = figure.of_study(study)
            except NothingToDraw as reason:
                if not self.list:
                    target.unlink(missing_ok=True)
                    target.with_suffix(".pdf").unlink(missing_ok=True)
                print(f"{name}: skipped, {reason}")
            except Refusal as refusal:
                print(f"{name}: refused, {refusal}")
                refused += 1
            else:
                if not self.list:
                    _save(drawn, target)
                print(f"{name}: {figure.caption}" if self.list else os.path.relpath(target))
        if not self.list:
            print(write_tables(study), end="")
            print(*agreement_lines(study.rows(CONVERSIONS)), sep="\n")
        if refused:
            raise Refusal(f"{refused} figures were refused; the reasons are above")


def _save(figure: Figure, target: Path) -> None:
    """Write a figure as PNG and as PDF with the same layout and without a date."""
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # Both formats keep the layout computed above.
    figure.savefig(target, dpi=200)
    figure.savefig(target.with_suffix(".pdf"), metadata={"CreationDate": None})


if __name__ == "__main__":
    main("python plot.py", Plot)
