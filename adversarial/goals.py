"""What an attack wants of a victim's action scores."""

import math
from collections.abc import Callable
from typing import NamedTuple, assert_never

from torch import Tensor

from core.choices import Loss

Scores = Callable[[Tensor], Tensor]
"""Any network as attacks see it: inputs [B, *observation] -> action scores [B, A]."""


class Goal(NamedTuple):
    """What an attack wants of the scores of K states."""

    loss: Loss
    action: Tensor
    """[K] int64: the clean greedy action, or with `targeted` the action that is to become the greedy one."""
    targeted: bool = False

    def value(self, scores: Tensor) -> Tensor:
        """The loss [..., K] of scores [..., K, A]. Attacks increase it."""
        match self.loss:
            case "value":
                return -scores.amax(-1)
            case "cross-entropy":
                action = self._action_of(scores)
                away = -scores.log_softmax(-1).gather(-1, action).squeeze(-1)
            case "margin":
                action = self._action_of(scores)
                others = scores.scatter(-1, action, -math.inf)
                away = others.amax(-1) - scores.gather(-1, action).squeeze(-1)
            case _:
                assert_never(self.loss)
        return -away if self.targeted else away

    def _action_of(self, scores: Tensor) -> Tensor:
        """The action of each of [..., K, A] scores, [..., K, 1]."""
        return self.action.expand(scores.shape[:-1]).unsqueeze(-1)

    def reached(self, scores: Tensor) -> Tensor:
        """Whether the greedy action changed, or became the target: [..., K] bool of scores [..., K, A]."""
        return (scores.argmax(-1) == self.action) == self.targeted

    def rows(self, chosen: Tensor) -> "Goal":
        """The goal of some of the states."""
        return self._replace(action=self.action[chosen])

    def times(self, number: int) -> "Goal":
        """The goal of all states, repeated: [number x K]."""
        return self._replace(action=self.action.repeat(number))


def goal(clean_scores: Tensor, loss: Loss = "cross-entropy", targeted: bool = False) -> Goal:
    """The usual goal: away from the greedy action of clean scores [K, A], or (targeted) towards the worst action."""
    return Goal(loss, clean_scores.argmin(1) if targeted else clean_scores.argmax(1), targeted)
