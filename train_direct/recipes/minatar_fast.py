"""Ours: Adam, and an update every 4 decisions, for MinAtar (docs/departures.md)."""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("minatar-fast")(
    Recipe(
        name="minatar-fast",
        tier="minatar",
        is_default=True,
        protocol="minatar",
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
    )
)
