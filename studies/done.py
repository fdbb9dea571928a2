"""Which stages of a study are finished: known from files alone. Never imports torch."""

from core.errors import Refusal
from core.manifest import Record, lock_of, read_manifest
from core.records import digest, to_json
from core.rows import ROWS_FORMAT
from studies.planning import Stage


def is_done(stage: Stage) -> bool:
    """Whether the same command has finished on the present inputs, and its results are unchanged."""
    manifest = read_manifest(stage.manifest)
    if manifest is None or not manifest.outputs or manifest.command != list(stage.arguments):
        return False
    if manifest.format != ROWS_FORMAT:  # the command itself refuses, and says what to do
        return False
    if lock_of(stage.manifest).exists():  # it was killed after its results were written
        return False
    return _is_made_from_needs(stage, manifest) and not any(manifest.mismatches())


def remove_outdated_results(stage: Stage) -> None:
    """Remove results of other inputs than the present ones.

    Weights may have been trained again, perhaps on a machine that rounds differently, or an extension with a registered
    agent may have been edited. The command would refuse to mix the results.
    """
    manifest = read_manifest(stage.manifest)
    if manifest is not None and manifest.outputs and not _is_made_from_needs(stage, manifest):
        for output, mismatch in manifest.mismatches():
            if output.exists():
                raise Refusal(
                    f"{mismatch}; its inputs have changed too: move it away to run {stage.name} again"
                )
        print(f"{stage.name}: its inputs have changed, and its results are made again", flush=True)
        stage.manifest.unlink()
        for name in manifest.outputs:
            (stage.manifest.parent / name).unlink(missing_ok=True)


def _is_made_from_needs(stage: Stage, manifest: Record) -> bool:
    """Whether the manifest names the digests of all present inputs, in full or by their first 12 digits."""
    named = to_json([manifest.spec, manifest.extensions])
    return all(need.is_file() and f'"{digest(need.read_bytes())[:12]}' in named for need in stage.needs)
