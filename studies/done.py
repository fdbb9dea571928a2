"""Which stages of a study are finished: known from files alone. Never imports torch."""

import contextlib
from collections.abc import Sequence, Set
from pathlib import Path

from core.errors import Refusal
from core.extensions import changed_extensions
from core.manifest import Record, lock_of, read_manifest, recorded_digests
from core.records import digest, to_json
from core.rows import ROWS_FORMAT
from studies.planning import Stage


def is_done(stage: Stage) -> bool:
    """Whether the same command has finished on these inputs, and its results are unchanged.

    Weights may be missing, of the inputs and of the results: a clone of the repository has the rows, not all weights.

    Raises:
        Refusal: a manifest is damaged.
    """
    manifest = read_manifest(stage.manifest)
    if manifest is None or not manifest.outputs or manifest.command != list(stage.arguments):
        return False
    if manifest.format != ROWS_FORMAT:  # the command itself refuses, and says what to do
        return False
    if lock_of(stage.manifest).exists():  # it was killed after its results were written
        return False
    damaged = (output for output, _ in manifest.mismatches() if output.exists() or not _is_weights(output))
    if _is_of_other_code(stage, manifest) or any(damaged):
        return False
    return _is_made_from_needs(stage, manifest)


def done_of(stages: Sequence[Stage]) -> set[Stage]:
    """The stages that are done. One whose manifest is damaged is not, and is refused by name when it is started."""
    done = set()
    for stage in stages:
        with contextlib.suppress(Refusal):
            if is_done(stage):
                done.add(stage)
    return done


def remaining(stages: Sequence[Stage], done: Set[Stage]) -> list[Stage]:
    """The stages that have to run: those that are not done, and those that make missing weights which these need.

    Args:
        stages: stages, each after those that it needs.
        done: those that `is_done`.
    """
    chosen: set[Stage] = set()
    needed: set[Path] = set()
    for stage in reversed(stages):
        if stage not in done or any(result in needed and not result.is_file() for result in stage.results):
            chosen.add(stage)
            needed.update(stage.needs)
    return [stage for stage in stages if stage in chosen]


def _is_weights(path: Path) -> bool:
    return path.suffix == ".safetensors"


def remove_outdated_results(stage: Stage) -> None:
    """Remove results of other inputs than the present ones.

    Weights may have been trained again, perhaps on a machine that rounds differently, or an extension may have been
    edited. The command would refuse to mix the results.

    Raises:
        Refusal: an input is missing, or results were changed.
    """
    manifest = read_manifest(stage.manifest)
    if manifest is None:
        return
    if _is_of_other_code(stage, manifest) or (manifest.outputs and not _is_made_from_needs(stage, manifest)):
        for need in stage.needs:
            if not _digests(need):
                raise Refusal(
                    f"{need} is missing, which {stage.name} needs; its results are left as they are"
                )
        for output, mismatch in manifest.mismatches():
            if output.exists():
                raise Refusal(
                    f"{mismatch}; its inputs have changed too: move it away to run {stage.name} again"
                )
        print(f"{stage.name}: its inputs have changed, and its results are made again", flush=True)
        unrecorded = [] if manifest.outputs else stage.results
        for result in (*(stage.manifest.parent / name for name in manifest.outputs), *unrecorded):
            result.unlink(missing_ok=True)
        stage.manifest.unlink()  # last: without it, after a kill, nobody knew whose the results are


def _is_made_from_needs(stage: Stage, manifest: Record) -> bool:
    """Whether the manifest names the digests of all inputs, in full or by their first 12 digits."""
    named = to_json(manifest.spec)
    return all(any(f'"{each[:12]}' in named for each in _digests(need)) for need in stage.needs)


def _is_of_other_code(stage: Stage, manifest: Record) -> bool:
    """Whether an extension has changed since. Trainings are kept although one has, for they take days."""
    return stage.kind != "train" and bool(changed_extensions(manifest.extensions))


def _digests(need: Path) -> list[str]:
    """The digest of an input. If it is weights that are missing, the one that was recorded when they were made."""
    if need.is_file():
        return [digest(need.read_bytes())]
    return recorded_digests(need) if _is_weights(need) else []
