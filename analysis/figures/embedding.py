"""Figure of the hidden representations of states. Never imports torch."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import MAX_PANELS, ending, grid, parts, runs
from analysis.rows import EMBEDDINGS
from core.records import require_single


@FIGURES.register("hidden_layer_tsne")
@draws(EMBEDDINGS, section="neurons", position=240)
def hidden_layer_tsne(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """t-SNE of the same states in each agent's last hidden layer, coloured by the agent's largest Q-value (Mnih et al.
    2015, Fig 4). Grey: an agent without Q-values.

    t-SNE keeps neighbours together. Axes, cluster sizes and distances between clusters have no meaning.
    """
    for game, here in rows.groupby("game"):
        require_single(here.states_of, f"agent of {game} whose play the states are of")
        for number, agents in parts(list(runs(here)), MAX_PANELS):
            yield (
                ending(str(game), number),
                _plane(str(game), here, [(label, run) for _, label, run in agents]),
            )


def _plane(game: str, rows: pd.DataFrame, agents: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """A panel for each agent."""
    values = colormaps["viridis"].with_extremes(bad="#999999")
    known = rows.value.dropna()
    scale = Normalize(known.min(), known.max()) if len(known) else Normalize(0, 1)
    figure, axes = grid([label for label, _ in agents])
    for (label, run), axis in zip(agents, axes.values(), strict=True):
        require_single(run.checkpoint_id, f"checkpoint of {label} on {game}")
        axis.set_axis_off()
        points = axis.scatter(
            run.x, run.y, c=run.value, cmap=values, norm=scale, s=3, linewidths=0, plotnonfinite=True
        )
        axis.set_aspect("equal", adjustable="datalim")
    bar = figure.colorbar(
        points, ax=list(axes.values()), orientation="horizontal", shrink=0.6, aspect=40, pad=0.02
    )
    bar.set_label(f"largest Q-value, {game}, n = {rows.state.nunique():,} states")
    bar.outline.set_visible(False)
    return figure
