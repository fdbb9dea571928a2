"""Scores of trained agents. Never imports torch."""

import pandas as pd
from matplotlib.figure import Figure

from core.records import EpisodeRow
from evaluate.figures.style import COLOURS, label, panels, reference_lines
from evaluate.tables import score_lines


def score_bars(rows: pd.DataFrame) -> Figure:
    """Mean scores with their intervals over episodes, random and human play as lines (the tables of Liu and Tan)."""
    figure, axes = panels(rows)
    lines = score_lines(
        [EpisodeRow(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]
    )
    for game, axis in axes.items():
        here = [line for line in lines if line.game == game]
        for position, line in enumerate(here):
            spread = [[line.score.estimate - line.score.low], [line.score.high - line.score.estimate]]
            axis.bar(
                position, line.score.estimate, yerr=spread, color=COLOURS[line.agent], capsize=3, width=0.7
            )
        names = [label(line.agent, line.train_seed, rows) for line in here]
        notes = ["\n(not trained)" if line.note else "" for line in here]
        axis.set_xticks(range(len(here)), [name + note for name, note in zip(names, notes, strict=True)])
        axis.tick_params(axis="x", labelsize=6)
        reference_lines(axis, game)
        axis.axhline(0, color="black", linewidth=0.5)
        axis.set_ylabel("score")
    return figure
