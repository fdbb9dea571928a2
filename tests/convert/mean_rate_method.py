"""An extension: a conversion method in one file, which nothing else in the repository knows."""

from dataclasses import dataclass

import numpy as np
import torch

from convert.method import METHODS, Converted, Method
from convert.scaling import scaled_network
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.states import batches


@METHODS.register("mean-rate")
@dataclass(frozen=True, kw_only=True)
class MeanRate(Method):
    """The scale of a layer is `gain` times its mean positive output."""

    gain: float = 4.0

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise Refusal(f"gain is {self.gain}: accepted is above 0")

    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        seed: int = 0,
        held_out: np.ndarray | None = None,
        taught: RateCodedNetwork | None = None,
    ) -> Converted:
        (inputs,) = batches(dqn, states, size=len(states))
        outputs = [z.abs() if z.ndim == 2 else z.relu() for z in dqn.preactivations(inputs)]
        scales = [torch.tensor([self.gain * z[z > 0].mean().item()]) for z in outputs]
        return Converted(scaled_network(dqn, scales, coding), scales)
