"""python reproduce.py STUDY: run the stages of a study, each as the command a user would type.

Files alone show which stages are done. A stage is skipped if its manifest was made by the same command from the same
inputs and its results are unchanged. Any other stage is started, and its command resumes or refuses.
"""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import contextlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.cli import main
from core.errors import Refusal
from core.ranges import Seed, Whole
from core.records import open_own
from core.words import count
from core.workload import Workload
from studies.done import done_of, remaining
from studies.dry_run import dry_run
from studies.engine import Engine, LocalEngine, Needs
from studies.forecast import GPU_SHARE, all_rates, forecast_of, gpu_share, rates_of_this_machine, workloads
from studies.logs import folder_of
from studies.planning import Stage, StageKind, narrowed, plan, with_needs
from studies.reading import Study, read_study
from studies.running import Failure, report, run_all
from studies.showing import Screen, status_lines
from studies.status import driving, statuses


@dataclass(frozen=True)
class Reproduce:
    """Run a study: train, convert, evaluate and attack. Then draw its figures and write its page.

    A stage that fails is tried again once. The others go on, and the exit code is 1.

    Examples:
        spikeq reproduce quick
        spikeq reproduce paper --dry-run --nodes 64
        spikeq reproduce examples/my_study/my_study.toml --out runs/mine
    """

    study: Annotated[str, tyro.conf.Positional]
    """Name of a built-in study, as in quick, or path of a file, as in my_study.toml."""
    out: Path | None = None
    """Folder of the results. Default: a folder of the study's name, beside its file; results/STUDY for a built-in
    study."""
    only: StageKind | None = None
    """Run only stages of this kind, and the stages that they need."""
    games: tuple[str, ...] = ()
    """Run only stages of these games, and the stages that they need."""
    agents: tuple[str, ...] = ()
    """Run only stages of these agents, named without their training seed, as in dqn or snn-t8."""
    seeds: tuple[Seed, ...] = ()
    """Run only stages of agents with these training seeds."""
    jobs: Annotated[int, Whole(0, 1024)] = 0
    """Most stages to run side by side. 0: as many as have a core for each of their threads."""
    engine: Literal["local", "ray"] = "local"
    """What runs the stages: processes of this machine, or Ray (the extra cluster)."""
    address: str | None = None
    """With --engine ray, the address of a running cluster, as in auto. Default: Ray is started on this machine."""
    status: bool = False
    """Only say how far each stage is, also while another process runs the study. Nothing is started or written."""

    dry_run: bool = False
    """Only say what the stages that are not done will take. Nothing is run or written."""
    stages: bool = False
    """With --dry-run: a line for every stage. Without it, all seeds of an agent share a line."""
    nodes: Annotated[int, Whole(1, 100_000)] = 1
    """With --dry-run: also the time on a cluster of so many machines like this one."""
    calibrate: bool = False
    """With --dry-run: measure first how fast this machine is (at most 30 s)."""

    def run(self) -> None:
        self._require_fitting_options()
        study = read_study(self.study, self.out)
        stages = plan(study)
        if self.only:
            stages = with_needs([stage for stage in stages if stage.kind == self.only], stages)
        stages = narrowed(stages, self.games, self.agents, self.seeds)
        if not stages:
            study.source.refuse(
                ("games",), f"asks for no stage{f' of kind {self.only}' if self.only else ''}"
            )
        if self.status:
            print(*status_lines(study, [*statuses(study, stages)]), sep="\n")
            return
        if self.engine == "ray":
            import_module("studies.ray_engine")  # refused before the work if it is not installed
        waiting = remaining(stages, done_of(stages))
        works = workloads(study, waiting)
        print(
            f"study {study.name}: {len(stages) - len(waiting)} of {len(stages)} stages are done already",
            flush=True,
        )
        if self.dry_run:
            for line in dry_run(
                study, waiting, works, self._jobs(study), self.nodes, self.stages, self.calibrate
            ):
                print(line)
            return
        with driving(study):
            failures = self._run(study, stages, waiting, works)
            is_concluded = _conclude(study)
        if failures:
            report(study, failures)
        if failures or not is_concluded:
            sys.exit(1)

    def _run(
        self,
        study: Study,
        stages: list[Stage],
        waiting: list[Stage],
        works: Mapping[Stage, Workload] | Refusal,
    ) -> list[Failure]:
        """Run what waits, and then, in turn, what rests on results that came out otherwise.

        Returns:
            The stages that were given up. After one of them nothing more is looked for.
        """
        ran: list[list[Stage]] = []
        while waiting and waiting not in ran:
            if ran:
                more = f"{count(len(waiting), 'stage')} more, because results came out otherwise"
                trainings = [stage.name for stage in waiting if stage.kind == "train"]
                print(f"study {study.name}: {more}{''.join(f'; {name}' for name in trainings)}", flush=True)
            ran.append(waiting)
            engine = self._engine(study)
            needs = _needs(study, waiting, works, engine.has_gpu)
            if failures := run_all(study, waiting, engine, needs.__getitem__, Screen()):
                return failures
            waiting = remaining(stages, done_of(stages))
            works = workloads(study, waiting)
        return []

    def _require_fitting_options(self) -> None:
        """Refuse options without the one that uses them."""
        for option, usual in (("stages", False), ("nodes", 1), ("calibrate", False)):
            if getattr(self, option) != usual and not self.dry_run:
                raise Refusal(f"{option} is given without --dry-run, which alone uses it")
        if self.address is not None and self.engine != "ray":
            raise Refusal(f"address is {self.address!r}, without --engine ray, which alone uses it")

    def _jobs(self, study: Study) -> int:
        """Stages that run side by side on this machine."""
        return self.jobs or max(1, len(os.sched_getaffinity(0)) // study.threads)

    def _engine(self, study: Study) -> Engine:
        if self.engine == "ray":
            from studies.ray_engine import RayEngine

            return RayEngine(study, self.jobs, self.address)
        return LocalEngine(study, self._jobs(study))


def _needs(
    study: Study, stages: Sequence[Stage], works: Mapping[Stage, Workload] | Refusal, has_gpu: bool
) -> dict[Stage, Needs]:
    """What each stage takes while it runs, as it is forecast.

    Without a forecast, as with a damaged agent, only threads and GPUs count. The stage that reads the agent says what
    is wrong.
    """
    if isinstance(works, Refusal):
        print(f"memory is not forecast: {works}")
        return {stage: Needs(study.threads, gpu_share=GPU_SHARE if has_gpu else 0.0) for stage in stages}
    rates = rates_of_this_machine(all_rates())
    return {
        stage: Needs(
            study.threads,
            work.memory_bytes,
            work.disk_bytes,
            gpu_share(work, has_gpu),
            forecast_of(work, rates).seconds or 0.0,
        )
        for stage, work in works.items()
    }


def _conclude(study: Study) -> bool:
    """Draw the study and write its page. What is printed about figures goes to a log, and a few lines stay.

    Returns:
        Whether all of it could be made. What could not is said on standard error.
    """
    from analysis.report.page import write_report
    from analysis.rows import EPISODES, StudyRows
    from analysis.summary import summary
    from plot import Plot

    folder = Path(os.path.relpath(study.base / study.folder))
    log = Path(os.path.relpath(folder_of(study) / "figures.log"))

    def draw() -> None:
        with (
            open_own(log, "wb") as content,
            io.TextIOWrapper(content, "utf-8", "replace") as file,
            contextlib.redirect_stdout(file),
        ):
            try:
                Plot((str(folder),)).run()
            except Refusal as refusal:
                print(f"error: {refusal}")
                raise Refusal(f"not all could be drawn; {log} says why")

    def sum_up() -> None:
        if lines := summary(StudyRows(folder).rows(EPISODES)):
            scores = folder / "scores.md"
            print("mean scores:", *(f"  {line}" for line in lines), f"intervals: {scores}", sep="\n")

    def write_page() -> None:
        if any(folder.rglob("*.parquet")):
            print(f"page: {os.path.relpath(write_report(folder))}")

    is_whole = True
    for what, make in (("figures", draw), ("mean scores", sum_up), ("page", write_page)):
        try:
            make()
        except Refusal as refusal:
            print(f"{what}: {refusal}", file=sys.stderr)
            is_whole = False
    return is_whole


if __name__ == "__main__":
    main("python reproduce.py", Reproduce)
