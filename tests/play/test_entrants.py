"""What a user types after --agent: registered agents, checkpoints, run folders, and what is none of these."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from core.agents import AGENTS, Agent, Decision, RandomPlay
from core.checkpoint import load_agent
from core.errors import Refusal
from core.games import GAMES, Game
from core.records import read_rows
from core.rows import EpisodeRow
from play.entrants import entrants, is_registered
from play.protocols import get_protocol
from tests.conftest import AGENTS as SHIPPED
from tests.conftest import Command
from tests.test_refusals import is_refused

BREAKOUT, FREEWAY = GAMES["minatar/breakout"], GAMES["minatar/freeway"]
DQN = SHIPPED / "minatar-breakout-dqn-s0.safetensors"


class Linear(Agent):
    """A network that nobody foresaw."""

    kind = "linear"

    def __init__(self, game: Game, seed: int = 0, gain: float = 1.0):
        super().__init__()
        self.game, self.gain = game, gain
        torch.manual_seed(seed)
        self.layer = nn.Linear(int(torch.tensor(game.observation_shape).prod()), game.num_actions)

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        return Decision(self.gain * self.layer(observations.flatten(1)), None, None)

    def config(self) -> dict[str, Any]:
        return {"gain": self.gain}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        return cls(game, **config)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that are registered for one test."""
    monkeypatch.setattr(AGENTS, "_entries", dict(AGENTS.items()))
    monkeypatch.setattr(AGENTS, "_origins", dict(AGENTS._origins))
    AGENTS.register("linear-0")(Linear)
    AGENTS.register("linear-1")(lambda game: Linear(game, seed=1))
    AGENTS.register("linear-loud")(lambda game: Linear(game, gain=2.0))
    AGENTS.register("no-agent")(lambda game: nn.Linear(1, 1))
    AGENTS.register("mistaken")(lambda game: Linear(game, gain=game.n_actions))


def test_random_play_is_registered_and_always_explores() -> None:
    (entrant,) = entrants("random", BREAKOUT)
    assert isinstance(entrant.checkpoint.agent, RandomPlay)
    assert (entrant.checkpoint.id, entrant.which) == ("", ("",))
    assert entrant.protocol(None).epsilon == 1.0
    assert entrant.checkpoint.columns == {
        **{"agent": "random", "checkpoint_id": "", "train_seed": -1, "train_steps": 0},
        **{"network": "", "recipe": "", "variant": "", "training": ""},
    }


def test_a_registered_agent_is_named_by_its_weights() -> None:
    names = ("linear-0", "linear-1", "linear-loud")
    found = {name: entrants(name, BREAKOUT)[0].checkpoint for name in names}
    assert len({checkpoint.id for checkpoint in found.values()}) == 3
    for name, checkpoint in found.items():
        assert len(checkpoint.id) == 12
        assert entrants(name, BREAKOUT)[0].checkpoint.id == checkpoint.id
        columns = checkpoint.columns
        assert (columns["agent"], columns["network"], columns["train_seed"]) == ("linear", name, -1)
        assert checkpoint.provenance["scores_are_q_values"]
        assert not checkpoint.agent.training
        assert not any(parameter.requires_grad for parameter in checkpoint.agent.parameters())
    entrant, *_ = entrants("linear-0", BREAKOUT)
    assert entrant.protocol(None) == get_protocol(None, BREAKOUT)


def test_a_checkpoint_plays_its_own_game_unless_another_is_given() -> None:
    for agent in (DQN, str(DQN)):
        (entrant,) = entrants(agent)
        assert (entrant.game, entrant.which, entrant.checkpoint.id) == (BREAKOUT, ("",), load_agent(DQN).id)
    with pytest.raises(Refusal, match="minatar/freeway needs"):
        entrants(DQN, FREEWAY)


def test_a_run_folder_gives_its_best_weights_first(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(DQN.read_bytes())
    (tmp_path / "agent.safetensors").write_bytes(
        DQN.with_name("minatar-breakout-dqn-s1.safetensors").read_bytes()
    )
    best, final = entrants(tmp_path)
    assert [best.which, final.which] == [("best",), ("final",)]
    assert best.checkpoint.id == load_agent(DQN).id != final.checkpoint.id


def test_a_path_is_never_the_name_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("random").write_bytes(DQN.read_bytes())
    assert is_registered("random")
    for path in (Path("random"), "./random"):
        assert not is_registered(path)
        assert entrants(path)[0].checkpoint.id == load_agent(DQN).id


@pytest.mark.parametrize(
    ("agent", "game", "said"),
    [
        ("random", None, "'random' knows no game: give one with --game"),
        ("linear-2", BREAKOUT, r"no checkpoint at linear-2, and no agent is registered .*linear-1"),
        ("nowhere.safetensors", BREAKOUT, r"no checkpoint at nowhere\.safetensors"),
        ("no-agent", BREAKOUT, "'no-agent' is a Linear: an Agent"),
        (
            "mistaken",
            BREAKOUT,
            r"'mistaken' cannot be made .*: AttributeError: .*n_actions.*entrants\.py, line \d+\)",
        ),
    ],
)
def test_what_is_no_agent_is_refused(agent: str, game: Game | None, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        entrants(agent, game)


EXTENSION = """
from torch import nn

from core.agents import AGENTS, Agent, Decision


@AGENTS.register("my-linear")
class Linear(Agent):
    kind = "my-kind"

    def __init__(self, game):
        super().__init__()
        self.game = game
        self.layer = nn.Linear(400, game.num_actions)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)

    def decide(self, observations, carry=None):
        return Decision(self.layer(observations.flatten(1)), None, None)

    def config(self):
        return {}

    @classmethod
    def from_config(cls, game, config):
        return cls(game)
"""


def test_an_agent_of_an_extension_is_scored(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_linear_agent.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--agent", "my-linear", "random", "--extension", "my_linear_agent", "--episodes", 2)
    finished = command("evaluate", "run", *options, "--game", "minatar/breakout", "--out", tmp_path / "out")
    assert finished.code == 0, finished.err
    rows = read_rows(tmp_path / "out" / "episodes.parquet", EpisodeRow)
    assert [(row.agent, row.network, row.train_seed, row.episode) for row in rows] == [
        *(("my-kind", "my-linear", -1, episode) for episode in range(2)),
        *(("random", "", -1, episode) for episode in range(2)),
    ]
    assert len(rows[0].checkpoint_id) == 12
    watched = ("--game", "minatar/breakout", "--steps", 2, "--save", tmp_path / "pictures")
    assert command("evaluate", "watch", *options[:2], *watched).code == 0
    assert len([*(tmp_path / "pictures").iterdir()]) == 2
    is_refused(command("evaluate", "watch", *options[:2]), "knows no game")


FAILING = EXTENSION.replace(
    "        return Decision(",
    """        self.asked = getattr(self, "asked", 0) + 1
        assert self.asked < 3, "asked too often"
        return Decision(""",
)


def test_an_error_in_an_extension_names_agent_extension_and_game(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_failing_agent.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--agent", "my-linear", "--extension", "my_failing_agent", "--game", "minatar/breakout")
    finished = command("evaluate", "run", *options, "--episodes", 2, "--out", tmp_path / "out")
    first, *trace = finished.err[finished.err.index("error: ") :].splitlines()
    assert (finished.code, finished.out) == (1, "")
    assert first.startswith(
        "error: agent 'my-linear' of extension 'my_failing_agent' failed on minatar/breakout: "
        "AssertionError: asked too often (my_failing_agent.py, line "
    )
    assert trace[0] == "Traceback (most recent call last):"
    assert "my_failing_agent.py" in trace[1]
    assert trace[-1] == "AssertionError: asked too often"
    assert not (tmp_path / "out" / "episodes.parquet").exists()
