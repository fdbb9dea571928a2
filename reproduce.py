"""python reproduce.py STUDY: run a study's stages, each as the command a user would type.

What is done is known from the files alone: a stage whose manifest was made by the same command from the same
inputs, and whose results are unchanged, is not started again; any other is started, and resumes or refuses.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from core.cli import main
from core.errors import Refusal
from core.games import get_game
from core.manifest import Record, read_manifest
from core.records import ROWS_FORMAT, digest, to_json

ROOT = Path(__file__).resolve().parent
Kind = Literal["train", "convert", "compare", "evaluate", "attack", "probe"]
SETTINGS = ("train_seeds", "shipped", "evaluate", "compare", "attack", "states", "probe")
"""What a study may say of a game besides what it trains and converts: its own seeds, agents there are already, options
of commands (compare: of its first DQN's conversions); what it does not say is not run."""
TRAINED = re.compile(r"(dqn|dsqn|ppo|spiking-ppo)(-[a-z0-9-]+)?")
"""What it may train: dqn, dsqn, ppo, spiking-ppo, and variants of them that it names, as in dsqn-last-mem."""
CONVERTED = re.compile(r"convert(-[a-z0-9-]+)?")
"""Conversions of every DQN; their names, as in convert-t8, go to the networks: snn-t8, and quantised-t8 if the
quantised DQN is asked for too."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Stage:
    """One command of a study."""

    kind: Kind
    arguments: tuple[str, ...]
    """What follows `python -m`."""
    manifest: Path
    needs: tuple[Path, ...]
    """Files it reads; they are other stages' results."""
    gives: tuple[Path, ...]
    """Files that later stages may need."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.manifest.parent.relative_to(self.manifest.parents[2])}"

    def is_done(self) -> bool:
        """Whether this command finished on the inputs that are there now, and its results are unchanged."""
        manifest = read_manifest(self.manifest)
        if manifest is None or not manifest.outputs or manifest.command != list(self.arguments):
            return False
        if manifest.format != ROWS_FORMAT:  # the stage itself says what to do about it
            return False
        if self.manifest.with_suffix(".lock").exists():  # killed while it was tidying up
            return False
        return self._is_made_from_needs(manifest) and not any(manifest.mismatches())

    def _is_made_from_needs(self, manifest: Record) -> bool:
        """Whether the specification names all weights that there are now, in whatever part they played."""
        spec = to_json(manifest.spec)
        return all(need.is_file() and f'"{digest(need.read_bytes())[:12]}"' in spec for need in self.needs)

    def forget_what_is_outdated(self) -> None:
        """Drop what was made of other weights than those that there are now: these were made anew, on another machine
        perhaps, whose sums round otherwise, and the stage would refuse to mix both."""
        manifest = read_manifest(self.manifest)
        if manifest is not None and manifest.outputs and not self._is_made_from_needs(manifest):
            print(f"{self.name}: was made from other weights, and is made again", flush=True)
            self.manifest.unlink()
            for name in manifest.outputs:
                (self.manifest.parent / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Reproduce:
    """Run a study: train, convert, evaluate, attack; then draw its figures and print its table."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a file in studies/, as in quick."""
    only: Kind | None = None
    """Run only stages of this kind, and what they need."""
    jobs: int = 0
    """Stages side by side; 0 takes one a core."""

    def run(self) -> None:
        stages = plan(self.study)
        if self.only:
            stages = _with_needs([stage for stage in stages if stage.kind == self.only], stages)
        if self.jobs < 0:
            raise Refusal(f"jobs is {self.jobs}: accepted is 0 (one a core) or more")
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
    """All stages of a study, each after those it needs."""
    path = ROOT / "studies" / f"{study}.toml"
    names = sorted(file.stem for file in (ROOT / "studies").glob("*.toml"))
    if study not in names:
        raise Refusal(f"unknown study {study!r}: studies are {', '.join(names)}")
    try:
        settings = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{path.name} is not TOML: {error}")
    stages: list[Stage] = []
    for name, tables in settings["games"].items():
        get_game(name)
        unknown = sorted(
            key
            for key in tables
            if key not in SETTINGS and not TRAINED.fullmatch(key) and not CONVERTED.fullmatch(key)
        )
        if unknown:
            raise Refusal(
                f"{path.name}: unknown setting {unknown[0]!r} of {name}: settings are {', '.join(SETTINGS)}, "
                "dqn, dsqn, ppo and spiking-ppo, convert, and variants of these as in dqn-NAME"
            )
        stages += _GamePlan(
            name,
            tables,
            Path("results") / study / name.replace("/", "-"),
            settings["checkpoint"],
            ("--threads", str(settings["threads"])),
            ("--seed", str(settings["evaluation_seed"])),
        ).stages(tables.get("train_seeds", settings["train_seeds"]))
    if any(stage.kind == "probe" for stage in stages):
        folder = Path("results") / study / "neurons" / "probe"
        stages.append(_stage("probe", ["evaluate", "probe"], folder, "responses.parquet", (), []))
    return stages


@dataclass(frozen=True)
class _GamePlan:
    """The stages of one game of a study."""

    name: str
    tables: Mapping[str, Any]
    folder: Path
    checkpoint: str
    common: tuple[str, ...]
    eval_seed: tuple[str, ...]

    def stages(self, train_seeds: Sequence[int]) -> list[Stage]:
        """All of them, each after those it needs."""
        stages = self.evaluate("random", ("--agent", "random", "--game", self.name), ())
        agents: dict[str, Path] = {}
        for seed in train_seeds:
            for variant in filter(TRAINED.fullmatch, self.tables):
                training = self.train(variant, seed)
                (best,) = training.gives
                label, run = f"{variant}-s{seed}", best.parent.relative_to(ROOT)
                stages.append(training)
                stages += self.evaluate(label, ("--agent", str(run)), self.both_weights(run))
                agents[label] = best.relative_to(ROOT)
        for file in map(Path, self.tables.get("shipped", ())):
            label = "shipped-" + file.stem.removeprefix(f"{self.folder.name}-")
            stages += self.evaluate(label, ("--agent", str(file)), (file,))
            agents[label] = file
        came_from: dict[str, Path] = {}
        dqns = {label: file for label, file in agents.items() if re.search(r"\bdqn\b", label)}
        for method, (label, dqn) in itertools.product(filter(CONVERTED.fullmatch, self.tables), dqns.items()):
            labels = [
                re.sub(r"\bdqn\b", kind + method.removeprefix("convert"), label)
                for kind in ("snn", "quantised")
            ]
            snn = self.folder / labels[0] / "agent.safetensors"
            made = [snn]
            if self.tables[method].get("quantised"):
                made.append(snn.with_suffix(".quantised.safetensors"))
            options = ["--agent", str(dqn), *_options(self.tables[method]), *self.common]
            command = ("convert", "run", *options, "--out", str(snn))
            manifest, gives = ROOT / snn.with_suffix(".manifest.json"), tuple(ROOT / file for file in made)
            stages.append(Stage("convert", command, manifest, (ROOT / dqn,), gives))
            for label, file in zip(labels, made, strict=False):
                stages += self.evaluate(label, ("--agent", str(file)), (file,))
                agents[label] = file
                came_from[label] = dqn
        if "compare" in self.tables and dqns:
            label, dqn = next(iter(dqns.items()))
            options = ["--agent", str(dqn), *_options(self.tables["compare"]), *self.common]
            folder = self.folder / f"compare-{label}"
            stages.append(
                _stage("compare", ["convert", "compare"], folder, "methods.parquet", (dqn,), options)
            )
        stages += self.attacks(agents, came_from)
        if "probe" in self.tables and agents:
            arguments = ["--agent", *map(str, agents.values()), *_options(self.tables["probe"])]
            arguments += [*self.eval_seed, *self.common]
            folder, needs = self.folder / "probe", tuple(agents.values())
            stages.append(
                _stage("probe", ["evaluate", "probe"], folder, "operations.parquet", needs, arguments)
            )
        return stages

    def attacks(self, agents: Mapping[str, Path], came_from: Mapping[str, Path]) -> Iterator[Stage]:
        """In games, and on states of the first agent's play, along strangers' gradients too."""
        common = [*self.eval_seed, *self.common]
        first = next(iter(agents.values()), Path())
        for label, file in agents.items():
            for verb, name in (("run", "attack"), ("states", "states")):
                if name not in self.tables:
                    continue
                table = self.tables[name]
                arguments, needs = ["--agent", str(file), *_options(table)], [file]
                if verb == "states":
                    others = self.strangers(agents, {file, came_from.get(label, file)})
                    arguments += ["--states-of", str(first)]
                    arguments += ["--transfer", *map(str, others)] if others else []
                    needs += [first, *others]
                if label in came_from and table.get("best_source"):
                    arguments += ["--twin", str(came_from[label])]
                    needs.append(came_from[label])
                gives = "attacks.parquet" if verb == "run" else "state_attacks.parquet"
                folder = self.folder / f"{name}-{label}"
                yield _stage(
                    "attack", ["adversarial", verb], folder, gives, tuple(needs), [*arguments, *common]
                )

    @staticmethod
    def strangers(agents: Mapping[str, Path], known: Set[Path]) -> list[Path]:
        """The first DQN and the first DSQN besides those known: neither the victim nor what it was made from."""
        found = (
            next(
                (
                    file
                    for label, file in agents.items()
                    if re.search(rf"\b{kind}\b", label) and file not in known
                ),
                None,
            )
            for kind in ("dqn", "dsqn")
        )
        return [file for file in found if file is not None]

    def train(self, variant: str, seed: int) -> Stage:
        arguments = ["--game", self.name, "--seed", str(seed), *_options(self.tables[variant]), *self.common]
        folder = self.folder / f"{variant}-s{seed}"
        gives = f"{self.checkpoint}.safetensors"
        verb = TRAINED.fullmatch(variant)
        assert verb is not None
        return _stage("train", ["train_direct", verb[1]], folder, gives, (), arguments)

    def evaluate(self, label: str, agent: Sequence[str], needs: tuple[Path, ...]) -> list[Stage]:
        if "evaluate" not in self.tables:
            return []
        arguments = [*agent, *_options(self.tables["evaluate"]), *self.eval_seed, *self.common]
        folder = self.folder / f"evaluate-{label}"
        return [_stage("evaluate", ["evaluate", "run"], folder, "episodes.parquet", needs, arguments)]

    def both_weights(self, run: Path) -> tuple[Path, ...]:
        """What an evaluation of a run folder reads, the file that its training is known by first."""
        names = dict.fromkeys((self.checkpoint, "best", "agent"))
        return tuple(run / f"{name}.safetensors" for name in names)


def _stage(
    kind: Kind, command: list[str], folder: Path, gives: str, needs: tuple[Path, ...], arguments: list[str]
) -> Stage:
    return Stage(
        kind,
        (*command, *arguments, "--out", str(folder)),
        ROOT / folder / "manifest.json",
        tuple(ROOT / need for need in needs),
        (ROOT / folder / gives,),
    )


def _options(table: dict[str, Any]) -> list[str]:
    """Command-line options of a TOML table."""
    words: list[str] = []
    for name, value in table.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{option}"] if value else [f"--{option}", "False"]
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _with_needs(wanted: list[Stage], stages: list[Stage]) -> list[Stage]:
    """The wanted stages and those whose results they need, in the study's order."""
    chosen = set(wanted)
    while True:
        needed = {need for stage in chosen for need in stage.needs}
        added = {stage for stage in stages if needed.intersection(stage.gives)} - chosen
        if not added:
            return [stage for stage in stages if stage in chosen]
        chosen |= added


def _run_all(waiting: list[Stage], jobs: int) -> None:
    """Run stages as soon as what they need is there; stop at the first that fails."""
    total, finished = len(waiting), 0
    # A stage whose need is not made anew in this call has it already.
    pending = {file for stage in waiting for file in stage.gives}
    running: dict[subprocess.Popen[bytes], tuple[Stage, float]] = {}
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    started = time.monotonic()
    try:
        while waiting or running:
            ready = [stage for stage in waiting if not pending.intersection(stage.needs)]
            # Training is what everything else waits for.
            for stage in sorted(ready, key=lambda stage: stage.kind != "train")[: jobs - len(running)]:
                waiting.remove(stage)
                stage.forget_what_is_outdated()
                command = [sys.executable, "-m", *stage.arguments]
                running[subprocess.Popen(command, cwd=ROOT, preexec_fn=_die_with_parent)] = (
                    stage,
                    time.monotonic(),
                )
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                stage, since = running.pop(process)
                if process.returncode:
                    raise Refusal(
                        f"stage {stage.name} failed with exit code {process.returncode}; "
                        f"by itself: python -m {' '.join(stage.arguments)}"
                    )
                pending.difference_update(stage.gives)
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


def _die_with_parent() -> None:
    """A stage must not outlive a killed driver, or the next driver would find it at work."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main("python reproduce.py", Reproduce)
