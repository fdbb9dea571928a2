"""Whatever a file holds, reading it ends in one refusal that names it: no traceback, no hang, no gigabytes."""

import bz2
import gzip
import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from analysis.check import findings
from analysis.drawn import Drawn
from card.check import is_checked
from card.files import CARD, read_card
from convert import foreign_files
from core import seeding
from core.checkpoint import load_agent, save_agent
from core.columns import rules
from core.dqn import DQN
from core.errors import Refusal
from core.games import get_game
from core.manifest import read_manifest
from core.networks import NETWORKS
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.reading import MAX_JSON_BYTES, parse_json, read_json
from core.records import MAX_ROWS, read_rows, write_rows
from core.rows import AttackRow, EpisodeRow, ResponseRow, StateAttackRow, schema
from studies.reading import read_study
from tests.conftest import Command, episode
from tests.hostile.mutations import DEEP, LONG, to_text, unsealed

GAME = get_game("cartpole")
PROVENANCE: dict[str, Any] = {
    **{"train_seed": 0, "train_steps": 10, "recipe_steps": 100, "recipe": "minatar-fast"},
    **{"network": "relu", "scores_are_q_values": True},
}


def refused(work: Callable[[], object], path: Path, *words: str) -> None:
    with pytest.raises(Refusal) as caught:
        work()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len(message) < 600
    for word in words:
        assert word in message


# JSON ------------------------------------------------------------------------------------------------

BAD_JSON = {
    "no UTF-8": b'{"a": "\xff"}',
    "no JSON": b'{"a": ',
    "nothing": b"",
    "nested deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested a little too deep": b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}",
    "a number of 5,000 digits": b'{"a": ' + b"7" * 5000 + b"}",
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "half a surrogate pair in a key": b'{"\\udfff": 1}',
    "a key twice": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "a number beyond floats": b'{"a": 1e400}',
    "a list": b"[1, 2]",
    "null": b"null",
}


@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    refused(lambda: read_json(path, "a list of things"), path, "is not a list of things")


def test_numbers_that_are_not_finite_are_read_where_they_are_accepted() -> None:
    assert parse_json('{"a": -Infinity}', not_finite=True) == {"a": -np.inf}
    assert parse_json("[1, 2]", list) == [1, 2]
    assert parse_json('{"a": 340282366920938463463374607431768211455}') == {"a": 2**128 - 1}


def test_json_of_any_size_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    refused(lambda: read_json(path, "a card"), path, f"more than {MAX_JSON_BYTES:,} bytes")


JSON_FILES: dict[str, Callable[[Path], object]] = {
    "manifest.json": lambda folder: read_manifest(folder / "manifest.json"),
    "card.json": lambda folder: read_card(folder / CARD),
    "plot.json": Drawn,
}


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", BAD_JSON.values(), ids=BAD_JSON)
def test_every_file_of_json(name: str, content: bytes, tmp_path: Path) -> None:
    if name == "manifest.json" and (b"NaN" in content or b"1e400" in content):
        pytest.skip("specifications may hold numbers that are not finite")
    path = tmp_path / name
    path.write_bytes(content)
    refused(lambda: JSON_FILES[name](tmp_path), path)


@pytest.mark.parametrize("content", [*BAD_JSON.values(), b"{}", b'{"card_sha256": 1, "episodes": "x"}'])
def test_a_bad_record_of_a_check_is_no_check(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("{}")
    (tmp_path / "check.json").write_bytes(content)
    assert is_checked(tmp_path / CARD) == 0


@pytest.mark.parametrize(
    "change",
    [
        *({"command": "x"}, {"command": [1]}, {"command": []}, {"format": 3}, {"outputs": {"a.parquet": 1}}),
        *({"outputs": []}, {"spec": None}, {"extensions": {"a": []}}, {"extensions": 3}),
    ],
    ids=str,
)
def test_a_manifest_with_values_of_a_wrong_type(change: dict[str, Any], tmp_path: Path) -> None:
    whole = {"spec": {}, "outputs": {}, "command": ["x"], "format": "", "versions": {}, "extensions": {}}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(whole))
    assert read_manifest(path) is not None
    path.write_text(json.dumps({**whole, **change}))
    refused(lambda: read_manifest(path), path)


# Agents ----------------------------------------------------------------------------------------------


def an_agent(kind: str) -> Any:
    generator = seeding.torch_generator(0, "weights")
    if kind not in ("rate-coded", "quantised"):
        return NETWORKS["relu" if kind == "dqn" else "chen2022"].make(GAME, generator)
    network = RateCodedNetwork(GAME, RateCoding(8))
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, generator=generator)
    return network if kind == "rate-coded" else network.quantised()


def described(path: Path) -> tuple[dict[str, Any], bytes]:
    """The description in a safetensors file, and its tensors' bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(path: Path, description: Any, data: bytes) -> None:
    header = to_text(description).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def altered(path: Path, place: str, value: Any) -> None:
    """Set a value in the header of an agent's file, at keys separated by dots."""
    description, data = described(path)
    header = json.loads(description["__metadata__"]["spikeq"])
    *keys, last = place.split(".")
    inner = header
    for key in keys:
        inner = inner[key]
    inner[last] = value
    description["__metadata__"] = {"spikeq": to_text(header)}
    write(path, description, data)


HEADERS: list[tuple[str, str, Any]] = [
    *(
        ("dqn", f"provenance.{name}", value)
        for name in PROVENANCE
        for value in (None, [], DEEP, LONG, {"a": 1})
    ),
    *(("dqn", f"provenance.{name}", True) for name in PROVENANCE if name != "scores_are_q_values"),
    *(("dqn", "provenance.train_seed", value) for value in (10**30, 2**63, -2, "0", 0.5, 1e300)),
    *(("dqn", "provenance.train_steps", value) for value in (10**30, -2, True)),
    *(("dqn", "provenance.recipe", value) for value in ("\ud800", "a\nb", "x" * 100_000, 3)),
    *(("dqn", "provenance.conversion", value) for value in (3, "x", [], {"method": 3})),
    *(
        ("dqn", entry, value)
        for entry in ("kind", "game", "config", "provenance")
        for value in (None, 3, [], "x")
    ),
    *(("dqn", "format", value) for value in (None, "1", 10**400, [])),
    *(("dqn", "config.bias", value) for value in ("yes", 1, None, [])),
    *(("dqn", "config.padding", value) for value in (1, None, "x", [])),
    *(("dqn", "config.layers", value) for value in (3, "x", "9" * 5000, "512 " * 1000, "65536 " * 30, [])),
    ("dqn", "config.hidden", [512]),
    ("dqn", "config.self", 1),
    ("dqn", "config.unknown", 1),
    *(("quantised", "config.v_init", value) for value in (float("nan"), -1, 1, "x", 10**400, None)),
    *(("quantised", "config.image_bits", value) for value in ("8", -5, 25, 8.0, True, 10**30)),
    *(("quantised", "config.levels", value) for value in (0, 10**30, "8", True, None)),
    *(
        ("dsqn", "config.spiking", value)
        for value in (None, 3, [], {}, {"neuron": 1, "sim_steps": 1, "readout": 1})
    ),
    *(("dsqn", "config.spiking.neuron.tau", value) for value in (10**400, float("nan"), "2", 0, None, True)),
    *(("dsqn", "config.spiking.sim_steps", value) for value in (10**30, 0, "8", True, 10_001)),
    *(("dsqn", "config.spiking.readout", value) for value in (3, "x", None, {"name": []})),
    *(
        ("rate-coded", "config.coding", value)
        for value in (None, 3, [], {"neuron": 3}, {"neuron": {"tau": "x"}})
    ),
    *(("rate-coded", "config.coding.image_bits", value) for value in ("8", -5, 25, 1.5)),
    *(("rate-coded", "config.coding.presteps", value) for value in ("8", -5, 1.5, True)),
    *(("rate-coded", "config.coding.residual_alpha", value) for value in ("8", -5, float("nan"), 10**400)),
    *(("rate-coded", "config.coding.layer_delay", value) for value in ("yes", 1, None)),
]


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("agents") / "agent.safetensors"
    contents = {}
    for kind in ("dqn", "quantised", "dsqn", "rate-coded"):
        save_agent(path, an_agent(kind), PROVENANCE)
        path.write_bytes(unsealed(path.read_bytes()))  # otherwise each change would be refused for the digest
        load_agent(path)
        contents[kind] = path.read_bytes()
    return contents


@pytest.mark.parametrize(("kind", "place", "value"), HEADERS)
def test_headers_of_agents(
    kind: str, place: str, value: Any, agents: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(agents[kind])
    altered(path, place, value)
    refused(lambda: load_agent(path), path)


TENSORS: dict[str, Callable[[dict[str, Any]], None]] = {
    **{
        kind: lambda weight, kind=kind: weight.update(dtype=kind)  # type: ignore[misc]
        for kind in ("F8_E8M0", "C64", "F4", "F8_E5M2", "I64", "U8", "BOOL", "U64", "x", 3, None)
    },
    "a huge shape": lambda weight: weight.update(shape=[2**62, 4]),
    "a shape beyond 64 bits": lambda weight: weight.update(shape=[2**70]),
    "a negative shape": lambda weight: weight.update(shape=[-1, 4]),
    "a shape that is none": lambda weight: weight.update(shape="x"),
    "offsets beyond the end": lambda weight: weight.update(data_offsets=[0, 2**62]),
    "offsets that are none": lambda weight: weight.update(data_offsets=None),
    "nothing": lambda weight: weight.clear(),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=map(str, TENSORS))
def test_tensors_of_agents(
    change: Callable[[dict[str, Any]], None], agents: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(agents["dqn"])
    description, data = described(path)
    change(description["layers.0.weight"])
    write(path, description, data)
    refused(lambda: load_agent(path), path)


@pytest.mark.parametrize("header", [DEEP, LONG, "[]", "3", '{"__metadata__": 3}', '{"a": 3}', "{}"])
def test_descriptions_of_agents(header: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    content = header.removeprefix("raw-json:").encode()
    for size in (len(content), 2**63, 2**40):
        path.write_bytes(struct.pack("<Q", size) + content)
        refused(lambda: load_agent(path), path)


def test_an_agent_of_any_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)
    refused(lambda: load_agent(path), path, "are read")


def test_layers_that_would_fill_the_memory(tmp_path: Path) -> None:
    """Sixteen maps of 65,536 channels with one weight for each, behind maps of one channel."""
    path = tmp_path / "agent.safetensors"
    save_agent(path, DQN(get_game("pong")), PROVENANCE)
    path.write_bytes(unsealed(path.read_bytes()))
    altered(path, "config.layers", " ".join(["65536c1s1 1c1s1"] * 16))
    refused(lambda: load_agent(path), path, "neurons are accepted")


@pytest.mark.parametrize("place", ["provenance.train_seed", "config.bias"])
def test_nothing_is_left_of_a_command_whose_agent_is_refused(
    place: str, agents: dict[str, bytes], command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(agents["dqn"])
    altered(path, place, 10**30)
    out = tmp_path / "out"
    for words in (
        ("evaluate", "run", "--out", out),
        ("evaluate", "probe", "--out", out),
        ("convert", "run", "--out", out / "snn.safetensors"),
        ("convert", "compare", "--out", out),
        ("convert", "export", "--out", out / "snn.nir"),
        ("adversarial", "run", "--out", out),
        ("adversarial", "states", "--out", out),
    ):
        finished = command(*words, "--agent", path)
        assert finished.code == 2, words
        assert len(finished.err.splitlines()) == 1
        assert [*tmp_path.iterdir()] == [path]


# Rows ------------------------------------------------------------------------------------------------

ATTACK = AttackRow(
    **vars(episode()),
    **{"attack": "fgsm", "epsilon": 0.1, "gradient_source": "own", "threat": '{"attack": "fgsm"}'},  # type: ignore[arg-type]
    **{"flip_share": 0.5, "zero_gradient_share": 0.0, "largest_perturbation": 0.1},  # type: ignore[arg-type]
)
BAD_VALUES: list[tuple[str, Any]] = [
    *(
        ("settings", text)
        for text in ("", "x", "[]", "3", '{"protocol": 3}', '{"versions": []}', '{"a": 1, "a": 2}')
    ),
    *(("threat", text) for text in ("", "x", "[]", '{"steps": "8"}', '{"attack": 1}', '{"surrogate": []}')),
    *(("layer_rates", text) for text in ("", "x", "{}", "3", '["x"]', "[[1]]", "[true]")),
    *(("layer_rates", text) for text in ("[" * 30_000, "[" + "7" * 5000 + "]", "[" + "0," * 40_000 + "0]")),
    *(("length_steps", value) for value in (0, -1, 2**60)),
    *(("episode", value) for value in (-1, 2**60)),
    *(("train_seed", value) for value in (-2, -(2**63))),
    *(("agent", text) for text in ("a\nb", "x" * 1000, "\x1b[31m")),
    *(("checkpoint", text) for text in ("worst", "x", "Best")),
    *(("game", text) for text in ("\0", "x" * 70_000)),
]


@pytest.mark.parametrize(("column", "value"), BAD_VALUES)
def test_values_of_rows(column: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "attacks.parquet"
    write_rows(path, AttackRow, [ATTACK])
    read_rows(path, AttackRow)
    write_rows(path, AttackRow, [ATTACK, replace(ATTACK, **{column: value})])
    refused(lambda: read_rows(path, AttackRow), path, column, "in row 1")
    assert any(column in line for line in findings(tmp_path))


def test_every_column_of_text_or_count_has_a_rule() -> None:
    """Another column declares what it accepts on the day it is added."""
    for row_type in (EpisodeRow, AttackRow, StateAttackRow, ResponseRow):
        kinds = {field.name: field.type for field in schema(row_type)}
        open_ones = {name for name, kind in kinds.items() if kind in (pa.string(), pa.int64())}
        assert open_ones <= rules(row_type).keys()


def test_a_number_of_an_episode_allocates_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "episodes.parquet", EpisodeRow, [episode(), episode(episode=2**40)])
    tracemalloc.start()
    found = list(findings(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert any(f"missing episode 1 ({2**40 - 1} in all)" in line for line in found)


def test_missing_values_and_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    table = pa.Table.from_pylist([vars(episode())], schema=schema(EpisodeRow))
    for name in table.column_names:
        at = table.column_names.index(name)
        kind = table.schema.field(name).type
        missing = table.set_column(at, pa.field(name, kind), [pa.array([None], kind)])
        pq.write_table(missing, path)
        refused(lambda: read_rows(path, EpisodeRow), path)
        pq.write_table(table.set_column(at, name, [pa.array([b"x"])]), path)
        refused(lambda: read_rows(path, EpisodeRow), path)


def test_millions_of_equal_rows(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    table = pa.Table.from_pylist([vars(episode())], schema=schema(EpisodeRow))
    with pq.ParquetWriter(path, table.schema) as writer:
        many = table.take(pa.array(np.zeros(MAX_ROWS // 4 + 1, dtype=np.int64)))
        for _ in range(4):
            writer.write_table(many)
    assert path.stat().st_size < 2**22
    refused(lambda: read_rows(path, EpisodeRow), path, "rows: at most")


def test_a_long_text_once_for_many_rows(tmp_path: Path) -> None:
    """A dictionary in the file holds it once. Decoded for every row it would take 10 GB."""
    path = tmp_path / "episodes.parquet"
    rows = [vars(episode(network="x" * 10**6))]
    table = pa.Table.from_pylist(rows, schema=schema(EpisodeRow))
    table = table.take(pa.array(np.zeros(10, dtype=np.int64)))
    pq.write_table(pa.concat_tables([table] * 1000), path, use_dictionary=True)
    refused(lambda: read_rows(path, EpisodeRow), path, "network")


# Archives --------------------------------------------------------------------------------------------


def a_zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def an_array(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return a_zip({"a.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data})


def array_of(shape: str, kind: str = "<f4") -> bytes:
    return an_array(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}")


def claimed(new: bool, numel: int) -> bytes:
    """A torch file whose only storage says that it has so many numbers, and has 10."""
    sink = io.BytesIO()
    torch.save({"a": torch.zeros(10)}, sink, _use_new_zipfile_serialization=new)
    pattern, content = b"K\n" + (b"t" if new else b"Nt"), sink.getvalue()
    number = b"\x8a\x06" + struct.pack("<Q", numel)[:6]
    if not new:
        assert pattern in content
        return content.replace(pattern, number + pattern[2:], 1)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith("data.pkl"))
    assert pattern in members[name]
    return a_zip({**members, name: members[name].replace(pattern, number + pattern[2:], 1)})


def overlapping() -> bytes:
    """A zip with a member for each of 100,000 entries, all of the same bytes."""
    sink = io.BytesIO(a_zip({"archive/data.pkl": bytes(1000)}))
    content = sink.getvalue()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start:end]
    many = entry * 100_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(many), start, 0)
    return content[:start] + many + tail


ZEROS = bytes(2**28)
ARCHIVES: dict[str, Callable[[], bytes]] = {
    "bz2 in a zip": lambda: a_zip({"policy.pth": ZEROS}, zipfile.ZIP_BZIP2),
    "lzma in a zip": lambda: a_zip({"policy.pth": ZEROS}, zipfile.ZIP_LZMA),
    "bz2 beside an array": lambda: a_zip({"a.npy": bytes(100), "b.npy": ZEROS}, zipfile.ZIP_BZIP2),
    "deflated in a zip": lambda: a_zip({"policy.pth": ZEROS}, zipfile.ZIP_DEFLATED),
    "data in a zip": lambda: a_zip({"policy.pth": b"x", "data": ZEROS}, zipfile.ZIP_DEFLATED),
    "gzip": lambda: gzip.compress(ZEROS, 1),
    "gzip of a zip": lambda: gzip.compress(a_zip({"policy.pth": ZEROS}, zipfile.ZIP_DEFLATED)),
    "zip in a zip": lambda: a_zip({"policy.pth": a_zip({"x/data.pkl": ZEROS}, zipfile.ZIP_DEFLATED)}),
    "many members": overlapping,
    "a member twice": lambda: a_zip({"a/data.pkl": b"1"})[:-22] + a_zip({"a/data.pkl": b"1"}),
    "a bare bz2": lambda: bz2.compress(ZEROS),
    "an array of terabytes": lambda: array_of("(1000000, 1000000)"),
    "an array beyond 64 bits": lambda: array_of("(" + "9" * 30 + ",)"),
    "an array without end": lambda: array_of("(" + "9" * 18 + ",)", "|V0"),
    "an array of empty texts": lambda: array_of("(" + "9" * 18 + ",)", "|S0"),
    "an array of a negative size": lambda: array_of("(-4,)"),
    "an array of objects": lambda: array_of("(4,)", "|O"),
    "a header of nested lists": lambda: an_array("[" * 100),
    "a header that is no dictionary": lambda: an_array("3"),
    "numbers claimed, old format": lambda: claimed(False, 2**35),
    "numbers claimed, new format": lambda: claimed(True, 2**35),
    "too few numbers claimed": lambda: claimed(True, 1),
}

WATCHED = """
import resource, sys
from convert import foreign, foreign_files
from core.errors import Refusal
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**29, size + 2**29))
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        foreign.recognise(foreign_files.read(path))
        print("read")
    except Refusal as refusal:
        print("refused", path in str(refusal), len(str(refusal).splitlines()))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 20, path
    assert after.ru_maxrss - before.ru_maxrss < 2**18, path
"""


def test_archives_that_unpack_to_gigabytes_or_never_end(tmp_path: Path) -> None:
    """All in one process with a limit of memory, because it takes long to start."""
    paths = []
    for number, make in enumerate(ARCHIVES.values()):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, paths)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    told = dict(zip(ARCHIVES, done.stdout.splitlines(), strict=False))
    assert told == dict.fromkeys(ARCHIVES, "refused True 1"), done.stderr[-2000:]


def test_a_zip_that_readers_take_for_two_different_ones_is_read_as_it_was_checked(tmp_path: Path) -> None:
    """Python looks for the list of members before the end, torch where the end says that it is."""
    good, bad = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.ones(3)}, good)
    torch.save({"a": torch.zeros(3)}, bad)
    path = tmp_path / "weights.pt"
    path.write_bytes(bad.getvalue() + good.getvalue())
    assert torch.equal(foreign_files.read(path).held["a"], torch.ones(3))


# Studies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"a = " + b"[" * 100_000,
        b"a = " + b"7" * 10_000,
        b"a." * 5_000 + b"b = 1",
        b"train_seeds = " + b"[" * 60 + b"]" * 60,
        b'a = "\x00"',
        b"a = 1\na = 2",
        b"train_seeds = [1e400]\nevaluation_seed = 1\nthreads = 1\ncheckpoint = 'best'\ngames = 3",
        b"",
    ],
    ids=lambda content: str(content[:20]),
)
def test_studies(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    refused(lambda: read_study(path), path)


# All together ----------------------------------------------------------------------------------------


def test_fifty_mutations() -> None:
    """`make fuzz` makes 2,000. A process of its own makes them: forks of this one would lack torch's threads."""
    command = [sys.executable, "-m", "tests.hostile.fuzz", "--mutations", "50", "--seed", "1", "--verbose"]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 mutations: 0 tracebacks, 0 hangs, 0 memory" in done.stdout
