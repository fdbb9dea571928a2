"""Memory: what is available, forecasts against real peaks, and the refusal of what does not fit."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import Refusal
from core.memory import GIB, SHARE, available_bytes, require_fits
from tests.limits import limited

REPOSITORY = Path(__file__).resolve().parents[2]


def test_some_memory_is_available() -> None:
    assert 0 < available_bytes() < 2**50


def test_what_fits_passes_and_what_does_not_names_a_value_that_would() -> None:
    require_fits("states", 10, 1.0, "keeping them")
    available = available_bytes()
    with pytest.raises(
        Refusal, match=r"^states is 1000: keeping them would take .* GiB of memory"
    ) as refused:
        require_fits("states", 1000, 100 * available, "keeping them")
    fitting = int(str(refused.value).rpartition("about ")[2].partition(" would fit")[0])
    assert fitting == pytest.approx(1000 * SHARE / 100, abs=2)
    with pytest.raises(Refusal, match="not even 1 would fit"):
        require_fits("states", 2, 2**60, "keeping them")


def test_a_limit_of_the_process_counts() -> None:
    program = "from core.memory import available_bytes; print(available_bytes())"
    command = limited(GIB, "-c", program)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert 0 < int(done.stdout) < GIB


PEAK = """
import sys, torch
from dataclasses import replace
from core.games import get_game
from core.networks import NETWORKS
torch.set_num_threads(1)
what, game, name, sim_steps, rows = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
network = NETWORKS[name]
def made(steps):
    spiking = network.spiking and replace(network.spiking, sim_steps=steps)
    return replace(network, spiking=spiking).make(get_game(game), torch.Generator().manual_seed(0))
def work(agent, rows):
    inputs = torch.rand(rows, *agent.game.observation_shape)
    if what == "decision":
        with torch.no_grad():
            agent.decide(inputs)
    else:
        agent(inputs.requires_grad_()).sum().backward()
def peak():  # of this process: ru_maxrss begins at the parent's
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])
work(made(2), 1)
agent = made(sim_steps)
before = peak()
work(agent, rows)
print((peak() - before) / getattr(agent, f"{what}_bytes")(rows))
"""


@pytest.mark.parametrize(
    ("what", "game", "network", "sim_steps", "rows"),
    [
        ("decision", "pong", "chen2022", 64, 8),
        ("decision", "minatar/breakout", "chen2022", 512, 32),
        ("gradient", "pong", "chen2022", 64, 8),
        ("gradient", "minatar/breakout", "chen2022", 512, 32),
    ],
)
def test_forecasts_are_near_the_real_peak(
    what: str, game: str, network: str, sim_steps: int, rows: int
) -> None:
    words = [what, game, network, str(sim_steps), str(rows)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert 1 / 1.6 < float(done.stdout) < 1.6
