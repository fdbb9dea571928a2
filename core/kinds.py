"""Kinds of agents, for tables and figures. Never imports torch.

A kind that is not registered, as of an agent from outside, is labelled with its own name and listed last.
"""

from dataclasses import dataclass

from core.registry import Registry


@dataclass(frozen=True)
class Kind:
    """Facts about one kind of agent."""

    label: str
    """Its name in tables and figures."""
    training_gradient: str = "own"
    """The gradient source (core/gradients.py) of its training, which FGSM uses by default."""
    is_conversion: bool = False
    """Whether it is made from a DQN. Its rows then have the DQN's seed, recipe and decisions."""
    is_policy: bool = False
    """Whether it learns a policy, without Q-values."""


KINDS: Registry[Kind] = Registry("kind of agent")
"""All kinds, in the order of tables and figures."""
KINDS.register("random")(Kind("random play"))
KINDS.register("dqn")(Kind("DQN"))
KINDS.register("quantised")(Kind("quantised DQN", "straight-through", is_conversion=True))
KINDS.register("rate-coded")(Kind("converted SNN", "ann-twin", is_conversion=True))
KINDS.register("dsqn")(Kind("DSQN", "own-surrogate"))
KINDS.register("adapted")(Kind("adapted network"))
KINDS.register("actor")(Kind("PPO", is_policy=True))
KINDS.register("spiking-actor")(Kind("spiking PPO", "own-surrogate", is_policy=True))


def kind_of(agent: str) -> Kind:
    """The facts about a kind of agent. One that is not registered has its name as label, and otherwise defaults."""
    return KINDS[agent] if agent in KINDS else Kind(agent)


def label(agent: str, variant: str = "") -> str:
    """The name of a kind of agent in tables and figures. Beside the variant of a method, "converted" says nothing."""
    named = kind_of(agent).label
    return named.removeprefix("converted ") if variant else named


def order(agent: str) -> tuple[int, str]:
    """Sort key of a kind of agent: registered kinds first, in their order, then others by name."""
    names = KINDS.names()
    return (names.index(agent), "") if agent in names else (len(names), agent)
