"""The scores of a study in a few lines. Never imports torch."""

import math
from collections.abc import Sequence

from analysis.runs import names
from analysis.tables import Line, score_lines
from core.rows import EpisodeRow
from core.words import count

MOST_GAMES, MOST_NETWORKS = 6, 8
"""How many are named. Tables have all of them."""


def summary(rows: Sequence[EpisodeRow]) -> list[str]:
    """One line for each game with the mean score of each network, over its seeds.

    The best weights of a training stand for it if they were evaluated, otherwise its last.

    Raises:
        Refusal: the rows do not compare.
    """
    games: dict[str, dict[str, list[Line]]] = {}
    lines = [line for line in score_lines(rows) if line.checkpoint != "final"]
    trained = {(line.game, line.family, line.train_seed) for line in lines}
    lines += [line for line in score_lines(rows) if (line.game, line.family, line.train_seed) not in trained]
    for line in lines:
        several = {other.family for other in lines if (other.game, other.agent) == (line.game, line.agent)}
        name = names(several)[line.family] if len(several) > 1 else line.agent
        games.setdefault(line.game, {}).setdefault(name, []).append(line)
    told = [f"{game}: {', '.join(_networks(networks))}" for game, networks in sorted(games.items())]
    more = len(told) - MOST_GAMES
    return [*told[:MOST_GAMES], *([f"and {count(more, 'more game')}"] if more > 0 else [])]


def _networks(networks: dict[str, list[Line]]) -> list[str]:
    told = [
        f"{name} {math.fsum(line.score.estimate for line in lines) / len(lines):,.2f}"
        for name, lines in networks.items()
    ]
    more = len(told) - MOST_NETWORKS
    return [*told[:MOST_NETWORKS], *([f"and {more} more"] if more > 0 else [])]
