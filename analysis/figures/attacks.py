"""Figures of agents under attack. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.aggregates import mean_of_games, stratified_interval
from analysis.attackers import (
    AIMED,
    BOUNDED,
    AttackerKind,
    Victim,
    cells,
    flips,
    is_usual,
    kind_of,
    made,
    masking_gaps,
    network_of,
    setting_of,
    strength,
    strongest,
)
from analysis.figures.registry import FIGURES, draws
from analysis.figures.style import (
    MAX_LINES,
    MAX_PANELS,
    PANEL_HEIGHT,
    NothingToDraw,
    ending,
    foot,
    grid,
    looks,
    parts,
    reference_lines,
    steps_of,
)
from analysis.rows import ATTACKS, STATE_ATTACKS
from analysis.runs import Family, families, in_order, names, require_comparable
from analysis.statistics import LEAST_EPISODES, Interval
from core.games import get_game
from core.records import require_single
from core.rows import StateAttackRow

_KINDS: tuple[tuple[str, AttackerKind, str, str], ...] = (
    ("best white-box", "white-box", "#D55E00", "-"),
    ("transfer", "transfer", "#CC79A7", "-."),
    ("black-box", "black-box", "#0072B2", "-."),
    ("noise", "noise", "#999999", ":"),
)
"""Name, kind, colour and line style of each kind of attacker. The strongest attack of each kind is drawn."""


class Curve(NamedTuple):
    """The effect of attacks of growing size on the networks of one family on one game."""

    label: str
    look: dict[str, object]
    epsilons: list[float]
    points: list[Interval]


@FIGURES.register("score_against_epsilon")
@draws(ATTACKS, section="robustness", position=180)
def score_against_epsilon(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Score under FGSM, under the strongest attack (the one that flips most decisions) and under noise of equal size.
    Means over training seeds; 95 % intervals over the episodes of these networks."""
    yield from _against_epsilon(rows, "score", "score")


@FIGURES.register("flips_against_epsilon")
@draws(ATTACKS, section="robustness", position=190)
def flips_against_epsilon(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Share of decisions whose greedy action changed under FGSM, the strongest attack and noise of equal size."""
    yield from _against_epsilon(rows.assign(flips=100 * rows.flip_share), "flips", "decisions flipped (%)")


@FIGURES.register("flips_of_states")
@draws(STATE_ATTACKS, section="robustness", position=200)
def flips_of_states(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Share of stored states whose greedy action changes under the strongest attack of each kind, and under FGSM along
    the gradient that trained the agent (the usual attack). 95 % intervals over states.

    Args:
        rows: StateAttackRows.
    """
    found = _by_network(rows)
    for game in dict.fromkeys(own[0].game for _, own in found):
        of_game = [(title, own) for title, own in found if own[0].game == game]
        for number, shown in parts(of_game, MAX_PANELS):
            yield ending(game, number), _flips_figure(shown)


def _flips_figure(found: Sequence[tuple[str, list[StateAttackRow]]]) -> Figure:
    """A panel for each network, with a line for each kind of attacker."""
    figure, axes = grid([title for title, _ in found], PANEL_HEIGHT + 0.2)
    for (_, own), axis in zip(found, axes.values(), strict=True):
        lines: list[tuple[str, str, str, list[StateAttackRow]]] = [
            (name, colour, dashes, [row for row in own if kind_of(row) == kind])
            for name, kind, colour, dashes in _KINDS
        ]
        lines.insert(1, ("FGSM, training gradient", "#E69F00", "--", [row for row in own if is_usual(row)]))
        for name, colour, dashes, under in lines:
            best = {epsilon: strongest(cell, *BOUNDED) for (_, epsilon), cell in cells(under).items()}
            shares = {epsilon: flips(row) for epsilon, row in best.items() if row is not None}
            _with_band(axis, name, shares, {"color": colour, "linestyle": dashes})
        _epsilons(axis, own[0].game, sorted({row.epsilon for row in own}))
        axis.set_ylim(-3, 103)
        axis.set_ylabel("states flipped (%)")
    foot(figure, list(axes.values()))
    return figure


@FIGURES.register("masking_gap")
@draws(STATE_ATTACKS, section="robustness", position=210)
def masking_gap(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Masking gap: the share of states flipped by the best attack, minus the share flipped by FGSM along the gradient
    that trained the agent. The usual attack misses these states. 95 % intervals over states.

    Args:
        rows: StateAttackRows.
    """
    found = [
        (title, own, gaps)
        for title, own in _by_network(rows)
        if (gaps := {gap.epsilon: gap.gap for gap in masking_gaps(own)})
    ]
    if not found:
        raise NothingToDraw(
            "no FGSM along a training gradient in these rows; python -m adversarial states makes it"
        )
    games = list(dict.fromkeys(own[0].game for _, own, _ in found))
    for part, titles in parts(games, MAX_PANELS):
        most = max(sum(own[0].game == game for _, own, _ in found) for game in titles)
        for number in range(-(-most // MAX_LINES)):
            name = ending(part, str(number + 1) if most > MAX_LINES else "")
            yield name, _masking_figure(rows, found, titles, number * MAX_LINES)


def _masking_figure(
    rows: pd.DataFrame,
    found: Sequence[tuple[str, list[StateAttackRow], dict[float, Interval]]],
    games: Sequence[str],
    first: int,
) -> Figure:
    """A panel for each game, with a line for each network from a first one on."""
    of_game = {game: [each for each in found if each[1][0].game == game] for game in games}
    shown = {game: lines[first : first + MAX_LINES] for game, lines in of_game.items() if len(lines) > first}
    figure, axes = grid(list(shown))
    for game, axis in axes.items():
        here = families(rows[rows.game == game])
        name_of, look = (
            names(here),
            looks(in_order(here), steps_of(rows[rows.game == game].assign(family=here))),
        )
        drawn = [families(pd.DataFrame([own[0]]))[0] for _, own, _ in of_game[game]]
        for title, own, gaps in shown[game]:
            family = families(pd.DataFrame([own[0]]))[0]
            alone = drawn.count(family) == 1
            label = name_of[family] if alone else title.removeprefix(f"{game}\n")
            _with_band(axis, label, gaps, look[family])
        axis.axhline(0.0, color="#666666", linewidth=0.6)
        sizes = sorted({epsilon for _, _, gaps in shown[game] for epsilon in gaps})
        _epsilons(axis, game, sizes)
        axis.set_xlim(left=0.8 * sizes[0])
        axis.set_ylabel("masking gap (points)")
    foot(figure, list(axes.values()))
    return figure


def _by_network(rows: pd.DataFrame) -> list[tuple[str, list[StateAttackRow]]]:
    """Title and rows of every network and setting.

    Raises:
        NothingToDraw: the rows hold no attack.
        Refusal: the states of one network come from several drawings.
    """
    found: dict[tuple[Victim, str], list[StateAttackRow]] = {}
    for values in rows.to_dict("records"):
        row = StateAttackRow(**{str(name): value for name, value in values.items()})
        # Sizes of controls have other units, and clean states belong to every setting.
        if kind_of(row) in ("clean", "control"):
            continue
        found.setdefault((network_of(row), setting_of(row)), []).append(row)
    if not found:
        raise NothingToDraw("no l_inf attack in these rows; python -m adversarial states makes some")
    titled = []
    for (network, setting), own in sorted(found.items()):
        title = f"{network.game}\n{network.name}"
        require_single(
            (f"play of {row.states_of}, seed {row.seed}" for row in own),
            f"set of states of {network.game}, {network.name}",
        )
        several = sum(other == network for other, _ in found) > 1
        titled.append((f"{title}\n{setting}" if several else title, own))
    return titled


def _with_band(axis: Axes, name: str, shares: dict[float, Interval], look: dict[str, object]) -> None:
    """Draw shares in per cent against size, with their intervals."""
    if not shares:
        return
    estimates, lows, highs = zip(
        *([100 * value for value in share[:3]] for share in shares.values()), strict=True
    )
    axis.plot([*shares], estimates, marker=".", label=name, **look)  # type: ignore[arg-type]
    axis.fill_between([*shares], lows, highs, color=str(look["color"]), alpha=0.1)


def _against_epsilon(rows: pd.DataFrame, column: str, label: str) -> Iterator[tuple[str, Figure]]:
    require_comparable(rows)
    rows = rows.assign(
        family=families(rows),
        made=[made(threat) for threat in rows.threat],
        kind=[kind_of(row) for row in rows.itertuples()],  # type: ignore[arg-type]  # same fields as the row type
        usual=[is_usual(row) for row in rows.itertuples()],  # type: ignore[arg-type]
    )
    if all(len(games) < 2 for _, games in rows.groupby(["family", "threat", "epsilon"])):
        raise NothingToDraw("one game an attack and size; python -m adversarial run --episodes plays more")
    for game, here in rows.groupby("game"):
        name_of, look = (
            names(here.family),
            looks(in_order(here.family), steps_of(here)),
        )  # Equal in all panels.
        panels = _panels_of_attackers(here)
        for part, shown in parts(panels, MAX_PANELS):
            for number, found in parts(in_order(here.family), MAX_LINES):
                curves = {
                    title: _curves(own[own.family.isin(found)], column, name_of, look) for title, own in shown
                }
                name = ending(str(game), part, number)
                sizes = {title: sorted(set(own.epsilon)) for title, own in shown}
                yield name, _attack_figure(str(game), curves, sizes, label)


def _attack_figure(
    game: str, curves: Mapping[str, Sequence[Curve]], sizes: Mapping[str, list[float]], label: str
) -> Figure:
    """A panel for each kind of attack, with a curve for each family."""
    figure, axes = grid(list(curves), PANEL_HEIGHT + 0.1)
    for title, axis in axes.items():
        for curve in curves[title]:
            means = [point.estimate for point in curve.points]
            axis.plot(curve.epsilons, means, marker=".", label=curve.label, **curve.look)  # type: ignore[arg-type]
            lows, highs = [point.low for point in curve.points], [point.high for point in curve.points]
            axis.fill_between(curve.epsilons, lows, highs, color=str(curve.look["color"]), alpha=0.1)
        _epsilons(axis, game, sizes[title])
        if label == "score":
            reference_lines(axis, game)
        axis.set_ylabel(label)
    foot(figure, list(axes.values()))
    return figure


def _panels_of_attackers(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of the panels: one for each game and kind of attack. Each includes the clean games."""
    found = []
    for game, here in rows.groupby("game"):
        clean, attacked = here[here.kind == "clean"], here[here.kind != "clean"]
        settings = [setting_of(row) for row in attacked.itertuples()]  # type: ignore[arg-type]
        for setting, own in attacked.groupby(settings):
            after = f"\n{setting}" if len(set(settings)) > 1 else ""
            strong = own[own.kind.isin(AIMED)]
            attackers = {
                "under FGSM along the training gradient": own[own.usual],
                # If FGSM is the only attack, "strongest" would repeat it.
                "under the strongest attack": strong.iloc[:0] if strong.usual.all() else strong,
                "under noise": own[own.kind == "noise"],
                **{f"under {name}": those for name, those in own[own.kind == "control"].groupby("attack")},
            }
            found += [
                (f"{game}\n{name}{after}", pd.concat([clean, those]))
                for name, those in attackers.items()
                if len(those)
            ]
    return found


def _curves(
    rows: pd.DataFrame, column: str, name_of: Mapping[Family, str], look: Mapping[Family, dict[str, Any]]
) -> list[Curve]:
    """One curve for each family, averaged over training seeds.

    At each size, the attack that flips most decisions of a network counts.
    """
    curves = []
    for family in in_order(rows.family):
        own = rows[rows.family == family]
        for seed, checkpoints in own.groupby("train_seed").checkpoint_id:
            require_single(checkpoints, f"checkpoint of {name_of[family]}, training seed {seed}")
        sizes = sorted(set(own.epsilon))
        points = [
            stratified_interval(
                [
                    _strongest(seed)[column].to_numpy()
                    for _, seed in own[own.epsilon == size].groupby("train_seed")
                ],
                mean_of_games,
                least=LEAST_EPISODES,
            )
            for size in sizes
        ]
        seeds = own.train_seed.nunique()
        few = "" if all(point.is_given for point in points) else ", too few for an interval"
        label = f"{name_of[family]}, n = {seeds} x {points[0].n // seeds}{few}"
        curves.append(Curve(label, look[family], sizes, points))
    return curves


def _strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """The episodes under the attack that flips most decisions, among attacks on one network at one size."""
    attacks = [under for _, under in rows.groupby(["attack", "gradient_source", "made"])]
    return max(attacks, key=lambda under: strength(under.itertuples()))  # type: ignore[arg-type]


def _epsilons(axis: Axes, game: str, sizes: list[float]) -> None:
    """Label the horizontal axis with sizes of attacks, for frames in grey levels."""
    known = get_game(game)
    levels, unit = (255, ", in 1/255") if known.tier == "atari" else (1, "")
    if known.scale != (1.0,):
        unit = ", in units of each element's scale"
    positive = [size for size in sizes if size > 0]
    axis.set_xscale("symlog", linthresh=positive[0] if positive else 1)
    crowded = len(sizes) > 5
    axis.set_xticks(
        sizes,
        [f"{levels * size:.3g}" for size in sizes],
        rotation=90 if crowded else 0,
    )
    axis.minorticks_off()
    axis.set_xlabel(f"epsilon (l_inf{unit})")
