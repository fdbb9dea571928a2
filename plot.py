"""python plot.py FOLDER [FOLDER ...]: draw the figures and write the tables of the rows below some folders.

Figures are registered in analysis.figures. No network is run, and torch is never imported.
"""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import main
from core.errors import Refusal


@dataclass(frozen=True)
class Plot:
    """Draw the figures (PNG and PDF) and write the tables of a folder of rows. Nothing is trained or played.

    Rows are found wherever they lie in the folder. Several folders are drawn together: their networks share the
    figures, and are told apart by what differs, or by the name of their folder. Runs that differ in their seed only are
    seeds of one network. Figures of your own are drawn too: --extension MODULE imports the module that registers them.

    Examples:
        spikeq plot runs/scores
        spikeq plot results/minatar --games minatar/breakout --agents dqn dsqn --out runs/breakout
        spikeq plot results/cartpole --columns random "DQN, best" "PPO, best" --out runs/table
    """

    folder: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of rows, such as runs/a, or names of studies in results/, such as quick."""
    out: Path | None = None
    """Folder for the tables and for figures/. Default: the folder itself. Of several folders, a new one beside the
    first, whose name joins theirs (runs/a+b)."""
    games: tuple[str, ...] = ()
    """Only these games."""
    agents: tuple[str, ...] = ()
    """Only these kinds of agents, as in dqn dsqn rate-coded."""
    methods: tuple[str, ...] = ()
    """Only these conversion methods, as in tan2021 qcfs."""
    columns: tuple[str, ...] = ()
    """Columns of games.tex besides the game, at most seven, by their names in games.md. Those that fit if not given."""
    list: bool = False
    """Only list which figures can be drawn from these rows and which cannot."""

    def run(self) -> None:
        if not self.folder:
            raise Refusal("no folder given: a folder of rows, or the name of a study in results/, is needed")
        from analysis.drawing import draw
        from analysis.rows import Only

        draw(self.folder, self.out, Only(self.games, self.agents, self.methods), self.list, self.columns)


if __name__ == "__main__":
    main("python plot.py", Plot)
