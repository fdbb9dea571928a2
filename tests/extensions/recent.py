"""A read-out in one file: the mean current of the later simulation steps."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from core.ranges import Real
from core.readouts import READOUTS, Output, Readout


@READOUTS.register("recent")
@dataclass(frozen=True, kw_only=True)
class Recent(Readout):
    """The output layer's mean current over the last share of the simulation steps."""

    output_has_membrane: ClassVar[bool] = False

    share: Annotated[float, Real(0, 1, above=True)] = 0.5
    """Share of the simulation steps that count, the latest ones."""

    def scores(self, train: Tensor, output: Output) -> Tensor:
        currents = output.currents(train)  # [T, B, A]
        return currents[-max(1, round(self.share * len(currents))) :].mean(0)
