"""Figures of the responses of neurons to inputs, as in the papers. Never imports torch."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import ONE_COLUMN, foot
from analysis.rows import RESPONSES
from core.reading import parse_json

_FAMILIES = {"atan": ("#0072B2", "-"), "sigmoid": ("#D55E00", "--")}
_WIDTHS = (0.7, 1.2, 1.9)
_THREE = ("#56B4E9", "#E69F00", "#000000")
"""Colours from light to dark, for three values of one quantity."""
_STATISTICS: dict[str, dict[str, Any]] = {
    "max-mem": {"label": "largest (max-mem)", "color": "#E69F00", "linewidth": 2.5},
    "last-mem": {"label": "last (last-mem)", "color": "#0072B2", "linewidth": 1},
    "mean-mem": {"label": "mean (mean-mem)", "color": "#000000", "linewidth": 1, "linestyle": "--"},
}
_STEPS: dict[str, Any] = {"drawstyle": "steps-mid", "solid_joinstyle": "miter"}
"""Counts of spikes jump between inputs, so lines are drawn as steps."""


@FIGURES.register("liu2022_fig3_surrogates")
@draws(RESPONSES, section="neurons", position=110)
def liu2022_fig3_surrogates(rows: pd.DataFrame) -> Figure:
    """Surrogate derivatives of a spike around the threshold (Liu et al. 2022, Fig 3).

    Lines of equal width are equally high at the threshold. A slope a gives a/2 (arc tangent) or a/4 (sigmoid) there.
    """
    figure = Figure(figsize=(ONE_COLUMN, 2.4), layout="constrained")
    axis = figure.subplots()
    curves = list(_curves(rows[rows.quantity == "surrogate"]))
    curves.sort(key=lambda each: each[0]["surrogate_slope"])
    for name, (colour, dashes) in _FAMILIES.items():
        family = [each for each in curves if each[0]["surrogate"] == name]
        for (neuron, curve), width in zip(family, _WIDTHS, strict=True):
            label = f"{name}, slope {neuron['surrogate_slope']:g}"
            axis.plot(curve.input, curve.response, dashes, color=colour, linewidth=width, label=label)
    axis.set_xlabel("membrane minus threshold")
    axis.set_ylabel("derivative of the spike")
    axis.set_ylim(bottom=0)
    axis.legend()
    return figure


@FIGURES.register("liu2022_fig4_if_rate_against_relu")
@draws(RESPONSES, section="neurons", position=120)
def liu2022_fig4_if_rate_against_relu(rows: pd.DataFrame) -> Figure:
    """Firing rate of an IF neuron with soft reset, for several simulation steps, and ReLU (Liu et al. 2022, Fig 4)."""
    figure = Figure(figsize=(ONE_COLUMN, 2.4), layout="constrained")
    axis = figure.subplots()
    ((_, relu),) = _curves(rows[rows.quantity == "relu"])
    axis.plot(relu.input, relu.response, color="#999999", linewidth=3, alpha=0.6, label="ReLU")
    rates = [
        curve
        for neuron, curve in _curves(rows[rows.quantity == "rate"])
        if (neuron["name"], neuron["reset"], neuron["threshold"]) == ("if", "soft", 1.0)
    ]
    rates.sort(key=lambda curve: curve.sim_steps.iloc[0])
    for curve, colour in zip(rates, _THREE, strict=True):
        label = f"IF, {curve.sim_steps.iloc[0]} sim steps"
        axis.plot(curve.input, curve.response, color=colour, linewidth=1, label=label, **_STEPS)
    axis.set_xlim(-0.5, 1.5)
    axis.set_ylim(-0.05, 1.5)
    axis.set_xticks([-0.5, 0, 0.5, 1, 1.5])
    axis.set_yticks([0, 0.5, 1, 1.5])
    axis.set_xlabel("input current")
    axis.set_ylabel("spikes per sim step; activation")
    axis.legend()
    return figure


@FIGURES.register("liu2022_fig5_firing_rates")
@draws(RESPONSES, section="neurons", position=130)
def liu2022_fig5_firing_rates(rows: pd.DataFrame) -> Figure:
    """Firing rate against input of IF and LIF neurons with hard and soft reset, at three thresholds (Liu et al. 2022,
    Fig 5)."""
    rates = rows[rows.quantity == "rate"]
    sim_steps = rates.sim_steps.max()
    curves = list(_curves(rates[rates.sim_steps == sim_steps]))
    curves.sort(key=lambda each: each[0]["threshold"])
    figure = Figure(figsize=(ONE_COLUMN, 3.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, charge in enumerate(("if", "lif")):
        for column, reset in enumerate(("hard", "soft")):
            axis = panels[row][column]
            here = [each for each in curves if (each[0]["name"], each[0]["reset"]) == (charge, reset)]
            for (neuron, curve), colour in zip(here, _THREE, strict=True):
                label = f"threshold {neuron['threshold']:g}"
                axis.plot(curve.input, curve.response, color=colour, linewidth=1, label=label, **_STEPS)
            leak = f" (tau {neuron['tau']:g})" if charge == "lif" else ""
            axis.set_title(f"{charge.upper()}{leak}, {reset} reset")
    for axis in panels[1]:
        axis.set_xlabel("input current")
    for axis in panels[:, 0]:
        axis.set_ylabel("spikes per sim step")
    foot(figure, [panels[0][0]], f"{sim_steps} sim steps")
    return figure


@FIGURES.register("chen2022_fig4_voltage_statistics")
@draws(RESPONSES, section="neurons", position=140)
def chen2022_fig4_voltage_statistics(rows: pd.DataFrame) -> Figure:
    """Largest, last and mean voltage of a leaky integrator after one LIF neuron, against the neuron's input current
    (Chen et al. 2022, Fig 4)."""
    figure = Figure(figsize=(ONE_COLUMN, 2.4), layout="constrained")
    axis = figure.subplots()
    for quantity, look in _STATISTICS.items():
        ((_, curve),) = _curves(rows[rows.quantity == quantity])
        axis.plot(curve.input, curve.response, **look, **_STEPS)
    axis.set_xlim(0.5, 2.5)
    axis.set_xticks([0.5, 1, 1.5, 2, 2.5])
    axis.set_xlabel("input current")
    axis.set_ylabel("voltage")
    axis.legend(title=f"{curve.sim_steps.iloc[0]} sim steps")
    return figure


def _curves(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The parameters of each neuron and its points, ordered by input."""
    for (neuron, _), curve in rows.groupby(["neuron", "sim_steps"]):
        yield parse_json(str(neuron) or "{}"), curve.sort_values("input")
