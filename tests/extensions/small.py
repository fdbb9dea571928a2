"""A network in one file: fewer and smaller layers, integrate-and-fire neurons and the mean voltage."""

from core.dsqn import Spiking
from core.layers import parse_layers
from core.networks import NETWORKS, Network
from core.neurons.integrate_and_fire import IF
from core.readouts import MeanVoltage

NETWORKS.register("small")(
    Network(True, Spiking(IF(reset="soft"), 3, MeanVoltage(tau=4.0)), layers=parse_layers("8c3s1 32"))
)
