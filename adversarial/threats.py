"""Threat models: who perturbs what, how much, knowing what. A value that is stored whole with every row, and from which
the attack itself is made, so that no row can claim another one."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from adversarial import perturbations
from adversarial.perturbations import Box, Followed, Goal, Loss, Scores
from core.errors import Refusal
from core.games import Game
from play.environments import bounds, scale
from play.rollout import Perturb, Perturbed

Noise = Literal["random-sign", "uniform", "gaussian"]
WhiteBox = Literal["fgsm", "pgd", "mi-fgsm", "targeted-pgd"]
"""Attacks along a gradient: the victim's own, or one that stands for it."""
BlackBox = Literal["spsa", "square"]
"""Attacks that ask the victim for scores, and nothing else."""
Control = Literal["occlusion", "brightness"]
"""Changes that a screen knows and that no l_p ball describes."""
Attack = Literal[
    "random-sign", "uniform", "gaussian",
    "fgsm", "pgd", "mi-fgsm", "targeted-pgd",
    "spsa", "square",
    "occlusion", "brightness",
]  # fmt: skip
NOISE: tuple[str, ...] = get_args(Noise)
WHITE_BOX: tuple[str, ...] = get_args(WhiteBox)
BLACK_BOX: tuple[str, ...] = get_args(BlackBox)
ATTACKS: tuple[str, ...] = get_args(Attack)
MOST_EPSILON = 1e6
"""More than any observation's scale, and far from where float32 ends."""

Scope = Literal["whole-stack", "newest-frame"]
"""What may change at a decision. whole-stack: all that the agent sees, anew at every decision: the literature's
default, and more than an attacker in front of the screen can do. newest-frame: the frame that is new; what was added to
the others stays in the stack as they age."""
SCOPES: tuple[str, ...] = get_args(Scope)


def require_epsilon(epsilon: float) -> None:
    """Refuse sizes that are no size."""
    if not 0.0 <= epsilon <= MOST_EPSILON:
        raise Refusal(
            f"epsilon is {epsilon}: accepted is 0 to {MOST_EPSILON:,.0f}, in the game's scale "
            "(of pixels 1: 1/255 is one grey level)"
        )


@dataclass(frozen=True)
class Threat:
    """One threat model. `make_threat` fills in what an attack leaves open."""

    attack: str
    """What is done (`Attack`); none for the clean game."""
    epsilon: float
    """Radius of the l_inf ball, in the game's scale (core/games.py), which of pixels is 1; of brightness the shift, of
    occlusion the share of the frame that is covered."""
    norm: str = "l_inf"
    """What epsilon is the size of: l_inf, or patch (of occlusion)."""
    bounds: str = ""
    """Within which the perturbed inputs stay: lowest to highest value of each element, or of all; and what epsilon is
    counted in, if that is not 1."""
    scope: Scope = "whole-stack"
    eight_bit: bool = False
    """Whether perturbed inputs are rounded to the grey levels that a screen can show."""
    loss: Loss | Literal[""] = ""
    """What is increased; empty for noise that does not ask."""
    targeted: bool = False
    """Whether it leads to the worst action of the clean scores, and not away from the best."""
    gradient_source: str = ""
    """Whose gradient is followed (adversarial/sources.py); empty for attacks that follow none."""
    surrogate: str = ""
    """Surrogate family and width of that gradient, if any."""
    sim_steps: int = 0
    """Simulation steps that the gradient goes through; 0 without time."""
    steps: int = 0
    """Gradients that are followed; 0 for attacks without steps."""
    step_size: float = 0.0
    """Of each, in units of epsilon's."""
    momentum: float = 0.0
    random_start: bool = False
    """Whether the first step begins somewhere in the ball by chance, or at its centre."""
    restarts: int = 0
    """How often it begins; of all steps of all starts the worst for each state is kept, as the victim's scores say. 0
    without steps."""
    queries: int = 0
    """How often the victim is asked about each state, at most: by attacks by queries, and by noise that is drawn so
    often, the worst being kept; 0 for attacks that do not ask."""
    frequency: float = 1.0
    """Share of decisions that are attacked: those in which most is at stake ..."""
    gap_threshold: float = 0.0
    """... which is where the clean scores' largest and smallest lie at least so far apart (Lin et al. 2017, arXiv
    1703.06748, without their softmax); see `gap_threshold`."""
    seed: int = 0
    """Of the attack's chance, which is each episode's (or state's) own."""

    def __post_init__(self) -> None:
        require_epsilon(self.epsilon)
        if self.attack not in (*ATTACKS, "none"):
            raise Refusal(f"attack {self.attack!r}: accepted are {', '.join(ATTACKS)}")
        if self.scope not in SCOPES:
            raise Refusal(f"scope {self.scope!r}: accepted are {', '.join(SCOPES)}")
        if self.norm not in ("l_inf", "patch"):
            raise Refusal(f"norm {self.norm!r}: accepted are l_inf, patch")
        if self.loss not in (*get_args(Loss), ""):
            raise Refusal(f"loss {self.loss!r}: accepted are {', '.join(get_args(Loss))}")
        if self.attack == "targeted-pgd" and not self.targeted:
            raise Refusal("targeted-pgd leads to a target; the attack that does not is pgd")
        if self.targeted and self.loss == "value":
            raise Refusal("loss 'value' leads to no action: targeted attacks take cross-entropy or margin")
        if not 0.0 < self.frequency <= 1.0:
            raise Refusal(
                f"frequency is {self.frequency}: accepted is a share of decisions, over 0 and up to 1"
            )
        if not 0.0 <= self.momentum < math.inf or not 0.0 <= self.step_size < math.inf:
            raise Refusal(
                f"momentum is {self.momentum} and step size {self.step_size}: accepted is 0 or more"
            )
        if not 0.0 <= self.gap_threshold < math.inf:
            raise Refusal(f"gap threshold is {self.gap_threshold}: accepted is 0 or more")
        if self.attack == "fgsm" and self.steps != 1:
            raise Refusal(f"steps of fgsm is {self.steps}: it takes 1; pgd takes more")
        for name, least in _LEAST.get(self.attack, {}).items():
            if getattr(self, name) < least:
                raise Refusal(f"{name} of {self.attack} is {getattr(self, name)}: at least {least} is needed")
        if self.attack in NOISE and self.queries > 0 and not self.loss:
            raise Refusal(f"queries of {self.attack} is {self.queries}: the worst by which loss?")
        if self.restarts > 1 and not self.random_start:
            raise Refusal(f"restarts is {self.restarts}: without a random start all would be the same")
        if self.attack == "spsa" and self.queries < 2 * self.steps:
            raise Refusal(
                f"queries of spsa is {self.queries}: each of its {self.steps} steps needs at least 2"
            )
        if self.attack == "occlusion" and self.epsilon > 1.0:
            raise Refusal(f"epsilon is {self.epsilon}: occlusion covers a share of the frame, up to 1")

    @property
    def follows_gradient(self) -> bool:
        return self.attack in WHITE_BOX


_DRAWS: Mapping[str, perturbations.Draw] = {
    "random-sign": perturbations.random_sign,
    "uniform": perturbations.uniform,
    "gaussian": perturbations.gaussian,
}
_LEAST: Mapping[str, Mapping[str, int]] = {
    **{attack: {"steps": 1, "restarts": 1} for attack in WHITE_BOX},
    "spsa": {"steps": 1, "queries": 2},
    "square": {"queries": 1},
    "occlusion": {"queries": 1},
}
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "fgsm": {"loss": "cross-entropy", "steps": 1, "restarts": 1},
    "pgd": {"loss": "cross-entropy", "steps": 10, "restarts": 1, "random_start": True},
    "mi-fgsm": {"loss": "cross-entropy", "steps": 10, "restarts": 1, "momentum": 1.0},
    "targeted-pgd": {
        "loss": "cross-entropy", "steps": 10, "restarts": 1, "random_start": True, "targeted": True
    },
    "spsa": {"loss": "margin", "steps": 10, "queries": 1280},
    "square": {"loss": "margin", "queries": 500},
    "occlusion": {"loss": "margin", "queries": 16, "norm": "patch"},
    "brightness": {"loss": "margin", "queries": 2},
}  # fmt: skip
"""What an attack is unless a caller says otherwise. Momentum: Dong et al. 2018."""
_STRIDE: Mapping[str, float] = {"fgsm": 1.0, "pgd": 2.5, "mi-fgsm": 1.0, "targeted-pgd": 2.5, "spsa": 2.5}
"""Step size times steps, in epsilon: so that PGD can cross the ball (Madry et al. 2018: 2.5); Dong et al.: 1."""


def make_threat(attack: str, epsilon: float, game: Game, **changes: Any) -> Threat:
    """The threat model of an attack as the literature has it, but for `changes`, which are fields of Threat.

    At epsilon 0 nothing is done, and the threat is "none".
    """
    require_epsilon(epsilon)
    low, high = (
        ", ".join("unbounded" if math.isinf(value) else f"{value:g}" for value in side)
        for side in (game.low, game.high)
    )
    within = f"{low} to {high}"
    if game.scale != (1.0,):
        within += f"; epsilon in units of {', '.join(f'{unit:g}' for unit in game.scale)}"
    if epsilon == 0.0:
        return Threat("none", 0.0, bounds=within)
    threat = Threat(attack, epsilon, **{"bounds": within, **_USUAL.get(attack, {}), **changes})
    if attack in _STRIDE and "step_size" not in changes:
        threat = replace(threat, step_size=_STRIDE[attack] * epsilon / threat.steps)
    _require_fit(threat, game)
    return threat


def _require_fit(threat: Threat, game: Game) -> None:
    """Refuse what a game's observations do not know."""
    if game.tier != "atari" and threat.scope == "newest-frame":
        raise Refusal(f"{game.name} shows no stack of frames: its scope is whole-stack")
    if game.tier != "atari" and threat.eight_bit:
        raise Refusal(f"{game.name} shows no grey levels: eight_bit is for Atari games")
    if len(game.observation_shape) != 3 and threat.attack in ("square", "occlusion"):
        raise Refusal(f"{game.name} shows no image, which {threat.attack} needs")


def gaps(scores: Tensor) -> Tensor:
    """What is at stake in each of [K, A] clean scores: the largest minus the smallest, [K]."""
    return scores.amax(-1) - scores.amin(-1)


def gap_threshold(clean_scores: Tensor, frequency: float) -> float:
    """The least of the largest gaps that make up a share of the states whose scores [S, A] these are."""
    if not 0.0 < frequency <= 1.0:
        raise Refusal(f"frequency is {frequency}: accepted is a share of decisions, over 0 and up to 1")
    found = gaps(clean_scores).sort(descending=True).values
    return float(found[max(round(frequency * len(found)), 1) - 1])


def perturber(
    threat: Threat,
    game: Game,
    victim: nn.Module,
    source: nn.Module | None = None,
    *,
    says_the_same: bool = False,
) -> Perturb | None:
    """The hook of a rollout that a threat model describes; None for the clean game.

    What it returns is judged again by the evaluator: size, bounds and the victim's new decision are measured there.

    Args:
        threat: see `make_threat`.
        game: whose observations are perturbed.
        victim: [B, *observation] -> [B, A] scores; asked by attacks that query it, and about restarts, as at an
            episode's start, whatever it carries from decision to decision.
        source: the same of what the gradient is taken through (attacks along a gradient need one), fastest if it is
            `adversarial.frozen`.
        says_the_same: whether the source's scores are the victim's, which then need not be asked again.
    """
    if threat.attack == "none":
        return None
    _require_fit(threat, game)
    if threat.follows_gradient and source is None:
        raise Refusal(f"{threat.attack} follows a gradient: of whom?")
    device = next((parameter.device for parameter in victim.parameters()), torch.device("cpu"))
    low, high = bounds(game, device)
    radius = math.inf if threat.attack == "occlusion" else threat.epsilon
    judge: Scores = victim
    followed: Scores | None = source
    # Attacks know of one size for all elements, so where elements have scales of their own they work on inputs divided
    # by these.
    unit = None if game.scale == (1.0,) else scale(game, device)
    if unit is not None:
        low, high = low / unit, high / unit
        judge, followed = _of_scaled(victim, unit), None if followed is None else _of_scaled(followed, unit)

    def perturb(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        box = perturbations.ball(inputs if unit is None else inputs / unit, radius, low, high)
        box = box._replace(grey_levels=threat.eight_bit)
        if threat.scope == "newest-frame":
            box = perturbations.newest_frame_only(box, previous)
        perturbed = inputs if unit is not None else box.center
        zero_gradient = np.full(len(inputs), math.nan)
        chosen = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        if threat.frequency < 1.0:
            chosen = gaps(scores) >= threat.gap_threshold
        if not bool(chosen.any()):
            return Perturbed(perturbed, zero_gradient, chosen.cpu().numpy())
        everyone = bool(chosen.all())
        its_goal = perturbations.goal(scores, threat.loss or "cross-entropy", threat.targeted)
        if everyone:
            found, vanished = _attack(threat, its_goal, box, generators, judge, followed, says_the_same)
        else:
            chances = [chance for chance, taken in zip(generators, chosen.tolist(), strict=True) if taken]
            found, vanished = _attack(
                threat, its_goal.rows(chosen), box.rows(chosen), chances, judge, followed, says_the_same
            )
        if unit is not None:
            found = (found * unit).clamp(*bounds(game, device))
        if everyone:
            perturbed = found
        else:
            perturbed = perturbed.clone()
            perturbed[chosen] = found
        if vanished is not None:
            zero_gradient[chosen.cpu().numpy()] = vanished.double().cpu().numpy()
        return Perturbed(perturbed, zero_gradient, chosen.cpu().numpy())

    return perturb


def _of_scaled(network: Scores, unit: Tensor) -> Scores:
    """What a network says of inputs that were divided by a unit."""
    return lambda scaled: network(scaled * unit)


def _attack(
    threat: Threat,
    goal: Goal,
    box: Box,
    generators: Sequence[np.random.Generator],
    victim: Scores,
    source: Scores | None,
    says_the_same: bool,
) -> tuple[Tensor, Tensor | None]:
    """Perturbed inputs [K, *observation], and, of an attack along a gradient, where it was zero [K]."""
    epsilon = threat.epsilon

    match threat.attack:
        case "random-sign" | "uniform" | "gaussian":
            draw = _DRAWS[threat.attack]
            if threat.queries > 1:
                found = perturbations.worst_draw(
                    victim, goal, box, epsilon, draw, queries=threat.queries, generators=generators
                )
            else:
                found = draw(box, epsilon, generators)
        case "spsa":
            found = perturbations.spsa(
                victim, goal, box, steps=threat.steps, step_size=threat.step_size, probe=epsilon,
                queries=threat.queries, generators=generators,
            )  # fmt: skip
        case "square":
            found = perturbations.square(
                victim, goal, box, epsilon, queries=threat.queries, generators=generators
            )
        case "occlusion":
            found = perturbations.occlusion(
                victim, goal, box, epsilon, queries=threat.queries, generators=generators
            )
        case "brightness":
            found = perturbations.brightness(victim, goal, box, epsilon)
        case _:
            assert source is not None
            return _along_gradient(threat, goal, box, generators, victim, source, says_the_same)
    return found, None


def _along_gradient(
    threat: Threat,
    goal: Goal,
    box: Box,
    generators: Sequence[np.random.Generator],
    victim: Scores,
    source: Scores,
    says_the_same: bool,
) -> tuple[Tensor, Tensor]:
    """Of all steps from all starts the worst for the victim."""
    start = None
    if threat.random_start:
        starts = (
            perturbations.uniform_start(box, threat.epsilon, generators) for _ in range(threat.restarts)
        )
        start = torch.cat([*starts])
    # All starts side by side: a batch as large costs less than as many batches.
    its_goal, its_box = goal.times(threat.restarts), box.times(threat.restarts)
    iterates = perturbations.iterates(
        source, its_goal, its_box, steps=threat.steps, step_size=threat.step_size, momentum=threat.momentum, start=start
    )  # fmt: skip

    def judged(each: Followed) -> tuple[Tensor, Tensor]:
        """What is shown, and what the victim says of it."""
        if says_the_same and each.scores is not None and not box.grey_levels:
            return each.inputs, each.scores
        inputs = its_box.rounded(each.inputs)
        return inputs, victim(inputs)

    first = next(iterates)
    if threat.steps == threat.restarts == 1:  # there is nothing to choose from
        found = box.rounded(first.inputs)
    else:
        found = perturbations.worst_of_judged(goal, map(judged, itertools.chain([first], iterates)))
    return found, first.zero_gradient[: len(box.center)]
