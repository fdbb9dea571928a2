"""What a command is forecast to do, in amounts that rates turn into seconds. Never imports torch.

A command with a method `workload` tells it from its own options. `studies.forecast` asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Work = Literal["environment", "decide", "update", "convert", "gradient", "embed"]
"""Kinds of work, each with the unit that is counted:

- environment: a decision in a game, without the network.
- decide: scores of a state.
- update: a transition of a batch that is learnt from.
- convert: a calibration state of a conversion, without distillation. The kind is the method;
  bindsnet simulates a state in BindsNET.
- embed: a state of a picture of representations (t-SNE). The kind is empty.
- gradient: a gradient with respect to one state, of an attack.
"""
AT_ONCE = 32
"""States that are computed side by side where costs are measured."""
PROCESS_BYTES = 950 * 2**20
"""Memory of a stage that plays ten games with a small network, measured. Two thirds are torch itself."""


class WorkPart(NamedTuple):
    """An amount of one kind of work."""

    work: Work
    tier: str
    """The tier of the game."""
    kind: str
    """Kind of the agent, as in dqn; with what changes its cost, as in dsqn+bf16. Empty for environments."""
    sim_steps: int
    """Simulation steps of its decisions."""
    amount: float
    """In the unit of the work."""
    at_once: float = AT_ONCE
    """States that are computed side by side. The fewer they are, the more each costs."""


@dataclass(frozen=True)
class Workload:
    """What one command is forecast to do."""

    parts: Sequence[WorkPart]
    memory_bytes: int = PROCESS_BYTES
    disk_bytes: int = 0
    """What it writes at most at one time, what is needed only to resume included."""
    can_use_gpu: bool = False
    """Whether the command may compute on a GPU: it has the option --device, which is not cpu."""

    @property
    def decisions(self) -> int:
        """Decisions made in games."""
        return round(sum(part.amount for part in self.parts if part.work == "environment"))
