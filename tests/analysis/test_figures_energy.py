"""Figures of cost draw what the rows say, where it is."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.energy import microjoules
from analysis.figures.energy import pareto_front, score_against_energy, spikes_and_energy
from analysis.figures.style import NothingToDraw
from core.errors import Refusal
from core.rows import EpisodeRow, OperationsRow
from tests.analysis.test_energy import nature, spiking
from tests.conftest import episode, only

BREAKOUT = {"game": "breakout"}


def frame(rows: Sequence[OperationsRow | EpisodeRow]) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in rows])


def test_the_front_is_what_nothing_cheaper_beats() -> None:
    assert pareto_front([(3, 9.0), (1, 5.0), (2, 4.0), (2, 7.0), (4, 9.0)]) == [(1, 5.0), (2, 7.0), (3, 9.0)]
    assert pareto_front([(1, 5.0), (1, 6.0)]) == [(1, 6.0)]


def test_spikes_and_energies_are_drawn_where_they_are() -> None:
    converted = {"agent": "rate-coded", "checkpoint_id": "snn", "network": "relu"}
    agents = [nature(), spiking(8, 0.1, **converted), spiking(4, 0.2)]
    figure = only(spikes_and_energy(frame([row for rows in agents for row in rows])))
    above, below = figure.axes
    names = ["DQN", "converted SNN, 8 sim steps", "DSQN, 4 sim steps"]
    assert [label.get_text() for label in above.get_yticklabels()] == names
    # 0.8 spikes a neuron in one, as many in the other.
    drawn = [np.asarray(dots.get_offsets())[:, 0] for dots in above.collections]
    assert [values[1:].tolist() for values in drawn] == [
        pytest.approx([0.8 * neurons] * 2) for neurons in (12800, 5184, 3136, 512, 4)
    ]
    assert all(np.isnan(values[0]) for values in drawn)  # a DQN has no spikes
    drawn = [np.asarray(dots.get_offsets())[:, 0] for dots in below.collections]
    assert np.stack(drawn, 1).tolist() == [pytest.approx(list(microjoules(rows))) for rows in agents]


def test_games_without_spikes_are_left_out() -> None:
    rows = frame([*nature(), *spiking(4, 0.1), *nature(game="pong")])
    made = spikes_and_energy(rows)
    assert set(made) == {"breakout"}
    only(made).savefig(io.BytesIO())  # a layout that collapses warns, and warnings are errors
    with pytest.raises(NothingToDraw, match="no operations of a spiking agent"):
        spikes_and_energy(rows[rows.agent == "dqn"])


def test_agents_of_one_name_are_told_apart() -> None:
    twice = [*spiking(4, 0.1, checkpoint_id="aaaaaaaa"), *spiking(4, 0.2, checkpoint_id="bbbbbbbb")]
    above, _ = only(spikes_and_energy(frame(twice))).axes
    names = [" ".join(label.get_text().split()) for label in above.get_yticklabels()]
    assert names == ["DSQN, 4 sim steps (aaaaaa)", "DSQN, 4 sim steps (bbbbbb)"]


def test_scores_are_drawn_against_energies() -> None:
    operations = frame([*nature(), *spiking(4, 0.1), *spiking(8, 0.4, checkpoint_id="worse")])
    played = [("dqn", 10.0), ("dqn", 30.0), ("dsqn", 8.0), ("worse", 7.0), ("elsewhere", 99.0)]
    rows = [
        episode(checkpoint_id=name, score=score, episode=index, **BREAKOUT)
        for index, (name, score) in enumerate(played)
    ]
    # The best weights were the final ones: each game has a row as either.
    rows = [replace(row, checkpoint=which) for row in rows[:1] for which in ("best", "final")] + rows[1:]
    rows.append(episode(checkpoint_id="another", score=99.0, eval_seed=5, **BREAKOUT))
    (axis,) = only(score_against_energy(operations, frame(rows))).axes
    # 15.07 + 0.9 * 0.4 * 6.068 and 15.07 + 0.9 * 3.2 * 6.068 microjoules.
    points = [(42.9871104, 20.0), (17.25784064, 8.0), (32.54976512, 7.0)]
    drawn = [
        np.asarray(line.get_xydata())[0].tolist() for line in axis.lines if line.get_marker() in ("s", "^")
    ]
    assert drawn == [pytest.approx(point) for point in points]
    (front,) = [line for line in axis.lines if line.get_label() == "Pareto front"]
    xs, ys = front.get_xdata(), front.get_ydata()
    assert list(ys) == [8.0, 20.0, 20.0]  # type: ignore[arg-type]
    assert list(xs)[:2] == pytest.approx([17.25784064, 42.9871104])  # type: ignore[arg-type]
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["Pareto front", "DQN", "DSQN, 4 sim steps", "DSQN, 8 sim steps"]


def test_scores_that_do_not_compare_or_are_missing_are_refused() -> None:
    operations = frame([*nature(), *spiking(4, 0.1)])
    rows = [episode(checkpoint_id=name, **BREAKOUT) for name in ("dqn", "dsqn")]
    with pytest.raises(NothingToDraw, match="dsqn on breakout has operations but no episodes"):
        score_against_energy(operations, frame(rows[:1]))
    rows.append(episode(checkpoint_id="dqn", eval_seed=1, **BREAKOUT))
    with pytest.raises(Refusal, match="more than one evaluation seed of breakout"):
        score_against_energy(operations, frame(rows))
