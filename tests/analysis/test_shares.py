"""Shares of the DQN's score over games, the differences between them, and their figures."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import over_seeds, shares
from analysis.figures.shares import share_against_operations, share_against_sim_steps
from analysis.runs import Family
from analysis.shares_table import shares_table
from core.errors import Refusal
from core.rows import EpisodeRow, OperationsRow
from tests.conftest import episode

RANDOM = {"minatar/breakout": 0.534, "minatar/asterix": 0.474}
"""Scores of random play that core/data has, of the games that are played unless others are named."""
DQN = {"agent": "dqn", "network": "relu"}
DSQN = {"agent": "dsqn", "network": "chen2022+sim_steps=4", "sim_steps": 4}
CMC = {"agent": "dsqn", "network": "chen2022+sim_steps=4+cmc", "sim_steps": 4}


def snn(sim_steps: int) -> dict[str, object]:
    return {"agent": "rate-coded", "network": "relu", "variant": "reconstruct", "sim_steps": sim_steps}


def weights(agent: Mapping[str, object], seed: int) -> str:
    """The id of an agent's weights."""
    return f"{agent['network']}{agent.get('variant')}{agent.get('sim_steps')}{seed}"[-12:]


def rows_of(
    scores: Mapping[int, float], agent: Mapping[str, object], games: tuple[str, ...] = (*RANDOM,)
) -> list[EpisodeRow]:
    """Games of an agent. Its scores above random play, by training seed, are the same on every game."""
    return [
        episode(
            game=game,
            protocol="minatar",
            recipe="minatar-fast",
            checkpoint_id=weights(agent, seed),
            train_seed=seed,
            score=score + RANDOM.get(game, 0.0),
            **agent,
        )
        for game in games
        for seed, score in scores.items()
    ]


def frame(*rows: list[EpisodeRow]) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in itertools.chain(*rows)])


DQNS = {0: 10.0, 1: 20.0, 2: 30.0}


def test_a_conversion_is_compared_with_its_own_dqn_and_a_training_with_all() -> None:
    rows = frame(rows_of(DQNS, DQN), rows_of({0: 5.0, 2: 15.0}, snn(8)), rows_of({0: 10.0, 5: 30.0}, DSQN))
    converted, trained = shares.shares_kept(rows)
    # Half of each of its DQNs, whichever are drawn.
    assert converted.share == pytest.approx((0.5, 0.5, 0.5, 4))
    assert trained.share.estimate == pytest.approx(20 / 20)
    assert trained.share.low < 0.6 < 1.4 < trained.share.high
    assert (converted.seeds, converted.sim_steps, converted.tier) == ((2, 2), 8, "minatar")
    assert converted.games == ("minatar/asterix", "minatar/breakout")
    assert (converted.is_conversion, trained.is_conversion) == (True, False)


def test_shares_by_game_have_the_share_as_their_mean() -> None:
    one, both = ("minatar/breakout",), {0: 5.0, 1: 5.0, 2: 5.0}
    rows = frame(rows_of(DQNS, DQN), rows_of({0: 5.0, 2: 10.0}, snn(8), one), rows_of(both, DSQN))
    converted, trained = shares.shares_kept(rows)
    assert converted.by_game == {"minatar/breakout": pytest.approx(7.5 / 20)}
    assert trained.by_game == {game: pytest.approx(0.25) for game in RANDOM}
    assert np.mean([*trained.by_game.values()]) == pytest.approx(trained.share.estimate)
    text = shares_table([converted, trained])
    assert "## Shares by game, minatar (%)" in text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert [line for line in cells if len(line) == 3][2:] == [
        [converted.name, "", "38"],
        [trained.name, "25", "25"],
    ]


def test_a_dqn_no_better_than_random_play_measures_nothing() -> None:
    assert shares.shares_kept(frame(rows_of({0: 0.0}, DQN), rows_of({0: 5.0}, DSQN))) == []
    assert shares.shares_kept(frame(rows_of({0: 5.0}, DSQN))) == []
    assert shares.shares_kept(frame(rows_of({-1: 5.0}, {"agent": "random", "network": ""}))) == []
    with pytest.raises(Refusal, match="evaluate run scores both"):
        share_against_sim_steps(frame(rows_of({0: 5.0}, DSQN)))


def test_networks_of_equal_sim_steps_are_compared() -> None:
    kept = shares.shares_kept(
        frame(
            rows_of(DQNS, DQN),
            rows_of({0: 9.5, 1: 17.5, 2: 27.0}, snn(4)),  # 0.9 of the DQNs' mean
            rows_of(DQNS, snn(8)),
            rows_of({seed: 0.5 * score for seed, score in DQNS.items()}, {**snn(4), "variant": "qcfs"}),
            rows_of({0: 1.0, 1: 1.1, 2: 0.9}, DSQN),
            rows_of({0: 19.0, 1: 20.0, 2: 21.0}, CMC, ("minatar/breakout",)),
        )
    )
    found = {
        (each.network.name, each.other.name): (round(each.share.estimate, 3), each.share.excludes_zero)
        for each in shares.differences(kept, shares.equal_sim_steps)
    }
    assert found == {
        ("SNN (qcfs, 4 sim steps)", "SNN (reconstruct, 4 sim steps)"): (-0.4, True),
        ("SNN (qcfs, 4 sim steps)", "DSQN (chen2022)"): (0.45, True),
        ("SNN (qcfs, 4 sim steps)", "DSQN (cmc)"): (-0.5, False),
        ("SNN (reconstruct, 4 sim steps)", "DSQN (chen2022)"): (0.85, True),
        ("SNN (reconstruct, 4 sim steps)", "DSQN (cmc)"): (-0.1, False),
        ("DSQN (chen2022)", "DSQN (cmc)"): (-0.95, False),
    }
    text = shares_table(kept)
    assert "6 comparisons were made. 6 have seeds enough for an interval, and 3 of these exclude 0." in text
    assert (
        "| minatar | SNN (reconstruct, 4 sim steps) | DSQN (cmc)                     | 1     | 6    | -10.0  |"
        in text
    )


def test_differences_pair_conversions_with_their_dqns_and_take_all_runs_of_trainings() -> None:
    """Against the scores by hand, of unequal seeds, on one game."""
    one = ("minatar/breakout",)
    converted, other = {0: 9.0, 1: 15.0, 2: 28.0}, {1: 12.0, 2: 26.0}
    trained, also = {3: 12.0, 5: 17.0, 6: 15.0}, {0: 9.0, 1: 13.0, 2: 8.0}
    kept = shares.shares_kept(
        frame(
            rows_of(DQNS, DQN, one),
            rows_of(converted, snn(4), one),
            rows_of(other, {**snn(4), "variant": "qcfs"}, one),
            rows_of(trained, DSQN, one),
            rows_of(also, CMC, one),
        )
    )
    arrays = {
        each.name: np.array([*of.values()])
        for each, of in zip(kept, (other, converted, trained, also), strict=True)
    }
    qcfs, reconstruct, dsqn, cmc = arrays
    everyone, two = np.array([*DQNS.values()]), np.array([20.0, 30.0])
    expected = {
        (qcfs, reconstruct): (arrays[qcfs], arrays[reconstruct][1:], two, (True, True)),
        (qcfs, dsqn): (arrays[qcfs], arrays[dsqn], two, (True, False)),
        (qcfs, cmc): (arrays[qcfs], arrays[cmc], two, (True, False)),
        (reconstruct, dsqn): (arrays[reconstruct], arrays[dsqn], everyone, (True, False)),
        (reconstruct, cmc): (arrays[reconstruct], arrays[cmc], everyone, (True, False)),
        (dsqn, cmc): (arrays[dsqn], arrays[cmc], everyone, (False, False)),
    }
    found = shares.differences(kept, shares.equal_sim_steps)
    assert [(each.network.name, each.other.name) for each in found] == [*expected]
    for each in found:
        own, others, dqns, paired = expected[each.network.name, each.other.name]
        by_hand = over_seeds.share_difference([own], [others], [dqns], [0.0], paired)
        assert each.share == pytest.approx(by_hand)


def test_one_seed_of_the_dqn_gives_no_interval() -> None:
    """Its noise would not be drawn, so an interval would be far too narrow."""
    rows = frame(
        rows_of({0: 10.0}, DQN), rows_of({0: 5.0, 1: 6.0, 2: 7.0}, DSQN), rows_of({0: 8.0, 1: 9.0}, CMC)
    )
    kept = shares.shares_kept(rows)
    assert [each.share.is_given for each in kept] == [False, False]
    assert [each.share.n for each in kept] == [6, 4]
    (difference,) = shares.differences(kept, shares.equal_sim_steps)
    assert not difference.share.is_given


def test_the_maximum_return_is_the_best_validation_mean_of_each_run() -> None:
    rows = [
        episode(game="minatar/breakout", train_seed=seed, train_steps=steps, episode=index, score=score)
        for seed, by_steps in (
            (0, {100: (1.0, 3.0), 200: (5.0, 1.0)}),
            (1, {100: (8.0, 8.0), 200: (0.0, 9.0)}),
        )
        for steps, scores in by_steps.items()
        for index, score in enumerate(scores)
    ]
    found = shares.maximum_returns(frame(rows))
    assert dict(zip(found.train_seed, found["mean"], strict=True)) == {0: 3.0, 1: 8.0}
    kept = shares.shares_kept(frame(rows_of(DQNS, DQN), rows_of(DQNS, DSQN)))
    assert "| minatar | relu    | atari-fast | 5.50 ± 3.54 (2)  |" in shares_table(
        kept, validation=frame(rows)
    )


def maxima(scores: Mapping[int, float], agent: Mapping[str, object], **changes: object) -> list[EpisodeRow]:
    """Maximum returns above random play by training seed, the same on every game, each after a worse evaluation."""
    return [
        replace(row, train_steps=steps, score=score, **changes)  # type: ignore[arg-type]
        for row in rows_of(scores, agent)
        for steps, score in ((100, 0.0), (200, row.score))
    ]


def test_maximum_returns_are_shares_of_those_of_the_dqn_that_was_trained_alike() -> None:
    rows = [*maxima(DQNS, DQN), *maxima({0: 8.0, 1: 12.0}, DSQN), *maxima(DQNS, DQN, recipe="nature")]
    found = shares.maximum_returns(frame(rows))
    dsqn, dqn, other = (
        Family(str(agent["agent"]), str(agent["network"]), recipe, 0)
        for agent, recipe in ((DSQN, "minatar-fast"), (DQN, "minatar-fast"), (DSQN, "nature"))
    )
    reached = shares.maximum_share(found, dsqn)
    assert reached is not None
    games, share = reached
    assert games == 2
    assert (share.estimate, share.n) == (pytest.approx(0.5), 4)
    # Seeds of both are drawn independently.
    assert share.low < 10 / 25 < 10 / 15 < share.high
    assert shares.maximum_share(found, dqn) is None
    assert shares.maximum_share(shares.maximum_returns(frame(maxima(DQNS, DSQN))), dsqn) is None
    assert shares.maximum_share(found[found.recipe == "nature"], other) is None
    # Untrained DQNs do not count, and a DQN of another tier is none of the network's.
    untrained = [replace(row, train_seed=9, recipe_steps=100_000) for row in maxima({9: 0.1}, DQN)]
    assert shares.maximum_share(shares.maximum_returns(frame(rows, untrained)), dsqn) == reached
    # A DQN that is no better than random play measures nothing on its game.
    poor = [row for row in maxima({4: 1.0}, DSQN) if row.game == "minatar/breakout"]
    fallen = [replace(row, score=-1.0) for row in maxima(DQNS, DQN) if row.game == "minatar/breakout"]
    assert shares.maximum_share(shares.maximum_returns(frame(poor, fallen)), dsqn) is None
    # With two DQNs that were trained alike, nothing says which is meant.
    rows += maxima(DQNS, {**DQN, "network": "wide"})
    assert shares.maximum_share(shares.maximum_returns(frame(rows)), dsqn) is None
    kept = shares.shares_kept(frame(rows_of(DQNS, DQN), rows_of(DQNS, DSQN)))
    pong = [replace(row, game="pong") for row in maxima({0: 3.0}, DQN)[:2]]
    (line,) = [
        line
        for line in shares_table(kept, validation=frame(rows[:24], pong)).splitlines()
        if "chen2022+sim_steps=4 " in line
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:7] == ["10.47 ± 2.83 (2)", "10.53 ± 2.83 (2)", "", "50.0"]
    assert cells[8] == "2"


def counted(agent: Mapping[str, object], game: str, seed: int, acs: float) -> OperationsRow:
    """One layer of 1,000 synapses."""
    return OperationsRow(
        game=game,
        agent=str(agent["agent"]),
        checkpoint_id=weights(agent, seed),
        train_seed=seed,
        train_steps=1000,
        network=str(agent["network"]),
        recipe="minatar-fast",
        eval_seed=0,
        num_states=10,
        sim_steps=int(str(agent.get("sim_steps", 0))),
        mean_sim_steps=float(str(agent.get("sim_steps", 0))),
        layer=0,
        num_neurons=10,
        binary_input=bool(acs),
        dense_macs=1000.0,
        effective_macs=0.0 if acs else 400.0,
        acs=acs,
        neuron_updates=10.0,
        spikes=1.0 if acs else 0.0,
        variant=str(agent.get("variant", "")),
    )


def test_operations_are_relative_to_the_dense_pass_of_the_dqn() -> None:
    rows = frame(rows_of(DQNS, DQN), rows_of(DQNS, snn(4)), rows_of(DQNS, DSQN))
    operations = [counted(DQN, game, seed, 0.0) for game in RANDOM for seed in DQNS]
    operations += [
        counted(snn(4), game, seed, acs)
        for game, acs in zip(RANDOM, (200.0, 400.0), strict=True)
        for seed in DQNS
    ]
    operations += [counted(DSQN, "minatar/breakout", seed, 700.0) for seed in DQNS]
    # Operations of other weights of the run do not count.
    operations += [
        replace(each, checkpoint_id=f"last {each.checkpoint_id}", acs=10 * each.acs)
        for each in operations
        if each.acs
    ]
    converted, trained = shares.shares_kept(rows, operations)
    assert shares.sparse_dqns(operations) == {"minatar": pytest.approx(0.4)}
    assert not shares.differences([converted, trained], shares.equal_operations)
    for cost, is_equal in ((0.27, False), (0.28, True), (0.33, True), (0.34, False)):
        costly = replace(trained, counted={game: {0: cost} for game in RANDOM})
        (each,) = shares.differences([converted, costly], lambda *_: True)
        assert shares.differences([converted, costly], shares.equal_operations) == [each] * is_equal
        text = shares_table([converted, costly])
        assert ("## Differences at equal operations, within 10 %" in text) == is_equal
    assert converted.operations == pytest.approx(0.3)
    assert trained.operations is None  # on one game they were not counted
    figures = share_against_operations(rows, pd.DataFrame([vars(row) for row in operations]))
    ((_, figure),) = figures.items()
    (axis,) = figure.axes
    assert axis.lines[0].get_label() == "SNN, 3 seeds, 4 sim steps"
    assert float(np.asarray(axis.lines[0].get_xdata())[0]) == pytest.approx(0.3)


def test_operations_are_means_of_games_over_the_runs_that_were_counted() -> None:
    """A game of more seeds weighs no more, and a run that was not counted hides nothing."""
    rows = frame(rows_of(DQNS, DQN), rows_of(DQNS, snn(4)))
    breakout, asterix = RANDOM
    operations = [counted(DQN, game, seed, 0.0) for game in RANDOM for seed in DQNS]
    operations += [counted(snn(4), breakout, seed, 200.0) for seed in DQNS]
    operations += [counted(snn(4), asterix, 0, 400.0)]
    (found,) = shares.shares_kept(rows, operations)
    assert found.operations == pytest.approx(0.3)
    assert "| 0.3 (4 of 6 runs) |" in shares_table([found])
    assert found.on([asterix]).operations == pytest.approx(0.4)


def test_networks_are_equal_in_operations_on_the_games_that_they_are_compared_on() -> None:
    rows = frame(rows_of(DQNS, DQN), rows_of(DQNS, snn(4)), rows_of(DQNS, DSQN, ("minatar/breakout",)))
    converted, trained = shares.shares_kept(rows)
    breakout, asterix = RANDOM
    converted = replace(converted, counted={breakout: {0: 0.2}, asterix: {0: 0.4}})
    for cost, is_equal in ((0.3, False), (0.2, True)):
        costly = replace(trained, counted={breakout: {0: cost}})
        found = shares.differences([converted, costly], shares.equal_operations)
        assert [each.games for each in found] == [(breakout,)] * is_equal


def test_networks_of_different_dqns_are_not_compared() -> None:
    """Both keep nine tenths, of DQNs of which one scores twice as much."""
    double = {"recipe": "minatar-fast+double=True"}
    kept = shares.shares_kept(
        frame(
            *(
                [replace(row, **changes) for row in rows_of({s: k * x for s, x in DQNS.items()}, agent)]
                for scale, changes in ((1, {}), (2, double))
                for k, agent in ((scale, DQN), (0.9 * scale, snn(4)))
            ),
            rows_of(DQNS, DSQN),
        )
    )
    assert [round(each.share.estimate, 3) for each in kept] == [0.9, 0.9, 1.0]
    found = shares.differences(kept, shares.equal_sim_steps)
    assert [(each.network.name, each.other.name) for each in found] == [(kept[0].name, kept[2].name)]
    assert found[0].share.estimate == pytest.approx(-0.1)


def test_a_conversion_belongs_to_the_dqn_of_its_network() -> None:
    """Two DQNs of one recipe, seed and number of decisions, which differ in their layers."""
    wide = {"network": "relu+layers=wide"}
    kept = shares.shares_kept(
        frame(
            rows_of(DQNS, DQN),
            rows_of({seed: 2 * score for seed, score in DQNS.items()}, {**DQN, **wide}),
            rows_of({seed: 0.5 * score for seed, score in DQNS.items()}, snn(4)),
            rows_of(DQNS, {**snn(4), **wide}),
        )
    )
    assert [round(each.share.estimate, 3) for each in kept] == [0.5, 0.5]
    assert {each.dqn_of["minatar/breakout"].network for each in kept} == {"relu", "relu+layers=wide"}


def test_a_game_without_a_dqn_in_common_does_not_take_the_others_along() -> None:
    one, both = ("minatar/asterix",), (*RANDOM,)
    rows = frame(
        rows_of(DQNS, DQN),
        rows_of({0: 5.0, 1: 9.0}, snn(4)),
        rows_of({2: 9.0}, {**snn(4), "variant": "qcfs"}, one),
        rows_of({0: 9.0, 1: 9.0}, {**snn(4), "variant": "qcfs"}, ("minatar/breakout",)),
    )
    kept = shares.shares_kept(rows)
    (found,) = shares.differences(kept, shares.equal_sim_steps)
    assert found.games == ("minatar/breakout",)
    assert [
        line for line in shares_table(kept).splitlines() if "| SNN (qcfs" in line and "| 1     | 4" in line
    ]
    assert all(each.games == tuple(sorted(both)) for each in kept)


def test_conversions_of_other_weights_of_the_same_training_are_not_compared() -> None:
    """One was made from the best weights and one from the last, which scored less, or once as much."""
    last = rows_of({0: 10.0, 1: 15.0, 2: 20.0}, DQN)
    rows = frame(
        [replace(row, checkpoint="best", train_steps=1000) for row in rows_of(DQNS, DQN)],
        [replace(row, checkpoint="final", train_steps=2000) for row in last],
        [replace(row, train_steps=1000) for row in rows_of(DQNS, snn(4))],
        [replace(row, train_steps=2000) for row in rows_of(DQNS, {**snn(4), "variant": "qcfs"})],
    )
    kept = shares.shares_kept(rows)
    assert [round(each.share.estimate, 2) for each in kept] == [1.33, 1.0]
    assert shares.differences(kept, shares.equal_sim_steps) == []


def test_operations_of_a_comparison_are_of_its_runs() -> None:
    """On the one DQN that both were made from they take as many, though not on the others."""
    rows = frame(rows_of(DQNS, DQN), rows_of(DQNS, snn(4)), rows_of({0: 9.0}, snn(8)))
    first, second = shares.shares_kept(rows)
    first = replace(first, counted={game: {0: 0.2, 1: 0.8, 2: 0.8} for game in RANDOM})
    second = replace(second, counted={game: {0: 0.2} for game in RANDOM})
    assert len(shares.differences([first, second], shares.equal_operations)) == 1


def test_what_has_no_dqn_is_named() -> None:
    rows = frame(
        rows_of(DQNS, DQN, ("minatar/breakout",)),
        rows_of({0: 5.0, 7: 5.0}, snn(4)),
        rows_of({0: 5.0}, DSQN, ("minatar/asterix",)),
    )
    found = shares.shares(rows).left_out
    assert [(each.name, each.game, each.seeds) for each in found] == [
        ("SNN", "minatar/asterix", (0, 7)),
        ("SNN", "minatar/breakout", (7,)),
        ("DSQN", "minatar/asterix", (0,)),
    ]
    text = shares_table(shares.shares_kept(rows), found)
    assert (
        "- SNN: minatar/asterix (seeds 0, 7); minatar/breakout (seeds 7)\n- DSQN: minatar/asterix (seeds 0)\n"
        in text
    )
    assert shares.shares(frame(rows_of(DQNS, DQN), rows_of(DQNS, snn(4)))).left_out == []
    foreign = shares.shares(frame(rows_of({-1: 5.0}, snn(4), ("minatar/asterix",)))).left_out
    assert "- SNN: minatar/asterix\n" in shares_table([], foreign)
    assert "Left out" not in shares_table(shares.shares_kept(rows))


def test_a_run_that_is_not_over_has_no_maximum_return() -> None:
    whole = maxima(DQNS, DSQN, recipe_steps=200)
    begun = [row for row in maxima({3: 99.0}, DSQN, recipe_steps=200) if row.train_steps == 100]
    assert set(shares.maximum_returns(frame(whole, begun)).train_seed) == set(DQNS)


def test_a_run_that_ended_at_the_stop_score_has_one() -> None:
    """With --early-stop, runs of a network end after different numbers of decisions. Pong's stop score is 20."""
    solved = [
        replace(row, game="pong", train_seed=seed, train_steps=steps, score=score, recipe_steps=1000)
        for seed, ends, last in ((0, 500, 20.5), (1, 800, 21.0), (2, 600, 12.0))
        for steps, score in ((100, 0.0), (ends, last))
        for row in rows_of({0: 0.0}, DQN, ("pong",))
    ]
    assert set(shares.maximum_returns(frame(solved)).train_seed) == {0, 1}


def test_a_study_under_way_shows_its_networks_on_the_games_that_are_done() -> None:
    """Of four networks, one played a third game. The others are not left out for that."""
    two, three = (*RANDOM,), (*RANDOM, "minatar/freeway")
    rows = frame(
        rows_of(DQNS, DQN, three),
        rows_of(DQNS, snn(4), three),
        *(rows_of(DQNS, {**snn(4), "variant": method}, two) for method in ("qcfs", "exact")),
        rows_of(DQNS, CMC, ("minatar/breakout",)),
    )
    ((_, figure),) = share_against_sim_steps(rows).items()
    (axis,) = figure.axes
    lines = [str(line.get_label()) for line in axis.lines if not str(line.get_label()).startswith("_")]
    assert lines == ["SNN (exact), 3 seeds", "SNN (qcfs), 3 seeds", "SNN (reconstruct), 3 seeds"]
    assert axis.get_title() == "minatar, 2 games"


def drawn(*methods: tuple[str, tuple[str, ...], tuple[int, ...]]) -> tuple[str, list[str]]:
    """Title and methods of the figure of conversions: their method, games and simulation steps."""
    rows = frame(
        rows_of(DQNS, DQN, FOUR),
        *(
            rows_of(DQNS, {**snn(steps), "variant": method}, games)
            for method, games, sim_steps in methods
            for steps in sim_steps
        ),
    )
    ((_, figure),) = share_against_sim_steps(rows).items()
    (axis,) = figure.axes
    lines = [str(line.get_label()) for line in axis.lines if not str(line.get_label()).startswith("_")]
    return axis.get_title(), [re.sub(r"SNN \((.*)\), .*", r"\1", line) for line in lines]


FOUR = (*RANDOM, "minatar/freeway", "minatar/seaquest")


def test_sweeps_of_one_game_hide_no_methods() -> None:
    """A method counts once, however many simulation steps it was measured with."""
    sweep = ("qcfs", FOUR[:1], (2, 4, 6, 8))
    assert drawn(
        ("reconstruct", FOUR[:3], (4,)), ("exact", FOUR[:3], (4,)), sweep, ("max", FOUR[:1], (4,))
    ) == (
        "minatar, 3 games",
        ["exact", "reconstruct"],
    )


def test_without_games_that_half_of_them_played_those_of_most_are_shown() -> None:
    """Each of five methods played other two games, but for two of them."""
    pairs = [FOUR[:2], FOUR[1:3], FOUR[2:], (FOUR[0], FOUR[3])]
    methods = ("reconstruct", "qcfs", "exact", "max")
    alone = [(method, games, (4,)) for method, games in zip(methods, pairs, strict=True)]
    assert drawn(*alone, ("tan2021", FOUR[:2], (4,))) == ("minatar, 2 games", ["reconstruct", "tan2021"])


def test_operations_are_shown_on_the_games_on_which_they_were_counted() -> None:
    rows = frame(rows_of(DQNS, DQN, FOUR[:3]), rows_of(DQNS, snn(4), FOUR[:3]))
    operations = [counted(DQN, game, 0, 0.0) for game in FOUR[:2]]
    operations += [counted(snn(4), game, 0, 200.0) for game in FOUR[:2]]
    figures = share_against_operations(rows, pd.DataFrame([vars(row) for row in operations]))
    ((_, figure),) = figures.items()
    assert figure.axes[0].get_title() == "minatar, 2 games"


def test_the_figure_has_a_line_a_method_and_the_published_ones() -> None:
    rows = frame(
        rows_of(DQNS, DQN),
        *(
            rows_of({seed: score * steps / 16 for seed, score in DQNS.items()}, snn(steps))
            for steps in (4, 8)
        ),
        rows_of(DQNS, DSQN),
        rows_of({0: 19.0, 1: 20.0}, CMC, ("minatar/breakout",)),
    )
    ((name, figure),) = share_against_sim_steps(rows).items()
    assert name == "minatar"
    (axis,) = figure.axes
    lines = {str(line.get_label()): line for line in axis.lines if not str(line.get_label()).startswith("_")}
    # The last one played fewer games.
    assert [*lines][:2] == ["SNN, 3 seeds", "DSQN, 3 seeds"]
    assert list(map(float, np.asarray(lines["SNN, 3 seeds"].get_xdata()))) == [4.0, 8.0]
    assert list(map(float, np.asarray(lines["SNN, 3 seeds"].get_ydata()))) == pytest.approx([25.0, 50.0])
    (published,) = [each for each in axis.collections if each.get_label() == "CRPI, published"]
    assert np.asarray(published.get_offsets()).tolist() == [[2, 65.72], [4, 80.72], [6, 83.66]]


def test_agents_that_are_not_trained_keep_nothing() -> None:
    short = [vars(row) | {"recipe_steps": 1_000_000} for row in (*rows_of(DQNS, DQN), *rows_of(DQNS, DSQN))]
    assert shares.shares_kept(pd.DataFrame(short)) == []
