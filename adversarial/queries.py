"""Search by the victim's scores alone: the worst of given inputs, and random search that keeps what is worse."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from adversarial.box import Box
from adversarial.goals import Goal, Scores


@torch.no_grad()
def worst_of(victim: Scores, goal: Goal, candidates: Iterable[Tensor]) -> Tensor:
    """The worst candidate for each of K states.

    A candidate that reaches the goal is worse than one that does not; then the larger loss counts; of equals the first
    is kept.

    Args:
        victim: asked about every candidate.
        goal: of the K states.
        candidates: [K, *observation], or [n K, *observation] for n at once.

    Returns:
        [K, *observation].
    """
    return worst_of_judged(goal, ((several, victim(several)) for several in candidates))


@torch.no_grad()
def worst_of_judged(goal: Goal, judged: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """As `worst_of`, of candidates that come with the victim's scores [K, A] or [n K, A]."""
    kept: tuple[Tensor, Tensor, Tensor] | None = None
    for several, their_scores in judged:
        shape = (-1, len(goal.action))
        scores = their_scores.unflatten(0, shape)  # [n, K, A]
        each = zip(several.unflatten(0, shape), goal.reached(scores), goal.value(scores), strict=True)
        for candidate, reached, value in each:
            if kept is None:
                kept = candidate.clone(), reached, value
                continue
            worst, worst_reached, worst_value = kept
            better = (reached & ~worst_reached) | ((reached == worst_reached) & (value > worst_value))
            worst[better] = candidate[better]
            kept = worst, torch.where(better, reached, worst_reached), torch.where(better, value, worst_value)
    if kept is None:
        raise ValueError("there are no candidates to choose from")
    return kept[0]


@torch.no_grad()
def random_search(
    victim: Scores,
    goal: Goal,
    box: Box,
    first: Tensor,
    propose: Callable[[int, Tensor, list[int]], Tensor],
    queries: int,
) -> Tensor:
    """Try changes and keep those that increase the loss, until the goal is reached.

    Args:
        victim: is asked about each state until its goal is reached.
        goal: of the K states.
        box: where the inputs may lie.
        first: [K, *observation] change to begin with.
        propose: (number of the query, worst changes so far [k, *observation], which of the K states they are of) ->
            changes [k, *observation] to try.
        queries: how often the victim is asked about a state at most.

    Returns:
        [K, *observation] the inputs of the worst changes.
    """
    worst = first
    scores = victim(box.shown(worst))
    value, reached = goal.value(scores), goal.reached(scores)
    for query in range(1, queries):
        left = (~reached).nonzero().flatten()
        if len(left) == 0:
            break
        tried = propose(query, worst[left], left.tolist())
        scores = victim(box.rows(left).shown(tried))
        goal_left = goal.rows(left)
        new_value, new_reached = goal_left.value(scores), goal_left.reached(scores)
        better = new_reached | (new_value > value[left])
        changed = left[better]
        worst[changed], value[changed] = tried[better], new_value[better]
        reached[changed] = new_reached[better]
    return box.shown(worst)
