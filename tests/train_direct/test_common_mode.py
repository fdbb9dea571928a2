"""Common-mode compensation: the formula, and that nothing of it is left in the agent."""

import math
from pathlib import Path

import torch

from core import seeding
from core.checkpoint import load_agent
from core.dsqn import DSQN
from core.games import get_game
from core.networks import NETWORKS
from core.records import read_rows
from core.rows import EpisodeRow
from tests.conftest import Command, random_batch
from train_direct.common_mode import CommonMode
from train_direct.learner import QLearner
from train_direct.recipe import RECIPES

GAME = get_game("minatar/breakout")


def make() -> CommonMode:
    snn = NETWORKS["chen2022"].make(GAME, seeding.torch_generator(0, "weights"))
    assert isinstance(snn, DSQN)
    for parameter in snn.parameters():
        parameter.data.mul_(4)  # untrained, it would hardly spike
    return CommonMode(snn, seeding.torch_generator(0, "common mode"))


def test_differences_between_actions_are_the_spiking_networks() -> None:
    both = make()
    x = torch.randint(0, 2, (5, *GAME.observation_shape), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        q, snn = both(x), both.snn(x)
    torch.testing.assert_close(q - q[:, :1], snn - snn[:, :1])
    assert torch.equal(q.argmax(1), snn.argmax(1))
    # And what they have in common is the auxiliary network's alone.
    conv, hidden, output = both.layers
    with torch.no_grad():
        common = output(hidden(conv(x).relu().flatten(1)).relu())
    torch.testing.assert_close(q.mean(1, keepdim=True), common)
    assert common.std() > 0


def test_both_networks_are_trained_and_copied() -> None:
    both = make()
    learner = QLearner(both, RECIPES["minatar-fast"])
    before = {name: parameter.detach().clone() for name, parameter in both.named_parameters()}
    for _ in range(3):
        learner.update(random_batch())
    assert all(not torch.equal(before[name], parameter) for name, parameter in both.named_parameters())
    assert any(name.startswith("snn.") for name in before)
    assert any(name.startswith("layers.") for name in before)


def test_the_saved_agent_is_a_plain_dsqn(tmp_path: Path, command: Command) -> None:
    sizes = (
        *("--total-steps", 400, "--warmup-steps", 200, "--replay-steps", 300),
        *("--eval-episodes", 1, "--sim-steps", 2),
    )
    for name, extra in (("cmc", ("--cmc",)), ("plain", ())):
        out = tmp_path / name
        finished = command("train_direct", "dsqn", "--game", GAME.name, *sizes, *extra, "--out", out)
        assert finished.code == 0, finished.err
    cmc_rows, plain_rows = (
        read_rows(tmp_path / name / "validation.parquet", EpisodeRow) for name in ("cmc", "plain")
    )
    # Rows say which it is, and call no score a Q-value that is none.
    assert {row.network for row in cmc_rows} == {"chen2022+sim_steps=2+cmc"}
    assert {row.network for row in plain_rows} == {"chen2022+sim_steps=2"}
    assert all(math.isnan(row.max_q) and math.isnan(row.max_q_mean) for row in cmc_rows)
    assert all(math.isfinite(row.max_q) and math.isfinite(row.max_q_mean) for row in plain_rows)
    cmc, plain = (load_agent(tmp_path / name / "agent.safetensors").agent for name in ("cmc", "plain"))
    assert cmc.config() == plain.config()
    assert cmc.state_dict().keys() == plain.state_dict().keys()
    assert any(not torch.equal(a, b) for a, b in zip(cmc.parameters(), plain.parameters(), strict=True))
