"""What a study will take, in lines to print. Never imports torch."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from core.durations import duration
from core.errors import Refusal
from core.machine import processor
from core.memory import available_bytes, gib
from core.places import HOUSE
from core.workload import Workload
from studies.forecast import (
    COSTS,
    GPU_SHARE,
    Forecast,
    Rates,
    all_rates,
    forecast_of,
    rates_of_this_machine,
)
from studies.planning import Stage
from studies.reading import Study
from studies.schedule import wall_seconds

HEADER = ("game", "stage", "stages", "decisions", "hours", "memory", "disk", "GPU")


def dry_run(
    study: Study,
    stages: Sequence[Stage],
    works: Mapping[Stage, Workload] | Refusal,
    jobs: int,
    nodes: int,
    every_stage: bool,
    calibrate: bool,
) -> Iterator[str]:
    """The lines of `--dry-run`.

    Args:
        study: the study.
        stages: its stages that are not done.
        works: what each of them does, see `studies.forecast.workloads`.
        jobs: stages that run side by side on one machine.
        nodes: machines of a cluster that is like this machine.
        every_stage: whether each stage has a line. Otherwise all seeds of an agent have one together.
        calibrate: whether this machine is measured first.

    Raises:
        Refusal: it is not known what the stages do, or there is nothing to calibrate by.
    """
    if isinstance(works, Refusal):
        raise works
    if not stages:
        return
    entries = all_rates()
    here = rates_of_this_machine(entries)
    if calibrate:
        here = calibrated(here)
    gpu = next((each for each in entries if each.device != "cpu"), None)
    if gpu is not None and here is not None:
        # A CPU core does what was not measured on a GPU, as BindsNET's simulation.
        gpu = replace(gpu, seconds={**_scaled(here), **gpu.seconds})
    forecasts = {stage: forecast_of(works[stage], here) for stage in stages}
    on_gpu = {stage: forecast_of(works[stage], gpu) for stage in stages}

    rows: list[tuple[str, ...]] = [HEADER]
    for group in _groups(stages, every_stage):
        rows.append(
            _row(group, [forecasts[stage] for stage in group], on_gpu[group[0]].gpu_share, every_stage)
        )
    total = _row(stages, [*forecasts.values()], None, False)
    rows.append(("all", "", *total[2:]))
    yield from _aligned(rows)
    yield ""
    largest = sorted((each.memory_bytes for each in forecasts.values()), reverse=True)[:jobs]
    if here is None:
        yield f"seconds are not known: {COSTS} is not there; make bench writes it"
    else:
        other = f" (another processor than {processor()})" if here.processor != processor() else ""
        scaled = f", times {here.scale:.2f} by calibration" if here.scale != 1 else ""
        yield f"costs: measured on {here.processor}{other}{scaled}"
    yield f"memory: {gib(sum(largest))} if the {jobs} largest run side by side, of {gib(available_bytes())} available"
    yield f"this machine, --jobs {jobs}: {duration(wall_seconds(stages, forecasts, jobs))}"
    if nodes > 1:
        wall = wall_seconds(stages, forecasts, jobs, nodes)
        yield f"{nodes} nodes like this machine, --jobs {jobs} on each: {duration(wall)}"
    if gpu is not None:
        slots = round(1 / GPU_SHARE)
        for count in (1, 8):
            wall = wall_seconds(stages, on_gpu, slots, count)
            yield f"{count} x {gpu.device}, {slots} stages and as many CPU cores each: {duration(wall)}"


def calibrated(rates: Rates | None) -> Rates:
    """The rates, scaled by what a few seconds of the same work take on this machine.

    Raises:
        Refusal: there is nothing to compare with, as in an installed SpikeQ.
    """
    if rates is None or not (HOUSE / "benchmarks").is_dir():
        raise Refusal("calibrate is given: it needs a checkout of SpikeQ, with results/benchmarks/costs.json")
    words = (sys.executable, "-m", "benchmarks.rates", "--calibrate")
    measured = subprocess.run(words, cwd=HOUSE, capture_output=True, text=True)
    if measured.returncode:
        last = next(iter(reversed(measured.stderr.strip().splitlines())), f"exit code {measured.returncode}")
        raise Refusal(f"calibrate is given, and its measurement failed: {last.removeprefix('error: ')}")
    ratios = [
        math.log(cost / rates.seconds[key][int(sim_steps)])
        for key, costs in json.loads(measured.stdout.splitlines()[-1]).items()
        for sim_steps, cost in costs.items()
        if cost > 0 and int(sim_steps) in rates.seconds.get(key, {})
    ]
    return replace(rates, scale=math.exp(sum(ratios) / len(ratios)))


def _scaled(rates: Rates) -> dict[str, dict[int, float]]:
    """Seconds of this machine, without those of states by themselves, which say nothing about another device."""
    return {
        key: {sim_steps: rates.scale * cost for sim_steps, cost in costs.items()}
        for key, costs in rates.seconds.items()
        if " alone " not in key
    }


def _groups(stages: Sequence[Stage], every_stage: bool) -> list[list[Stage]]:
    """Stages that share a line, in the study's order."""
    key: Callable[[Stage], object] = (
        (lambda stage: stage.manifest)
        if every_stage
        else (lambda stage: (stage.game, stage.kind, stage.agent_name))
    )
    groups: dict[object, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(key(stage), []).append(stage)
    return [*groups.values()]


def _row(
    group: Sequence[Stage], forecasts: Sequence[Forecast], gpu_share: float | None, every_stage: bool
) -> tuple[str, ...]:
    seconds = [each.seconds for each in forecasts if each.seconds is not None]
    total = sum(seconds) / 3600
    hours = f"{total:,.{0 if total >= 100 else 1 if total >= 1 else 3}f}" + (
        "" if len(seconds) == len(forecasts) else " and more"
    )
    agent = group[0].agent if every_stage else group[0].agent_name
    return (
        group[0].game,
        f"{group[0].kind} {agent}".strip(),
        str(len(group)),
        f"{sum(each.decisions for each in forecasts):,}",
        hours if seconds else "not known",
        gib(max(each.memory_bytes for each in forecasts)),
        gib(sum(each.disk_bytes for each in forecasts)),
        "" if gpu_share is None else f"{gpu_share:g}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
