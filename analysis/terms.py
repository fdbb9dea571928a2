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
    "Distilled": "Trained to give the Q-values of a DQN, without rewards.",
    "Epsilon": "The size of an attack: the largest change of an input, in the units of the network's input. On "
    "CartPole it counts in each element's scale. Protocols and recipes call the share of random actions epsilon too.",
    "Victim": "The network that is attacked.",
    "White-box": "An attack that follows a gradient of its victim. A transfer attack follows another network's.",
    "Black-box": "An attack that only asks its victim for scores.",
    "own": "The attack follows the gradient of the network itself (networks without spikes).",
    "own-surrogate": "The attack follows the gradient through the surrogate that the spiking network was trained with.",
    "swept-surrogate": "The attack follows the gradient through another surrogate, chosen by trying several at each "
    "size of attack.",
    "ann-twin": "The attack follows the gradient of a network with ReLU units and the spiking network's weights.",
    "rate-gradient": "The attack follows the gradient of the spiking network's firing rates.",
    "Masking gap": "Flips that the best attack finds and FGSM along the training gradient misses, in points.",
    "Gate": "A test that evidence must pass before a claim of robustness is allowed.",
    "MAC": "A multiplication and an addition. A spike that arrives needs only an addition (AC).",
}
"""Definition of each term, in one or two sentences."""


SOURCES = ("own", "own-surrogate", "swept-surrogate", "ann-twin", "rate-gradient")
"""Terms that are sources of gradients. Only a whole cell of a table names one, because "own" is an everyday word."""


def terms_in(texts: Iterable[str], cells: Iterable[str] = ()) -> dict[str, str]:
    """The terms that some texts use, with their definitions.

    Args:
        texts: captions and headings.
        cells: cells of tables.
    """
    text, whole = " ".join(texts), set(cells)
    return {
        term: told
        for term, told in TERMS.items()
        if (
            term in whole
            if term in SOURCES
            else re.search(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", text, re.IGNORECASE)
        )
    }
