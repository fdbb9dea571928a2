"""Layer normalisation between layers and neurons: by hand, in gradients, in batches and in files."""

import math
from pathlib import Path

import pytest
import torch

from core.checkpoint import load_agent, save_agent
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES
from core.layers import initialise
from core.neurons.lif import LIF
from core.normalisations import NORMALISATIONS, LayerNormalisation
from core.readouts import READOUTS

PROVENANCE = {
    "train_seed": 0,
    "train_steps": 1,
    "recipe_steps": 1,
    "recipe": "r",
    "network": "n",
    "scores_are_q_values": True,
}


def a_network(readout: str = "max-mem") -> DSQN:
    spiking = Spiking(LIF(threshold=0.5), 6, READOUTS[readout](), LayerNormalisation(eps=1e-3))
    agent = DSQN(GAMES["minatar/breakout"], spiking)
    generator = torch.Generator().manual_seed(0)
    initialise(agent.layers, generator)
    with torch.no_grad():
        for parameter in agent.normalisations.parameters():  # as after training
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return agent


def observations(batch: int) -> torch.Tensor:
    return torch.rand(batch, 4, 10, 10, generator=torch.Generator().manual_seed(1))


def test_layer_normalisation_follows_its_formula() -> None:
    module = LayerNormalisation(eps=0.25).module((2, 2))
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    torch.testing.assert_close(module(x), (x - 3.0) / math.sqrt(3.75))


@pytest.mark.parametrize("readout", ["max-mem", "last-mem", "rate", "spike-rate"])
@torch.no_grad()
def test_a_batch_equals_its_rows(readout: str) -> None:
    agent, x = a_network(readout), observations(5)
    batch, rows = agent.decide(x), [agent.decide(row[None]) for row in x]
    assert batch.activity is not None
    assert bool((batch.activity.spikes > 0).any(0).all())
    assert torch.equal(
        batch.activity.spikes, torch.cat([row.activity.spikes for row in rows if row.activity])
    )
    torch.testing.assert_close(batch.scores, torch.cat([row.scores for row in rows]), rtol=1e-5, atol=1e-5)


def test_gradients_reach_its_parameters() -> None:
    agent = a_network()
    weighting = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    (agent(observations(4)) * weighting).sum().backward()
    names = [name for name, _ in agent.named_parameters() if name.startswith("normalisations")]
    assert names == [f"normalisations.{index}.{part}" for index in (0, 1) for part in ("weight", "bias")]
    for name in names:
        gradient = agent.get_parameter(name).grad
        assert gradient is not None
        assert bool(torch.isfinite(gradient).all())
        assert bool((gradient != 0).any()), name


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    agent, path = a_network(), tmp_path / "agent.safetensors"
    save_agent(path, agent, PROVENANCE)
    loaded = load_agent(path).agent
    assert isinstance(loaded, DSQN)
    assert loaded.spiking == agent.spiking
    assert torch.equal(loaded(observations(3)), agent(observations(3)))


def test_it_has_no_gradient_source_of_rates() -> None:
    names = {source.name for source in a_network().gradient_sources()}
    assert names == {"own-surrogate", "swept-surrogate"}


@pytest.mark.parametrize("eps", [0, -1e-5, 2.0, float("nan")])
def test_an_eps_out_of_range_is_refused(eps: float) -> None:
    with pytest.raises(Refusal, match="eps is"):
        LayerNormalisation(eps=eps)
    with pytest.raises(Refusal, match="unknown normalisation 'layers': did you mean 'layer'"):
        NORMALISATIONS["layers"]
