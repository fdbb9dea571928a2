"""Typed rows, one Parquet file a kind; and atomic writing. Never imports torch.

A row type is a frozen dataclass; its fields are the file's columns, in order. Reading checks the schema,
so a file of another version is refused and never half understood.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import Refusal


@dataclass(frozen=True)
class EpisodeRow:
    """One whole game played."""

    game: str
    agent: str
    """What played: dqn, quantised, rate-coded, dsqn, actor, spiking-actor, random."""
    checkpoint_id: str
    """Names the weights (see core.checkpoint); empty for random play."""
    train_seed: int
    """Seed of the run that trained the weights; -1 for random play and imported weights."""
    train_steps: int
    """Decisions the weights were trained on; -1 where that is unknown (imported weights)."""
    recipe_steps: int
    """Decisions their recipe asks for; 0 for random play and imported weights."""
    network: str
    recipe: str
    protocol: str
    settings: str
    """JSON: every value of the protocol, ROM hash and library versions."""
    eval_seed: int
    episode: int
    """Index of the episode among those of its eval_seed."""
    episode_seed: int
    score: float
    """Raw rewards of the whole game."""
    length_steps: int
    length_frames: int
    truncated: bool
    """Whether the protocol's cap ended it."""
    max_q_mean: float
    """Mean over decisions of the largest Q-value (Chen et al. 2022's eval_q), of what the agent saw; NaN, as the
    next one, where scores are no Q-values (random play, CMC-DSQN, actors)."""
    max_q: float
    """The largest Q-value of the episode ..."""
    max_q_std: float
    """... and the population standard deviation over actions at that decision (Liu et al. 2022)."""
    sim_steps: int
    """Simulation steps a decision at most; 0 without spikes."""
    spikes_per_decision: float
    layer_rates: str
    """JSON list: spikes a neuron and simulation step of each spiking layer."""
    variant: str = field(default="", kw_only=True)
    """Of a converted network: the method; of the games of `convert compare`: its options' name and sim steps."""
    mean_sim_steps: float = field(default=math.nan, kw_only=True)
    """Simulation steps a decision, which are fewer where decisions may end early; NaN in rows from before there was
    such a column."""
    checkpoint: str = field(default="", kw_only=True)
    """Which of its training run's weights: best (on validation episodes) or final, a row for each where they are the
    same; empty where nobody said."""


@dataclass(frozen=True)
class AttackRow(EpisodeRow):
    """One whole game played under attack; epsilon 0 is the clean game."""

    attack: str
    epsilon: float
    """l_inf size in the game's scale, which of pixels is 1 (the threat says it where it is not)."""
    gradient_source: str
    """Whose gradient was followed; empty for attacks that follow none."""
    threat: str
    """JSON: the whole threat model."""
    flip_share: float
    """Share of decisions whose greedy action the perturbation changed."""
    zero_gradient_share: float
    """Share of attacked decisions on which the gradient was zero everywhere; NaN where none was followed."""
    largest_perturbation: float
    attacked_share: float = field(default=math.nan, kw_only=True)
    """Share of decisions that were attacked; NaN in rows from before there was such a column."""
    attacker: str = field(default="", kw_only=True)
    """What the attacker knows of the victim (analysis.attackers.Kind); empty in rows from before there was such a
    column."""


@dataclass(frozen=True)
class StateAttackRow:
    """One attack on the same stored states: what it changes in the victim's choice, state by state and without play."""

    game: str
    agent: str
    checkpoint_id: str
    train_seed: int
    train_steps: int
    recipe_steps: int
    network: str
    recipe: str
    sim_steps: int
    variant: str
    """Of the victim, as in EpisodeRow."""
    states_of: str
    """Checkpoint id of the agent whose play the states are of; agents are compared on the same ones."""
    num_states: int
    """How many of them were attacked, the first ones of their order; costly attacks take fewer."""
    seed: int
    """Of the drawing of states and of the attack's chance."""
    attack: str
    epsilon: float
    """As in AttackRow."""
    gradient_source: str
    threat: str
    """JSON: the whole threat model."""
    flip_share: float
    """Share of states whose greedy action the perturbation changed: the attack's success."""
    q_drop: float
    """Mean over states of the victim's clean score of its clean greedy action minus that, clean too, of the action it
    takes under attack; NaN where scores are no Q-values."""
    zero_gradient_share: float
    """Share of attacked states on which the gradient was zero everywhere; NaN where none was followed."""
    largest_perturbation: float
    mean_perturbation: float
    """Mean over states of the mean magnitude of an element's change."""
    flipped: str = field(default="", kw_only=True)
    """Which states' greedy actions changed: a bit each, the first state's the highest, in hex digits; empty in rows
    from before there was such a column."""
    attacked_share: float = field(default=math.nan, kw_only=True)
    """Share of states that were attacked; NaN in rows from before there was such a column."""
    drawn_states: int = field(default=0, kw_only=True)
    """How many states were drawn in all. Another number draws other states. 0 in rows from before there was such a
    column."""
    attacker: str = field(default="", kw_only=True)
    """As in AttackRow."""


@dataclass(frozen=True)
class CurveRow:
    """One point of a training curve: means since the previous point."""

    game: str
    agent: str
    network: str
    recipe: str
    train_seed: int
    steps: int
    updates: int
    frames: int
    epsilon: float
    """Share of random actions; NaN of PPO, which draws actions from its own probabilities."""
    loss: float
    """Of PPO that of policy, value and entropy together."""
    q_mean: float
    """Mean Q-value of the replayed actions; of PPO the critic's mean value of the states that it learnt from."""
    train_score: float
    """Mean raw score of the training episodes that ended, exploring as training does; NaN if none did."""
    steps_per_second: float


@dataclass(frozen=True)
class ConversionRow:
    """Agreement of a converted network with another on the same states."""

    game: str
    source_id: str
    """Checkpoint id of the DQN that was converted."""
    train_seed: int
    method: str
    settings: str
    """JSON: every option of the conversion."""
    reference: str
    """What it is held against: "dqn", or "bindsnet" (the same weights in that simulator)."""
    readout: str
    sim_steps: int
    num_states: int
    agreement: float
    """Share of states with the same greedy action."""
    majority_share: float
    """Share of states in which the DQN takes its most frequent action: what a constant would agree."""
    variant: str = ""
    """The method with its options, by its name in `convert compare`; as all below, of that command's rows only."""
    states: str = "dqn-driven"
    """What the states are: dqn-driven (held-out play of the DQN), validation (the same, other episodes: a method is
    chosen on these), snn-driven (the spiking network's own evaluation games)."""
    kappa: float = math.nan
    """Agreement over chance (Cohen's)."""
    regret: float = math.nan
    """Mean Q(s, a*) - Q(s, a_snn) in the DQN's Q."""
    common_error: float = math.nan
    """Root mean square error in Q that all actions share ..."""
    differential_error: float = math.nan
    """... and of what is left, which alone changes choices."""
    layer_r2: str = ""
    """JSON list: r2 of each hidden layer's rates against the DQN's activations."""
    spikes_per_decision: float = math.nan
    additions_per_decision: float = math.nan
    """Synaptic additions, estimated: spikes of each layer times the number of neurons that one of it reaches on average
    over all positions (a few per cent too many where neurons at the border, which reach fewer, fire more)."""
    mean_sim_steps: float = math.nan
    """Simulation steps until the decision: presteps included, and of all layers one after the other where they fire
    so."""


@dataclass(frozen=True)
class OperationsRow:
    """What one layer of an agent does in a decision: means over states of its own play (methods after NeuroBench)."""

    game: str
    agent: str
    checkpoint_id: str
    train_seed: int
    train_steps: int
    network: str
    recipe: str
    eval_seed: int
    num_states: int
    sim_steps: int
    """Simulation steps a decision at most; 0 without time."""
    mean_sim_steps: float
    layer: int
    """0 hears the observation; the last one gives the Q-values."""
    num_neurons: int
    """Outputs of the layer, whether they spike, hold a voltage or do neither."""
    binary_input: bool
    """Whether all that the layer hears is 0 or 1 (-1 for negative spikes), so that it adds and never multiplies."""
    dense_macs: float
    """Synapses really wired, each counted once: multiply-accumulates of one pass that skips nothing."""
    effective_macs: float
    """Those of them whose input is not zero, once a decision; for a layer that hears spikes 0. If `binary_input`, they
    are additions."""
    acs: float
    """Additions: spikes (of either sign) times the synapses that each really reaches, over all simulation steps; for a
    layer that hears numbers 0."""
    neuron_updates: float
    """Times that a membrane is stepped: neurons times the simulation steps in which they listen or fire; 0 where
    outputs are no neurons in time."""
    spikes: float
    """That the layer's own neurons fire, of either sign; 0 where they do not."""
    variant: str = ""
    """As in EpisodeRow: the method of a converted network."""


@dataclass(frozen=True)
class ResponseRow:
    """One point of a neuron's response: what it gives to an input."""

    neuron: str
    """JSON: its parameters, as in core.neurons.Neuron; empty for relu, which is none."""
    quantity: str
    """What it gives: rate (spikes a simulation step), relu, surrogate (the derivative that it passes back), or a
    statistic of the voltage that a leaky integrator behind it has (last-mem, max-mem, mean-mem)."""
    sim_steps: int
    """0 for surrogate and relu, which know no time."""
    input: float
    """A constant current; for surrogate the membrane minus the threshold."""
    response: float


@dataclass(frozen=True)
class EmbeddingRow:
    """One state as the last hidden layer of an agent represents it, drawn in the plane by t-SNE."""

    game: str
    agent: str
    checkpoint_id: str
    train_seed: int
    states_of: str
    """Checkpoint id of the agent whose play the states are of; agents are compared on the same ones."""
    state: int
    x: float
    y: float
    value: float
    """Largest Q-value, NaN where scores are no Q-values (CMC-DSQN) ..."""
    action: int
    """... and the greedy action."""


def digest(content: bytes) -> str:
    """SHA-256 of a file's content: names weights in rows (its first 12 digits) and results in manifests."""
    return hashlib.sha256(content).hexdigest()


KEEP_EVERY_S = 1.0
"""A kill costs at most the rows of so many seconds, and those of what was under way."""

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
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema(row_type: type) -> pa.Schema:
    """The Arrow schema of a row type."""
    hints = get_type_hints(row_type)
    return pa.schema(
        [pa.field(field.name, _ARROW[hints[field.name]], nullable=False) for field in fields(row_type)]
    )


_ROW_TYPES = (EpisodeRow, AttackRow, CurveRow, ConversionRow)


def _required(row_type: type) -> list[str]:
    """Columns that every file has. One that is added later has a default, for the rows from before it."""
    return [field.name for field in fields(row_type) if field.default is MISSING]


ROWS_FORMAT = digest(
    str(
        [{name: get_type_hints(row_type)[name] for name in _required(row_type)} for row_type in _ROW_TYPES]
    ).encode()
)[:12]
"""Names the columns that all row types require: work recorded under another one cannot be read any more."""


def write_rows(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write rows atomically; a value of the wrong type is a TypeError here, not a surprise downstream."""
    hints = get_type_hints(row_type)
    for row in rows:
        for name, value in vars(row).items():
            # An integer is a number too; a bool is neither, though Python says so.
            accepted = (int, float) if hints[name] is float else hints[name]
            if not isinstance(value, accepted) or isinstance(value, bool) != (hints[name] is bool):
                raise TypeError(
                    f"{path}: {row_type.__name__}.{name} is {value!r}, a {hints[name].__name__} is needed"
                )
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema(row_type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read rows back, or refuse a file that is missing, damaged or of another schema."""
    if not path.is_file():
        raise Refusal(f"no rows at {path}")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        names: list[str] = table.schema.names
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refusal(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]})")
    present = {*_required(row_type), *names}
    expected = pa.schema([field for field in schema(row_type) if field.name in present])
    if not table.schema.equals(expected):
        columns = [name for name in expected.names if name not in names]
        raise Refusal(
            f"{path} does not hold {row_type.__name__}s (missing or different columns: {columns or 'types'})"
        )
    return [row_type(**values) for values in rows]


class Journal(Generic[Row]):
    """Rows of work that takes long: what was kept of them before a kill is there when the same work starts again.

    They lie in a hidden file until they are all there, because readers take a file of rows for a finished one.

    Args:
        path: the file that they will lie in.
        row_type: what they are.
        spec: all that decides the work's numbers; rows kept under another one are not found.
    """

    def __init__(self, path: Path, row_type: type[Row], spec: Mapping[str, Any]):
        self._path = path
        self._row_type: type[Row] = row_type
        self._kept = path.with_name(f".{path.stem}-{digest(to_json(spec).encode())[:12]}.parquet")
        self._kept_at = time.monotonic()
        self.rows: list[Row] = read_rows(self._kept, row_type) if self._kept.exists() else []

    def add(self, *rows: Row) -> None:
        """Keep more, together, at the latest with those of the next seconds."""
        self.rows += rows
        if time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Keep the rows that there are."""
        write_rows(self._kept, self._row_type, self.rows)
        self._kept_at = time.monotonic()

    def write(self, key: Callable[[Row], Any] = lambda row: 0) -> None:
        """Write the whole file, in the order of a key; in that of the work if none is given."""
        self.rows.sort(key=key)
        write_rows(self._path, self._row_type, self.rows)

    def close(self) -> None:
        """Forget what was kept, once the whole file is recorded as a result."""
        self._kept.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically: after a crash it is the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name, not a random one: what a kill leaves is overwritten by the next attempt. Writers of one
    # file are kept apart by the manifest's lock.
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_json(value: Any) -> str:
    """JSON with one spelling a value, so that equal settings are equal strings."""
    return json.dumps(value, sort_keys=True)


def require_single(values: Iterable[Any], what: str) -> None:
    """Refuse to treat as one what is a mixture, and name what is mixed."""
    distinct = sorted(set(values))
    if len(distinct) > 1:
        raise Refusal(f"rows with more than one {what} do not compare: {', '.join(map(str, distinct))}")
