"""Files that are fuzzed: how each is made, how it is mutated, and the code of commands that reads it."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from adversarial.threat import Threat
from analysis.check import findings
from analysis.drawing import draw
from analysis.drawn import Drawn
from analysis.report.page import page_of
from analysis.report.provenance import works
from analysis.rows import ATTACKS, CONVERSIONS, EPISODES, ROW_FILES, STATE_ATTACKS, RowFiles
from analysis.verdict import verdict_of
from card.check import check, is_checked
from card.files import CARD
from card.standings import leaderboard
from convert import foreign, foreign_files
from core import seeding
from core.checkpoint import load_agent, save_agent
from core.cli import parse
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest, read_manifest
from core.networks import NETWORKS
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.reading import read_json
from core.records import digest, read_rows
from core.rows import AttackRow, StateAttackRow
from studies.checking import require_accepted
from studies.planning import plan
from studies.reading import read_study
from tests.hostile.mutations import (
    BYTES,
    Mutation,
    json_edit,
    members_edit,
    rows_edit,
    tensor_file_edit,
    toml_edit,
    unsealed,
)
from train_direct.__main__ import Dqn
from train_direct.run import TrainingRun

RESULTS = Path(__file__).resolve().parents[2] / "results"
SHIPPED = ("attacked", "cartpole", "decoders", "precision", "trained")
"""Folders of shipped results."""
PROVENANCE = {
    **{"train_seed": 0, "train_steps": 10, "recipe_steps": 100, "recipe": "minatar-fast"},
    **{"network": "relu", "scores_are_q_values": True},
}


@dataclass(frozen=True)
class Target:
    """A file in a folder, and how it is read."""

    name: str
    file: str
    """The file that is mutated, from the folder."""
    make: Callable[[Path], object]
    """Writes the files into an empty folder."""
    read: Callable[[Path], str]
    """Reads them as commands do; all that they yield, as text."""
    edit: Mutation
    """A mutation that knows the format. All files are mutated byte by byte too."""
    share: float
    """Share of the mutations."""
    has_digest: bool = True
    """Whether a change that is read without a word is a fault. In a text that people write, any number is legal."""

    mutations: ClassVar[Sequence[Mutation]] = BYTES

    def mutate(self, content: bytes, rng: random.Random) -> bytes:
        """The content with one mutation."""
        mutation = self.edit if rng.random() < 0.6 else rng.choice(self.mutations)
        return mutation(content, rng)


# Agents ----------------------------------------------------------------------------------------------


def _agent(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        game = get_game("cartpole")
        generator = seeding.torch_generator(0, "weights")
        if kind in ("rate-coded", "quantised"):
            network = RateCodedNetwork(game, RateCoding(8))
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.uniform_(-0.1, 0.1, generator=generator)
            agent: Any = network if kind == "rate-coded" else network.quantised()
        else:
            agent = NETWORKS[kind].make(game, generator)
        save_agent(folder / "agent.safetensors", agent, PROVENANCE)

    return make


def _read_agent(folder: Path) -> str:
    checkpoint = load_agent(folder / "agent.safetensors")
    agent = checkpoint.agent
    weights = {name: digest(tensor.numpy().tobytes()) for name, tensor in agent.state_dict().items()}
    decision = agent.decide(torch.zeros(2, *agent.game.observation_shape))
    assert decision.scores.shape == (2, agent.game.num_actions)
    told = (agent.kind, agent.game.name, agent.config(), checkpoint.provenance, checkpoint.columns)
    return repr((weights, *told[:-1], {**told[-1], "checkpoint_id": ""}))


def _older(file: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        make(folder)
        (folder / file).write_bytes(unsealed((folder / file).read_bytes()))

    return made


# Training states -------------------------------------------------------------------------------------

_RUN = (
    *("--game", "cartpole", "--recipe", "tutorial", "--total-steps", "100000", "--threads", "1"),
    *("--eval-episodes", "1", "--eval-interval-steps", "90000", "--checkpoint-interval-steps", "500"),
    *("--warmup-steps", "100", "--replay-steps", "1000", "--out", "run"),
)


def _make_state(folder: Path) -> None:
    command = [sys.executable, "-m", "train_direct", "dqn", *_RUN]
    paths = {"PYTHONPATH": str(RESULTS.parent)}
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **paths}, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "run" / "state.safetensors").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()
    shutil.rmtree(folder / "run" / "tensorboard")


class _Restored(Exception):
    """A run was restored; it is not continued."""


def _read_state(folder: Path) -> str:
    found = ""

    def stop(run: TrainingRun) -> None:
        nonlocal found
        tensors, values = run._algorithm.state()
        told = {
            name: value for name, value in vars(run).items() if isinstance(value, (int, float, str, list))
        }
        weights = {
            name: digest(tensor.detach().contiguous().numpy().tobytes()) for name, tensor in tensors.items()
        }
        found = repr((weights, values, sorted(told.items())))
        run._algorithm.close()
        run._board.close()
        raise _Restored

    run: Any = TrainingRun
    before, run.run = run.run, stop
    try:
        with contextlib.suppress(_Restored):
            parse("train_direct dqn", Dqn, _RUN).run()
    finally:
        run.run = before
    return found


# Rows, manifests and cards ---------------------------------------------------------------------------


def _rows_of(row_type: type) -> tuple[Path, Path]:
    """The smallest shipped file of a type of rows, and its manifest."""
    (files,) = [each for each in ROW_FILES if each.row_type is row_type][:1]
    # Other folders in results/ are of studies that were run here.
    shipped = (path for name in SHIPPED for path in (RESULTS / name).rglob(files.pattern))
    found = sorted(shipped, key=lambda path: (path.stat().st_size, path))
    path = next(path for path in found if path.stat().st_size > 1000)
    manifests = sorted(path.parent.glob("*manifest.json"))
    return path, next(each for each in manifests if path.name in read_json(each, "a manifest")["outputs"])


def _make_rows(row_type: type) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        target = folder / "study" / "game" / "run"
        target.mkdir(parents=True)
        path, manifest = _rows_of(row_type)
        shutil.copy(path, target / path.name)
        shutil.copy(manifest, target / manifest.name)

    return make


def _drawn(study: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        draw([str(study)], study / "drawn")


def _checked(study: Path) -> None:
    found = [line for line in findings(study) if "was changed after" in line]
    if found:
        raise Refusal(found[0])


READERS: Mapping[str, tuple[Callable[[Path], object], Sequence[RowFiles]]] = {
    "check": (_checked, ROW_FILES),
    "plot": (_drawn, ROW_FILES),
    "report": (lambda study: page_of(study, study), (EPISODES, CONVERSIONS, ATTACKS)),
    "leaderboard": (lambda study: leaderboard([study]), (EPISODES,)),
    "verdict": (verdict_of, (ATTACKS, STATE_ATTACKS)),
}
"""What reads rows in a study's folder, and which of them."""


def _read_rows(name: str, row_type: type, reader: Callable[[Path], object]) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        reader(folder / "study")
        rows = read_rows(folder / "study" / "game" / "run" / name, row_type)
        if row_type in (AttackRow, StateAttackRow) and rows:
            Threat.from_key(rows[0].threat)
        return repr(rows)

    return read


def _read_manifest(folder: Path) -> str:
    study = folder / "study"
    (path,) = study.rglob("*manifest.json")
    record = read_manifest(path)
    assert record is not None
    list(findings(study))
    told = repr((record, list(works(study)))).replace(str(folder), "")
    Manifest(path, record.spec, [path.with_name(name) for name in record.outputs])
    return told


def _make_card(folder: Path) -> None:
    shutil.copytree(RESULTS / "cards" / "minatar-breakout-dqn-s0", folder / "card")


CARD_READERS: Mapping[str, Callable[[Path], object]] = {
    "check": lambda folder: list(check(folder / "card" / CARD, None, 0, 1)),
    "leaderboard": lambda folder: leaderboard([folder]),
}
"""What reads a card."""


def _read_card(reader: Callable[[Path], object]) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        reader(folder)
        return repr(read_json(folder / "card" / CARD, "a card"))

    return read


def _read_check(folder: Path) -> str:
    return repr(is_checked(folder / "card" / CARD))


def _make_record(folder: Path) -> None:
    drawn = Drawn(folder / "figures")
    drawn.write("scores.md", b"scores")
    drawn.write("figures/a.png", b"picture")
    (folder / "figures" / "figures" / "a.d").mkdir()


def _read_record(folder: Path) -> str:
    drawn = Drawn(folder / "figures")
    for name in drawn.names("*"):
        drawn.remove(name)
    drawn.write("scores.md", b"scores")
    return ""


def _record_edit(content: bytes, rng: random.Random) -> bytes:
    """Change the record, or let it name the file that lies outside, or a name that leads there."""
    if rng.random() < 0.5:
        return json_edit(content, rng)
    start = rng.choice(("", "figures/../", "figures/a.d/../../", "./", "scores.md/../"))
    name = rng.choice((f"{start}../../outside/mine", f"{start}figures/a.png", "/etc/hostname", "figures/.."))
    return json.dumps({**json.loads(content), name: digest(b"mine")}).encode()


# Studies and archives --------------------------------------------------------------------------------


def _make_study(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        text = (RESULTS.parent / "studies" / f"{name}.toml").read_text("utf-8")
        (folder / "study.toml").write_text(text.replace("../results", str(RESULTS)), "utf-8")

    return make


def _read_study(folder: Path) -> str:
    study = read_study(folder / "study.toml")
    stages = plan(study)
    require_accepted(study, stages)
    return repr((study.games, study.extensions, stages)).replace(str(folder), "")


def _make_archive(form: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        agent = NETWORKS["relu"].make(get_game("minatar/breakout"), generator)
        names = ("conv", "fc_hidden", "output")
        theirs = {
            f"{name}.{part}": parameter.detach()
            for name, layer in zip(names, agent.layers, strict=True)
            for part, parameter in layer.named_parameters()
        }
        held = {"returns": [1.0], "policy_net_state_dict": theirs}
        path = folder / "theirs"
        if form == "torch":
            torch.save(held, path)
        elif form == "legacy":
            torch.save(held, path, _use_new_zipfile_serialization=False)
        elif form == "npz":
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in theirs.items()}
            np.savez_compressed(path, **arrays)
            path.with_suffix(".npz").rename(path)
        else:
            import gymnasium
            import stable_baselines3

            net = {"net_arch": [16]}
            env = gymnasium.make("CartPole-v1")
            model = stable_baselines3.DQN("MlpPolicy", env, buffer_size=1, device="cpu", policy_kwargs=net)
            model.save(path)
            path.with_suffix(".zip").rename(path)

    return make


def _read_archive(game: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        file = foreign_files.read(folder / "theirs")
        found = foreign.recognise(file)
        told = foreign.told(found, get_game(game))
        agent, _ = foreign.rebuild(found, get_game(game), foreign.choose_network(found, None), told.pixels)
        return repr(
            (told, {name: digest(each.numpy().tobytes()) for name, each in agent.state_dict().items()})
        )

    return read


def _legacy_edit(content: bytes, rng: random.Random) -> bytes:
    return rng.choice(BYTES)(content[:1500], rng) + content[1500:]


def targets() -> list[Target]:
    """All files that are fuzzed."""
    row_types = list(dict.fromkeys(each.row_type for each in ROW_FILES))
    rows = [(_rows_of(row_type), row_type) for row_type in row_types]
    kinds = ("relu", "chen2022", "rate-coded", "quantised")
    return [
        *(
            Target(
                f"agent {kind}",
                "agent.safetensors",
                _agent(kind),
                _read_agent,
                tensor_file_edit,
                0.15 / len(kinds),
            )
            for kind in kinds
        ),
        *(
            Target(
                f"older agent {kind}",
                "agent.safetensors",
                _older("agent.safetensors", _agent(kind)),
                _read_agent,
                tensor_file_edit,
                0.2 / len(kinds),
                has_digest=False,
            )
            for kind in kinds
        ),
        Target("state", "run/state.safetensors", _make_state, _read_state, tensor_file_edit, 0.05),
        Target(
            "older state",
            "run/state.safetensors",
            _older("run/state.safetensors", _make_state),
            _read_state,
            tensor_file_edit,
            0.05,
            has_digest=False,
        ),
        *(
            Target(
                f"rows {path.name} by {name}",
                f"study/game/run/{path.name}",
                _make_rows(row_type),
                _read_rows(path.name, row_type, reader),
                rows_edit(row_type),
                0.25 / len(rows) / len(READERS),
            )
            for (path, _), row_type in rows
            for name, (reader, files) in READERS.items()
            if any(each.are_named_like(path) for each in files)
        ),
        *(
            Target(
                f"manifest of {path.name}",
                f"study/game/run/{manifest.name}",
                _make_rows(row_type),
                _read_manifest,
                json_edit,
                0.1 / 2,
            )
            for (path, manifest), row_type in rows[:2]
        ),
        *(
            Target(f"card by {name}", "card/card.json", _make_card, _read_card(reader), json_edit, 0.02)
            for name, reader in CARD_READERS.items()
        ),
        Target(
            "check of a card", "card/check.json", _make_card, _read_check, json_edit, 0.01, has_digest=False
        ),
        Target("record of figures", "figures/plot.json", _make_record, _read_record, _record_edit, 0.02),
        *(
            Target(
                f"study {name}",
                "study.toml",
                _make_study(name),
                _read_study,
                toml_edit,
                0.05,
                has_digest=False,
            )
            for name in ("smoke", "quick")
        ),
        *(
            Target(
                f"archive {form}",
                "theirs",
                _make_archive(form),
                _read_archive("cartpole" if form == "sb3" else "minatar/breakout"),
                _legacy_edit if form == "legacy" else members_edit,
                0.1 / 4,
                has_digest=False,
            )
            for form in ("torch", "legacy", "npz", "sb3")
        ),
    ]


def quietly(read: Callable[[Path], str], folder: Path) -> str:
    """The content, without what the code prints."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(folder)
