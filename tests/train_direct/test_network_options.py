"""What options make of a network."""

import pytest

from core.extensions import load_extension
from core.networks import NETWORKS
from core.neurons.base import NEURONS
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from train_direct.network_options import SpikingOptions


@pytest.fixture(autouse=True)
def forgotten(forget_extensions: None) -> None:
    """What a test registers is forgotten after it."""


def changed(name: str, *neuron: str) -> object:
    """The neuron of a network after --neuron."""
    network = NETWORKS[name]
    assert network.spiking is not None
    found, label = SpikingOptions(neuron=neuron).changed(network, network.spiking)
    assert label == [f"neuron={','.join(neuron)}"]
    assert found.spiking is not None
    return found.spiking.neuron


def test_another_membrane_keeps_the_networks_surrogate_and_reset() -> None:
    assert changed("chen2022", "lif", "tau=4") == LIF(tau=4.0, detach_reset=True)
    assert changed("chen2022", "if", "detach_reset=False") == IF(detach_reset=False)
    assert changed("tutorial", "lif") == LIF(surrogate="sigmoid", surrogate_slope=4.0, reset="hard")


def test_a_neuron_of_another_family_has_its_own_values() -> None:
    load_extension("tests.extensions.adaptive")
    assert changed("chen2022", "adaptive", "beta=1") == NEURONS["adaptive"](beta=1.0)  # type: ignore[call-arg]
