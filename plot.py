"""python plot.py STUDY: the tables and the figures of a study, from its rows alone.

What there is to draw stands in FIGURES, one function a figure (evaluate/figures/). Nothing is computed here that needs
a network; torch is never imported.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import tyro
from matplotlib.figure import Figure

from analysis.energy import energy_table
from analysis.figures import attacks, conversion, embedding, energy, learning, neurons, scores
from analysis.figures.style import NothingToDraw
from analysis.game_table import game_table, game_table_csv, game_table_latex, game_table_markdown
from analysis.tables import markdown, score_lines
from core.cli import main
from core.errors import Refusal
from core.games import PUBLISHED
from core.records import (
    AttackRow,
    ConversionRow,
    CurveRow,
    EmbeddingRow,
    EpisodeRow,
    OperationsRow,
    ResponseRow,
    StateAttackRow,
    read_rows,
    write_bytes,
)

ROOT = Path(__file__).resolve().parent


class Rows(NamedTuple):
    """Files of rows in a study's folder."""

    pattern: str
    row_type: type
    made_by: str
    """The command that writes such files."""


EPISODES = Rows("*/*/episodes.parquet", EpisodeRow, "evaluate run")
VALIDATION = Rows("*/*/validation.parquet", EpisodeRow, "train_direct dqn (dsqn)")
CURVES = Rows("*/*/curve.parquet", CurveRow, "train_direct dqn (dsqn)")
CONVERSIONS = Rows("*/*/*.conversion.parquet", ConversionRow, "convert run")
METHODS = Rows("*/*/methods.parquet", ConversionRow, "convert compare")
METHOD_GAMES = Rows("*/*/conversion_episodes.parquet", EpisodeRow, "convert compare --episodes N")
ATTACKS = Rows("*/*/attacks.parquet", AttackRow, "adversarial run")
STATE_ATTACKS = Rows("*/*/state_attacks.parquet", StateAttackRow, "adversarial states")
OPERATIONS = Rows("*/*/operations.parquet", OperationsRow, "evaluate probe --agent A [B ...]")
RESPONSES = Rows("*/*/responses.parquet", ResponseRow, "evaluate probe")
EMBEDDINGS = Rows("*/*/embedding.parquet", EmbeddingRow, "evaluate probe --agent A [B ...]")


class Drawing(NamedTuple):
    """A figure, named as its function is, and the rows that this function takes, a data frame for each."""

    draw: Callable[..., Figure]
    rows: tuple[Rows, ...]

    @property
    def name(self) -> str:
        return self.draw.__name__

    @property
    def caption(self) -> str:
        """The first paragraph of what its function says."""
        return " ".join((self.draw.__doc__ or "").split("\n\n")[0].split())


FIGURES = (
    Drawing(scores.score_bars, (EPISODES,)),
    Drawing(scores.normalised_scores, (EPISODES,)),
    Drawing(scores.performance_profiles, (EPISODES,)),
    Drawing(scores.probability_of_improvement, (EPISODES,)),
    Drawing(scores.chen2022_table1_decoders, (EPISODES,)),
    Drawing(scores.liu2022_table8_double_dqn, (EPISODES,)),
    Drawing(learning.liu2022_fig7_learning_curves, (VALIDATION,)),
    Drawing(learning.max_q_curves, (VALIDATION,)),
    Drawing(learning.learning_stability, (VALIDATION,)),
    Drawing(learning.training_loss, (CURVES,)),
    Drawing(neurons.liu2022_fig3_surrogates, (RESPONSES,)),
    Drawing(neurons.liu2022_fig4_if_rate_against_relu, (RESPONSES,)),
    Drawing(neurons.liu2022_fig5_firing_rates, (RESPONSES,)),
    Drawing(neurons.chen2022_fig4_voltage_statistics, (RESPONSES,)),
    Drawing(conversion.agreement_against_sim_steps, (CONVERSIONS,)),
    Drawing(conversion.agreement_of_methods, (METHODS,)),
    Drawing(conversion.score_of_methods, (METHOD_GAMES,)),
    Drawing(attacks.score_against_epsilon, (ATTACKS,)),
    Drawing(attacks.flips_against_epsilon, (ATTACKS,)),
    Drawing(attacks.flips_of_states, (STATE_ATTACKS,)),
    Drawing(attacks.masking_gap, (STATE_ATTACKS,)),
    Drawing(energy.spikes_and_energy, (OPERATIONS,)),
    Drawing(energy.score_against_energy, (OPERATIONS, EPISODES)),
    Drawing(embedding.hidden_layer_tsne, (EMBEDDINGS,)),
)


@dataclass(frozen=True)
class Plot:
    """Draw the figures of a study (PNG and PDF) and write its tables; nothing is trained or played."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a folder in results/, as in quick."""
    list: bool = False
    """Only say which figures there are, and which of them this study's rows allow."""

    def run(self) -> None:
        study = ROOT / "results" / self.study
        if not study.is_dir():
            raise Refusal(f"no results of study {self.study!r}: python reproduce.py {self.study} makes them")
        refused = 0
        for drawing in FIGURES:
            target = study / "figures" / f"{drawing.name}.png"
            try:
                figure = _draw(study, drawing)
            except NothingToDraw as reason:
                if not self.list:
                    target.unlink(missing_ok=True)
                    target.with_suffix(".pdf").unlink(missing_ok=True)
                print(f"{drawing.name}: skipped, {reason}")
                continue
            except Refusal as refusal:
                print(f"{drawing.name}: refused, {refusal}")
                refused += 1
                continue
            if self.list:
                print(f"{drawing.name}: {drawing.caption}")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not for each format
            figure.savefig(target, dpi=200)
            figure.savefig(target.with_suffix(".pdf"), metadata={"CreationDate": None})
            print(target.relative_to(ROOT))
        if not self.list:
            _write_tables(study)
        if refused:
            raise Refusal(f"{refused} figures were refused, for what is said above")


def _draw(study: Path, drawing: Drawing) -> Figure:
    frames = []
    for rows in drawing.rows:
        frame = _frame(study, rows)
        if frame.empty:
            raise NothingToDraw(f"no rows ({rows.pattern}); python -m {rows.made_by} makes them")
        frames.append(frame)
    return drawing.draw(*frames)


@cache
def _frame(study: Path, rows: Rows) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in _read(study, rows)])


@cache
def _read(study: Path, rows: Rows) -> list:
    """All rows of a study that lie in files of a pattern."""
    return [row for path in sorted(study.glob(rows.pattern)) for row in read_rows(path, rows.row_type)]


def _write_tables(study: Path) -> None:
    """Scores of every network, the papers' table over games, and energy; the first is printed too."""
    for name in ("scores.md", "games.md", "games.csv", "games.tex", "energy.md"):
        (study / name).unlink(missing_ok=True)  # of rows that may be gone
    lines = score_lines(_read(study, EPISODES))
    if lines:
        text = markdown(lines)
        write_bytes(study / "scores.md", text.encode())
        print(f"\n{text}\nIntervals are over the episodes of one network, not over training seeds.")
        blocks = game_table(_frame(study, EPISODES), pd.read_csv(PUBLISHED / "published_scores.csv"))
        for ending, form in (("md", game_table_markdown), ("csv", game_table_csv), ("tex", game_table_latex)):
            write_bytes(study / f"games.{ending}", form(blocks).encode())
    operations = _read(study, OPERATIONS)
    if operations:
        write_bytes(study / "energy.md", energy_table(operations).encode())
    conversions = _read(study, CONVERSIONS)
    made_for = {
        row.settings: max(other.sim_steps for other in conversions if other.settings == row.settings)
        for row in conversions
    }
    for row in conversions:
        if row.readout == "robust" and row.sim_steps == made_for[row.settings]:
            against = "BindsNET's simulation of it" if row.reference == "bindsnet" else "its DQN"
            print(
                f"{row.game}: the converted SNN ({row.method}, {row.sim_steps} sim steps, seed {row.train_seed}) takes "
                f"the action of {against} in {row.agreement:.1%} of {row.num_states} states "
                f"(the DQN's most frequent action: {row.majority_share:.1%})"
            )


if __name__ == "__main__":
    main("python plot.py", Plot)
