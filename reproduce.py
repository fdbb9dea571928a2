"""python reproduce.py STUDY: run the stages of a study, each as the command a user would type.

Files alone show which stages are done. A stage is skipped if its manifest was made by the same command from the same
inputs and its results are unchanged. Any other stage is started, and its command resumes or refuses.
"""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.cli import main
from core.errors import Refusal
from core.ranges import Seed, Whole
from studies.checking import require_accepted
from studies.done import is_done
from studies.dry_run import dry_run
from studies.planning import StageKind, narrowed, plan, with_needs
from studies.reading import read_study
from studies.running import run_all


@dataclass(frozen=True)
class Reproduce:
    """Run a study: train, convert, evaluate and attack. Then draw its figures and print its table.

    Examples:
        spikeq reproduce quick
        spikeq reproduce minatar --only attack --jobs 2
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
    """Number of stages to run side by side; 0 runs one per core."""

    dry_run: bool = False
    """Only say what the stages that are not done will take. Nothing is run or written."""
    stages: bool = False
    """With --dry-run: a line for every stage. Without it, all seeds of an agent share a line."""
    nodes: Annotated[int, Whole(1, 100_000)] = 1
    """With --dry-run: also the time on a cluster of so many machines like this one."""
    calibrate: bool = False
    """With --dry-run: measure first how fast this machine is (at most 30 s)."""

    def run(self) -> None:
        self._require_dry_run()
        study = read_study(self.study, self.out)
        stages = plan(study)
        if self.only:
            stages = with_needs([stage for stage in stages if stage.kind == self.only], stages)
        stages = narrowed(stages, self.games, self.agents, self.seeds)
        if not stages:
            study.source.refuse(
                ("games",), f"asks for no stage{f' of kind {self.only}' if self.only else ''}"
            )
        waiting = [stage for stage in stages if not is_done(stage)]
        require_accepted(study, waiting)
        jobs = self.jobs or len(os.sched_getaffinity(0))
        print(
            f"study {study.name}: {len(stages) - len(waiting)} of {len(stages)} stages are done already",
            flush=True,
        )
        if self.dry_run:
            for line in dry_run(study, waiting, jobs, self.nodes, self.stages, self.calibrate):
                print(line)
            return
        if waiting:
            run_all(study, waiting, jobs)
        from plot import Plot

        Plot((os.path.relpath(study.base / study.folder),)).run()

    def _require_dry_run(self) -> None:
        """Refuse options that only a dry run has."""
        for option, usual in (("stages", False), ("nodes", 1), ("calibrate", False)):
            if getattr(self, option) != usual and not self.dry_run:
                raise Refusal(f"{option} is given without --dry-run, which alone uses it")


if __name__ == "__main__":
    main("python reproduce.py", Reproduce)
