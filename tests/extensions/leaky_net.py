"""A foreign network as an agent in one file: snnTorch's leaky neurons, untrained, with weights from a fixed seed."""

import snntorch
import torch
from torch import Tensor, nn

from core.adapt.adapted import AdaptedAgent, adapt
from core.agents import AGENTS
from core.games import Game


class LeakyNet(nn.Module):
    """One hidden layer of leaky neurons, called once for each simulation step."""

    def __init__(self, game: Game):
        super().__init__()
        inputs = int(torch.tensor(game.observation_shape).prod())
        self.hidden, self.output = nn.Linear(inputs, 64), nn.Linear(64, game.num_actions)
        self.neurons = snntorch.Leaky(beta=0.5, init_hidden=True)

    def forward(self, observations: Tensor) -> Tensor:
        scores: Tensor = self.output(self.neurons(3 * self.hidden(observations.flatten(1))))
        return scores


@AGENTS.register("leaky-net")
def leaky_net(game: Game) -> AdaptedAgent:
    """The network as an agent of a game."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = LeakyNet(game)
    return adapt(module, game, sim_steps=4)
