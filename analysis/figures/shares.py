"""Figures of the share of the DQN's score that networks keep over games. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    TWO_COLUMNS,
    NothingToDraw,
    colour_of,
    ending,
    few_numbers,
    foot,
    marker_of,
    parts,
    sim_steps,
)
from analysis.rows import EPISODES, OPERATIONS, typed
from analysis.runs import Family, in_order, names
from analysis.shares import Kept, shares_kept, sparse_dqns
from analysis.words import span
from core.games import PUBLISHED, Tier
from core.rows import OperationsRow
from core.words import count

MAX_METHODS = 10
"""The most methods that one figure shows: more than other figures, because they are there to be compared."""
LEAST_GAMES = 2
"""Fewest games of a figure over games."""
PUBLISHED_LINES = {"DSQN-CVT": "x", "CRPI": "+", "DSQN(Liu)": "2", "CMC-DSQN": "1"}
"""Published agents beside ours, and their markers: a weak and the strongest conversion, Liu's DSQN, and the strongest
direct training."""


@FIGURES.register("share_against_sim_steps")
@draws(EPISODES, section="scores", position=15)
def share_against_sim_steps(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Share of the DQN's score above random play that each network keeps, over games, against its simulation steps.

    Bars: 95 % intervals over training seeds. Black markers: published for MinAtar (Xu et al. 2026, Table 2; maximum
    returns after 5 M decisions). Shown are the networks that played the games that at least half of them played.
    """
    missing = (
        "no trained spiking network with a DQN of its recipe on two games; spikeq evaluate run scores both"
    )
    return _figures(shares_kept(rows), None, missing)


@FIGURES.register("share_against_operations")
@draws(EPISODES, OPERATIONS, section="cost", position=225)
def share_against_operations(rows: pd.DataFrame, operations: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Share of the DQN's score above random play that each network keeps, over games, against the operations of a
    decision relative to a dense pass of the DQN.

    Operations are additions and multiply-accumulates that are not by zero, with the first layer computed once. Dotted
    lines: the DQN, dense and skipping zeros. Points of a line differ in simulation steps. Bars: 95 % intervals over
    training seeds. Shown are the networks that were counted on the games that at least half of them were counted on.
    """
    counts = typed(operations, OperationsRow)
    kept = shares_kept(rows, counts)
    counted = [each.on([game for game in each.games if each.counted.get(game)]) for each in kept]
    missing = "no network whose operations were counted on two games; spikeq evaluate probe counts them"
    return _figures([each for each in counted if each.games], sparse_dqns(counts), missing)


Line = tuple[str, Sequence[Kept]]
"""A method's name, and what it keeps at each number of simulation steps."""


def _figures(
    kept: Sequence[Kept], of_dqns: Mapping[Tier, float] | None, missing: str
) -> Iterator[tuple[str, Figure]]:
    """The figures of all tiers.

    Args:
        kept: what networks keep.
        of_dqns: operations of DQNs that skip zeros, for figures against operations; None for simulation steps.
        missing: what is said if there is no figure.
    """
    tiers = [*_lines(kept)]
    if not tiers:
        raise NothingToDraw(missing)
    for tier, lines in tiers:
        for number, shown in parts(lines, MAX_METHODS):
            yield ending(tier, number), _figure(shown, tier, of_dqns)


def _lines(kept: Sequence[Kept]) -> Iterator[tuple[Tier, list[Line]]]:
    """The methods of each tier on the games that they have in common (`_common_games`), if these are two."""
    spiking = [each for each in kept if each.sim_steps]
    for tier, group in groupby(spiking, key=lambda each: each.tier):
        methods: dict[Family, list[Kept]] = {}
        for each in sorted(group, key=lambda each: each.sim_steps):
            methods.setdefault(_method(each.family), []).append(each)
        games = _common_games([*methods.values()])
        shown = {
            method: points
            for method, of_method in methods.items()
            if (points := [each.on(games) for each in of_method if set(games) <= set(each.games)])
        }
        if games:
            name_of = names(shown)
            yield tier, [(name_of[method], shown[method]) for method in in_order(shown)]


def _common_games(methods: Sequence[Sequence[Kept]]) -> list[str]:
    """The most games, two or more, that half of those methods played that played two; none if no method did.

    Shares over different games do not compare. A study under way shows its methods on the games that are done.
    """
    everyone = [
        {frozenset(each.games) for each in method if len(each.games) >= LEAST_GAMES} for method in methods
    ]
    played = [sets for sets in everyone if sets]
    number = {
        games: sum(any(games <= own for own in others) for others in played)
        for sets in played
        for games in sets
    }
    # Without games that half of them played, those that most did.
    least = min(len(played) / 2, max(number.values(), default=0))
    enough = [sorted(games) for games in number if number[games] >= least]
    return max(enough, key=lambda games: (len(games), games), default=[])


def _method(family: Family) -> Family:
    """The family without its simulation steps."""
    network = "+".join(part for part in family.network.split("+") if not part.startswith("sim_steps="))
    return family._replace(network=network, sim_steps=0)


def _figure(lines: Sequence[Line], tier: Tier, of_dqns: Mapping[Tier, float] | None) -> Figure:
    against_operations = of_dqns is not None
    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    axis = figure.subplots()
    for name, points in lines:
        at = [float((each.operations if against_operations else each.sim_steps) or 0) for each in points]
        shares = [100 * each.share.estimate for each in points]
        family = points[0].family
        colour = colour_of(family.agent, family.variant)
        seeds = span((size for each in points for size in each.seeds), "d")
        label = f"{name}, {seeds} seed{'' if seeds == '1' else 's'}"
        if against_operations:
            label = f"{label}, {'/'.join(str(each.sim_steps) for each in points)} sim steps"
        axis.plot(at, shares, color=colour, marker=marker_of(family.agent), label=label)
        # A share without an interval has NaN as its bounds, which nothing is drawn for.
        below = [share - 100 * each.share.low for share, each in zip(shares, points, strict=True)]
        above = [100 * each.share.high - share for share, each in zip(shares, points, strict=True)]
        axis.errorbar(at, shares, [below, above], fmt="none", ecolor=colour, elinewidth=0.7)
    axis.axhline(100, color="black", linewidth=0.5)
    if of_dqns is not None:
        axis.set_xscale("log")
        few_numbers(axis.xaxis)
        for at_dqn, what in ((1.0, "DQN, dense"), (of_dqns[tier], "DQN, skipping zeros")):
            axis.axvline(at_dqn, color="black", linewidth=0.5, linestyle=":")
            axis.annotate(
                what,
                (at_dqn, 0.02),
                (-6, 0),
                xycoords=axis.get_xaxis_transform(),
                textcoords="offset points",
                rotation=90,
                fontsize=6,
                ha="center",
                va="bottom",
            )
        axis.set_xlabel("operations of a decision, dense pass of the DQN = 1")
    else:
        if tier == "minatar":
            _published(axis)
        sim_steps(
            axis, sorted({each.sim_steps for _, points in lines for each in points} | _published_at(tier))
        )
    axis.set_ylabel("share of the DQN's score (%)")
    games = len(lines[0][1][0].games)
    axis.set_title(f"{tier}, {count(games, 'game')}")
    foot(figure, [axis])
    return figure


def _published_rows() -> pd.DataFrame:
    published = pd.read_csv(PUBLISHED / "published_scores.csv")
    return published[(published.game == "all (minatar)") & published.agent.isin(PUBLISHED_LINES)]


def _published_at(tier: str) -> set[int]:
    return {int(each) for each in _published_rows().sim_steps} if tier == "minatar" else set()


def _published(axis: Axes) -> None:
    """Draw the published shares over MinAtar's five games."""
    rows = _published_rows()
    for agent, marker in PUBLISHED_LINES.items():
        own = rows[rows.agent == agent]
        look: dict[str, Any] = {"marker": marker, "s": 22, "color": "black", "linewidth": 0.8, "zorder": 3}
        axis.scatter(own.sim_steps.astype(int), own["mean"], label=f"{agent}, published", **look)
