"""Threat models: what is stored is what is done."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adversarial import box as boxes
from adversarial.attack import ATTACKS
from adversarial.box import ball
from adversarial.goals import goal
from adversarial.gradient_ascent import iterates
from adversarial.hook import perturber
from adversarial.noise import uniform_change
from adversarial.queries import worst_of
from adversarial.sources import freeze, sources
from adversarial.threat import Threat, make_threat
from adversarial.timing import gap_threshold
from core import seeding
from core.agents import Agent
from core.checkpoint import load_agent
from core.dqn import DQN
from core.errors import Refusal
from core.games import get_game
from core.gradients import WIDTHS
from core.networks import NETWORKS
from play.environments import make_environments, network_input, require_in_bounds
from play.policies import exploring
from play.protocols import get_protocol
from play.rollout import Perturbed, Rollout
from tests.adversarial.steps import fgsm, last_iterate
from tests.conftest import AGENTS, opening

PONG, BREAKOUT, CARTPOLE = get_game("pong"), get_game("minatar/breakout"), get_game("cartpole")


def dqn() -> Agent:
    return NETWORKS["relu"].make(BREAKOUT, seeding.torch_generator(0, "weights"))


def inputs(rows: int = 5) -> Tensor:
    return torch.rand((rows, *BREAKOUT.observation_shape), generator=torch.Generator().manual_seed(0))


def attacked(threat: Threat, agent: Agent, x: Tensor, source: nn.Module | None = None) -> Perturbed:
    """What the hook makes of states that each begin an episode, of chance 0, 1, 2, ..."""
    perturb = perturber(threat, agent.game, agent, source or agent)
    assert perturb is not None
    with torch.no_grad():
        scores = agent(x)
        return perturb(x, scores, [np.random.default_rng(row) for row in range(len(x))], torch.zeros_like(x))


# The value --------------------------------------------------------------------------------------------


def test_a_threat_says_all_that_decides_what_is_done() -> None:
    threat = make_threat("pgd", 0.01, PONG, gradient_source="own", steps=50, seed=3)
    assert json.loads(threat.key) == {
        "attack": "pgd", "norm": "l_inf", "epsilon": 0.01, "bounds": "0 to 1", "scope": "whole-stack",
        "eight_bit": False, "loss": "cross-entropy", "targeted": False, "gradient_source": "own", "surrogate": "",
        "sim_steps": 0, "steps": 50, "step_size": pytest.approx(2.5 * 0.01 / 50), "momentum": 0.0,
        "random_start": True, "restarts": 1, "queries": 0, "frequency": 1.0, "gap_threshold": 0.0, "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "step_size"),
    [
        ("fgsm", 0.1),
        ("pgd", 0.025),
        ("targeted-pgd", 0.025),
        ("mi-fgsm", 0.01),
        ("spsa", 0.025),
        ("square", 0.0),
    ],
)
def test_steps_are_as_long_as_the_literature_has_them(attack: str, step_size: float) -> None:
    assert make_threat(attack, 0.1, PONG).record["step_size"] == pytest.approx(step_size)


@pytest.mark.parametrize("attack", ATTACKS)
def test_epsilon_zero_is_the_clean_game(attack: str) -> None:
    threat = make_threat(attack, 0.0, BREAKOUT)
    assert (threat.name, threat.epsilon) == ("none", 0.0)
    assert perturber(threat, BREAKOUT, dqn()) is None


@pytest.mark.parametrize(
    ("attack", "epsilon", "changes", "message"),
    [
        ("fgsm", -0.1, {}, "epsilon is -0.1"),
        ("fgsm", math.nan, {}, "epsilon is nan"),
        ("fgsm", math.inf, {}, "epsilon is inf"),
        ("cw", 0.1, {}, "unknown attack 'cw': .*square"),
        ("pgd", 0.1, {"scope": "screen"}, "scope 'screen': accepted are whole-stack, newest-frame"),
        ("pgd", 0.1, {"loss": "hinge"}, "loss 'hinge': accepted are cross-entropy, margin, value"),
        ("pgd", 0.1, {"steps": 0, "step_size": 0.1}, "steps is 0: accepted is an integer from 1"),
        ("pgd", 0.1, {"restarts": 0}, "restarts is 0: accepted is an integer from 1"),
        ("pgd", 0.1, {"restarts": 2, "random_start": False}, "restarts is 2: without a random start"),
        ("pgd", 0.1, {"frequency": 0.0}, "frequency is 0.0: accepted is a number above 0"),
        ("targeted-pgd", 0.1, {"loss": "value"}, "loss 'value' leads to no action"),
        ("targeted-pgd", 0.1, {"targeted": False}, "targeted-pgd has no option 'targeted'"),
        ("mi-fgsm", 0.1, {"momentum": -1.0}, "momentum is -1.0"),
        ("square", 0.1, {"queries": 0}, "queries is 0: accepted is an integer from 1"),
        (
            "spsa",
            0.1,
            {"queries": 10, "steps": 6},
            "queries of spsa is 10: each of its 6 steps needs 2, and the last iterate 1, so at least 13",
        ),
        ("occlusion", 1.1, {}, "epsilon is 1.1: occlusion takes at most 1"),
        ("fgsm", 0.1, {"steps": 50}, "fgsm has no option 'steps': accepted are loss"),
        ("pgd", 0.1, {"step_size": math.inf}, "step_size is inf"),
        ("pgd", 0.1, {"gap_threshold": math.nan}, "gap_threshold is nan"),
        ("pgd", 0.1, {"scope": "newest-frame"}, "minatar/breakout shows no stack of frames"),
        ("pgd", 0.1, {"eight_bit": True}, "minatar/breakout shows no grey levels"),
    ],
)
def test_what_is_no_threat_is_refused(
    attack: str, epsilon: float, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        make_threat(attack, epsilon, BREAKOUT, **changes)


@pytest.mark.parametrize("attack", ["square", "occlusion"])
def test_attacks_on_images_need_an_image(attack: str) -> None:
    with pytest.raises(Refusal, match="cartpole shows no image"):
        make_threat(attack, 0.1, CARTPOLE)


def test_an_attack_along_a_gradient_needs_one() -> None:
    with pytest.raises(Refusal, match="fgsm follows a gradient: a source"):
        perturber(make_threat("fgsm", 0.1, BREAKOUT), BREAKOUT, dqn())


# What is done ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_every_attack_stays_in_its_ball_and_follows_a_gradient_or_none(attack: str, network: str) -> None:
    agent = NETWORKS[network].make(BREAKOUT, seeding.torch_generator(0, "weights"))
    few = {"spsa": {"queries": 21}, "square": {"queries": 10}}.get(attack, {})
    x = torch.cat((inputs(3), torch.zeros(1, 4, 10, 10), torch.ones(1, 4, 10, 10)))
    threat = make_threat(attack, 0.1, BREAKOUT, **few)
    found = attacked(threat, agent, x)
    if (attack, network) != ("spsa", "chen2022"):  # untrained neurons answer its few queries alike
        assert found.inputs.ne(x).any()
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    if ATTACKS[attack].norm == "l_inf":
        assert (found.inputs - x).abs().max() <= 0.1 + 6e-8
    assert found.zero_gradient.tolist() == pytest.approx(
        [0.0] * 5 if ATTACKS[attack].kind == "white-box" else [math.nan] * 5, nan_ok=True
    )
    # The same chance does the same again.
    assert torch.equal(attacked(threat, agent, x).inputs, found.inputs)


class Ridge(nn.Module):
    """Action 1 is better only where the first element is 0.53 or nearly so, which no slope tells."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(first), 0.004 - (first - 0.53).abs()], 1)


class Slope(nn.Module):
    """The larger the first element, the better action 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([0.9 - x[:, 0, 0, 0], torch.zeros(len(x))], 1)


def test_of_all_steps_the_worst_for_the_victim_is_kept() -> None:
    """Steps of 0.01 from 0.5 lead over the ridge at 0.53 and beyond."""
    x = torch.full((2, *BREAKOUT.observation_shape), 0.5)
    threat = make_threat(
        "pgd", 0.06, BREAKOUT, steps=6, step_size=0.01, random_start=False, loss="margin", restarts=1
    )
    perturb = perturber(threat, BREAKOUT, Ridge(), Slope())
    assert perturb is not None
    found = perturb(x, Ridge()(x), [np.random.default_rng(row) for row in range(2)], torch.zeros_like(x))
    torch.testing.assert_close(found.inputs[:, 0, 0, 0], torch.full((2,), 0.53))
    assert Ridge()(found.inputs).argmax(1).tolist() == [1, 1]
    # As published, the last step is what counts: 0.56, where the action is what it was.
    box = ball(x, 0.06, torch.tensor(0.0), torch.tensor(1.0))
    last = last_iterate(Slope(), goal(Ridge()(x), "margin"), box, steps=6, step_size=0.01)
    assert Ridge()(last.inputs).argmax(1).tolist() == [0, 0]


def test_a_vanished_gradient_is_said() -> None:
    """A network whose first layer is dead gives none, and the attack says so instead of succeeding."""
    agent = dqn()
    assert isinstance(agent, DQN)
    with torch.no_grad():
        next(iter(agent.layers)).bias.fill_(-1e6)  # type: ignore[union-attr]
    for attack in ("fgsm", "mi-fgsm"):
        found = attacked(make_threat(attack, 0.1, BREAKOUT), agent, inputs())
        assert found.zero_gradient.tolist() == [1.0] * 5
        assert torch.equal(found.inputs, inputs())


def test_only_decisions_at_which_enough_is_at_stake_are_attacked() -> None:
    agent, x = dqn(), inputs(10)
    scores = agent(x).detach()
    threshold = gap_threshold(scores, 0.3)
    threat = make_threat("pgd", 0.1, BREAKOUT, frequency=0.3, gap_threshold=threshold)
    found, all_of_them = attacked(threat, agent, x), attacked(make_threat("pgd", 0.1, BREAKOUT), agent, x)
    changed = (found.inputs != x).flatten(1).any(1)
    gaps = (scores.amax(1) - scores.amin(1)).tolist()
    assert changed.nonzero().flatten().tolist() == sorted(np.argsort(gaps)[-3:].tolist())
    torch.testing.assert_close(found.inputs[changed], all_of_them.inputs[changed], rtol=0, atol=1e-6)
    assert torch.equal(torch.from_numpy(found.attacked), changed)
    assert found.zero_gradient[found.attacked].tolist() == [0.0] * 3
    assert np.isnan(found.zero_gradient[~found.attacked]).all()
    none = make_threat("pgd", 0.1, BREAKOUT, frequency=0.3, gap_threshold=1e9)
    assert torch.equal(attacked(none, agent, x).inputs, x)


def test_where_nobody_attacks_what_was_added_before_still_ages() -> None:
    """Two decisions, one with too little at stake: its newest frame is clean, and the others are as they were."""
    agent = NETWORKS["relu"].make(PONG, seeding.torch_generator(0, "weights"))
    x = network_input(opening(agent, 2), PONG, torch.device("cpu"))
    previous = torch.full_like(x, 2 / 255)
    scores = torch.zeros((2, PONG.num_actions))
    scores[0, 0] = 1.0
    threat = make_threat("fgsm", 3 / 255, PONG, scope="newest-frame", frequency=0.5, gap_threshold=0.5)
    hook = perturber(threat, PONG, agent, agent)
    assert hook is not None
    found = hook(x, scores, [np.random.default_rng(row) for row in range(2)], previous)
    assert found.attacked.tolist() == [True, False]
    torch.testing.assert_close(found.inputs[:, :3], (x[:, :3] + 2 / 255).clamp(0, 1))
    assert torch.equal(found.inputs[1, 3], x[1, 3])
    assert (found.inputs[0, 3] != x[0, 3]).any()


def test_the_gradient_that_is_said_to_vanish_is_that_of_the_first_start() -> None:
    """Flat where the search begins, and steep from the second step on: it stood still, whatever came later."""

    class Ledge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first = x[:, 0, 0, 0]
            return torch.stack([torch.zeros_like(first), torch.relu(first - 0.5)], 1)

    agent = dqn()
    low, high = torch.zeros(1, *BREAKOUT.observation_shape), torch.ones(1, *BREAKOUT.observation_shape)
    x = torch.cat([low, high])
    threat = make_threat("pgd", 0.1, BREAKOUT, steps=2, random_start=False, loss="margin")
    perturb = perturber(threat, BREAKOUT, agent, Ledge())
    assert perturb is not None
    scores = Ledge()(x)
    found = perturb(x, scores, [np.random.default_rng(row) for row in range(2)], torch.zeros_like(x))
    assert found.zero_gradient.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("frequency", "expected"), [(1.0, 1.0), (0.5, 3.0), (0.25, 4.0), (0.01, 4.0)])
def test_the_threshold_is_the_least_gap_of_the_share(frequency: float, expected: float) -> None:
    scores = torch.tensor(
        [[0.0, 0.5, 1.0], [5.0, 3.0, 3.0], [1.0, 2.0, -1.0], [0.0, 4.0, 0.0]]
    )  # gaps 1, 2, 3, 4
    assert gap_threshold(scores, frequency) == expected


def test_of_restarts_the_worst_is_kept() -> None:
    agent, x = dqn(), inputs(40)
    clean = goal(agent(x).detach())
    once, often = (
        attacked(make_threat("pgd", 0.004, BREAKOUT, steps=2, restarts=restarts), agent, x).inputs
        for restarts in (1, 6)
    )
    scores = [agent(found).detach() for found in (once, often)]
    assert (clean.reached(scores[1]) >= clean.reached(scores[0])).all()
    same = clean.reached(scores[1]) == clean.reached(scores[0])
    assert (clean.value(scores[1]) >= clean.value(scores[0]))[same].all()
    assert (clean.value(scores[1]) > clean.value(scores[0])).any()


@pytest.mark.parametrize("eight_bit", [False, True])
def test_starts_side_by_side_are_the_starts_one_after_the_other(eight_bit: bool) -> None:
    agent = NETWORKS["relu"].make(PONG, seeding.torch_generator(0, "weights"))
    x = network_input(opening(agent, 3), PONG, torch.device("cpu"))
    threat = make_threat("pgd", 3 / 255, PONG, steps=3, restarts=4, eight_bit=eight_bit)
    found = attacked(threat, agent, x).inputs
    box = ball(x, 3 / 255, torch.zeros(1), torch.ones(1))
    its_goal = goal(agent(x).detach())
    chances = [np.random.default_rng(row) for row in range(len(x))]
    candidates = []
    for _ in range(4):
        start = uniform_change(box, 3 / 255, chances)
        how = {"steps": 3, "step_size": threat.record["step_size"], "start": start}
        shown = [each.inputs for each in iterates(agent, its_goal, box, **how)]
        candidates += [boxes.eight_bit(each, box) for each in shown] if eight_bit else shown
    by_hand = worst_of(agent, its_goal, candidates)
    # A batch of another size may add up in another order, and turn the sign of a gradient that is next to nothing.
    assert ((found - by_hand).abs() < 1e-5).float().mean() > 0.999
    assert ((found - x).abs() > 1e-3).float().mean() > 0.3


@pytest.mark.parametrize("name", ["dqn", "dsqn"])
def test_what_the_source_said_of_an_iterate_is_what_the_victim_says(name: str) -> None:
    """Every source that claims so, on trained weights: nothing is found otherwise, nor asked twice."""
    victim = load_agent(AGENTS / f"pong-{name}-s0.safetensors").agent
    x = network_input(opening(victim, 60)[40:46], victim.game, victim.device)
    claimed = [source for source in sources(victim) if source.same_scores]
    assert len(claimed) == (1 if name == "dqn" else 1 + 4 * len(WIDTHS))
    with torch.no_grad():
        scores = victim(x)
    for source in (claimed[0], claimed[-1]):
        threat = make_threat("pgd", 1 / 255, victim.game, steps=4, loss="margin")
        found, asked = {}, {}
        for same_scores in (True, False):
            counted = Counted(victim)
            perturb = perturber(threat, victim.game, counted, freeze(source).network, same_scores=same_scores)
            assert perturb is not None
            chances = [np.random.default_rng(row) for row in range(len(x))]
            found[same_scores] = perturb(x, scores, chances, torch.zeros_like(x)).inputs
            asked[same_scores] = len(counted.asked)
        assert torch.equal(found[True], found[False])
        assert asked == {True: 1, False: 4}  # after the last step alone, after each


@pytest.mark.parametrize(
    ("attack", "how"),
    [
        ("square", {"queries": 9}),
        ("spsa", {"queries": 8, "steps": 2}),
        ("random-sign", {"queries": 9, "loss": "margin"}),
        ("occlusion", {"queries": 4}),
        ("brightness", {}),
        ("pgd", {"steps": 2, "restarts": 2}),
    ],
)
def test_a_victim_is_asked_about_grey_levels_alone_where_no_others_are_shown(
    attack: str, how: dict[str, Any]
) -> None:
    """A search that is judged by what no screen can show would end at successes that rounding undoes."""
    agent = NETWORKS["relu"].make(PONG, seeding.torch_generator(0, "weights"))
    x = network_input(opening(agent, 3), PONG, torch.device("cpu"))
    counted = Counted(agent)
    hook = perturber(make_threat(attack, 1.4 / 255, PONG, eight_bit=True, **how), PONG, counted, agent)
    assert hook is not None
    found = hook(x, agent(x), [np.random.default_rng(row) for row in range(len(x))], torch.zeros_like(x))
    assert counted.asked
    for asked in (*counted.asked, found.inputs):
        assert torch.equal(asked, (255 * asked).round() / 255)
    if attack != "occlusion":  # which knows of no ball
        assert (found.inputs - x).abs().max() == pytest.approx(1 / 255)


class Counted(nn.Module):
    """A network, and what it was asked."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x)
        scores: Tensor = self.network(x)
        return scores


def test_a_gradient_may_be_taken_through_another_network_than_the_victim() -> None:
    agent, other = dqn(), NETWORKS["relu"].make(BREAKOUT, seeding.torch_generator(1, "weights"))
    x = inputs()
    found = attacked(make_threat("fgsm", 0.1, BREAKOUT), agent, x, other).inputs
    box = ball(x, 0.1, torch.zeros(1), torch.ones(1))
    its_goal = goal(agent(x).detach())  # away from the victim's action
    assert torch.equal(found, fgsm(other, its_goal, box, 0.1).inputs)


# In the game -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eight_bit", [False, True])
def test_what_was_added_to_a_frame_stays_with_it_through_a_real_game(eight_bit: bool) -> None:
    """Two games of Pong side by side: each frame is perturbed when it is new, and looks the same until it is gone."""
    agent = NETWORKS["relu"].make(PONG, seeding.torch_generator(0, "weights"))
    seen: list[Tensor] = []

    class Watching(nn.Module):
        """The agent, and what it was shown at each decision (twice: clean and perturbed)."""

        game, device, neuron_counts = agent.game, agent.device, agent.neuron_counts

        def decide(self, observations: Tensor, carry: Any = None) -> Any:
            seen.append(observations.clone())
            return agent.decide(observations, carry)

    threat = make_threat("fgsm", 3 / 255, PONG, scope="newest-frame", eight_bit=eight_bit)
    rollout = Rollout(
        make_environments(PONG, 2, get_protocol("nature", PONG).dynamics),
        Watching(),  # type: ignore[arg-type]
        episode_seed=lambda index: seeding.episode_seed(0, "test", index),
        episodes=range(2),
        policy=exploring(lambda steps: 0.0),
        perturb=perturber(threat, PONG, agent, agent),
    )
    for _ in range(8):
        next(rollout)
    clean, shown = seen[::2], seen[1::2]
    for before, now, unchanged in zip(shown, shown[1:], clean[1:], strict=False):
        torch.testing.assert_close(now[:, :3], before[:, 1:], rtol=0, atol=1e-7)
        assert (now[:, 3] != unchanged[:, 3]).any()
        assert (now - unchanged).abs().max() <= 3 / 255 + 6e-8
        if eight_bit:
            assert torch.equal((255 * now).round() / 255, now)
    assert torch.equal(shown[0][:, :3], clean[0][:, :3])  # an episode begins with what nobody could change


def test_pgd_turns_a_trained_agent_where_noise_of_its_size_does_not() -> None:
    agent = load_agent(AGENTS / "pong-dqn-s0.safetensors").agent
    x = network_input(opening(agent, 160)[::8], PONG, agent.device)
    clean = goal(agent(x).detach())
    flipped = {
        attack: clean.reached(agent(attacked(make_threat(attack, 1 / 255, PONG), agent, x).inputs).detach())
        for attack in ("pgd", "random-sign")
    }
    assert flipped["pgd"].all()
    assert flipped["random-sign"].double().mean() < 0.5


def test_epsilon_is_counted_in_the_games_scale_element_by_element() -> None:
    """A linear victim of CartPole: FGSM moves each element by epsilon of its own unit, and the row says which."""
    game = CARTPOLE
    assert game.scale == (4.8, 3.5, 0.41887903, 3.3)
    weights = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    victim = nn.Linear(4, 2, bias=False)
    victim.weight.data.copy_(weights)
    x = torch.tensor([[0.1, 0.2, 0.05, -0.3], [4.79, 0.0, -0.41, 0.0]])
    threat = make_threat("fgsm", 0.01, game)
    assert threat.bounds.endswith("; epsilon in units of 4.8, 3.5, 0.418879, 3.3")
    hook = perturber(threat, game, victim, victim)
    assert hook is not None
    found = hook(x, victim(x).detach(), [np.random.default_rng(0)] * 2, torch.zeros_like(x))
    # Action 0 of the first row has -0.3, action 1 has 0: the loss grows with what lowers action 1 beside action 0, so
    # along + the weights; the second row's action 0 has 3.56, and goes down.
    step = 0.01 * torch.tensor(game.scale) * weights[0].sign()
    assert victim(x).argmax(1).tolist() == [1, 0]
    torch.testing.assert_close(found.inputs[0], x[0] + step, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.inputs[1], x[1] - step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "attack", ["random-sign", "uniform", "gaussian", "pgd", "mi-fgsm", "targeted-pgd", "spsa"]
)
def test_attacks_on_cartpole_stay_in_their_scaled_ball_and_within_bounds(attack: str) -> None:
    game = CARTPOLE
    agent = NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))
    x = torch.tensor([[4.79, 1.0, 0.4188, -2.0], [0.0, 0.0, 0.0, 0.0], [-4.8, 9.0, -0.41887903, 0.1]])
    hook = perturber(make_threat(attack, 0.05, game), game, agent, agent)
    assert hook is not None
    generators = [np.random.default_rng(row) for row in range(3)]
    found = hook(x, agent(x).detach(), generators, torch.zeros_like(x)).inputs
    require_in_bounds(found, game)
    changed = (found - x).abs() / torch.tensor(game.scale)
    assert 0.04 < changed.max() <= 0.05 + 1e-6
