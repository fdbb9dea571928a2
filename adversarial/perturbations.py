"""Perturbations of what an agent sees: what each attack computes, and nothing of who is attacked when.

All are in network-input units (after the division by 255), and stay in a box: the l_inf ball around the clean inputs,
cut by the bounds of the observation, and narrowed to nothing where nothing may change. Gradients are of inputs only.
Chance comes from one generator a row, so no row depends on its neighbours.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from play.environments import PIXEL_MAX

Loss = Literal["cross-entropy", "margin", "value"]
"""What is increased. cross-entropy: of softmax Q against the clean greedy action (Huang et al. 2017). margin: the best
other Q-value minus that action's (Carlini & Wagner 2017, without their constant). value: minus the largest Q-value."""

Scores = Callable[[Tensor], Tensor]
"""Network inputs [B, *observation] -> action scores [B, A]: any agent, and all that is asked of one."""


# What an attack wants, and where it may go -------------------------------------------------------------


class Goal(NamedTuple):
    """What an attack of K rows wants of their scores."""

    loss: Loss
    action: Tensor
    """[K] int64: the clean greedy action; with `targeted` the action that is to become the greedy one."""
    targeted: bool = False

    def value(self, scores: Tensor) -> Tensor:
        """What is increased [..., K], of [..., K, A] scores."""
        if self.loss == "value":
            return -scores.amax(-1)
        action = self.action.expand(scores.shape[:-1]).unsqueeze(-1)
        if self.loss == "cross-entropy":
            away = -scores.log_softmax(-1).gather(-1, action).squeeze(-1)
        else:
            others = scores.scatter(-1, action, -math.inf)
            away = others.amax(-1) - scores.gather(-1, action).squeeze(-1)
        return -away if self.targeted else away

    def reached(self, scores: Tensor) -> Tensor:
        """Whether the greedy action is another, or the target, [..., K] bool."""
        return (scores.argmax(-1) == self.action) == self.targeted

    def rows(self, chosen: Tensor) -> "Goal":
        """The same for some of the rows."""
        return self._replace(action=self.action[chosen])

    def times(self, number: int) -> "Goal":
        """The same for all rows, so many times one after the other."""
        return self._replace(action=self.action.repeat(number))


def goal(clean_scores: Tensor, loss: Loss = "cross-entropy", targeted: bool = False) -> Goal:
    """Away from the greedy action of clean scores [K, A], or (targeted) towards the worst one."""
    return Goal(loss, clean_scores.argmin(1) if targeted else clean_scores.argmax(1), targeted)


Limit = float | Tensor
"""One for all elements, or broadcastable to [K, *observation]."""


def _clamp_(x: Tensor, low: Limit, high: Limit) -> Tensor:
    return x.clamp_(low, high)  # type: ignore[arg-type]  # two of a kind: numbers or tensors


class Box(NamedTuple):
    """Where K rows may go: so far from a centre, and within bounds."""

    center: Tensor
    """[K, *observation] what an attack that changes nothing shows."""
    radius: Limit
    """Largest change of an element."""
    low: Limit
    """Lowest and ..."""
    high: Limit
    """... highest value of an element."""
    grey_levels: bool = False
    """Whether only whole grey levels are shown."""

    def change(self, delta: Tensor) -> Tensor:
        """The change within the box that is nearest to delta [K, *observation]."""
        delta = _clamp_(delta.clone(), -self.radius, self.radius)
        return _clamp_(delta.add_(self.center), self.low, self.high).sub_(self.center)

    def shown(self, delta: Tensor) -> Tensor:
        """The input [K, *observation] that comes of a change, which is brought into the box."""
        return self.rounded(self.inputs(self.change(delta)))

    def inputs(self, change: Tensor) -> Tensor:
        """The input [K, *observation] that comes of a change in the box, not rounded to levels."""
        # Adding a difference to what was subtracted can miss a bound by a rounding.
        return _clamp_(self.center + change, self.low, self.high)

    def rounded(self, x: Tensor) -> Tensor:
        """What is shown of an input [K, *observation] in the box."""
        return eight_bit(x, self) if self.grey_levels else x

    def rows(self, chosen: Tensor) -> "Box":
        """The same for some of the rows."""
        return self._replace(center=self.center[chosen])

    def times(self, number: int) -> "Box":
        """The same around all rows, so many times one after the other."""
        return self._replace(center=torch.cat([self.center] * number))


def ball(inputs: Tensor, epsilon: float, low: Tensor, high: Tensor) -> Box:
    """All within epsilon of inputs [K, *observation] and within bounds (broadcastable to inputs)."""
    if low.numel() == high.numel() == 1:  # PyTorch clamps by numbers ten times as fast as by tensors of one
        return Box(inputs, epsilon, low.item(), high.item())
    return Box(inputs, epsilon, low, high)


def newest_frame_only(box: Box, previous: Tensor) -> Box:
    """What is left of a box around clean stacks where only the newest frame is still to be perturbed.

    Args:
        box: of the whole stack [K, frames, ...], oldest frame first.
        previous: [K, frames, ...] what was added at the decision before, when each of these frames but the newest was
            one place newer: there it stays.
    """
    aged = _clamp_(box.center[:, :-1] + previous[:, 1:], box.low, box.high)
    radius = torch.zeros_like(box.center[0])
    radius[-1] = box.radius
    return box._replace(center=torch.cat((aged, box.center[:, -1:]), 1), radius=radius)


def eight_bit(x: Tensor, box: Box) -> Tensor:
    """The grey levels n / 255 nearest to x within the box, whose centre is of such levels."""
    rounding = 1e-4  # of a grey level; float32 is wrong by less
    lowest, highest = (
        _clamp_(side, box.low, box.high) for side in (box.center - box.radius, box.center + box.radius)
    )
    lowest, highest = (PIXEL_MAX * lowest - rounding).ceil_(), (PIXEL_MAX * highest + rounding).floor_()
    return (PIXEL_MAX * x).round_().clamp_(lowest, highest) / PIXEL_MAX


# Noise -----------------------------------------------------------------------------------------------


def _drawn(
    box: Box,
    generators: Sequence[np.random.Generator],
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> Tensor:
    """One draw a row, [K, *observation]."""
    shape = tuple(box.center.shape[1:])
    drawn = np.stack([draw(generator, shape) for generator in generators])
    return torch.as_tensor(drawn, device=box.center.device).to(box.center.dtype)


def _signs(box: Box, generators: Sequence[np.random.Generator]) -> Tensor:
    """+1 or -1 by chance, [K, *observation], from one random bit each."""
    count = box.center[0].numel()

    def bits(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        octets = np.frombuffer(generator.bytes(-(-count // 8)), dtype=np.uint8)
        return np.unpackbits(octets, count=count).reshape(shape)

    return 2 * _drawn(box, generators, bits) - 1


def random_sign(box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """The control of FGSM: every element moves by epsilon, up or down by chance."""
    bits = _drawn(box, generators, lambda generator, shape: generator.integers(2, size=shape))
    return box.shown(epsilon * (2 * bits - 1))


def uniform(box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Every element moves by up to epsilon, all sizes being as likely."""
    return box.shown(uniform_start(box, epsilon, generators))


def uniform_start(box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """The change [K, *observation] that `uniform` makes, for PGD to begin with."""
    shares = _drawn(
        box, generators, lambda generator, shape: generator.random(shape, dtype=np.float32)
    )  # [0, 1)
    return box.change(epsilon * (2 * shares - 1))


def gaussian(box: Box, epsilon: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Normal noise of standard deviation epsilon, clipped at epsilon (which a third of all elements reach)."""
    noise = _drawn(
        box, generators, lambda generator, shape: generator.standard_normal(shape, dtype=np.float32)
    )
    return box.shown(epsilon * noise)


# Along a gradient ------------------------------------------------------------------------------------


def input_gradient(source: Scores, x: Tensor, goal: Goal) -> Tensor:
    """Gradient [K, *observation] of the goal in the inputs x; none of a weight is computed."""
    return _gradient_and_scores(source, x, goal)[0]


def _gradient_and_scores(source: Scores, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = source(x)
        (gradient,) = torch.autograd.grad(goal.value(scores).sum(), x)
    return gradient, scores.detach()


class Followed(NamedTuple):
    """What an attack along a gradient made of K rows."""

    inputs: Tensor
    """[K, *observation]."""
    zero_gradient: Tensor
    """[K] bool: the first gradient was zero everywhere."""
    scores: Tensor | None
    """[K, A] what the source says of the inputs, which the next step had to know; None after the last step."""


def iterates(
    source: Scores,
    goal: Goal,
    box: Box,
    *,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    start: Tensor | None = None,
) -> Iterator[Followed]:
    """Where each step of projected gradient descent leads (Madry et al. 2018, arXiv 1706.06083), with the momentum of
    MI-FGSM (Dong et al. 2018, arXiv 1710.06081, algorithm 1).

    g <- momentum g + grad / mean |grad|;  delta <- box(delta + step_size sign(g)).

    Args:
        source: whose gradient is followed.
        goal: what is increased.
        box: where it may go.
        steps: gradients that are followed, at least 1.
        step_size: in network-input units.
        momentum: share of the last g that is kept; 0 keeps none.
        start: [K, *observation] change to begin with, within the box; None begins at its centre.
    """
    delta = torch.zeros_like(box.center) if start is None else start
    inputs = box.center + delta
    zero_gradient = torch.ones(len(delta), dtype=torch.bool, device=delta.device)
    velocity: Tensor | None = None
    for step in range(steps):
        gradient, scores = _gradient_and_scores(source, inputs, goal)
        if step == 0:
            zero_gradient = ~gradient.flatten(1).any(1)
        else:
            yield Followed(inputs, zero_gradient, scores)
        if momentum:
            mean = gradient.abs().mean(tuple(range(1, gradient.dim())), keepdim=True)
            gradient = gradient / mean.clamp_min_(torch.finfo(gradient.dtype).tiny)
            velocity = gradient if velocity is None else momentum * velocity + gradient
            gradient = velocity
        delta = box.change(torch.add(delta, gradient.sign(), alpha=step_size))
        inputs = box.inputs(delta)
    yield Followed(inputs, zero_gradient, None)


def pgd(source: Scores, goal: Goal, box: Box, **how: Any) -> Followed:
    """The last of `iterates`, which takes the same arguments: projected gradient descent as it is published."""
    *_, last = iterates(source, goal, box, **how)
    return last


def fgsm(source: Scores, goal: Goal, box: Box, epsilon: float) -> Followed:
    """Fast gradient sign method (Goodfellow et al. 2015; on policies: Huang et al. 2017, arXiv 1702.02284).

    x' = clip(x + epsilon sign(grad_x loss)): one step of `pgd` as long as the ball's radius.
    """
    return pgd(source, goal, box, steps=1, step_size=epsilon)


# By queries only ---------------------------------------------------------------------------------------


@torch.no_grad()
def worst_of(judge: Scores, goal: Goal, candidates: Iterable[Tensor]) -> Tensor:
    """Of candidates [K, *observation], or [n K, *observation] for n at once, the worst for each row: one that reaches
    the goal before any that does not, then the one of the largest value; of equals the first."""
    return worst_of_judged(goal, ((several, judge(several)) for several in candidates))


@torch.no_grad()
def worst_of_judged(goal: Goal, judged: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The same, of candidates that come with their scores [K, A], or [n K, A]."""
    kept: tuple[Tensor, Tensor, Tensor] | None = None
    for several, its_scores in judged:
        shape = (-1, len(goal.action))
        scores = its_scores.unflatten(0, shape)  # [n, K, A]
        each = zip(several.unflatten(0, shape), goal.reached(scores), goal.value(scores), strict=True)
        for candidate, reached, value in each:
            if kept is None:
                kept = candidate.clone(), reached, value
                continue
            worst, its_reached, its_value = kept
            better = (reached & ~its_reached) | ((reached == its_reached) & (value > its_value))
            worst[better] = candidate[better]
            kept = worst, torch.where(better, reached, its_reached), torch.where(better, value, its_value)
    if kept is None:
        raise ValueError("there is no worst of no candidates")
    return kept[0]


@torch.no_grad()
def spsa(
    judge: Scores,
    goal: Goal,
    box: Box,
    *,
    steps: int,
    step_size: float,
    probe: float,
    queries: int,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """Simultaneous perturbation stochastic approximation (Spall 1992; as an attack: Uesato et al. 2018,
    arXiv 1802.05666), of which signed steps are made, as `pgd` makes them.

    g = sum over pairs of (L(x + probe v) - L(x - probe v)) v, with signs v by chance.

    Args:
        judge: what is asked: the victim.
        goal, box, steps, step_size: as of `pgd`.
        probe: how far queries lie from where it is, in network-input units; they stay in the box.
        queries: in all, shared evenly by the steps, two a pair.
        generators: one a row.
    """
    delta = torch.zeros_like(box.center)
    for _ in range(steps):
        gradient = torch.zeros_like(delta)
        for _ in range(queries // (2 * steps)):
            signs = _signs(box, generators)
            both = torch.cat((box.shown(delta + probe * signs), box.shown(delta - probe * signs)))
            values = goal.value(judge(both).unflatten(0, (2, len(delta))))  # [2, K]
            gradient += (values[0] - values[1]).view(-1, *[1] * (delta.dim() - 1)) * signs
        delta = box.change(delta + step_size * gradient.sign())
    return box.shown(delta)


SQUARE_SHARE = 0.8
"""Share of the frame that a square covers at first (Croce & Hein 2020, AutoAttack)."""
SQUARE_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries it is halved (Andriushchenko et al. 2020, section 3.1)."""


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side of the square of a query, counted from 0."""
    halvings = sum(query * 10_000 > queries * when for when in SQUARE_HALVINGS)
    side = round(math.sqrt(SQUARE_SHARE / 2**halvings * height * width))
    return min(max(side, 1), height, width)


@torch.no_grad()
def _searched(
    judge: Scores,
    goal: Goal,
    box: Box,
    first: Tensor,
    propose: Callable[[int, Tensor, list[int]], Tensor],
    queries: int,
) -> Tensor:
    """The worst change [K, *observation] of a first one and of others by chance.

    Args:
        judge: what is asked: the victim. Of a row whose goal is reached it is asked no more.
        goal, box: as of `pgd`.
        first: [K, *observation] change.
        propose: (query, worst changes so far [k, *observation], their rows) -> changes [k, *observation] to try.
        queries: for each row, at most.
    """
    worst = first
    scores = judge(box.shown(worst))
    value, reached = goal.value(scores), goal.reached(scores)
    for query in range(1, queries):
        left = (~reached).nonzero().flatten()
        if len(left) == 0:
            break
        tried = propose(query, worst[left], left.tolist())
        scores = judge(box.rows(left).shown(tried))
        its_goal = goal.rows(left)
        its_value, its_reached = its_goal.value(scores), its_goal.reached(scores)
        better = its_reached | (its_value > value[left])
        changed = left[better]
        worst[changed], value[changed] = tried[better], its_value[better]
        reached[changed] = its_reached[better]
    return box.shown(worst)


def square(
    judge: Scores,
    goal: Goal,
    box: Box,
    epsilon: float,
    *,
    queries: int,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """Square attack (Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 and 2 for l_inf): vertical stripes of
    +-epsilon, in which squares of +-epsilon are put by chance, and kept if the goal's value rose.

    Args:
        judge: what is asked: the victim. Of a row whose goal is reached it is asked no more.
        goal, box: as of `pgd`, for inputs [K, channels, height, width].
        epsilon: radius of the ball that the box is cut from.
        queries: for each row, at most.
        generators: one a row.
    """
    rows, channels, height, width = box.center.shape

    def signs(row: int, columns: int) -> Tensor:
        drawn = generators[row].integers(2, size=(channels, 1, columns))
        return epsilon * torch.as_tensor(2 * drawn - 1, device=box.center.device).to(box.center.dtype)

    def with_a_square(query: int, worst: Tensor, left: list[int]) -> Tensor:
        side = square_side(query, queries, height, width)
        for place, row in enumerate(left):
            top, edge = (int(generators[row].integers(size - side + 1)) for size in (height, width))
            worst[place, :, top : top + side, edge : edge + side] = signs(row, 1)
        return worst

    stripes = torch.stack([signs(row, width).expand(-1, height, -1) for row in range(rows)])
    return _searched(judge, goal, box, stripes, with_a_square, queries)


Draw = Callable[[Box, float, Sequence[np.random.Generator]], Tensor]
"""`random_sign`, `uniform` or `gaussian`."""


def worst_draw(
    judge: Scores,
    goal: Goal,
    box: Box,
    epsilon: float,
    draw: Draw,
    *,
    queries: int,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """Of so many draws of noise the worst for each row: the control of attacks that ask the victim as often.

    Args:
        judge, goal, box, epsilon, queries, generators: as of `square`.
        draw: the noise.
    """

    def again(query: int, worst: Tensor, left: list[int]) -> Tensor:
        chosen = torch.tensor(left, device=box.center.device)
        chances = [generators[row] for row in left]
        return draw(box.rows(chosen), epsilon, chances) - box.center[chosen]

    return _searched(judge, goal, box, draw(box, epsilon, generators) - box.center, again, queries)


# Controls outside the l_p balls --------------------------------------------------------------------------


def brightness(judge: Scores, goal: Goal, box: Box, epsilon: float) -> Tensor:
    """All of the input brighter by epsilon, or darker, whichever is worse."""
    everywhere = torch.full_like(box.center, epsilon)
    return worst_of(judge, goal, (box.shown(everywhere), box.shown(-everywhere)))


def occlusion(
    judge: Scores,
    goal: Goal,
    box: Box,
    share: float,
    *,
    queries: int,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """A square of the lowest value (black; on planes: nothing there), the same in all channels, on the worst of places
    drawn by chance.

    Args:
        judge: what is asked: the victim.
        goal: as of `pgd`.
        box: of unlimited radius where something may change, for inputs [K, channels, height, width].
        share: of the frame's area that the square covers, up to 1; its side is rounded.
        queries: places that are tried.
        generators: one a row.
    """
    height, width = box.center.shape[2:]
    side = min(round(math.sqrt(share * height * width)), height, width)

    def covered() -> Iterator[Tensor]:
        for _ in range(queries):
            delta = torch.zeros_like(box.center)
            for row, generator in enumerate(generators):
                top, edge = (int(generator.integers(size - side + 1)) for size in (height, width))
                delta[row, :, top : top + side, edge : edge + side] = -math.inf
            yield box.shown(delta)

    return worst_of(judge, goal, covered())
