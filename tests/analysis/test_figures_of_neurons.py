"""Figures of neurons and of representations draw what the rows say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from analysis.figures import embedding, neurons
from core.errors import Refusal
from core.rows import EmbeddingRow
from evaluate.responses import neuron_responses
from tests.conftest import only


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Responses that no neuron gives, three times too large and in no order, so that only rows can be drawn."""
    rows = pd.DataFrame([vars(row) for row in neuron_responses()])
    return rows.assign(response=3 * rows.response).sample(frac=1, random_state=0)


def drawn(axis: Axes) -> dict[str, dict[float, float]]:
    """Points of every line, by its label; in order."""
    lines = {str(line.get_label()): (line.get_xdata(), line.get_ydata()) for line in axis.lines}
    for x, _ in lines.values():
        assert (np.diff(np.asarray(x)) > 0).all()
    return {label: dict(zip(np.asarray(x), np.asarray(y), strict=True)) for label, (x, y) in lines.items()}


def test_surrogates_are_drawn_by_family_and_slope(rows: pd.DataFrame) -> None:
    (axis,) = only(neurons.liu2022_fig3_surrogates(rows)).axes
    peaks = {label: points[0.0] for label, points in drawn(axis).items()}
    assert peaks == {
        **{"atan, slope 1": 1.5, "atan, slope 2": 3.0, "atan, slope 4": 6.0},
        **{"sigmoid, slope 2": 1.5, "sigmoid, slope 4": 3.0, "sigmoid, slope 8": 6.0},
    }


def test_rates_are_drawn_beside_relu(rows: pd.DataFrame) -> None:
    (axis,) = only(neurons.liu2022_fig4_if_rate_against_relu(rows)).axes
    at = 0.5 - 1 / 128
    assert {label: points[at] for label, points in drawn(axis).items()} == {
        "ReLU": 3 * at,
        "IF, 4 sim steps": 3 / 4,
        "IF, 16 sim steps": 3 * 7 / 16,
        "IF, 64 sim steps": 3 * 31 / 64,
    }


def test_rates_are_drawn_in_the_panel_of_their_neuron(rows: pd.DataFrame) -> None:
    panels = only(neurons.liu2022_fig5_firing_rates(rows)).axes
    at = 1 + 1 / 128
    found = {
        axis.get_title(): [round(64 * points[at] / 3) for points in drawn(axis).values()] for axis in panels
    }
    # A LIF neuron at threshold 1 needs eight steps from rest: 1 - 2^-8 of the input is 1.0039 at the eighth.
    assert found == {
        "IF, hard reset": [64, 64, 64],
        "IF, soft reset": [64, 64, 64],
        "LIF (tau 2), hard reset": [64, 64, 8],
        "LIF (tau 2), soft reset": [64, 64, 8],
    }
    assert {tuple(drawn(axis)) for axis in panels} == {("threshold 0.2", "threshold 0.5", "threshold 1")}


def test_statistics_of_the_voltage_are_drawn(rows: pd.DataFrame) -> None:
    (axis,) = only(neurons.chen2022_fig4_voltage_statistics(rows)).axes
    at = 1.25 + 1 / 128
    assert {label: points[at] for label, points in drawn(axis).items()} == {
        "largest (max-mem)": 27 / 16,
        "last (last-mem)": 27 / 64,
        "mean (mean-mem)": 357 / 512,
    }


def point(**changes: object) -> EmbeddingRow:
    row = EmbeddingRow("pong", "dqn", "abc", 0, "abc", 0, 1.0, 2.0, 0.5, 3)
    return replace(row, **changes)  # type: ignore[arg-type]


def table(*rows: EmbeddingRow) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in rows])


def test_states_are_drawn_where_they_are_in_the_colour_of_their_value() -> None:
    made = embedding.hidden_layer_tsne(
        table(
            point(),
            point(state=1, x=-3.0, y=7.0, value=-0.5),
            point(agent="dsqn", checkpoint_id="def", x=5.0, value=1.5),
            point(game="minatar/breakout", value=float("nan")),
        )
    )
    assert set(made) == {"minatar-breakout", "pong"}
    panels = {axis.get_title(): axis for axis in made["pong"].axes if axis.get_title()}
    assert set(panels) == {"DQN", "DSQN"}
    (dqn,), (dsqn,) = panels["DQN"].collections, panels["DSQN"].collections
    assert isinstance(dqn, PathCollection)
    assert isinstance(dsqn, PathCollection)
    assert np.asarray(dqn.get_offsets()).tolist() == [[1.0, 2.0], [-3.0, 7.0]]
    assert np.asarray(dqn.get_array()).tolist() == [0.5, -0.5]
    # Both agents' values share a scale, so that one colour is one value.
    assert dqn.get_clim() == dsqn.get_clim() == (-0.5, 1.5)
    for figure in made.values():
        figure.draw_without_rendering()


def test_embeddings_that_do_not_compare_are_refused() -> None:
    with pytest.raises(Refusal, match="more than one agent of pong whose play the states are of"):
        embedding.hidden_layer_tsne(table(point(), point(agent="dsqn", states_of="def")))
    with pytest.raises(Refusal, match="more than one checkpoint of DQN on pong"):
        embedding.hidden_layer_tsne(table(point(), point(checkpoint_id="def")))
