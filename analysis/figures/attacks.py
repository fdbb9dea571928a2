"""Figures of agents under attack. Never imports torch."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
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
    ATTACKERS,
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
from analysis.rows import ATTACKS, STATE_ATTACKS, typed
from analysis.runs import Family, families, in_order, names, require_comparable
from analysis.statistics import LEAST_EPISODES, Interval
from core import kinds
from core.games import get_game
from core.records import require_single
from core.rows import StateAttackRow

_KINDS: Mapping[str, AttackerKind] = {
    "best white-box": "white-box",
    "transfer": "transfer",
    "black-box": "black-box",
    "noise": "noise",
}
"""Kinds of attackers by their name in `style.ATTACKERS`. The strongest attack of each kind is drawn."""


class Curve(NamedTuple):
    """The effect of attacks of growing size on the networks of one family on one game."""

    label: str
    tally: str
    """Training seeds and games."""
    look: dict[str, object]
    epsilons: list[float]
    points: list[Interval]


@FIGURES.register("score_against_epsilon")
@draws(ATTACKS, section="robustness", position=180)
def score_against_epsilon(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How far attacks of growing size bring each network's score down to random play: FGSM, the strongest attack (the
    one that flips most decisions), and noise. Bars: 95 % over episodes; where they overlap, no order can be told."""
    yield from _against_epsilon(rows, "score", "score")


@FIGURES.register("flips_against_epsilon")
@draws(ATTACKS, section="robustness", position=190)
def flips_against_epsilon(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How many decisions of played games FGSM, the strongest attack and noise of equal size change. Bars: 95 % over
    episodes."""
    yield from _against_epsilon(rows.assign(flips=100 * rows.flip_share), "flips", "decisions flipped (%)")


@FIGURES.register("flips_of_states")
@draws(STATE_ATTACKS, section="robustness", position=200)
def flips_of_states(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Which kind of attacker flips most stored states, and how far FGSM along the training gradient (the usual attack)
    stays below it. Bands: 95 % over states.

    Args:
        rows: StateAttackRows.
    """
    found = _by_network(rows)
    for game in dict.fromkeys(own[0].game for _, own in found):
        of_game = [(title, own) for title, own in found if own[0].game == game]
        for number, shown in parts(of_game, MAX_PANELS):
            yield ending(game, number), _flips_figure(game, shown)


def _flips_figure(game: str, found: Sequence[tuple[str, list[StateAttackRow]]]) -> Figure:
    """A panel for each network, with a line for each kind of attacker."""
    figure, axes = grid([title for title, _ in found], PANEL_HEIGHT + 0.1)
    drawn: list[int] = []
    for (_, own), axis in zip(found, axes.values(), strict=True):
        lines = {
            name: [row for row in own if (kind_of(row) == _KINDS[name] if name in _KINDS else is_usual(row))]
            for name in ATTACKERS
        }
        curves = {}
        for name, under in lines.items():
            best = {epsilon: strongest(cell, *BOUNDED) for (_, epsilon), cell in cells(under).items()}
            curves[name] = {epsilon: flips(row) for epsilon, row in best.items() if row is not None}
        looks_of = {name: {"color": colour, "marker": marker} for name, (colour, marker) in ATTACKERS.items()}
        drawn += _with_bands(axis, curves, looks_of)
        _epsilons(axis, own[0].game, sorted({row.epsilon for row in own}))
        axis.set_ylim(-3, 105)
        axis.set_ylabel("states flipped (%)")
    figure.suptitle(game)
    foot(figure, list(axes.values()), _fewer(drawn))
    return figure


@FIGURES.register("masking_gap")
@draws(STATE_ATTACKS, section="robustness", position=210)
def masking_gap(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """How many flips the usual attack misses, by network: those of the best attack minus those of FGSM along the
    training gradient. Bands: 95 % over states.

    Args:
        rows: StateAttackRows.
    """
    found = [
        (title, own, gaps)
        for title, own in _by_network(rows)
        if (gaps := {gap.epsilon: gap.gap for gap in masking_gaps(own)})
    ]
    if not found:
        raise NothingToDraw("no FGSM along a training gradient in these rows; spikeq attack states makes it")
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
    counts: list[int] = []
    for game, axis in axes.items():
        here = families(rows[rows.game == game])
        look = looks(in_order(here), steps_of(rows[rows.game == game].assign(family=here)))
        curves = {title: gaps for title, _, gaps in shown[game]}
        looks_of = {
            title: {**look[families(pd.DataFrame([own[0]]))[0]], "marker": "o"}
            for title, own, _ in shown[game]
        }
        counts += _with_bands(axis, curves, looks_of)
        axis.axhline(0.0, color="#666666", linewidth=0.6)
        sizes = sorted({epsilon for _, _, gaps in shown[game] for epsilon in gaps})
        _epsilons(axis, game, sizes)
        axis.set_xlim(left=0.8 * sizes[0])
        axis.set_ylabel("masking gap (points)")
    foot(figure, list(axes.values()), _fewer(counts))
    return figure


def _by_network(rows: pd.DataFrame) -> list[tuple[str, list[StateAttackRow]]]:
    """Title and rows of every network and setting.

    Raises:
        NothingToDraw: the rows hold no attack.
        Refusal: the states of one network come from several drawings.
    """
    found: dict[tuple[Victim, str], list[StateAttackRow]] = {}
    for row in typed(rows, StateAttackRow):
        # Sizes of controls have other units, and clean states belong to every setting.
        if kind_of(row) in ("clean", "control"):
            continue
        found.setdefault((network_of(row), setting_of(row)), []).append(row)
    if not found:
        raise NothingToDraw("no l_inf attack in these rows; spikeq attack states makes some")
    titled = []
    alike = Counter((network.game, _short(network)) for network, _ in set(found))
    for (network, setting), own in sorted(found.items()):
        title = _short(network)
        several = sum(other == network for other, _ in found)
        if alike[network.game, title] > several:
            title = network.name
        require_single(
            (f"play of {row.states_of}, seed {row.seed}" for row in own),
            f"set of states of {network.game}, {network.name}",
        )
        titled.append((f"{title}\n{setting}" if several > 1 else title, own))
    return titled


def _short(network: Victim) -> str:
    """As in "SNN (qcfs), 8 sim steps". Seeds, decisions and digests of weights are provenance."""
    label = kinds.label(network.agent, network.variant)
    named = f"{label} ({network.variant})" if network.variant else label
    return f"{named}, {network.sim_steps} sim steps" if network.sim_steps else named


def _with_bands(
    axis: Axes, curves: Mapping[str, Mapping[float, Interval]], looks_of: Mapping[str, Mapping[str, Any]]
) -> list[int]:
    """Draw shares in per cent against size, with their intervals. Markers of fewer states than others are hollow.

    Returns:
        The numbers of states of all points.
    """
    counts = [share.n for shares in curves.values() for share in shares.values()]
    for name, shares in curves.items():
        if not shares:
            continue
        estimates, lows, highs = zip(
            *([100 * value for value in share[:3]] for share in shares.values()), strict=True
        )
        axis.plot([*shares], estimates, markersize=3, label=name, **looks_of[name])
        axis.fill_between([*shares], lows, highs, color=looks_of[name]["color"], alpha=0.1, linewidth=0)
        hollow = {size: 100 * share.estimate for size, share in shares.items() if share.n < max(counts)}
        look = {**looks_of[name], "linestyle": "none", "markerfacecolor": "white"}
        axis.plot([*hollow], [*hollow.values()], markersize=3, **look)
    return counts


def _fewer(counts: Sequence[int]) -> str:
    """A note on hollow markers, if there are any."""
    several = sorted(set(counts))
    if len(several) < 2:
        return ""
    return f"Hollow markers: fewer states than the other points of a panel ({several[0]} at least, of {several[-1]})."


def _against_epsilon(rows: pd.DataFrame, column: str, label: str) -> Iterator[tuple[str, Figure]]:
    require_comparable(rows)
    rows = rows.assign(
        family=families(rows),
        made=[made(threat) for threat in rows.threat],
        kind=[kind_of(row) for row in rows.itertuples()],  # type: ignore[arg-type]  # same fields as the row type
        usual=[is_usual(row) for row in rows.itertuples()],  # type: ignore[arg-type]
    )
    if all(len(games) < 2 for _, games in rows.groupby(["family", "threat", "epsilon"])):
        raise NothingToDraw("one game an attack and size; spikeq attack run --episodes plays more")
    for game, here in rows.groupby("game"):
        steps = steps_of(here)
        name_of = {  # Equal in all panels.
            family: name if not steps[family] or "sim steps" in name else f"{name}, {steps[family]} sim steps"
            for family, name in names(here.family).items()
        }
        look = looks(in_order(here.family), steps)
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
    figure, axes = grid(list(curves), PANEL_HEIGHT)
    counts = {curve.tally for shown in curves.values() for curve in shown}
    for title, axis in axes.items():
        smallest = min((size for size in sizes[title] if size > 0), default=1.0)
        for number, curve in enumerate(curves[title]):
            # Bars of several networks stand side by side.
            shift = 0.08 * (number - (len(curves[title]) - 1) / 2)
            at = [size * (1 + shift) if size else smallest * shift for size in curve.epsilons]
            means = [point.estimate for point in curve.points]
            ends = [
                [point.estimate - point.low if point.is_given else 0 for point in curve.points],
                [point.high - point.estimate if point.is_given else 0 for point in curve.points],
            ]
            label_of = curve.label if len(counts) == 1 else f"{curve.label}, {curve.tally}"
            axis.errorbar(at, means, ends, fmt=".", elinewidth=0.6, label=label_of, **curve.look)  # type: ignore[arg-type]
        _epsilons(axis, game, sizes[title])
        if label == "score":
            reference_lines(axis, game)
        axis.set_ylabel(label)
    figure.suptitle(", ".join([game, *counts]) if len(counts) == 1 else game)
    foot(figure, list(axes.values()), "n: networks (training seeds) x games.")
    return figure


def _panels_of_attackers(here: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of the panels of one game: one for each kind of attack. Each includes the clean games."""
    found = []
    clean, attacked = here[here.kind == "clean"], here[here.kind != "clean"]
    settings = [setting_of(row) for row in attacked.itertuples()]  # type: ignore[arg-type]
    for setting, own in attacked.groupby(settings):
        after = f"\n{setting}" if len(set(settings)) > 1 else ""
        strong = own[own.kind.isin(AIMED)]
        attackers = {
            "FGSM, training gradient": own[own.usual],
            # If FGSM is the only attack, "strongest" would repeat it.
            "strongest attack": strong.iloc[:0] if strong.usual.all() else strong,
            "noise": own[own.kind == "noise"],
            **{str(name): those for name, those in own[own.kind == "control"].groupby("attack")},
        }
        found += [
            (f"{name}{after}", pd.concat([clean, those])) for name, those in attackers.items() if len(those)
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
        tally = f"n = {seeds} x {points[0].n // seeds}{few}"
        curves.append(Curve(name_of[family], tally, look[family], sizes, points))
    return curves


def _strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """The episodes under the attack that flips most decisions, among attacks on one network at one size."""
    attacks = [under for _, under in rows.groupby(["attack", "gradient_source", "made"])]
    return max(attacks, key=lambda under: strength(under.itertuples()))  # type: ignore[arg-type]


def _epsilons(axis: Axes, game: str, sizes: list[float]) -> None:
    """Label the horizontal axis with sizes of attacks, for frames in grey levels."""
    known = get_game(game)
    in_levels = known.tier == "atari"
    unit = ", in 1/255" if in_levels else ""
    if known.scale != (1.0,):
        unit = ", in units of each element's scale"
    positive = [size for size in sizes if size > 0]
    axis.set_xscale("symlog", linthresh=positive[0] if positive else 1)
    crowded = len(sizes) > 5
    axis.set_xticks(
        sizes,
        [_level(255 * size) if in_levels else f"{size:.3g}" for size in sizes],
        rotation=90 if crowded else 0,
    )
    axis.minorticks_off()
    axis.set_xlim(right=1.5 * max(sizes))
    axis.set_xlabel(f"epsilon (l_inf{unit})")


def _level(value: float) -> str:
    """A number of grey levels, as in "1/8" or "127.5"."""
    share = Fraction(value).limit_denominator(16)
    if 0 < value < 1 and share and abs(share / value - 1) < 0.03:
        return str(share)
    return f"{value:.4g}"
