"""A spiking network as a NIR graph (Pedersen et al. 2024, arXiv 2311.14641), for other simulators and for hardware.
The only file that imports nir.

Why a mapper of our own: SpikingJelly's refuses soft reset and has no leaky integrator, which most of our networks need.

NIR states a neuron as a differential equation, tau dv/dt = (v_leak - v) + R I, and leaves time open. Here one unit of
time is one simulation step: forward Euler with dt = 1 gives the equations of `core.neurons` and
`core.rate_coded.torch_engine` and no others. What the nodes cannot say and an executor has to know is in the graph's
metadata:

    kind, game, sim_steps, dt (1)
    input         "constant": the observation is the current of every simulation step
    layer_delay   0: a spike reaches all later layers within its own simulation step
    firing        "at-once", and spike_when "v >= v_threshold" (NIR's text says v > v_threshold)
    reset         "hard": v = v_reset; "soft": v = v - v_threshold, whatever v_reset says
    v_init        membranes before the first step
    readout       as the checkpoint has it, and q_values, which says it in words
    readout_tau   of read-outs by voltage
    output_scale  what the read-out is multiplied by to be in units of Q
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
"""How Q-values follow from a converted network's output; directly trained networks' read-outs say it themselves."""


def require_nir() -> Any:
    """The module nir, or a Refusal where it is not installed."""
    try:
        import nir
    except ImportError as error:
        raise Refusal(f"nir is not installed ({error}); the extra that brings it: pip install '.[nir]'")
    return nir


def require_expressible(coding: RateCoding, padding: Padding) -> None:
    """Refuse what a converted network may do and neither a NIR graph nor its reader can be expected to know."""
    beyond = {
        f"firing {coding.neuron.firing}": coding.neuron.firing != "at-once",
        f"presteps {coding.presteps}": bool(coding.presteps),
        f"residual_alpha {coding.residual_alpha:g}": bool(coding.residual_alpha),
        f"stop_gap {coding.stop_gap}": coding.stop_gap is not None,
        "layer_delay": coding.layer_delay,
        f"image_bits {coding.image_bits}": coding.image_bits is not None,
        "padding same (uneven where strides leave a rest)": padding != "valid",
    }
    found = [name for name, present in beyond.items() if present]
    if found:
        raise Refusal(f"NIR has no word for {', '.join(found)}: a network without can be exported")


def to_graph(agent: RateCodedNetwork | DSQN) -> "nir.NIRGraph":
    """The network as one chain of nodes, without a batch dimension, in float32.

    Args:
        agent: a converted network or a DSQN, in any weights; it is not changed, and shares no memory with the graph.

    Returns:
        input, then of each layer, counted from 1: layerN_flatten (where an image meets a fully connected layer),
        layerN_conv or layerN_linear, layerN_neurons (where it spikes: [C, H, W] or [F] neurons), layerN_readout (the
        leaky integrator of *-mem), then output [A]. Sorted by name, as HDF5 lists them, they are in this order.

    Raises:
        Refusal: nir is not installed, or the network does what NIR cannot say.
    """
    nir = require_nir()
    if isinstance(agent, DSQN):
        sim_steps, node = agent.spiking.sim_steps, agent.spiking.neuron.nir_node()
        readout, q_values = READOUTS.name_of(type(agent.spiking.readout)), agent.spiking.readout.q_values
        if agent.spiking.normalisation is not None or not q_values:
            raise Refusal(
                "NIR has no word for this network's read-out or normalisation: a network without can be exported"
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
                # A convolution of NIR's always has biases.
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
    """What a NIR file (HDF5) of the network holds; equal networks give equal bytes."""
    file = io.BytesIO()
    require_nir().write(file, to_graph(agent))
    return file.getvalue()


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().float().numpy().copy()


def _full(shape: tuple[int, ...], value: float) -> np.ndarray:
    return np.full(shape, value, dtype=np.float32)
