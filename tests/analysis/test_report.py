"""A report says what its rows say, and nothing where there are none."""

import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.answer import Answer, answer, under_attack
from analysis.figures.registry import FIGURES
from analysis.players import dqns_of, players, shares
from analysis.report import page as report
from analysis.report.__main__ import Report
from analysis.report.provenance import cards
from analysis.statistics import LEAST_EPISODES
from analysis.study_tables import TABLES
from analysis.tables import aligned
from analysis.terms import TERMS, terms_in
from analysis.words import size
from core.cli import main
from core.errors import Refusal
from core.games import get_game, reference
from core.records import to_json, write_rows
from core.rows import AttackRow, ConversionRow, EpisodeRow
from tests.conftest import episode

LEFT = "above random play that agents keep under the attack that flips most decisions"
OVER = "(95 % intervals over 20 games)"
RANDOM = reference(get_game("pong")).random or 0.0
SETTINGS = to_json(
    {
        "protocol": {
            "name": "nature",
            "tier": "atari",
            "epsilon": 0.05,
            "episodes": 30,
            "frame_caps": [],
            "dynamics": {
                "sticky_action_probability": 0.0,
                "max_episode_frames": 108_000,
                "fire_on_reset": True,
            },
        },
        "rom_md5": "60e0ea3c",
        "versions": {"numpy": "2", "ale-py": "0.12"},
    }
)
BASE = episode(checkpoint_id="d0", settings=SETTINGS, eval_seed=1, episode_seed=0, score=0.0)
SNN = {"agent": "rate-coded", "checkpoint_id": "c0", "sim_steps": 64, "spikes_per_decision": 1000.0}
DSQN = {"agent": "dsqn", "checkpoint_id": "s0", "sim_steps": 4, "spikes_per_decision": 20.0}


def games(*scores: float, **changes: object) -> list[EpisodeRow]:
    """Episodes of one network: as many of each score as an interval needs. Each start has a seed of its own."""
    played = [score for score in scores for _ in range(LEAST_EPISODES)]
    return [
        replace(BASE, score=score, episode=index, episode_seed=10 + index, **changes)  # type: ignore[arg-type]
        for index, score in enumerate(played)
    ]


def attacks(
    *scores: float, attack: str, epsilon: float, flip_share: float = 0.0, **changes: object
) -> list[AttackRow]:
    return [
        AttackRow(
            **vars(row),
            attack=attack,
            epsilon=epsilon,
            gradient_source="own" if attack == "fgsm" else "",
            threat="{}",
            flip_share=flip_share,
            zero_gradient_share=0.0,
            largest_perturbation=epsilon,
        )
        for row in games(*scores, **changes)
    ]


def states(variant: str, regret: float, sim_steps: int = 4) -> ConversionRow:
    """What a comparison measured on validation states."""
    return ConversionRow(
        game="pong",
        source_id="d0",
        train_seed=0,
        method=variant,
        settings="{}",
        reference="dqn",
        readout="robust",
        sim_steps=sim_steps,
        num_states=100,
        agreement=0.5,
        majority_share=0.25,
        variant=variant,
        states="validation",
        regret=regret,
    )


def kept_lines(found: Answer) -> str:
    """The table of what is kept, one line a network."""
    return "\n".join(" | ".join(cells) for cells in found.kept)


def kept_of(*rows: EpisodeRow) -> str:
    return kept_lines(answer(rows, [], [], []))


# What is kept ----------------------------------------------------------------------------------------


def test_a_share_is_what_was_worked_out_by_hand() -> None:
    # The DQN is 20 points above random play, the conversion 15 and the DSQN 5: three quarters, and a quarter.
    dqn = games(RANDOM + 20, RANDOM + 20)
    rows = [*dqn, *games(RANDOM + 15, RANDOM + 15, **SNN), *games(RANDOM + 5, RANDOM + 5, **DSQN)]
    text = kept_of(*rows)
    assert "| 75 % (the same in all 20 games) | seed 0 | 64 | 1,000 |" in text.splitlines()[0]
    assert "| 25 % (the same in all 20 games) | seed 0 | 4 | 20 |" in text.splitlines()[1]
    assert text.splitlines()[0].startswith("pong | converted SNN (seed 0, 1,000 decisions) | ")
    assert text.splitlines()[1].startswith("pong | DSQN (seed 0, 1,000 decisions) | ")
    found = answer(rows, [], [], [])
    (lead, seeds) = found.lead
    assert lead == (
        "Share of the DQN's score above random play that is kept on pong: converted SNN, 64 sim steps: 75 %; DSQN, "
        "4 sim steps: 25 %."
    )
    assert seeds == "Each agent was trained with 1 seed on pong."
    assert any("No agent was attacked" in limit for limit in found.limits)
    assert found.question.startswith("How much of a deep Q-network's play survives")


def test_the_lead_has_means_over_seeds_of_each_method_at_its_steps() -> None:
    # DQNs: 10 and 30 above random play. DSQNs: 5 and 10, hence 7.5 of 20 and not the mean of four shares.
    rows = [
        *games(RANDOM + 10),
        *games(RANDOM + 30, train_seed=1, checkpoint_id="d1"),
        *games(RANDOM + 5, **DSQN),
        *games(RANDOM + 10, **{**DSQN, "train_seed": 1, "checkpoint_id": "s1"}),
        *games(RANDOM + 10, **{**SNN, "variant": "tan2021"}),
        *games(RANDOM + 5, **{**SNN, "variant": "tan2021", "sim_steps": 8, "checkpoint_id": "c1"}),
    ]
    found = answer(rows, [], [], [])
    assert found.lead[0].endswith(
        "on pong, means over seeds: tan2021, 64 sim steps: 100 %; tan2021, 8 sim steps: 50 %; DSQN, 4 sim steps: 38 %."
    )
    of_dsqns = [line for line in kept_lines(found).splitlines() if "DSQN" in line]
    assert ["mean of seeds 0, 1" in line for line in of_dsqns] == [True, True]


def test_only_episodes_that_both_played_are_pairs() -> None:
    dqn = games(RANDOM + 10, RANDOM + 30, RANDOM + 90)
    (kept,) = shares(players([*dqn, *games(RANDOM + 10, RANDOM + 10, **SNN)]))
    assert kept.kept is not None
    assert (kept.kept.estimate, kept.kept.n) == (pytest.approx(0.5), 20)
    elsewhere = [replace(row, episode_seed=row.episode_seed + 100) for row in games(5.0, 5.0, **SNN)]
    (kept,) = shares(players([*dqn, *elsewhere]))
    assert kept.kept is None
    assert "it shares no episode with" in kept.reason


def test_a_conversion_meets_the_dqn_it_came_from_or_none() -> None:
    longer = games(9.0, checkpoint_id="d1", train_steps=2000)
    everyone = players([*games(9.0), *longer, *games(9.0, train_steps=2000, **SNN)])
    dqns = [player for player in everyone if player.first.agent == "dqn"]
    assert [dqn.first.checkpoint_id for dqn in dqns_of(everyone[-1], dqns)] == ["d1"]
    # Two DQNs of that seed, recipe and length, or imported weights: nobody can tell.
    twin = players(games(9.0, checkpoint_id="d2", train_steps=2000))
    assert dqns_of(everyone[-1], [*dqns, *twin]) == []
    (imported,) = players(games(9.0, **{**SNN, "train_seed": -1, "train_steps": -1}))
    assert dqns_of(imported, [*dqns, *players(games(9.0, train_seed=-1, train_steps=-1))]) == []


def test_a_dsqn_meets_a_dqn_of_every_seed_and_of_its_recipe() -> None:
    dqns = players(
        [
            *games(9.0),
            *games(9.0, checkpoint_id="short", train_steps=200),
            *games(9.0, checkpoint_id="d1", train_seed=1),
            *games(9.0, checkpoint_id="else", train_seed=2, recipe="liu2022"),
        ]
    )
    (dsqn,) = players(games(9.0, train_steps=900, recipe="atari-fast+cmc=True", **DSQN))
    assert [dqn.first.checkpoint_id for dqn in dqns_of(dsqn, dqns)] == ["d0", "d1"]


def test_untrained_agents_answer_nothing_and_are_named() -> None:
    rows = [*games(9.0), *games(RANDOM, RANDOM, **DSQN)]
    found = answer(rows, [], [], [])
    assert any("is not answered" in limit for limit in found.limits)
    assert "DSQN (seed" not in kept_lines(found)
    assert any("DSQN (seed 0, 1,000 decisions): not a trained agent" in limit for limit in found.limits)
    assert any("DQN on pong; DSQN on pong" in limit for limit in found.limits)
    # A conversion that forgets all is a result, not a lack of training; one of an untrained DQN is none.
    assert "| 0 % (the same in all 10 games) |" in kept_of(*games(9.0), *games(RANDOM, **SNN))
    text = kept_of(*games(RANDOM), *games(9.0, **SNN))
    assert "| 9.00 (all 10 games scored 9) |  |  |" in text
    assert text.endswith("| the DQN (seed 0, 1,000 decisions) is not a trained agent")


def test_the_lead_takes_the_best_weights_of_a_training_run() -> None:
    dqn = games(RANDOM + 20, RANDOM + 20, checkpoint="best")
    best = games(RANDOM + 10, RANDOM + 10, checkpoint="best", **DSQN)
    final = games(RANDOM + 5, RANDOM + 5, checkpoint="final", **{**DSQN, "checkpoint_id": "s1"})
    found = answer([*dqn, *best, *final], [], [], [])
    assert "DSQN, 4 sim steps: 50 %" in found.lead[0]
    best_line, final_line = kept_lines(found).splitlines()
    assert "decisions, best weights) |" in best_line
    assert "| 50 % (" in best_line
    assert "decisions, final weights) |" in final_line
    assert "| 25 % (" in final_line


def test_the_lead_counts_a_conversion_once_that_two_commands_scored() -> None:
    dqn = games(RANDOM + 20, RANDOM + 20)
    evaluated = games(RANDOM + 10, RANDOM + 10, **{**SNN, "variant": "tan2021"})
    again = {**SNN, "checkpoint_id": "c1", "variant": "tan2021 T=64"}
    compared = [*games(RANDOM + 20, RANDOM + 20, variant="dqn"), *games(RANDOM + 5, RANDOM + 5, **again)]
    assert "tan2021, 64 sim steps: 50 %." in answer([*dqn, *evaluated], compared, [], []).lead[0]
    assert "tan2021, 64 sim steps: 25 %." in answer(dqn, compared, [], []).lead[0]


def test_a_dqn_that_lost_what_it_had_learnt_is_no_reference() -> None:
    best = games(RANDOM + 20, checkpoint="best")
    collapsed = games(RANDOM + 5, checkpoint="final", checkpoint_id="d1")
    text = kept_of(*best, *collapsed, *games(RANDOM + 20, checkpoint="final", **DSQN))
    assert "| 100 % (" in text
    assert "400 %" not in text


def test_weights_that_were_best_early_are_of_a_trained_run() -> None:
    dqn = games(9.0)
    long = {**DSQN, "recipe_steps": 10_000}
    best = games(9.0, checkpoint="best", train_steps=900, **long)
    final = games(9.0, checkpoint="final", train_steps=1500, **{**long, "checkpoint_id": "s1"})
    assert all(player.is_trained for player in players([*dqn, *best, *final]))
    assert [player.is_trained for player in players([*dqn, *best])] == [True, False]


def test_a_conversions_method_is_named() -> None:
    text = kept_of(*games(9.0), *games(9.0, variant="tan2021", **SNN))
    assert "converted SNN (tan2021, seed 0, 1,000 decisions) | 9.00 (all 10 games scored 9) | 100 %" in text


def test_what_is_missing_is_said_and_not_invented() -> None:
    found = answer(games(9.0), [], [], [])
    assert found.kept == ()
    assert found.question == "What do these networks score?"
    assert found.lead == ("Each agent was trained with 1 seed on pong.",)


def test_a_conversion_is_chosen_by_regret_on_validation_states_and_never_by_its_score() -> None:
    compared = [*games(20.0, 20.0, variant="dqn")]
    for variant, score in (
        ("qcfs T=4", 0.0),
        ("signed T=4", 20.0),
        ("tan2021 T=4", 9.0),
        ("tan2021 T=64", 10.0),
    ):
        compared += games(score, score, **{**SNN, "variant": variant, "sim_steps": 4, "mean_sim_steps": 8.0})
    measured = [
        states("qcfs", 0.1),
        states("signed", 0.2),
        states("tan2021", 0.3),
        states("tan2021", 0.0, 64),
    ]
    found = answer(games(9.0, **DSQN), compared, measured, [])
    text = kept_lines(found)
    assert "| qcfs: least regret of 3 methods on validation states at T=4" in text
    assert "| tan2021 at its most sim steps" in text
    assert "signed" not in text
    assert f"| {round(100 * -RANDOM / (20 - RANDOM))} % (" in text
    assert "| seed 0 | 8 |" in text
    # Without a DSQN there is no length to share, and the longest is looked at.
    (line,) = answer([], compared, measured, []).kept
    assert line[-1] == "tan2021: least regret of 1 method on validation states at T=64"


# Under attack ----------------------------------------------------------------------------------------


def test_what_an_attack_leaves_is_of_the_clean_games_of_the_same_starts() -> None:
    clean = attacks(RANDOM + 10, RANDOM + 30, attack="none", epsilon=0.0)
    weak = attacks(RANDOM + 10, RANDOM + 20, attack="fgsm", epsilon=1 / 255, flip_share=0.5)
    # 100 decisions with half of them changed, 300 with none: an eighth.
    weak = [replace(row, length_steps=300, flip_share=0.0) if row.episode >= 10 else row for row in weak]
    strong = attacks(RANDOM, RANDOM, attack="fgsm", epsilon=4 / 255)
    first, second = under_attack([*strong, *weak, *clean], [])
    assert (first.first.epsilon, first.flip_share) == (1 / 255, 0.125)
    assert first.kept is not None
    assert first.kept.estimate == pytest.approx(0.75)
    assert second.kept is not None
    assert second.kept.estimate == pytest.approx(0.0, abs=1e-9)
    found = answer([], [], [], [*clean, *weak, *strong])
    told = f"on pong at 1/255: DQN 75 % (71 to 81) {OVER}"
    assert found.lead[0] == f"Share of their own clean score {LEFT}, {told}."
    assert found.question == "How do these networks hold up under attack?"
    # A stronger one of that size counts; and a size that not all have met does not.
    other = attacks(RANDOM + 5, RANDOM + 5, attack="fgsm", epsilon=1 / 255, flip_share=0.6)
    other = [replace(row, threat='{"loss": "margin"}') for row in other]
    found = answer([], [], [], [*clean, *weak, *other, *strong])
    assert "on pong at 1/255: DQN 25 %" in found.lead[0]
    # The strongest flips most decisions; a lower score by one that flips hardly any is luck.
    unlucky = [replace(row, threat='{"loss": "value"}', score=RANDOM, flip_share=0.01) for row in other]
    assert "on pong at 1/255: DQN 25 %" in answer([], [], [], [*clean, *weak, *other, *unlucky]).lead[0]
    equal = [replace(row, threat='{"loss": "value"}', score=RANDOM + 2) for row in other]
    assert "on pong at 1/255: DQN 10 %" in answer([], [], [], [*clean, *weak, *other, *equal]).lead[0]
    # What is no change within so much, or another setting, is no attack of that size.
    covered = attacks(RANDOM, RANDOM, attack="occlusion", epsilon=1 / 255, flip_share=1.0)
    covered = [replace(row, threat='{"norm": "patch"}') for row in covered]
    assert "on pong at 1/255: DQN 75 %" in answer([], [], [], [*clean, *weak, *covered]).lead[0]
    newest = [replace(row, threat='{"scope": "newest-frame"}') for row in other]
    found = answer([], [], [], [*clean, *weak, *covered, *newest, *strong])
    assert 'on pong at 1/255 in the setting `{"scope": "newest-frame"}`: DQN 25 %' in found.lead[0]
    met = [*clean, *strong, *weak]
    dsqn = [replace(row, **DSQN) for row in (*clean, *strong)]
    text = answer([], [], [], [*met, *dsqn]).lead[0]
    assert "on pong at 4/255: 0 %, and no order can be told" in text
    assert any("No agent is shown to be robust" in limit for limit in found.limits)


def test_the_evaluators_games_are_clean_ones_too() -> None:
    perturbed = attacks(RANDOM + 5, RANDOM + 5, attack="fgsm", epsilon=1 / 255)
    (alone,) = under_attack(perturbed, [])
    assert alone.kept is None
    (beside,) = under_attack(perturbed, games(RANDOM + 10, RANDOM + 10, 3.0))
    assert beside.kept is not None
    assert beside.kept.estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [(1 / 255, "1/255"), (64 / 255, "64/255"), (1.0, "255/255"), (0.001, "0.001"), (0.5, "0.5")],
)
def test_a_size_is_read_in_grey_levels_where_it_is_some(epsilon: float, text: str) -> None:
    assert size(epsilon) == text


# The page --------------------------------------------------------------------------------------------


def png(path: Path, width: int, height: int) -> None:
    """A white picture, byte by byte (PNG specification, section 5)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress((b"\x00" + b"\xff" * width) * height)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def study(folder: Path) -> Path:
    for name, rows in (("dqn-s0", games(9.0, 8.0)), ("random", games(-20.0, -21.0, agent="random"))):
        write_rows(folder / "pong" / f"evaluate-{name}" / "episodes.parquet", EpisodeRow, rows)
    return folder


def test_equal_files_give_an_equal_page(tmp_path: Path) -> None:
    here = study(tmp_path / "some")
    png(here / "figures" / "score_bars.png", 40, 20)
    page = report.write_report(here).read_bytes()
    assert report.write_report(here).read_bytes() == page
    text = page.decode()
    assert 'src="../figures/score_bars.png" width="40" height="20"' in text
    assert "Mean scores with their intervals over episodes" in text
    assert "http" not in text
    assert text.count("<script") == 1


def test_a_study_with_little_in_it_still_has_a_page(tmp_path: Path) -> None:
    text = report.write_report(study(tmp_path / "some")).read_text()
    assert "spikeq plot some</code> draws them" in text
    assert "<video" not in text
    assert "0 commands with" in text
    with pytest.raises(Refusal, match="holds no rows"):
        report.write_report(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_what_files_say_is_never_markup(tmp_path: Path) -> None:
    here = study(tmp_path / "some")
    (here / "pong" / "notes.md").write_text("| a |\n|---|\n| <script>alert(1)</script> |\n\n<b>`x<y`</b>\n")
    (here / "pong" / "<i>&.mp4").write_bytes(b"")
    text = report.write_report(here).read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;<code>x&lt;y</code>&lt;/b&gt;" in text
    assert 'src="../pong/%3Ci%3E%26.mp4"' in text
    assert "<i>" not in text
    assert "<script>alert" not in text


def test_a_text_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    here = study(tmp_path / "some")
    notes = here / "pong" / "notes.md"
    notes.write_bytes("Gr\u00f6\u00dfe".encode("latin-1"))
    with pytest.raises(Refusal, match=r"notes\.md is not a text in UTF-8 \(byte 2"):
        report.write_report(here)
    with notes.open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(Refusal, match=r"notes\.md has more than 5,000,000 bytes"):
        report.write_report(here)
    notes.unlink()
    notes.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refusal, match=r"notes\.md is not a text: there is no such file"):
        report.write_report(here)
    assert not (here / "report").exists()


def test_the_glossary_has_the_same_definitions() -> None:
    glossary = " ".join((Path(__file__).parents[2] / "docs" / "glossary.md").read_text("utf-8").split())
    for term, told in TERMS.items():
        assert f"**{term}.** {told}" in glossary


def test_terms_are_found_as_whole_words() -> None:
    assert [*terms_in(["12 Flips"], ["own", "ann-twin (relu)"])] == ["Flip", "own"]
    assert terms_in(["its own, shown ownership of gates-1"], ["own DQN"]) == {}


def test_a_figure_stands_in_its_section_and_its_parts_share_a_caption(tmp_path: Path) -> None:
    here = study(tmp_path / "some")
    for name in ("score_bars", "max_q_curves-1", "max_q_curves-2", "mine"):
        png(here / "figures" / f"{name}.png", 40, 20)
    page = report.page_of(here, here / "report")
    assert {part.name: [each.name for each in part.pictures] for part in page.chapters} == {
        "scores": ["score_bars"],
        "learning": ["max_q_curves-1", "max_q_curves-2"],
        "more": ["mine"],
    }
    assert page.head is not None
    assert page.head.name == "score_bars"
    captions = [each.caption for part in page.chapters for each in part.pictures]
    assert captions[1] == captions[2] == FIGURES["max_q_curves"].caption
    assert captions[3] == "mine"


def test_a_markdown_table_is_read_back_as_it_was_written() -> None:
    cells = [("agent", "score", "share"), ("dqn", "1,000.5", "98.1%"), ("dsqn", "-2", "")]
    (table,) = report.markdown_tables("some", "# Title\n\nwords\n\n" + aligned(cells) + "\nA note.\n")
    assert [table.header, *table.cells] == cells
    assert table.notes == ("A note.",)
    assert table.is_number == (False, True, True)
    assert list(report.markdown_tables("none", "words\n")) == []


def test_a_card_shows_every_setting_and_who_had_another() -> None:
    exploring = SETTINGS.replace('"epsilon": 0.05', '"epsilon": 1.0')
    rows = [*games(1.0, 2.0), *games(3.0, agent="random", settings=exploring, truncated=True)]
    (card,) = cards({"evaluated": rows})
    values = dict(card.values)
    assert (card.game, card.protocol) == ("pong", "nature")
    assert values["epsilon"] == "0.05 (dqn); 1 (random)"
    assert values["max episode frames"] == "108,000"
    assert values["sticky action probability"] == "0"
    assert values["fire on reset"] == "yes"
    assert values["ROM MD5"] == "60e0ea3c"
    assert values["versions"] == "ale-py 0.12, numpy 2"
    assert values["evaluated"] == "20 starts (evaluation seed 1), 30 games, 10 of them truncated"


def test_a_game_of_weights_that_are_best_and_final_is_counted_once() -> None:
    best = games(1.0, 2.0, checkpoint="best", truncated=True)
    rows = [*best, *(replace(row, checkpoint="final") for row in best), *games(3.0, checkpoint_id="d1")]
    (card,) = cards({"evaluated": rows})
    counted = dict(card.values)["evaluated"]
    assert counted == "20 starts (evaluation seed 1), 30 games, 20 of them truncated"
    met = [each for size in (0.1, 0.2) for each in attacks(1.0, attack="fgsm", epsilon=size)]
    (card,) = cards({"under attack": met})
    assert ", 20 games, 0 of them" in dict(card.values)["under attack"]


def test_every_figure_has_its_caption() -> None:
    assert [name for name, figure in FIGURES.items() if not figure.caption] == []


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(Refusal, match=r"some\.png is not a PNG"):
        report.png_size(tmp_path / "some.png")


def test_an_unknown_study_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", "nosuch"])
    with pytest.raises(SystemExit) as leaving:
        main("python -m analysis.report", Report)
    assert leaving.value.code == 2
    assert capsys.readouterr().err == (
        "error: no folder 'nosuch', and no results of a study of that name: spikeq reproduce makes them\n"
    )


def test_the_page_goes_where_one_says_and_replaces_no_other(tmp_path: Path) -> None:
    here = study(tmp_path / "some")
    (here / "figures").mkdir(exist_ok=True)
    header = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", 4, 4)
    (here / "figures" / "mine.png").write_bytes(header)
    inside = report.write_report(here).read_text()
    outside = report.write_report(here, tmp_path / "pages" / "x").read_text()
    assert 'src="../figures/mine.png"' in inside
    without_seal = [text.splitlines()[:-1] for text in (outside, inside.replace('="../', '="../../some/'))]
    assert without_seal[0] == without_seal[1]
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(Refusal, match=r"index\.html was not made by SpikeQ"):
        report.write_report(here, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_every_table_that_is_written_beside_figures_has_its_place_on_the_page() -> None:
    """scores.md is shown from the rows."""
    written = {Path(name).stem for name in TABLES if name.endswith(".md")}
    assert written - {"scores"} <= set(report.TEXTS)
