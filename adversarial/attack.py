"""The registry of attacks, and what an attack is.

An attack is one file: a frozen dataclass of options that derives from `Attack`, is registered by its name, and computes
perturbed inputs. What is built in lies in adversarial/attacks; an extension registers its own the same way:

    @ATTACKS.register("my-attack")
    @dataclass(frozen=True)
    class MyAttack(Attack):
        kind: ClassVar[AttackerKind] = "black-box"

        def perturb(self, problem: Problem) -> Found: ...
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from torch import Tensor

from adversarial.box import Box
from adversarial.goals import Goal, Scores, goal
from adversarial.ranges import AttackSteps, Epsilon
from analysis.attackers import AttackerKind
from core.choices import Loss
from core.errors import Refusal
from core.games import Game
from core.ranges import require_ranges
from core.registry import Registry

KINDS: tuple[AttackerKind, ...] = ("white-box", "black-box", "noise", "control")
"""Kinds of attackers that an attack can be of. A transfer is a white-box attack on another network."""


@dataclass(frozen=True)
class Problem:
    """K states that are attacked, and what the attacker may use."""

    goal: Goal
    """What is wanted of the victim's scores."""
    box: Box
    """Where the inputs may lie."""
    epsilon: float
    """Size of the attack. Inputs are divided by the game's scale, so one size holds for all elements."""
    generators: Sequence[np.random.Generator]
    """One for each state. All of an attack's randomness comes from them."""
    victim: Scores
    """The attacked network. Every call is a query."""
    source: Scores | None = None
    """The network whose gradient white-box attacks follow."""
    same_scores: bool = False
    """Whether the source's scores are the victim's, so that the victim need not be asked again."""

    @property
    def gradient_source(self) -> Scores:
        """The source, where there must be one."""
        if self.source is None:
            raise ValueError("this attack follows a gradient, and no source of gradients was given")
        return self.source


class Found(NamedTuple):
    """What an attack made of K states."""

    inputs: Tensor
    """[K, *observation] the perturbed inputs, within the box and rounded as it asks."""
    zero_gradient: Tensor | None = None
    """[K] bool: the first gradient was zero everywhere; None of an attack that follows no gradient."""


@dataclass(frozen=True)
class Attack(abc.ABC):
    """Options of one attack. Subclasses are frozen dataclasses with a default for every field.

    Numbers declare what they accept (`core.ranges`), and others are refused.

    Raises:
        Refusal: an option is out of range.
    """

    kind: ClassVar[AttackerKind]
    """What the attacker knows of the victim. Only a white-box attack is given a source of gradients."""
    norm: ClassVar[Literal["l_inf", "patch"]] = "l_inf"
    """What epsilon is the size of: every element's change, or a patch that may change without limit."""
    targeted: ClassVar[bool] = False
    """Whether the goal is the worst action of the clean scores, and not any other than the best."""
    needs_image: ClassVar[bool] = False
    """Whether observations must be images."""
    most_epsilon: ClassVar[float] = math.inf
    """Largest accepted size."""
    takes: ClassVar[tuple[str, ...]] = ("loss",)
    """Which of the command line's lists it takes: loss, steps, restarts, draws. See `variant`."""

    loss: Loss | Literal[""] = "cross-entropy"
    """Loss that is increased."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kind = getattr(cls, "kind", None)
        if kind not in KINDS and (kind is not None or "perturb" in vars(cls)):
            raise Refusal(f"kind of attack {cls.__name__} is {kind!r}: accepted are {', '.join(KINDS)}")

    def __post_init__(self) -> None:
        if self.loss not in (*get_args(Loss), ""):
            raise Refusal(f"loss {self.loss!r}: accepted are {', '.join(get_args(Loss))}")
        if self.targeted and self.loss == "value":
            raise Refusal("loss 'value' leads to no action: targeted attacks take cross-entropy or margin")
        require_ranges(self)

    @property
    def name(self) -> str:
        """The name that it is registered by."""
        return ATTACKS.name_of(type(self))

    @property
    def label(self) -> str:
        """Its name and what tells its variants apart, for progress lines."""
        return self.name

    @classmethod
    def variant(cls, **values: Any) -> Self:
        """The attack with one value of each command-line list that it `takes`."""
        return cls(**values)

    def recorded(self, epsilon: float) -> dict[str, Any]:
        """What rows tell of the attack beside its name: every option, as JSON-able values.

        Args:
            epsilon: size of the attack, from which an option may follow.
        """
        return {"norm": self.norm, "targeted": self.targeted, **asdict(self)}

    @property
    def asks(self) -> bool:
        """Whether it asks the victim for its scores, to choose among inputs."""
        return True

    def require_fit(self, game: Game, epsilon: float) -> None:
        """Refuse a game that the attack cannot be made on, or a size that it does not have."""
        if epsilon > self.most_epsilon:
            raise Refusal(f"epsilon is {epsilon}: {self.name} takes at most {self.most_epsilon:g}")
        if self.needs_image and len(game.observation_shape) != 3:
            raise Refusal(f"{game.name} shows no image, which {self.name} needs")

    def goal(self, clean_scores: Tensor) -> Goal:
        """What is wanted of states with clean scores [K, A]."""
        return goal(clean_scores, self.loss or "cross-entropy", self.targeted)

    @abc.abstractmethod
    def perturb(self, problem: Problem) -> Found:
        """Perturbed inputs for K states."""


ATTACKS: Registry[type[Attack]] = Registry("attack", package="adversarial.attacks")
"""All attacks, by name."""


@dataclass(frozen=True)
class SteppedAttack(Attack, abc.ABC):
    """An attack that takes steps of one length."""

    stride: ClassVar[float] = 2.5
    """Usual length of all steps together, in epsilons: 2.5 lets them cross the ball (Madry et al. 2018)."""

    steps: AttackSteps = 10
    """Number of steps."""
    step_size: Epsilon | None = None
    """Length of a step, in units of epsilon's. None: `stride` epsilons, divided by the number of steps."""

    def step_length(self, epsilon: float) -> float:
        """Length of a step of an attack of a size."""
        return self.stride * epsilon / self.steps if self.step_size is None else self.step_size

    def recorded(self, epsilon: float) -> dict[str, Any]:
        return {**super().recorded(epsilon), "step_size": self.step_length(epsilon)}
