"""Figures of converted networks and their DQNs. Never imports torch."""

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_LINES,
    MAX_PANELS,
    METHOD_COLOURS,
    ONE_COLUMN,
    PANEL_HEIGHT,
    TWO_COLUMNS,
    colour_of,
    dashes_of,
    ending,
    few_numbers,
    foot,
    grid,
    lighter,
    parts,
    sim_steps,
)
from analysis.rows import CONVERSIONS, METHOD_GAMES, METHODS
from analysis.statistics import kept_interval
from analysis.trainings import apart
from core.games import get_game, reference
from core.reading import parse_json
from core.records import require_single


@FIGURES.register("agreement_against_sim_steps")
@draws(CONVERSIONS, section="conversion", position=150)
def agreement_against_sim_steps(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How many simulation steps a converted SNN needs to take its DQN's action, on held-out states of the DQN's play:
    mean and range over training seeds. n: DQNs that were converted.

    Tan et al. 2021 measure this on states of the spiking network's own play. The dotted line is the agreement of a
    constant action. A curve ends at the sim steps that its network was made for.
    """
    rows = rows[rows.reference == "dqn"]
    # One method may give several networks of one DQN, made for different sim steps.
    rows = rows.assign(
        made_for=[parse_json(settings, not_finite=True)["sim_steps"] for settings in rows.settings],
        apart=apart(rows.training),
    )
    columns = ["method", "made_for", "apart", "readout"]
    networks = sorted(set(rows[columns].itertuples(index=False, name=None)))
    games = sorted(set(rows.game))
    for part, titles in parts(games, MAX_PANELS):
        here = rows[rows.game.isin(titles)]
        most = [
            network
            for network in networks
            if network in set(here[columns].itertuples(index=False, name=None))
        ]
        for number, shown in parts(most, MAX_LINES):
            yield ending(part, number), _agreement_figure(here, shown)


def _agreement_figure(rows: pd.DataFrame, networks: Sequence[tuple[str, int, str, str]]) -> Figure:
    """A panel for each game, with a curve for each method, number of sim steps and read-out."""
    figure, axes = grid(sorted(set(rows.game)))
    for game, axis in axes.items():
        here = rows[rows.game == game]
        axis.set_title(f"{game}, n = {here.source_id.nunique()}")
        drawn: set[int] = set()
        trainings = sorted(set(here.apart))  # those after the first have lighter shades
        for method, made_for, training, readout in networks:
            of_network = (here.method == method) & (here.made_for == made_for) & (here.apart == training)
            own = here[of_network & (here.readout == readout)]
            if own.empty:
                continue
            drawn |= set(own.sim_steps)
            curve = 100 * own.groupby("sim_steps").agreement.agg(["mean", "min", "max"])
            colour = lighter(colour_of("rate-coded", method), trainings.index(training))
            look = {"color": colour, "linestyle": dashes_of(made_for)}
            of_training = f", training {training}" if training else ""
            name = f"{method} for {made_for}{of_training}, {readout} read-out"
            marker = {"robust": ".", "spikes": "x"}.get(readout, "+")
            axis.plot(curve.index, curve["mean"], **look, marker=marker, label=name)
            axis.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.1)
        constant = 100 * here.majority_share.mean()
        axis.axhline(constant, color=colour_of("random"), linestyle=":", label="constant action")
        sim_steps(axis, sorted(drawn))
        axis.set_xlabel("sim steps")
        axis.set_ylim(0, 102)
        axis.set_ylabel("agreement with the DQN (%)")
    foot(figure, list(axes.values()))
    return figure


@FIGURES.register("agreement_of_methods")
@draws(METHODS, section="conversion", position=160)
def agreement_of_methods(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How often each conversion takes its DQN's action, and the regret of its other actions in Q-value, on held-out
    states of the DQN's play."""
    rows = rows[rows.states == "dqn-driven"]
    for part, games in parts(sorted(set(rows.game)), MAX_PANELS // 2):
        here = rows[rows.game.isin(games)]
        for number, shown in parts(_methods(here, "variant"), MAX_LINES):
            with_them = here[here.variant.isin(shown)].game
            yield ending(part, number), _methods_figure(here, sorted(set(with_them)), shown)


def _methods_figure(rows: pd.DataFrame, games: Sequence[str], methods: Sequence[str]) -> Figure:
    """Agreement above regret, with a column for each game."""
    width = ONE_COLUMN if len(games) == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, 2 * PANEL_HEIGHT), layout="constrained")
    panels = figure.subplots(2, len(games), squeeze=False)
    for column, game in enumerate(games):
        here = rows[rows.game == game]
        require_single(here.train_seed, f"training seed of {game}'s conversions")
        require_single(apart(here.training), f"training of {game}'s DQN")
        for name in methods:
            ordered = here[here.variant == name].sort_values("sim_steps")
            look = {"color": colour_of("rate-coded", name), "marker": "."}
            panels[0][column].plot(ordered.mean_sim_steps, 100 * ordered.agreement, label=name, **look)
            panels[1][column].plot(ordered.mean_sim_steps, ordered.regret, **look)
        panels[0][column].set_title(game)
        panels[0][column].set_ylabel("agreement with the DQN (%)")
        panels[1][column].set_ylabel("regret (Q)")
        panels[1][column].set_yscale("log")
        few_numbers(panels[1][column].yaxis)
        for axis in panels[:, column]:
            sim_steps(axis, sorted(set(rows.sim_steps)))
    foot(figure, list(panels[0]))
    return figure


@FIGURES.register("score_of_methods")
@draws(METHOD_GAMES, section="conversion", position=170)
def score_of_methods(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How many simulation steps each conversion needs to keep its DQN's score above random play, on the same starts.
    Bands: 95 % over games."""
    named = rows.variant.str.extract(r"(?P<name>.+) T=(?P<at>\d+)")
    rows = rows.assign(name=named.name, at=named["at"].astype(float))
    for part, games in parts(sorted(set(rows.game)), MAX_PANELS):
        here = rows[rows.game.isin(games)]
        for number, shown in parts(_methods(here[here.name.notna()], "name"), MAX_LINES):
            with_them = here[here.name.isin(shown)].game
            yield ending(part, number), _kept_figure(here, sorted(set(with_them)), shown)


def _kept_figure(rows: pd.DataFrame, games: Sequence[str], methods: Sequence[str]) -> Figure:
    """A panel for each game, with a curve for each method."""
    figure, axes = grid(games)
    for game, axis in axes.items():
        here = rows[rows.game == game].sort_values("episode")
        require_single(here.train_seed, f"training seed of {game}'s conversions")
        require_single(apart(here.training), f"training of {game}'s DQN")
        of_dqn = here[here.variant == "dqn"].score.to_numpy()
        random = reference(get_game(game)).random
        assert random is not None  # Random play is published or measured for every game.
        for name in methods:
            own = here[here.name == name]
            if own.empty:
                continue
            sizes = sorted(set(own["at"]))
            points = [kept_interval(own[own["at"] == at].score.to_numpy(), of_dqn, random) for at in sizes]
            taken = [own[own["at"] == at].mean_sim_steps.mean() for at in sizes]
            colour = colour_of("rate-coded", name)
            few = "" if points[0].is_given else f", n = {points[0].n}, too few for an interval"
            estimates = [100 * point.estimate for point in points]
            axis.plot(taken, estimates, label=name + few, color=colour, marker=".")
            lows, highs = [100 * point.low for point in points], [100 * point.high for point in points]
            axis.fill_between(taken, lows, highs, color=colour, alpha=0.06)
        axis.axhline(100, color="black", linewidth=0.5)
        sim_steps(axis, sorted({int(at) for at in here["at"].dropna()}))
        axis.set_ylabel("share of the DQN's score (%)")
    foot(figure, list(axes.values()))
    return figure


def _methods(rows: pd.DataFrame, column: str) -> list[str]:
    """Names of the methods in a column: known ones in the order of METHOD_COLOURS, then others by name."""
    known = [name for name in METHOD_COLOURS if (rows[column] == name).any()]
    return [*known, *sorted(set(rows[column]) - set(known))]
