"""Tables say what the rows say: sums by hand, published numbers against their own averages."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexCommentNode,
    LatexEnvironmentNode,
    LatexMacroNode,
    LatexMathNode,
    LatexSpecialsNode,
    LatexWalker,
)

from analysis.figures import scores
from analysis.game_table import Block, game_table
from analysis.game_table_formats import game_table_csv, game_table_markdown
from analysis.game_table_latex import MOST_COLUMNS, game_table_latex
from analysis.reference_dqns import reference_dqns, stands_below
from analysis.runs import (
    Family,
    TrainedAgent,
    families,
    is_own_dqn,
    names,
    own_dqn,
    own_dqns,
    prefer_best,
    training_runs,
)
from analysis.summary import summary
from analysis.tables import markdown, score_lines
from core.errors import Refusal
from core.games import PUBLISHED
from tests.conftest import episode, only

RESULTS = Path(__file__).resolve().parents[2] / "results"


def frame(*rows: object) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in rows])


def played(scores: tuple[float, ...], **changes: object) -> list[object]:
    """One network's episodes, five of each score; its checkpoint is named by what it is."""
    name = "-".join(str(value) for value in changes.values())
    return [
        episode(score=score, episode=index, checkpoint_id=name, **changes)
        for index, score in enumerate(5 * scores)
    ]


def published() -> pd.DataFrame:
    return pd.read_csv(PUBLISHED / "published_scores.csv")


def cells_of(block: Block, game: str) -> list[str]:
    """One line of the printed table."""
    text = game_table_markdown([block])
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {game} ")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_lines_sum_rows_up_by_hand() -> None:
    rows = [episode(score=score, episode=index) for index, score in enumerate(4 * (1.0, 2.0, 6.0))]
    # 100 decisions of 100 spikes and 300 of 300: a decision costs 250, an episode's mean would say 200.
    rows += [
        episode(agent="dsqn", sim_steps=4, spikes_per_decision=cost, length_steps=int(cost))
        for cost in (100.0, 300.0)
    ]
    dqn, dsqn = score_lines(rows)
    assert (dqn.score.estimate, dqn.score.n) == (3.0, 12)
    assert 1.0 <= dqn.score.low <= 3.0 <= dqn.score.high <= 6.0
    assert (dqn.random, dqn.human) == (-20.7, 14.6)
    assert (dsqn.sim_steps, dsqn.spikes_per_decision) == (4, 250.0)
    assert "| 3.00 " in markdown([dqn])


def test_an_agent_no_better_than_random_play_is_called_untrained() -> None:
    random = [episode(agent="random", train_seed=-1, score=score) for score in 4 * (-20.0, -21.0, -19.0)]
    lines = score_lines([*random, *played((-20.0, -20.5))])  # type: ignore[list-item]
    assert [line.note != "" for line in lines] == [False, True]
    lines = score_lines([*random, *played((-10.0, -9.0))])  # type: ignore[list-item]
    assert [line.note for line in lines] == ["", ""]
    # Without rows of random play, and with a stroke of luck: the references and the recipe still tell.
    (line,) = score_lines(played((-20.9, -20.9)))  # type: ignore[arg-type]
    assert "no better than random play" in line.note
    (line,) = score_lines([episode(score=20.0, train_steps=10)])
    assert "1.0 % of its recipe" in line.note


def test_an_imported_agent_claims_no_training() -> None:
    unknown = {"train_seed": -1, "train_steps": -1, "recipe_steps": 0}
    rows = [*played((20.0, 20.0), **unknown), *played((19.0, 19.0))]
    imported, ours = score_lines(rows)  # type: ignore[arg-type]
    assert (imported.note, ours.note) == ("", "")
    assert "| unknown " in markdown([imported])
    (axis,) = only(scores.score_bars(pd.DataFrame([vars(row) for row in rows]))).axes
    labels = [" ".join(label.get_text().split()) for label in axis.get_yticklabels()]
    assert labels == ["DQN, imported, n = 1 x 10", "DQN, n = 1 x 10"]
    (line,) = score_lines(played((-20.9, -20.9), **unknown))  # type: ignore[arg-type]
    assert line.note == "not a trained agent: no better than random play"


def test_checkpoints_are_not_averaged() -> None:
    lines = score_lines([episode(score=0.0), episode(score=100.0, checkpoint_id="other")])
    assert sorted(line.score.estimate for line in lines) == [0.0, 100.0]
    with pytest.raises(Refusal, match="evaluation seed"):
        score_lines([episode(), episode(eval_seed=1)])
    with pytest.raises(Refusal, match="setting of pong"):
        score_lines([episode(), episode(settings="{1}")])


def test_protocols_are_not_mixed() -> None:
    with pytest.raises(Refusal, match="more than one protocol of pong do not compare: liu2022, nature"):
        score_lines([episode(), episode(protocol="liu2022")])


def test_best_and_final_weights_are_two_lines_even_if_they_are_the_same() -> None:
    rows = [episode(checkpoint="best", score=3.0), episode(checkpoint="final", score=3.0)]
    assert [(line.checkpoint, line.score.n) for line in score_lines(rows)] == [("best", 1), ("final", 1)]
    assert "| best " in markdown(score_lines(rows))


# Training runs ----------------------------------------------------------------------------------------


def test_networks_are_named_by_what_tells_them_apart() -> None:
    chen = Family("dsqn", "chen2022+sim_steps=4", "minatar-fast", 0)
    last = chen._replace(network="chen2022+sim_steps=4+readout=last-mem")
    double = chen._replace(recipe="minatar-fast+double=True")
    dqn = Family("dqn", "relu", "minatar-fast", 0)
    assert names([chen, dqn]) == {dqn: "DQN", chen: "DSQN"}
    assert names([chen, last]) == {chen: "DSQN (chen2022)", last: "DSQN (last-mem)"}
    assert names([chen, double]) == {chen: "DSQN", double: "Double DSQN"}
    assert names([chen, chen._replace(network="chen2022")])[chen] == "DSQN (4 sim steps)"
    snn = Family("rate-coded", "relu", "minatar-fast", 16)
    assert names([snn, snn._replace(sim_steps=4)])[snn] == "converted SNN (16 sim steps)"


def test_only_a_converted_networks_sim_steps_make_another_family() -> None:
    rows = frame(
        episode(agent="dsqn", sim_steps=8),
        episode(agent="dsqn", sim_steps=4),  # temporal pruning: one training run
        episode(agent="rate-coded", sim_steps=8),
        episode(agent="rate-coded", sim_steps=4),
    )
    assert [family.sim_steps for family in families(rows)] == [0, 0, 8, 4]


def test_aggregates_take_the_best_checkpoint_where_there_is_one() -> None:
    rows = [
        *played((1.0, 3.0), train_seed=0, checkpoint="final"),
        *played((5.0, 9.0), train_seed=0, checkpoint="best"),
        *played((4.0, 4.0), train_seed=1, checkpoint="final"),
    ]
    runs = training_runs(frame(*rows))
    assert sorted(runs["mean"]) == [2.0, 4.0, 7.0]
    chosen = prefer_best(runs)
    assert dict(zip(chosen.train_seed, chosen["mean"], strict=True)) == {0: 7.0, 1: 4.0}


def test_two_networks_never_pass_for_one() -> None:
    with pytest.raises(Refusal, match="checkpoint of pong, dqn relu atari-fast, training seed 0"):
        training_runs(frame(episode(), episode(checkpoint_id="other")))
    with pytest.raises(Refusal, match="protocol of pong"):
        game_table(frame(episode(), episode(protocol="liu2022")), published())


def test_an_own_dqn_has_the_recipe_and_the_seeds() -> None:
    rows = [
        *played((1.0,), train_seed=0),
        *played((2.0,), train_seed=1),
        *played((9.0,), train_seed=0, recipe="other"),
        *played((1.0,), train_seed=1, agent="rate-coded", sim_steps=4),
        *played((1.0,), train_seed=5, agent="dsqn", network="chen2022"),
    ]
    runs = training_runs(frame(*rows))

    def found(agent: str) -> list[float]:
        (family,) = [each for each in set(runs.family) if each.agent == agent]
        return sorted(own_dqn(runs, runs[runs.family == family])["mean"])

    assert found("rate-coded") == [2.0]
    assert found("dsqn") == [1.0, 2.0]


def test_one_rule_says_which_dqn_is_an_agents_own() -> None:
    dqn = TrainedAgent("pong", "dqn", "relu", "atari-fast", False, 0, 1000)
    dsqn = dqn._replace(
        agent="dsqn", network="chen2022", recipe="atari-fast+cmc=True", train_seed=7, train_steps=900
    )
    assert is_own_dqn(dqn, dsqn)
    for recipe in ("atari-fast+double=True", "atari", "minatar-fast"):
        assert not is_own_dqn(dqn, dsqn._replace(recipe=recipe))
    for changes in ({"game": "breakout"}, {"untrained": True}, {"train_seed": -1}):
        assert not is_own_dqn(dqn._replace(**changes), dsqn)
    for agent in ("rate-coded", "quantised"):
        conversion = dqn._replace(agent=agent)
        assert is_own_dqn(dqn, conversion)
        for changes in (
            {"train_steps": 900},
            {"train_seed": 1},
            {"recipe": "atari-fast+cmc=True"},
            {"network": "relu+layers=wide"},
        ):
            assert not is_own_dqn(dqn, conversion._replace(**changes))
    # A DQN that was changed alike goes before the plain one.
    alike = dqn._replace(recipe="atari-fast+sticky=0.25")
    known = [(dqn, "plain"), (alike, "alike")]
    assert own_dqns(dsqn._replace(recipe=alike.recipe), known) == ["alike"]
    assert own_dqns(dsqn, known[:1]) == ["plain"]


def test_a_run_is_untrained_or_not_as_a_whole() -> None:
    """Of a recipe of 1 M decisions: best weights of 90,000 and final ones of 150,000 are one trained run's."""
    rows = [
        *played((1.0, 1.0), train_steps=90_000, recipe_steps=1_000_000, checkpoint="best"),
        *played((1.0, 1.0), train_steps=150_000, recipe_steps=1_000_000, checkpoint="final"),
        *played((1.0, 1.0), train_steps=90_000, recipe_steps=1_000_000, train_seed=1),
        # What was converted is the first run's best.
        *played((1.0, 1.0), train_steps=90_000, recipe_steps=1_000_000, agent="rate-coded", sim_steps=4),
    ]
    assert [family.untrained for family in families(frame(*rows[::10]))] == [False, False, True, False]
    assert len(prefer_best(training_runs(frame(*rows)))) == 3
    notes = {(line.agent, line.train_seed, line.checkpoint): line.note for line in score_lines(rows)}  # type: ignore[arg-type]
    assert notes["dqn", 0, "best"] == notes["dqn", 0, "final"] == ""
    assert notes["dqn", 1, ""] == "not a trained agent: 9.0 % of its recipe"


# The papers' table ------------------------------------------------------------------------------------


def test_the_table_by_hand() -> None:
    """Pong's random play scores -20.7. DQN: seeds with means 10 and 14, so 12; spreads 2 and 4, so sqrt(10).
    DSQN 8: 28.7 / 32.7 of the way. Squared standard errors (4/9 + 16/9)/4 and 1/9: 4 is more than 1.96 sqrt(6/9)."""
    rows = [
        *played((8.0, 12.0), train_seed=0),
        *played((10.0, 18.0), train_seed=1),
        *played((7.0, 9.0), agent="dsqn", network="chen2022+sim_steps=4", sim_steps=4),
        *played((-20.0, -21.0), agent="random", train_seed=-1, network="", recipe=""),
    ]
    (block,) = game_table(frame(*rows), published())
    assert block.title == "Atari, 17 games"
    assert len(block.games) == 17
    assert block.headings == ("DQN", "DSQN, 4 sim steps")
    dqn, dsqn = (block.cells["pong", column] for column in block.columns)
    assert (dqn.mean, dqn.seeds, dqn.episodes, dqn.percent_of_dqn, dqn.verdict) == (12.0, 2, 10, None, "")
    assert dqn.std == pytest.approx(math.sqrt(10))
    assert dqn.seed_std == pytest.approx(math.sqrt(8))
    assert (dsqn.mean, dsqn.std, dsqn.seed_std) == (8.0, 1.0, None)
    assert dsqn.percent_of_dqn == pytest.approx(100 * 28.7 / 32.7)
    assert dsqn.verdict == "worse"
    assert cells_of(block, "pong") == [
        *("pong", "-20.70", "14.60", "12.00 ± 3.16", "2 x 10", "8.00 ± 1.00", "1 x 10", "88 -"),
        *("19.86 [b]", "17.60/17.23/16.13 [f]", "20.00 [h]", "16.61 [i]", "20.60 [j]"),
    ]
    assert cells_of(block, "better / equal / worse")[7] == "0 / 0 / 1"
    assert cells_of(block, "mean % of DQN")[7] == "88 (1 game)"
    # Games without rows are blank, and so is what nobody published.
    assert cells_of(block, "tennis") == ["tennis", "-23.80", "-8.30", *[""] * 7, "-1.80 [h]", "-1.50 [i]", ""]


def test_a_clear_difference_is_better_or_worse() -> None:
    for scores_, verdict in (
        ((1.0, 3.0), "worse"),
        ((21.0, 19.0), "better"),
        ((9.9, 9.3), "equal"),
        ((8.0,), ""),
    ):
        rows = [*played((9.0, 11.0)), *played(scores_, agent="dsqn", network="chen2022")]
        (block,) = game_table(frame(*rows), published())
        assert block.cells["pong", block.columns[1]].verdict == verdict


def test_best_and_final_are_two_columns_and_meet_their_like() -> None:
    rows = []
    for checkpoint, dqn, dsqn in (("best", 9.3, 4.3), ("final", -10.7, 4.3)):
        rows += played((dqn, dqn), checkpoint=checkpoint)
        rows += played((dsqn, dsqn), checkpoint=checkpoint, agent="dsqn", network="chen2022")
    (block,) = game_table(frame(*rows), published())
    assert block.headings == ("DQN, best", "DQN, final", "DSQN, best", "DSQN, final")
    percents = [block.cells["pong", column].percent_of_dqn for column in block.columns]
    assert percents == [None, None, pytest.approx(100 * 25 / 30), pytest.approx(100 * 25 / 10)]


def test_a_conversion_meets_the_checkpoint_that_it_was_made_of() -> None:
    """Random play is -20.7: the final DQN is 10 above it, the best one 30, and the conversion of the final one 5."""
    final = played((-10.7, -10.7), checkpoint="final", train_steps=1000)
    rows = [
        *played((9.3, 9.3), checkpoint="best", train_steps=800),
        *played((-15.7, -15.7), agent="rate-coded", sim_steps=4, train_steps=1000),
    ]
    for episodes, share in (([*rows, *final], 50.0), (rows, None)):
        (block,) = game_table(frame(*episodes), published())
        cell = block.cells["pong", block.columns[-1]]
        assert cell.percent_of_dqn == (None if share is None else pytest.approx(share))
        assert bool(cell.verdict) is (share is not None)


def test_without_a_dqn_above_random_play_there_is_no_share() -> None:
    rows = [*played((-21.0, -21.0)), *played((1.0, 3.0), agent="dsqn", network="chen2022")]
    (block,) = game_table(frame(*rows), published())
    assert block.cells["pong", block.columns[1]].percent_of_dqn is None
    rows = played((1.0, 3.0), agent="dsqn", network="chen2022")
    (block,) = game_table(frame(*rows), published())
    cell = block.cells["pong", block.columns[0]]
    assert (cell.percent_of_dqn, cell.verdict) == (None, "")


def test_published_shares_average_to_the_published_aprs() -> None:
    """Xu et al. 2026, Table 2, print both the scores and, over the five games, the APR."""
    (block,) = game_table(frame(episode(game="minatar/breakout", protocol="minatar")), published())
    for agent, sim_steps, apr in (("DSQN(Liu)", 4, 77.31), ("CRPI", 6, 83.66), ("CMC-DSQN", 4, 101.92)):
        shares = [
            score.percent_of_dqn
            for score in block.published
            if (score.agent, score.sim_steps) == (agent, sim_steps)
        ]
        assert len(shares) == 5
        assert sum(share for share in shares if share is not None) / 5 == pytest.approx(apr, abs=0.02)


def test_numbers_read_off_figures_are_marked_and_left_out_of_arithmetic() -> None:
    (block,) = game_table(frame(episode()), published())
    by_eye = [score for score in block.published if score.kind != "exact"]
    assert by_eye
    assert all(score.percent_of_dqn is None for score in by_eye)
    assert "≈ 55,000 [" in cells_of(block, "star_gunner")[-4]
    text = game_table_markdown([block])
    assert "approximate (read off the figure by eye)" in text
    assert r"$\approx$55,000" in game_table_latex([block])


def test_all_numbers_are_in_the_csv() -> None:
    rows = [*played((1.0, 3.0)), *played((9.0, 11.0), game="minatar/breakout", protocol="minatar")]
    blocks = game_table(frame(*rows), published())
    lines = list(csv.DictReader(io.StringIO(game_table_csv(blocks))))
    ours = {line["game"]: line for line in lines if line["source"] == "ours"}
    assert float(ours["pong"]["mean"]) == 2.0
    assert float(ours["minatar/breakout"]["std"]) == 1.0
    games = {game for block in blocks for game in block.games}
    theirs = published()[published().game.isin(games)]
    assert len([line for line in lines if line["kind"]]) == len(theirs) + len(reference_dqns())
    (human,) = [line for line in lines if (line["game"], line["agent"]) == ("pong", "human")]
    assert (human["source"], human["mean"]) == ("57-game table", "14.6")
    assert not [line for line in lines if line["agent"] == "human" and line["game"].startswith("minatar")]


# LaTeX -----------------------------------------------------------------------------------------------

KNOWN = {
    *(
        "begin",
        "end",
        "centering",
        "scriptsize",
        "setlength",
        "tabcolsep",
        "caption",
        "shortstack",
        "textsuperscript",
    ),
    *(
        "toprule",
        "midrule",
        "bottomrule",
        "pm",
        "approx",
        "times",
        "dagger",
        "\\",
        "_",
        "%",
        "#",
        "&",
        "$",
        "{",
        "}",
    ),
    *("textbackslash", "textasciitilde", "textasciicircum"),
}
"""Commands that LaTeX and booktabs define."""


def parsed_tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, after a strict parse: balanced, with known commands, and nothing left unescaped."""
    assert text.isascii()
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    tables = []

    def walk(nodes: Iterable[Any], in_math: bool = False) -> None:
        for node in nodes:
            if node is None or node.isNodeType(LatexCommentNode):
                continue
            if node.isNodeType(LatexMacroNode):
                assert node.macroname in KNOWN, node
                walk(node.nodeargd.argnlist if node.nodeargd else ())
            elif node.isNodeType(LatexCharsNode):
                assert in_math or not set(node.chars) & set("_^#&$~"), node
            elif node.isNodeType(LatexSpecialsNode):
                assert node.specials_chars == "&", node
            else:
                if node.isNodeType(LatexEnvironmentNode) and node.environmentname == "tabular":
                    rows = re.findall(r"^(.*) \\\\$", node.latex_verbatim(), re.MULTILINE)
                    tables.append([re.split(r" (?<!\\)& ", row) for row in rows])
                walk(node.nodelist, in_math or node.isNodeType(LatexMathNode))

    walk(nodes)
    return tables


def many_agents() -> tuple[Block, ...]:
    """Eleven agents on two tiers, with names that LaTeX would misread."""
    rows = []
    for game, protocol in (("pong", "nature"), ("minatar/breakout", "minatar")):
        for index in range(11):
            of = {"game": game, "protocol": protocol, "network": f"own_{index}%#~^", "agent": "dsqn"}
            rows += played((1.0, 3.0), **of)
    return game_table(frame(*rows), published())


@pytest.mark.parametrize("study", ["cartpole", "decoders", "trained"])
def test_committed_latex_is_parsed(study: str) -> None:
    for table in parsed_tables((RESULTS / study / "games.tex").read_text()):
        assert {len(row) for row in table} == {MOST_COLUMNS}


def test_latex_is_parsed_and_narrow() -> None:
    for blocks in (game_table(frame(episode()), published()), many_agents()):
        text = game_table_latex(blocks)
        tables = parsed_tables(text)
        assert len(tables) == len(blocks)
        for block, table, shape in zip(blocks, tables, re.findall(r"tabular\}\{(l?r+)", text), strict=True):
            assert {len(row) for row in table} == {len(shape)}
            assert len(shape) <= MOST_COLUMNS
            assert [row[0].replace("\\", "") for row in table[1:-2]] == [*block.games]
    assert "% left out, see --columns of plot.py: " in text


def test_a_table_for_latex_has_the_columns_that_were_chosen() -> None:
    (block,) = game_table(frame(episode()), published())
    ((header, *lines),) = parsed_tables(game_table_latex([block], ["DQN", "human"]))
    assert [cell.split("\\\\")[0] for cell in header] == [
        "game",
        r"\shortstack[r]{human",
        r"\shortstack[r]{DQN",
    ]
    (pong,) = [line for line in lines if line[0] == "pong"]
    assert pong == ["pong", "14.60", "10.00"]
    with pytest.raises(
        Refusal, match=r"no column 'DQM': did you mean 'DQN'\? accepted are 'random', 'human', 'DQN'"
    ):
        game_table_latex([block], ["DQM"])
    blocks = many_agents()
    with pytest.raises(Refusal, match="8 columns: accepted are 7 at most, besides the game"):
        game_table_latex(blocks, [*blocks[0].headings[:7], "random"])


NATURE = json.dumps(
    {
        "protocol": {
            "epsilon": 0.05,
            "dynamics": {
                "sticky_action_probability": 0.0,
                "noop_max_frames": 30,
                "max_episode_frames": 108_000,
            },
        }
    }
)


def test_a_dqn_far_below_a_like_reference_is_marked_and_so_is_every_share_of_it() -> None:
    # PFRL's DQN scores 20.0 on Pong, and random play -20.7: a fifth less is 11.86.
    rows = [episode(episode=n, score=score, settings=NATURE) for n, score in enumerate([11.8] * 40)]
    rows += [
        episode(episode=n, score=11.0, settings=NATURE, agent="dsqn", network="chen2022") for n in range(40)
    ]
    text = game_table_markdown(game_table(frame(*rows), published()))
    (line,) = [line for line in text.splitlines() if line.startswith("| pong")]
    assert "11.80 ± 0.00 † |" in line
    assert "98" in line
    assert line.count("†") == 2
    ((_, *lines),) = parsed_tables(game_table_latex(game_table(frame(*rows), published())))
    (line,) = [" ".join(line) for line in lines if line[0] == "pong"]
    assert line.count(r"$\dagger$") == 2


@pytest.mark.parametrize(
    ("score", "changed", "below"),
    [
        (11.8, {}, "PFRL"),
        (11.9, {}, ""),
        (11.8, {"sticky_action_probability": 0.25}, ""),  # Dopamine does not say its epsilon
        (11.8, {"max_episode_frames": 17_999}, ""),
    ],
)
def test_only_like_protocols_compare(score: float, changed: dict[str, float], below: str) -> None:
    settings = json.loads(NATURE)
    settings["protocol"]["dynamics"].update(changed)
    assert stands_below("pong", score, -20.7, json.dumps(settings)) == below


def test_networks_that_differ_are_not_averaged_in_a_few_lines() -> None:
    """As two DSQNs of different learning rates, and a conversion at two numbers of simulation steps."""
    dsqn = {"agent": "dsqn", "network": "chen2022+sim_steps=4", "sim_steps": 4}
    converted = {"agent": "rate-coded", "variant": "reconstruct"}
    told = [
        ({"checkpoint_id": "a"}, (1.0,)),
        ({**dsqn, "checkpoint_id": "b"}, (2.0, 4.0)),
        ({**dsqn, "checkpoint_id": "c", "recipe": "atari-fast+learning_rate=0.001"}, (10.0,)),
        ({**converted, "checkpoint_id": "d", "sim_steps": 4}, (5.0,)),
        ({**converted, "checkpoint_id": "e", "sim_steps": 8}, (7.0,)),
    ]
    rows = [
        episode(**agent, score=score, episode=number)
        for agent, scores in told
        for number, score in enumerate(scores)
    ]
    assert summary(rows) == [
        "pong: dqn 1.00, SNN (4 sim steps) 5.00, SNN (8 sim steps) 7.00, "
        "DSQN (chen2022) 3.00, DSQN (learning_rate=0.001) 10.00"
    ]
    lines = markdown(score_lines(rows))
    assert "chen2022+sim_steps=4, learning_rate=0.001" in lines
