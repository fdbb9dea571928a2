"""The verb ship: the small copy of a trained agent."""

from dataclasses import dataclass
from pathlib import Path

import torch

from core.checkpoint import load_agent, save_agent
from core.errors import Refusal


@dataclass(frozen=True, kw_only=True)
class Ship:
    """Make a small copy of a trained agent: its weights in half precision.

    The copy is another agent than the original, and is evaluated as such.
    """

    agent: Path
    """Checkpoint (.safetensors) to copy."""
    out: Path
    """File to write."""

    def run(self) -> None:
        source = load_agent(self.agent)
        largest = max(float(tensor.abs().max()) for tensor in source.agent.state_dict().values())
        if largest > torch.finfo(torch.float16).max:
            raise Refusal(f"{self.agent}: a weight of {largest:g} is beyond half precision")
        if self.out.exists():
            raise Refusal(f"{self.out} exists; remove it, or choose another --out")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        save_agent(
            self.out, source.agent, {**source.provenance, "rounded_from": source.id}, dtype=torch.float16
        )
        print(f"{self.out}: {self.out.stat().st_size / 2**20:.1f} MiB")
