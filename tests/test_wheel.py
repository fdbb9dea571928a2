"""The built wheel works without the repository, package data included: it plays, tabulates rows and runs studies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

TABULATE = """
import sys
from pathlib import Path

import core.games
from analysis.tables import markdown, score_lines
from card.files import validator
from core.games import PUBLISHED, get_game, reference
from core.records import read_rows
from core.rows import EpisodeRow

where = Path(core.games.__file__).resolve()
assert where.is_relative_to(Path(sys.argv[1]).resolve()), where
assert (PUBLISHED / "published_scores.csv").is_file()
assert reference(get_game("pong")).human == 14.6
assert validator().schema["title"] == "SpikeQ card"
print(markdown(score_lines(read_rows(Path("rows/episodes.parquet"), EpisodeRow))))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if not name.startswith(("results/", "tests/")) and (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, cwd=folder
    )
    # The environment of the tests also knows the repository: without this finder it does not.
    (target / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [each for each in sys.meta_path if '__editable__' not in getattr(each, '__module__', '')]\n"
    )
    return target


def test_an_installed_wheel_plays_and_tabulates(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    games = ("--agent", "random", "--game", "minatar/breakout", "--episodes", "2", "--threads", "1")
    run("-m", "evaluate", "run", *games, "--out", "rows")
    table = run("-c", TABULATE, str(installed))
    assert "minatar/breakout" in table
    assert "random" in table


EXTENSION = """
from core.agents import AGENTS

AGENTS.register("mine")(AGENTS.get("random"))
"""
STUDY = """
extensions = ["my_agents"]
train_seeds = []
evaluation_seed = 1
threads = 1
checkpoint = "best"

[games."minatar/breakout"]
agents = { mine = "mine" }
evaluate = { episodes = 2 }
"""


PLAN = """
from studies.planning import plan
from studies.reading import read_study

study = read_study("smoke")
print(len(plan(study)), study.folder)
"""


def test_an_installed_wheel_runs_studies(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        # The console script of the wheel.
        command = [sys.executable, str(installed / "bin" / "spikeq"), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_agents.py").write_text(EXTENSION)
    (tmp_path / "own" / "my_study.toml").write_text(STUDY)
    done = run("reproduce", "own/my_study.toml")
    assert done.returncode == 0, done.stderr
    results = tmp_path / "own" / "my_study"
    assert (results / "minatar-breakout" / "evaluate-mine" / "episodes.parquet").is_file()
    assert (results / "figures" / "score_bars.png").is_file()
    for verb, made in (("plot", "figures/score_bars.png"), ("report", "index.html")):
        assert run(verb, "own/my_study", "--out", verb).returncode == 0
        assert (tmp_path / verb / made).is_file()
    # Built-in studies are package data. Their results go to results/, and shipped agents are in the repository only.
    planned = subprocess.run(
        [sys.executable, "-c", PLAN], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert planned.stdout == "26 results/smoke\n", planned.stderr
    refused = run("reproduce", "trained")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "minatar-breakout-dqn-s0.safetensors, which is not there" in refused.stderr
