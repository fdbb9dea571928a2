"""What `convert compare` prints: its rows and games as a Markdown table."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from analysis.statistics import kept_interval, mean_interval
from analysis.tables import aligned
from analysis.words import instead, score_bounds
from convert.comparison import DQN_ITSELF, games_label
from convert.method import METHODS
from core.games import get_game, reference
from core.rows import ConversionRow, EpisodeRow

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

HEADER = (
    "T", "method", "sim steps", "agreement", "kappa", "on own states", "regret", "common error",
    "differential error", "spikes", "additions (M, estimated)", "score (95 %)", "kept of the DQN's (95 %)",
)  # fmt: skip


def markdown(rows: Sequence[ConversionRow], games: Sequence[EpisodeRow]) -> str:
    """The comparison as a table, one line a variant and number of simulation steps.

    At each number, * marks the variant with the least regret on the validation states: one of those that compute
    their weights, and one of those that train them.
    """
    scores = {
        variant: [game.score for game in sorted(group, key=lambda game: game.episode)]
        for variant, group in _grouped(games, lambda game: game.variant).items()
    }
    random = reference(get_game(rows[0].game)).random
    lines = []
    for steps, at_steps in sorted(_grouped(rows, lambda row: row.sim_steps).items()):
        by_training = _grouped(at_steps, lambda row: METHODS[row.method].training is not None)
        for _, alike in sorted(by_training.items()):
            regrets = {row.variant: row.regret for row in alike if row.states == "validation"}
            for name, of_variant in _grouped(alike, lambda row: row.variant).items():
                chosen = name in regrets and regrets[name] == min(regrets.values())
                played = scores.get(games_label(name, steps), [])
                lines.append(
                    (
                        str(steps),
                        name + ("*" if chosen else ""),
                        *_measured(of_variant),
                        *_scored(played, scores.get(DQN_ITSELF, []), random),
                    )
                )
    text = aligned([HEADER, *lines])
    text += "\nT: simulation steps that a layer fires for; sim steps: those that pass until the decision.\n"
    if by_dqn := scores.get(DQN_ITSELF):
        text += (
            f"The DQN scores {_score(by_dqn)} in {len(by_dqn)} games, random play {random}; "
            f"every network played the same starts, and shares kept are of scores above random play.\n"
        )
    return text


def _measured(rows: Sequence[ConversionRow]) -> tuple[str, ...]:
    """The cells from sim steps to additions, of one variant at one number of simulation steps."""
    of = {row.states: row for row in rows}
    test, own = of.get("dqn-driven"), of.get("snn-driven")
    return (
        f"{rows[0].mean_sim_steps:.1f}",
        f"{test.agreement:.1%}" if test else "",
        f"{test.kappa:.3f}" if test else "",
        f"{own.agreement:.1%}" if own else "",
        f"{test.regret:.4g}" if test else "",
        f"{test.common_error:.3g}" if test else "",
        f"{test.differential_error:.3g}" if test else "",
        f"{rows[0].spikes_per_decision:,.0f}",
        f"{rows[0].additions_per_decision / 1e6:.3f}",
    )


def _scored(played: Sequence[float], by_dqn: Sequence[float], random: float | None) -> tuple[str, str]:
    """The cells of scores: the mean, and the share of the DQN's that is kept where the DQN beats random play."""
    if not played:
        return "", ""
    kept = ""
    if random is not None and np.mean(by_dqn) > random:
        share = kept_interval(played, by_dqn, random)
        kept = f"{share.estimate:.0%} ({instead(share) or f'{share.low:.0%} to {share.high:.0%}'})"
    return _score(played), kept


def _score(played: Sequence[float]) -> str:
    score = mean_interval(played)
    return f"{score.estimate:.2f} ({score_bounds(score)})"


def _grouped(rows: Sequence[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
