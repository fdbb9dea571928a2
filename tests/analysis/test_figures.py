"""Figures of scores and of learning draw what the rows say."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import learning, over_games, scores
from analysis.figures.style import wrapped
from analysis.runs import Family
from core.errors import Refusal
from core.networks import NETWORKS
from core.readouts import READOUTS
from tests.conftest import episode, only


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of episodes; a network's checkpoint is named by what it is."""
    return pd.DataFrame(
        [
            vars(episode(**{"episode": index, "checkpoint_id": f"{row.get('agent')} {row.get('network')} "
                            f"{row.get('recipe')} {row.get('train_seed')} {row.get('checkpoint')}", **row}))
            for index, row in enumerate(rows)
        ]
    )  # fmt: skip


def widths(axis: Axes) -> list[float]:
    return [bar.get_width() for bar in axis.patches]  # type: ignore[attr-defined]


def labels(axis: Axes) -> list[str]:
    """Labels of rows, each on one line."""
    return [" ".join(label.get_text().split()) for label in axis.get_yticklabels()]


def lines(axis: Axes) -> dict[str, list[float]]:
    """Points of the lines that have a name."""
    return {
        str(line.get_label()): list(np.asarray(line.get_ydata()))
        for line in axis.lines
        if not str(line.get_label()).startswith("_")
    }


def text(figure: Figure) -> str:
    """What stands below all panels: above the legend, if there is one."""
    notes = [legend.get_title().get_text() for legend in figure.legends]
    return " ".join(" ".join([figure.get_supxlabel(), *notes]).split())


DSQN = {"agent": "dsqn", "network": "chen2022+sim_steps=4", "sim_steps": 4}


# Scores -----------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_means() -> None:
    rows = frame([{"score": 4.0}, {"score": 8.0}, {"score": 3.0, **DSQN}])
    (axis,) = only(scores.score_bars(rows)).axes
    assert widths(axis) == [6.0, 3.0]
    assert labels(axis) == ["DQN, n = 1 x 2", "DSQN, n = 1 x 1"]


def test_seeds_and_checkpoints_have_bars_of_their_own() -> None:
    rows = frame(
        [
            {"score": 4.0, "checkpoint": "best"},
            {"score": 2.0, "checkpoint": "final"},
            {"score": 6.0, "checkpoint": "best", "train_seed": 1},
        ]
    )
    (axis,) = only(scores.score_bars(rows)).axes
    assert widths(axis) == [4.0, 6.0, 2.0]
    assert labels(axis) == ["DQN, best, n = 2 x 1", "DQN, final, n = 1 x 1"]
    assert [bool(bar.get_hatch()) for bar in axis.patches] == [False, False, True]


def test_the_readout_is_read_from_the_networks_name() -> None:
    for name, preset in NETWORKS.items():
        if preset.spiking is not None:
            assert scores.readout(Family("dsqn", name, "r", 0)) == READOUTS.name_of(
                type(preset.spiking.readout)
            )
    assert scores.readout(Family("dsqn", "chen2022+sim_steps=4+readout=last-mem", "r", 0)) == "last-mem"
    assert set(scores.READOUT_OF_NETWORK.values()) <= set(scores.READOUT_ORDER)


def test_the_readout_of_an_extensions_network_is_drawn_too() -> None:
    rows = [{"score": 3.0, **DSQN, "network": network} for network in ("small", "small+readout=max-mem")]
    (axis,) = only(scores.chen2022_table1_decoders(frame(rows))).axes
    assert labels(axis) == ["max-mem, n = 1 x 1", "that of small, n = 1 x 1"]


def test_decoders_meet_where_nothing_else_differs() -> None:
    other = {**DSQN, "network": "chen2022+sim_steps=4+readout=mean-mem"}
    longer = {**DSQN, "network": "chen2022+readout=last-mem"}
    rows = [
        {"game": "breakout", "score": score, **network}
        for score, network in ((100.0, other), (200.0, DSQN), (50.0, longer), (400.0, {}))
    ]
    figure = only(scores.chen2022_table1_decoders(frame(rows)))
    (axis,) = figure.axes
    assert labels(axis) == ["max-mem, n = 1 x 1", "mean-mem, n = 1 x 1"]
    assert widths(axis) == [200.0, 100.0]
    # Chen et al. 2022, Table 1, Breakout.
    diamonds = [line.get_xdata() for line in axis.lines if line.get_marker() == "D"]
    assert [float(np.asarray(x)[0]) for x in diamonds] == [360.8, 340.3]
    with pytest.raises(Refusal, match="no two DSQNs differ only in their read-out"):
        scores.chen2022_table1_decoders(frame(rows[1:]))


def test_no_number_of_another_game_is_drawn() -> None:
    rows = [
        {"game": "minatar/breakout", "protocol": "minatar", **DSQN, "network": f"chen2022{readout}"}
        for readout in ("", "+readout=rate")
    ]
    figure = only(scores.chen2022_table1_decoders(frame(rows)))
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert "Chen" not in text(figure)


def test_double_q_learning_is_drawn_beside_what_it_is_compared_with() -> None:
    double = {"recipe": "atari-fast+double=True"}
    rows = [
        {"score": 1.0},
        {"score": 2.0, **double},
        {"score": 3.0, **DSQN},
        {"score": 4.0, **DSQN, **double},
    ]
    rows += [{"score": 9.0, "recipe": "liu2022"}]
    (axis,) = only(scores.liu2022_table8_double_dqn(frame(rows))).axes
    assert [label.split(",")[0] for label in labels(axis)] == ["DQN", "Double DQN", "DSQN", "Double DSQN"]
    assert widths(axis) == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(Refusal, match="--double"):
        scores.liu2022_table8_double_dqn(frame([{"score": 1.0}]))


# Aggregates -------------------------------------------------------------------------------------------

GAMES = (
    {"game": "minatar/breakout", "protocol": "minatar"},
    {"game": "minatar/asterix", "protocol": "minatar"},
)
RANDOM = {"minatar/breakout": 0.534, "minatar/asterix": 0.474}


def runs_of(dqn: tuple[float, ...], dsqn: tuple[float, ...]) -> list[dict[str, Any]]:
    """A training seed a number; the same numbers above random play in both games."""
    return [
        {**game, **agent, "train_seed": seed, "score": score + RANDOM[game["game"]]}
        for game in GAMES
        for agent, values in (({}, dqn), (DSQN, dsqn))
        for seed, score in enumerate(values)
    ]


def test_runs_are_normalised_by_random_play_and_the_own_dqn() -> None:
    rows = frame([*runs_of((8.0, 12.0), (5.0,)), {"score": 14.6}, {"score": -20.7, **DSQN}])
    atari, human, minatar = over_games.normalised_runs(rows)
    assert [block.title for block in (atari, human, minatar)] == [
        *("Atari, own DQN = 1", "Atari, human = 1 (57-game table)", "MinAtar, own DQN = 1")
    ]
    dqn, dsqn = minatar.runs.values()
    assert minatar.games == ("minatar/asterix", "minatar/breakout")
    assert [list(game) for game in dqn] == [pytest.approx([0.8, 1.2])] * 2
    assert [list(game) for game in dsqn] == [pytest.approx([0.5])] * 2
    for block in (atari, human):  # this DQN plays as the human does
        assert [float(games[0][0]) for games in block.runs.values()] == pytest.approx([1.0, 0.0])


def test_the_best_checkpoint_alone_is_aggregated() -> None:
    rows = [{**row, "checkpoint": "best"} for row in runs_of((10.0,), (5.0,))]
    rows += [{**row, "checkpoint": "final"} for row in runs_of((1.0,), (1.0,))]
    (block,) = over_games.normalised_runs(frame(rows))
    assert [float(games[0][0]) for games in block.runs.values()] == pytest.approx([1.0, 0.5])


def test_a_network_without_all_of_the_games_is_left_out_by_name() -> None:
    rows = runs_of((10.0,), (5.0,))
    rows += [{**GAMES[0], **DSQN, "network": "chen2022+sim_steps=4+readout=rate", "score": 3.0}]
    (block,) = over_games.normalised_runs(frame(rows))
    assert block.left_out == ("DSQN (rate)",)
    assert "of their recipe: DSQN (rate)." in text(only(over_games.normalised_scores(frame(rows))))


def test_every_scale_names_whom_it_leaves_out() -> None:
    """Without a DQN of its recipe a DSQN has no own one, and without breakout none of the two has both games."""
    other = {**DSQN, "recipe": "liu2022"}
    rows = [{"score": 0.0}, {"score": 1.0, **DSQN}, {"score": 1.0, **other}]
    rows += [{"game": "breakout", "score": 20.0, **agent} for agent in ({}, DSQN)]
    made = over_games.normalised_scores(frame(rows))
    assert set(made) == {"atari", "atari-human"}
    assert all("of their recipe: DSQN (liu2022)." in text(figure) for figure in made.values())


def test_a_game_whose_dqn_learnt_nothing_is_no_scale() -> None:
    rows = [
        row if row["game"] != "minatar/asterix" else {**row, "score": 0.0} for row in runs_of((10.0,), (5.0,))
    ]
    (block,) = over_games.normalised_runs(frame(rows))
    assert block.games == ("minatar/breakout",)
    with pytest.raises(Refusal, match="a DQN above random play"):
        over_games.normalised_runs(frame([{**row, "score": 0.0} for row in rows]))


def test_one_seed_has_no_interval() -> None:
    figure = only(over_games.normalised_scores(frame(runs_of((8.0, 12.0), (5.0,)))))
    assert [axis.get_title().split("\n")[0] for axis in figure.axes] == [
        "median",
        "IQM",
        "mean",
        "optimality gap",
    ]
    for axis in figure.axes:
        assert len(axis.patches) == 1  # the DQN's
        assert [line.get_fillstyle() for line in axis.lines] == ["full", "none"]
    assert labels(figure.axes[0]) == ["DQN, n = 2 x 2", "DSQN, n = 2 x 1"]
    estimates = [[float(np.asarray(line.get_xdata())[0]) for line in axis.lines] for axis in figure.axes]
    # Runs 0.8, 1.2 in both games; below 1 the DQN's lack 0.2 and 0.
    assert estimates == [pytest.approx(pair) for pair in ([1, 0.5], [1, 0.5], [1, 0.5], [0.1, 0.5])]
    assert "one training seed, hence no interval" in text(figure)
    assert "too narrow with fewer than 10 seeds a game" in text(figure)
    assert "They ignore the uncertainty of the own DQN's mean" in text(figure)
    figure = only(over_games.normalised_scores(frame(runs_of((8.0,), (5.0,)))))
    assert not [bar for axis in figure.axes for bar in axis.patches]
    assert "bootstrap" not in text(figure)


def test_profiles_are_shares_of_runs() -> None:
    (axis,) = only(over_games.performance_profiles(frame(runs_of((8.0, 12.0), (5.0,))))).axes
    at = np.asarray(axis.lines[0].get_xdata())
    drawn = lines(axis)
    assert set(drawn) == {"DQN, n\u00a0=\u00a02\u00a0x\u00a02"}  # a profile needs two seeds
    (values,) = drawn.values()
    assert [values[int(np.searchsorted(at, score))] for score in (0.7, 1.0, 1.25)] == [1, 0.5, 0]
    assert len(axis.collections) == 1  # one band
    with pytest.raises(Refusal, match="a profile needs two training seeds of a network"):
        over_games.performance_profiles(frame(runs_of((8.0,), (5.0,))))


def test_improvement_is_a_share_of_pairs() -> None:
    """DSQN 9, 13 against DQN 8, 12: it wins 3 of 4 pairs in both games."""
    (axis,) = only(over_games.probability_of_improvement(frame(runs_of((8.0, 12.0), (9.0, 13.0))))).axes
    assert labels(axis) == ["DSQN over DQN, n = 2 x 2 v 2 x 2"]
    assert float(np.asarray(axis.lines[0].get_xdata())[0]) == 0.75
    assert len(axis.patches) == 1
    for rows in (runs_of((8.0,), (9.0,)), [{"score": 1.0}]):
        with pytest.raises(Refusal, match="two agents of one recipe with two training seeds each"):
            over_games.probability_of_improvement(frame(rows))


def test_improvement_is_over_the_dqns_of_the_same_seeds_and_training() -> None:
    """Converted from seeds 0 and 1 (10), it ties with their DQNs (10) and does not meet the DQN of seed 2 (20)."""
    rows = runs_of((10.0, 10.0, 20.0), ())
    rows += [{**row, "agent": "rate-coded", "sim_steps": 4} for row in runs_of((10.0, 10.0), ())]
    brief = {"train_steps": 10, "recipe_steps": 1000}
    rows += [{**row, **brief} for row in runs_of((), (9.0,))]
    (axis,) = only(over_games.probability_of_improvement(frame(rows))).axes
    assert labels(axis) == ["converted SNN over DQN, n = 2 x 2 v 2 x 2"]
    assert float(np.asarray(axis.lines[0].get_xdata())[0]) == 0.5


# Learning ---------------------------------------------------------------------------------------------


def curve(values: tuple[float, ...], seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Two validation episodes after every 100 decisions, a little above and below the value."""
    return [
        {**changes, "train_seed": seed, "train_steps": 100 * (index + 1), "episode": number, "score": value + off,
         "max_q_mean": value / 10, "checkpoint_id": ""}
        for index, value in enumerate(values)
        for number, off in enumerate((-1.0, 1.0))
    ]  # fmt: skip


def test_seeds_are_averaged_as_far_as_all_were_trained() -> None:
    rows = frame([*curve((1.0, 2.0, 9.0)), *curve((3.0, 6.0), seed=1), *curve((5.0,), **DSQN)])
    for draw, scale in ((learning.liu2022_fig7_learning_curves, 1), (learning.max_q_curves, 10)):
        (axis,) = only(draw(rows)).axes
        drawn = lines(axis)
        assert drawn["DQN, 2 seeds"] == pytest.approx([2.0 / scale, 4.0 / scale])
        assert drawn["DSQN, 1 seed"] == pytest.approx([5.0 / scale])
        assert len(axis.collections) == 1  # one seed has no band
        seeds = [list(np.asarray(line.get_ydata())) for line in axis.lines if line.get_linewidth() == 0.4]
        assert sorted(map(len, seeds)) == [2, 3]


def test_networks_of_one_agent_are_not_averaged() -> None:
    other = {**DSQN, "network": "chen2022+sim_steps=4+readout=last-mem"}
    rows = frame([*curve((1.0, 2.0), **DSQN), *curve((3.0, 6.0), **other)])
    (axis,) = only(learning.liu2022_fig7_learning_curves(rows)).axes
    drawn = lines(axis)
    assert axis.get_title() == "pong, 1 seed"
    assert drawn["DSQN (chen2022)"] == [1.0, 2.0]
    assert drawn["DSQN (last-mem)"] == [3.0, 6.0]
    more = frame(
        [*curve((1.0, 2.0), **DSQN), *curve((3.0, 6.0), **other), *curve((3.0, 6.0), seed=1, **other)]
    )
    (axis,) = only(learning.liu2022_fig7_learning_curves(more)).axes
    assert {"DSQN (chen2022), 1 seed", "DSQN (last-mem), 2 seeds"} <= set(lines(axis))


def test_a_training_run_is_drawn_once() -> None:
    rows = frame([*curve((1.0, 2.0)), *curve((1.0, 2.0))])
    with pytest.raises(Refusal, match="validation episode 0 after 100 decisions occurs twice"):
        learning.liu2022_fig7_learning_curves(rows)


def test_scores_that_are_no_q_values_are_not_drawn() -> None:
    rows = frame([{**row, "max_q_mean": float("nan")} for row in curve((1.0, 2.0), **DSQN)])
    with pytest.raises(Refusal, match="no validation row has a Q-value"):
        learning.max_q_curves(rows)


def test_stability_takes_what_all_networks_of_a_game_have() -> None:
    dqns = [*curve((0.0, 10.0, 4.0)), *curve((0.0, 9.0, 4.0), seed=1)]
    rows = frame([*dqns, *curve((2.0, 8.0), **DSQN)])
    figure = only(learning.learning_stability(rows))
    assert figure.get_suptitle() == "pong, 2 evaluations"
    assert len(figure.axes) == len(learning.MEASURES)
    across_seeds = figure.axes[list(learning.MEASURES).index("across_runs")]
    assert [each.get_text() for each in across_seeds.texts] == ["1 seed"]
    assert len(across_seeds.patches) == 1
    with pytest.raises(Refusal, match="no game has two evaluations"):
        learning.learning_stability(frame([*curve((0.0,)), *curve((1.0,), seed=1)]))
    with pytest.raises(Refusal, match="two training seeds of a network"):
        learning.learning_stability(frame([*curve((0.0, 10.0)), *curve((2.0, 8.0), **DSQN)]))


def test_a_word_wider_than_its_line_is_broken_behind_signs() -> None:
    text = wrapped("DQN (warmup_steps=4000, replay_capacity_steps=10000)", 0.95, 6)
    assert text.split("\n") == ["DQN", "(warmup_steps=4000,", "replay_capacity_", "steps=10000)"]
    # Without signs it is broken anywhere, and other words stay whole.
    assert wrapped("abcdefghijklmnop q", 0.6).split("\n") == ["abcdefghij", "klmnop q"]
    assert wrapped("minatar/space_invaders", 2) == "minatar/space_invaders"
