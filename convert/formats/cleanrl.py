"""CleanRL's dqn_atari.py --save-model: a torch file of the weights.

The network divides bytes by 255 as its first step. The file says nothing beside the weights.
"""

from convert.foreign import FORMATS, Format, Layout

FORMATS.register("cleanrl")(
    Format(
        description="CleanRL, a .cleanrl_model written by dqn_atari.py",
        layouts=(Layout(tuple(f"network.{index}" for index in (0, 2, 4, 7, 9))),),
    )
)
