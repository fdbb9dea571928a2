"""A spiking network as a NIR graph (Pedersen et al. 2024, arXiv 2311.14641), for other simulators and for hardware.
This is the only file that imports nir. SpikingJelly's own mapper refuses soft reset and has no leaky integrator, and
most networks here need one of them.

NIR describes a neuron by a differential equation, tau dv/dt = (v_leak - v) + R I, and does not fix a time step. Here
one unit of time is one simulation step. Forward Euler with dt = 1 then gives exactly the equations of `core.neurons`
and `core.rate_coded.torch_engine`. The graph's metadata holds what an executor must know and nodes cannot express:

    kind, game, sim_steps, dt (1)
    input         "constant": the observation is the input current of every simulation step
    layer_delay   0: a spike reaches all later layers in the same simulation step
    firing        "at-once", with spike_when "v >= v_threshold" (NIR's documentation says v > v_threshold)
    reset         "hard": v = v_reset; "soft": v = v - v_threshold, and v_reset is ignored
    v_init        membranes before the first simulation step
    readout       name of the read-out; q_values describes it in words
    readout_tau   time constant, for read-outs of the output voltage
    output_scale  factor from the read-out to Q-values
"""

import io
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from core.dsqn import DSQN
from core.errors import Refusal
from core.layers import Padding
from core.neurons.base import NirNode
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.readouts import READOUTS

if TYPE_CHECKING:
    import nir

Q_VALUES: Mapping[str, str] = {
    "robust": "output_scale * (output spikes + v of the last neurons after all steps - v_init) / sim_steps",
    "current": "output_scale * mean output over sim_steps",
    "spikes": "output_scale * output spikes / sim_steps",
}
"""Q-values of a converted network from its output, in words. Read-outs of directly trained networks have their own."""


def require_nir() -> Any:
    """The module nir.

    Raises:
        Refusal: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise Refusal(f"nir is not installed ({error}); install it with pip install '.[nir]'")
    return nir


def require_expressible(coding: RateCoding, padding: Padding) -> None:
    """Refuse features of a converted network that a NIR graph cannot express."""
    beyond = {
        f"firing {coding.neuron.firing}": coding.neuron.firing != "at-once",
        f"presteps {coding.presteps}": bool(coding.presteps),
        f"residual_alpha {coding.residual_alpha:g}": bool(coding.residual_alpha),
        f"stop_gap {coding.stop_gap}": coding.stop_gap is not None,
        "layer_delay": coding.layer_delay,
        f"image_bits {coding.image_bits}": coding.image_bits is not None,
        "padding same (uneven where a stride does not divide the size)": padding != "valid",
    }
    found = [name for name, present in beyond.items() if present]
    if found:
        raise Refusal(f"NIR cannot express {', '.join(found)}: export a network without")


def to_graph(agent: RateCodedNetwork | DSQN) -> "nir.NIRGraph":
    """Express a network as one chain of nodes, without a batch dimension, in float32.

    Args:
        agent: a converted network or a DSQN. It is not changed and shares no memory with the graph.

    Returns:
        The graph. Its first node is input and its last is output [A]. Nodes of layer N, counted from 1, are
        layerN_flatten (between an image and a fully connected layer), layerN_conv or layerN_linear, layerN_neurons
        ([C, H, W] or [F], if the layer spikes) and layerN_readout (the leaky integrator of *-mem read-outs). This is
        also their order by name, in which HDF5 lists them.

    Raises:
        Refusal: nir is not installed, or NIR cannot express the network.
    """
    nir = require_nir()
    if isinstance(agent, DSQN):
        sim_steps, node = agent.spiking.sim_steps, agent.spiking.neuron.nir_node()
        readout, q_values = READOUTS.name_of(type(agent.spiking.readout)), agent.spiking.readout.q_values
        if agent.spiking.normalisation is not None or not q_values:
            raise Refusal(
                "NIR cannot express this network's read-out or normalisation: export a network without"
            )
        own = {**node.metadata, "output_scale": 1.0}
    else:
        coding = agent.coding
        require_expressible(coding, agent.padding)
        sim_steps, readout, q_values = coding.sim_steps, str(coding.readout), Q_VALUES[coding.readout]
        own = {"reset": "soft", "v_init": coding.neuron.v_init, "output_scale": agent.output_scale.item()}
        # v exp(-1 / tau) + x is v + (R x - v) / R for the R with 1 - 1 / R = exp(-1 / tau).
        tau = None if coding.neuron.tau is None else -1 / math.expm1(-1 / coding.neuron.tau)
        parameters = {"r": tau or 1.0, "v_threshold": 1.0, "v_reset": 0.0}
        node = NirNode("IF", parameters)
        if tau is not None:
            node = NirNode("LIF", {**parameters, "tau": tau, "v_leak": 0.0})
    metadata = {
        **{"kind": agent.kind, "game": agent.game.name, "sim_steps": sim_steps, "dt": 1.0},
        **{"input": "constant", "layer_delay": 0, "firing": "at-once", "spike_when": "v >= v_threshold"},
        **{**own, "readout": readout, "q_values": q_values},
    }

    def population(shape: tuple[int, ...]) -> Any:
        parameters = {name: _full(shape, value) for name, value in node.parameters.items()}
        return getattr(nir, node.type_name)(**parameters)

    nodes: dict[str, Any] = {"input": nir.Input(np.array(agent.game.observation_shape))}
    before = agent.game.observation_shape
    for index, (layer, shape) in enumerate(zip(agent.layers, agent.layer_shapes, strict=True)):
        name = f"layer{index + 1}"
        if isinstance(layer, nn.Conv2d):
            nodes[f"{name}_conv"] = nir.Conv2d(
                input_shape=before[1:],
                weight=_array(layer.weight),
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
                # Convolutions in NIR always have biases.
                bias=_full(shape[:1], 0.0) if layer.bias is None else _array(layer.bias),
            )
        else:
            if len(before) > 1:
                nodes[f"{name}_flatten"] = nir.Flatten(np.array(before), start_dim=0, end_dim=-1)
            nodes[f"{name}_linear"] = (
                nir.Linear(weight=_array(layer.weight))
                if layer.bias is None
                else nir.Affine(weight=_array(layer.weight), bias=_array(layer.bias))
            )
        if index < len(agent.neuron_counts):
            nodes[f"{name}_neurons"] = population(shape)
        before = shape
    integrator_tau = agent.spiking.readout.integrator_tau if isinstance(agent, DSQN) else None
    if integrator_tau is not None:
        nodes[f"{name}_readout"] = nir.LI(
            tau=_full(before, integrator_tau), r=_full(before, 1.0), v_leak=_full(before, 0.0)
        )
        metadata["readout_tau"] = integrator_tau
    nodes["output"] = nir.Output(np.array(before))
    return nir.NIRGraph(nodes, list(pairwise(nodes)), metadata)


def to_bytes(agent: RateCodedNetwork | DSQN) -> bytes:
    """The bytes of a NIR file (HDF5) of the network. Equal networks give equal bytes."""
    file = io.BytesIO()
    require_nir().write(file, to_graph(agent))
    return file.getvalue()


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().float().numpy().copy()


def _full(shape: tuple[int, ...], value: float) -> np.ndarray:
    return np.full(shape, value, dtype=np.float32)
