"""The leaderboard: shares of studies by hand, and every source in one table."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.rows import EPISODES, StudyRows
from card.standings import leaderboard, studies
from core.games import get_game, reference

RESULTS = Path(__file__).resolve().parents[2] / "results"


def lines(text: str, starting: str) -> list[list[str]]:
    """The cells of every line whose first cell starts so."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return [row for row in rows if row[0].startswith(starting)]


@pytest.fixture(scope="module")
def text() -> str:
    return leaderboard([RESULTS])


def test_every_tier_and_study_is_there(text: str) -> None:
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## atari",
        "## control",
        "## minatar",
    ]
    assert {"study trained", "study cartpole"} <= {row[7] for row in lines(text, "")}


def test_a_share_is_that_of_paired_means_by_hand(text: str) -> None:
    episodes = StudyRows(RESULTS / "trained").frame(EPISODES)
    best = episodes[episodes.checkpoint.isin(["best", ""])]
    shares = []
    for game in ("minatar/breakout", "minatar/space_invaders"):
        here = best[best.game == game]
        own = here[(here.variant == "reconstruct") & (here.sim_steps == 8)].groupby("train_seed").score.mean()
        dqn = here[here.agent == "dqn"].groupby("train_seed").score.mean()
        random = reference(get_game(game)).random
        assert random is not None
        shares.append((own.mean() - random) / (dqn.mean() - random))
    (row,) = [row for row in lines(text, "SNN (minatar-fast, reconstruct, 8") if row[7] == "study trained"]
    assert row[4].startswith(f"{100 * np.mean(shares):.0f} % (")
    assert (row[1], row[2], row[3]) == ("8", "2", "3")


def test_attacks_of_another_study_judge_the_same_weights(text: str) -> None:
    (row,) = [row for row in lines(text, "DSQN (minatar-fast)") if row[7] == "study trained"]
    assert row[6] == "gates failed"  # results/attacked attacked its first seed


def test_cards_stand_beside_studies(text: str) -> None:
    rows = [row for row in lines(text, "") if row[7].startswith("card ")]
    assert rows
    assert all(row[2] == "1" and " to " in row[4] for row in rows)


def test_the_dqn_is_all_of_itself(text: str) -> None:
    (row,) = [row for row in lines(text, "DQN (minatar-fast)") if row[7] == "study trained"]
    assert row[4] == "100 %"


def test_folders_of_cards_are_no_studies(tmp_path: Path) -> None:
    study = tmp_path / "mine" / "minatar-breakout" / "games"
    study.mkdir(parents=True)
    shutil.copy(next(RESULTS.glob("trained/minatar-breakout/*/episodes.parquet")), study)
    assert studies([tmp_path], "episodes.parquet") == [tmp_path / "mine"]
    (study.parent / "card.json").write_text("{}")
    assert studies([tmp_path], "episodes.parquet") == []


def test_a_card_under_way_is_no_study(tmp_path: Path, text: str) -> None:
    """Its process may have been killed; the table is made of what is finished."""
    card = RESULTS / "cards" / "minatar-breakout-dqn-s0"
    shutil.copytree(card, tmp_path / "card")
    killed = Path(shutil.copytree(card, tmp_path / "killed"))
    (killed / "card.json").unlink()
    assert studies([tmp_path], "*.parquet") == []
    assert len(lines(leaderboard([tmp_path]), "DQN")) == 1
