"""SpikeQ for other projects: what an extension or a notebook imports.

Everything here is re-exported from the package where it lives, when it is first used. So `import spikeq` costs
nothing, and torch is imported when something needs it."""

import importlib
from collections.abc import Mapping
from typing import Any

_PLACES: Mapping[str, str] = {
    # Registries.
    "AGENTS": "core.agents",
    "NETWORKS": "core.networks",
    "NEURONS": "core.neurons.base",
    "NORMALISATIONS": "core.normalisations",
    "READOUTS": "core.readouts",
    "GAMES": "core.games",
    "ENVIRONMENTS": "play.environments",
    "PROTOCOLS": "play.protocols",
    "RECIPES": "train_direct.recipe",
    "PPO_RECIPES": "train_direct.recipe",
    "METHODS": "convert.method",
    "VARIANTS": "convert.variants",
    "ATTACKS": "adversarial.attack",
    "FIGURES": "analysis.figures.registry",
    "FORMATS": "convert.foreign",
    # What is registered derives from these.
    "Agent": "core.agents",
    "Activity": "core.agents",
    "Converted": "convert.method",
    "Decision": "core.agents",
    "Attack": "adversarial.attack",
    "Format": "convert.foreign",
    "Found": "adversarial.attack",
    "Game": "core.games",
    "Layered": "core.layered",
    "Layout": "convert.foreign",
    "LoopedEnvironments": "play.libraries.looped",
    "Method": "convert.method",
    "Network": "core.networks",
    "Neuron": "core.neurons.base",
    "Normalisation": "core.normalisations",
    "Readout": "core.readouts",
    "Spiking": "core.dsqn",
    "SteppedPopulation": "core.neurons.base",
    "Variant": "convert.variants",
    # Numbers that options accept.
    "Real": "core.ranges",
    "Whole": "core.ranges",
    # Built-in parts that others are made of.
    "LIF": "core.neurons.lif",
    "Rate": "core.readouts",
    # Files of rows that figures are drawn from.
    "CURVES": "analysis.rows",
    "EPISODES": "analysis.rows",
    "draws": "analysis.figures.registry",
    # Functions.
    "adapt": "core.adapt.adapted",
    "get_game": "core.games",
    "get_protocol": "play.protocols",
    "load_agent": "core.checkpoint",
    "load_extension": "core.extensions",
    "parse_layers": "core.layers",
    "percentiles": "convert.methods.tan2021",
    "play": "play.episodes",
    "read_rows": "core.records",
    "save_agent": "core.checkpoint",
    "scaled_network": "convert.scaling",
    "spike": "core.neurons.surrogates",
    "worst_of": "adversarial.queries",
    # Errors.
    "Refusal": "core.errors",
}
"""Where each name lives."""

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'spikeq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
