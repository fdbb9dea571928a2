"""The small copy of a trained agent."""

import os
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import Checkpoint, load_agent, save_agent
from core.errors import Refusal
from core.games import Game
from play.entrants import load


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
    provenance = {**source.provenance, "rounded_from": source.id}
    if out.exists():
        if _is_copy(out, source, provenance):
            return False
        raise Refusal(f"{out} exists; remove it, or choose another --out")
    save_agent(out, source.agent, provenance, dtype=torch.float16)
    return True


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
