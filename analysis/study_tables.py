"""The tables that `plot.py` writes beside its figures. Never imports torch."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.drawn import Drawn
from analysis.energy import energy_table
from analysis.game_table import Block, game_table
from analysis.game_table_formats import game_table_csv, game_table_markdown
from analysis.game_table_latex import game_table_latex, require_columns
from analysis.learning import learning_curves, stability_table
from analysis.rows import EPISODES, OPERATIONS, VALIDATION, StudyRows
from analysis.shares import shares, sparse_dqns
from analysis.shares_table import shares_table
from analysis.tables import markdown, score_lines
from analysis.words import tenths
from core.errors import Refusal
from core.games import PUBLISHED
from core.rows import ConversionRow

TABLES = ("scores.md", "games.md", "games.csv", "games.tex", "shares.md", "stability.md", "energy.md")
"""Files of tables: scores of every network, the papers' table over games, shares of the DQN, stability of learning, and
energy."""


def require_columns_of(study: StudyRows, columns: Sequence[str]) -> None:
    """Refuse columns that the table over games of a study does not have, before anything is written."""
    require_columns(_blocks(study), columns)


def write_tables(study: StudyRows, drawn: Drawn, columns: Sequence[str] = ()) -> str:
    """Write the tables that can be made from the rows of a study, and remove old ones that cannot be made any more.

    Args:
        study: the rows.
        drawn: the folder of the tables.
        columns: of games.tex, by their names in games.md; those that fit if empty.

    Returns:
        The table of scores as printable text. Empty without episodes.

    Raises:
        Refusal: the rows do not compare, or a file of another origin has the name of a table.
    """
    tables: dict[str, str] = {}
    text = ""
    lines = score_lines(study.rows(EPISODES))
    if lines:
        text = markdown(lines)
        tables["scores.md"] = text
        text = f"\n{text}\nIntervals are over the episodes of one network, not over training seeds.\n"
        blocks = _blocks(study)
        tables["games.md"], tables["games.csv"] = game_table_markdown(blocks), game_table_csv(blocks)
        tables["games.tex"] = game_table_latex(blocks, columns)
    operations = study.rows(OPERATIONS)
    if operations:
        tables["energy.md"] = energy_table(operations)
    kept, left_out = shares(study.frame(EPISODES), operations) if lines else ([], [])
    if kept:
        validation = study.frame(VALIDATION) if study.rows(VALIDATION) else None
        tables["shares.md"] = shares_table(kept, left_out, validation, sparse_dqns(operations))
    try:
        learnt = learning_curves(study.frame(VALIDATION)) if study.rows(VALIDATION) else []
        if steadiness := stability_table(learnt):
            tables["stability.md"] = steadiness
    except Refusal as refusal:
        print(f"stability.md: refused, {refusal}")
    for name in TABLES:
        if name in tables:
            drawn.write(name, tables[name].encode())
        else:
            drawn.remove(name)
    return text


def _blocks(study: StudyRows) -> tuple[Block, ...]:
    """The papers' table over games."""
    if not study.rows(EPISODES):
        return ()
    return game_table(study.frame(EPISODES), pd.read_csv(PUBLISHED / "published_scores.csv"))


def agreement_lines(conversions: Sequence[ConversionRow]) -> Iterator[str]:
    """One line for each converted network: its agreement with its DQN, at the simulation steps it was made for."""
    made_for = {
        row.settings: max(other.sim_steps for other in conversions if other.settings == row.settings)
        for row in conversions
    }
    for row in conversions:
        if row.readout == "robust" and row.sim_steps == made_for[row.settings]:
            other = "BindsNET's simulation of it" if row.reference == "bindsnet" else "its DQN"
            yield (
                f"{row.game}: the converted SNN ({row.method}, {row.sim_steps} sim steps, seed {row.train_seed}) "
                f"agrees with {other} in {tenths(row.agreement)} of {row.num_states} states "
                f"(always the DQN's most frequent action: {tenths(row.majority_share)})"
            )
