"""Comparison of conversions of one DQN at several numbers of simulation steps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from convert import measurement
from convert.measurement import OnStates, measures
from convert.method import Converted, Method, Training
from convert.options import CodingOptions, recorded
from convert.variants import Variant, all_variants
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.progress import Progress
from core.rate_coded.network import RateCodedNetwork
from core.records import Journal, to_json
from core.rows import ConversionRow, EpisodeRow
from play.episodes import Played, episode_row, play
from play.protocols import Protocol
from play.states import q_values

STREAMS = ("validation", "test")
"""Streams of held-out states. Methods are chosen on states of the first, and reported on states of the second."""
R2_STATES = 128
"""Test states on which `layer_r2` is measured."""
DQN_ITSELF = "dqn"
"""The variant of games that the DQN plays."""


def games_label(name: str, sim_steps: int) -> str:
    """The variant of games that a converted network plays."""
    return f"{name} T={sim_steps}"


@dataclass(frozen=True, kw_only=True)
class MethodComparison:
    """Measures the conversions of one DQN in turn. Finished measurements are not repeated."""

    checkpoint: Checkpoint
    dqn: DQN
    shared: Mapping[str, Any]
    """Options, by name, of every method that has them."""
    calibration: np.ndarray
    """[S, *observation] to convert on."""
    test: dict[str, np.ndarray]
    """Held-out states of each of STREAMS."""
    protocol: Protocol
    """Protocol of the games that networks play."""
    episodes: int
    """Games that each network plays; 0 measures on stored states only."""
    seed: int
    rows: Journal[ConversionRow]
    games: Journal[EpisodeRow]

    def run(self, names: Sequence[str], sim_steps: Sequence[int]) -> None:
        """Measure each variant at each number of simulation steps. Rows are kept after each measurement."""
        variants = all_variants()
        # Games are kept before the row that needs them.
        measured = {(row.variant, row.sim_steps) for row in self.rows.rows}
        whole = {DQN_ITSELF, *(games_label(*each) for each in measured)}
        self.games.rows = [game for game in self.games.rows if game.variant in whole]
        wanted = [
            (name, steps)
            for name in names
            for steps in sim_steps
            if steps <= (variants[name].method_class.max_sim_steps or steps) and (name, steps) not in measured
        ]
        if not self.games.rows and self.episodes:
            self.games.rows = self._games_of_the_dqn()
        q = {stream: q_values(self.dqn, states) for stream, states in self.test.items()}
        held_out = np.concatenate(list(self.test.values()))
        converted: dict[str, Converted] = {}
        taught: dict[str, RateCodedNetwork] = {}
        with Progress(f"compare conversions on {self.dqn.game.name}", len(wanted), "networks") as progress:
            for name, steps in wanted:
                variant = variants[name]
                method, options = variant.chosen(self.shared), variant.coding
                if name not in converted or method.depends_on_sim_steps:
                    made_for = steps if method.depends_on_sim_steps else max(sim_steps)
                    coding = variant.converting(made_for, method)
                    key = method.training_key(coding)
                    training = Training(self.seed, held_out, taught.get(key))
                    made = method.convert(self.dqn, self.calibration, coding, training)
                    if method.name == method.training:
                        taught[key] = made.snn
                    converted = {name: made}
                made = converted[name]
                if made.snn.coding.sim_steps != steps:
                    made = made._replace(snn=made.snn.varied(sim_steps=steps))
                if options.stop_gap is not None:
                    gap = measurement.stop_gap(made.snn, self.calibration[: measurement.ANYTIME_STATES])
                    options = replace(options, stop_gap=gap)
                    made = made._replace(snn=made.snn.varied(stop_gap=gap))
                new_rows, new_games = self._measure(name, variant, method, options, made, q)
                self.games.rows += new_games
                self.games.keep()
                self.rows.rows += new_rows
                self.rows.keep()
                progress.advance(1, f"{name} at {steps} sim steps: {new_rows[-1].agreement:.1%} agreement")

    def _games_of_the_dqn(self) -> list[EpisodeRow]:
        """The DQN's own games, with which those of converted networks are compared."""
        return [
            self._game_row(played, self.checkpoint, DQN_ITSELF)
            for played in play(
                self.dqn, self.dqn.game, self.protocol, eval_seed=self.seed, episodes=range(self.episodes)
            )
        ]

    def _game_row(self, played: Played, checkpoint: Checkpoint, variant: str) -> EpisodeRow:
        return episode_row(played, checkpoint, self.dqn.game, self.protocol, self.seed, variant=variant)

    def _measure(
        self,
        name: str,
        variant: Variant,
        method: Method,
        options: CodingOptions,
        made: Converted,
        q: dict[str, np.ndarray],
    ) -> tuple[list[ConversionRow], list[EpisodeRow]]:
        """The rows of one network: on its own games, and on states of the DQN's play."""
        snn = made.snn
        r2 = ""
        # layer_r2 does not simulate neurons that presteps silence. Trained layers are not in the DQN's units.
        comparable = method.keeps_neurons and method.training is None
        if comparable and not (snn.coding.presteps or variant.carries):
            explained = measurement.layer_r2(self.dqn, made, self.test["test"][:R2_STATES])
            r2 = to_json([round(value, 4) for value in explained])
        settings = to_json(
            {**recorded(method, self.shared), **asdict(options), **made.settings(), "seed": self.seed}
        )
        reached = measurement.fan_out(snn)

        def row(states: str, q_dqn: np.ndarray, found: OnStates) -> ConversionRow:
            actions = q_dqn.argmax(1)
            return ConversionRow(
                game=self.dqn.game.name,
                source_id=self.checkpoint.id,
                train_seed=self.checkpoint.provenance["train_seed"],
                training=self.checkpoint.training,
                method=method.name,
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
            snn_checkpoint = replace(self.checkpoint, agent=snn)
            played, q_dqn, q_snn = measurement.play_beside(
                self.dqn, snn, self.protocol, self.seed, range(self.episodes)
            )
            label = games_label(name, snn.coding.sim_steps)
            games = [self._game_row(game, snn_checkpoint, label) for game in played]
            found = OnStates(
                q_snn,
                np.sum([game.spikes for game in played], axis=0)[None] / len(q_snn),
                np.array([sum(game.sim_steps_sum for game in played) / len(q_snn)]),
            )
            rows.append(row("snn-driven", q_dqn, found))
        if not variant.carries:
            for states, stream in (("validation", "validation"), ("dqn-driven", "test")):
                rows.append(row(states, q[stream], measurement.decide_all(snn, self.test[stream])))
        return rows, games
