"""Figures of converted networks and their DQNs. Never imports torch."""

import itertools
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import LINE_STYLES, PANEL_INCHES, colour_of, common_legend, panels, sim_steps
from analysis.rows import CONVERSIONS, METHOD_GAMES, METHODS
from analysis.statistics import kept_interval
from analysis.trainings import apart
from core.games import PUBLISHED, get_game, reference
from core.reading import parse_json
from core.records import require_single

METHOD_ORDER = (
    *("tan2021", "max", "v-init", "threshold-search", "presteps", "signed"),
    *("reconstruct", "residual", "anytime", "afterwards", "qcfs", "exact"),
)
"""Methods of `convert compare`, in the order of legends. Colours repeat after six methods, with dashed lines."""
METHOD_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


@FIGURES.register("agreement_against_sim_steps")
@draws(CONVERSIONS, position=150)
def agreement_against_sim_steps(rows: pd.DataFrame) -> Figure:
    """Share of held-out states of the DQN's play in which the converted network takes the DQN's action: mean and range
    over training seeds.

    Tan et al. 2021 measure this on states of the spiking network's own play. The dotted line is the agreement of a
    constant action. A curve ends at the sim steps that its network was made for.
    """
    rows = rows[rows.reference == "dqn"]
    # One method may give several networks of one DQN, made for different sim steps.
    rows = rows.assign(
        made_for=[parse_json(settings, not_finite=True)["sim_steps"] for settings in rows.settings]
    )
    rows = rows.assign(apart=apart(rows.training))
    figure, axes = panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        networks = sorted(set(zip(here.method, here.made_for, here.apart, strict=True)))
        for (method, made_for, training), colour in zip(networks, itertools.cycle(METHOD_COLOURS)):
            of_network = here[
                (here.method == method) & (here.made_for == made_for) & (here.apart == training)
            ]
            for readout, group in of_network.groupby("readout"):
                curve = 100 * group.groupby("sim_steps").agreement.agg(["mean", "min", "max"])
                of_training = f", training {training}" if training else ""
                name = f"{method} for {made_for}{of_training}, {readout} read-out, n = {group.source_id.nunique()}"
                style = LINE_STYLES[str(readout)]
                axis.plot(curve.index, curve["mean"], color=colour, linestyle=style, marker=".", label=name)
                axis.fill_between(curve.index, curve["min"], curve["max"], color=colour, alpha=0.1)
        constant = 100 * here.majority_share.mean()
        axis.axhline(constant, color=colour_of("random"), linestyle=":", label="constant action")
        sim_steps(axis, sorted(set(here.sim_steps)))
        axis.set_xlabel("sim steps")
        axis.set_ylim(0, 102)
        axis.set_ylabel("agreement with the DQN (%)")
    common_legend(figure, list(axes.values()), 2)
    return figure


@FIGURES.register("agreement_of_methods")
@draws(METHODS, position=160)
def agreement_of_methods(rows: pd.DataFrame) -> Figure:
    """How often each conversion takes its DQN's action, and the regret of its other actions in Q-value, on held-out
    states of the DQN's play."""
    rows = rows[rows.states == "dqn-driven"]
    games = sorted(set(rows.game))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), 2.2 * PANEL_INCHES[1]), layout="constrained")
    panels = figure.subplots(2, len(games), squeeze=False)
    for column, game in enumerate(games):
        require_single(rows[rows.game == game].train_seed, f"training seed of {game}'s conversions")
        require_single(apart(rows[rows.game == game].training), f"training of {game}'s DQN")
        for name, group in _methods(rows[rows.game == game], "variant"):
            ordered = group.sort_values("sim_steps")
            look = _method_style(name)
            panels[0][column].plot(ordered.mean_sim_steps, 100 * ordered.agreement, label=name, **look)
            panels[1][column].plot(ordered.mean_sim_steps, ordered.regret, **look)
        panels[0][column].set_title(game)
        panels[0][column].set_ylabel("agreement with the DQN (%)")
        panels[1][column].set_ylabel("regret (Q)")
        panels[1][column].set_yscale("log")
        for axis in panels[:, column]:
            sim_steps(axis, sorted(set(rows.sim_steps)))
    common_legend(figure, list(panels[0]), 3 + len(games))
    return figure


@FIGURES.register("score_of_methods")
@draws(METHOD_GAMES, position=170)
def score_of_methods(rows: pd.DataFrame) -> Figure:
    """Share of its DQN's score above random play that each conversion keeps on the same starts. Black markers:
    published for MinAtar (Xu et al. 2026, Table 2: best returns, mean over five games)."""
    figure, axes = panels(rows)
    published = pd.read_csv(PUBLISHED / "published_scores.csv")
    published = published[published.game == "all (minatar)"]
    for game, axis in axes.items():
        here = rows[rows.game == game].sort_values("episode")
        require_single(here.train_seed, f"training seed of {game}'s conversions")
        require_single(apart(here.training), f"training of {game}'s DQN")
        of_dqn = here[here.variant == "dqn"].score.to_numpy()
        random = reference(get_game(game)).random
        assert random is not None  # Random play is published or measured for every game.
        named = here[here.variant != "dqn"].variant.str.extract(r"(?P<name>.+) T=(?P<sim_steps>\d+)")
        games = here.loc[named.index].assign(name=named.name, at=named.sim_steps.astype(int))
        for name, group in _methods(games, "name"):
            sizes = [int(at) for at in sorted(set(group["at"]))]
            points = [
                kept_interval(group[group["at"] == at].score.to_numpy(), of_dqn, random) for at in sizes
            ]
            look = _method_style(name)
            taken = [group[group["at"] == at].mean_sim_steps.mean() for at in sizes]
            few = "" if points[0].is_given else f", n = {points[0].n}, too few for an interval"
            axis.plot(taken, [100 * point.estimate for point in points], label=name + few, **look)
            lows, highs = [100 * point.low for point in points], [100 * point.high for point in points]
            axis.fill_between(taken, lows, highs, color=look["color"], alpha=0.06)
        if get_game(game).tier == "minatar":
            for agent, marker in (("DSQN-CVT", "x"), ("CRPI", "+")):
                points_of = published[published.agent == agent]
                axis.scatter(
                    points_of.sim_steps.astype(int),
                    points_of["mean"],
                    marker=marker,
                    color="black",
                    s=25,
                    zorder=3,
                    label=f"published {agent}",
                )
        axis.axhline(100, color="black", linewidth=0.5)
        sim_steps(axis, sorted(set(games["at"])))
        axis.set_ylabel("share of the DQN's score (%)")
    common_legend(figure, list(axes.values()), 3 + len(axes))
    return figure


def _methods(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of each method: known methods in the order of METHOD_ORDER, then others by name."""
    known = [name for name in METHOD_ORDER if (rows[column] == name).any()]
    for name in [*known, *sorted(set(rows[column]) - set(known))]:
        yield name, rows[rows[column] == name]


def _method_style(name: str) -> dict[str, Any]:
    """The look of a method, equal in all figures. The look of other methods is derived from their name."""
    if name not in METHOD_ORDER:
        return {"color": colour_of(name), "linestyle": ":", "marker": ".", "linewidth": 1}
    position = METHOD_ORDER.index(name)
    return {
        "color": METHOD_COLOURS[position % len(METHOD_COLOURS)],
        "linestyle": ("-", "--")[position // len(METHOD_COLOURS)],
        "marker": ".",
        "linewidth": 1,
    }
