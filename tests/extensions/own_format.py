"""A format of files of pretrained DQNs: the weights of a small network for CartPole."""

from convert.foreign import FORMATS, Format, Layout

FORMATS.register("own-format")(
    Format(
        description="a test of the project",
        layouts=(Layout(("inner", "outer"), tier="control", any_width=True),),
        inside="network",
    )
)
