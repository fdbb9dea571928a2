"""The whole way through the command lines a user types: train, convert, evaluate, attack, plot; killed and resumed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.records import read_rows
from core.rows import AttackRow, ConversionRow, CurveRow, EpisodeRow

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "smoke"
GAMES = ("minatar-breakout", "pong")
AGENTS = ("dqn-s0", "snn-s0", "dsqn-s0")
FIGURES = (
    "score_bars",
    "liu2022_fig7_learning_curves",
    "training_loss",
    "max_q_curves",
    "agreement_against_sim_steps",
    "score_against_epsilon",
    "flips_against_epsilon",
    "spikes_and_energy",
    "score_against_energy",
    "liu2022_fig3_surrogates",
    "liu2022_fig4_if_rate_against_relu",
    "liu2022_fig5_firing_rates",
    "chen2022_fig4_voltage_statistics",
    "hidden_layer_tsne",
)
"""What a study of untrained agents can show at least; others say why they cannot."""

pytestmark = pytest.mark.smoke


def pictures_of(name: str) -> list[Path]:
    """The files of a figure, which may be several."""
    return [path for path in (RESULTS / "figures").glob("*.png") if path.stem.split("-")[0] == name]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def finished() -> subprocess.CompletedProcess[str]:
    """The study `smoke`, its driver killed twice on the way."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    for patience_s in (6.0, 9.0):
        driver = subprocess.Popen(
            [sys.executable, "reproduce.py", "smoke"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        time.sleep(patience_s)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    return run("reproduce.py", "smoke")


def test_a_killed_study_is_completed(finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stderr
    for game in GAMES:
        for agent in AGENTS:
            folder = RESULTS / game / agent
            assert (folder / "agent.safetensors").is_file()
            assert not list(folder.glob("*.lock"))
            assert not (folder / "state.safetensors").exists()
            assert not (folder / "replay").exists()
    for name in FIGURES:
        pictures = pictures_of(name)
        assert pictures
        for picture in pictures:
            assert picture.stat().st_size > 5000
            assert picture.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    drawn = (RESULTS / "logs" / "figures.log").read_text()
    assert "liu2022_table8_double_dqn: skipped, no agent learnt by Double Q-learning" in drawn
    assert "BindsNET's simulation of it in 100.0 %" in drawn


def test_the_table_holds_every_agent_and_its_references(finished: subprocess.CompletedProcess[str]) -> None:
    header, _, *lines = [
        [cell.strip() for cell in line.split("|")]
        for line in (RESULTS / "scores.md").read_text().splitlines()
    ]
    table = [dict(zip(header, line, strict=True)) for line in lines]
    kinds = (("random", ""), ("dqn", "best"), ("dqn", "final"), ("rate-coded", ""))
    kinds += (("dsqn", "best"), ("dsqn", "final"))
    assert [(line["game"], line["agent"], line["checkpoint"]) for line in table] == [
        (game, *kind) for game in ("minatar/breakout", "pong") for kind in kinds
    ]
    assert any("not a trained agent" in line["note"] for line in table)
    assert "\npage: results/smoke/report/index.html\n" in finished.stdout
    pong = [line for line in table if line["game"] == "pong"]
    assert {(line["random"], line["human"]) for line in pong} == {("-20.7", "14.6")}
    for name in ("games.md", "games.csv", "games.tex", "energy.md"):
        assert "pong" in (RESULTS / name).read_text()


def test_rows_of_all_agents_share_episodes_and_protocol(finished: subprocess.CompletedProcess[str]) -> None:
    for game, protocol in (("minatar-breakout", "minatar"), ("pong", "liu2022")):
        episodes = {
            agent: read_rows(RESULTS / game / f"evaluate-{agent}" / "episodes.parquet", EpisodeRow)
            for agent in ("random", *AGENTS)
        }
        starts = {
            tuple(sorted({(row.episode, row.episode_seed) for row in rows})) for rows in episodes.values()
        }
        assert len(starts) == 1
        assert {row.protocol for rows in episodes.values() for row in rows} == {protocol}
        assert all(row.sim_steps > 0 for agent in ("snn-s0", "dsqn-s0") for row in episodes[agent])


def test_random_play_is_random(finished: subprocess.CompletedProcess[str]) -> None:
    for row in read_rows(RESULTS / "pong" / "evaluate-random" / "episodes.parquet", EpisodeRow):
        assert json.loads(row.settings)["protocol"]["epsilon"] == 1.0


def test_attack_rows_name_their_threat(finished: subprocess.CompletedProcess[str]) -> None:
    sources = {"dqn-s0": "own", "snn-s0": "ann-twin", "dsqn-s0": "own-surrogate"}
    for game in GAMES:
        for agent, source in sources.items():
            rows = read_rows(RESULTS / game / f"attack-{agent}" / "attacks.parquet", AttackRow)
            if (game, agent) == ("minatar-breakout", "dqn-s0"):
                assert any(row.flip_share > 0 for row in rows if row.attack == "fgsm")
            assert {row.gradient_source for row in rows if row.attack == "fgsm"} == {source}
            for row in rows:
                assert row.largest_perturbation <= row.epsilon + 1e-6
                assert (row.epsilon == 0) == (row.attack == "none")
                assert (row.largest_perturbation == 0) == (row.attack == "none")
                assert math.isnan(row.zero_gradient_share) == (row.gradient_source == "")
                if row.attack == "none":
                    assert row.flip_share == 0


def test_the_clean_game_under_the_attack_bench_is_the_evaluators(
    finished: subprocess.CompletedProcess[str],
) -> None:
    """Two stages, one loop: the same episodes give the same scores."""
    for agent in AGENTS:
        folder = RESULTS / "minatar-breakout"
        clean = [
            row
            for row in read_rows(folder / f"attack-{agent}" / "attacks.parquet", AttackRow)
            if row.attack == "none"
        ]
        evaluated = read_rows(folder / f"evaluate-{agent}" / "episodes.parquet", EpisodeRow)
        assert clean
        for row in clean:
            (same,) = [
                other
                for other in evaluated
                if (other.episode, other.checkpoint_id) == (row.episode, row.checkpoint_id)
                and other.checkpoint in ("", "final")
            ]
            assert (row.score, row.length_steps, row.episode_seed) == (
                same.score,
                same.length_steps,
                same.episode_seed,
            )


def test_curves_and_conversions_are_there(finished: subprocess.CompletedProcess[str]) -> None:
    curve = read_rows(RESULTS / "minatar-breakout" / "dqn-s0" / "curve.parquet", CurveRow)
    assert [row.steps for row in curve] == [208, 400, 608, 800, 1008, 1200]  # 16 games side by side
    assert [row.updates for row in curve] == [0, 0, 52, 100, 152, 200]
    rows = read_rows(RESULTS / "minatar-breakout" / "snn-s0" / "agent.conversion.parquet", ConversionRow)
    against_dqn = [row.sim_steps for row in rows if (row.reference, row.readout) == ("dqn", "robust")]
    assert against_dqn == [1, 2, 4, 8, 16]
    assert {row.agreement for row in rows if row.reference == "bindsnet"} == {1.0}


def test_again_does_nothing_but_say_so(finished: subprocess.CompletedProcess[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in RESULTS.rglob("*.parquet")}
    again = run("reproduce.py", "smoke")
    assert again.returncode == 0
    assert "26 of 26 stages are done already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in RESULTS.rglob("*.parquet")} == before


def test_a_changed_result_is_named(finished: subprocess.CompletedProcess[str]) -> None:
    rows = RESULTS / "pong" / "evaluate-random" / "episodes.parquet"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b" ")
    try:
        refused = run("reproduce.py", "smoke")
    finally:
        rows.write_bytes(whole)
    assert refused.returncode == 1
    assert "episodes.parquet was changed" in refused.stdout
    assert "evaluate pong/evaluate-random: exit code 2" in refused.stderr


def test_figures_need_no_torch(finished: subprocess.CompletedProcess[str]) -> None:
    drawn_before = sorted(path.name for path in (RESULTS / "figures").iterdir())
    shutil.rmtree(RESULTS / "figures")
    script = (
        "import sys, runpy; sys.argv = ['plot.py', 'smoke']; runpy.run_path('plot.py', run_name='__main__'); "
        "sys.exit('torch' in sys.modules)"
    )
    drawn = run("-c", script)
    assert drawn.returncode == 0, drawn.stderr
    assert sorted(path.name for path in (RESULTS / "figures").iterdir()) == drawn_before


def test_the_list_names_every_figure_and_draws_none(finished: subprocess.CompletedProcess[str]) -> None:
    drawn = {path: path.stat().st_mtime_ns for path in (RESULTS / "figures").iterdir()}
    listed = run("plot.py", "smoke", "--list")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert {path.stem.split("-")[0] for path in drawn} == {
        line.split(":")[0] for line in lines if not line.split(": ")[1].startswith("skipped, ")
    }
    assert {path: path.stat().st_mtime_ns for path in (RESULTS / "figures").iterdir()} == drawn


def test_the_rows_pass_their_own_check(finished: subprocess.CompletedProcess[str]) -> None:
    checked = run("-m", "evaluate", "check", "results/smoke")
    assert (checked.returncode, checked.stdout) == (0, "results/smoke: nothing found\n")


def test_the_report_is_written_from_the_rows(finished: subprocess.CompletedProcess[str]) -> None:
    assert run("-m", "analysis.report", "smoke").returncode == 0
    page = (RESULTS / "report" / "index.html").read_text()
    for name in FIGURES:
        assert all(f"../figures/{picture.name}" in page for picture in pictures_of(name))


def test_makefile_says_what_it_makes() -> None:
    help_text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, env=os.environ
    ).stdout
    for verb in ("setup", "reproduce", "fgsm", "figures", "test", "lint", "bench"):
        assert f"\n{verb} " in f"\n{help_text}"
