"""The types of rows that SpikeQ measures. Never imports torch.

A row type is a frozen dataclass. Its fields are the columns of its file, in order. Columns that were added later have a
default, which rows of older files get. Annotations say what a column accepts (`core/columns.py`). `core/records.py`
reads and writes the files.
"""

import hashlib
import math
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, TypeVar, get_type_hints

from core.columns import (
    Bits,
    Count,
    MaybeNumbers,
    MaybeUnknown,
    Name,
    Numbers,
    Positive,
    Seed,
    Threat,
    Training,
    Words,
    json_object,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class EpisodeRow:
    """One complete game."""

    game: Name
    agent: Name
    """Kind of agent: dqn, quantised, rate-coded, dsqn, actor, spiking-actor, random, or one from an extension."""
    checkpoint_id: Name
    """Id of the weights (`core.checkpoint.Checkpoint.id`); empty for random play."""
    train_seed: Seed
    """Seed of the training run; -1 for random play and imported weights."""
    train_steps: MaybeUnknown
    """Decisions that the weights were trained on; -1 if unknown, as for imported weights."""
    recipe_steps: Count
    """Decisions that the recipe asks for; 0 for random play and imported weights."""
    network: Name
    recipe: Name
    protocol: Name
    settings: Annotated[str, json_object(protocol=dict, versions=dict, rom_md5=str)]
    """JSON: every value of the protocol, the ROM's hash and library versions."""
    eval_seed: Seed
    episode: Count
    """Index of the episode among those of its eval_seed."""
    episode_seed: Seed
    score: float
    """Sum of the raw rewards of the complete game."""
    length_steps: Positive
    length_frames: Count
    truncated: bool
    """Whether the protocol's limit ended the game."""
    max_q_mean: float
    """Mean over decisions of the largest Q-value, given what the agent observed (eval_q of Chen et al. 2022).

    NaN if scores are not Q-values: random play, CMC-DSQN and actors.
    """
    max_q: float
    """Largest Q-value of the episode; NaN if scores are not Q-values."""
    max_q_std: float
    """Population standard deviation over actions at the decision with the episode's largest Q-value (Liu et al. 2022).

    NaN if scores are not Q-values.
    """
    sim_steps: Count
    """Largest number of simulation steps of a decision; 0 for agents without spikes."""
    spikes_per_decision: float
    layer_rates: Numbers
    """JSON list: spikes per neuron and simulation step of each spiking layer."""
    variant: Name = field(default="", kw_only=True)
    """Conversion method of a converted network, with changes to its simulation; empty for other agents.

    For games of `convert compare`, the name of the method's options and the simulation steps.
    """
    mean_sim_steps: float = field(default=math.nan, kw_only=True)
    """Mean simulation steps of a decision, which is smaller if decisions may end early; NaN in older rows."""
    checkpoint: Annotated[str, Words(("", "best", "final"))] = field(default="", kw_only=True)
    """Which weights of the training run: best (on validation episodes) or final; empty if unknown.

    There is a row for each, even if both are the same weights.
    """
    training: Training = field(default="", kw_only=True)
    """Digest of all that defines the training (`train_direct.training`), 12 hex digits.

    A converted network has that of its DQN. Empty if unknown: older rows, random play and imported weights.
    """


@dataclass(frozen=True)
class AttackRow(EpisodeRow):
    """One complete game under attack; epsilon 0 is the clean game."""

    attack: Name
    epsilon: float
    """l_inf size of the perturbation in the game's scale. The scale of pixels is 1; `threat` names any other scale."""
    gradient_source: Name
    """Whose gradient the attack followed; empty for attacks without gradients."""
    threat: Threat
    """JSON: the complete threat model."""
    flip_share: float
    """Share of decisions whose greedy action the perturbation changed."""
    zero_gradient_share: float
    """Share of attacked decisions whose gradient was zero everywhere; NaN for attacks without gradients."""
    largest_perturbation: float
    attacked_share: float = field(default=math.nan, kw_only=True)
    """Share of decisions that were attacked; NaN in older rows."""
    attacker: Name = field(default="", kw_only=True)
    """What the attacker knows of the victim (`analysis.attackers.AttackerKind`); empty in older rows."""


@dataclass(frozen=True)
class StateAttackRow:
    """One attack on stored states: how it changes the victim's choices, one state at a time and without play."""

    game: Name
    agent: Name
    checkpoint_id: Name
    train_seed: Seed
    train_steps: MaybeUnknown
    recipe_steps: Count
    network: Name
    recipe: Name
    sim_steps: Count
    variant: Name
    """Conversion method of the victim, as in `EpisodeRow`."""
    states_of: Name
    """Checkpoint id of the agent that played the states. Agents are compared on the same states."""
    num_states: Positive
    """Number of states that were attacked: the first of those drawn. Costly attacks take fewer."""
    seed: Seed
    """Seed of the drawing of states and of the attack's random choices."""
    attack: Name
    epsilon: float
    """Size of the perturbation, as in `AttackRow`."""
    gradient_source: Name
    threat: Threat
    """JSON: the complete threat model."""
    flip_share: float
    """Share of states whose greedy action the perturbation changed: the attack's success rate."""
    q_drop: float
    """Mean loss in the victim's clean Q-values; NaN if scores are not Q-values.

    The loss of a state is the clean value of the clean greedy action minus the clean value of the action under attack.
    """
    zero_gradient_share: float
    """Share of attacked states whose gradient was zero everywhere; NaN for attacks without gradients."""
    largest_perturbation: float
    mean_perturbation: float
    """Mean over states of the mean absolute change of an element."""
    flipped: Bits = field(default="", kw_only=True)
    """States whose greedy action changed, one bit each in hex digits, the first state highest; empty in older rows."""
    attacked_share: float = field(default=math.nan, kw_only=True)
    """Share of states that were attacked; NaN in older rows."""
    drawn_states: Count = field(default=0, kw_only=True)
    """Number of states that were drawn. Another number draws other states. 0 in older rows."""
    attacker: Name = field(default="", kw_only=True)
    """What the attacker knows of the victim, as in `AttackRow`."""
    training: Training = field(default="", kw_only=True)
    """Digest of the training, as in `EpisodeRow`."""


@dataclass(frozen=True)
class CurveRow:
    """One point of a training curve: means since the previous point."""

    game: Name
    agent: Name
    network: Name
    recipe: Name
    train_seed: Seed
    steps: Count
    updates: Count
    frames: Count
    epsilon: float
    """Share of random actions; NaN for PPO, which samples actions from its policy."""
    loss: float
    """Training loss. For PPO, the sum of policy, value and entropy terms."""
    q_mean: float
    """Mean Q-value of the replayed actions. For PPO, the critic's mean value of the states in the update."""
    train_score: float
    """Mean raw score of the training episodes that ended, played with exploration; NaN if none ended."""
    steps_per_second: float
    training: Training = field(default="", kw_only=True)
    """Digest of the training, as in `EpisodeRow`."""


@dataclass(frozen=True)
class ConversionRow:
    """Agreement of a converted network with a reference on the same states."""

    game: Name
    source_id: Name
    """Checkpoint id of the converted DQN."""
    train_seed: Seed
    method: Name
    """Conversion method; of `convert run` with changes to its simulation, as `variant` in `EpisodeRow`."""
    settings: Annotated[str, json_object(sim_steps=int)]
    """JSON: every option of the conversion."""
    reference: Name
    """What the network is compared with: "dqn", or "bindsnet" (the same weights in that simulator)."""
    readout: Name
    sim_steps: Count
    num_states: Positive
    agreement: float
    """Share of states with the same greedy action."""
    majority_share: float
    """Share of states in which the DQN takes its most frequent action: the agreement of a constant policy."""
    variant: Name = ""
    """Name of the method with its options. Only `convert compare` fills this column and those below."""
    states: Name = "dqn-driven"
    """Where the states are from.

    dqn-driven: held-out play of the DQN. validation: other episodes of it, on which a method is chosen. snn-driven: the
    evaluation games of the spiking network itself.
    """
    kappa: float = math.nan
    """Cohen's kappa: agreement beyond chance."""
    regret: float = math.nan
    """Mean Q(s, a*) - Q(s, a_snn) in the DQN's Q-values."""
    common_error: float = math.nan
    """Root mean square of the error in Q that all actions share."""
    differential_error: float = math.nan
    """Root mean square of the error in Q without the part that all actions share. Only this part changes choices."""
    layer_r2: MaybeNumbers = ""
    """JSON list: r2 of each hidden layer's rates against the DQN's activations."""
    spikes_per_decision: float = math.nan
    additions_per_decision: float = math.nan
    """Estimate of synaptic additions: each layer's spikes times the mean number of neurons that one of them reaches.

    The mean is over all positions. Neurons at the border reach fewer, so the estimate is a few per cent too high if
    they fire more than others.
    """
    mean_sim_steps: float = math.nan
    """Mean simulation steps until the decision, presteps included. If layers fire in turn, all layers' steps count."""
    training: Training = field(default="", kw_only=True)
    """Digest of the DQN's training, as in `EpisodeRow`."""


@dataclass(frozen=True)
class OperationsRow:
    """Operations of one layer of an agent in a decision: means over states of its own play (after NeuroBench)."""

    game: Name
    agent: Name
    checkpoint_id: Name
    train_seed: Seed
    train_steps: MaybeUnknown
    network: Name
    recipe: Name
    eval_seed: Seed
    num_states: Positive
    sim_steps: Count
    """Largest number of simulation steps of a decision; 0 for agents without spikes."""
    mean_sim_steps: float
    layer: Count
    """Index of the layer. The input of layer 0 is the observation; the last layer gives the Q-values."""
    num_neurons: Positive
    """Number of the layer's outputs, spiking or not."""
    binary_input: bool
    """Whether all inputs are 0 or 1 (-1 for negative spikes), so that the layer only adds."""
    dense_macs: float
    """Multiply-accumulates of a dense pass: the number of synapses, each counted once."""
    effective_macs: float
    """Multiply-accumulates whose input is not zero, in a decision; 0 for a layer with spikes as inputs.

    They are additions if `binary_input` is true.
    """
    acs: float
    """Additions of all simulation steps: spikes of either sign times the synapses that each spike reaches.

    0 for a layer whose inputs are numbers.
    """
    neuron_updates: float
    """Membrane updates: neurons times the simulation steps in which they integrate or fire; 0 without membranes."""
    spikes: float
    """Spikes of the layer's own neurons, of either sign; 0 if they do not spike."""
    variant: Name = ""
    """Conversion method of a converted network, as in `EpisodeRow`."""
    training: Training = field(default="", kw_only=True)
    """Digest of the training, as in `EpisodeRow`."""


@dataclass(frozen=True)
class ResponseRow:
    """One point of a neuron's response curve."""

    neuron: Annotated[
        str,
        json_object(or_empty=True, name=str, reset=str, threshold=float, tau=float, surrogate_slope=float),
    ]
    """JSON: the neuron's name and options (`core.neurons.base.Neuron`); empty for relu."""
    quantity: Name
    """What is measured.

    rate: spikes per simulation step. surrogate: the derivative in the backward pass. last-mem, max-mem and mean-mem:
    a statistic of the voltage of a leaky integrator behind the neuron. relu: the activation of a ReLU.
    """
    sim_steps: Count
    """Simulation steps; 0 for surrogate and relu, which do not depend on them."""
    input: float
    """A constant current; for surrogate, the membrane minus the threshold."""
    response: float


@dataclass(frozen=True)
class EmbeddingRow:
    """One state in the plane: the last hidden layer of an agent, embedded by t-SNE."""

    game: Name
    agent: Name
    checkpoint_id: Name
    train_seed: Seed
    states_of: Name
    """Checkpoint id of the agent that played the states. Agents are compared on the same states."""
    state: Count
    x: float
    y: float
    value: float
    """Largest Q-value; NaN if scores are not Q-values (CMC-DSQN)."""
    action: Count
    """The greedy action."""
    training: Training = field(default="", kw_only=True)
    """Digest of the training, as in `EpisodeRow`."""


Row = TypeVar(
    "Row",
    EpisodeRow,
    AttackRow,
    StateAttackRow,
    CurveRow,
    ConversionRow,
    OperationsRow,
    ResponseRow,
    EmbeddingRow,
)


def schema(row_type: type) -> "pa.Schema":
    """The Arrow schema of a row type."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    hints = get_type_hints(row_type)
    return pa.schema(
        [pa.field(field.name, types[hints[field.name]], nullable=False) for field in fields(row_type)]
    )


def required_columns(row_type: type) -> list[str]:
    """Names of the columns that every file of a row type has: the fields without a default."""
    return [field.name for field in fields(row_type) if field.default is MISSING]


ROWS_FORMAT = hashlib.sha256(
    str(
        [
            {name: get_type_hints(row_type)[name] for name in required_columns(row_type)}
            for row_type in (EpisodeRow, AttackRow, CurveRow, ConversionRow)
        ]
    ).encode()
).hexdigest()[:12]
"""Version of the required columns. Work that was recorded with another version cannot be read."""
