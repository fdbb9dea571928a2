"""Steps along a gradient whose end alone is of interest."""

from typing import Any

from adversarial.box import Box
from adversarial.goals import Goal, Scores
from adversarial.gradient_ascent import Iterate, iterates


def last_iterate(source: Scores, its_goal: Goal, box: Box, **how: Any) -> Iterate:
    """Where steps along the gradient end. Arguments as in `iterates`."""
    *_, last = iterates(source, its_goal, box, **how)
    return last


def fgsm(source: Scores, its_goal: Goal, box: Box, epsilon: float) -> Iterate:
    """One step of epsilon from the centre of the box."""
    return last_iterate(source, its_goal, box, steps=1, step_size=epsilon)
