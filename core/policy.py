"""Epsilon-greedy over any agent's action scores."""

from collections.abc import Sequence

import numpy as np


def epsilon_greedy(
    scores: np.ndarray, epsilon: float, generators: Sequence[np.random.Generator]
) -> np.ndarray:
    """Greedy actions, replaced by uniform ones with probability epsilon.

    Args:
        scores: [B, A]; ties go to the lowest action.
        epsilon: in [0, 1].
        generators: one for each row, so an episode's exploration does not depend on its neighbours.

    Returns:
        [B] int64 actions.
    """
    actions = scores.argmax(1)
    for row, generator in enumerate(generators):
        if epsilon > 0.0 and generator.random() < epsilon:
            actions[row] = generator.integers(scores.shape[1])
    return actions
