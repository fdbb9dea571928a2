"""python -m card.leaderboard: one table of every network in studies and cards."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import main
from core.errors import Refusal


@dataclass(frozen=True)
class Leaderboard:
    """Write a table of every network in studies and cards: share of its DQN's score, cost, and verdict.

    A share is (score - random play) / (DQN's score - random play), as a mean over games. Studies compare with the DQNs
    of the same recipe. Cards compare with all DQNs of the game under the same protocol in these folders.

    Examples:
        spikeq leaderboard
        spikeq leaderboard results runs/card --out runs/leaderboard.md
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("results"),)
    """Folders with studies and cards below them."""
    out: Path = Path("results/leaderboard.md")
    """The table."""

    def run(self) -> None:
        from card.standings import leaderboard
        from core.generated import require_as_made, write_generated

        for folder in self.folders:
            if not folder.is_dir():
                raise Refusal(f"no folder {folder}")
        require_as_made(self.out)  # before the work
        write_generated(self.out, leaderboard(self.folders).encode())
        print(os.fspath(self.out))


if __name__ == "__main__":
    main("python -m card.leaderboard", Leaderboard)
