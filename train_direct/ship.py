"""The small copy of a trained agent."""

import os
from pathlib import Path

import torch

from core.checkpoint import load_agent, save_agent
from core.errors import Refusal


def ship(agent: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write a copy of a checkpoint with weights in half precision.

    Raises:
        Refusal: the checkpoint cannot be read, a weight is beyond half precision, or there is a file already.
    """
    source, out = load_agent(agent), Path(out)
    tensors = source.agent.state_dict().values()
    largest = max(tensor.double().abs().max().item() for tensor in tensors if tensor.numel())
    if largest > torch.finfo(torch.float16).max:
        raise Refusal(f"{os.fspath(agent)}: a weight of {largest:g} is beyond half precision")
    if out.exists():
        raise Refusal(f"{out} exists; remove it, or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_agent(out, source.agent, {**source.provenance, "rounded_from": source.id}, dtype=torch.float16)
