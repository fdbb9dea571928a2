"""A network of SpikingJelly as an agent: `--extension my_snn --agent my-snn --game minatar/breakout`."""

from pathlib import Path

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import spikeq

WEIGHTS = Path(__file__).with_name("my_snn.pt")
SIM_STEPS = 4


def network() -> nn.Module:
    """A convolution and a hidden layer of LIF neurons, as in Chen et al. 2022. It takes [T, B, 4, 10, 10]."""

    def lif():
        return neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan())

    layers = [
        layer.Conv2d(4, 16, 3),
        lif(),
        layer.Flatten(),
        layer.Linear(1024, 128),
        lif(),
        layer.Linear(128, 6),
    ]
    made = nn.Sequential(*layers)
    functional.set_step_mode(made, "m")
    return made


@spikeq.AGENTS.register("my-snn")
def my_snn(game):
    """The trained network. Its scores are the mean of its outputs over the simulation steps."""
    made = network()
    made.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return spikeq.adapt(made, game, sim_steps=SIM_STEPS)
