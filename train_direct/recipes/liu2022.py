"""Liu et al. 2022 (arXiv 2201.07211): Table II, and the released code (AptX395/Deep-Spiking-Q-Networks).

"code" is the released code, where it says more than the paper.
"""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("liu2022")(
    Recipe(
        name="liu2022",
        tier="atari",
        protocol="liu2022",
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
    )
)
