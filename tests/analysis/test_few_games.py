"""Below LEAST_EPISODES games there is no interval and no claim, wherever scores are shown; ties are called ties."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.answer import answer
from analysis.figures.scores import score_bars
from analysis.game_table import game_table
from analysis.game_table_formats import game_table_csv, game_table_markdown
from analysis.game_table_latex import game_table_latex
from analysis.players import players
from analysis.report.page import _score_tables
from analysis.statistics import LEAST_EPISODES, Interval, mean_interval
from analysis.tables import markdown, score_lines
from analysis.words import instead, percent, points, score_bounds, scored, signed
from card.page import interval
from convert.comparison_table import _score
from core.games import PUBLISHED, get_game, reference
from core.rows import EpisodeRow
from tests.conftest import episode, only

FEW = LEAST_EPISODES - 1
SAYS = "n = {}, too few for an interval"


def rows(scores: Sequence[float] | np.ndarray, **changes: object) -> list[EpisodeRow]:
    return [
        episode(score=score, episode=index, episode_seed=index, **changes)
        for index, score in enumerate(scores)
    ]


def frame(of: Sequence[EpisodeRow]) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in of])


def in_card(score: Interval) -> str:
    """As the JSON of a card has it: there is no NaN."""
    found = {name: None if value != value else value for name, value in score._asdict().items()}
    return interval(found)


PLACES: dict[str, Callable[[list[float]], str]] = {
    "scores.md": lambda scores: markdown(score_lines(rows(scores))),
    "report": lambda scores: str(list(_score_tables(rows(scores)))),
    "lead and gates": lambda scores: scored(mean_interval(scores)),
    "card": lambda scores: in_card(mean_interval(scores)),
    "convert compare": _score,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("n", [1, 2, FEW])
@pytest.mark.parametrize("tied", [False, True])
def test_few_games_are_called_too_few(place: str, n: int, tied: bool) -> None:
    scores = [9.0] * n if tied else [9.0 + index for index in range(n)]
    text = PLACES[place](scores)
    assert SAYS.format(n) in text
    assert f"{np.mean(scores):.2f}" in text
    assert not re.search(r"\d to -?\d", text)
    assert "nan" not in text


@pytest.mark.parametrize("place", PLACES)
def test_tied_scores_are_called_so(place: str) -> None:
    assert "all 30 games scored 9" in PLACES[place]([9.0] * 30)
    assert "9.00 to 9.00" not in PLACES[place]([9.0] * 30)
    spread = PLACES[place]([8.0, 10.0] * 15)
    assert "all 30" not in spread
    assert "too few" not in spread


def test_shares_and_differences_say_so_too() -> None:
    few, tied = Interval(0.5, float("nan"), float("nan"), 3), Interval(0.5, 0.5, 0.5, 30)
    for words in (percent, points, signed):
        assert words(few).endswith(f"({SAYS.format(3)})")
        assert words(tied).endswith("(the same in all 30 games)")
    assert instead(Interval(0.5, 0.4, 0.6, 30)) == ""
    assert score_bounds(Interval(1234.5, 1234.5, 1234.5, 10)) == "all 10 games scored 1,234.5"


def test_untrained_weights_are_never_called_trained_after_few_games() -> None:
    """Half of such agents score above the mean of random play in their one game."""
    random = reference(get_game("pong")).random
    assert random is not None
    generator = np.random.default_rng(0)
    for n in (1, 3, FEW):
        for _ in range(50):
            (line,) = score_lines(rows(random + generator.normal(size=n)))
            assert line.note.startswith("not shown to be trained: n = ")
    (line,) = score_lines(rows(random + 5 + generator.normal(size=LEAST_EPISODES)))
    assert line.note == ""


def test_few_games_of_random_play_set_no_limit() -> None:
    lucky = rows([21.0], agent="random", train_seed=-1)
    *_, line = score_lines([*lucky, *rows([9.0, 10.0] * 5)])
    assert line.note == ""


def test_nothing_is_claimed_of_few_games() -> None:
    snn = {"agent": "rate-coded", "checkpoint_id": "snn", "sim_steps": 4}
    for n, claimed in ((FEW, False), (LEAST_EPISODES, True)):
        found = answer([*rows([9.0, 10.0] * 20), *rows(np.arange(n) + 3.0, **snn)], [], [], [])
        assert ("converted SNN, 4 sim steps: " in found.lead[0]) == claimed
        (cells,) = found.kept
        assert any(SAYS.format(n) in cell for cell in cells) != claimed
    few = [*rows(np.arange(3.0)), *rows(np.arange(3.0), **snn)]
    assert not any(player.is_trained for player in players(few))
    (cells,) = answer(few, [], [], []).kept
    assert cells[-1].endswith("is not shown to be trained")


def test_the_papers_table_has_no_spread_of_few_games() -> None:
    published = pd.read_csv(PUBLISHED / "published_scores.csv")
    dsqn = {"agent": "dsqn", "network": "chen2022", "checkpoint_id": "dsqn", "sim_steps": 4}
    for n in (1, FEW, LEAST_EPISODES):
        blocks = game_table(frame([*rows(np.arange(n) + 5.0), *rows(np.arange(n) / 10, **dsqn)]), published)
        dqn, other = blocks[0].cells.values()
        enough = n == LEAST_EPISODES
        assert (dqn.std is not None) == enough
        assert other.verdict == ("worse" if enough else "")
        for text in (game_table_markdown(blocks), game_table_latex(blocks)):
            line = next(line for line in text.splitlines() if line.lstrip("| ").startswith("pong "))
            assert ("±" in line or "$\\pm$" in line) == enough
            assert (f"Below {LEAST_EPISODES} episodes" in text) != enough
        assert "nan" not in game_table_csv(blocks).lower()


@pytest.mark.parametrize("n", [1, FEW, LEAST_EPISODES])
def test_bars_of_few_games_have_no_interval(n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure: Figure = only(score_bars(frame(rows(np.arange(n) + 5.0))))
        figure.draw_without_rendering()
    (axis,) = figure.axes
    assert any("too few games" in text.get_text() for text in axis.texts) == (n < LEAST_EPISODES)
    assert len(axis.containers) == (1 if n < LEAST_EPISODES else 2)  # bars, and their intervals


def test_equal_scores_of_random_play_are_no_better() -> None:
    random = reference(get_game("pong")).random
    (line,) = score_lines(rows([random] * 20))  # type: ignore[list-item]
    assert "no better than random play" in line.note
    assert replace(line, note="").score.is_tied
