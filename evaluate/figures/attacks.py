"""Agents under attack. Never imports torch."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import COLOURS, LINE_STYLES, checkpoints, common_legend, panels, reference_lines
from evaluate.statistics import mean_interval


def score_against_epsilon(rows: pd.DataFrame) -> Figure:
    """Score under FGSM and under noise of the same size, with intervals over episodes."""
    figure, axes = panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for agent, name, run in checkpoints(here):
            for attack in ("fgsm", "random-sign"):
                under = run[run.attack.isin([attack, "none"])]
                if (under.attack == attack).any():
                    sizes = sorted(set(under.epsilon))
                    points = [mean_interval(under[under.epsilon == size].score.to_numpy()) for size in sizes]
                    source = under[under.attack == attack].gradient_source.iloc[0]
                    label = f"{name}, {attack}" + (f" ({source})" if source else "")
                    colour, style = COLOURS[agent], LINE_STYLES[attack]
                    means = [point.estimate for point in points]
                    axis.plot(sizes, means, color=colour, linestyle=style, marker=".", label=label)
                    lows, highs = [point.low for point in points], [point.high for point in points]
                    axis.fill_between(sizes, lows, highs, color=colour, alpha=0.12)
        sizes = sorted(set(here.epsilon))
        positive = [size for size in sizes if size > 0]
        axis.set_xscale("symlog", linthresh=positive[0] if positive else 1)
        axis.set_xticks(sizes, [f"{255 * size:.3g}/255" if size else "0" for size in sizes])
        axis.minorticks_off()
        reference_lines(axis, game)
        axis.set_xlabel("epsilon (l_inf)")
        axis.set_ylabel("score")
    common_legend(figure, list(axes.values()), 3)
    return figure
