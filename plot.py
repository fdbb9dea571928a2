"""python plot.py STUDY: the tables and the figures of a study, from its rows alone.

What there is to draw stands in FIGURES, one function a figure (evaluate/figures/). Nothing is computed here that needs
a network; torch is never imported.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import tyro
from matplotlib.figure import Figure

from core.cli import main
from core.errors import Refusal
from core.records import AttackRow, ConversionRow, CurveRow, EpisodeRow, Row, read_rows, write_bytes
from evaluate.figures import attacks, conversion, learning, scores
from evaluate.tables import markdown, score_lines

ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plot:
    """Draw the figures of a study and print its table; nothing is trained or played."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a folder in results/, as in quick."""

    def run(self) -> None:
        study = ROOT / "results" / self.study
        if not study.is_dir():
            raise Refusal(f"no results of study {self.study!r}: python reproduce.py {self.study} makes them")
        for name, (pattern, row_type, draw, made_by) in FIGURES.items():
            rows = pd.DataFrame([asdict(row) for row in _read(study, pattern, row_type)])
            target = study / "figures" / f"{name}.png"
            if rows.empty:
                target.unlink(missing_ok=True)
                print(f"{name}: skipped, no rows ({pattern}); python -m {made_by} makes them")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draw(rows).savefig(target, dpi=200)
            print(target.relative_to(ROOT))
        lines = score_lines(_read(study, "*/*/episodes.parquet", EpisodeRow))
        if lines:
            text = markdown(lines)
            write_bytes(study / "scores.md", text.encode())
            print(f"\n{text}\nIntervals are over the episodes of one network, not over training seeds.")
        self._print_conversions(study)

    def _print_conversions(self, study: Path) -> None:
        rows = _read(study, "*/*/*.conversion.parquet", ConversionRow)
        for row in rows:
            longest = max(other.sim_steps for other in rows if other.game == row.game)
            if row.readout == "robust" and row.sim_steps == longest:
                against = "BindsNET's simulation of it" if row.reference == "bindsnet" else "its DQN"
                print(
                    f"{row.game}: the converted SNN ({row.method}, {row.sim_steps} sim steps) takes the action of "
                    f"{against} in {row.agreement:.1%} of {row.num_states} states "
                    f"(the DQN's most frequent action: {row.majority_share:.1%})"
                )


def _read(study: Path, pattern: str, row_type: type[Row]) -> list[Row]:
    """All rows of a study that lie in files of a pattern."""
    return [row for path in sorted(study.glob(pattern)) for row in read_rows(path, row_type)]


class Drawing(NamedTuple):
    """A figure and the rows that it draws."""

    pattern: str
    """Of the files in a study's folder."""
    row_type: type
    draw: Callable[[pd.DataFrame], Figure]
    made_by: str
    """The command that writes such files."""


FIGURES = {
    "score_bars": Drawing("*/*/episodes.parquet", EpisodeRow, scores.score_bars, "evaluate run"),
    "liu2022_fig7_learning_curves": Drawing(
        "*/*/validation.parquet", EpisodeRow, learning.liu2022_fig7_learning_curves, "train_direct dqn (dsqn)"
    ),
    "training_loss": Drawing(
        "*/*/curve.parquet", CurveRow, learning.training_loss, "train_direct dqn (dsqn)"
    ),
    "agreement_against_sim_steps": Drawing(
        "*/*/*.conversion.parquet", ConversionRow, conversion.agreement_against_sim_steps, "convert run"
    ),
    "agreement_of_methods": Drawing(
        "*/*/methods.parquet", ConversionRow, conversion.agreement_of_methods, "convert compare"
    ),
    "score_of_methods": Drawing(
        "*/*/conversion_episodes.parquet",
        EpisodeRow,
        conversion.score_of_methods,
        "convert compare --episodes N",
    ),
    "score_against_epsilon": Drawing(
        "*/*/attacks.parquet", AttackRow, attacks.score_against_epsilon, "adversarial run"
    ),
}

if __name__ == "__main__":
    main("python plot.py", Plot)
