"""AptX395/Deep-Spiking-Q-Networks: torch files (.pkl) of the weights of Dqn, Dsqn (LIF), DsqnIF and DsqnSpike.

Neurons have no weights, so the names of Dsqn and DsqnIF are the same. Tau, threshold and T are command-line options of
that code and are not saved. Bytes are divided by 255 before the network.
"""

from convert.foreign import FORMATS, Format, Layout

_SPIKING_TRUNK = ("_static_conv1", "_conv2.0.0", "_conv3.0.0", "_fc1.0.1")
FORMATS.register("aptx395")(
    Format(
        description="AptX395/Deep-Spiking-Q-Networks, the code of Liu et al. 2022",
        layouts=(
            Layout(("_conv1.0", "_conv2.0", "_conv3.0", "_fc1.1", "_fc2")),
            Layout((*_SPIKING_TRUNK, "_fc2"), networks=("liu2022", "liu2022-if")),
            Layout((*_SPIKING_TRUNK, "_fc2.0.0"), networks=("liu2022-spike",)),
        ),
    )
)
