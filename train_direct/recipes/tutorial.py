"""SpikingJelly 2.0.0's CartPole tutorials, examples/dqn_state.py and spiking_dqn_state.py (docs/departures.md)."""

from play.protocols import PROTOCOLS
from train_direct.recipe import RECIPES, Recipe

RECIPES.register("tutorial")(
    Recipe(
        name="tutorial",
        tier="control",
        is_default=True,
        protocol="cartpole",
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
    )
)
