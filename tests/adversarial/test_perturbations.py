"""Attacks: closed form where there is one; size and bounds always; and that each does what it says."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adversarial.attack import Problem
from adversarial.attacks.brightness import Brightness
from adversarial.attacks.gaussian import Gaussian
from adversarial.attacks.occlusion import Occlusion
from adversarial.attacks.random_sign import RandomSign
from adversarial.attacks.spsa import SPSA
from adversarial.attacks.square import Square, square_side
from adversarial.attacks.uniform import Uniform
from adversarial.box import Box, ball, eight_bit, newest_frame_only
from adversarial.frozen import FrozenConv2d, frozen
from adversarial.goals import Goal, Scores, goal
from adversarial.gradient_ascent import input_gradient
from adversarial.noise import Noise, uniform_change
from adversarial.queries import worst_of
from core import seeding
from core.agents import Agent
from core.choices import Loss
from core.games import get_game
from core.networks import NETWORKS
from core.rate_coded.network import RateCodedNetwork, RateCoding
from play.environments import bounds
from tests.adversarial.steps import fgsm, last_iterate

PONG, BREAKOUT, CARTPOLE = get_game("pong"), get_game("minatar/breakout"), get_game("cartpole")
ZERO, ONE = torch.zeros(1), torch.ones(1)


class Linear(nn.Module):
    """Q(x) = W x of inputs [K, C, H, W]: all gradients are known."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def linear(actions: int = 6, elements: int = 400) -> Linear:
    drawn = torch.randn((actions, elements), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Linear(drawn)


def inputs(rows: int = 5, shape: tuple[int, ...] = BREAKOUT.observation_shape) -> Tensor:
    return torch.rand((rows, *shape), generator=torch.Generator().manual_seed(0))


def generators(rows: int = 5) -> list[np.random.Generator]:
    return [np.random.default_rng(row) for row in range(rows)]


random_sign, uniform, gaussian = RandomSign().draw, Uniform().draw, Gaussian().draw
Chances = list[np.random.Generator]


def spsa(
    victim: Scores, its_goal: Goal, box: Box, *, steps: int, step_size: float, probe: float, queries: int,
    generators: Chances,
) -> Tensor:  # fmt: skip
    attack = SPSA(steps=steps, step_size=step_size, queries=queries)
    return attack.perturb(Problem(its_goal, box, probe, generators, victim)).inputs


def square(
    victim: Scores, its_goal: Goal, box: Box, epsilon: float, *, queries: int, generators: Chances
) -> Tensor:
    return Square(queries=queries).perturb(Problem(its_goal, box, epsilon, generators, victim)).inputs


def occlusion(
    victim: Scores, its_goal: Goal, box: Box, share: float, *, queries: int, generators: Chances
) -> Tensor:
    return Occlusion(queries=queries).perturb(Problem(its_goal, box, share, generators, victim)).inputs


def brightness(victim: Scores, its_goal: Goal, box: Box, epsilon: float) -> Tensor:
    return Brightness().perturb(Problem(its_goal, box, epsilon, [], victim)).inputs


def worst_draw(
    victim: Scores, its_goal: Goal, box: Box, epsilon: float, draw: Callable[..., Tensor], *, queries: int,
    generators: Chances,
) -> Tensor:  # fmt: skip
    class Drawn(Noise):
        def draw(self, box: Box, epsilon: float, generators: object) -> Tensor:
            return draw(box, epsilon, generators)

    attack = Drawn(loss="margin", queries=queries)
    return attack.perturb(Problem(its_goal, box, epsilon, generators, victim)).inputs


# Goals -----------------------------------------------------------------------------------------------


def test_what_is_increased_is_as_by_hand() -> None:
    """Q = (ln 1, ln 2, ln 5): softmax is 1/8, 2/8, 5/8."""
    clean = torch.tensor([[0.0, np.log(2), np.log(5)]], dtype=torch.float64)
    assert goal(clean, "cross-entropy").value(clean).item() == pytest.approx(-np.log(5 / 8))
    assert goal(clean, "margin").value(clean).item() == pytest.approx(np.log(2) - np.log(5))
    assert goal(clean, "value").value(clean).item() == pytest.approx(-np.log(5))
    # Targeted: at the worst action, the first.
    assert goal(clean, "cross-entropy", targeted=True).value(clean).item() == pytest.approx(np.log(1 / 8))
    assert goal(clean, "margin", targeted=True).value(clean).item() == pytest.approx(-np.log(5))


def test_a_goal_is_reached_by_another_action_or_by_the_target() -> None:
    clean = torch.tensor([[3.0, 2.0, 1.0]]).expand(3, 3)
    now = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert goal(clean).reached(now).tolist() == [False, True, True]
    assert goal(clean, targeted=True).reached(now).tolist() == [False, False, True]


# Along a gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "value"])
def test_fgsm_on_a_linear_q_has_its_closed_form(loss: Loss, targeted: bool) -> None:
    """grad_x CE = W^T (softmax(W x) - onehot(a)); of the margin W_b - W_a, of the value -W_b, b the best (other)."""
    if (loss, targeted) == ("value", True):
        targeted = False
    network, x = linear(), inputs().double()
    scores = network(x).detach()
    weight = network.weight.detach()
    its_goal = goal(scores, loss, targeted)
    action = scores.argmin(1) if targeted else scores.argmax(1)
    if loss == "cross-entropy":
        expected = (torch.softmax(scores, 1) - nn.functional.one_hot(action, 6)) @ weight
    elif loss == "margin":
        ranked = scores.argsort(1, descending=True)
        other = ranked[:, 0] if targeted else ranked[:, 1]
        expected = weight[other] - weight[action]
    else:
        expected = -weight[action]
    expected = (-expected if targeted else expected).view_as(x)
    torch.testing.assert_close(input_gradient(network, x, its_goal), expected)
    found = fgsm(network, its_goal, ball(x, 0.05, ZERO, ONE), 0.05)
    torch.testing.assert_close(found.inputs, (x + 0.05 * expected.sign()).clamp(0, 1))
    assert not found.zero_gradient.any()


def test_pgd_on_a_linear_q_goes_to_the_corner_of_the_box_and_no_further() -> None:
    """The margin's gradient is constant between two actions, so its maximum over the box is a corner."""
    network, x = linear(2), inputs().double()
    scores = network(x).detach()
    away = torch.where(scores.argmax(1)[:, None] == 0, 1, -1) * (network.weight[1] - network.weight[0])
    corner = (x + 0.1 * away.detach().sign().view_as(x)).clamp(0, 1)
    box, its_goal = ball(x, 0.1, ZERO, ONE), goal(scores, "margin")
    halfway = last_iterate(network, its_goal, box, steps=4, step_size=0.0125).inputs
    torch.testing.assert_close(halfway, (x + 0.05 * away.detach().sign().view_as(x)).clamp(0, 1))
    for momentum in (0.0, 1.0):
        found = last_iterate(network, its_goal, box, steps=10, step_size=0.025, momentum=momentum)
        torch.testing.assert_close(found.inputs, corner)
    start = uniform_change(box, 0.1, generators())
    found = last_iterate(network, its_goal, box, steps=10, step_size=0.025, start=start)
    torch.testing.assert_close(found.inputs, corner)


def test_momentum_adds_up_normalised_gradients() -> None:
    """Against Dong et al.'s algorithm 1 written out on a curved Q, where gradients turn."""

    class Curved(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(3 * super().forward(x))

    network, x = Curved(linear(3, 12).weight.detach()), inputs(4, (3, 2, 2)).double()
    actions = network(x).argmax(1)
    delta, g = torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(5):
        here = (x + delta).requires_grad_()
        nn.functional.cross_entropy(network(here), actions, reduction="sum").backward()
        assert here.grad is not None
        g = 0.7 * g + here.grad / here.grad.abs().sum((1, 2, 3), keepdim=True)
        delta = ((x + (delta + 0.03 * g.sign()).clamp(-0.1, 0.1)).clamp(0, 1) - x).detach()
    box, its_goal = ball(x, 0.1, ZERO, ONE), goal(network(x).detach())
    found = last_iterate(network, its_goal, box, steps=5, step_size=0.03, momentum=0.7)
    torch.testing.assert_close(found.inputs, x + delta)
    plain = last_iterate(network, its_goal, box, steps=5, step_size=0.03)
    assert not torch.allclose(plain.inputs, found.inputs)


def test_only_gradients_of_inputs_are_computed() -> None:
    """A weight's gradient would be computed by this product's backward pass, which is not asked for it."""
    asked: list[tuple[bool, ...]] = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
            ctx.save_for_backward(weight)
            return x.flatten(1) @ weight.T

        @staticmethod
        def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def,override]
            asked.append(ctx.needs_input_grad)
            return (gradient @ ctx.saved_tensors[0]).view(-1, 4, 10, 10), None

    network = linear()
    x = inputs().double()
    box, its_goal = ball(x, 0.1, ZERO, ONE), goal(network(x).detach())
    still = frozen(network)
    found = last_iterate(lambda x: Watched.apply(x, still.weight), its_goal, box, steps=2, step_size=0.1)
    assert asked == [(True, False)] * 2
    torch.testing.assert_close(
        found.inputs, last_iterate(network, its_goal, box, steps=2, step_size=0.1).inputs
    )
    assert network.weight.requires_grad
    assert network.weight.grad is None


def test_an_attack_computes_gradients_where_the_evaluator_wants_none() -> None:
    network, x = linear(), inputs().double()
    its_goal, box = goal(network(x).detach()), ball(inputs().double(), 0.1, ZERO, ONE)
    with torch.no_grad():
        assert fgsm(network, its_goal, box, 0.1).inputs.ne(x).any()


# Frozen copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 21, 22, 23])
@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1), (3, 3), (5, 2)])
def test_a_frozen_convolution_is_that_convolution(size: int, kernel: int, stride: int) -> None:
    layer = nn.Conv2d(3, 5, kernel, stride).double()
    still = frozen(nn.Sequential(layer, nn.ReLU()))
    assert isinstance(still.get_submodule("0"), FrozenConv2d) == (kernel % stride == 0 and stride > 1)
    x = inputs(2, (3, size, size + 1)).double().requires_grad_()
    ours, theirs = still(x), layer(x).relu()
    assert torch.equal(ours, theirs)
    weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found, expected = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs))
    torch.testing.assert_close(found, expected)
    assert layer.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in still.parameters())


def agents() -> dict[str, Agent]:
    generator = seeding.torch_generator(0, "weights")
    dqn = NETWORKS["relu"].make(PONG, generator)
    snn = RateCodedNetwork(PONG, RateCoding(8))
    snn.load_state_dict({**dqn.state_dict(), "output_scale": torch.tensor(2.0)})
    return {
        "dqn": dqn,
        "chen2022": NETWORKS["chen2022"].make(PONG, generator),
        "quantised": snn.quantised(),
        "twin": snn.twin(),
    }


@pytest.mark.parametrize("name", ["dqn", "chen2022", "quantised", "twin"])
def test_a_frozen_agent_scores_as_it_does_and_has_its_gradients(name: str) -> None:
    agent, x = agents()[name], inputs(3, PONG.observation_shape)
    still = frozen(agent)
    with torch.no_grad():
        scores = agent(x)
        assert torch.equal(still(x), scores)
    found, expected = (input_gradient(each, x, goal(scores)) for each in (still, agent))
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


# Size and bounds -------------------------------------------------------------------------------------

Attack = Callable[[nn.Module, Box, float, Tensor], Tensor]
MANY: dict[str, Attack] = {
    "random-sign": lambda net, box, eps, q: random_sign(box, eps, generators(len(q))),
    "uniform": lambda net, box, eps, q: uniform(box, eps, generators(len(q))),
    "gaussian": lambda net, box, eps, q: gaussian(box, eps, generators(len(q))),
    "fgsm": lambda net, box, eps, q: fgsm(net, goal(q), box, eps).inputs,
    "pgd": lambda net, box, eps, q: last_iterate(
        net, goal(q, "value"), box, steps=3, step_size=eps,
        start=uniform_change(box, eps, generators(len(q))),
    ).inputs,
    "mi-fgsm": lambda net, box, eps, q: last_iterate(
        net, goal(q, "margin"), box, steps=3, step_size=eps, momentum=1.0
    ).inputs,
    "targeted": lambda net, box, eps, q: last_iterate(
        net, goal(q, targeted=True), box, steps=3, step_size=eps / 2
    ).inputs,
    "spsa": lambda net, box, eps, q: spsa(
        net, goal(q), box, steps=2, step_size=eps, probe=eps, queries=8, generators=generators(len(q))
    ),
    "square": lambda net, box, eps, q: square(
        net, goal(q, "margin"), box, eps, queries=5, generators=generators(len(q))
    ),
    "brightness": lambda net, box, eps, q: brightness(net, goal(q), box, eps),
}  # fmt: skip


@pytest.mark.parametrize("attack", MANY)
@pytest.mark.parametrize("case", range(6))
def test_size_and_bounds_hold_for_random_networks_shapes_and_inputs(attack: str, case: int) -> None:
    """Also where inputs are constant, saturated, or have no image at all."""
    chance = torch.Generator().manual_seed(case)
    channels, height, width, actions = (
        int(torch.randint(1, top, (), generator=chance)) for top in (5, 12, 12, 7)
    )
    shape = (channels, height, width)
    x = torch.rand((6, *shape), generator=chance)
    x[1], x[2], x[3], x[4] = 0.0, 1.0, 0.3, x[4].round()
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(x[0].numel(), 8), nn.ReLU() if case % 2 else nn.Tanh(),
        nn.Linear(8, actions + 1),
    )  # fmt: skip
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=3.0, generator=chance)
    scores = network(x).detach()
    for epsilon in (1e-4, 1 / 255, 0.5, 2.0):
        found = MANY[attack](network, ball(x, epsilon, ZERO, ONE), epsilon, scores)
        assert found.shape == x.shape
        assert found.min() >= 0
        assert found.max() <= 1
        assert (found - x).abs().max() <= epsilon + 6e-8  # a rounding of what was added to 1
        assert torch.equal(MANY[attack](network, ball(x, 0.0, ZERO, ONE), 0.0, scores), x)


@pytest.mark.parametrize("attack", sorted(set(MANY) - {"square"}))
def test_bounds_may_differ_by_element_and_be_infinite(attack: str) -> None:
    low, high = bounds(CARTPOLE, torch.device("cpu"))
    x = torch.tensor([[4.8, -30.0, 0.41887903, 5.0], [-4.8, 0.0, -0.1, 0.0], [4.7, 1.0, 0.3, -1.0]])
    network = NETWORKS["relu"].make(CARTPOLE, seeding.torch_generator(0, "weights"))
    found = MANY[attack](network, ball(x, 0.2, low, high), 0.2, network(x).detach())
    assert bool(((found >= low) & (found <= high)).all())
    assert 0.05 < (found - x).abs().max() <= 0.2 + 2e-6  # float32 beside 30


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    network, x = NETWORKS["relu"].make(BREAKOUT, seeding.torch_generator(0, "weights")), inputs()
    scores = network(x).detach()
    for attack in MANY.values():
        together = attack(network, ball(x, 0.05, ZERO, ONE), 0.05, scores)
        first = attack(network, ball(x[:1], 0.05, ZERO, ONE), 0.05, scores[:1])
        torch.testing.assert_close(together[:1], first, rtol=0, atol=1e-6)


# Noise -----------------------------------------------------------------------------------------------


def test_noise_is_what_its_name_says() -> None:
    x = torch.full((1, 1, 100, 100), 0.5)
    box = ball(x, 0.1, ZERO, ONE)
    by_name = {
        name: MANY[name](nn.Identity(), box, 0.1, ONE) - x for name in ("random-sign", "uniform", "gaussian")
    }
    torch.testing.assert_close(by_name["random-sign"].abs(), torch.full_like(x, 0.1))
    assert abs(by_name["random-sign"].mean()) < 0.004  # four standard errors of 10,000 draws
    assert by_name["uniform"].std() == pytest.approx(0.2 / np.sqrt(12), abs=0.001)
    # A normal variable lies beyond one standard deviation with probability 0.3173.
    at_limit = (by_name["gaussian"].abs() > 0.1 - 1e-6).double().mean().item()
    assert at_limit == pytest.approx(0.3173, abs=0.019)


# Newest frame only -----------------------------------------------------------------------------------


def test_in_the_newest_frame_only_what_was_added_ages_with_its_frame() -> None:
    clean, previous = inputs(2, (4, 3, 3)), 0.05 * (2 * inputs(2, (4, 3, 3)) - 1)
    box = newest_frame_only(ball(clean, 0.2, ZERO, ONE), previous)
    found = random_sign(box, 0.2, generators(2))
    for frame in range(3):
        torch.testing.assert_close(
            found[:, frame], (clean[:, frame] + previous[:, frame + 1]).clamp(0, 1), rtol=0, atol=1e-7
        )
    assert (found[:, 3] - clean[:, 3]).abs().max() > 0.19
    assert torch.equal(found[:, :3], box.center[:, :3])


# Grey levels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "levels"), [(1 / 255, 1), (0.5 / 255, 0), (2.9 / 255, 2), (3 / 255, 3)])
def test_rounded_inputs_are_grey_levels_within_the_ball(epsilon: float, levels: int) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    clean = pixels / 255.0
    box = ball(clean, epsilon, ZERO, ONE)
    for sign in (1, -1):
        found = eight_bit(box.shown(torch.full_like(clean, sign * epsilon)), box)
        expected = (pixels.int() + sign * levels).clamp(0, 255)
        assert torch.equal(found, expected.to(torch.uint8) / 255.0)


# By queries ------------------------------------------------------------------------------------------


def test_the_worst_is_what_reaches_the_goal_then_what_comes_nearest() -> None:
    clean = torch.tensor([[2.0, 1.0]] * 4)
    tables = [
        torch.tensor([[2.0, 1.5], [1.0, 1.1], [2.0, 0.0], [1.0, 1.5]]),
        torch.tensor([[2.0, 1.9], [2.0, 1.9], [2.0, 0.0], [1.0, 1.2]]),
    ]
    worst = worst_of(lambda x: x, goal(clean, "margin"), tables)
    assert torch.equal(worst, torch.stack([tables[1][0], tables[0][1], tables[0][2], tables[0][3]]))
    # By its value alone the second would have been worse for row 1.
    assert goal(clean, "value").value(tables[0])[1] > -2.0


def test_spsa_comes_near_the_gradient_it_does_not_see() -> None:
    """With many pairs on few elements, its first step goes where FGSM's does."""
    network, x = linear(3, 12), inputs(4, (3, 2, 2)).double()
    its_goal, box = goal(network(x).detach(), "margin"), ball(inputs(4, (3, 2, 2)).double(), 0.01, ZERO, ONE)
    found = spsa(
        network, its_goal, box, steps=1, step_size=0.01, probe=1e-4, queries=4000, generators=generators(4)
    )
    gradient = input_gradient(network, x, its_goal)
    large = gradient.abs() > 0.3 * gradient.abs().amax((1, 2, 3), keepdim=True)
    expected = fgsm(network, its_goal, box, 0.01).inputs
    torch.testing.assert_close(found[large], expected[large])


def test_spsa_asks_as_often_as_it_says_and_within_the_box() -> None:
    network, x = linear(3, 12), inputs(4, (3, 2, 2)).double()
    box = ball(x, 0.01, ZERO, ONE)
    asked: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        asked.append(x)
        return network(x)

    its_goal = goal(network(x).detach(), "margin")
    found = spsa(
        judge, its_goal, box, steps=3, step_size=0.01, probe=0.05, queries=25, generators=generators(4)
    )
    assert sum(map(len, asked)) == 25 * len(x)  # both of a pair in one batch, and the last iterate
    for each in (*asked[:-1], asked[-1].repeat(2, 1, 1, 1), found.repeat(2, 1, 1, 1)):
        assert (each - x.repeat(2, 1, 1, 1)).abs().max() <= 0.01 + 1e-9
        assert 0 <= each.min() <= each.max() <= 1
    # Probes go as far as they may: they are not shorter than the box.
    assert (asked[0] - x.repeat(2, 1, 1, 1)).abs().max() == pytest.approx(0.01)


def test_each_step_of_spsa_probes_around_where_the_last_one_led() -> None:
    """On |x - 0.47|, from 0.5: down, and down no more from 0.46, which lies on the other side."""
    x = torch.full((1, 1, 1, 1), 0.5)
    asked: list[float] = []

    def judge(x: Tensor) -> Tensor:
        asked.extend(x.flatten().tolist())
        return torch.stack([(x.flatten() - 0.47).abs(), torch.zeros(len(x))], 1)

    found = spsa(
        judge, goal(torch.tensor([[1.0, 0.0]]), "value"), ball(x, 0.1, ZERO, ONE), steps=2, step_size=0.04,
        probe=0.01, queries=5, generators=generators(1),
    )  # fmt: skip
    assert sorted(asked[:2]) == pytest.approx([0.49, 0.51])
    assert sorted(asked[2:4]) == pytest.approx([0.45, 0.47])
    assert asked[4:] == pytest.approx([0.5])
    assert found.item() == pytest.approx(0.47)  # the worst that the victim was asked about


def test_what_a_change_makes_of_an_input_stays_within_bounds() -> None:
    """x + (high - x) is more than high in some roundings."""
    low, high = bounds(CARTPOLE, torch.device("cpu"))
    centers = 0.4 * torch.rand((100_000, 4), generator=torch.Generator().manual_seed(0)) - 0.2
    box = ball(centers, 1.0, low, high)
    change = box.change(torch.ones_like(centers))
    assert bool((centers + change > high).any())
    assert not bool((box.inputs(change) > high).any())


def test_a_goal_repeated_is_that_of_each_row_in_turn() -> None:
    assert goal(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).times(2).action.tolist() == [0, 1, 0, 1]


def test_a_draw_that_is_no_worse_replaces_nothing() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)
    draws = iter([0.1, 0.2, 0.3])
    found = worst_draw(
        lambda x: torch.tensor([[1.0, 0.0]]), goal(torch.tensor([[1.0, 0.0]]), "margin"),
        ball(x, 0.4, ZERO, ONE), 0.4, lambda box, epsilon, chances: box.center + next(draws), queries=3,
        generators=generators(1),
    )  # fmt: skip
    assert found.item() == pytest.approx(0.6)


def test_a_square_search_begins_with_stripes_and_draws_a_sign_a_channel() -> None:
    asked: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        asked.append(x.clone())
        return torch.stack([torch.full((len(x),), 1e4), x.flatten(1).sum(1)], 1)

    x = torch.full((2, 3, 12, 12), 0.5)
    its_goal = goal(torch.tensor([[1e4, 0.0]] * 2), "margin")
    square(judge, its_goal, ball(x, 0.1, ZERO, ONE), 0.1, queries=40, generators=generators(2))
    stripes = asked[0] - x
    torch.testing.assert_close(stripes.abs(), torch.full_like(x, 0.1))
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))  # from top to bottom
    assert (stripes != stripes[..., :1]).any()  # and not all alike
    squares = [after - before for before, after in itertools.pairwise(asked)]
    changed = [each[row] for each in squares for row in range(2) if bool((each[row] != 0).any())]
    signs = {tuple(each.flatten(1).sum(1).sign().tolist()) for each in changed}
    assert any(len(set(channels)) > 1 for channels in signs)


def test_a_change_of_action_is_kept_though_another_draw_has_a_larger_value() -> None:
    """With the value of a state as the goal, what lowers it most need not be what changes the action."""
    # The second draw changes the action and lifts the value; a search by values alone would keep the first.
    tables = iter([[1.0, 0.0], [1.5, 2.0], [0.1, 0.0]])

    def judge(x: Tensor) -> Tensor:
        return torch.tensor([next(tables)])

    x = torch.full((1, 1, 1, 1), 0.5)
    seen: list[float] = []

    def draw(box: Box, epsilon: float, generators: object) -> Tensor:
        seen.append(0.1 * (len(seen) + 1))
        return box.center + seen[-1]

    found = worst_draw(
        judge, goal(torch.tensor([[1.0, 0.0]]), "value"), ball(x, 0.4, ZERO, ONE), 0.4, draw, queries=3,
        generators=generators(1),
    )  # fmt: skip
    assert found.item() == pytest.approx(0.7)  # the second
    assert len(seen) == 2


def test_squares_shrink_as_published() -> None:
    """Share 0.8 halved after 10, 50, 200, ... of 10,000 queries, on 84 x 84 pixels."""
    sides = [square_side * square_side / 84**2 for square_side in (
        square_side(query, 10_000, 84, 84) for query in (0, 10, 11, 51, 201, 501)
    )]  # fmt: skip
    assert sides == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.1, 0.05], rel=0.04)
    assert square_side(99, 100, 3, 3) == 1


def test_square_finds_by_queries_what_fgsm_finds_by_gradient() -> None:
    """On a Q of nine pixels the largest possible margin is known; 400 queries come near it, none to spare."""
    weight = torch.tensor([[1.0, 2, -1, 0.5, -2, 1, 1, -1, 2], [0.0] * 9])
    network, asked = Linear(weight), [0]
    x = torch.full((2, 1, 3, 3), 0.5)
    bias = 100.0  # so that no flip ends the search

    def judge(x: Tensor) -> Tensor:
        asked[0] += 1
        return network(x) + torch.tensor([bias, 0.0])

    its_goal, box = goal(judge(x).detach(), "margin"), ball(x, 0.1, ZERO, ONE)
    start, asked[0] = its_goal.value(judge(x)), 0
    found = square(judge, its_goal, box, 0.1, queries=400, generators=generators(2))
    assert asked[0] == 400
    gained = its_goal.value(judge(found)) - start
    assert gained.tolist() == pytest.approx([0.1 * weight.abs().sum().item()] * 2, rel=1e-4)


def test_square_asks_no_more_of_a_state_whose_action_has_changed() -> None:
    batches: list[int] = []

    def judge(x: Tensor) -> Tensor:
        batches.append(len(x))
        easy = x[:, 0, 0, 0] > 0.5
        return torch.where(easy[:, None], torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))

    x = torch.zeros(3, 1, 4, 4)
    x[1] = 1.0
    clean = torch.tensor([[1.0, 0.0]] * 3)
    square(judge, goal(clean), ball(x, 0.1, ZERO, ONE), 0.1, queries=6, generators=generators(3))
    assert batches == [3, 2, 2, 2, 2, 2]


def test_the_worst_draw_is_that_of_as_many_drawn_by_hand() -> None:
    network, x = linear(3, 12), inputs(4, (3, 2, 2)).double()
    box = ball(x, 1e-4, torch.tensor(0.0), torch.tensor(1.0))  # too small to change an action
    its_goal = goal(network(x).detach(), "margin")
    found = worst_draw(network, its_goal, box, 1e-4, random_sign, queries=5, generators=generators(4))
    by_hand = generators(4)
    draws = [random_sign(box, 1e-4, by_hand) for _ in range(5)]
    worst = worst_of(network, its_goal, draws)
    assert not its_goal.reached(network(worst)).any()
    assert any(not torch.equal(worst, draw) for draw in draws[:1])
    torch.testing.assert_close(found, worst, rtol=0, atol=6e-8)


def test_noise_is_drawn_no_more_for_a_state_whose_action_has_changed() -> None:
    asked: list[int] = []

    def judge(x: Tensor) -> Tensor:
        asked.append(len(x))
        first = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(first), first - 0.5], 1)

    x = torch.full((2, 1, 1, 1), 0.5)
    x[1] = 0.2  # too far from 0.5 for any draw
    box = ball(x, 0.1, torch.tensor(0.0), torch.tensor(1.0))
    its_goal = Goal("margin", torch.tensor([0, 0]))
    found = worst_draw(judge, its_goal, box, 0.1, random_sign, queries=30, generators=generators(2))
    assert asked[0] == 2
    assert asked[-1] == 1
    assert len(asked) == 30
    assert found[0].item() == pytest.approx(0.6)
    assert found[1].item() == pytest.approx(0.3)


def test_brightness_takes_the_worse_of_lighter_and_darker() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    network = Linear(torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]]))
    clean = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # row 0 is led down, row 1 up
    found = brightness(network, goal(clean, "margin"), ball(x, 0.1, ZERO, ONE), 0.1)
    torch.testing.assert_close(found, torch.stack([x[0] - 0.1, x[1] + 0.1]))


def test_occlusion_covers_a_square_of_its_share_in_all_channels() -> None:
    x = inputs(3, (2, 10, 10)) / 2 + 0.5
    network = Linear(torch.randn((4, 200), generator=torch.Generator().manual_seed(3)))
    box = ball(x, float("inf"), ZERO, ONE)
    its_goal = goal(network(x).detach(), "margin")
    found = occlusion(network, its_goal, box, 0.09, queries=30, generators=generators(3))
    covered = found == 0
    assert covered.sum((2, 3)).tolist() == [[9, 9]] * 3
    assert torch.equal(found[~covered], x[~covered])
    for row in covered[:, 0]:
        places = row.nonzero()
        assert (places.amax(0) - places.amin(0)).tolist() == [2, 2]
    one = occlusion(network, its_goal, box, 0.09, queries=1, generators=generators(3))
    assert (its_goal.value(network(found)) >= its_goal.value(network(one))).all()
    assert torch.equal(occlusion(network, its_goal, box, 0.0, queries=2, generators=generators(3)), x)
