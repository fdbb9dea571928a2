"""floringogianu/atari-agents: a gzip of a torch file, whose entry `estimator_state` has the weights.

The network divides bytes by 255 as its first step.
"""

from convert.foreign import FORMATS, Format, Layout

FORMATS.register("atari-agents")(
    Format(
        description="floringogianu/atari-agents",
        layouts=(
            Layout(
                (
                    *(f"_AtariNet__features.{index}" for index in (0, 2, 4)),
                    "_AtariNet__head.0",
                    "_AtariNet__head.2",
                )
            ),
        ),
        inside="estimator_state",
    )
)
