"""Attacks as the command line makes them: through whose gradient, and within which size."""

import numpy as np
import pytest
import torch
from torch import Tensor

from adversarial.attack import Attack
from adversarial.goals import goal
from adversarial.gradient_ascent import input_gradient
from adversarial.hook import make_attack
from adversarial.sources import gradient_source
from core import seeding
from core.agents import Agent
from core.dqn import DQN
from core.errors import Refusal
from core.games import get_game
from core.networks import NETWORKS
from core.rate_coded.network import RateCodedNetwork, RateCoding

GAME = get_game("minatar/breakout")


def inputs(rows: int = 5) -> Tensor:
    return torch.rand((rows, *GAME.observation_shape), generator=torch.Generator().manual_seed(0))


def agents() -> dict[str, Agent]:
    generator = seeding.torch_generator(0, "weights")
    snn = RateCodedNetwork(GAME, RateCoding(8))
    dqn = NETWORKS["relu"].make(GAME, generator)
    snn.load_state_dict({**dqn.state_dict(), "output_scale": torch.tensor(2.0)})
    return {
        "dqn": dqn,
        "chen2022": NETWORKS["chen2022"].make(GAME, generator),
        "liu2022-if": NETWORKS["liu2022-if"].make(GAME, generator),
        "rate-coded": snn,
        "quantised": snn.quantised(),
    }


@pytest.mark.parametrize("name", ["dqn", "chen2022", "liu2022-if", "rate-coded", "quantised"])
@pytest.mark.parametrize("attack", ["fgsm", "random-sign"])
@pytest.mark.parametrize("epsilon", [1e-4, 1 / 255, 0.5])
def test_size_and_bounds_hold_for_every_agent(name: str, attack: str, epsilon: float) -> None:
    agent = agents()[name]
    clean = torch.cat(
        [inputs(), torch.zeros(1, *GAME.observation_shape), torch.ones(1, *GAME.observation_shape)]
    )
    _, perturb = make_attack(attack, epsilon, agent, GAME)
    assert perturb is not None
    with torch.no_grad():
        scores = agent(clean)
    generators = [np.random.default_rng(row) for row in range(len(clean))]
    found = perturb(clean, scores, generators, torch.zeros_like(clean))
    assert bool(torch.isfinite(found.inputs).all())
    assert (found.inputs - clean).abs().max() <= epsilon + 1e-7
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    assert (found.inputs != clean).any()


def test_fgsm_raises_the_loss_more_than_noise_does() -> None:
    agent = agents()["dqn"]
    clean = inputs(64)
    with torch.no_grad():
        scores = agent(clean)
        generators = [np.random.default_rng(row) for row in range(64)]
    losses = {}
    for attack in ("fgsm", "random-sign"):
        _, perturb = make_attack(attack, 0.02, agent, GAME)
        assert perturb is not None
        found = perturb(clean, scores, generators, torch.zeros_like(clean)).inputs
        losses[attack] = torch.nn.functional.cross_entropy(agent(found), scores.argmax(1)).item()
    assert losses["fgsm"] > losses["random-sign"]


def test_each_row_says_whose_gradient_it_was() -> None:
    names = {name: gradient_source(agent).name for name, agent in agents().items()}
    assert names == {
        "dqn": "own",
        "chen2022": "own-surrogate",
        "liu2022-if": "own-surrogate",
        "rate-coded": "ann-twin",
        "quantised": "straight-through",
    }
    assert make_attack("fgsm", 0.1, agents()["chen2022"], GAME)[0].surrogate == "atan slope 2"
    assert make_attack("random-sign", 0.1, agents()["dqn"], GAME)[0].gradient_source == ""


def test_a_converted_network_is_attacked_through_the_dqn_it_came_from() -> None:
    both = agents()
    snn, dqn = both["rate-coded"], both["dqn"]
    assert isinstance(snn, RateCodedNetwork)
    assert isinstance(dqn, DQN)
    source = gradient_source(snn).network
    x = inputs()
    actions = dqn(x).argmax(1)
    # Same weights, the last layer times the output scale 2: same argmax, and its own gradient.
    torch.testing.assert_close(source(x), 2 * dqn(x))
    gradient = input_gradient(source, x, goal(dqn(x).detach()))
    scaled = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(2 * dqn(scaled), actions, reduction="sum").backward()
    assert scaled.grad is not None
    torch.testing.assert_close(gradient, scaled.grad)


@pytest.mark.parametrize("members", [{}, {"kind": "grey-box"}, {"kind": "transfer"}])
def test_an_attack_of_no_known_kind_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(
        Refusal, match=r"kind of attack Mine is .*: accepted are white-box, black-box, noise, control"
    ):
        type("Mine", (Attack,), {**members, "perturb": lambda self, problem: None})
