"""Small copies of trained agents and of run folders: weights in half precision."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import Checkpoint, load_agent, save_agent
from core.errors import Refusal
from core.games import Game
from core.manifest import Record, read_manifest, write_copy
from core.records import write_bytes
from play.entrants import load

ENDING = ".safetensors"
"""Ending of files with weights."""


def ship(agent: str | os.PathLike[str], out: str | os.PathLike[str], game: Game | None = None) -> bool:
    """Write a copy of an agent with weights in half precision.

    Args:
        agent: a checkpoint, a run folder (its best weights), or a registered agent.
        out: the file to write.
        game: what a registered agent plays.

    Returns:
        Whether there was work to do. If the file is this copy already, there is none.

    Raises:
        Refusal: the agent cannot be read, or no file can hold it; a weight is beyond half precision; or there is
            another file.
    """
    source, out = load(agent, game), Path(out)
    type(source.agent).from_config(source.agent.game, source.agent.config())  # refuses what no file can hold
    tensors = source.agent.state_dict().values()
    if not tensors:
        raise Refusal(f"{os.fspath(agent)} has no weights to copy")
    largest = max(tensor.double().abs().max().item() for tensor in tensors if tensor.numel())
    if largest > torch.finfo(torch.float16).max:
        raise Refusal(f"{os.fspath(agent)}: a weight of {largest:g} is beyond half precision")
    if os.path.lexists(out):
        if _is_copy(out, source, _rounded(source)):
            return False
        raise Refusal(f"{out} exists; remove it, or choose another --out")
    save_agent(out, source.agent, _rounded(source), dtype=torch.float16)
    return True


def ship_run(run: str | os.PathLike[str], out: str | os.PathLike[str]) -> bool:
    """Write a copy of a finished run folder with weights in half precision.

    Stages of a study take the copy for the run itself: its manifest holds the same command.

    Args:
        run: folder of a training run.
        out: folder of the copy.

    Returns:
        Whether there was work to do. If the folder is this copy already, there is none.

    Raises:
        Refusal: the run is unfinished or was changed, a weight is beyond half precision, or the folder exists.
    """
    run, out = Path(run), Path(out)
    record = read_manifest(run / "manifest.json")
    if record is None or not record.outputs:
        raise Refusal(
            f"{run} is not the folder of a finished training run: a .safetensors file is needed for --out"
        )
    for _, mismatch in record.mismatches():
        raise Refusal(mismatch)
    if os.path.lexists(out):
        if _is_copy_of_run(out, run, record):
            return False
        raise Refusal(f"{out} exists; remove it, or choose another --out")
    # All or nothing: a folder without its manifest would belong to nobody.
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        for name in record.outputs:
            if name.endswith(ENDING):
                ship(run / name, partial / name)
            else:
                write_bytes(partial / name, (run / name).read_bytes())
        write_copy(record.path, partial, [partial / name for name in record.outputs])
        partial.chmod(run.stat().st_mode)  # temporary folders are their maker's alone
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _is_copy_of_run(out: Path, run: Path, record: Record) -> bool:
    """Whether a folder is the small copy of a run."""
    try:
        found = read_manifest(out / "manifest.json")
    except (Refusal, OSError):
        return False
    if found is None or (found.spec, found.outputs.keys()) != (record.spec, record.outputs.keys()):
        return False
    if any(found.mismatches()):
        return False
    return all(
        _is_copy(out / name, source := load_agent(run / name), _rounded(source))
        if name.endswith(ENDING)
        else found.outputs[name] == record.outputs[name]
        for name in record.outputs
    )


def _rounded(source: Checkpoint) -> dict[str, Any]:
    """What a small copy tells of its making."""
    return {**source.provenance, "rounded_from": source.id}


def _is_copy(out: Path, source: Checkpoint, provenance: dict[str, Any]) -> bool:
    """Whether a file is the small copy of an agent."""
    try:
        found = load_agent(out)
    except (Refusal, OSError):
        return False
    weights, rounded = found.agent.state_dict(), source.agent.state_dict()
    return (
        (found.provenance, found.agent.config()) == (provenance, source.agent.config())
        and weights.keys() == rounded.keys()
        and all(torch.equal(weights[name], rounded[name].half().float()) for name in weights)
    )
