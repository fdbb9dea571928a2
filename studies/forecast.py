"""What a stage will take: decisions, seconds, memory, disk. Never imports torch.

Each command tells its own workload from its options (`core.workload`). Rates turn it into seconds.
"""

import bisect
import contextlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.cli import parse
from core.errors import Refusal
from core.machine import processor
from core.places import HOUSE
from core.processes import elsewhere
from core.records import read_rows
from core.rows import EpisodeRow
from core.words import command_line
from core.workload import AT_ONCE, Workload, WorkPart
from studies.checking import command_class, require_accepted
from studies.planning import Stage
from studies.reading import Study

COSTS = HOUSE / "results" / "benchmarks" / "costs.json"
"""Measured costs, one entry for each processor and device. `make bench` writes the entry of its machine."""
EXPECTED = "play.expected"
"""What commands are asked with. It imports torch, and only the other process imports it."""
GPU_SHARE = 1 / 4
"""Share of a large GPU that one stage is given. Its kernels are small, so starting them takes longer than they do."""


@dataclass(frozen=True)
class Forecast:
    """What one stage will take."""

    decisions: int
    """Decisions that are made in games."""
    seconds: float | None
    """Seconds on free cores; None if a kind of its work has no rate."""
    memory_bytes: int
    """Largest use of memory, the replay included."""
    disk_bytes: int
    """Largest use of disk, files that only a resume needs included."""
    gpu_share: float
    """Share of one GPU; 0 on the CPU."""


@dataclass(frozen=True)
class Rates:
    """Seconds of each kind of work on one processor and device."""

    processor: str
    device: str
    """cpu, or the name of a GPU."""
    note: str
    start_s: float
    """Seconds until a stage begins its work, and after it has ended."""
    seconds: Mapping[str, Mapping[int, float]]
    """Seconds of a unit by work, tier and kind, as in "decide minatar dqn", and by simulation steps.

    A unit is one of `AT_ONCE` states that are computed side by side. As in "decide alone minatar dqn", it is one by
    itself.
    """
    scale: float = 1.0
    """Seconds of this machine over those of the measured one."""

    def of(self, part: WorkPart) -> float | None:
        """Seconds of a part; None if its kind was not measured.

        Between two measured numbers of simulation steps, and beyond them, the cost is a straight line. The cost of
        an addition such as +bf16 that was not measured is taken as that without it. A batch of fewer states than were
        measured costs what one state alone costs, and a straight line more with each other state.
        """
        if part.amount == 0:
            return 0.0
        many = self._cost(part.work, part)
        if many is None:
            return None
        return self.scale * part.amount * (many if part.at_once >= AT_ONCE else self._of_few(part, many))

    def _of_few(self, part: WorkPart, many: float) -> float:
        """Seconds of a unit where fewer states are computed side by side than were measured."""
        alone = self._cost(f"{part.work} alone", part)
        if alone is None:  # a GPU's time goes into starting kernels, whatever the number of states
            alone = many if self.device == "cpu" else AT_ONCE * many
        return many + (alone - many) * (1 / part.at_once - 1 / AT_ONCE) / (1 - 1 / AT_ONCE)

    def _cost(self, work: str, part: WorkPart) -> float | None:
        """Measured seconds of a unit of work at a part's simulation steps; None if its kind was not measured."""
        kind = part.kind
        while (points := self.seconds.get(" ".join(filter(None, (work, part.tier, kind))))) is None:
            if "+" not in kind:
                return None
            kind = kind.rpartition("+")[0]
        return _on_line(points, part.sim_steps)

    def total(self, workload: Workload) -> float | None:
        """Seconds of a stage."""
        seconds = [self.of(part) for part in workload.parts]
        if any(each is None for each in seconds):
            return None
        return self.scale * self.start_s + sum(each for each in seconds if each is not None)


def _on_line(points: Mapping[int, float], sim_steps: int) -> float:
    """The cost at a number of simulation steps, at least half of the nearest measured one."""
    known = sorted(points)
    if len(known) == 1:
        return points[known[0]]
    right = min(max(bisect.bisect_left(known, sim_steps), 1), len(known) - 1)
    low, high = known[right - 1], known[right]
    slope = (points[high] - points[low]) / (high - low)
    nearest = min(known, key=lambda each: abs(each - sim_steps))
    return max(points[low] + slope * (sim_steps - low), 0.5 * points[nearest])


def all_rates(file: Path = COSTS) -> list[Rates]:
    """All entries of the file of costs; none if it is not there, as in an installed SpikeQ.

    Raises:
        Refusal: it is damaged.
    """
    if not file.is_file():
        return []
    try:
        return [
            Rates(
                entry["processor"],
                entry["device"],
                entry["note"],
                entry["start_s"],
                {
                    key: {int(sim_steps): float(cost) for sim_steps, cost in costs.items()}
                    for key, costs in entry["seconds"].items()
                },
            )
            for entry in json.loads(file.read_text("utf-8"))["entries"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{file} is damaged ({error!r}): make bench writes it again")


def rates_of_this_machine(entries: Sequence[Rates]) -> Rates | None:
    """The rates of this processor; those of another one if it has none; None if there are none at all."""
    on_cpu = [each for each in entries if each.device == "cpu"]
    return next((each for each in on_cpu if each.processor == processor()), next(iter(on_cpu), None))


def forecast_of(work: Workload, rates: Rates | None) -> Forecast:
    """What a stage with a known workload will take.

    Args:
        work: what the stage does.
        rates: of the machine that runs it; None if they are not known.
    """
    return Forecast(
        decisions=work.decisions,
        seconds=None if rates is None else rates.total(work),
        memory_bytes=work.memory_bytes,
        disk_bytes=work.disk_bytes,
        gpu_share=gpu_share(work, has_gpu=rates is not None and rates.device != "cpu"),
    )


def gpu_share(work: Workload, has_gpu: bool) -> float:
    """Share of one GPU that a stage is given, where there are GPUs."""
    return GPU_SHARE if has_gpu and work.can_use_gpu else 0.0


def workloads(study: Study, stages: Sequence[Stage]) -> dict[Stage, Workload] | Refusal:
    """What each stage is forecast to do, as its command tells, after all options of the study were checked.

    This is done in another process, because the modules of the commands import torch.

    Args:
        study: the study.
        stages: its stages, each after those that it needs, unless these are done.

    Returns:
        The workloads. A Refusal if they cannot be told, as where an agent is damaged.

    Raises:
        Refusal: as in `studies.checking.require_accepted`.
    """
    if not stages:
        return {}
    found = elsewhere(_checked_workloads, study, stages)
    return found if isinstance(found, Refusal) else dict(zip(stages, found, strict=True))


def _checked_workloads(study: Study, stages: Sequence[Stage]) -> list[Workload] | Refusal:
    study.import_extensions()
    require_accepted(study, stages)
    return _all_workloads(study, stages)


def _all_workloads(study: Study, stages: Sequence[Stage]) -> list[Workload] | Refusal:
    play: Any = importlib.import_module(EXPECTED)
    expected = play.Expected(_measured_steps(study))
    os.chdir(study.base)  # where the paths of commands start
    known: dict[tuple[object, ...], tuple[Workload, dict[str, Any]]] = {}
    found = []
    for stage in stages:
        out = stage.arguments[stage.arguments.index("--out") + 1]
        key = _apart_from_seed(stage, expected.made)
        if key not in known:
            before = {*expected.made}
            try:
                workload = _workload(stage, expected)
            except Refusal as refusal:
                if stage.kind == "train":  # it reads no file that may be damaged, so an option is wrong
                    raise Refusal(study.source.told(stage.setting, refusal))
                return refusal
            made = {path: agents for path, agents in expected.made.items() if path not in before}
            known[key] = (
                workload,
                {
                    path.removeprefix(_stem(out)): agents
                    for path, agents in made.items()
                    if path.startswith(_stem(out))
                },
            )
        workload, made = known[key]
        expected.made.update({_stem(out) + ending: agents for ending, agents in made.items()})
        found.append(workload)
    return found


def _apart_from_seed(stage: Stage, made: Mapping[str, Sequence[object]]) -> tuple[object, ...]:
    """What decides a stage's workload: its words without the seed and the place of its results, and agents of equal
    shape in place of their paths. A study has the same stages for every seed, and parsing words takes milliseconds."""
    told = zip(("", *stage.arguments), stage.arguments, strict=False)
    return tuple(
        tuple(map(id, made[word])) if word in made else word
        for option, word in told
        if option not in ("--seed", "--out")
    )


def _stem(out: str) -> str:
    return out.removesuffix(".safetensors")


def _workload(stage: Stage, expected: Any) -> Workload:
    module, verb, *words = stage.arguments
    command: Any = parse(command_line([module, verb]), command_class(module, verb), words)
    workload: Workload = command.workload(expected)
    return replace(workload, can_use_gpu=getattr(command, "device", "cpu") != "cpu")


def _measured_steps(study: Study) -> dict[tuple[str, str], float]:
    """Mean decisions of an episode by game and kind of agent, of the games that this study has scored."""
    found: dict[tuple[str, str], list[int]] = {}
    for file in sorted((study.base / study.folder).glob("*/*/episodes.parquet")):
        with contextlib.suppress(Refusal):  # the stage that wrote it refuses it by name
            for row in read_rows(file, EpisodeRow):
                found.setdefault((row.game, row.agent), []).append(row.length_steps)
    return {key: sum(steps) / len(steps) for key, steps in found.items()}
