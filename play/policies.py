"""Policies: from an agent's action scores to actions, epsilon-greedy or drawn from a softmax."""

from collections.abc import Callable, Sequence

import numpy as np

Policy = Callable[[np.ndarray, int, Sequence[np.random.Generator]], np.ndarray]
"""A function from scores [B, A], decisions made so far and B generators to actions [B] int64."""


def epsilon_greedy(
    scores: np.ndarray, epsilon: float, generators: Sequence[np.random.Generator]
) -> np.ndarray:
    """Greedy actions, each replaced by a uniformly random one with probability epsilon.

    Args:
        scores: [B, A]; the lowest of tied actions is greedy.
        epsilon: in [0, 1].
        generators: one for each row, so that an episode's exploration does not depend on the others.

    Returns:
        [B] int64 actions.
    """
    actions: np.ndarray = scores.argmax(1)
    for row, generator in enumerate(generators):
        if epsilon > 0.0 and generator.random() < epsilon:
            actions[row] = generator.integers(scores.shape[1])
    return actions


def exploring(epsilon: Callable[[int], float]) -> Policy:
    """An epsilon-greedy policy whose epsilon is a function of the decisions made so far."""
    return lambda scores, steps, generators: epsilon_greedy(scores, epsilon(steps), generators)


def categorical(scores: np.ndarray, steps: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Actions drawn from the softmax of scores: the Policy of an actor while it is trained.

    Independent Gumbel noise is added to the logits. The largest sum is then such a draw (Gumbel 1954, as in Maddison,
    Tarlow & Minka 2014, arXiv 1411.0030, section 2).

    Args:
        scores: [B, A] logits.
        steps: decisions made so far; not used.
        generators: one for each row, so that an episode's draws do not depend on the others.

    Returns:
        [B] int64 actions.
    """
    noise = np.stack([generator.gumbel(size=scores.shape[1]) for generator in generators])
    actions: np.ndarray = (scores + noise).argmax(1)
    return actions
