"""Our attacks against torchattack's, on the same inputs."""

import pytest
import torch
from torch import Tensor
from torchattack import FGSM, MIFGSM, PGD

from adversarial.box import ball
from adversarial.frozen import frozen
from adversarial.goals import Goal, goal
from adversarial.gradient_ascent import input_gradient
from core.agents import Agent
from core.checkpoint import load_agent
from play.environments import bounds, network_input
from tests.adversarial.steps import fgsm, last_iterate
from tests.conftest import AGENTS, opening

CPU = torch.device("cpu")
TINY = 1e-8
"""Gradients below it have a sign by rounding alone."""


@pytest.fixture(scope="module", params=["pong-dqn-s0", "minatar-breakout-dqn-s0"])
def met(request: pytest.FixtureRequest) -> tuple[Agent, Tensor, Goal]:
    """A trained DQN, states that it met, and its greedy actions there."""
    agent = load_agent(AGENTS / f"{request.param}.safetensors").agent
    x = network_input(opening(agent, 96)[::6], agent.game, CPU)
    return agent, x, goal(agent(x).detach())


@pytest.mark.parametrize("epsilon", [1e-3, 1 / 255, 0.1])
def test_fgsm_is_torchattacks(met: tuple[Agent, Tensor, Goal], epsilon: float) -> None:
    agent, x, its_goal = met
    theirs = FGSM(agent, device=CPU, eps=epsilon)(x, its_goal.action).detach()
    box = ball(x, epsilon, *bounds(agent.game, CPU))
    gradient = input_gradient(agent, x, its_goal)
    clear = gradient.abs() > TINY
    assert clear.double().mean() > 0.2
    ours = fgsm(agent, its_goal, box, epsilon).inputs
    torch.testing.assert_close(ours[clear], theirs[clear], rtol=0, atol=1e-7)
    sooner = fgsm(frozen(agent), its_goal, box, epsilon).inputs
    torch.testing.assert_close(sooner[clear], theirs[clear], rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-3, 1 / 255, 0.1])
def test_pgd_is_torchattacks(met: tuple[Agent, Tensor, Goal], epsilon: float) -> None:
    agent, x, its_goal = met
    step = epsilon / 4
    theirs = PGD(agent, device=CPU, eps=epsilon, steps=10, alpha=step, random_start=False)(x, its_goal.action)
    box = ball(x, epsilon, *bounds(agent.game, CPU))
    ours = last_iterate(agent, its_goal, box, steps=10, step_size=step).inputs
    clear = input_gradient(agent, x, its_goal).abs() > TINY
    torch.testing.assert_close(ours[clear], theirs.detach()[clear], rtol=0, atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-3, 1 / 255])
def test_momentum_is_torchattacks(met: tuple[Agent, Tensor, Goal], epsilon: float) -> None:
    """Where a gradient vanishes on the way (Pong at 0.1) they differ: torchattack divides by zero and stays."""
    agent, x, its_goal = met
    theirs = MIFGSM(agent, device=CPU, eps=epsilon, steps=4, alpha=epsilon / 4, decay=1.0)(x, its_goal.action)
    box = ball(x, epsilon, *bounds(agent.game, CPU))
    ours = last_iterate(agent, its_goal, box, steps=4, step_size=epsilon / 4, momentum=1.0).inputs
    clear = input_gradient(agent, x, its_goal).abs() > TINY
    torch.testing.assert_close(ours[clear], theirs.detach()[clear], rtol=0, atol=1e-7)
