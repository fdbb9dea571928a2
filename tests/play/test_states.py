"""States of an agent's play."""

from core.agents import AGENTS
from core.games import get_game
from play.states import collect


def test_states_of_random_play_are_of_random_play() -> None:
    """Its scores are all equal, and the first action alone would only push the cart to the left."""
    velocity = collect(AGENTS["random"](get_game("cartpole")), 200, 0, "test")[:, 1]
    assert velocity.min() < -0.3
    assert velocity.max() > 0.3
