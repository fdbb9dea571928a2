"""The quantised DQN, a step between the DQN and the converted network."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from core.agents import AGENT_CLASSES, Decision, require_sim_steps
from core.games import Game
from core.gradients import GradientSource
from core.layered import Layered, LayerTrace
from core.layers import (
    Hidden,
    Padding,
    apply_layer,
    apply_to_image,
    layers_from_config,
    require_image_bits,
)
from core.rate_coded.torch_engine import IFNeuron


class _Staircase(torch.autograd.Function):
    """clip(floor(levels z + start), 0, levels) / levels, with the gradient of clip(z, 0, 1)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, levels: int, start: float) -> Tensor:
        ctx.save_for_backward(z)
        return (levels * z + start).floor_().clamp_(0, levels) / levels

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        return grads[0] * ((z >= 0) & (z <= 1)), None, None


@AGENT_CLASSES.register("quantised")
class QuantisedDQN(Layered):
    """A Q-network whose activations have a few levels, without simulation steps.

    A hidden neuron's activation is clip(floor(L z + v_init), 0, L) / L. With v_init = 1/2 this is the quantisation of
    QCFS (Bu et al. 2022, arXiv 2303.04347). It equals the rate of an IF neuron with the constant current z after L
    simulation steps. Weights are normalised to thresholds of 1 and have the names of a converted network's weights, so
    each network can load the other's.

    Args:
        levels: L.
        v_init: 1/2 rounds to the nearest level, 0 rounds down.
        image_bits: see `apply_to_image`; None does not round.
        game, bias, padding, hidden: see `Layered`.
    """

    kind = "quantised"
    output_scale: Tensor
    """[] float32: factor from the normalised output to Q-values."""

    def __init__(
        self,
        game: Game,
        levels: int,
        v_init: float = 0.5,
        bias: bool = True,
        image_bits: int | None = None,
        padding: Padding = "valid",
        hidden: Hidden | None = None,
    ):
        super().__init__(game, bias, padding, hidden)
        require_sim_steps(levels)
        IFNeuron(v_init=v_init)  # refuses what no neuron of a converted network starts with
        require_image_bits(image_bits)
        self.levels = levels
        self.v_init = v_init
        self.image_bits = image_bits
        self.register_buffer("output_scale", torch.ones(()))

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        *_, output = self.layers
        return Decision(
            self.output_scale * apply_layer(output, self.activations(observations)[-1]), None, None
        )

    def activations(self, observations: Tensor) -> list[Tensor]:
        """Activations [B, ...] of each hidden layer."""
        first, *hidden, _ = self.layers
        outputs = [
            _Staircase.apply(apply_to_image(first, observations, self.image_bits), self.levels, self.v_init)
        ]
        for layer in hidden:
            outputs.append(_Staircase.apply(apply_layer(layer, outputs[-1]), self.levels, self.v_init))
        return outputs

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        heard = [observations, *self.activations(observations)]
        return [LayerTrace(x, False, None, x.new_zeros(len(x))) for x in heard]

    def gradient_sources(self) -> Iterator[GradientSource]:
        """Its own gradient, straight through the staircases; and a DQN with ReLU and the same weights."""
        yield GradientSource(self, "straight-through", same_scores=True)
        # A converted network has the same names of weights and can make a DQN of them.
        from core.rate_coded.network import RateCodedNetwork, RateCoding

        converted = RateCodedNetwork(
            self.game, RateCoding(self.levels), self.bias, self.padding, self.hidden
        ).to(self.device)
        converted.load_state_dict(self.state_dict())
        yield converted.twin_source()

    def config(self) -> dict[str, Any]:
        return {
            "levels": self.levels,
            "v_init": self.v_init,
            "bias": self.bias,
            "image_bits": self.image_bits,
            "padding": self.padding,
            **self.layers_config(),
        }

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        make = functools.partial(cls, game)
        return make(**layers_from_config(make, config))
