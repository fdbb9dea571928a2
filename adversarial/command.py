"""What `adversarial run` and `adversarial states` have in common: their options, and the attacks that these ask for."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch

from adversarial import sources, timing
from adversarial.attack import ATTACKS, Attack
from adversarial.hook import make_attack
from adversarial.options import AttackOptions
from adversarial.threat import Threat, make_threat
from core.agents import Agent, RandomPlay, require_decidable
from core.checkpoint import Checkpoint
from core.cli import specification
from core.device import pick_device
from core.errors import Refusal
from core.games import Game, named_game
from core.gradients import GradientSource
from core.memory import require_fits
from core.options import parse_settings
from core.records import Journal
from play.entrants import load
from play.rollout import Perturb
from play.states import collect, q_values

SEARCH_STATES = 256
"""Number of states on which the strongest gradient is sought and gaps are measured. They serve nothing else."""


class PlannedAttack(NamedTuple):
    """One threat model, and the hook that carries it out; None for the clean game."""

    threat: Threat
    perturb: Perturb | None


class Others(NamedTuple):
    """Agents whose gradients are lent to attacks on a victim."""

    transfer: list[Checkpoint]
    twin: Checkpoint | None
    """The DQN that the victim was converted from, if its gradient is asked for."""

    @property
    def agents(self) -> list[Agent]:
        """All of them."""
        return [other.agent for other in (*self.transfer, *([] if self.twin is None else [self.twin]))]

    @property
    def ids(self) -> dict[str, list[str]]:
        """Their checkpoint ids, for the manifest."""
        return {
            "transfer": [other.id for other in self.transfer],
            "twin": [] if self.twin is None else [self.twin.id],
        }


class AskedAttacks(AttackOptions):
    """The options of both verbs, and the attacks that they ask for."""

    def require_sound(self) -> None:
        """Refuse options that no attack can be made of."""
        for option in ("steps", "restarts", "draws", "loss", "best_source", "transfer"):
            given = getattr(self, option)
            takers = [name for name, attack in ATTACKS.items() if _takes(attack, option)]
            asked = [ATTACKS[name] for name in self.attack]
            if given != getattr(type(self), option) and not any(_takes(attack, option) for attack in asked):
                typed = " ".join(map(str, given)) if isinstance(given, tuple) else given
                raise Refusal(
                    f"{option} is {typed}: none of {', '.join(self.attack)} takes it; {', '.join(takers)} do"
                )
        for word in self.set:
            name = word.partition("=")[0]
            if not any(name in _options(ATTACKS[attack]) for attack in self.attack):
                accepted = sorted(option for attack in self.attack for option in _options(ATTACKS[attack]))
                raise Refusal(
                    f"set is {word}: none of {', '.join(self.attack)} has an option {name!r}; "
                    f"accepted are {', '.join(dict.fromkeys(accepted))}"
                )
        for name in self.attack:
            list(self.variants(name))  # which refuses options that are out of range
        if self.twin is not None and not self.best_source:
            raise Refusal(f"twin {self.twin} is given without --best-source, which alone uses it")

    def require_room(self, agents: Sequence[Agent], rows: int) -> None:
        """Refuse attacks that do not fit into memory.

        Args:
            agents: the victim, and others whose gradient is followed.
            rows: states that are attacked at once.

        Raises:
            Refusal: the message has a number that would fit.
        """
        require_decidable(agents[0], rows)
        chosen = [
            attack
            for name in self.attack
            if ATTACKS[name].kind == "white-box"
            for attack in self.variants(name)
        ]
        starts = max((attack.recorded(0.0).get("restarts", 1) for attack in chosen), default=0)
        for agent in agents if chosen else ():
            if agent.device.type == "cpu":
                name, value = (
                    ("restarts", starts) if starts > 1 else ("sim_steps of the victim", agent.sim_steps)
                )
                needed = agent.gradient_bytes(rows * starts)
                require_fits(name, value, needed, f"{rows} states attacked at once")

    def spec(self, *without: str) -> dict[str, Any]:
        """The options that decide the numbers, for the manifest."""
        # Manifests from before there was --set must stay those of the same work.
        return specification(self, *without, *(() if self.set else ("set",)))

    def victim(self, agent: str, game: str | None) -> Checkpoint:
        """Load the agent that is attacked.

        Args:
            agent: what the user named.
            game: the game that the user named.

        Raises:
            Refusal: it is random play, which decides nothing that an attack could change, or it cannot be loaded.
        """
        found = load(agent, named_game(game), pick_device(self.device))
        if isinstance(found.agent, RandomPlay):
            raise Refusal(f"agent is {agent}: random play looks at nothing; an agent that decides is needed")
        return found

    def others(self, victim: Checkpoint, game: Game) -> Others:
        """Load the other agents that are asked for, on the victim's device."""
        device = victim.agent.device
        transfer = [load(path, game, device) for path in self.transfer]
        twin = None if self.twin is None else load(self.twin, game, device)
        for path, other in zip(self.transfer, transfer, strict=True):
            if other.id == victim.id or (twin is not None and other.id == twin.id):
                raise Refusal(
                    f"transfer {path} is the victim or its twin: an agent that knows neither is needed"
                )
        return Others(transfer, twin)

    def planned(self, agent: Agent, others: Others, game: Game, seed: int) -> list[PlannedAttack]:
        """All threat models that are asked for, each once, the clean game first."""
        transfers = [sources.freeze(sources.transfer(other)) for other in others.transfer]
        sizes = sorted({*self.epsilon} - {0.0})
        # An agent may have no gradient, and other attacks do not need one.
        follows = any(ATTACKS[name].kind == "white-box" for name in self.attack)
        usual = sources.freeze(sources.gradient_source(agent)) if follows else None
        best: dict[float, GradientSource] = {}
        gap = 0.0
        if self.best_source or self.frequency < 1.0:
            states = collect(agent, SEARCH_STATES, seed, "attack search")
            if self.frequency < 1.0:
                gap = timing.gap_threshold(torch.from_numpy(q_values(agent, states)), self.frequency)
            if self.best_source and sizes and follows:
                twin = None if others.twin is None else others.twin.agent
                best = sources.best_sources(agent, states, sizes, twin)
                copies = {source: sources.freeze(source) for source in best.values()}
                best = {epsilon: copies[source] for epsilon, source in best.items()}
        limits: dict[str, Any] = {"scope": self.scope, "eight_bit": self.eight_bit, "seed": seed}
        if self.frequency < 1.0:
            limits |= {"frequency": self.frequency, "gap_threshold": gap}
        clean = PlannedAttack(make_threat(self.attack[0], 0.0, game), None)
        made = {clean.threat.key: clean} if 0.0 in self.epsilon else {}
        for name in self.attack:
            for epsilon in sizes:
                through: Sequence[GradientSource | None] = [None]
                if ATTACKS[name].kind == "white-box":
                    through = [usual, best.get(epsilon, usual), *transfers]
                for source in through:
                    for attack in self.variants(name):
                        planned = PlannedAttack(*make_attack(attack, epsilon, agent, game, source, **limits))
                        made.setdefault(planned.threat.key, planned)
        return list(made.values())

    def variants(self, name: str) -> Iterator[Attack]:
        """An attack once for each value of the lists that it takes, and with the options that are set."""
        attack, settings = ATTACKS[name], self._settings(name)
        lists = {option: getattr(self, option) for option in attack.takes if getattr(self, option)}
        for values in itertools.product(*lists.values()):
            yield attack.variant(**{**dict(zip(lists, values, strict=True)), **settings})

    def _settings(self, name: str) -> dict[str, Any]:
        """The values of --set that are options of an attack."""
        attack = ATTACKS[name]
        words = [word for word in self.set if word.partition("=")[0] in _options(attack)]
        return parse_settings(words, attack, name)


def _takes(attack: type[Attack], option: str) -> bool:
    """Whether an option of the command line is for an attack."""
    if option in ("best_source", "transfer"):
        return attack.kind == "white-box"
    return option in attack.takes


def _options(attack: type[Attack]) -> list[str]:
    """Names of an attack's options that --set sets. Noise has the queries that --draws gives it."""
    names = [each.name for each in fields(attack)]
    return [name for name in names if name != "queries" or "draws" not in attack.takes]


def drop_unplanned(journal: Journal[Any], planned: Sequence[PlannedAttack]) -> None:
    """Drop the kept rows of threat models that are no longer planned.

    On another device or with another number of threads, sums are rounded differently. Another gradient may then be the
    best, and another gap the threshold.
    """
    keys = {attack.threat.key for attack in planned}
    kept = [row for row in journal.rows if row.threat in keys]
    if dropped := len(journal.rows) - len(kept):
        journal.rows = kept
        print(
            f"rows of a killed attack that are measured anew, because gradients or gaps differ here: {dropped}"
        )
