"""Each architecture once, and the Q-networks built from it: with ReLU (DQN) or with spikes (DSQN).

A Q-network maps float32 [B, *observation] to float32 [B, A] and keeps nothing between calls: membranes
start from rest inside, so nobody can forget a reset. DQN and DSQN of one game share their layers to the
last weight shape; what lies between the layers is all that differs.
"""

import abc
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import fused, neurons
from core.errors import Refusal
from core.games import Game, Tier
from core.neurons import Neuron

# Architectures ---------------------------------------------------------------------------------------


Padding = Literal["valid", "same"]
PADDINGS: tuple[Padding, ...] = ("valid", "same")
"""What surrounds a convolution's input. valid: nothing (Mnih et al. 2015). same: zeros, so that ceil(size / stride)
come out, as in TensorFlow (OpenAI Baselines, Dopamine)."""


@dataclass(frozen=True)
class Conv:
    """A convolution, with the padding that its network has."""

    out_channels: int
    kernel_size: int
    stride: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; what precedes it is flattened."""

    out_features: int


HIDDEN_LAYERS: Mapping[Tier, tuple[Conv | Dense, ...]] = {
    # Mnih et al. 2015, Methods; used by Liu et al. 2022 and Chen et al. 2022.
    "atari": (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1), Dense(512)),
    # Young & Tian 2019 (arXiv 1903.03176), section 3.
    "minatar": (Conv(16, 3, 1), Dense(128)),
    # SpikingJelly's CartPole tutorials (examples/dqn_state.py and spiking_dqn_state.py).
    "classic": (Dense(256),),
}
ACTOR_HIDDEN_LAYERS: Mapping[Tier, tuple[Conv | Dense, ...]] = {
    # SpikingJelly's PPO tutorials (examples/ppo.py and spiking_ppo.py), for the actor and the critic alike.
    "classic": (Dense(32),),
}


class SameConv2d(nn.Conv2d):
    """A convolution that pads its input as TensorFlow's SAME does."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(padded(self, input))


Layer = nn.Conv2d | nn.Linear


class Layers(nn.ModuleList):
    """Convolutions and fully connected layers, from the observation to the action scores."""

    def __iter__(self) -> Iterator[Layer]:
        return cast(Iterator[Layer], super().__iter__())


def same_margins(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a row of `size` pixels under TensorFlow's SAME padding, which puts the odd one after it.

    Source: TensorFlow's documentation of tf.nn, "Notes on padding": (ceil(size / stride) - 1) stride + kernel - size
    in all, if that is positive.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def padded(layer: Layer, x: Tensor) -> Tensor:
    """What a layer's kernel runs over: [B, C, H, W] with the zeros around it, or x itself if the layer pads nothing."""
    if not isinstance(layer, SameConv2d):
        return x
    height, width = (
        same_margins(size, kernel_size, stride)
        for size, kernel_size, stride in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True)
    )
    return F.pad(x, (*width, *height))


def build_layers(
    game: Game,
    bias: bool,
    num_outputs: int | None = None,
    padding: Padding = "valid",
    architecture: Mapping[Tier, tuple[Conv | Dense, ...]] = HIDDEN_LAYERS,
) -> tuple[Layers, list[tuple[int, ...]]]:
    """The layers of a game's network, output layer (one output an action unless said otherwise) included, and the
    shape each one gives.

    Weights are uninitialised memory until `initialise` or a checkpoint fills them.
    """
    if padding not in PADDINGS:  # it may come from a file
        raise Refusal(f"padding {padding!r}: accepted are {', '.join(PADDINGS)}")
    if game.tier not in architecture:
        raise Refusal(
            f"{game.name} is {game.tier}: such a network is there for {', '.join(architecture)} games only"
        )
    shape: tuple[int, ...] = game.observation_shape
    layers = Layers()
    shapes: list[tuple[int, ...]] = []
    for spec in (*architecture[game.tier], Dense(num_outputs or game.num_actions)):
        if isinstance(spec, Conv):
            layers.append(
                nn.utils.skip_init(
                    SameConv2d if padding == "same" else nn.Conv2d,
                    shape[0],
                    spec.out_channels,
                    spec.kernel_size,
                    spec.stride,
                    bias=bias,
                )
            )
            covered = 1 if padding == "same" else spec.kernel_size
            height, width = ((size - covered) // spec.stride + 1 for size in shape[1:])
            shape = (spec.out_channels, height, width)
        else:
            layers.append(nn.utils.skip_init(nn.Linear, math.prod(shape), spec.out_features, bias=bias))
            shape = (spec.out_features,)
        shapes.append(shape)
    return layers, shapes


def apply_layer(layer: Layer, x: Tensor) -> Tensor:
    """One convolution or fully connected layer on [B, ...], in the precision of its weights."""
    x = x.to(layer.weight.dtype)
    return layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)


def apply_to_image(layer: Layer, images: Tensor, bits: int | None) -> Tensor:
    """The first layer on [B, ...]. With bits, what it gives is rounded, from double precision, to multiples of 2^-bits:
    a network whose weights are such multiples then adds up exactly, whatever the order. Gradients pass unrounded.

    A pixel that is n / 255 in float32 is taken as the fraction, not as the float32 beside it; others stay as they are.
    """
    current = apply_layer(layer, images)
    if bits is None:
        return current
    with torch.no_grad():
        weight, bias = layer.weight.double(), None if layer.bias is None else layer.bias.double()
        pixels = 255 * images.double()
        whole = pixels.round()
        pixels = torch.where((pixels - whole).abs() < 2.0**-15, whole, pixels) / 255
        if isinstance(layer, nn.Conv2d):
            precise = F.conv2d(padded(layer, pixels), weight, bias, layer.stride)
        else:
            precise = F.linear(pixels.flatten(1), weight, bias)
        rounded = (torch.round(precise * 2**bits) / 2**bits).to(current.dtype)
    return rounded if not current.requires_grad else current + (rounded - current).detach()


def halve_precision(network: nn.Module) -> None:
    """Make all layers bfloat16 but the output layers: Q-values lie closer together than bfloat16 can tell."""
    for module in network.modules():
        if isinstance(module, Layers):
            for layer in list(module)[:-1]:
                layer.to(torch.bfloat16)


@torch.no_grad()
def initialise(layers: Layers, generator: torch.Generator) -> None:
    """PyTorch's default initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), from a given generator."""
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)


# What a decision costs ------------------------------------------------------------------------------


class Activity(NamedTuple):
    """What a spiking agent spent on one batch of decisions."""

    spikes: Tensor
    """[B, L] float32: spikes of each of the L spiking layers, summed over neurons and simulation steps."""
    sim_steps: Tensor
    """[B] float32: simulation steps each decision took."""


class Decision(NamedTuple):
    """What an agent answers to a batch of observations."""

    scores: Tensor
    """[B, A] float32: Q-values."""
    carry: tuple[Tensor, ...] | None
    """[B, ...] each: what the next decision of the same episodes begins with, zero rows being an episode's start;
    None for an agent that keeps nothing."""
    activity: Activity | None
    """None for an agent without spikes."""


class LayerTrace(NamedTuple):
    """What one layer of an agent heard and did in one batch of decisions: all that its operations are counted from.

    Agents with layers have a method `trace`, which takes what `decide` takes and gives one for each layer, first to
    last. It is slower than `decide`, whose spikes these are, neuron by neuron.
    """

    heard: Tensor
    """[B, *its input]: the image, activations, or how many spikes (of either sign) of each input arrived in all."""
    hears_spikes: bool
    fired: Tensor | None
    """[B, *its output]: spikes (of either sign) of each of its own neurons; None if they do not spike."""
    neuron_sim_steps: Tensor
    """[B] float32: simulation steps in which its neurons' membranes were stepped; 0 if they have none."""


def layer_traces(
    observations: Tensor, fired: Sequence[Tensor], neuron_sim_steps: Sequence[Tensor]
) -> list[LayerTrace]:
    """Traces of a network whose first layer hears the image, and each later one the spikes of the one before.

    Args:
        observations: [B, *observation].
        fired: of every layer that spikes, see `LayerTrace`; all do but perhaps the last.
        neuron_sim_steps: of every layer, see `LayerTrace`.
    """
    heard = [observations, *fired]
    return [
        LayerTrace(heard[index], index > 0, fired[index] if index < len(fired) else None, steps)
        for index, steps in enumerate(neuron_sim_steps)
    ]


def count_spikes(train: Tensor) -> Tensor:
    """Total spikes [B] of a spike train [T, B, ...]."""
    return train.sum(0, dtype=torch.float32).flatten(1).sum(1)


def spike_train(currents: Tensor, sim_steps: int, neuron: Neuron) -> Tensor:
    """Spikes [T, ...] of a population driven from rest by [T, ...] currents, or by one that stays, [1, ...].

    On the CPU by the compiled pass, elsewhere by the reference: the spikes are the same.
    """
    if currents.device.type == "cpu" and currents.dtype in (torch.float32, torch.bfloat16):
        return fused.run(currents, sim_steps, neuron)
    # Membranes are float32 whatever the convolutions before them were computed in.
    precise = currents.to(torch.promote_types(currents.dtype, torch.float32))
    return neurons.run(precise.expand(sim_steps, *currents.shape[1:]), neuron).to(currents.dtype)


class Agent(nn.Module, abc.ABC):
    """What evaluation, attack and conversion know of any agent."""

    kind: str
    """What it is: "dqn", "quantised", "rate-coded", "dsqn", "actor", "spiking-actor" or "random"."""
    game: Game
    neuron_counts: tuple[int, ...] = ()
    """Neurons of each spiking layer, in the order of `Activity.spikes`; empty without spikes."""

    @property
    def sim_steps(self) -> int:
        """Simulation steps of a decision; 0 without spikes."""
        return 0

    @abc.abstractmethod
    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        """Score actions, and say what that took.

        Args:
            observations: [B, *observation] float32 within the game's bounds.
            carry: what the previous decision of the same episodes returned, zero rows where one starts; None if all do.
        """

    def forward(self, observations: Tensor) -> Tensor:
        """Action scores [B, A]."""
        return self.decide(observations).scores

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able constructor arguments besides the game."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))


class RandomPlay(Agent):
    """The agent without an opinion: every action scores 0. Played with epsilon 1 it is random play."""

    kind = "random"

    def __init__(self, game: Game):
        super().__init__()
        self.game = game

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        return Decision(observations.new_zeros(len(observations), self.game.num_actions), None, None)

    def config(self) -> dict[str, Any]:
        return {}


# Presets --------------------------------------------------------------------------------------------

Readout = Literal["rate", "spike-rate", "last-mem", "max-mem", "mean-mem", "max-abs-mem"]
READOUTS: tuple[Readout, ...] = ("rate", "spike-rate", "last-mem", "max-mem", "mean-mem", "max-abs-mem")


MOST_SIM_STEPS = 10_000
"""Twenty times what Tan et al. 2021 needs; some read-outs take memory by its square."""


def require_sim_steps(sim_steps: int) -> None:
    """Refuse a number of simulation steps that is none; it may come from a file, where nothing is typed."""
    if not isinstance(sim_steps, int) or not 1 <= sim_steps <= MOST_SIM_STEPS:
        raise Refusal(f"sim_steps is {sim_steps}: accepted are integers from 1 to {MOST_SIM_STEPS}")


@dataclass(frozen=True)
class Spiking:
    """What makes a network spike, and how its Q-values are read."""

    neuron: Neuron = field(default_factory=Neuron)
    sim_steps: int = 8
    readout: Readout = "max-mem"
    """rate: the output layer applied to the mean of the last hidden spikes (Liu et al. 2022; Chen's
    fr-mlp). spike-rate: the output layer spikes too, Q is its rate in [0, 1] (Liu's DsqnSpike).
    *-mem: a statistic over simulation steps of a leaky integrator's voltage (Chen et al. 2022)."""
    readout_tau: float = 2.0
    """Time constant of that integrator, in simulation steps."""

    def __post_init__(self) -> None:
        require_sim_steps(self.sim_steps)
        if self.readout not in READOUTS:
            raise Refusal(f"readout {self.readout!r}: accepted are {', '.join(READOUTS)}")
        if not 1.0 <= self.readout_tau < math.inf:
            raise Refusal(f"readout_tau is {self.readout_tau}: accepted is any finite number from 1")


@dataclass(frozen=True)
class Preset:
    """A network of the papers: what stands between the layers, and whether layers have biases."""

    bias: bool
    spiking: Spiking | None


PRESETS: Mapping[str, Preset] = {
    "relu": Preset(bias=True, spiking=None),
    # Liu et al. 2022 (arXiv 2201.07211), section IV-A and the released code's defaults.
    "liu2022": Preset(True, Spiking(Neuron("lif", detach_reset=False), 64, "rate")),
    # The released code's variants DsqnSpike and DsqnIF.
    "liu2022-spike": Preset(True, Spiking(Neuron("lif", detach_reset=False), 64, "spike-rate")),
    "liu2022-if": Preset(True, Spiking(Neuron("if", detach_reset=False), 64, "rate")),
    # Chen et al. 2022 (arXiv 2201.09754), Table 1; biases as in its code (the paper says none).
    "chen2022": Preset(True, Spiking(Neuron("lif", detach_reset=True), 8, "max-mem")),
    # SpikingJelly 2.0.0's CartPole tutorials (examples/spiking_dqn_state.py and spiking_ppo.py), whose neurons are its
    # IFNode's defaults (threshold 1, hard reset, Sigmoid surrogate with alpha 4).
    "tutorial": Preset(
        True, Spiking(Neuron("if", surrogate="sigmoid", surrogate_slope=4.0), 16, "last-mem", readout_tau=2.0)
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name, or a Refusal that lists them."""
    if name not in PRESETS:
        raise Refusal(f"unknown network {name!r}: networks are {', '.join(PRESETS)}")
    return PRESETS[name]


# Q-networks -----------------------------------------------------------------------------------------


class DQN(Agent):
    """The Q-network with ReLU.

    Args:
        game: whose observations and actions.
        bias: whether layers have biases.
        padding: of its convolutions.
    """

    kind = "dqn"
    architecture = HIDDEN_LAYERS

    def __init__(self, game: Game, bias: bool = True, padding: Padding = "valid"):
        super().__init__()
        self.game = game
        self.bias = bias
        self.padding: Padding = padding
        self.layers, self.layer_shapes = build_layers(
            game, bias, padding=padding, architecture=self.architecture
        )

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        return Decision(self.preactivations(observations)[-1], None, None)

    def preactivations(self, observations: Tensor) -> list[Tensor]:
        """What each layer gives before its ReLU, the last one being the Q-values [B, A]."""
        *hidden, output = self.layers
        outputs: list[Tensor] = []
        x = observations
        for layer in hidden:
            outputs.append(apply_layer(layer, x))
            x = outputs[-1].relu()
        return [*outputs, apply_layer(output, x)]

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        heard = [observations, *(z.relu() for z in self.preactivations(observations)[:-1])]
        return [LayerTrace(x, False, None, x.new_zeros(len(x))) for x in heard]

    def config(self) -> dict[str, Any]:
        return {"bias": self.bias, "padding": self.padding}


class _Staircase(torch.autograd.Function):
    """clip(floor(levels z + start), 0, levels) / levels; its gradient is that of clip(z, 0, 1)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, levels: int, start: float) -> Tensor:
        ctx.save_for_backward(z)
        return (levels * z + start).floor_().clamp_(0, levels) / levels

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        return grads[0] * ((z >= 0) & (z <= 1)), None, None


class QuantisedDQN(Agent):
    """The Q-network between DQN and converted network: activations of a few levels, no time.

    Its hidden neurons give clip(floor(L z + v_init), 0, L) / L, with v_init = 1/2 the quantisation of QCFS (Bu et al.
    2022, arXiv 2303.04347), which is the rate of an IF neuron that hears the constant current z for L steps.
    Weights are normalised (thresholds 1) and named as a converted network's, so one's are the other's.

    Args:
        game: whose observations and actions.
        levels: L.
        v_init: 1/2 rounds to the nearest level, 0 cuts off.
        bias: whether layers have biases.
        image_bits: see `apply_to_image`; None does not round.
        padding: of its convolutions.
    """

    kind = "quantised"
    output_scale: Tensor
    """[] float32: what the normalised output is worth in Q."""

    def __init__(
        self,
        game: Game,
        levels: int,
        v_init: float = 0.5,
        bias: bool = True,
        image_bits: int | None = None,
        padding: Padding = "valid",
    ):
        super().__init__()
        require_sim_steps(levels)
        self.game = game
        self.levels = levels
        self.v_init = v_init
        self.bias = bias
        self.image_bits = image_bits
        self.padding: Padding = padding
        self.layers, self.layer_shapes = build_layers(game, bias, padding=padding)
        self.register_buffer("output_scale", torch.ones(()))

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        *_, output = self.layers
        return Decision(
            self.output_scale * apply_layer(output, self.activations(observations)[-1]), None, None
        )

    def activations(self, observations: Tensor) -> list[Tensor]:
        """What each hidden layer gives."""
        first, *hidden, _ = self.layers
        outputs = [
            _Staircase.apply(apply_to_image(first, observations, self.image_bits), self.levels, self.v_init)
        ]
        for layer in hidden:
            outputs.append(_Staircase.apply(apply_layer(layer, outputs[-1]), self.levels, self.v_init))
        return outputs

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        heard = [observations, *self.activations(observations)]
        return [LayerTrace(x, False, None, x.new_zeros(len(x))) for x in heard]

    def config(self) -> dict[str, Any]:
        return {
            "levels": self.levels,
            "v_init": self.v_init,
            "bias": self.bias,
            "image_bits": self.image_bits,
            "padding": self.padding,
        }


def read_voltage(voltages: Tensor, readout: Readout) -> Tensor:
    """What a *-mem read-out takes from [T, ...] voltages over simulation steps (Chen et al. 2022, section 3)."""
    match readout:
        case "last-mem":
            return voltages[-1]
        case "mean-mem":
            return voltages.mean(0)
        case "max-mem":
            return voltages.max(0).values
        case _:  # max-abs-mem: the signed value of the largest magnitude
            index = voltages.abs().max(0, keepdim=True).indices
            return voltages.gather(0, index).squeeze(0)


@functools.cache
def voltage_weights(spiking: Spiking) -> Tensor | None:
    """What the current of each simulation step [T] is worth in the value that is read from a leaky integrator; None
    where that is no weighted sum."""
    kernel = neurons.leaky_kernel(spiking.sim_steps, spiking.readout_tau, torch.zeros(()))
    match spiking.readout:
        case "last-mem":
            return kernel[-1].contiguous()
        case "mean-mem":
            return kernel.mean(0)
    return None


class DSQN(Agent):
    """The Q-network with spiking neurons after every hidden layer, trained directly.

    The observation is a constant current, so the first layer is computed once and its output drives
    its neurons at every simulation step; after it, time is folded into the batch.
    """

    kind = "dsqn"
    architecture = HIDDEN_LAYERS

    def __init__(self, game: Game, spiking: Spiking, bias: bool = True):
        super().__init__()
        self.game = game
        self.spiking = spiking
        self.bias = bias
        self.layers, self.layer_shapes = build_layers(game, bias, architecture=self.architecture)
        spiking_shapes = self.layer_shapes if spiking.readout == "spike-rate" else self.layer_shapes[:-1]
        self.neuron_counts = tuple(math.prod(shape) for shape in spiking_shapes)

    @property
    def sim_steps(self) -> int:
        return self.spiking.sim_steps

    def forward(self, observations: Tensor) -> Tensor:
        return self._simulate(observations, None)

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        counts: list[Tensor] = []
        scores = self._simulate(observations, lambda train: counts.append(count_spikes(train)))
        spikes = torch.stack(counts, 1)
        return Decision(
            scores, None, Activity(spikes, spikes.new_full((len(spikes),), self.spiking.sim_steps))
        )

    @torch.no_grad()
    def trace(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> list[LayerTrace]:
        fired: list[Tensor] = []
        self._simulate(observations, lambda train: fired.append(train.sum(0, dtype=torch.float32)))
        taken = observations.new_full((len(observations),), self.spiking.sim_steps)
        # Behind the rate read-out there is no membrane: its output layer is linear, and has no time.
        of_output = torch.zeros_like(taken) if self.spiking.readout == "rate" else taken
        return layer_traces(observations, fired, [taken] * (len(self.layers) - 1) + [of_output])

    def _simulate(self, observations: Tensor, look: Callable[[Tensor], None] | None) -> Tensor:
        """Q-values [B, A]; if there is a `look`, it is shown every spiking layer's spike train [T, B, ...], and none is
        kept."""
        sim_steps, neuron, readout = self.spiking.sim_steps, self.spiking.neuron, self.spiking.readout
        first, *hidden, output = self.layers
        currents = apply_layer(first, observations)[None]  # [1, B, ...]: constant
        for layer in hidden:
            train = spike_train(currents, sim_steps, neuron)
            if look is not None:
                look(train)
            currents = self._through_time(layer, train)
        weights = voltage_weights(self.spiking) if observations.device.type == "cpu" else None
        if weights is not None and currents.dtype == torch.float32 and look is None:
            return self._read_sum(fused.run(currents, sim_steps, neuron, weights)[0], weights)
        train = spike_train(currents, sim_steps, neuron)
        if look is not None:
            look(train)
        if weights is not None:
            return self._read_sum(torch.einsum("t,t...->...", weights, train.float()), weights)
        if readout == "rate":
            # The output layer is linear, so applying it to the mean is the mean of applying it.
            return apply_layer(output, train.to(output.weight.dtype).mean(0))
        currents = self._through_time(output, train)  # [T, B, A]
        if readout == "spike-rate":
            train = spike_train(currents, sim_steps, neuron)
            if look is not None:
                look(train)
            return train.mean(0)
        return read_voltage(neurons.leaky_integral(currents, self.spiking.readout_tau), readout)

    def _read_sum(self, spikes: Tensor, weights: Tensor) -> Tensor:
        """Q-values [B, A] of the last hidden layer's spikes [B, ...], summed with the weights that they have in the
        voltage: integrator and output layer are linear, so they change places."""
        *_, output = self.layers
        bias = None if output.bias is None else float(weights.sum()) * output.bias
        return F.linear(spikes.flatten(1), output.weight, bias)

    @staticmethod
    def _through_time(layer: Layer, spikes: Tensor) -> Tensor:
        """A layer applied to [T, B, ...]."""
        return apply_layer(layer, spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])

    def config(self) -> dict[str, Any]:
        return {"spiking": asdict(self.spiking), "bias": self.bias}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        spiking = dict(config["spiking"])
        return cls(game, Spiking(**{**spiking, "neuron": Neuron(**spiking["neuron"])}), config["bias"])


def make_agent(game: Game, network: Preset, generator: torch.Generator) -> DQN | DSQN:
    """A fresh, initialised network: the ReLU and the spiking one draw the same weights from equal generators."""
    agent = DQN(game, network.bias) if network.spiking is None else DSQN(game, network.spiking, network.bias)
    initialise(agent.layers, generator)
    return agent


# Actors ----------------------------------------------------------------------------------------------


class Actor(DQN):
    """The policy of PPO with ReLU: a smaller network of the same make, whose scores [B, A] are logits of actions.

    Its greedy action, which evaluation plays, is the most probable one.
    """

    kind = "actor"
    architecture = ACTOR_HIDDEN_LAYERS


class SpikingActor(DSQN):
    """The same with spikes: its voltages are logits."""

    kind = "spiking-actor"
    architecture = ACTOR_HIDDEN_LAYERS


def make_actor(game: Game, network: Preset, generator: torch.Generator) -> Actor | SpikingActor:
    """A fresh, initialised actor; of a game with one action it is a critic, whose score [B, 1] is the state's value."""
    if network.spiking is None:
        agent: Actor | SpikingActor = Actor(game, network.bias)
    else:
        agent = SpikingActor(game, network.spiking, network.bias)
    initialise(agent.layers, generator)
    return agent
