"""What the verbs of conversion are forecast to do."""

from collections.abc import Iterator, Sequence

from convert.measurement import ANYTIME_STATES
from convert.method import Method
from convert.options import Compare, Import, Run, require_dqn
from convert.scaling import scaled_network
from convert.variants import Variant, all_variants
from core import seeding
from core.dqn import DQN
from core.errors import Refusal
from core.games import get_game
from core.networks import NETWORKS
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.workload import PROCESS_BYTES, Workload, WorkPart
from play.expected import Expected, collecting, playing, side_by_side
from play.protocols import get_protocol
from play.states import states_bytes

ROWS = 64
"""States that are judged at once."""


def of_conversion(options: Run, expected: Expected) -> Workload:
    """What `convert run` is forecast to do. The networks that it makes are added to what is expected."""
    dqn, method = _dqn(options, expected), options.chosen()
    snn = _converted(dqn, options.coding(options.sim_steps, method))
    expected.made[str(options.out)] = [snn]
    if options.quantised:
        expected.made[str(options.out.with_suffix(".quantised.safetensors"))] = [snn.quantised()]
    return Workload(
        [
            *collecting(dqn, options.calibration_states, expected),
            *collecting(dqn, options.test_states, expected),
            *method.work(snn, options.calibration_states, expected, taught=False),
            *_judging(snn, options.test_states),
            WorkPart("convert", snn.game.tier, "bindsnet", snn.sim_steps, options.bindsnet_states),
        ],
        PROCESS_BYTES
        + max(method.conversion_bytes(dqn, options.calibration_states), snn.decision_bytes(ROWS))
        + states_bytes(dqn.game, options.calibration_states + options.test_states),
        2 * sum(tensor.nbytes for tensor in snn.state_dict().values()),
    )


def of_comparison(options: Compare, expected: Expected) -> Workload:
    """What `convert compare` is forecast to do."""
    dqn = _dqn(options, expected)
    protocol = get_protocol(options.protocol, dqn.game)
    parts = [*collecting(dqn, options.calibration_states, expected)]
    for _ in range(1 + bool(options.episodes)):
        parts += collecting(dqn, options.test_states, expected)
    largest = 0
    trained: set[str] = set()
    for variant, method in _chosen(options, dqn):
        largest = max(largest, method.conversion_bytes(dqn, options.calibration_states))
        numbers = [each for each in options.sim_steps if each <= (method.max_sim_steps or each)]
        for sim_steps in numbers if method.depends_on_sim_steps else numbers[-1:]:
            snn = _converted(dqn, variant.converting(sim_steps, method))
            key = method.training_key(snn.coding)
            parts += method.work(snn, options.calibration_states, expected, key in trained)
            if method.name == method.training:
                trained.add(key)
        for sim_steps in numbers:
            snn = _converted(dqn, variant.coding.coding(sim_steps, method))
            largest = max(largest, snn.decision_bytes(ROWS))
            states = options.test_states + (ANYTIME_STATES if variant.coding.stop_gap is not None else 0)
            parts += _judging(snn, states)
            if options.episodes:
                steps = expected.episode_steps(dqn.game, snn.kind, protocol)
                parts += playing(snn, options.episodes * steps, side_by_side(snn.game, options.episodes))
    return Workload(
        parts,
        PROCESS_BYTES + largest + states_bytes(dqn.game, options.calibration_states + options.test_states),
    )


def of_import(options: Import, expected: Expected) -> Workload:
    """What `convert import` is forecast to do: nearly nothing. Its agent is taken as one of the named network."""
    network = NETWORKS[options.network or "relu"]
    agent = network.make(get_game(options.game), seeding.torch_generator(0, "weights"))
    expected.made[str(options.out)] = [agent]
    return Workload([], PROCESS_BYTES)


def _dqn(options: Run | Compare, expected: Expected) -> DQN:
    return require_dqn(expected.agents(str(options.agent))[0], str(options.agent))


def _converted(dqn: DQN, coding: RateCoding) -> RateCodedNetwork:
    """A network of the shape that a conversion makes."""
    return scaled_network(dqn, [1.0] * len(dqn.layers), coding)


def _chosen(options: Compare, dqn: DQN) -> Iterator[tuple[Variant, Method]]:
    """The variants that are measured, with their methods."""
    for name in all_variants().names() if options.variants is None else options.variants:
        variant = all_variants()[name]
        # Those that carry charge from one decision to the next are compared by whole games alone.
        if variant.carries and not options.episodes:
            continue
        method = variant.chosen(options.shared)
        try:
            method.require_convertible(dqn)
        except Refusal:
            continue  # the command leaves it out, or refuses it if it was named
        yield variant, method


def _judging(snn: RateCodedNetwork, states: int) -> Sequence[WorkPart]:
    return [WorkPart("decide", snn.game.tier, snn.kind, snn.sim_steps, states)]
