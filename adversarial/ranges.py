"""Ranges of the numbers of attacks. Never imports torch."""

from typing import Annotated

from core.ranges import Real, Whole

MOST_QUERIES = 100_000

AttackSteps = Annotated[int, Whole(1, 10_000)]
"""A number of gradients, one after the other."""
Restarts = Annotated[int, Whole(1, 1000)]
"""A number of random starts, side by side."""
Queries = Annotated[int, Whole(1, MOST_QUERIES)]
"""A number of questions to the victim about each state."""
Epsilon = Annotated[float, Real(0, 1e6)]
"""A size, in the game's scale. The largest is more than any observation's scale, and far from the limits of float32."""
Frequency = Annotated[float, Real(0, 1, above=True)]
"""A share of decisions that are attacked."""
