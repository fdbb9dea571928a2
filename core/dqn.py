"""The DQN and the actor of PPO, both networks with ReLU."""

import functools
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from core.agents import AGENT_CLASSES, Decision
from core.games import Game
from core.layered import Layered, LayerTrace
from core.layers import ACTOR_HIDDEN_LAYERS, apply_layer, layers_from_config


@AGENT_CLASSES.register("dqn")
class DQN(Layered):
    """The Q-network with ReLU. Its arguments are those of `Layered`."""

    kind = "dqn"

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        return Decision(self.preactivations(observations)[-1], None, None)

    def preactivations(self, observations: Tensor) -> list[Tensor]:
        """Outputs of each layer before its ReLU. The last are the Q-values [B, A]."""
        *hidden, output = self.layers
        outputs: list[Tensor] = []
        x = observations
        for layer in hidden:
            outputs.append(apply_layer(layer, x))
            x = outputs[-1].relu()
        return [*outputs, apply_layer(output, x)]

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        heard = [observations, *(z.relu() for z in self.preactivations(observations)[:-1])]
        return [LayerTrace(x, False, None, x.new_zeros(len(x))) for x in heard]

    def config(self) -> dict[str, Any]:
        return {"bias": self.bias, "padding": self.padding, **self.layers_config()}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        make = functools.partial(cls, game)
        return make(**layers_from_config(make, config))


@AGENT_CLASSES.register("actor")
class Actor(DQN):
    """The policy of PPO: a smaller network with ReLU, whose scores [B, A] are the logits of actions.

    The greedy action, which evaluation plays, is the most probable one.
    """

    kind = "actor"
    scores_are_q_values = False
    architecture = ACTOR_HIDDEN_LAYERS
