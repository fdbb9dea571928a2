"""SpikingJelly 2.0.0's PPO on CartPole, examples/ppo.py and spiking_ppo.py (docs/departures.md)."""

from play.protocols import PROTOCOLS
from train_direct.recipe import PPO_RECIPES, PpoRecipe

PPO_RECIPES.register("tutorial-ppo")(
    PpoRecipe(
        name="tutorial-ppo",
        tier="control",
        is_default=True,
        protocol="cartpole",
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
)
