"""Cards: made by the stages' own commands, resumed, checked game by game, and refused where anything was changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from card import battery
from card.__main__ import MakeCard
from card.battery import STATES, Battery
from card.check import check
from card.content import measured
from card.files import read_card, validator
from card.standings import leaderboard
from core.errors import Refusal
from core.games import get_game
from core.memory import require_fits
from tests.conftest import AGENTS

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("--episodes", "12", "--states", "60", "--attacked-episodes", "10", "--threads", "1")
DQN = str(AGENTS / "minatar-breakout-dqn-s0.safetensors")


def start(*words: str, cwd: Path = REPOSITORY) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "spikeq", "card", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*words: str, cwd: Path = REPOSITORY) -> tuple[int, str, str]:
    process = start(*words, cwd=cwd)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a card of a shipped DQN, made in two goes: the first was killed."""
    folder = tmp_path_factory.mktemp("card") / "dqn"
    words = ("--agent", DQN, "--out", str(folder), *SMALL)
    killed = start(*words)
    while not (folder / "operations").exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    code, out, err = run(*words)
    assert code == 0, err
    assert "minatar/breakout DQN relu: score" in out
    assert "not the standard battery" in out
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "dqn"))


def change(folder: Path, **entries: Any) -> Path:
    """Write other values into a card, which then has no manifest."""
    (folder / "manifest.json").unlink(missing_ok=True)
    path = folder / "card.json"
    card = json.loads(path.read_text())
    for name, value in entries.items():
        card[name] = value
    path.write_text(json.dumps(card))
    return path


def test_a_card_holds_what_its_rows_say(made: Path) -> None:
    card = read_card(made / "card.json")
    assert len(card["scores"]["episodes"]) == card["scores"]["n"] == 12
    mean = sum(each["score"] for each in card["scores"]["episodes"]) / 12
    assert card["scores"]["estimate"] == pytest.approx(mean)
    assert card["activity"] is None
    assert [layer["dense_macs"] for layer in card["operations"]["layers"]] == [36864, 131072, 768]
    attackers = {row["attacker"] for row in card["robustness"]["states"]}
    assert attackers == {"noise", "black-box", "white-box"}
    assert {row["epsilon"] for row in card["robustness"]["games"]} == {0.001, 0.01, 0.05, 0.5}
    assert len(card["robustness"]["gates"]) == 7
    assert not card["battery"]["standard"]
    assert set(card["files"]) == {
        *("games/episodes.parquet", "operations/operations.parquet"),
        *("states/state_attacks.parquet", "attacks/attacks.parquet"),
    }
    page = (made / "card.html").read_text()
    assert "minatar/breakout" in page
    assert all(gate["name"] in page for gate in card["robustness"]["gates"])


@pytest.mark.parametrize("others", [("--transfer", DQN), ("--transfer", "random"), ("--twin", DQN)])
def test_gradients_that_cannot_be_followed_are_refused_before_anything_is_played(
    others: tuple[str, ...], tmp_path: Path
) -> None:
    """They would take the attacks along the agent's own gradient with them."""
    code, _, err = run("--agent", DQN, *others, "--out", str(tmp_path / "card"), *SMALL)
    assert code == 2
    assert (
        err
        == f"error: {others[1]} is random play or the agent itself: another agent with a gradient is needed\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_is_another_in_every_process_has_no_card(tmp_path: Path) -> None:
    (tmp_path / "unseeded.py").write_text(
        "from spikeq import AGENTS\nfrom core.dqn import DQN\nfrom core.layers import initialise\nimport torch\n\n\n"
        "@AGENTS.register('unseeded')\ndef unseeded(game):\n    agent = DQN(game)\n"
        "    initialise(agent.layers, torch.Generator().manual_seed(torch.seed() % 2**31))\n    return agent\n"
    )
    words = ("--agent", "unseeded", "--extension", "unseeded", "--game", "cartpole", "--out", "card")
    code, _, err = run(*words, "--episodes", "1", "--states", "40", "--attacked-episodes", "1", cwd=tmp_path)
    assert code == 2
    assert "an agent needs the same weights in every process, from a seed or a file" in err
    assert not (tmp_path / "card" / "card.json").exists()


def test_the_same_command_again_does_nothing(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.parquet")}
    code, out, err = run("--agent", DQN, "--out", str(made), *SMALL)
    assert (code, "card.html" in out) == (0, True), err
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.parquet")} == before


def test_a_card_is_checked_by_playing_again(folder: Path) -> None:
    code, out, err = run("--check", str(folder / "card.json"), "--episodes", "3", "--threads", "1")
    assert code == 0, err
    assert "3 games of DQN, played again, have the same scores and lengths" in out
    check = json.loads((folder / "check.json").read_text())
    assert check["episodes"] == 3


def refused(*words: str) -> str:
    code, _, err = run("--check", *words, "--threads", "1")
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_whatever_was_changed_is_found(folder: Path, made: Path) -> None:
    card = read_card(folder / "card.json")
    scores = json.loads(json.dumps(card["scores"]))
    scores["episodes"][1]["score"] += 1.0
    path = change(folder, scores=scores)
    assert "scores of the card are not what its rows say" in refused(str(path))
    change(folder, scores=card["scores"], robustness={**card["robustness"], "claims_allowed": True})
    assert "robustness of the card" in refused(str(path))
    change(folder, robustness=card["robustness"], game=7)
    assert "is not a card: $.game" in refused(str(path))
    change(folder, game=card["game"], files={**card["files"], "../dqn/x.parquet": "0" * 64})
    assert "is not a card: $.files" in refused(str(path))
    change(folder, files=card["files"])
    rows = folder / "games" / "episodes.parquet"
    rows.write_bytes(rows.read_bytes() + b"x")
    assert "episodes.parquet was changed after the card recorded it" in refused(str(path))
    rows.unlink()
    assert "which the card names, is missing" in refused(str(path))
    assert not (folder / "check.json").exists()


def test_a_card_that_its_manifest_does_not_know_is_not_believed(folder: Path) -> None:
    path = folder / "card.json"
    text = path.read_text()
    path.write_text(text.replace('"claims_allowed": false', '"claims_allowed": true'))
    assert path.read_text() != text
    with pytest.raises(Refusal, match=r"card\.json was changed after manifest\.json recorded it"):
        leaderboard([folder])


def test_too_little_memory_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.memory.available_bytes", lambda: 2**20)
    with pytest.raises(Refusal, match=r"number of attacked states is 10000: .* would fit"):
        MakeCard(agent="random", game="minatar/breakout", out=tmp_path / "card", states=10_000).run()
    assert not (tmp_path / "card").exists()


def test_too_little_memory_is_not_the_agents_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(words: Sequence[str], asked: Battery, out: Path) -> str | None:
        with pytest.raises(Refusal) as refused:
            require_fits("states", 10, 1e18, "keeping them")
        return str(refused.value) if out.name == "operations" else None

    monkeypatch.setattr(battery, "start", start)
    with pytest.raises(Refusal, match="operations: states is 10: keeping them would take"):
        battery.run(Battery("random", get_game("cartpole")), tmp_path)


@pytest.mark.parametrize("content", ["mine", "{}", '{"my": "data"}', None])
def test_a_check_replaces_only_the_record_of_a_check(content: str | None, folder: Path) -> None:
    record = folder / "check.json"
    if content is None:
        record.symlink_to(folder / "nowhere")
    else:
        record.write_text(content)
    checking = check(folder / "card.json", None, 0, 1)
    with pytest.raises(Refusal, match=r"check\.json is not the record of a check; move it away"):
        next(checking)  # before anything is said to hold
    assert record.is_symlink() if content is None else record.read_text() == content
    record.unlink()
    for _ in range(2):
        list(check(folder / "card.json", None, 0, 1))


def test_a_check_with_another_agent_is_refused(folder: Path) -> None:
    other = str(AGENTS / "minatar-breakout-dqn-s1.safetensors")
    assert "and the card is of" in refused(str(folder / "card.json"), "--agent", other, "--episodes", "1")
    assert "the card has 12 games" in refused(str(folder / "card.json"), "--episodes", "13")


def test_files_that_are_no_cards_are_refused(tmp_path: Path) -> None:
    for name, content in (("a", b"{"), ("b", b"[" * 100_000), ("c", b"\xff\xfe"), ("d", b'{"schema": NaN}')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refusal, match="is not a card"):
            read_card(tmp_path / name)
    with pytest.raises(Refusal, match="no card at"):
        read_card(tmp_path / "missing")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(validator().schema)


def test_a_foreign_network_gets_a_card_and_its_extension_is_needed(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "tests" / "extensions" / "leaky_net.py", tmp_path / "leaky_net.py")
    own = ("--agent", "leaky-net", "--game", "minatar/breakout", "--extension", "leaky_net")
    small = ("--episodes", "3", "--states", "40", "--attacked-episodes", "1", "--threads", "1")
    code, _, err = run(*own, *small, "--out", "net", cwd=tmp_path)
    assert code == 0, err
    card = read_card(tmp_path / "net" / "card.json")
    assert (card["agent"]["kind"], card["activity"]["sim_steps"]) == ("leaky-net", 4)
    assert card["operations"]["layers"][0]["dense_macs"] == 400 * 64
    assert list(card["agent"]["extensions"]) == ["leaky_net"]
    assert any("swept" in row["attack"] for row in card["robustness"]["states"])

    code, out, err = run("--check", "net/card.json", "--episodes", "2", cwd=tmp_path)
    assert (code, out) == (2, "")  # before anything is said to hold
    assert "extension 'leaky_net' of the card was not named (--extension)" in err
    again = ("--check", "net/card.json", "--episodes", "2", "--extension", "leaky_net")
    code, out, err = run(*again[:2], *again[4:], cwd=tmp_path)
    assert code == 0, err
    assert "3 games of leaky-net, played again" in out  # all, as there are fewer than ten
    with open(tmp_path / "leaky_net.py", "a") as file:
        file.write("# changed\n")
    code, _, err = run(*again, cwd=tmp_path)
    assert (code, "extension 'leaky_net' of the card has changed since" in err) == (2, True)


def test_a_small_card_asks_less() -> None:
    def asked(states: int) -> list[tuple[str, ...]]:
        parts = {
            part.name: part for part in Battery("a", get_game("minatar/breakout"), states=states).parts()
        }
        return [parts["states"].words, parts["states"].instead]

    for standard, small in zip(asked(STATES), asked(100), strict=True):
        assert "--set" not in standard
        assert standard[standard.index("--draws") :][:3] == ("--draws", "1", "500")
        assert small[small.index("--draws") :][:5] == ("--draws", "1", "97", "--set", "queries=97")
    assert "--set" not in asked(10 * STATES)[0]


def test_what_cannot_be_measured_is_said_in_the_card(made: Path) -> None:
    card = measured(made, {"operations": "weights 'mixing' cannot be counted"})
    assert card["operations"] == {"refused": "weights 'mixing' cannot be counted"}


def test_a_card_needs_an_agent_that_plays() -> None:
    code, _, err = run("--agent", "no-such-agent", "--game", "minatar/breakout", "--out", "x")
    assert (code, err.count("error: ")) == (2, 1)
    assert not (REPOSITORY / "x").exists()
    code, _, err = run("--out", "x")
    assert (code, "--agent and --out are needed" in err) == (2, True)
