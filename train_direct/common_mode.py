"""Common-mode compensation: an auxiliary network learns what the values of all actions have in common.

Xu et al. 2026 (arXiv 2610.07808), CMC-DSQN. While training,

    Q(s, a) = Q_snn(s, a) - mean_b Q_snn(s, b) + C(s),

where C is an auxiliary ReLU network with one output. The spiking network then represents only differences between
actions, and few simulation steps are enough for these. The greedy action does not depend on C. So C is dropped after
training: it is not part of the agent that acts, is saved and is evaluated.
"""

import torch
from torch import Tensor, nn

from core.dsqn import DSQN
from core.layers import apply_layer, build_layers, initialise


class CommonMode(nn.Module):
    """A DSQN with its auxiliary network, which the learner trains together.

    Args:
        snn: the spiking network. It alone is the agent that acts.
        generator: of the auxiliary network's initial weights.
    """

    def __init__(self, snn: DSQN, generator: torch.Generator):
        super().__init__()
        self.snn = snn
        self.game = snn.game
        self.layers, _ = build_layers(snn.game, snn.hidden, bias=True, num_outputs=1)
        initialise(self.layers, generator)

    @property
    def device(self) -> torch.device:
        return self.snn.device

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values [B, A] of observations [B, *observation]."""
        q: Tensor = self.snn(observations)  # [B, A]
        *hidden, output = self.layers
        x = observations
        for layer in hidden:
            x = apply_layer(layer, x).relu()
        common = apply_layer(output, x)  # [B, 1]
        return q - q.mean(1, keepdim=True) + common
