"""The digest of a training, which tells trainings apart whose rows have the same names.

Names of recipes and networks do not tell what they stood for on the day of the training.
"""

from collections.abc import Sequence
from dataclasses import asdict

from core import extensions
from core.dqn import DQN
from core.dsqn import DSQN
from core.games import Game
from core.layers import format_layers
from core.records import digest, to_json
from play.protocols import PROTOCOLS, Dynamics, get_protocol
from train_direct.recipe import BaseRecipe

TOLD = ("name", "tier", "is_default", "total_steps")
"""Fields of a recipe that are not part of the digest.

Rows hold the recipe's name and the number of decisions. A longer run begins with the same decisions as a shorter one,
and a resumed run may be given another end.
"""


def training_digest(
    agent: DQN | DSQN,
    recipe: BaseRecipe,
    *,
    cmc: bool = False,
    sim_steps_in_turn: Sequence[int] = (),
    precision: str = "fp32",
    early_stop: bool = False,
) -> str:
    """12 hex digits for all that defines a training, but for its game, seed, length, machine and library versions.

    It covers the recipe's values, the network, and the extensions that were imported. Fields of the recipe that are
    None are left out, so that a later version can add one without a change of digests.

    Args:
        agent: the network before its first update.
        recipe: as it applies to the game.
        cmc: whether the common mode is compensated.
        sim_steps_in_turn: simulation steps of temporal pruning. Each has an equal share of the run, so the length of
            the run counts too.
        precision: of the updates.
        early_stop: whether the run ends at the game's stop score.
    """
    values = {
        **{name: value for name, value in asdict(recipe).items() if name not in TOLD},
        "dynamics": asdict(_of_any_game(recipe, agent.game)),
        **({"total_steps": recipe.total_steps} if sim_steps_in_turn else {}),
        # The configuration leaves out the usual layers of a tier.
        "network": {**agent.config(), "layers": format_layers(agent.hidden)},
        "cmc": cmc,
        "sim_steps_in_turn": list(sim_steps_in_turn),
        "precision": precision,
        "early_stop": early_stop,
        "extensions": extensions.EXTENSIONS,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return digest(to_json(known).encode())[:12]


def _of_any_game(recipe: BaseRecipe, game: Game) -> Dynamics:
    """The dynamics without what the protocol changes for a game: on all games of a study it is one training."""
    if recipe.dynamics == get_protocol(recipe.protocol, game).dynamics:
        return PROTOCOLS[recipe.protocol].dynamics
    return recipe.dynamics
