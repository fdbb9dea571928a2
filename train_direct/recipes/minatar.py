"""Young & Tian 2019 (arXiv 1903.03176): Table 1, and the released code (kenjyoung/MinAtar, examples/dqn.py)."""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("minatar")(
    Recipe(
        name="minatar",
        tier="minatar",
        protocol="minatar",
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
    )
)
