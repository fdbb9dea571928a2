"""What the words in tables and captions mean. docs/glossary.md has the same texts; a test compares them."""

import re
from collections.abc import Iterable, Mapping

TERMS: Mapping[str, str] = {
    "Sim steps": "Simulation steps of a spiking network's neurons within one decision. Papers write T.",
    "Read-out": "How Q-values are taken from the last hidden layer's spikes.",
    "Agreement": "Share of states in which a network takes the same action as its DQN.",
    "Regret": "What the DQN thinks that another network's action loses: its largest Q-value minus the Q-value of that "
    "action.",
    "Kept": "Share of the DQN's score above random play that another network reaches on the same starts.",
    "Flip": "A greedy action that an attack changes.",
    "Epsilon": "The size of an attack: the largest change of an input, in the units of the network's input. The "
    "exploration rate has the same name in the papers; the code says which one is meant.",
    "own": "An attack's gradient of a network without spikes: its own.",
    "own-surrogate": "An attack's gradient of a spiking network: through the surrogate that it was trained with.",
    "ann-twin": "An attack's gradient of a spiking network: of the network with ReLU units and the same weights.",
    "rate-gradient": "An attack's gradient of a spiking network: of its neurons' firing rates.",
    "Masking gap": "Flips that the best attack finds and FGSM along the training gradient misses, in points.",
    "Gate": "A test that evidence must pass before a claim of robustness is allowed.",
    "MAC": "A multiplication and an addition. A spike that arrives needs only an addition (AC).",
}
"""Definition of each term, in one or two sentences."""


def terms_in(texts: Iterable[str]) -> dict[str, str]:
    """The terms that some texts use, with their definitions."""
    text = " ".join(texts)
    return {
        term: told
        for term, told in TERMS.items()
        if re.search(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", text, re.IGNORECASE)
    }
