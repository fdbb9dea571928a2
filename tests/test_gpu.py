"""On a GPU every agent plays and has gradients as on the CPU, and trains. Without a GPU these tests are skipped."""

import copy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from adversarial.goals import goal
from adversarial.gradient_ascent import input_gradient
from adversarial.sources import freeze, gradient_source
from convert.method import METHODS, Training
from convert.options import CodingOptions
from core.agents import Agent
from core.checkpoint import load_agent
from core.dqn import DQN
from core.records import read_rows
from core.rows import CurveRow, EpisodeRow
from play.environments import network_input
from tests.conftest import AGENTS, Command, opening

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """States of a DQN's play."""
    return opening(load_agent(AGENTS / "minatar-breakout-dqn-s0.safetensors").agent, 64)


@pytest.fixture(scope="module")
def agents(states: np.ndarray) -> Mapping[str, Agent]:
    """A trained agent of every kind that one command or another moves to a device."""
    dqn, dsqn = (
        load_agent(AGENTS / f"minatar-breakout-{kind}-s0.safetensors").agent for kind in ("dqn", "dsqn")
    )
    assert isinstance(dqn, DQN)
    made: dict[str, Agent] = {"dqn": dqn, "dsqn": dsqn}
    for name, sim_steps in (("tan2021", 64), ("reconstruct", 8), ("pursuit", 4)):
        method = METHODS[name]()
        made[name] = method.convert(dqn, states, CodingOptions().coding(sim_steps, method), Training()).snn
    made["quantised"] = made["reconstruct"].quantised()  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("name", ["dqn", "dsqn", "tan2021", "reconstruct", "pursuit", "quantised"])
def test_decisions_are_those_of_the_cpu(name: str, agents: Mapping[str, Agent], states: np.ndarray) -> None:
    """A current at a threshold may fire on one device only, so a few of many spikes may differ."""
    here, there = agents[name], copy.deepcopy(agents[name]).to(DEVICE)
    with torch.no_grad():
        ours = here.eval().decide(network_input(states, here.game, here.device))
        theirs = there.eval().decide(network_input(states, there.game, there.device))
    assert (ours.scores.argmax(1) == theirs.scores.argmax(1).cpu()).float().mean() >= 0.95
    apart = (ours.scores - theirs.scores.cpu()).abs().amax(1)
    assert apart.median() < 1e-3 * ours.scores.abs().max()
    if ours.activity is not None:
        assert theirs.activity is not None
        spikes, others = ours.activity.spikes, theirs.activity.spikes.cpu()
        assert spikes.sum() > 0
        assert (spikes - others).abs().sum() < 1e-3 * spikes.sum()


@pytest.mark.parametrize("name", ["dqn", "dsqn", "tan2021", "reconstruct", "pursuit", "quantised"])
def test_gradients_are_those_of_the_cpu(name: str, agents: Mapping[str, Agent], states: np.ndarray) -> None:
    found = []
    for device in ("cpu", DEVICE):
        agent = copy.deepcopy(agents[name]).to(device)
        inputs = network_input(states, agent.game, agent.device)
        source = freeze(gradient_source(agent))
        with torch.no_grad():
            wanted = goal(agent(inputs), "cross-entropy", False)
        found.append(input_gradient(source.network, inputs, wanted).cpu().flatten(1))
    ours, theirs = found
    told = ours.abs().amax(1) > 0
    assert told.float().mean() > 0.5
    likeness = torch.cosine_similarity(ours[told], theirs[told])
    assert likeness.median() > 0.999


@pytest.mark.parametrize(
    "words", [("dqn",), ("dsqn", "--sim-steps", "4"), ("dsqn", "--sim-steps", "4", "--cmc")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_and_goes_on_where_it_was_stopped(
    words: tuple[str, ...], precision: str, command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    task = f"--game minatar/breakout --device {DEVICE} --precision {precision} --total-steps 12000"
    intervals = "--checkpoint-interval-steps 6000 --eval-interval-steps 6000"
    typed = (*words, *task.split(), *intervals.split(), "--out", str(run))
    with subprocess.Popen(
        [sys.executable, "-m", "train_direct", *typed], stderr=subprocess.PIPE, text=True
    ) as begun:
        while not (run / "state.safetensors").exists():
            assert begun.poll() is None, begun.communicate()
            time.sleep(0.02)
        begun.terminate()
        assert begun.wait() in (0, 128 + signal.SIGTERM)  # 0: it was at the end
    resumed = command("train_direct", *typed)
    assert resumed.code == 0, resumed.err
    curve = read_rows(run / "curve.parquet", CurveRow)
    assert (curve[-1].steps, curve[-1].updates) == (12_000, (12_000 - 5000) // 4)
    assert all(np.isfinite([row.loss, row.q_mean]).all() for row in curve if row.updates)
    agent = run / "agent.safetensors"
    assert load_agent(agent).agent.device.type == "cpu"  # a file belongs to no device
    rows = tmp_path / "rows"
    scored = command("evaluate", "run", "--agent", agent, "--device", DEVICE, "--episodes", 8, "--out", rows)
    assert scored.code == 0, scored.err
    assert len(read_rows(rows / "episodes.parquet", EpisodeRow)) == 8
