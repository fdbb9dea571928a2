"""No value on a command line ends badly: each is accepted, or refused in one line before any work.

Cases are made from the verbs and the commands' dataclasses. A new verb or option is covered without a change here.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import resource
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest

import core.cli
from core.ranges import Accepted, Whole, ranges
from spikeq.__main__ import VERBS
from tests.limits import limited

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = (
    "",
    "x",
    "nan",
    "inf",
    "-inf",
    "1_000",
    "٣",
    "0x10",
    "1e99999999",
    "1/0",
    "--",
    str(10**30),
    "9" * 5000,
)
"""Words that no number option accepts. Python would read some of them as numbers."""


class Case(NamedTuple):
    """One command of a verb."""

    verb: str
    words: tuple[str, ...]
    """The words after the verb that choose the command."""
    command: type

    def __str__(self) -> str:
        return " ".join([self.verb, *self.words])


@functools.cache
def commands() -> tuple[Case, ...]:
    """Every command of every verb."""

    def of(verb: str) -> Iterator[Case]:
        given: list[Any] = []
        main, core.cli.main = core.cli.main, lambda program, found, *rest: given.append(found)  # type: ignore[assignment]
        try:
            name = VERBS[verb].module
            sys.modules.pop(name if name in ("plot", "reproduce") else f"{name}.__main__", None)
            runpy.run_module(name, run_name="__main__")
        finally:
            core.cli.main = main
        (found,) = given
        if isinstance(found, Mapping):
            yield from (Case(verb, (word,), command) for word, command in found.items())
        else:
            yield Case(verb, (), found)

    return tuple(itertools.chain.from_iterable(map(of, VERBS)))


def parts(hint: Any) -> list[Any]:
    """A type and the types inside it."""
    inner = () if get_origin(hint) is Literal else get_args(hint)
    return [hint, *itertools.chain.from_iterable(map(parts, inner))]


def number_fields(options: type) -> list[str]:
    """Fields of a dataclass that hold integers or floats, whether or not they declare a range."""
    hints = get_type_hints(options, include_extras=True)
    names = [field.name for field in dataclasses.fields(options) if field.init]
    return [
        name
        for name in names
        if {int, float} & {part for part in parts(hints[name]) if isinstance(part, type)}
    ]


def takes_list(hint: Any) -> bool:
    if get_origin(hint) in (Annotated, Union, types.UnionType):
        return any(map(takes_list, get_args(hint)))
    return get_origin(hint) in (list, tuple)


def outside(accepted: Accepted) -> list[str]:
    """Numbers that lie outside a range."""
    least, most = accepted.range.least, accepted.range.most
    if isinstance(accepted.range, Whole):
        return [str(least - 1), str(most + 1), "1.5", str(-(2**63)), str(2**63)]
    return [repr(least - 1), repr(most * 2 + 1), "1e300", "-1e300"]


def refusal(case: Case, *words: str) -> str:
    """The one line with which a command refuses words."""
    found = {each.words: each.command for each in commands() if each.verb == case.verb}
    verbs = {words[0]: command for words, command in found.items() if words} or case.command
    before, sys.argv = sys.argv, [case.verb, *case.words, *words]
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            core.cli.main(case.verb, verbs)
    finally:
        sys.argv = before
    assert left.value.code == 2, words
    assert out.getvalue() == ""
    (line,) = err.getvalue().splitlines()
    assert line.startswith("error: ")
    assert len(line) < 400
    return line


def refused_values(case: Case, name: str) -> None:
    """Assert that a command refuses every bad value of a number option."""
    accepted = ranges(case.command)[name]
    option = f"--{name.replace('_', '-')}"
    for value in (*TEXTS, *outside(accepted)):
        for words in ((option, value), (f"{option}={value}",), (f"--{name}={value}",)):
            if value == "--" and len(words) == 2:
                continue  # a value is missing there
            line = refusal(case, *words)
            assert name in line or option in line, words
            assert "accepted is" in line or "a value is needed" in line, words


NUMBERS = [(case, name) for case in commands() for name in number_fields(case.command)]
LISTS = [
    (case, field.name)
    for case in commands()
    for field in dataclasses.fields(case.command)
    if takes_list(get_type_hints(case.command, include_extras=True)[field.name])
]


def test_the_verbs_have_the_options_that_are_known() -> None:
    """Lest the cases be none."""
    found = {(str(case), name) for case, name in NUMBERS}
    known = {
        ("train dqn", "seed"),
        ("attack states", "epsilon"),
        ("convert compare", "sim_steps"),
        ("reproduce", "jobs"),
    }
    assert known <= found
    assert {case.verb for case in commands()} == set(VERBS)
    assert len(NUMBERS) > 80


@pytest.mark.parametrize(("case", "name"), NUMBERS, ids=str)
def test_every_number_option_declares_its_range_and_refuses_what_is_outside(case: Case, name: str) -> None:
    assert name in ranges(case.command), f"{case}: declare what {name} accepts (core/ranges.py)"
    refused_values(case, name)


@pytest.mark.parametrize(("case", "name"), NUMBERS, ids=str)
def test_the_usual_value_of_an_option_is_in_its_range(case: Case, name: str) -> None:
    (field,) = (field for field in dataclasses.fields(case.command) if field.name == name)
    if field.default is not dataclasses.MISSING:
        ranges(case.command)[name].require(name, field.default)


@pytest.mark.parametrize(("case", "name"), LISTS, ids=str)
def test_a_list_without_a_value_is_refused(case: Case, name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    assert f"{name} has no value" in refusal(case, option)
    assert f"{name} has no value" in refusal(case, option, "--out", "x")


def test_values_are_refused_before_torch_is_imported() -> None:
    program = (
        "import sys; from tests.hostile.test_values import NUMBERS, refused_values\n"
        "assert 'torch' not in sys.modules, 'imported by the commands'\n"
        "for case, name in NUMBERS: refused_values(case, name)\n"
        "assert 'torch' not in sys.modules, 'imported by a refusal'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


# Whole commands --------------------------------------------------------------------------------------


def run(*words: object, most_bytes: int | None = None) -> "subprocess.CompletedProcess[str]":
    """A command as a user types it, with as much memory as the system grants it."""
    command = limited(most_bytes or resource.RLIM_INFINITY, "-m", "spikeq", *map(str, words))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run", "--agent", "random", "--game", "minatar/breakout", "--seed", 2**63),
        ("train", "dqn", "--game", "cartpole", "--threads", 1_000_000),
        ("attack", "run", "--agent", "random", "--game", "cartpole", "--epsilon", "1e99999999"),
        ("attack", "run", "--agent", "random", "--game", "cartpole", "--restarts", 10**9),
    ],
    ids=lambda words: " ".join(map(str, words[-2:])),
)
def test_the_worst_values_leave_nothing_behind(words: tuple[object, ...], tmp_path: Path) -> None:
    done = run(*words, "--out", tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert str(words[-1]) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_agent_whose_sim_steps_do_not_fit_is_refused_when_it_is_played(tmp_path: Path) -> None:
    """The file asks for as many as are accepted. `ulimit -v` makes this machine small."""
    import torch

    from core.checkpoint import save_agent
    from core.dsqn import DSQN
    from core.games import get_game
    from core.networks import NETWORKS

    provenance = {
        "train_seed": 0,
        "train_steps": 1,
        "recipe_steps": 1,
        "recipe": "atari-fast",
        "network": "chen2022",
    }
    file = tmp_path / "agent.safetensors"
    agent = NETWORKS["chen2022"].make(get_game("pong"), torch.Generator().manual_seed(0))
    assert isinstance(agent, DSQN)
    agent.spiking = dataclasses.replace(agent.spiking, sim_steps=10_000)
    save_agent(file, agent, {**provenance, "scores_are_q_values": True})
    words = ("--agent", file, "--episodes", 1000, "--num-envs", 1024, "--out", tmp_path / "out")
    done = run("evaluate", "run", *words, most_bytes=12 * 2**30)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "sim_steps of the agent is 10000" in done.stderr
    assert "would fit" in done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_states_that_do_not_fit_are_refused_with_a_number_that_would(tmp_path: Path) -> None:
    victim = REPOSITORY / "results" / "agents" / "pong-dqn-s0.safetensors"
    words = ("--agent", victim, "--attack", "random-sign", "--states", 10**6)
    done = run("attack", "states", *words, "--out", tmp_path / "out", most_bytes=12 * 2**30)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "states is 1000000" in done.stderr
    assert "would fit" in done.stderr
    assert list(tmp_path.iterdir()) == []
