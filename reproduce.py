"""python reproduce.py STUDY: run the stages of a study, each as the command a user would type.

Files alone show which stages are done. A stage is skipped if its manifest was made by the same command from the same
inputs and its results are unchanged. Any other stage is started, and its command resumes or refuses.
"""

import ctypes
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from core.cli import main
from core.errors import Refusal
from core.games import get_game
from core.manifest import Record, read_manifest
from core.records import digest, to_json
from core.registry import load_extension
from core.rows import ROWS_FORMAT

ROOT = Path(__file__).resolve().parent
StageKind = Literal["train", "convert", "compare", "evaluate", "attack", "probe"]
SETTINGS = ("train_seeds", "shipped", "evaluate", "compare", "attack", "states", "probe")
"""Settings of a game in a study, besides those of trainings and conversions.

train_seeds replaces the study's own, shipped lists existing agents, and the others hold options of commands.
A command without an entry is not run. `compare` converts the game's first DQN.
"""
TRAINED = re.compile(r"(dqn|dsqn|ppo|spiking-ppo)(-[a-z0-9-]+)?")
"""Names of trainings: dqn, dsqn, ppo, spiking-ppo, and variants of these such as dsqn-last-mem."""
CONVERTED = re.compile(r"convert(-[a-z0-9-]+)?")
"""Names of conversions, each of every DQN. convert-t8 makes the network snn-t8, and also quantised-t8 if that is
kept."""
PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sends a process a signal when its parent ends."""


@dataclass(frozen=True)
class Stage:
    """One command of a study."""

    kind: StageKind
    """The kind of work."""
    arguments: tuple[str, ...]
    """Its command line after `python -m`."""
    manifest: Path
    """The manifest that it writes."""
    needs: tuple[Path, ...]
    """Files that it reads: results of other stages, or shipped agents."""
    results: tuple[Path, ...]
    """Files that it writes and that later stages may need."""

    @property
    def name(self) -> str:
        """Its name in messages, as in "train pong/dqn-s0"."""
        return f"{self.kind} {self.manifest.parent.relative_to(self.manifest.parents[2])}"

    def is_done(self) -> bool:
        """Whether the command has finished on the present inputs, and its results are unchanged."""
        manifest = read_manifest(self.manifest)
        if manifest is None or not manifest.outputs or manifest.command != list(self.arguments):
            return False
        if manifest.format != ROWS_FORMAT:  # the command itself refuses, and says what to do
            return False
        if self.manifest.with_suffix(".lock").exists():  # it was killed after its results were written
            return False
        return self._is_made_from_needs(manifest) and not any(manifest.mismatches())

    def _is_made_from_needs(self, manifest: Record) -> bool:
        """Whether the specification names the digests of all present inputs."""
        spec = to_json(manifest.spec)
        return all(need.is_file() and f'"{digest(need.read_bytes())[:12]}"' in spec for need in self.needs)

    def remove_outdated_results(self) -> None:
        """Remove results of other weights than the present ones.

        The weights were trained again, perhaps on a machine that rounds differently. The command would refuse to mix
        the results.
        """
        manifest = read_manifest(self.manifest)
        if manifest is not None and manifest.outputs and not self._is_made_from_needs(manifest):
            print(f"{self.name}: its results are of other weights and are made again", flush=True)
            self.manifest.unlink()
            for name in manifest.outputs:
                (self.manifest.parent / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Reproduce:
    """Run a study: train, convert, evaluate and attack. Then draw its figures and print its table."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a file in studies/, as in quick."""
    only: StageKind | None = None
    """Run only stages of this kind, and the stages that they need."""
    jobs: int = 0
    """Number of stages to run side by side; 0 runs one per core."""

    def run(self) -> None:
        stages = plan(self.study)
        if self.only:
            stages = _with_needs([stage for stage in stages if stage.kind == self.only], stages)
        if self.jobs < 0:
            raise Refusal(f"jobs is {self.jobs}: accepted is 0 (one per core) or more")
        jobs = self.jobs or len(os.sched_getaffinity(0))
        waiting = [stage for stage in stages if not stage.is_done()]
        print(
            f"study {self.study}: {len(stages) - len(waiting)} of {len(stages)} stages are done already",
            flush=True,
        )
        if waiting:
            _run_all(waiting, jobs)
        command = [sys.executable, "plot.py", self.study]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise Refusal(f"the figures failed: {' '.join(command[1:])} says why")


def plan(study: str) -> list[Stage]:
    """The stages of a study. Each comes after the stages that it needs.

    Raises:
        Refusal: there is no such study, or its file is not valid.
    """
    path = ROOT / "studies" / f"{study}.toml"
    names = sorted(file.stem for file in (ROOT / "studies").glob("*.toml"))
    if study not in names:
        raise Refusal(f"unknown study {study!r}: studies are {', '.join(names)}")
    try:
        settings = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{path.name} is not TOML: {error}")
    extensions = [word for name in _extensions(settings, path.name) for word in ("--extension", name)]
    stages: list[Stage] = []
    for name, tables in settings["games"].items():
        get_game(name)
        _require_known(tables, name, path.name)
        game = GamePlan(
            name,
            tables,
            Path("results") / study / name.replace("/", "-"),
            settings["checkpoint"],
            ("--threads", str(settings["threads"]), *extensions),
            ("--seed", str(settings["evaluation_seed"])),
        )
        stages += game.stages(tables.get("train_seeds", settings["train_seeds"]))
    if any(stage.kind == "probe" for stage in stages):
        folder = Path("results") / study / "neurons" / "probe"
        stages.append(_stage("probe", ["evaluate", "probe"], folder, "responses.parquet", (), []))
    return stages


def _extensions(settings: Mapping[str, Any], file: str) -> list[str]:
    """The modules that a study names as its extensions; they are imported, because they may register its games.

    Raises:
        Refusal: they are not a list of names, or one cannot be imported.
    """
    names = settings.get("extensions", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refusal(f'{file}: extensions is {names!r}: a list of modules is needed, as in ["my_module"]')
    for name in names:
        load_extension(name)
    return names


def _require_known(tables: Mapping[str, Any], game: str, file: str) -> None:
    """Refuse settings of a game that no study has."""
    for key in sorted(tables):
        if key not in SETTINGS and not TRAINED.fullmatch(key) and not CONVERTED.fullmatch(key):
            raise Refusal(
                f"{file}: unknown setting {key!r} of {game}: settings are {', '.join(SETTINGS)}, "
                "dqn, dsqn, ppo and spiking-ppo, convert, and variants of these as in dqn-NAME"
            )


@dataclass(frozen=True)
class GamePlan:
    """The stages of one game of a study."""

    name: str
    """Name of the game."""
    tables: Mapping[str, Any]
    """The study's settings for the game."""
    folder: Path
    """Folder of the game's results, from the root of the repository."""
    checkpoint: str
    """Which weights of a training are converted and attacked: best or agent (the final ones)."""
    common: tuple[str, ...]
    """Options of all commands."""
    eval_seed: tuple[str, ...]
    """Options of commands that play games to score."""
    agents: dict[str, Path] = field(default_factory=dict)
    """Weights of all agents planned so far, by label. Paths start at the root of the repository."""
    dqn_of: dict[str, Path] = field(default_factory=dict)
    """Weights of the DQN of each converted or quantised agent, by the agent's label."""

    def stages(self, train_seeds: Sequence[int]) -> list[Stage]:
        """All stages of the game. Each comes after the stages that it needs."""
        return [
            *self._evaluate("random", ("--agent", "random", "--game", self.name), ()),
            *self._train_all(train_seeds),
            *self._evaluate_shipped(),
            *self._convert_all(),
            *self._attack_all(),
            *self._probe(),
        ]

    def _train_all(self, train_seeds: Sequence[int]) -> Iterator[Stage]:
        """Train every variant with every seed, and score it."""
        for seed in train_seeds:
            for variant in filter(TRAINED.fullmatch, self.tables):
                label = f"{variant}-s{seed}"
                run = self.folder / label
                yield self._train(variant, seed, run)
                yield from self._evaluate(label, ("--agent", str(run)), self._weights(run))
                self.agents[label] = run / f"{self.checkpoint}.safetensors"

    def _train(self, variant: str, seed: int, run: Path) -> Stage:
        verb = TRAINED.fullmatch(variant)
        assert verb is not None
        arguments = ["--game", self.name, "--seed", str(seed), *_options(self.tables[variant]), *self.common]
        return _stage(
            "train", ["train_direct", verb[1]], run, f"{self.checkpoint}.safetensors", (), arguments
        )

    def _weights(self, run: Path) -> tuple[Path, ...]:
        """The weights of a run that its evaluation reads; the first file is the result of its training."""
        names = dict.fromkeys((self.checkpoint, "best", "agent"))
        return tuple(run / f"{name}.safetensors" for name in names)

    def _evaluate(self, label: str, agent: Sequence[str], needs: tuple[Path, ...]) -> list[Stage]:
        if "evaluate" not in self.tables:
            return []
        arguments = [*agent, *_options(self.tables["evaluate"]), *self.eval_seed, *self.common]
        folder = self.folder / f"evaluate-{label}"
        return [_stage("evaluate", ["evaluate", "run"], folder, "episodes.parquet", needs, arguments)]

    def _evaluate_shipped(self) -> Iterator[Stage]:
        """Score the shipped agents."""
        for file in map(Path, self.tables.get("shipped", ())):
            label = "shipped-" + file.stem.removeprefix(f"{self.folder.name}-")
            yield from self._evaluate(label, ("--agent", str(file)), (file,))
            self.agents[label] = file

    def _convert_all(self) -> Iterator[Stage]:
        """Convert every DQN by every method, score the results, and compare the methods on the first DQN."""
        dqns = {label: file for label, file in self.agents.items() if re.search(r"\bdqn\b", label)}
        for method in filter(CONVERTED.fullmatch, self.tables):
            for label, dqn in dqns.items():
                yield from self._convert(method, label, dqn)
        if "compare" in self.tables and dqns:
            label, dqn = next(iter(dqns.items()))
            options = ["--agent", str(dqn), *_options(self.tables["compare"]), *self.common]
            folder = self.folder / f"compare-{label}"
            yield _stage("compare", ["convert", "compare"], folder, "methods.parquet", (dqn,), options)

    def _convert(self, method: str, label: str, dqn: Path) -> Iterator[Stage]:
        """Convert one DQN, and score the spiking network, and the quantised DQN if it is kept."""
        variant = method.removeprefix("convert")
        made = [self.folder / re.sub(r"\bdqn\b", f"snn{variant}", label) / "agent.safetensors"]
        if self.tables[method].get("quantised"):
            made.append(made[0].with_suffix(".quantised.safetensors"))
        options = ["--agent", str(dqn), *_options(self.tables[method]), *self.common]
        yield Stage(
            "convert",
            ("convert", "run", *options, "--out", str(made[0])),
            ROOT / made[0].with_suffix(".manifest.json"),
            (ROOT / dqn,),
            tuple(ROOT / file for file in made),
        )
        for kind, file in zip(("snn", "quantised"), made, strict=False):
            new_label = re.sub(r"\bdqn\b", kind + variant, label)
            yield from self._evaluate(new_label, ("--agent", str(file)), (file,))
            self.agents[new_label] = file
            self.dqn_of[new_label] = dqn

    def _attack_all(self) -> Iterator[Stage]:
        """Attack every agent in its games, and on states of the first agent's play."""
        for label, file in self.agents.items():
            if "attack" in self.tables:
                yield self._attack("attack", "run", label, "attacks.parquet")
            if "states" in self.tables:
                first = next(iter(self.agents.values()))
                others = self._transfer_agents({file, self.dqn_of.get(label, file)})
                yield self._attack("states", "states", label, "state_attacks.parquet", first, others)

    def _attack(
        self,
        setting: str,
        verb: str,
        label: str,
        result: str,
        states_of: Path | None = None,
        transfer: Sequence[Path] = (),
    ) -> Stage:
        """Attack one agent.

        Args:
            setting: name of the options in the study.
            verb: of `python -m adversarial`.
            label: the victim's label.
            result: name of the rows' file.
            states_of: the agent whose play the states come from; None to attack games.
            transfer: other agents along whose gradients the victim is attacked too.
        """
        file, table = self.agents[label], self.tables[setting]
        arguments, needs = ["--agent", str(file), *_options(table)], [file]
        if states_of is not None:
            arguments += ["--states-of", str(states_of)]
            needs.append(states_of)
        if transfer:
            arguments += ["--transfer", *map(str, transfer)]
            needs += transfer
        if label in self.dqn_of and table.get("best_source"):
            arguments += ["--twin", str(self.dqn_of[label])]
            needs.append(self.dqn_of[label])
        arguments += [*self.eval_seed, *self.common]
        folder = self.folder / f"{setting}-{label}"
        return _stage("attack", ["adversarial", verb], folder, result, tuple(needs), arguments)

    def _transfer_agents(self, known: Set[Path]) -> list[Path]:
        """The first DQN and the first DSQN that are neither the victim nor the DQN that it was made from."""
        found = []
        for kind in ("dqn", "dsqn"):
            others = (
                file
                for label, file in self.agents.items()
                if re.search(rf"\b{kind}\b", label) and file not in known
            )
            found += list(itertools.islice(others, 1))
        return found

    def _probe(self) -> list[Stage]:
        """Probe all agents."""
        if "probe" not in self.tables or not self.agents:
            return []
        files = tuple(self.agents.values())
        arguments = [
            "--agent",
            *map(str, files),
            *_options(self.tables["probe"]),
            *self.eval_seed,
            *self.common,
        ]
        folder = self.folder / "probe"
        return [_stage("probe", ["evaluate", "probe"], folder, "operations.parquet", files, arguments)]


def _stage(
    kind: StageKind,
    command: list[str],
    folder: Path,
    result: str,
    needs: tuple[Path, ...],
    arguments: list[str],
) -> Stage:
    """A stage whose results and manifest are in a folder of their own.

    Args:
        kind: the work it does.
        command: module and verb.
        folder: the folder, from the root of the repository.
        result: file name of its result.
        needs: files that it reads, from the root of the repository.
        arguments: its options.
    """
    return Stage(
        kind,
        (*command, *arguments, "--out", str(folder)),
        ROOT / folder / "manifest.json",
        tuple(ROOT / need for need in needs),
        (ROOT / folder / result,),
    )


def _options(table: dict[str, Any]) -> list[str]:
    """A TOML table as command-line options."""
    words: list[str] = []
    for name, value in table.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{option}"] if value else [f"--{option}", "False"]
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _with_needs(wanted: list[Stage], stages: list[Stage]) -> list[Stage]:
    """The wanted stages and those that they need, in the study's order."""
    chosen = set(wanted)
    while True:
        needed = {need for stage in chosen for need in stage.needs}
        added = {stage for stage in stages if needed.intersection(stage.results)} - chosen
        if not added:
            return [stage for stage in stages if stage in chosen]
        chosen |= added


def _run_all(waiting: list[Stage], jobs: int) -> None:
    """Run stages side by side, each as soon as its inputs exist. The first failure stops all of them."""
    total, finished = len(waiting), 0
    # Inputs that no waiting stage makes exist already.
    pending = {file for stage in waiting for file in stage.results}
    running: dict[subprocess.Popen[bytes], tuple[Stage, float]] = {}
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    started = time.monotonic()
    try:
        while waiting or running:
            ready = [stage for stage in waiting if not pending.intersection(stage.needs)]
            # Training comes first, because everything else waits for it.
            for stage in sorted(ready, key=lambda stage: stage.kind != "train")[: jobs - len(running)]:
                waiting.remove(stage)
                running[_start(stage)] = stage, time.monotonic()
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                stage, since = running.pop(process)
                if process.returncode:
                    raise Refusal(
                        f"stage {stage.name} failed with exit code {process.returncode}; "
                        f"to run it alone: python -m {' '.join(stage.arguments)}"
                    )
                pending.difference_update(stage.results)
                finished += 1
                now = time.monotonic()
                print(
                    f"[{finished}/{total}] {stage.name}: {now - since:.0f} s ({now - started:.0f} s in all)",
                    flush=True,
                )
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(stage: Stage) -> "subprocess.Popen[bytes]":
    """Start the command of a stage."""
    stage.remove_outdated_results()
    return subprocess.Popen([sys.executable, "-m", *stage.arguments], cwd=ROOT, preexec_fn=_die_with_parent)


def _die_with_parent() -> None:
    """End this stage when the driver is killed, or the next driver would find it still running."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main("python reproduce.py", Reproduce)
