"""Every figure with long labels, many agents and many games: no text is cut off or lies on another."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.registry import in_order
from analysis.figures.shares import MAX_METHODS
from analysis.figures.style import MAX_LINES, MAX_PANELS, ONE_COLUMN, TWO_COLUMNS
from analysis.rows import StudyRows
from tests.analysis.layout import faults

RESULTS = Path(__file__).parents[2] / "results"
FIGURES = dict(in_order())
LONG = "+learning_rate=0.00025+replay_capacity_steps=1000000+dynamics.sticky_action_probability=0.25"
COPIES = 3
"""Networks that are made of each."""


MORE_GAMES = {
    **{
        "minatar/breakout": ("minatar/asterix", "minatar/freeway"),
        "minatar/space_invaders": ("minatar/seaquest",),
    },
    **{"pong": ("boxing",)},
}
"""Games that are played as others were. Random play scores little in them."""


@pytest.fixture(scope="module")
def study() -> StudyRows:
    return StudyRows(RESULTS / "trained", RESULTS / "attacked")


def frames_of(name: str, study: StudyRows) -> list[pd.DataFrame]:
    of_decoders = name == "chen2022_table1_decoders"
    shown = StudyRows(RESULTS / "decoders") if of_decoders else study
    frames = [shown.frame(files) for files in FIGURES[name].rows]
    if name == "liu2022_table8_double_dqn":
        (rows,) = frames
        doubled = rows.assign(
            recipe=rows.recipe + "+double=True", checkpoint_id="d" + rows.checkpoint_id.str[1:]
        )
        frames = [pd.concat([rows, doubled], ignore_index=True)]
    return frames


def stretched(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows for more networks, whose names are long, and for more games. Of long lists, only a part."""
    rows = rows[rows.episode < 3] if "episode" in rows else rows
    rows = rows[rows.steps % 10 == 0] if "steps_per_second" in rows else rows
    rows = rows[rows.state < 20] if "state" in rows else rows
    rows = rows[rows.variant.isin(sorted(set(rows.variant))[:4])] if "kappa" in rows else rows
    found = [rows]
    # The plane shows one network of each kind, and intervals of attacks take long.
    copies = 1 if "x" in rows else 2 if "flip_share" in rows else COPIES
    for copy in range(1, copies):
        named = rows.copy()
        if "recipe" in rows:
            named = named[named.agent != "random"]
            named["recipe"] += f"{LONG}+batch_size={copy}"
        elif "method" in rows:
            named["method"] += f" of the appendix, number {copy}"
            named["variant"] += f" (percentile 99.9, read-out robust, {copy})"
        if "checkpoint_id" in rows:
            named["checkpoint_id"] = [
                f"{'wxyz'[copy]}{value[1:]}" if value else "" for value in named.checkpoint_id
            ]
        found.append(named)
    whole = pd.concat(found, ignore_index=True) if "agent" in rows or "method" in rows else rows
    copies = [
        whole[whole.game == game].assign(game=other)
        for game, others in (MORE_GAMES.items() if "game" in whole else ())
        for other in others
    ]
    return pd.concat([whole, *copies], ignore_index=True)


def require_readable(name: str, made: dict[str, Figure]) -> None:
    assert made
    most = MAX_METHODS if name.startswith("share_against_") else MAX_LINES
    for ending, figure in made.items():
        assert faults(figure) == [], f"{name} {ending}"
        assert figure.get_figwidth() in (ONE_COLUMN, TWO_COLUMNS)
        panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert len(panels) <= MAX_PANELS
        for axes in panels:
            lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
            assert len(lines) <= most + 1  # and a line such as "constant action"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_committed_rows_are_readable(name: str, study: StudyRows) -> None:
    require_readable(name, FIGURES[name](*frames_of(name, study)))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_with_long_labels_and_many_agents_are_readable(name: str, study: StudyRows) -> None:
    require_readable(name, FIGURES[name](*map(stretched, frames_of(name, study))))
