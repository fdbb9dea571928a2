"""Held side by side: how much of a DQN's choices survives each conversion, at each number of simulation steps."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, r2_score
from torch import Tensor

from analysis.statistics import Interval, kept_interval, mean_interval
from analysis.tables import aligned
from convert import tan2021
from convert.methods import Converted, MethodOptions, convert
from core import operations
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.games import get_game, reference
from core.progress import Progress
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, first_reaching, top_gaps
from core.records import ConversionRow, EpisodeRow, Journal, to_json
from play.episodes import Played, episode_row, play
from play.protocols import Protocol
from play.rollout import Step
from play.states import batches, q_values

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Variant:
    """A method with its options, as it stands in a comparison."""

    options: dict[str, Any]
    """Fields of MethodOptions."""
    trained: bool = False
    """Whether weights are trained (distilled), which is another class of effort."""
    most_sim_steps: int | None = 64
    """Above it nothing is left to mend, and making the network is slow; None: weights do not depend on sim steps."""


VARIANTS: dict[str, Variant] = {
    "tan2021": Variant({"method": "tan2021"}, most_sim_steps=None),
    "max": Variant({"method": "max"}, most_sim_steps=None),
    "v-init": Variant({"method": "tan2021", "v_init": 0.5}, most_sim_steps=None),
    "threshold-search": Variant({"method": "threshold-search"}),
    "presteps": Variant({"method": "threshold-search", "presteps": 4}),
    "signed": Variant({"method": "threshold-search", "firing": "signed"}),
    "reconstruct": Variant({"method": "reconstruct"}),
    # Chosen on games of minatar/breakout with another seed: of 0, 0.02, 0.05, 0.1, 0.2 the best at T = 2 and 4.
    "residual": Variant({"method": "reconstruct", "residual_alpha": 0.05}),
    "anytime": Variant({"method": "reconstruct", "stop_gap": 0.0}),  # found by `stop_gap` in place of 0
    "afterwards": Variant({"method": "reconstruct", "firing": "afterwards"}),
    "qcfs": Variant({"method": "qcfs"}, trained=True, most_sim_steps=16),
    "exact": Variant({"method": "exact"}, trained=True, most_sim_steps=16),
}
"""What `convert compare` knows."""


class Measures(NamedTuple):
    """A spiking network's Q-values against its DQN's on the same states."""

    agreement: float
    """Share of states with the same greedy action ..."""
    kappa: float
    """... over what chance would agree (Cohen 1960); NaN where both know one action only."""
    regret: float
    """Mean of Q(s, a*) - Q(s, a_snn), in the DQN's Q."""
    common_error: float
    """Root mean square of the error's mean over actions ..."""
    differential_error: float
    """... and of what remains, which alone can change a choice."""


def measures(q_dqn: np.ndarray, q_snn: np.ndarray) -> Measures:
    """Of Q-values [S, A] each."""
    wanted, chosen = q_dqn.argmax(1), q_snn.argmax(1)
    regret = q_dqn.max(1) - np.take_along_axis(q_dqn, chosen[:, None], 1)[:, 0]
    error = q_snn - q_dqn
    common = error.mean(1, keepdims=True)
    one_action = len(set(wanted) | set(chosen)) == 1
    return Measures(
        agreement=float((wanted == chosen).mean()),
        kappa=float("nan") if one_action else float(cohen_kappa_score(wanted, chosen)),
        regret=float(regret.mean()),
        common_error=float(np.sqrt(np.square(common).mean())),
        differential_error=float(np.sqrt(np.square(error - common).mean())),
    )


class OnStates(NamedTuple):
    """What a network did on given states."""

    q: np.ndarray
    """[S, A]."""
    spikes: np.ndarray
    """[S, L] by layer."""
    sim_steps: np.ndarray
    """[S]."""


@torch.no_grad()
def decide_all(snn: RateCodedNetwork, states: np.ndarray) -> OnStates:
    """One decision on each state, each an episode's first."""
    found = []
    for batch in batches(snn, states):
        decision = snn.decide(batch)
        assert decision.activity is not None
        parts = (decision.scores, decision.activity.spikes, decision.activity.sim_steps)
        found.append([part.cpu().numpy() for part in parts])
    return OnStates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


ANYTIME_STATES = 1000
ANYTIME_AGREEMENT = 0.99
"""Share of calibration states in which stopping early must decide as all steps do."""


@torch.no_grad()
def stop_gap(snn: RateCodedNetwork, states: np.ndarray) -> float:
    """The smallest gap between the two best Q-values at which deciding costs at most 1 % of the choices.

    Args:
        snn: simulated for all its steps, whatever its own `stop_gap`.
        states: [S, *observation] to find it on.

    Returns:
        One of 256 quantiles of the gaps that occur; or infinity's stand-in, the largest gap, if none will do.
    """
    record_at = range(1, snn.coding.sim_steps + 1)
    found = [snn.scores_over_time(batch, record_at)["robust"].cpu() for batch in batches(snn, states)]
    q = torch.cat(found, 1)  # [T, S, A]
    gaps, actions = top_gaps(q), q.argmax(2)
    bounds = np.quantile(gaps.flatten().numpy(), np.linspace(0, 1, 256))
    for bound in bounds.tolist():
        early = actions.gather(0, first_reaching(gaps, bound)[None])[0]
        if (early == actions[-1]).float().mean() >= ANYTIME_AGREEMENT:
            return float(bound)
    return float(bounds[-1])


@torch.no_grad()
def layer_r2(dqn: DQN, converted: Converted, states: np.ndarray) -> list[float]:
    """Of each hidden layer, how much of the DQN's activations the simulated rates explain (r2; 1 is all)."""
    snn = converted.snn
    coding = snn.coding
    wanted: list[list[Tensor]] = [[] for _ in converted.scales[:-1]]
    given: list[list[Tensor]] = [[] for _ in converted.scales[:-1]]
    for batch in batches(dqn, states):
        counts = torch_engine.simulate(
            snn.layers, batch, coding.sim_steps, coding.neuron, image_bits=coding.image_bits
        ).layer_counts
        for index, (z, scale) in enumerate(
            zip(dqn.preactivations(batch)[:-1], converted.scales[:-1], strict=True)
        ):
            wanted[index].append(z.relu().flatten())
            given[index].append(tan2021.activations(counts[index][0], scale, coding.sim_steps).flatten())
    return [
        float(r2_score(torch.cat(a).cpu().numpy(), torch.cat(b).cpu().numpy()))
        for a, b in zip(wanted, given, strict=True)
    ]


def fan_out(snn: RateCodedNetwork) -> np.ndarray:
    """[L] additions that a spike of each layer causes in the next one, on average over neurons; the output's: none."""
    reached = [
        operations.fan_out(layer, before).double().mean().item()
        for layer, before in zip(list(snn.layers)[1:], snn.layer_shapes, strict=False)
    ]
    return np.array([*reached, 0.0])


def play_beside(
    dqn: DQN, snn: RateCodedNetwork, protocol: Protocol, eval_seed: int, episodes: Sequence[int]
) -> tuple[list[Played], np.ndarray, np.ndarray]:
    """Evaluation games of the spiking network, and on every state of them the DQN's and its own Q-values [S, A]."""
    q_dqn: list[np.ndarray] = []
    q_snn: list[np.ndarray] = []

    def look(step: Step) -> None:
        q_dqn.append(q_values(dqn, step.observations))
        q_snn.append(step.scores)

    played = list(play(snn, dqn.game, protocol, eval_seed=eval_seed, episodes=episodes, on_step=look))
    return played, np.concatenate(q_dqn), np.concatenate(q_snn)


def options_of(name: str, base: MethodOptions) -> MethodOptions:
    """A variant's options over those that hold for all."""
    return replace(base, **VARIANTS[name].options)


STREAMS = ("validation", "test")
"""A method is chosen on the states of one, and reported on those of the other."""
R2_STATES = 128


def most_sim_steps(name: str) -> float:
    """Up to how many a variant is compared."""
    return VARIANTS[name].most_sim_steps or math.inf


def is_carrying(name: str) -> bool:
    """Whether a variant's decisions depend on those before, so that single states tell nothing of it."""
    return bool(VARIANTS[name].options.get("residual_alpha"))


DQN_ITSELF = "dqn"
"""The variant of games that the DQN plays."""


def _label(name: str, sim_steps: int) -> str:
    """The variant of games that a converted network plays."""
    return f"{name} T={sim_steps}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One DQN's conversions, measured one after the other; what was measured is not measured again."""

    checkpoint: Checkpoint
    dqn: DQN
    base: MethodOptions
    calibration: np.ndarray
    test: dict[str, np.ndarray]
    """Held-out states of each of STREAMS."""
    protocol: Protocol
    episodes: int
    seed: int
    rows: Journal[ConversionRow]
    games: Journal[EpisodeRow]

    def run(self, variants: Sequence[str], sim_steps: Sequence[int]) -> None:
        """Measure each variant at each number of sim steps, and keep the rows so far after each."""
        # Games are kept first, so that whoever has rows has games too.
        measured = {(row.variant, row.sim_steps) for row in self.rows.rows}
        whole = {DQN_ITSELF, *(_label(*each) for each in measured)}
        self.games.rows = [game for game in self.games.rows if game.variant in whole]
        wanted = [
            (name, steps)
            for name in variants
            for steps in sim_steps
            if steps <= most_sim_steps(name) and (name, steps) not in measured
        ]
        if not self.games.rows and self.episodes:
            self.games.rows = self._games_of_the_dqn()
        q = {stream: q_values(self.dqn, states) for stream, states in self.test.items()}
        held_out = np.concatenate(list(self.test.values()))
        converted: dict[str, Converted] = {}
        taught: dict[int, RateCodedNetwork] = {}
        with Progress(f"compare conversions on {self.dqn.game.name}", len(wanted), "networks") as progress:
            for name, steps in wanted:
                options = options_of(name, self.base)
                for_all = VARIANTS[name].most_sim_steps is None
                if name not in converted or not for_all:
                    made_for = max(sim_steps) if for_all else steps
                    known = taught.get(steps) if VARIANTS[name].trained else None
                    converted = {
                        name: convert(
                            self.dqn, self.calibration, options, made_for, self.seed, held_out, known
                        )
                    }
                made = converted[name]
                if VARIANTS[name].trained:
                    taught[steps] = made.snn
                if made.snn.coding.sim_steps != steps:
                    made = made._replace(snn=made.snn.varied(sim_steps=steps))
                if options.stop_gap is not None:
                    gap = stop_gap(made.snn, self.calibration[:ANYTIME_STATES])
                    options = replace(options, stop_gap=gap)
                    made = made._replace(snn=made.snn.varied(stop_gap=gap))
                new_rows, new_games = self._measure(name, options, made, q)
                self.games.rows += new_games
                self.games.keep()
                self.rows.rows += new_rows
                self.rows.keep()
                progress.advance(1, f"{name} at {steps} sim steps: {new_rows[-1].agreement:.1%} agreement")

    def _games_of_the_dqn(self) -> list[EpisodeRow]:
        """What the scores are held against."""
        return [
            self._game_row(played, self.checkpoint, DQN_ITSELF)
            for played in play(
                self.dqn, self.dqn.game, self.protocol, eval_seed=self.seed, episodes=range(self.episodes)
            )
        ]

    def _game_row(self, played: Played, checkpoint: Checkpoint, variant: str) -> EpisodeRow:
        return episode_row(played, checkpoint, self.dqn.game, self.protocol, self.seed, variant=variant)

    def _measure(
        self, name: str, options: MethodOptions, made: Converted, q: dict[str, np.ndarray]
    ) -> tuple[list[ConversionRow], list[EpisodeRow]]:
        snn = made.snn
        r2 = ""
        # What presteps silence is not simulated here, and what is taught has no units of the DQN's.
        if not (snn.coding.presteps or is_carrying(name) or VARIANTS[name].trained):
            explained = layer_r2(self.dqn, made, self.test["test"][:R2_STATES])
            r2 = to_json([round(value, 4) for value in explained])
        settings = to_json({**asdict(options), **made.settings(), "seed": self.seed})
        reached = fan_out(snn)

        def row(states: str, q_dqn: np.ndarray, found: OnStates) -> ConversionRow:
            actions = q_dqn.argmax(1)
            return ConversionRow(
                game=self.dqn.game.name,
                source_id=self.checkpoint.id,
                train_seed=self.checkpoint.provenance["train_seed"],
                method=options.method,
                settings=settings,
                reference="dqn",
                readout=snn.coding.readout,
                sim_steps=snn.coding.sim_steps,
                num_states=len(actions),
                majority_share=float(np.bincount(actions).max() / len(actions)),
                variant=name,
                states=states,
                layer_r2=r2 if states == "dqn-driven" else "",
                spikes_per_decision=float(found.spikes.sum(1).mean()),
                additions_per_decision=float((found.spikes @ reached[: found.spikes.shape[1]]).mean()),
                mean_sim_steps=float(found.sim_steps.mean()),
                **measures(q_dqn, found.q)._asdict(),
            )

        rows: list[ConversionRow] = []
        games: list[EpisodeRow] = []
        if self.episodes:
            snn_checkpoint, label = replace(self.checkpoint, agent=snn), _label(name, snn.coding.sim_steps)
            played, q_dqn, q_snn = play_beside(self.dqn, snn, self.protocol, self.seed, range(self.episodes))
            games = [self._game_row(game, snn_checkpoint, label) for game in played]
            found = OnStates(
                q_snn,
                np.sum([game.spikes for game in played], axis=0)[None] / len(q_snn),
                np.array([sum(game.sim_steps_sum for game in played) / len(q_snn)]),
            )
            rows.append(row("snn-driven", q_dqn, found))
        if not is_carrying(name):
            rows.append(row("validation", q["validation"], decide_all(snn, self.test["validation"])))
            rows.append(row("dqn-driven", q["test"], decide_all(snn, self.test["test"])))
        return rows, games


def markdown(rows: Sequence[ConversionRow], games: Sequence[EpisodeRow]) -> str:
    """The comparison as a Markdown table; * marks the untrained and the trained variant with the least regret on the
    validation states, of each number of sim steps that a layer fires for."""
    scores = {
        variant: [game.score for game in sorted(group, key=lambda game: game.episode)]
        for variant, group in _grouped(games, lambda game: game.variant).items()
    }
    random = reference(get_game(rows[0].game)).random
    lines = []
    for steps, here in sorted(_grouped(rows, lambda row: row.sim_steps).items()):
        by_variant = _grouped(here, lambda row: row.variant)
        for trained in (False, True):
            named = [name for name in by_variant if VARIANTS[name].trained == trained]
            regrets = {
                row.variant: row.regret for row in here if row.variant in named and row.states == "validation"
            }
            for name in named:
                of = {row.states: row for row in by_variant[name]}
                test, own = of.get("dqn-driven"), of.get("snn-driven")
                any_row = by_variant[name][0]
                score = kept = ""
                if played := scores.get(_label(name, steps)):
                    score = _interval(mean_interval(played), ".2f")
                    if random is not None and np.mean(scores[DQN_ITSELF]) > random:
                        kept = _interval(kept_interval(played, scores[DQN_ITSELF], random), ".0%")
                chosen = name in regrets and regrets[name] == min(regrets.values())
                lines.append(
                    (
                        str(steps),
                        name + ("*" if chosen else ""),
                        f"{any_row.mean_sim_steps:.1f}",
                        f"{test.agreement:.1%}" if test else "",
                        f"{test.kappa:.3f}" if test else "",
                        f"{own.agreement:.1%}" if own else "",
                        f"{test.regret:.4g}" if test else "",
                        f"{test.common_error:.3g}" if test else "",
                        f"{test.differential_error:.3g}" if test else "",
                        f"{any_row.spikes_per_decision:,.0f}",
                        f"{any_row.additions_per_decision / 1e6:.3f}",
                        score,
                        kept,
                    )
                )
    header = (
        "T", "method", "sim steps", "agreement", "kappa", "on own states", "regret", "common error",
        "differential error", "spikes", "additions (M, estimated)", "score (95 %)", "kept of the DQN's (95 %)",
    )  # fmt: skip
    text = aligned([header, *lines])
    text += "\nT: simulation steps that a layer fires for; sim steps: those that pass until the decision.\n"
    if played := scores.get(DQN_ITSELF):
        text += (
            f"The DQN scores {_interval(mean_interval(played), '.2f')} in {len(played)} games, random play {random}; "
            f"every network played the same starts, and shares kept are of scores above random play.\n"
        )
    return text


def _interval(interval: Interval, form: str) -> str:
    return f"{interval.estimate:{form}} ({interval.low:{form}} to {interval.high:{form}})"


def _grouped(rows: Sequence[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
