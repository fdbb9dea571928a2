"""Attacks along a gradient of the inputs: the gradient itself, and steps along its sign that stay in a box."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from adversarial.attack import Found, Problem
from adversarial.box import Box
from adversarial.goals import Goal, Scores
from adversarial.noise import uniform_change
from adversarial.queries import worst_of_judged
from core.errors import Refusal


def input_gradient(source: Scores, x: Tensor, goal: Goal) -> Tensor:
    """Gradient [K, *observation] of the loss with respect to the inputs x. No gradient of a weight is computed."""
    return _gradient_and_scores(source, x, goal)[0]


def _gradient_and_scores(source: Scores, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = source(x)
        if not scores.requires_grad:
            raise Refusal(
                "the network whose gradient is followed has none: its scores cannot be differentiated"
            )
        (gradient,) = torch.autograd.grad(goal.value(scores).sum(), x)
    return gradient, scores.detach()


class Iterate(NamedTuple):
    """Where an attack on K states is after a step."""

    inputs: Tensor
    """[K, *observation]."""
    zero_gradient: Tensor
    """[K] bool: the first gradient was zero everywhere."""
    scores: Tensor | None
    """[K, A] the source's scores of the inputs, which the next step computes anyway; None after the last step."""


def iterates(
    source: Scores,
    goal: Goal,
    box: Box,
    *,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """Every step of projected gradient descent (Madry et al. 2018, arXiv 1706.06083), with the momentum of MI-FGSM
    (Dong et al. 2018, arXiv 1710.06081, algorithm 1).

    g <- momentum g + grad / mean |grad|;  delta <- box(delta + step_size sign(g)).

    Args:
        source: whose gradient is followed.
        goal: whose loss is increased.
        box: where the inputs may lie.
        steps: number of gradients, at least 1.
        step_size: in network-input units.
        momentum: share of the last g that is kept; 0 keeps none.
        start: [K, *observation] change to begin with, within the box; None begins at its centre.
    """
    delta = torch.zeros_like(box.center) if start is None else start
    inputs = box.center + delta
    zero_gradient = torch.ones(len(delta), dtype=torch.bool, device=delta.device)
    velocity: Tensor | None = None
    for step in range(steps):
        gradient, scores = _gradient_and_scores(source, inputs, goal)
        if step == 0:
            zero_gradient = ~gradient.flatten(1).any(1)
        else:
            yield Iterate(inputs, zero_gradient, scores)
        if momentum:
            mean = gradient.abs().mean(tuple(range(1, gradient.dim())), keepdim=True)
            gradient = gradient / mean.clamp_min_(torch.finfo(gradient.dtype).tiny)
            velocity = gradient if velocity is None else momentum * velocity + gradient
            gradient = velocity
        delta = box.change(torch.add(delta, gradient.sign(), alpha=step_size))
        inputs = box.inputs(delta)
    yield Iterate(inputs, zero_gradient, None)


def worst_iterate(
    problem: Problem,
    *,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    starts: int = 1,
    random_start: bool = False,
) -> Found:
    """For each state, the iterate that is worst for the victim, over all steps from all starts.

    Args:
        problem: what is attacked, with a source of gradients.
        steps, step_size, momentum: as in `iterates`.
        starts: how often the steps are taken, all side by side: one large batch costs less than several small ones.
        random_start: begin at a random point of the ball, and not at its centre.
    """
    source, goal, box = problem.gradient_source, problem.goal, problem.box
    start = None
    if random_start:
        start = torch.cat([uniform_change(box, problem.epsilon, problem.generators) for _ in range(starts)])
    all_goals, all_boxes = goal.times(starts), box.times(starts)
    path = iterates(
        source, all_goals, all_boxes, steps=steps, step_size=step_size, momentum=momentum, start=start
    )

    def judged(iterate: Iterate) -> tuple[Tensor, Tensor]:
        """What is shown, and the victim's scores of it."""
        if problem.same_scores and iterate.scores is not None and not box.grey_levels:
            return iterate.inputs, iterate.scores
        inputs = all_boxes.rounded(iterate.inputs)
        return inputs, problem.victim(inputs)

    first = next(path)
    if steps == starts == 1:  # there is nothing to choose from, so the victim need not be asked
        found = box.rounded(first.inputs)
    else:
        found = worst_of_judged(goal, map(judged, chain([first], path)))
    return Found(found, first.zero_gradient[: len(box.center)])
