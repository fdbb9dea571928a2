"""`convert import` of networks of MinAtar's own DQN: equal Q-values, and minimal action sets among all actions."""

import copy
import io
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import minatar
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial.goals import goal
from convert import foreign
from convert.scaling import scaled_network
from core.checkpoint import load_agent
from core.dqn import DQN
from core.games import get_game
from core.rate_coded.network import RateCoding
from tests.conftest import Command, Finished
from tests.test_refusals import is_refused

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
MINIMAL = {name: minatar.Environment(name).minimal_action_set() for name in GAMES}


class QNetwork(nn.Module):
    """The network of kenjyoung/MinAtar, examples/dqn.py, by its names."""

    def __init__(self, in_channels: int, num_actions: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 16, kernel_size=3, stride=1)
        self.fc_hidden = nn.Linear(in_features=8 * 8 * 16, out_features=128)
        self.output = nn.Linear(in_features=128, out_features=num_actions)

    def forward(self, planes: Tensor) -> Tensor:
        x = F.relu(self.conv(planes))
        x = F.relu(self.fc_hidden(x.view(x.size(0), -1)))
        return self.output(x)


def network(game: str, num_actions: int) -> QNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return QNetwork(get_game(f"minatar/{game}").observation_shape[0], num_actions).requires_grad_(False)


def states(game: str, number: int = 64) -> Tensor:
    """Random binary planes [B, C, 10, 10]."""
    shape = (number, *get_game(f"minatar/{game}").observation_shape)
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)).float()


def data_and_weights(theirs: nn.Module) -> dict[str, object]:
    """What examples/dqn.py saves at its end."""
    return {"returns": [1.0, 3.0], "frame_stamps": [20, 55], "policy_net_state_dict": theirs.state_dict()}


def imported(command: Command, tmp_path: Path, content: object, game: str, *more: object) -> Finished:
    source = tmp_path / f"{game}_data_and_weights"
    torch.save(content, source)
    out = tmp_path / "out" / "agent.safetensors"
    return command("convert", "import", "--source", source, "--game", f"minatar/{game}", "--out", out, *more)


def agent_in(tmp_path: Path) -> DQN:
    agent = load_agent(tmp_path / "out" / "agent.safetensors").agent
    assert isinstance(agent, DQN)
    return agent


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("as_saved", [True, False])
def test_all_actions(command: Command, tmp_path: Path, game: str, as_saved: bool) -> None:
    theirs = network(game, 6)
    content = data_and_weights(theirs) if as_saved else theirs.state_dict()
    finished = imported(command, tmp_path, content, game)
    assert finished.code == 0, finished.err
    assert "never greedy" not in finished.out
    torch.testing.assert_close(agent_in(tmp_path)(states(game)), theirs(states(game)), rtol=0, atol=1e-5)
    provenance = load_agent(tmp_path / "out" / "agent.safetensors").provenance
    assert provenance["source_actions"] == [0, 1, 2, 3, 4, 5]
    assert (provenance["source_format"], provenance["source_pixels"]) == ("minatar", None)


@pytest.mark.parametrize("game", [name for name in GAMES if len(MINIMAL[name]) < 6])
def test_the_minimal_action_set(command: Command, tmp_path: Path, game: str) -> None:
    """Their action i is MinAtar's minimal_action_set()[i], in the agent and in a network converted from it."""
    theirs, minimal = network(game, len(MINIMAL[game])), MINIMAL[game]
    finished = imported(command, tmp_path, data_and_weights(theirs), game)
    assert finished.code == 0, finished.err
    assert f"are the game's {', '.join(map(str, minimal))}; others are never greedy" in finished.out
    assert load_agent(tmp_path / "out" / "agent.safetensors").provenance["source_actions"] == minimal
    agent = agent_in(tmp_path)
    scores, expected = agent(states(game)), theirs(states(game))
    torch.testing.assert_close(scores[:, minimal], expected, rtol=0, atol=1e-5)
    greedy = torch.tensor(minimal)[expected.argmax(1)]
    assert torch.equal(scores.argmax(1), greedy)
    others = [action for action in range(6) if action not in minimal]
    mean = expected.mean(1, keepdim=True) - foreign.BELOW_MEAN
    torch.testing.assert_close(scores[:, others], mean.expand(-1, len(others)), rtol=0, atol=1e-5)
    snn = scaled_network(agent, [1.0, 1.0, 0.25], RateCoding(16))
    assert set(snn(states(game)).argmax(1).tolist()) <= set(minimal)


def test_actions_that_are_not_there_hide_no_gradient(command: Command, tmp_path: Path) -> None:
    """An attack on the lead of the greedy action finds a gradient at every state."""
    theirs = network("breakout", 3)
    imported(command, tmp_path, data_and_weights(theirs), "breakout")
    agent = agent_in(tmp_path)
    inputs = states("breakout").requires_grad_()
    for loss in ("margin", "cross-entropy"):
        scores = agent(inputs)
        (gradient,) = torch.autograd.grad(goal(scores.detach(), loss).value(scores).sum(), inputs)  # type: ignore[arg-type]
        assert (gradient.flatten(1).abs().amax(1) > 1e-4).all()


def test_equal_scores_still_choose_an_action_of_theirs(command: Command, tmp_path: Path) -> None:
    theirs = network("freeway", 3)
    theirs.output.weight.zero_()
    theirs.output.bias.fill_(0.7)
    imported(command, tmp_path, data_and_weights(theirs), "freeway")
    assert (agent_in(tmp_path)(states("freeway")).argmax(1) == 0).all()


transition = namedtuple("transition", "state, reward")  # as theirs


def refused(command: Command, tmp_path: Path, content: object, *words: str, game: str = "breakout") -> None:
    is_refused(imported(command, tmp_path, content, game), *words)
    assert [each.name for each in tmp_path.iterdir()] == [f"{game}_data_and_weights"]


def test_refusals(command: Command, tmp_path: Path) -> None:
    theirs = network("breakout", 3)
    weights = theirs.state_dict()
    # Of the many checkpoints that training leaves, those with a replay buffer hold Python objects.
    with_replay = {**data_and_weights(theirs), "replay_buffer": [transition(torch.zeros(1), 0.0)]}
    refused(
        command, tmp_path, with_replay, "transition", "only tensors", "no code was run", "state_dict alone"
    )
    refused(
        command, tmp_path, network("breakout", 4).state_dict(), "a DQN of 4 actions, minatar/breakout has 6"
    )
    wide: dict[str, Any] = {**weights, "fc_hidden.weight": torch.zeros(64, 1024)}
    refused(command, tmp_path, wide, "'fc_hidden.weight'", "(64, 1024)", "(128, 1024)")
    refused(
        command,
        tmp_path,
        {**weights, "value.weight": torch.zeros(1)},
        "minatar",
        "unknown weights: 'value.weight'",
    )
    refused(command, tmp_path, {"policy_net_state_dict": []}, "no layers of a DQN")
    nothing = copy.deepcopy(weights)
    nothing["output.weight"] = torch.zeros(())
    refused(command, tmp_path, nothing, "'output.weight'", "()")
    (tmp_path / "breakout_data_and_weights").unlink()
    refused(command, tmp_path, weights, "(16, 4, 3, 3)", "(16, 7, 3, 3)", game="freeway")
    is_refused(
        imported(command, tmp_path, weights, "breakout", "--pixels", "bytes"),
        "minatar/breakout has no pixels",
    )
    out = tmp_path / "out" / "agent.safetensors"
    source = tmp_path / "breakout_data_and_weights"
    is_refused(
        command("convert", "import", "--source", source, "--game", "breakout", "--out", out),
        "game is breakout",
        "games of minatar (minatar/asterix",
    )


def test_attributes_in_a_file_hide_no_methods(command: Command, tmp_path: Path) -> None:
    theirs = network("breakout", 6)
    inside, outside = theirs.state_dict(), OrderedDict(data_and_weights(theirs))
    for each in (inside, outside):
        each.__dict__.update({"get": "hidden", "keys": "hidden"})
    outside["policy_net_state_dict"] = inside
    finished = imported(command, tmp_path, outside, "breakout")
    assert finished.code == 0, finished.err
    torch.testing.assert_close(
        agent_in(tmp_path)(states("breakout")), theirs(states("breakout")), rtol=0, atol=1e-5
    )


def test_parameters_are_read_as_tensors(command: Command, tmp_path: Path) -> None:
    theirs = network("breakout", 3).requires_grad_()
    assert imported(command, tmp_path, dict(theirs.named_parameters()), "breakout").code == 0
    agent = agent_in(tmp_path)
    torch.testing.assert_close(
        agent(states("breakout"))[:, [0, 1, 3]], theirs(states("breakout")), rtol=0, atol=1e-5
    )
    assert not any(parameter.requires_grad for parameter in agent.parameters())


def test_a_small_file_that_claims_a_huge_tensor(command: Command, tmp_path: Path) -> None:
    """A view of one number as billions is refused before it takes memory."""
    weights: dict[str, Any] = network("breakout", 6).state_dict()
    huge = {**weights, "conv.weight": torch.zeros(1).as_strided((2**31, 4, 3, 3), (0, 0, 0, 0))}
    buffer = io.BytesIO()
    torch.save(huge, buffer)
    assert buffer.tell() < 2**20
    refused(command, tmp_path, huge, "77,309,543,318 weights: at most 33,554,432")
    huge = {**weights, "output.weight": torch.zeros(1).as_strided((2**31, 128), (0, 0))}
    refused(command, tmp_path, huge, "weights: at most 33,554,432")
