"""Folders that older versions began: their specifications name the same network in another form."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.manifest import Manifest
from core.networks import NETWORKS
from core.records import to_json
from train_direct.start import _network_settings

BEFORE_0_2 = {
    "bias": True,
    "spiking": {
        "neuron": {
            "charge": "lif", "detach_reset": True, "reset": "hard", "surrogate": "atan", "surrogate_slope": 2.0,
            "tau": 2.0, "threshold": 1.0,
        },
        "readout": "max-mem", "readout_tau": 2.0, "sim_steps": 8,
    },
}  # fmt: skip
"""What chen2022's network was written as."""


def folder(path: Path, settings: object) -> Path:
    with Manifest(path / "manifest.json", {"network_settings": settings}, []).work():
        return path


def test_an_older_folders_network_is_recognised(tmp_path: Path) -> None:
    recorded = to_json(BEFORE_0_2)
    assert _network_settings(NETWORKS["chen2022"], folder(tmp_path, recorded)) == recorded
    assert json.loads(recorded) != NETWORKS["chen2022"].config()


@pytest.mark.parametrize("other", ["liu2022", "relu", "biasless", "short"])
def test_another_network_is_not_taken_for_it(other: str, tmp_path: Path) -> None:
    chen = NETWORKS["chen2022"]
    assert chen.spiking is not None
    networks = {
        "biasless": replace(chen, bias=False),
        "short": replace(chen, spiking=replace(chen.spiking, sim_steps=4)),
    }
    network = networks.get(other) or NETWORKS[other]
    found = _network_settings(network, folder(tmp_path, to_json(BEFORE_0_2)))
    assert found == to_json(network.config())


@pytest.mark.parametrize(
    "recorded", [None, 3, "", "{", "[]", "{}", '{"spiking": {"neuron": 1}}', '{"spiking": 4}']
)
def test_settings_that_nobody_wrote_are_not_taken_for_any(recorded: object, tmp_path: Path) -> None:
    network = NETWORKS["chen2022"]
    assert _network_settings(network, folder(tmp_path, recorded)) == to_json(network.config())
    assert _network_settings(network, tmp_path / "new") == to_json(network.config())
