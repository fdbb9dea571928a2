"""python -m analysis.report FOLDER: write the page of a study."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import main


@dataclass(frozen=True)
class Report:
    """Write the page of a folder of rows. Nothing is drawn, trained or played.

    Examples:
        spikeq report results/minatar
        spikeq report runs/scores --out runs/page
    """

    folder: Annotated[str, tyro.conf.Positional]
    """A folder of rows, such as runs/a, or the name of a study in results/, such as quick."""
    out: Path | None = None
    """Folder for the page, index.html. Default: FOLDER/report. The page shows the figures that are in FOLDER."""

    def run(self) -> None:
        from analysis.report.page import write_report
        from analysis.rows import study_folder

        print(os.path.relpath(write_report(study_folder(self.folder), self.out)))


if __name__ == "__main__":
    main("python -m analysis.report", Report)
