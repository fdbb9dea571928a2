"""What tests share: one thread, and commands run as a user types them."""

import importlib
import itertools
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from core import extensions, interrupts, seeding
from core.agents import Agent
from core.games import get_game
from core.memory import available_bytes
from core.registry import Registry
from core.rows import EpisodeRow, StateAttackRow
from play.environments import make_environments
from play.policies import exploring
from play.protocols import get_protocol
from play.rollout import Rollout
from train_direct.replay import Batch

AGENTS = Path(__file__).parents[1] / "results" / "agents"
"""Trained agents that are shipped."""


MEMORY_A_PROCESS = 4 * 2**30
"""Bytes that one process of tests and what it starts may take."""


def pytest_xdist_auto_num_workers() -> int:
    """Processes that share the tests: one a core that we may use, as far as the memory goes."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = Path("/sys/fs/cgroup/cpu.max")  # of a container that may use less than the machine has
    if quota.is_file() and (allowed := quota.read_text().split())[0] != "max":
        cores = min(cores, int(allowed[0]) / int(allowed[1]))
    return max(1, min(round(cores), available_bytes() // MEMORY_A_PROCESS))


def pytest_configure() -> None:
    """Ctrl-C in this process is pytest's. What it starts hears it, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.answer = lambda: None


LONGEST = (
    "test_smoke.py",
    "train_direct/test_run.py",
    "test_studies.py",
    "card/test_card.py",
    "test_examples.py",
    "analysis/test_layout.py",
    "studies/test_ray.py",
    "hostile/test_files.py",
    "adversarial/test_command.py",
    "test_docs.py",
    "test_wheel.py",
)
"""Files that take longest, the longest first. Each belongs to one process of tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one would keep a process busy while the others wait."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


class Finished(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Equal bits need equal thread counts, and tiny tensors are fastest on one."""
    torch.set_num_threads(1)


def registries() -> tuple[Registry[Any], ...]:
    """The registries that extensions of tests add to."""
    names = {
        "adversarial.attack": "ATTACKS",
        "analysis.figures.registry": "FIGURES",
        "convert.foreign": "FORMATS",
        "convert.method": "METHODS",
        "core.agents": "AGENTS",
        "core.games": "GAMES",
        "core.networks": "NETWORKS",
        "core.neurons.base": "NEURONS",
        "core.normalisations": "NORMALISATIONS",
        "core.readouts": "READOUTS",
        "play.environments": "ENVIRONMENTS",
        "play.protocols": "PROTOCOLS",
        "train_direct.recipe": "RECIPES",
    }
    return tuple(getattr(importlib.import_module(module), name) for module, name in names.items())


def only(made: dict[str, Figure]) -> Figure:
    """The figure of a drawing function that draws one."""
    (figure,) = made.values()
    return figure


@pytest.fixture(autouse=True)
def forget_named_extensions() -> Iterator[None]:
    """An extension that a test named is unknown to the next, which shares this process."""
    known = set(extensions.EXTENSIONS)
    yield
    loaded = set(extensions.EXTENSIONS) - known
    for each in registries() if loaded else ():
        for name, origin in list(each._origins.items()):
            if origin in loaded:
                del each._entries[name], each._origins[name]
    for name in loaded:
        del extensions.EXTENSIONS[name]
        sys.modules.pop(name, None)


@pytest.fixture
def forget_extensions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it, and the modules that it named are imported again by the next."""
    for each in registries():
        each.names()
        monkeypatch.setattr(each, "_entries", dict(each._entries))
        monkeypatch.setattr(each, "_origins", dict(each._origins))
    monkeypatch.setattr(extensions, "EXTENSIONS", {})
    yield
    for name in [name for name in sys.modules if name.startswith("tests.extensions.")]:
        del sys.modules[name]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("evaluate", "run", "--agent", ...)` is `python -m evaluate run --agent ...`, in this process."""

    def run(stage: str, *arguments: object) -> Finished:
        from core.cli import main

        is_file = stage == "card.leaderboard"
        module = importlib.import_module(stage if is_file else f"{stage}.__main__")
        alone = {"card": "MakeCard", "card.leaderboard": "Leaderboard", "analysis.report": "Report"}
        verbs = {
            "train_direct": ("Dqn", "Dsqn", "Ppo", "SpikingPpo", "Ship"),
            "evaluate": ("Run", "Watch", "Probe", "Check"),
            "convert": ("Run", "Compare", "Import", "Export"),
            "adversarial": ("Run", "States", "Verdict"),
        }.get(stage, ())
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, arguments)])
        code = 0
        capsys.readouterr()
        try:
            typed = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower(): name for name in verbs}
            commands = {verb: getattr(module, name) for verb, name in typed.items()}
            main(f"python -m {stage}", commands or getattr(module, alone[stage]))
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return run


def random_batch(size: int = 8) -> Batch:
    """Transitions of minatar/breakout that mean nothing, always the same ones."""
    rng = np.random.default_rng(0)
    shape = (size, *get_game("minatar/breakout").observation_shape)
    return Batch(
        rng.integers(2, size=shape, dtype=np.uint8),
        rng.integers(6, size=size),
        rng.normal(size=size).astype(np.float32),
        np.full(size, 0.99, dtype=np.float32),
        rng.integers(2, size=shape, dtype=np.uint8),
    )


def opening(agent: Agent, num_states: int) -> np.ndarray:
    """The first states [num_states, *observation] of an agent's play at epsilon 0.05, one game at a time;
    `play.states.collect` would play them to their ends."""
    environments = make_environments(agent.game, 1, get_protocol(None, agent.game).dynamics)
    try:
        rollout = Rollout(
            environments,
            agent,
            episode_seed=lambda index: seeding.episode_seed(0, "opening", index),
            episodes=range(num_states),
            policy=exploring(lambda steps: 0.05),
        )
        return np.concatenate([step.observations.copy() for step in itertools.islice(rollout, num_states)])
    finally:
        environments.close()


def told(row: StateAttackRow) -> StateAttackRow:
    """The row with its share of flipped states spread evenly over them, so that the first ones have it too."""
    if not math.isfinite(row.flip_share):
        return row
    counts = np.floor(np.arange(row.num_states + 1) * row.flip_share + 1e-9)
    return replace(row, flipped=np.packbits(np.diff(counts) > 0).tobytes().hex())


def episode(**changes: object) -> EpisodeRow:
    """A row of one episode of Pong, with what is changed in it."""
    row = EpisodeRow(
        game="pong",
        agent="dqn",
        checkpoint_id="abc",
        train_seed=0,
        train_steps=1000,
        recipe_steps=1000,
        network="relu",
        recipe="atari-fast",
        protocol="nature",
        settings="{}",
        eval_seed=0,
        episode=0,
        episode_seed=1,
        score=10.0,
        length_steps=100,
        length_frames=400,
        truncated=False,
        max_q_mean=1.0,
        max_q=2.0,
        max_q_std=0.5,
        sim_steps=0,
        spikes_per_decision=0.0,
        layer_rates="[]",
    )
    return replace(row, **changes)  # type: ignore[arg-type]
