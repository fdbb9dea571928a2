"""Recipes: how training is run. Every value stands here once, with its source; any recipe runs any network.

"code" is the paper's released code where it says more than the paper.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from core.errors import Refusal
from core.games import Game, Tier
from play.protocols import PROTOCOLS, Dynamics, Protocol, get_protocol


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way of running Q-learning."""

    name: str
    tier: Tier
    total_steps: int
    """Decisions, warm-up included."""
    warmup_steps: int
    """Uniformly random decisions before the first update."""
    replay_capacity_steps: int
    batch_size: int
    train_interval_steps: int
    """Decisions between updates."""
    target_interval_steps: int
    """Decisions between copies of the online network into the target network."""
    discount: float
    n_step: int = 1
    """Decisions whose rewards are added up before the rest of the return is estimated (1 in both papers)."""
    optimizer: Literal["adam", "rmsprop-centred"]
    learning_rate: float
    loss: Literal["huber", "mse"]
    gradient_clamp: float | None = None
    """Largest magnitude of a gradient's element; larger ones are cut to it. None cuts nothing."""
    double: bool = False
    """Whether the online network chooses the action whose value the target network gives (van Hasselt et al.
    2016)."""
    epsilon_end: float
    """Exploration falls linearly from 1 to this ..."""
    epsilon_decay_steps: int
    """... over so many decisions ..."""
    decay_follows_warmup: bool
    """... that are counted from the end of the warm-up, or else from the first decision."""
    epsilon_exponential_from: float | None = None
    """Where exploration falls exponentially instead: what from, at decision 0 of these, `epsilon_decay_steps` being the
    time constant. None: linearly."""
    clip_rewards: bool
    """Whether the learner sees the sign of a reward instead of the reward."""
    life_loss_terminal: bool
    """Whether a lost life ends the return that the learner estimates."""
    truncation_terminal: bool
    """Whether reaching the time limit does so too (it does in both papers' codes)."""
    num_envs: int
    """Games played side by side; updates a decision stay what the recipe says."""
    dynamics: Dynamics
    """Of training episodes."""
    eval_interval_steps: int
    eval_episodes: int

    def __post_init__(self) -> None:
        for name, least in (
            ("total_steps", 1),
            (
                "warmup_steps",
                self.num_envs,
            ),  # updates are made while environments step: something must be there
            ("replay_capacity_steps", self.batch_size),
            ("eval_interval_steps", 1),
            ("eval_episodes", 1),
            ("num_envs", 1),
            ("n_step", 1),
        ):
            if getattr(self, name) < least:
                raise Refusal(f"{name} is {getattr(self, name)}: at least {least} is needed")
        first_update = self.warmup_steps + self.train_interval_steps
        if self.total_steps < first_update:
            raise Refusal(
                f"total_steps is {self.total_steps}: no update would be made, the first one comes after "
                f"{first_update} decisions (recipe {self.name})"
            )

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
class PpoRecipe:
    """One way of running proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347)."""

    name: str
    tier: Tier
    total_steps: int
    """Decisions."""
    num_envs: int
    """Games played side by side."""
    rollout_steps: int
    """Decisions that each of them takes before the policy learns from them."""
    epochs: int
    """How often all that was met is learnt from, in another order each time ..."""
    batch_size: int
    """... and in parts of so many decisions, an update each."""
    learning_rate: float
    """Of Adam."""
    discount: float
    trace_decay: float
    """Lambda of generalised advantage estimation."""
    clip: float
    """How far the probability of an action may move away from what it was, as a share, before moving on gains
    nothing."""
    value_weight: float
    """Of the critic's squared error in the loss."""
    entropy_weight: float
    dynamics: Dynamics
    """Of training episodes."""
    eval_interval_steps: int
    eval_episodes: int

    def __post_init__(self) -> None:
        for name in ("total_steps", "eval_interval_steps", "eval_episodes"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}: at least 1 is needed")
        collected = self.num_envs * self.rollout_steps
        if collected % self.batch_size:
            raise Refusal(
                f"batch_size is {self.batch_size}: it must divide the {collected} decisions of a rollout"
            )
        if self.total_steps < collected:
            raise Refusal(
                f"total_steps is {self.total_steps}: no update would be made, the first one comes after {collected} "
                f"decisions (recipe {self.name})"
            )


_ALL = (
    Recipe(
        name="liu2022",  # arXiv 2201.07211, Table II, and code (AptX395/Deep-Spiking-Q-Networks)
        tier="atari",
        total_steps=50_050_000,  # code: the warm-up comes on top of 50 M
        warmup_steps=50_000,
        replay_capacity_steps=1_000_000,
        batch_size=32,
        train_interval_steps=4,
        target_interval_steps=10_000,
        discount=0.99,
        optimizer="adam",
        learning_rate=1e-4,
        loss="huber",
        epsilon_end=0.1,
        epsilon_decay_steps=1_000_000,
        decay_follows_warmup=True,
        clip_rewards=True,
        life_loss_terminal=True,
        truncation_terminal=True,
        num_envs=1,
        dynamics=PROTOCOLS["liu2022"].dynamics,
        eval_interval_steps=250_000,
        eval_episodes=30,
    ),
    Recipe(
        name="chen2022",  # arXiv 2201.09754, section 4.1, and code (SpikingJelly's dsqn example)
        tier="atari",
        total_steps=20_000_000,
        warmup_steps=50_000,
        replay_capacity_steps=1_000_000,
        batch_size=128,
        train_interval_steps=4,
        target_interval_steps=10_000,
        discount=0.99,
        optimizer="adam",
        learning_rate=2.5e-4,
        loss="mse",
        epsilon_end=0.1,
        epsilon_decay_steps=900_000,  # code: slope 1/1e6, so 0.1 is reached here
        decay_follows_warmup=False,
        clip_rewards=True,
        life_loss_terminal=True,
        truncation_terminal=True,
        num_envs=1,
        dynamics=PROTOCOLS["chen2022"].dynamics,
        eval_interval_steps=100_000,
        eval_episodes=30,
    ),
    Recipe(
        name="atari-fast",  # ours: small replay, short schedules (README, Departures)
        tier="atari",
        total_steps=1_500_000,
        warmup_steps=10_000,
        replay_capacity_steps=100_000,
        batch_size=32,
        train_interval_steps=4,
        target_interval_steps=2_000,
        discount=0.99,
        n_step=5,
        optimizer="adam",
        learning_rate=2e-4,
        loss="huber",
        epsilon_end=0.02,
        epsilon_decay_steps=100_000,
        decay_follows_warmup=True,
        clip_rewards=True,
        life_loss_terminal=True,
        truncation_terminal=False,
        num_envs=8,
        dynamics=PROTOCOLS["nature"].dynamics,
        eval_interval_steps=50_000,
        eval_episodes=10,
    ),
    Recipe(
        name="minatar",  # Young & Tian 2019 (arXiv 1903.03176), Table 1, and code (kenjyoung/MinAtar examples/dqn.py)
        tier="minatar",
        total_steps=5_000_000,
        warmup_steps=5_000,
        replay_capacity_steps=100_000,
        batch_size=32,
        train_interval_steps=1,
        target_interval_steps=1_000,
        discount=0.99,
        optimizer="rmsprop-centred",
        learning_rate=2.5e-4,
        loss="huber",
        epsilon_end=0.1,
        epsilon_decay_steps=100_000,
        decay_follows_warmup=True,
        clip_rewards=False,
        life_loss_terminal=True,
        truncation_terminal=False,
        num_envs=1,
        dynamics=PROTOCOLS["minatar"].dynamics,
        eval_interval_steps=100_000,
        eval_episodes=30,
    ),
    Recipe(
        name="minatar-fast",  # ours: Adam, an update every 4 decisions (README, Departures)
        tier="minatar",
        total_steps=1_000_000,
        warmup_steps=5_000,
        replay_capacity_steps=100_000,
        batch_size=32,
        train_interval_steps=4,
        target_interval_steps=4_000,
        discount=0.99,
        optimizer="adam",
        learning_rate=5e-4,
        loss="huber",
        epsilon_end=0.05,
        epsilon_decay_steps=75_000,
        decay_follows_warmup=True,
        clip_rewards=False,
        life_loss_terminal=True,
        truncation_terminal=False,
        num_envs=16,
        dynamics=PROTOCOLS["minatar"].dynamics,
        eval_interval_steps=25_000,
        eval_episodes=30,
    ),
    Recipe(
        name="tutorial",  # SpikingJelly 2.0.0, examples/dqn_state.py and spiking_dqn_state.py (README, Departures)
        tier="control",
        total_steps=25_000,  # ours: the tutorial plays 500 episodes, however long
        warmup_steps=128,  # the tutorial's first update: when the replay holds a batch
        replay_capacity_steps=10_000,
        batch_size=128,
        train_interval_steps=1,
        target_interval_steps=100,  # ours: every 10 episodes in the tutorial
        discount=0.999,
        optimizer="adam",
        learning_rate=1e-3,
        loss="huber",
        gradient_clamp=1.0,
        epsilon_exponential_from=0.9,
        epsilon_end=0.05,
        epsilon_decay_steps=200,
        decay_follows_warmup=False,
        clip_rewards=False,
        life_loss_terminal=False,
        truncation_terminal=False,
        num_envs=1,
        dynamics=PROTOCOLS["cartpole"].dynamics,  # 500 decisions; the tutorial never cuts an episode
        eval_interval_steps=1_000,
        eval_episodes=16,  # side by side at once
    ),
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
_DEFAULT: Mapping[Tier, str] = {"atari": "atari-fast", "minatar": "minatar-fast", "control": "tutorial"}

PPO_RECIPE = PpoRecipe(
    name="tutorial-ppo",  # SpikingJelly 2.0.0, examples/ppo.py and spiking_ppo.py (README, Departures)
    tier="control",
    total_steps=40_000,  # code: 10,000 of each environment
    num_envs=4,
    rollout_steps=128,
    epochs=30,
    batch_size=256,
    learning_rate=1e-3,
    discount=0.99,
    trace_decay=0.95,
    clip=0.2,
    value_weight=0.5,
    entropy_weight=0.001,
    dynamics=PROTOCOLS["cartpole"].dynamics,
    eval_interval_steps=1_000,
    eval_episodes=16,
)


def get_recipe(name: str | None, game: Game) -> Recipe:
    """The recipe of that name, refused if it is not for the game's tier; the tier's fast one if None."""
    fitting = ", ".join(recipe.name for recipe in _ALL if recipe.tier == game.tier)
    name = name or _DEFAULT[game.tier]
    if name not in RECIPES:
        raise Refusal(f"unknown recipe {name!r}: recipes for {game.name} are {fitting}")
    if RECIPES[name].tier != game.tier:
        raise Refusal(
            f"recipe {name!r} trains {RECIPES[name].tier} games, {game.name} is {game.tier}: "
            f"recipes for it are {fitting}"
        )
    recipe = RECIPES[name]
    if name in PROTOCOLS:  # some games have dynamics of their own
        return replace(recipe, dynamics=PROTOCOLS[name].resolve(game).dynamics)
    return recipe


def validation_protocol(recipe: str, game: Game) -> Protocol:
    """How validation episodes are scored: as the recipe's paper scores, or as is usual for the game."""
    return get_protocol(recipe if recipe in PROTOCOLS else None, game)
