"""Ours: a small replay and short schedules, for Atari on few cores (docs/departures.md)."""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("atari-fast")(
    Recipe(
        name="atari-fast",
        tier="atari",
        is_default=True,
        protocol="nature",
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
    )
)
