"""Command-line options of attacks. Never imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from adversarial.ranges import AttackSteps, Epsilon, Frequency, Queries, Restarts
from core.choices import Loss, Scope
from core.cli import OneOf
from core.ranges import EpisodeCount, Seed, StateCount
from play.options import AnAgent, ComputeOptions, GameOfAgent, PlayOptions

if TYPE_CHECKING:
    from core.workload import Workload
    from play.expected import Expected


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What an attack may change, and when."""

    scope: Scope = "whole-stack"
    """What may change at a decision. With newest-frame, what was added before stays in the stack as it ages."""
    eight_bit: bool = False
    """Round perturbed frames to the grey levels of a screen."""
    frequency: Frequency = 1.0
    """Share of decisions that are attacked: those in which most is at stake."""


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """Whose gradient is followed, besides the victim's usual one."""

    best_source: bool = False
    """Also follow the gradient that changes most choices at each size. It is sought over surrogate families and widths,
    rates and twins. Without it, only the gradient that costs no search is followed: the victim's own, or that of a
    converted network's weights with ReLU."""
    twin: Annotated[
        str | None,
        AnAgent("The DQN that a quantised or converted victim was made from, for --best-source."),
    ] = None
    transfer: Annotated[
        tuple[str, ...],
        AnAgent("Other agents of the game. The victim is also attacked along their gradients."),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class AttackOptions(LimitOptions, GradientOptions, ComputeOptions):
    """Which attacks are made, and how strong they are."""

    agent: Annotated[str, AnAgent("The victim.", random=False)]
    out: Path
    """Folder for the rows. The same command again continues an attack that was killed."""
    attack: Annotated[tuple[str, ...], OneOf("Names of attacks.", "adversarial.attack:ATTACKS")] = (
        "fgsm",
        "random-sign",
    )
    epsilon: tuple[Epsilon, ...] = (0.0, 0.001, 1 / 255)
    """Sizes of the attacks, l_inf in network-input units; fractions are allowed (1/255 is one grey level). 0 is the
    clean game."""
    steps: tuple[AttackSteps, ...] = (10,)
    """Number of gradients of pgd, mi-fgsm and targeted-pgd. Each number makes an attack."""
    restarts: tuple[Restarts, ...] = (1,)
    """Number of random starts of pgd and targeted-pgd, of which each state keeps the worst. Each number makes an
    attack."""
    draws: tuple[Queries, ...] = (1,)
    """Number of draws of noise, of which each state keeps the worst. Each number makes an attack. The control of an
    attack by queries draws as often as it asks (square: 500 times)."""
    loss: tuple[Loss, ...] = ()
    """Loss that is increased: cross-entropy, margin or value. Each makes an attack. Default: the attack's usual one."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE ...")] = ()
    """Other options of the attacks, as in momentum=0.9. Each goes to all attacks that have it."""


@dataclass(frozen=True, kw_only=True)
class Run(AttackOptions, PlayOptions):
    """Play whole games while observations are perturbed; one row an episode (OUT/attacks.parquet).

    Episodes have the same starts for every agent, attack and size.

    Examples:
        spikeq attack run --agent results/agents/cartpole-dsqn-s0.safetensors --epsilon 0 0.05 --out runs/attacked
        spikeq attack run --agent runs/dsqn --attack pgd --steps 10 20 --restarts 3 --best-source --out runs/pgd
    """

    episodes: EpisodeCount = 10
    """Games for every attack and size."""
    record: bool = False
    """Also film the first game of each (OUT/*.mp4)."""

    def run(self) -> None:
        from adversarial.games import AttackOnGames

        AttackOnGames(**vars(self)).run()

    def workload(self, expected: "Expected") -> "Workload":
        from adversarial.workload import of_games

        return of_games(self, expected)


@dataclass(frozen=True, kw_only=True)
class States(AttackOptions):
    """Attack stored states, one by one and without play; one row an attack and size (OUT/state_attacks.parquet).

    A row tells how many greedy actions change, and what that costs by the victim's own clean Q-values.

    Examples:
        spikeq attack states --agent results/agents/minatar-breakout-dsqn-s0.safetensors --out runs/states
        spikeq attack states --agent runs/dsqn --transfer runs/dqn --attack fgsm pgd square --out runs/lent
    """

    epsilon: tuple[Epsilon, ...] = (
        *(1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
        *(level / 255 for level in (1, 2, 3, 5, 8, 15)),
        0.5,
    )
    """Sizes of the attacks, l_inf in network-input units; fractions are allowed (1/255 is one grey level). At 0.5 every
    agent must break down."""
    game: GameOfAgent = None
    states: StateCount = 512
    """Number of states of one agent's play, drawn evenly from whole episodes at epsilon 0.05."""
    query_states: StateCount = 100
    """Number of them, the first ones, for attacks that ask the victim hundreds of times about each (spsa, square, noise
    of many draws)."""
    states_of: Annotated[
        str | None,
        AnAgent(
            "The agent whose play the states are of, the victim if not given. So several victims meet the same ones."
        ),
    ] = None
    seed: Seed = 0
    """Seed of the states and of the attacks' randomness."""

    def run(self) -> None:
        from adversarial.states import AttackOnStates

        AttackOnStates(**vars(self)).run()

    def workload(self, expected: "Expected") -> "Workload":
        from adversarial.workload import of_states

        return of_states(self, expected)


@dataclass(frozen=True)
class Verdict:
    """Judge which claims of robustness the attacks of a study allow: five lines, and every gate in STUDY/verdict.md.

    Only rows are read: attacks.parquet (games under attack and clean games) and state_attacks.parquet (attacks on
    stored states), anywhere below the folder.

    Examples:
        spikeq attack verdict results/attacked
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of a study, such as results/quick."""

    def run(self) -> None:
        from analysis.verdict import verdict_of

        print(*verdict_of(self.study), sep="\n")
