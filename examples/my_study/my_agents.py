"""An agent of one's own: it pushes the cart to the side to which the pole leans and turns."""

from typing import Any

import torch
from torch import Tensor

from spikeq import AGENTS, Agent, Decision, Game


class Leaning(Agent):
    """Scores of left and right: minus and plus the pole's angle and angular velocity, weighted."""

    kind = "leaning"
    scores_are_q_values = False

    def __init__(self, game: Game):
        super().__init__()
        self.game = game
        self.register_buffer("weights", torch.tensor([0.0, 0.0, 1.0, 1.0]))

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        to_the_right = observations @ self.weights
        return Decision(torch.stack([-to_the_right, to_the_right], dim=1), None, None)

    def config(self) -> dict[str, Any]:
        return {}


AGENTS.register("leaning")(Leaning)
