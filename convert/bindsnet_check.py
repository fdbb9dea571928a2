"""Simulation of a converted network in BindsNET, as an independent check. This is the only file that imports BindsNET.

BindsNET's own `ann_to_snn` (0.3.4) scales convolutions wrongly and leaves linear layers unscaled. So the network is
built here from BindsNET's nodes and connections, with normalised weights. BindsNET is licensed under the AGPL-3.0. It
is an optional extra that training, evaluation and attacks never need.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import Refusal
from core.layers import SameConv2d, same_margins
from core.rate_coded.network import RateCodedNetwork


def bindsnet_scores(
    snn: RateCodedNetwork, inputs: Tensor, batch_size: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a converted network in BindsNET, which delays each layer by one simulation step.

    Args:
        snn: the converted network. Its own `layer_delay` is ignored.
        inputs: [B, *observation] float32.
        batch_size: images simulated together. Tan et al. simulate one at a time, with a monitor on the output. Larger
            batches have no monitor.

    Returns:
        Output spike counts [B, A] and residual membranes [B, A] after `snn.coding.sim_steps` steps.
    """
    try:
        from bindsnet.conversion.nodes import SubtractiveResetIFNodes
        from bindsnet.network import Network
        from bindsnet.network.monitors import Monitor
        from bindsnet.network.nodes import Input
        from bindsnet.network.topology import Connection, Conv2dConnection
    except ImportError as error:
        raise Refusal(f"BindsNET is not installed ({error}); install it with pip install '.[bindsnet]'")

    class RealInput(Input):  # type: ignore[misc]
        """An input layer whose values are currents. BindsNET's own Input takes spikes."""

        def forward(self, x: Tensor) -> None:
            self.s = x.clone()  # BindsNET zeroes s in place when it resets

    class CountingNodes(SubtractiveResetIFNodes):  # type: ignore[misc]
        """Output neurons that count their spikes."""

        count: Tensor

        def forward(self, x: Tensor) -> None:
            super().forward(x)
            self.count = self.count + self.s

    network = Network(dt=1.0, learning=False)
    source = RealInput(shape=snn.game.observation_shape)
    network.add_layer(source, name="image")
    name = "image"
    for index, (layer, shape) in enumerate(zip(snn.layers, snn.layer_shapes, strict=True)):
        nodes = CountingNodes if index == len(snn.layers) - 1 else SubtractiveResetIFNodes
        target = nodes(shape=shape, thresh=1.0, reset=0.0, refrac=0, lbound=None)
        target_name = f"layer{index}"
        network.add_layer(target, name=target_name)
        bias = torch.zeros(shape[0]) if layer.bias is None else layer.bias.detach()
        if isinstance(layer, nn.Conv2d):
            before, after = (0, 0)
            if isinstance(layer, SameConv2d):
                before, after = same_margins(source.shape[1], layer.kernel_size[0], layer.stride[0])
            # BindsNET pads all sides equally. Zeros in the kernel cancel the extra row and column.
            weight = F.pad(layer.weight.detach(), (after - before, 0, after - before, 0))
            connection = Conv2dConnection(
                source,
                target,
                kernel_size=weight.shape[2:],
                stride=layer.stride,
                padding=after,
                w=weight,
                b=bias,
            )
        else:
            connection = Connection(source, target, w=layer.weight.detach().T.contiguous(), b=bias)
        network.add_connection(connection, source=name, target=target_name)
        source, name = target, target_name
    output = network.layers[name]
    sim_steps = snn.coding.sim_steps
    if batch_size == 1:
        network.add_monitor(Monitor(output, state_vars=["s"], time=sim_steps), name="output")
    counts, residuals = [], []
    with torch.no_grad():
        for images in inputs.split(batch_size):
            for node in network.layers.values():
                node.set_batch_size(len(images))
            network.batch_size = len(images)
            network.reset_state_variables()
            for index in range(len(snn.layers)):
                network.layers[f"layer{index}"].v.fill_(snn.coding.neuron.v_init)
            output.count = torch.zeros(())
            network.run({"image": images.expand(sim_steps, *images.shape)}, time=sim_steps)
            counts.append(output.count.flatten(1).numpy())
            residuals.append(output.v.flatten(1).numpy().copy())
    return np.concatenate(counts), np.concatenate(residuals)
