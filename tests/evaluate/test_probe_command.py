"""`evaluate probe`: rows of real agents, the same again, refusals."""

from pathlib import Path

import pytest

from core.records import read_rows
from core.rows import EmbeddingRow, OperationsRow, ResponseRow
from tests.conftest import Command
from tests.test_refusals import is_refused

AGENTS = Path(__file__).parents[2] / "results" / "agents"
DQN, DSQN = (AGENTS / f"minatar-breakout-{kind}-s0.safetensors" for kind in ("dqn", "dsqn"))
FEW = ("--states", 40, "--threads", 1)


def test_agents_are_counted_on_their_own_play_and_shown_on_the_firsts(
    command: Command, tmp_path: Path
) -> None:
    other = AGENTS / "minatar-breakout-dqn-s1.safetensors"
    options = ("--agent", DQN, other, DSQN, *FEW)
    assert command("evaluate", "probe", *options, "--out", tmp_path / "one").code == 0
    operations = read_rows(tmp_path / "one" / "operations.parquet", OperationsRow)
    layers = [(row.agent, row.train_seed, row.layer) for row in operations]
    assert layers == [(*who, layer) for who in (("dqn", 0), ("dqn", 1), ("dsqn", 0)) for layer in range(3)]
    # Conv 4 -> 16, 3 x 3 on 10 x 10; 1024 x 128; 128 x 6 (Young & Tian's network).
    assert [row.dense_macs for row in operations[:3]] == [8 * 8 * 16 * 9 * 4, 1024 * 128, 128 * 6]
    assert all(row.spikes == 0 for row in operations[:6])
    assert operations[6].spikes > 0
    shown = read_rows(tmp_path / "one" / "embedding.parquet", EmbeddingRow)
    assert [(row.agent, row.train_seed, row.state) for row in shown] == [
        (*who, state) for who in (("dqn", 0), ("dsqn", 0)) for state in range(40)
    ]
    assert {row.states_of for row in shown} == {shown[0].checkpoint_id}
    assert command("evaluate", "probe", *options, "--out", tmp_path / "two").code == 0
    for name in ("operations.parquet", "embedding.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "already done" in command("evaluate", "probe", *options, "--out", tmp_path / "two").out


def test_operations_alone_are_those_that_stand_beside_an_embedding(command: Command, tmp_path: Path) -> None:
    options = ("--agent", DSQN, *FEW)
    assert command("evaluate", "probe", *options, "--embedding", "False", "--out", tmp_path / "one").code == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"manifest.json", "operations.parquet"}
    assert command("evaluate", "probe", *options, "--out", tmp_path / "both").code == 0
    one, both = ((tmp_path / name / "operations.parquet").read_bytes() for name in ("one", "both"))
    assert one == both
    # The folder does not hold what is asked for now.
    is_refused(
        command("evaluate", "probe", *options, "--out", tmp_path / "one"), "only is 'operations' there"
    )


def test_without_agents_neurons_answer_alone(command: Command, tmp_path: Path) -> None:
    assert command("evaluate", "probe", "--out", tmp_path / "out").code == 0
    rows = read_rows(tmp_path / "out" / "responses.parquet", ResponseRow)
    assert {row.quantity for row in rows} == {"surrogate", "relu", "rate", "last-mem", "max-mem", "mean-mem"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "responses.parquet"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--agent", DQN, AGENTS / "pong-dqn-s0.safetensors"), "minatar/breakout, pong"),
        (("--agent", DQN, "--states", 0), "states is 0"),
        (("--agent", DQN, "--states", 30), "accepted is an integer from 31"),
        (("--agent", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--embedding", "False"), "--embedding False goes with --agent"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    command: Command, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    is_refused(command("evaluate", "probe", *options, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()
