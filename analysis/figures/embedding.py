"""Figure of the hidden representations of states. Never imports torch."""

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import PANEL_INCHES, runs
from analysis.rows import EMBEDDINGS
from core.records import require_single


@FIGURES.register("hidden_layer_tsne")
@draws(EMBEDDINGS, position=240)
def hidden_layer_tsne(rows: pd.DataFrame) -> Figure:
    """t-SNE of the same states in each agent's last hidden layer, coloured by the agent's largest Q-value (Mnih et al.
    2015, Fig 4). Grey: an agent without Q-values.

    t-SNE keeps neighbours together. Axes, cluster sizes and distances between clusters have no meaning.
    """
    games = sorted(set(rows.game))
    agents = {game: list(runs(rows[rows.game == game])) for game in games}
    columns = max(map(len, agents.values()))
    values = colormaps["viridis"].with_extremes(bad="#999999")
    side = PANEL_INCHES[0] / 2
    figure = Figure(figsize=(side * max(columns, 2), 1.25 * side * len(games)), layout="constrained")
    panels = figure.subplots(len(games), columns, squeeze=False)
    for game, line in zip(games, panels, strict=True):
        here = rows[rows.game == game]
        require_single(here.states_of, f"agent of {game} whose play the states are of")
        known = here.value.dropna()
        scale = Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)
        for axis in line:
            axis.set_axis_off()
        for axis, (_, label, run) in zip(line, agents[game], strict=False):
            require_single(run.checkpoint_id, f"checkpoint of {label} on {game}")
            points = axis.scatter(
                run.x, run.y, c=run.value, cmap=values, norm=scale, s=4, linewidths=0, plotnonfinite=True
            )
            axis.set_aspect("equal", adjustable="datalim")
            axis.set_title(label, fontsize=8)
        bar = figure.colorbar(
            points, ax=list(line), orientation="horizontal", shrink=0.7, aspect=30, pad=0.02
        )
        bar.set_label(f"largest Q-value, {game}, n = {here.state.nunique():,} states", fontsize=7)
        bar.outline.set_visible(False)
    return figure
