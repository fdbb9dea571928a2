"""python -m adversarial run | states | verdict: attack agents in their games and on stored states, and judge."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adversarial import sources, threats
from adversarial.attacks import make_attack
from adversarial.perturbations import Loss
from adversarial.sources import GradientSource
from adversarial.states import attack_states
from adversarial.threats import Attack, Scope, Threat, require_epsilon
from analysis.statistics import mean_interval, share_interval
from analysis.verdict import Verdict
from core.agents import Agent
from core.checkpoint import Checkpoint, load_agent
from core.cli import Number, main, specification
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import Game, get_game
from core.manifest import Manifest
from core.progress import Progress
from core.records import AttackRow, Journal, StateAttackRow, to_json
from core.seeding import require_seed
from play.episodes import Played, episode_row, play, require_at_least_one
from play.film.video import record, require_ffmpeg
from play.options import ComputeOptions, PlayOptions
from play.protocols import Protocol, get_protocol
from play.rollout import Perturb
from play.states import collect, q_values

SEARCH_STATES = 256
"""On which the strongest gradient is sought, and what is at stake in a decision is learnt: nothing else is."""
MANY_QUERIES = 100
"""A state: on fewer states then."""
_TAKERS: Mapping[str, tuple[str, ...]] = {
    "steps": ("pgd", "mi-fgsm", "targeted-pgd"),
    "restarts": ("pgd", "targeted-pgd"),
    "draws": threats.NOISE,
    "loss": tuple(attack for attack in threats.ATTACKS if attack not in threats.NOISE),
    "best_source": threats.WHITE_BOX,
    "transfer": threats.WHITE_BOX,
}
"""Which attacks an option is for."""


class Cell(NamedTuple):
    """One threat model, and the hook that carries it out; None for the clean game."""

    threat: Threat
    perturb: Perturb | None

    @property
    def key(self) -> str:
        """As rows tell of the threat model."""
        return to_json(asdict(self.threat))


class Others(NamedTuple):
    """Agents that lend attacks on a victim their gradients."""

    transfer: list[Checkpoint]
    twin: Checkpoint | None
    """The DQN that the victim came from, where its gradient is asked for."""

    @property
    def ids(self) -> dict[str, list[str]]:
        """Who takes part, by weights."""
        return {
            "transfer": [other.id for other in self.transfer],
            "twin": [] if self.twin is None else [self.twin.id],
        }


@dataclass(frozen=True, kw_only=True)
class AttackOptions(ComputeOptions):
    """Who is attacked, by what, through whose gradient."""

    agent: Path
    """Checkpoint (.safetensors) of any agent: the victim."""
    out: Path
    """Folder for the rows; asked again with the same options, a killed attack goes on."""
    attack: tuple[Attack, ...] = ("fgsm", "random-sign")
    """Along a gradient: fgsm, pgd, mi-fgsm (momentum), targeted-pgd (to the worst action). By queries: spsa, square.
    Noise of the same size: random-sign, uniform, gaussian. Beyond l_inf: occlusion, brightness."""
    steps: tuple[int, ...] = (10,)
    """Gradients that pgd, mi-fgsm and targeted-pgd follow; each number is an attack of its own."""
    restarts: tuple[int, ...] = (1,)
    """Random starts of pgd and targeted-pgd, of which each state keeps the worst; each number is an attack of its
    own."""
    draws: tuple[int, ...] = (1,)
    """Draws of noise of which each state keeps the worst; each number is an attack of its own. The control of an attack
    by queries asks as often as it does (square: 500 times)."""
    loss: tuple[Loss, ...] = ()
    """What is increased: cross-entropy, margin or value; each is an attack of its own. The usual one if not given."""
    scope: Scope = "whole-stack"
    """What may change at a decision; newest-frame: the rest stays in the stack as it ages."""
    eight_bit: bool = False
    """Round perturbed frames to what a screen can show."""
    frequency: Number = 1.0
    """Share of decisions that are attacked: those in which most is at stake."""
    best_source: bool = False
    """Also follow the gradient that changes most choices at each size, sought over surrogate families and widths, rates
    and twins; without it, only the one that costs no search: the victim's own, of a converted network that of its
    weights with ReLU."""
    twin: Path | None = None
    """Of a quantised or converted victim, the DQN that it came from, for --best-source."""
    transfer: tuple[Path, ...] = ()
    """Other agents of the game, along whose gradients the victim is attacked too."""

    epsilon: tuple[Number, ...] = (0.0, 0.001, 1 / 255)
    """l_inf sizes in network-input units, fractions allowed (1/255 is one grey level); 0 is the clean game."""

    def require_sound(self) -> None:
        """Refuse what no attack can be made of."""
        for epsilon in self.epsilon:
            require_epsilon(epsilon)
        if not self.epsilon:
            raise Refusal("no epsilon given: at least one is needed")
        if not self.attack:
            raise Refusal(f"no attack given: accepted are {', '.join(threats.ATTACKS)}")
        for name in ("steps", "restarts", "draws"):
            if min(getattr(self, name), default=0) < 1:
                raise Refusal(f"{name} are {getattr(self, name)}: numbers of 1 or more are needed")
        if not 0.0 < self.frequency <= 1.0:
            raise Refusal(
                f"frequency is {self.frequency}: accepted is a share of decisions, over 0 and up to 1"
            )
        for option, takers in _TAKERS.items():
            given = getattr(self, option)
            if given != getattr(type(self), option) and not set(takers) & set(self.attack):
                typed = " ".join(map(str, given)) if isinstance(given, tuple) else given
                raise Refusal(
                    f"{option} is {typed}: none of {', '.join(self.attack)} takes it; {', '.join(takers)} do"
                )
        if self.twin is not None and not self.best_source:
            raise Refusal(f"twin {self.twin} is given without --best-source, which alone asks it")

    def others(self, victim: Checkpoint, game: Game) -> Others:
        """The other agents that are asked for, where the victim is."""
        device = victim.agent.device
        transfer = [load_agent(path, game, device) for path in self.transfer]
        twin = None if self.twin is None else load_agent(self.twin, game, device)
        for path, other in zip(self.transfer, transfer, strict=True):
            if other.id == victim.id or (twin is not None and other.id == twin.id):
                raise Refusal(
                    f"transfer {path} is the victim or its twin: an agent that knows neither is needed"
                )
        return Others(transfer, twin)

    def cells(self, agent: Agent, others: Others, game: Game, seed: int) -> list[Cell]:
        """All threat models that are asked for, each once, the clean game first."""
        transfers = [sources.transfer(other) for other in others.transfer]
        sizes = sorted(set(self.epsilon) - {0.0})
        usual, best = sources.gradient_source(agent), dict[float, GradientSource]()
        gap = 0.0
        if self.best_source or self.frequency < 1.0:
            states = collect(agent, SEARCH_STATES, seed, "attack search")
            if self.frequency < 1.0:
                gap = threats.gap_threshold(torch.from_numpy(q_values(agent, states)), self.frequency)
            if self.best_source and sizes:
                twin = None if others.twin is None else others.twin.agent
                best = sources.best_sources(agent, states, sizes, twin)
        clean = Cell(*make_attack(self.attack[0], 0.0, agent, game))
        made = {clean.key: clean} if 0.0 in self.epsilon else {}
        for attack in self.attack:
            for epsilon in sizes:
                through: Sequence[GradientSource | None] = [None]
                if attack in threats.WHITE_BOX:
                    through = [usual, best.get(epsilon, usual), *transfers]
                for source in through:
                    for changes in self._changes(attack, gap, seed):
                        cell = Cell(*make_attack(attack, epsilon, agent, game, source, **changes))
                        made.setdefault(cell.key, cell)
        return list(made.values())

    def _changes(self, attack: str, gap: float, seed: int) -> Iterator[dict[str, Any]]:
        """What is asked for otherwise than the attack usually is, once for each loss and number of steps or draws."""
        changes: dict[str, Any] = {"scope": self.scope, "eight_bit": self.eight_bit, "seed": seed}
        if self.frequency < 1.0:
            changes |= {"frequency": self.frequency, "gap_threshold": gap}
        if attack in threats.NOISE:
            for draws in self.draws:
                yield changes if draws == 1 else {**changes, "queries": draws, "loss": "margin"}
            return
        of_losses = [{"loss": loss} for loss in self.loss] or [{}]
        of_steps = [{"steps": steps} for steps in self.steps] if attack in _TAKERS["steps"] else [{}]
        of_starts = (
            [{"restarts": starts} for starts in self.restarts] if attack in _TAKERS["restarts"] else [{}]
        )
        for loss, steps, starts in itertools.product(of_losses, of_steps, of_starts):
            yield {**changes, **loss, **steps, **starts}


@dataclass(frozen=True, kw_only=True)
class Run(AttackOptions, PlayOptions):
    """Play whole games while observations are perturbed; one row an episode (OUT/attacks.parquet).

    Episodes have the same starts for every agent, attack and size.
    """

    episodes: int = 10
    """Games for every attack and size."""
    record: bool = False
    """Also film the first game of each (OUT/*.mp4)."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        require_at_least_one(episodes=self.episodes, num_envs=self.num_envs)
        self.require_sound()
        if self.record:
            require_ffmpeg()
        game = get_game(self.game) if self.game else None
        checkpoint = load_agent(self.agent, game, pick_device(self.device))
        victim = checkpoint.agent
        game = game or victim.game
        protocol = get_protocol(self.protocol, game)
        others = self.others(checkpoint, game)
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **specification(
                    self, "out", "agent", "transfer", "twin", "device", "threads", "num_envs", "record"
                ),
                **others.ids,
                "verb": "adversarial run",
                "agent": checkpoint.id,
                "game": game.name,
                "protocol": protocol.name,
            },
        )
        rows_file = self.out / "attacks.parquet"
        cells: list[Cell] = []
        with manifest.work() as needed:
            if needed or self.record:
                cells = self.cells(checkpoint.agent, others, game, self.seed)
            if needed:
                self._attack(checkpoint, game, protocol, cells, manifest, rows_file)
            else:
                print(f"{rows_file}: already done")
        if self.record:
            for number, (threat, perturb) in enumerate(cells):
                file = self.out / f"{number:02}-{threat.attack}-{threat.epsilon:.4g}-episode-0.mp4"
                if not file.exists():
                    record(
                        file,
                        checkpoint,
                        game,
                        protocol,
                        eval_seed=self.seed,
                        perturb=perturb,
                        attack=threat.attack,
                    )
                print(file)

    def _attack(
        self,
        checkpoint: Checkpoint,
        game: Game,
        protocol: Protocol,
        cells: Sequence[Cell],
        manifest: Manifest,
        rows_file: Path,
    ) -> None:
        """Play what is missing, write all rows, and sum them up."""
        victim = checkpoint.agent
        journal = Journal(rows_file, AttackRow, manifest.spec)
        _leave_out_what_is_not_asked(journal, cells)
        with Progress(
            f"attack {game.name} {victim.kind}",
            len(cells) * self.episodes,
            "episodes",
            done=len(journal.rows),
        ) as progress:
            for cell in cells:
                threat = cell.threat
                known = {row.episode for row in journal.rows if row.threat == cell.key}
                left = [episode for episode in range(self.episodes) if episode not in known]
                if not left:
                    continue
                for played in play(
                    victim,
                    game,
                    protocol,
                    eval_seed=self.seed,
                    episodes=left,
                    num_envs=self.num_envs,
                    perturb=cell.perturb,
                ):
                    clean = asdict(episode_row(played, checkpoint, game, protocol, self.seed))
                    journal.add(AttackRow(**clean, **_under_attack(played, threat)))
                    progress.advance(1, f"{threat.attack} {threat.epsilon:.4g}")
        order = {cell.key: index for index, cell in enumerate(cells)}
        journal.write(lambda row: (order[row.threat], row.episode))
        manifest.finish([rows_file])
        journal.close()
        for cell in cells:
            rows = [row for row in journal.rows if row.threat == cell.key]
            interval = mean_interval([row.score for row in rows])
            decisions = sum(row.length_steps for row in rows)
            flips = sum(row.flip_share * row.length_steps for row in rows) / decisions
            print(
                f"{game.name} {victim.kind} {_named(cell.threat)}: mean score {interval.estimate:.2f} "
                f"[{interval.low:.2f}, {interval.high:.2f}], {flips:.0%} of decisions flipped, n = {interval.n}"
            )


@dataclass(frozen=True, kw_only=True)
class States(AttackOptions):
    """Attack stored states, one by one and without play; one row an attack and size (OUT/state_attacks.parquet).

    What is counted: how many greedy actions change, and what the victim's own clean Q-values say that costs.
    """

    epsilon: tuple[Number, ...] = (
        *(1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
        *(level / 255 for level in (1, 2, 3, 5, 8, 15)),
        0.5,
    )
    """l_inf sizes in network-input units, fractions allowed; at 0.5 every agent must break down."""
    states: int = 512
    """Of one agent's play, drawn evenly from whole episodes at epsilon 0.05."""
    query_states: int = 100
    """The first of them, for attacks that ask the victim hundreds of times about each (spsa, square, noise of many
    draws)."""
    states_of: Path | None = None
    """The agent whose play they are of, so that several victims meet the same ones; the victim if not given."""
    seed: int = 0
    """Of the states, and of the attacks' chance."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        require_at_least_one(states=self.states, query_states=self.query_states)
        if not any(self.epsilon):
            raise Refusal("no epsilon above 0 given: at least one is needed")
        self.require_sound()
        device = pick_device(self.device)
        checkpoint = load_agent(self.agent, device=device)
        game = checkpoint.agent.game
        player = checkpoint if self.states_of is None else load_agent(self.states_of, game, device)
        others = self.others(checkpoint, game)
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **specification(self, "out", "agent", "states_of", "transfer", "twin", "device", "threads"),
                **others.ids,
                "verb": "adversarial states",
                "agent": checkpoint.id,
                "states_of": player.id,
            },
        )
        rows_file = self.out / "state_attacks.parquet"
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            states = collect(player.agent, self.states, self.seed, "attacked")
            cells = [
                cell
                for cell in self.cells(checkpoint.agent, others, game, self.seed)
                if cell.perturb is not None
            ]
            journal = Journal(rows_file, StateAttackRow, manifest.spec)
            _leave_out_what_is_not_asked(journal, cells)
            known = {row.threat for row in journal.rows}
            with Progress(
                f"attack states of {game.name} {checkpoint.agent.kind}",
                len(cells),
                "attacks",
                done=len(known),
            ) as progress:
                for cell in cells:
                    threat, perturb = cell
                    if cell.key in known or perturb is None:
                        continue
                    few = states[: self.query_states] if threat.queries >= MANY_QUERIES else states
                    row = attack_states(checkpoint, few, player.id, threat, perturb, self.seed, len(states))
                    journal.add(row)
                    progress.advance(1, f"{_named(threat)}: {row.flip_share:.0%} flipped")
            order = {cell.key: index for index, cell in enumerate(cells)}
            journal.write(lambda row: order[row.threat])
            manifest.finish([rows_file])
            journal.close()
        for (threat, _), row in zip(cells, journal.rows, strict=True):
            share = share_interval(round(row.flip_share * row.num_states), row.num_states)
            print(
                f"{game.name} {row.agent} {_named(threat)}: {share.estimate:.1%} of {row.num_states} choices changed "
                f"[{share.low:.1%}, {share.high:.1%}]"
                + ("" if math.isnan(row.q_drop) else f", Q drop {row.q_drop:.3g}")
            )


def _leave_out_what_is_not_asked(journal: Journal[Any], cells: Sequence[Cell]) -> None:
    """Leave out what was kept of threat models that the search does not find again: on another device, or with another
    number of threads, sums are rounded otherwise, and another gradient or gap may come first."""
    asked = {cell.key for cell in cells}
    found_again = [row for row in journal.rows if row.threat in asked]
    if others := len(journal.rows) - len(found_again):
        journal.rows = found_again
        print(
            f"rows of a killed attack that are measured anew, as other gradients or gaps lead here: {others}"
        )


def _under_attack(played: Played, threat: Threat) -> dict[str, Any]:
    """The columns of AttackRow beyond those of an episode."""
    return {
        "attack": threat.attack,
        "epsilon": threat.epsilon,
        "gradient_source": threat.gradient_source,
        "threat": to_json(asdict(threat)),
        "flip_share": played.flips / played.length_steps,
        "zero_gradient_share": played.zero_gradients / played.attacked if played.attacked else math.nan,
        "largest_perturbation": played.largest_perturbation,
        "attacked_share": played.attacked / played.length_steps,
    }


def _named(threat: Threat) -> str:
    """A threat model in a few words."""
    steps = f"-{threat.steps}" if threat.attack in _TAKERS["steps"] else ""
    steps += f" x {threat.restarts}" if threat.restarts > 1 else ""
    source = f" through {threat.gradient_source}" if threat.gradient_source else ""
    surrogate = f" ({threat.surrogate})" if threat.surrogate else ""
    return f"{threat.attack}{steps}{source}{surrogate} epsilon {threat.epsilon:.4g}"


if __name__ == "__main__":
    main(
        "python -m adversarial",
        {"run": Run, "states": States, "verdict": Verdict},
        "Attack agents, say by whose gradient, and judge what the attacks allow to be said.",
    )
