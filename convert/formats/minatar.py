"""kenjyoung/MinAtar, examples/dqn.py of Young & Tian 2019 (arXiv 1903.03176): a torch file.

`<name>_data_and_weights` holds the weights under `policy_net_state_dict`. A `_checkpoint` also holds the replay buffer,
which is made of Python objects, so it is refused. The network is given planes of 0 and 1.

Their code gives a game all 6 actions. Others train with the minimal set (`use_minimal_action_set`, gymnasium's -v1).
"""

from convert.foreign import FORMATS, Format, Layout
from core.games import Game


class MinAtar(Format):
    """Files of MinAtar's own DQN."""

    def actions(self, game: Game, num_outputs: int) -> tuple[int, ...]:
        from minatar import Environment

        if num_outputs != game.num_actions:
            minimal = Environment(game.name.removeprefix("minatar/")).minimal_action_set()
            if num_outputs == len(minimal):
                return tuple(minimal)
        return super().actions(game, num_outputs)


FORMATS.register("minatar")(
    MinAtar(
        description="kenjyoung/MinAtar, written by examples/dqn.py of Young & Tian 2019",
        layouts=(Layout(("conv", "fc_hidden", "output"), tier="minatar"),),
        inside="policy_net_state_dict",
    )
)
