"""Recipes: how training is run. Any recipe of Q-learning trains any Q-network.

Each recipe has a file in train_direct/recipes/, with the source of every value. An
extension registers its own in the same way. Never imports torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from core.errors import Refusal
from core.games import Game, Tier
from core.options import checked
from core.ranges import EnvCount, Real, Steps, Whole, require_ranges
from core.registry import Registry
from play.protocols import PROTOCOLS, Dynamics, get_protocol

IDENTITY = ("name", "tier", "is_default", "protocol")
"""Fields that say which recipe it is. A command cannot set them, and they are not part of a run's specification."""
UNLABELLED = ("total_steps", "eval_interval_steps", "eval_episodes")
"""Fields whose changes are not part of the recipe's label. They say how long a run is and how its best weights are
found, not how it learns. Rows hold the number of decisions, and the digest of the training holds the other two."""


TotalSteps = Annotated[int, Whole(1, 500_000_000)]
"""Decisions of a run. The largest takes weeks: ten times the 200 million frames that are usual on Atari."""
ReplaySteps = Annotated[int, Whole(1, 500_000_000)]
"""Transitions that are kept for replay."""
EvalEpisodes = Annotated[int, Whole(1, 10_000)]
"""Episodes that one validation plays."""
NStep = Annotated[int, Whole(1, 1000)]
"""Rewards that are added up."""
Share = Annotated[float, Real(0, 1)]
"""A share, a chance or a discount."""


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Fields of every recipe. Values that are out of range are refused when a recipe is made."""

    name: str
    tier: Tier
    """The games that it trains on."""
    is_default: bool = False
    """Whether it trains the games of its tier when no recipe is named. Of several, the first registered is taken."""
    protocol: str
    """The protocol by which validation episodes are scored."""
    total_steps: TotalSteps
    """Decisions to train for, warm-up included."""
    eval_interval_steps: Steps
    """Decisions between validations."""
    eval_episodes: EvalEpisodes
    """Episodes that one validation plays."""
    dynamics: Dynamics
    """How training episodes are played."""
    learning_rate: Annotated[float, Real(1e-12, 10)]
    """Step size of the optimiser."""
    batch_size: Annotated[int, Whole(1, 65_536)]
    """Decisions that one update learns from."""
    discount: Share
    """Weight of a reward that comes one decision later."""

    def __post_init__(self) -> None:
        what = f"recipe {self.name}"
        checked(type(self), vars(self), what)
        checked(Dynamics, vars(self.dynamics), f"dynamics of {what}")
        require_ranges(self)

    def value(self, name: str) -> Any:
        """The value of a field; of a field of the dynamics by dotted name."""
        first, _, rest = name.partition(".")
        return getattr(getattr(self, first), rest) if rest else getattr(self, first)

    def _require_first_update(self, steps: int) -> None:
        """Refuse a run that ends before its first update, which comes after so many decisions."""
        if self.total_steps < steps:
            raise Refusal(
                f"total_steps is {self.total_steps}: no update would be made, the first one comes after {steps} "
                f"decisions (recipe {self.name})"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """One way of running Q-learning."""

    warmup_steps: Steps
    """Uniformly random decisions before the first update."""
    replay_capacity_steps: ReplaySteps
    """Transitions that are kept for replay."""
    num_envs: EnvCount
    """Games played side by side. The number of updates a decision does not depend on it."""
    train_interval_steps: Steps
    """Decisions between updates."""
    target_interval_steps: Steps
    """Decisions between copies of the online network into the target network, rounded down to whole updates."""
    double: bool = False
    """Whether the online network chooses the action that the target network values (van Hasselt et al. 2016)."""
    n_step: NStep = 1
    """Rewards that are added up before the target network estimates the rest of the return (1 in both papers)."""
    optimizer: Literal["adam", "rmsprop-centred"]
    """The optimiser: Adam, or RMSprop that is centred, as in MinAtar's code."""
    loss: Literal["huber", "mse"]
    """The loss of a TD error: Huber's with threshold 1, or its square."""
    gradient_clamp: Annotated[float, Real(1e-12, 1e6)] | None = None
    """Largest magnitude of an element of the gradient; larger ones are cut to it. None cuts nothing."""
    epsilon_end: Share
    """Share of random actions at the end of the decay. It begins at 1."""
    epsilon_decay_steps: Steps
    """Decisions over which the share of random actions falls linearly, or the time constant of an exponential fall."""
    decay_follows_warmup: bool
    """Whether the decay begins at the end of the warm-up instead of at the first decision."""
    epsilon_exponential_from: Share | None = None
    """Share of random actions at the start of an exponential decay. None makes the decay linear."""
    clip_rewards: bool
    """Whether the learner is given the sign of a reward instead of the reward."""
    life_loss_terminal: bool
    """Whether a lost life ends the return that the learner estimates."""
    truncation_terminal: bool
    """Whether the time limit ends the return that the learner estimates (it does in both papers' codes)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, why in (
            ("warmup_steps", self.num_envs, "updates are made while num_envs games step"),
            ("replay_capacity_steps", self.batch_size, "the batch_size"),
            ("target_interval_steps", self.train_interval_steps, "the train_interval_steps"),
        ):
            if getattr(self, name) < least:
                raise Refusal(f"{name} is {getattr(self, name)}: at least {least} is needed ({why})")
        self._require_first_update(self.warmup_steps + self.train_interval_steps)

    def epsilon(self, steps: int) -> float:
        """Share of random actions after so many decisions."""
        if steps < self.warmup_steps:
            return 1.0
        decaying = steps - self.warmup_steps if self.decay_follows_warmup else steps
        if self.epsilon_exponential_from is not None:
            left = math.exp(-decaying / self.epsilon_decay_steps)
            return self.epsilon_end + (self.epsilon_exponential_from - self.epsilon_end) * left
        decayed = min(1.0, decaying / self.epsilon_decay_steps)
        return 1.0 + decayed * (self.epsilon_end - 1.0)


@dataclass(frozen=True, kw_only=True)
class PpoRecipe(BaseRecipe):
    """One way of running proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), with Adam."""

    batch_size: Annotated[int, Whole(2, 65_536)]
    """Decisions that one update learns from. At least 2, because advantages are normalised over them."""
    num_envs: EnvCount
    """Games played side by side."""
    rollout_steps: Annotated[int, Whole(1, 65_536)]
    """Decisions that each game takes before the policy learns from all of them."""
    epochs: Annotated[int, Whole(1, 10_000)]
    """How often a rollout is learnt from, in another order each time."""
    trace_decay: Share
    """Lambda of generalised advantage estimation."""
    clip: Annotated[float, Real(0, 1000)]
    """Relative change of an action's probability beyond which the objective no longer grows."""
    value_weight: Annotated[float, Real(0, 1e6)]
    """Weight of the critic's squared error in the loss."""
    entropy_weight: Annotated[float, Real(0, 1e6)]
    """Weight of the policy's entropy in the loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        collected = self.num_envs * self.rollout_steps
        if collected % self.batch_size:
            raise Refusal(
                f"batch_size is {self.batch_size}: it must divide the {collected} decisions of a rollout"
            )
        self._require_first_update(collected)


RECIPES: Registry[Recipe] = Registry("recipe", package="train_direct.recipes")
"""All recipes of Q-learning, by name."""
PPO_RECIPES: Registry[PpoRecipe] = Registry("PPO recipe", package="train_direct.recipes")
"""All recipes of proximal policy optimisation, by name."""
R = TypeVar("R", bound=BaseRecipe)


def get_recipe(name: str | None, game: Game) -> Recipe:
    """A recipe of Q-learning as it applies to a game, see `_get`."""
    return _get(RECIPES, name, game)


def get_ppo_recipe(name: str | None, game: Game) -> PpoRecipe:
    """A recipe of proximal policy optimisation as it applies to a game, see `_get`."""
    return _get(PPO_RECIPES, name, game)


def _get(recipes: Registry[R], name: str | None, game: Game) -> R:
    """The recipe of that name as it applies to a game; the default one of the game's tier if None.

    Raises:
        Refusal: there is no such recipe, or it is not for the game's tier.
    """
    fitting = [recipe for recipe in recipes.values() if recipe.tier == game.tier]
    if not fitting:
        tiers = ", ".join(sorted({recipe.tier for recipe in recipes.values()}))
        raise Refusal(
            f"no {recipes.concept} trains {game.tier} games, as {game.name} is: accepted are {tiers} games"
        )
    usual = next((recipe for recipe in fitting if recipe.is_default), fitting[0])
    recipe = usual if name is None else recipes[name]
    if recipe.tier != game.tier:
        raise Refusal(
            f"{recipes.concept} {name!r} trains {recipe.tier} games, {game.name} is {game.tier}: "
            f"recipes for it are {', '.join(each.name for each in fitting)}"
        )
    if recipe.dynamics == PROTOCOLS[recipe.protocol].dynamics:  # a protocol may cut some games elsewhere
        return replace(recipe, dynamics=get_protocol(recipe.protocol, game).dynamics)
    return recipe


def changed(recipe: R, settings: Mapping[str, Any]) -> R:
    """A recipe with other values.

    Args:
        recipe: the recipe.
        settings: values by name of the field; of a field of the dynamics by dotted name.

    Raises:
        Refusal: a value is out of range, or the field says which recipe it is.
    """
    fixed = [name for name in settings if name in IDENTITY]
    if fixed:
        accepted = ", ".join(each.name for each in fields(recipe) if each.name not in IDENTITY)
        raise Refusal(f"{fixed[0]} of recipe {recipe.name} cannot be set: accepted are {accepted}")
    own = {name: value for name, value in settings.items() if "." not in name}
    dynamics = {name.removeprefix("dynamics."): value for name, value in settings.items() if "." in name}
    return replace(recipe, dynamics=replace(recipe.dynamics, **dynamics), **own)


def label(named: R, recipe: R, game: Game) -> str:
    """The name that rows carry: the recipe's, with what was changed in it, as in minatar-fast+learning_rate=0.001.

    The time limit of episodes comes first, then fields in their order, then the other dynamics. Two recipes with equal
    values have equal labels, whichever options changed them.

    Args:
        named: the recipe of that name, as it applies to the game.
        recipe: the same with changes.
        game: what it trains on.
    """
    own = [each.name for each in fields(named) if each.name not in (*IDENTITY, *UNLABELLED, "dynamics")]
    dynamics = [f"dynamics.{each.name}" for each in fields(Dynamics) if each.name != "max_episode_frames"]
    names = ("dynamics.max_episode_frames", *own, *dynamics)
    parts = [
        _label_part(name, recipe.value(name), game)
        for name in names
        if recipe.value(name) != named.value(name)
    ]
    return "+".join([named.name, *parts])


def _label_part(name: str, value: Any, game: Game) -> str:
    """One changed value as a part of a label."""
    if name == "dynamics.max_episode_frames":
        if value is None:
            return "max_episode_steps=unlimited"
        if value % game.frames_per_decision == 0:
            return f"max_episode_steps={value // game.frames_per_decision}"
    if name == "dynamics.sticky_action_probability":
        return f"sticky={value:g}"
    return f"{name}={value}"
