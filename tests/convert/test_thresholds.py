"""The threshold search, against a search written out slowly, and what folding thresholds into weights keeps."""

import numpy as np
import pytest
import torch

from convert.methods import tan2021, threshold_search
from convert.scaling import scaled_network
from core.dqn import DQN
from core.errors import Refusal
from core.rate_coded.network import RateCoding
from core.rate_coded.torch_engine import IFNeuron
from play.states import batches
from tests.convert.conftest import GAME


@pytest.mark.parametrize("by_channel", [True, False])
@pytest.mark.parametrize(("sim_steps", "v_init"), [(2, 0.5), (8, 0.0)])
def test_no_other_candidate_has_a_smaller_error(
    dqn: DQN, states: np.ndarray, sim_steps: int, v_init: float, by_channel: bool
) -> None:
    found = threshold_search.least_squares(dqn, states, sim_steps, v_init, by_channel)
    z = dqn.preactivations(next(batches(dqn, states, size=len(states))))[0].double().relu()  # [B, C, H, W]

    def error(values: torch.Tensor, theta: float) -> float:
        staircase = theta / sim_steps * (sim_steps * values / theta + v_init).floor().clamp(0, sim_steps)
        return float((staircase - values).square().sum())

    better = False
    for channel in range(3 if by_channel else 1):
        values = z[:, channel] if by_channel else z
        candidates = [
            float(values.max()) * k / threshold_search.CANDIDATES
            for k in range(1, threshold_search.CANDIDATES + 1)
        ]
        best = min(error(values, theta) for theta in candidates)
        assert error(values, float(found[0][channel])) == pytest.approx(best, rel=1e-4)
        better |= best < error(values, candidates[-1])
    assert better  # the largest output is not always the best threshold


def test_thresholds_of_channels_leave_the_function_as_it_was(dqn: DQN, states: np.ndarray) -> None:
    scales = threshold_search.least_squares(dqn, states, 4, 0.5, by_channel=True)
    assert [len(scale) for scale in scales] == [16, 128, 1]
    snn = scaled_network(dqn, scales, RateCoding(4, neuron=IFNeuron(v_init=0.5)))
    inputs = next(batches(dqn, states))
    torch.testing.assert_close(snn.twin()(inputs), dqn(inputs), rtol=1e-4, atol=1e-5)


def test_few_simulation_steps_come_closer_than_with_a_percentile(dqn: DQN, states: np.ndarray) -> None:
    inputs = next(batches(dqn, states))
    q = dqn(inputs)
    plain = scaled_network(dqn, tan2021.percentiles(dqn, states, 99.9), RateCoding(4))
    for by_channel in (False, True):
        scales = threshold_search.least_squares(dqn, states, 4, 0.5, by_channel)
        searched = scaled_network(dqn, scales, RateCoding(4, neuron=IFNeuron(v_init=0.5)))
        assert (searched(inputs) - q).square().mean() < 0.5 * (plain(inputs) - q).square().mean()


def test_a_dead_layer_is_refused(dqn: DQN, states: np.ndarray) -> None:
    dead = DQN(GAME)
    dead.load_state_dict(dqn.state_dict())
    dead.layers[1].bias.data.fill_(-1e3)  # type: ignore[union-attr]
    with pytest.raises(
        Refusal, match="layer 2 is dead: none of its outputs on the calibration states is positive"
    ):
        threshold_search.least_squares(dead, states, 4, 0.5, by_channel=True)
