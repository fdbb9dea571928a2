"""Conversion methods: their interface and their registry.

A method makes a rate-coded network from a trained DQN. It is a frozen dataclass whose fields are its options, in one
file of its own, registered in `METHODS`:

    @METHODS.register("my-method")
    @dataclass(frozen=True, kw_only=True)
    class MyMethod(Method):
        gain: float = 1.0

        def convert(self, dqn, states, coding, training):
            ...

`convert run --method my-method --method-options gain=2` runs it. `convert compare --variants my-method` measures it.
"""

import abc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from core.choices import Firing
from core.dqn import DQN
from core.memory import require_fits
from core.ranges import require_ranges
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import to_json
from core.registry import Registry
from core.workload import WorkPart
from play.expected import Expected


class Converted(NamedTuple):
    """A converted network and the scales that it was made with."""

    snn: RateCodedNetwork
    scales: list[Tensor]
    """One tensor a layer, [1] or [C]: the activation that a rate of 1 stands for. It is one of the DQN's, unless the
    method trains, or fills a layer with other neurons (`Method.keeps_neurons`)."""
    guarded: bool = False
    """Whether the output scale was taken from magnitudes, because its percentile was not positive."""

    def settings(self) -> dict[str, Any]:
        """The scales as JSON-able values, for rows and checkpoints."""
        return {
            "scales": [scale.tolist() if len(scale) > 1 else scale.item() for scale in self.scales],
            "output_scale_guarded": self.guarded,
        }


class Training(NamedTuple):
    """What a method that trains needs besides the states to calibrate on. Other methods leave it alone."""

    seed: int = 0
    """Seed of everything that training draws."""
    held_out: np.ndarray | None = None
    """[S, *observation] that training must not use."""
    taught: RateCodedNetwork | None = None
    """A network with weights from an earlier run of the same training; None trains anew."""


@dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """A way to convert a DQN. An instance holds the chosen options.

    Numbers declare what they accept (`core.ranges`), and others are refused.
    """

    firing: ClassVar[Firing] = "at-once"
    """When neurons fire, unless the user chooses otherwise."""
    v_init: ClassVar[float] = 0.0
    """Membranes before a decision, in thresholds, unless the user chooses otherwise."""
    depends_on_sim_steps: ClassVar[bool] = True
    """Whether a network is made for one number of simulation steps, so that another one needs another conversion."""
    max_sim_steps: ClassVar[int | None] = None
    """The largest number of simulation steps at which `convert compare` measures the method. None sets no limit."""
    keeps_neurons: ClassVar[bool] = True
    """Whether each neuron stands for the DQN's neuron in its place, so that rates can be compared with activations."""
    training: ClassVar[str | None] = None
    """Name of the training that makes the weights; None if they are computed. Methods with the same training and the
    same options can share weights. A training is named after the method that takes its weights as they are."""
    later: ClassVar[Mapping[str, Any]] = {}
    """Options that are younger than some records, with the values that records without them mean."""

    def __post_init__(self) -> None:
        require_ranges(self)

    @property
    def name(self) -> str:
        """The name under which the method is registered."""
        return METHODS.name_of(type(self))

    def require_sound(self, coding: RateCoding) -> None:  # noqa: B027  # most methods accept every coding
        """Refuse a coding that the method cannot convert to. Called before any work starts."""

    def require_convertible(self, dqn: DQN) -> None:  # noqa: B027  # most methods convert every DQN
        """Refuse a DQN that the method cannot convert. Called before any work starts."""

    def conversion_bytes(self, dqn: DQN, states: int) -> int:
        """Forecast of the memory that converting on so many states takes, in bytes; 0 if it is small."""
        return 0

    def require_room(self, dqn: DQN, states: int) -> None:
        """Refuse more calibration states than can be converted on in the memory that is there."""
        require_fits("calibration_states", states, self.conversion_bytes(dqn, states), f"{self.name} on them")

    def work(self, snn: RateCodedNetwork, states: int, expected: Expected, taught: bool) -> list[WorkPart]:
        """What making a network is forecast to do. A method that trains adds its training.

        Args:
            snn: a network of the shape that it makes.
            states: number of states to calibrate on.
            expected: what is known of agents and games before they are played.
            taught: whether the weights come from an earlier run of the same training.
        """
        return [WorkPart("convert", snn.game.tier, self.name, snn.sim_steps, states)]

    def training_key(self, coding: RateCoding) -> str:
        """What decides the weights that training makes. Methods with equal keys share them."""
        return to_json([self.training, asdict(self), coding.neuron.v_init, coding.sim_steps])

    @abc.abstractmethod
    def convert(
        self,
        dqn: DQN,
        states: np.ndarray,
        coding: RateCoding,
        training: Training,
    ) -> Converted:
        """Make the network.

        Args:
            dqn: the network to convert; it is not changed.
            states: [S, *observation] to calibrate on, as the environments gave them.
            coding: how the converted network is simulated.
            training: what a method that trains needs besides.

        Raises:
            Refusal: a layer is dead on the calibration states.
        """


METHODS: Registry[type[Method]] = Registry("conversion method", package="convert.methods")
