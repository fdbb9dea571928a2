"""What a wrong command line or a broken system is answered with: one line that says what and where, exit code 2.

Command lines are made from the options of every verb, so that a new verb or option is covered when it is written.
"""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import core.cli
from core.cli import LONGEST
from core.errors import Refusal
from core.manifest import Manifest
from core.ranges import _takes_list
from core.words import nearest
from core.wrong_options import _options
from spikeq.__main__ import VERBS
from tests.conftest import AGENTS
from tests.test_docs import command_line_of
from train_direct.__main__ import Ship

REPOSITORY = Path(__file__).resolve().parents[2]
AGENT = AGENTS / "minatar-breakout-dsqn-s0.safetensors"


class Typed(NamedTuple):
    """A command of a verb, as it is typed."""

    whole: str
    words: tuple[str, ...]
    """The words before its options, without the program."""
    command: type
    program: str
    given: Any
    """What `core.cli.main` is given."""


def typed() -> dict[str, Typed]:
    """Every command of every verb."""
    found = {}
    for verb in VERBS.values():
        module = f"{verb.module}.py" if (REPOSITORY / f"{verb.module}.py").exists() else verb.module
        program, given = command_line_of(module)
        commands = given if isinstance(given, Mapping) else {"": given}
        for name, command in commands.items():
            whole = f"{program} {name}".strip()
            found[whole] = Typed(whole, (name,) if name else (), command, program, given)
    return found


TYPED = typed()
LISTS = [
    (whole, option)
    for whole, each in TYPED.items()
    for option, hint in _options(each.command)
    if _takes_list(hint) and option not in ("--folder", "--folders")
]
"""Options that take any number of values."""
Answer = Callable[..., str]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Answer:
    """The line with which a command refuses its options. The words that it needs are given besides."""

    def refused(each: Typed, *options: str, needed: bool = True) -> str:
        needs: list[str] = []
        for option in fields(each.command) if needed else ():
            name = f"--{option.name.replace('_', '-')}"
            if option.default is MISSING and option.default_factory is MISSING and name not in options:
                positional = option.name in ("folder", "folders", "study")
                needs += ["x"] if positional else [name, "x"]
        monkeypatch.setattr(sys, "argv", [each.program, *each.words, *needs, *options])
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            core.cli.main(each.program, each.given)
        said = capsys.readouterr()
        assert (left.value.code, said.out) == (2, "")
        assert said.err.count("\n") == 1
        assert said.err.startswith("error: ")
        assert len(said.err) <= LONGEST + 1
        assert list(tmp_path.iterdir()) == []
        return said.err.strip()

    return refused


@pytest.mark.parametrize("whole", TYPED)
def test_an_unknown_option_is_named_once_with_the_whole_command(whole: str, answer: Answer) -> None:
    line = answer(TYPED[whole], "--no-such-thing")
    fields_too = (
        "--set FIELD=VALUE sets other fields; " if "--set" in dict(_options(TYPED[whole].command)) else ""
    )
    assert (
        line == f"error: {whole}: no such option: --no-such-thing; {fields_too}--help lists what is accepted"
    )


@pytest.mark.parametrize(
    "whole", [whole for whole, each in TYPED.items() if "--out" in dict(_options(each.command))]
)
def test_a_slip_is_suggested(whole: str, answer: Answer) -> None:
    assert "no such option: --otu x; did you mean '--out'?" in answer(TYPED[whole], "--otu", "x")


@pytest.mark.parametrize("whole", TYPED)
def test_what_is_missing_is_named(whole: str, answer: Answer) -> None:
    needed = [
        option.name
        for option in fields(TYPED[whole].command)
        if option.default is MISSING and option.default_factory is MISSING
    ]
    if needed and "folder" not in needed:  # of which any number is accepted
        line = answer(TYPED[whole], needed=False)
        assert f"{whole}: " in line
        assert " must be given" in line
        assert all(name.replace("_", "-") in line.lower() for name in needed)


@pytest.mark.parametrize(("whole", "option"), LISTS, ids=" ".join)
def test_a_list_without_values_is_refused(whole: str, option: str, answer: Answer) -> None:
    name = option.removeprefix("--").replace("-", "_")
    assert answer(TYPED[whole], option).startswith(f"error: {name} has no value: ")


@pytest.mark.parametrize("program", {each.program: each for each in TYPED.values() if each.words})
def test_an_unknown_verb_suggests_the_nearest(program: str, answer: Answer) -> None:
    each = next(each for each in TYPED.values() if each.program == program)
    verbs = ", ".join(each.given)
    verb = next(iter(each.given))
    line = answer(each._replace(words=(f"{verb}z",)), needed=False)
    assert f"{program}: no verb '{verb}z': did you mean '{verb}'? verbs are {verbs}" in line
    assert f"{program}: a verb is needed: verbs are {verbs}" in answer(each._replace(words=()), needed=False)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("minatar/tetris", ""),
        ("minatar/brekout", "minatar/breakout"),
        ("brekout", "breakout"),
        ("asterix", "minatar/asterix"),
        ("pnog", "pong"),
        ("--bogus", ""),
        ("--sed", "--seed"),
    ],
)
def test_suggestions_are_near(name: str, suggested: str) -> None:
    accepted = ("minatar/asterix", "minatar/breakout", "breakout", "pong", "tennis", "--out", "--seed")
    assert nearest(name, accepted) == (f"did you mean {suggested!r}? " if suggested else "")


def run(*words: str | bytes, cwd: Path, stdout: int | None = None) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "spikeq", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""}
    out = subprocess.PIPE if stdout is None else stdout
    return subprocess.run(command, cwd=cwd, env=environment, stdout=out, stderr=subprocess.PIPE)


def test_a_long_message_keeps_its_begin_and_its_end(tmp_path: Path) -> None:
    done = run("evaluate", "run", "--agent", "x" * 3000, "--out", "rows", cwd=tmp_path)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, LONGEST - len(line) < 2) == (2, True)
    assert line.startswith("error: ")
    assert " ... " in line


def test_a_full_disk_names_what_was_written(tmp_path: Path) -> None:
    """/dev/full is a disk that is full."""
    with open("/dev/full", "wb") as full:
        done = run(
            "evaluate", "check", str(REPOSITORY / "results" / "decoders"), cwd=tmp_path, stdout=full.fileno()
        )
    assert done.stderr == b"error: standard output: No space left on device\n"
    assert done.returncode == 2
    code = (
        "import resource, signal, sys\n"
        "from core.records import write_bytes\n"
        "from core.cli import _exit_with_refusals\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "_exit_with_refusals(lambda: write_bytes('rows.parquet', bytes(2000)))\n"
    )
    limited = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True
    )
    assert (limited.returncode, limited.stderr) == (2, b"error: rows.parquet: File too large\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes could write the same files there. No such file system can be had in a test."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(Refusal, match=r"new cannot be locked \(.*\): a file system with flock is needed"),
        Manifest(tmp_path / "new" / "manifest.json", {}, []).work(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("evaluate", "run", "--agent", b"\xff", "--out", "rows"), 2),
        (("evaluate", "run", "--agent", "random", "--game", b"\xff", "--out", "rows"), 2),
        (("evaluate", b"\xff"), 2),
        ((b"\xff",), 2),
        (("reproduce", b"\xff.toml"), 2),
        (("plot", b"\xff"), 2),
        (("card", "--check", b"\xff"), 2),
        (("convert", "import", "--source", b"\xff", "--game", "pong", "--out", "a.safetensors"), 2),
        (("train", "dqn", "--game", "cartpole", "--set", b"\xff=1", "--out", "run"), 2),
        (("train", "ship", "--agent", str(AGENT), "--out", b"\xff.safetensors"), 0),
    ],
    ids=lambda value: (
        b" ".join(os.fsencode(word) for word in value).decode(errors="replace")[:40]
        if isinstance(value, tuple)
        else ""
    ),
)
def test_names_that_are_no_utf_8(words: tuple[str | bytes, ...], code: int, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == (code == 2)
    if code == 0:
        assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


@pytest.mark.parametrize(
    "whole", [whole for whole, each in TYPED.items() if "--out" in dict(_options(each.command))]
)
def test_an_out_below_a_file_is_refused_before_anything_is_read(
    whole: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    each = TYPED[whole]
    (tmp_path / "file").write_text("mine")
    words: list[str] = []
    for option in fields(each.command):
        if option.default is MISSING and option.default_factory is MISSING and option.name != "out":
            value = {"game": "cartpole"}.get(option.name, "missing")
            words += [value] if option.name in ("folder", "study") else [f"--{option.name}", value]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [each.program, *each.words, *words, "--out", "file/below"])
    with pytest.raises(SystemExit):
        core.cli.main(each.program, each.given)
    assert "error: cannot write to file/below: file is not a folder" in capsys.readouterr().err


def test_shipping_again_says_that_it_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small.safetensors"
    again = Ship(agent=AGENT, out=small)
    again.run()
    assert "MiB" in capsys.readouterr().out
    before = small.read_bytes()
    again.run()
    assert capsys.readouterr().out == f"{small}: already done\n"
    with pytest.raises(Refusal, match="exists"):
        Ship(agent=AGENTS / "minatar-breakout-dqn-s0.safetensors", out=small).run()
    assert small.read_bytes() == before
    small.write_bytes(b"mine")
    with pytest.raises(Refusal, match="exists"):
        again.run()
    assert small.read_bytes() == b"mine"
