"""Figures and tables draw what the rows say."""

from dataclasses import replace

import pandas as pd
import pytest

from core.errors import Refusal
from core.records import EpisodeRow
from evaluate.figures import attacks, conversion, scores, style
from evaluate.tables import AGENT_ORDER, markdown, score_lines


def episode(**changes: object) -> EpisodeRow:
    row = EpisodeRow(
        game="pong",
        agent="dqn",
        checkpoint_id="abc",
        train_seed=0,
        train_steps=1000,
        recipe_steps=1000,
        network="relu",
        recipe="atari-fast",
        protocol="classic",
        settings="{}",
        eval_seed=0,
        episode=0,
        episode_seed=1,
        score=10.0,
        length_steps=100,
        length_frames=400,
        truncated=False,
        max_q_mean=1.0,
        max_q=2.0,
        max_q_std=0.5,
        sim_steps=0,
        spikes_per_decision=0.0,
        layer_rates="[]",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def test_lines_sum_rows_up_by_hand() -> None:
    rows = [episode(score=score, episode=index) for index, score in enumerate((1.0, 2.0, 6.0))]
    # 100 decisions of 100 spikes and 300 of 300: a decision costs 250, an episode's mean would say 200.
    rows += [
        episode(agent="dsqn", sim_steps=4, spikes_per_decision=cost, length_steps=int(cost))
        for cost in (100.0, 300.0)
    ]
    dqn, dsqn = score_lines(rows)
    assert (dqn.score.estimate, dqn.score.n) == (3.0, 3)
    assert 1.0 <= dqn.score.low <= 3.0 <= dqn.score.high <= 6.0
    assert (dqn.random, dqn.human) == (-20.7, 14.6)
    assert (dsqn.sim_steps, dsqn.spikes_per_decision) == (4, 250.0)
    assert "| 3.00 " in markdown([dqn])


def test_an_agent_no_better_than_random_play_is_called_untrained() -> None:
    random = [episode(agent="random", train_seed=-1, score=score) for score in (-20.0, -21.0, -19.0)]
    lines = score_lines([*random, episode(score=-20.0), episode(score=-20.5, episode=1)])
    assert [line.note != "" for line in lines] == [False, True]
    lines = score_lines([*random, episode(score=-10.0), episode(score=-9.0, episode=1)])
    assert [line.note for line in lines] == ["", ""]
    # Without rows of random play, and with a stroke of luck: the references and the recipe still tell.
    (line,) = score_lines([episode(score=-20.9)])
    assert "no better than random play" in line.note
    (line,) = score_lines([episode(score=20.0, train_steps=10)])
    assert "1.0% of its recipe" in line.note


def test_an_imported_agent_claims_no_training() -> None:
    unknown = {"train_seed": -1, "train_steps": -1, "recipe_steps": 0}
    rows = [episode(score=20.0, **unknown), episode(score=19.0, checkpoint_id="ours")]
    imported, ours = score_lines(rows)
    assert (imported.note, ours.note) == ("", "")
    assert "| unknown " in markdown([imported])
    (axis,) = scores.score_bars(pd.DataFrame([vars(row) for row in rows])).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["DQN, imported", "DQN, seed 0"]
    (line,) = score_lines([episode(score=-20.9, **unknown)])
    assert line.note == "not a trained agent: no better than random play"


def test_checkpoints_are_not_averaged() -> None:
    lines = score_lines([episode(score=0.0), episode(score=100.0, checkpoint_id="other")])
    assert sorted(line.score.estimate for line in lines) == [0.0, 100.0]
    with pytest.raises(Refusal, match="evaluation seed"):
        score_lines([episode(), episode(eval_seed=1)])
    with pytest.raises(Refusal, match="setting of pong"):
        score_lines([episode(), episode(settings="{1}")])


def test_protocols_are_not_mixed() -> None:
    with pytest.raises(Refusal, match="more than one protocol of pong do not compare: classic, liu2022"):
        score_lines([episode(), episode(protocol="liu2022")])


def test_bars_are_as_high_as_the_means() -> None:
    rows = pd.DataFrame(
        [vars(episode(score=score)) for score in (4.0, 8.0)] + [vars(episode(agent="dsqn", score=3.0))]
    )
    (axis,) = scores.score_bars(rows).axes
    assert [bar.get_height() for bar in axis.patches] == [6.0, 3.0]  # type: ignore[attr-defined]


def test_agents_have_one_colour_and_one_name() -> None:
    assert set(style.COLOURS) == set(style.LABELS) == set(AGENT_ORDER)
    assert len(set(style.COLOURS.values())) == len(style.COLOURS)


def test_shares_of_the_dqns_score_are_drawn_where_they_are() -> None:
    """Random play on minatar/breakout is 0.534: (6 - 0.534) / (11 - 0.534) of the DQN's score is kept."""
    game = {"game": "minatar/breakout", "protocol": "minatar"}
    played = [
        ("dqn", 11.0, 0.0),
        ("qcfs T=4", 6.0, 4.0),
        ("qcfs T=16", 11.0, 16.0),
        ("exact T=4", 0.534, 8.0),
    ]
    rows = [
        episode(variant=variant, score=score, episode=index, mean_sim_steps=taken, **game)
        for variant, score, taken in played
        for index in range(3)
    ]
    (axis,) = conversion.score_of_methods(pd.DataFrame([vars(row) for row in rows])).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["qcfs"].get_xdata()) == [4, 16]
    assert list(lines["qcfs"].get_ydata()) == pytest.approx([100 * 5.466 / 10.466, 100.0])
    assert list(lines["exact"].get_ydata()) == pytest.approx([0.0], abs=1e-9)
    assert list(lines["exact"].get_xdata()) == [8.0]  # layers that wait for one another take longer


def test_methods_keep_their_look() -> None:
    from convert.comparison import VARIANTS

    assert set(conversion.METHOD_ORDER) == set(VARIANTS)
    looks = [
        (look["color"], look["linestyle"]) for look in map(conversion._method_style, conversion.METHOD_ORDER)
    ]
    assert len(set(looks)) == len(looks)


def test_checkpoints_of_one_seed_are_drawn_apart() -> None:
    attacked = {"attack": "none", "epsilon": 0.0, "gradient_source": ""}
    fgsm = {"attack": "fgsm", "epsilon": 0.1, "gradient_source": "own"}
    rows = [
        {**vars(episode(checkpoint_id=name, train_steps=steps, score=score)), **attack}
        for name, steps, score in (("short", 8000, -21.0), ("long", 800_000, 16.0))
        for attack in (attacked, fgsm)
    ]
    (axis,) = attacks.score_against_epsilon(pd.DataFrame(rows)).axes
    drawn = {
        str(line.get_label()): list(line.get_ydata()) for line in axis.lines if "DQN" in str(line.get_label())
    }
    assert drawn == {
        "DQN, 8,000 decisions, fgsm (own)": [-21.0, -21.0],
        "DQN, 800,000 decisions, fgsm (own)": [16.0, 16.0],
    }
