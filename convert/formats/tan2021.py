"""Tan et al. 2021 (arXiv 2009.14456): a torch file of the weights of their Net, code WeihaoTan/bindsnet-1.

The weights came from a network of OpenAI Baselines. So convolutions are padded as TensorFlow's SAME does (2; 1 before
and 2 behind; 1 pixel), and images are flattened as [height, width, channels]. The network divides bytes by 255.
"""

from convert.foreign import FORMATS, Format, Layout

FORMATS.register("tan2021")(
    Format(
        description="WeihaoTan/bindsnet-1, the code of Tan et al. 2021, a .pt of the weights of its padded network",
        layouts=(
            Layout(("conv1", "conv2", "conv3", "fc1", "fc2"), padding="same", flattened_channels_last=True),
        ),
    )
)
