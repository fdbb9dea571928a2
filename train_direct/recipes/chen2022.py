"""Chen et al. 2022 (arXiv 2201.09754): section 4.1, and the released code (SpikingJelly's dsqn example).

"code" is the released code, where it says more than the paper.
"""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("chen2022")(
    Recipe(
        name="chen2022",
        tier="atari",
        protocol="chen2022",
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
    )
)
