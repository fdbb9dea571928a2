"""Read-outs: weighted sums of spikes against the whole spike train."""

import pytest
import torch

from core.dsqn import DSQN, Spiking
from core.games import GAMES
from core.layers import initialise
from core.neurons.integrate_and_fire import IF
from core.neurons.integrator import leaky_integral
from core.neurons.lif import LIF
from core.readouts import READOUTS, Voltage

WEIGHTED = ("last-mem", "mean-mem")


def a_network(readout: str, sim_steps: int, tau: float = 2.0) -> DSQN:
    spiking = Spiking(LIF(detach_reset=True), sim_steps, READOUTS[readout](tau=tau))  # type: ignore[call-arg]
    agent = DSQN(GAMES["minatar/breakout"], spiking)
    initialise(agent.layers, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.mul_(5.0)  # so that every layer spikes
    return agent


def observations(batch: int = 4) -> torch.Tensor:
    return torch.rand(batch, 4, 10, 10, generator=torch.Generator().manual_seed(1))


def test_which_readouts_are_weighted_sums() -> None:
    assert tuple(name for name in READOUTS if READOUTS[name]().weights(5) is not None) == WEIGHTED


@pytest.mark.parametrize("readout", WEIGHTED)
@pytest.mark.parametrize(("sim_steps", "tau"), [(1, 2.0), (8, 1.0), (8, 2.0), (17, 7.5)])
def test_the_weights_give_what_the_whole_train_gives(readout: str, sim_steps: int, tau: float) -> None:
    entry = READOUTS[readout](tau=tau)  # type: ignore[call-arg]
    assert isinstance(entry, Voltage)
    currents = torch.randn(sim_steps, 3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights = entry.weights(sim_steps)
    assert weights is not None
    expected = entry.read(leaky_integral(currents, tau))
    torch.testing.assert_close(
        torch.einsum("t,tba->ba", weights.double(), currents), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("readout", WEIGHTED)
def test_scores_and_gradients_are_equal_with_and_without_the_spike_train(
    readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, x = a_network(readout, 8, 3.0), observations()
    weighting = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    summed = agent(x)
    assert summed.std() > 0.01
    gradients = torch.autograd.grad((summed * weighting).sum(), list(agent.parameters()))
    decided = agent.decide(x).scores  # keeps the spike train, with the same weights
    torch.testing.assert_close(decided, summed, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(type(agent.spiking.readout), "weights", lambda self, sim_steps: None)
    whole = agent(x)
    torch.testing.assert_close(whole, summed, rtol=1e-5, atol=1e-5)
    for ours, expected in zip(
        gradients, torch.autograd.grad((whole * weighting).sum(), list(agent.parameters())), strict=True
    ):
        assert bool((expected != 0).any())
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("readout", READOUTS)
def test_what_a_readout_says_of_itself_fits_the_network(readout: str) -> None:
    entry = READOUTS[readout]()
    agent = DSQN(GAMES["cartpole"], Spiking(IF(), 4, entry))
    assert len(agent.neuron_counts) == (2 if entry.output_spikes else 1)
    assert entry.integrator_tau == (2.0 if isinstance(entry, Voltage) else None)
    assert entry.output_has_membrane == (readout != "rate")
    assert entry.q_values
