"""From any agent's action scores to actions: epsilon-greedy, or drawn from a softmax."""

from collections.abc import Callable, Sequence

import numpy as np

Policy = Callable[[np.ndarray, int, Sequence[np.random.Generator]], np.ndarray]
"""(scores [B, A], decisions made so far, one generator a row) -> actions [B] int64."""


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


def exploring(epsilon: Callable[[int], float]) -> Policy:
    """Epsilon-greedy play with an epsilon that depends on the decisions made so far."""
    return lambda scores, steps, generators: epsilon_greedy(scores, epsilon(steps), generators)


def categorical(scores: np.ndarray, steps: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Actions drawn from the softmax of their scores, which are logits, whatever the number of decisions: the Policy of
    an actor while it is trained.

    The largest of logits to which independent Gumbel noise was added is such a draw (Gumbel 1954, as in Maddison,
    Tarlow & Minka 2014, arXiv 1411.0030, section 2).

    Args:
        scores: [B, A] logits.
        steps: not used.
        generators: one for each row, so an episode's chance does not depend on its neighbours.

    Returns:
        [B] int64 actions.
    """
    noise = np.stack([generator.gumbel(size=scores.shape[1]) for generator in generators])
    return (scores + noise).argmax(1)
