"""At which decisions an attack acts: those in which most is at stake (Lin et al. 2017, arXiv 1703.06748).

What is at stake is the gap between the largest and the smallest clean score, without their softmax.
"""

from torch import Tensor

from adversarial.ranges import Frequency
from core.ranges import require


def gaps(scores: Tensor) -> Tensor:
    """The largest minus the smallest of each of [K, A] clean scores, [K]."""
    return scores.amax(-1) - scores.amin(-1)


def gap_threshold(clean_scores: Tensor, frequency: float) -> float:
    """The gap from which on a decision belongs to the share with the largest gaps.

    Args:
        clean_scores: [S, A], of states that stand for all decisions.
        frequency: the share.
    """
    require("frequency", frequency, Frequency)
    found = gaps(clean_scores).sort(descending=True).values
    return float(found[max(round(frequency * len(found)), 1) - 1])
