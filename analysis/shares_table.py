"""Shares of the DQN's score, their differences, and maximum returns, as Markdown. Never imports torch."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from analysis.aggregates import Interval
from analysis.runs import in_order, training_families
from analysis.shares import (
    EQUAL_OPERATIONS,
    Difference,
    Kept,
    LeftOut,
    differences,
    equal_operations,
    equal_sim_steps,
    maximum_returns,
    maximum_share,
)
from analysis.tables import aligned
from analysis.words import comparisons_made, significant, span
from core.games import Tier, get_game


def shares_table(
    kept: Sequence[Kept],
    left_out: Sequence[LeftOut] = (),
    validation: pd.DataFrame | None = None,
    of_dqns: Mapping[Tier, float] | None = None,
) -> str:
    """Shares, the differences between them, and maximum returns, as Markdown.

    Args:
        kept, left_out: from `shares.shares`.
        validation: EpisodeRows of training runs, if there are any.
        of_dqns: operations of DQNs that skip zeros, from `shares.sparse_dqns`.
    """
    text = (
        "# Share of the DQN's score\n\n"
        "Mean over games of (score - random) / (DQN's score - random), best checkpoints. Intervals: t-intervals over\n"
        "training seeds, stratified by game; a conversion and its own DQN are a pair. An interval needs two seeds a\n"
        "game.\n\n"
    ) + aligned(
        [
            ("tier", "network", "sim steps", "games", "seeds", "share of the DQN (%)", "95 %", "operations"),
            *map(_cells, kept),
        ]
    )  # fmt: skip
    if of_dqns:
        told = ", ".join(f"{share:.3g} on {tier}" for tier, share in of_dqns.items())
        text += (
            "\nOperations are additions and multiply-accumulates that are not by zero. A dense pass of the DQN is 1.\n"
            f"If it skips zeros too, it takes {told}.\n"
        )
    text += _left_out(left_out) + _games_tables(kept)
    text += _differences_table("equal sim steps", differences(kept, equal_sim_steps))
    about = f"equal operations, within {round(100 * EQUAL_OPERATIONS)} %"
    text += _differences_table(about, differences(kept, equal_operations))
    if validation is not None and len(found := maximum_returns(validation)):
        text += (
            "\n## Average maximum return\n\n"
            "The largest validation mean of each training run, averaged over seeds, as papers on MinAtar print it.\n\n"
        ) + aligned([*_maximum_cells(found)])
    return text


def _cells(each: Kept) -> tuple[str, ...]:
    operations = ""
    if each.operations is not None:
        known, runs = (sum(len(of.get(game, ())) for game in each.games) for of in (each.counted, each.runs))
        operations = f"{each.operations:.3g}" + ("" if known == runs else f" ({known} of {runs} runs)")
    return (
        each.tier,
        each.name,
        str(each.sim_steps or ""),
        str(len(each.games)),
        span(each.seeds, "d"),
        f"{100 * each.share.estimate:.1f}",
        _bounds(each.share),
        operations,
    )


def _left_out(left_out: Sequence[LeftOut]) -> str:
    """What has no share, in a sentence for each network; nothing if nothing was left out."""
    if not left_out:
        return ""
    networks: dict[tuple[str, str], list[LeftOut]] = {}
    for each in left_out:
        networks.setdefault((each.tier, each.name), []).append(each)
    lines = [f"- {name}: {'; '.join(map(_runs_left_out, games))}" for (_, name), games in networks.items()]
    return (
        "\nLeft out, because there is not exactly one DQN that was trained alike and scored above random play:\n\n"
        + "\n".join([*lines, ""])
    )


def _runs_left_out(each: LeftOut) -> str:
    seeds = [str(seed) for seed in each.seeds if seed >= 0]  # weights from elsewhere have none
    return f"{each.game} (seeds {', '.join(seeds)})" if seeds else each.game


def _games_tables(kept: Sequence[Kept]) -> str:
    """Shares by game, a table for each tier of several games."""
    text = ""
    for tier in dict.fromkeys(each.tier for each in kept):
        here = [each for each in kept if each.tier == tier]
        games = sorted({game for each in here for game in each.games})
        if len(games) > 1:
            cells = [("network", *games)]
            for each in here:
                shares = each.by_game
                cells.append(
                    (each.name, *(f"{100 * shares[game]:.0f}" if game in shares else "" for game in games))
                )
            text += f"\n## Shares by game, {tier} (%)\n\n{aligned(cells)}"
    return text


def _differences_table(about: str, compared: Sequence[Difference]) -> str:
    """Differences at something equal, under a heading of their own; nothing if there are none."""
    if not compared:
        return ""
    return (
        f"\n## Differences at {about}\n\n{comparisons_made([each.share for each in compared])}\n"
        "A conversion is compared on the DQNs that it was made from, so shares may be of fewer seeds than above. Runs\n"
        "are those of both networks.\n\n"
    ) + aligned(
        [
            ("tier", "network", "minus", "games", "runs", "points", "95 %", "significant"),
            *map(_difference_cells, compared),
        ]
    )


def _difference_cells(each: Difference) -> tuple[str, ...]:
    return (
        each.network.tier,
        each.network.name,
        each.other.name,
        str(len(each.games)),
        str(each.share.n),
        f"{100 * each.share.estimate:+.1f}",
        _bounds(each.share, "+"),
        significant(each.share),
    )


def _bounds(share: Interval, sign: str = "") -> str:
    if not share.is_given:
        return ""
    return "tied" if share.is_tied else f"{100 * share.low:{sign}.1f} to {100 * share.high:{sign}.1f}"


def _maximum_cells(found: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    games = sorted(set(found.game))
    yield ("tier", "network", "recipe", *games, "share of the DQN (%)", "95 %", "of games")
    for tier, of_tier in found.groupby(found.game.map(lambda game: get_game(game).tier)):
        families = training_families(of_tier)
        for family in in_order(families):
            rows = of_tier[families == family]
            reached = maximum_share(of_tier, family)
            share = ("", "", "")
            if reached is not None:
                share = f"{100 * reached[1].estimate:.1f}", _bounds(reached[1]), str(reached[0])
            yield (
                str(tier),
                family.network,
                family.recipe,
                *(_mean_and_spread(rows[rows.game == game]["mean"]) for game in games),
                *share,
            )


def _mean_and_spread(scores: pd.Series) -> str:
    """The mean over seeds, their sample standard deviation, and their number."""
    if scores.empty:
        return ""
    spread = f" ± {scores.std(ddof=1):,.2f}" if len(scores) > 1 else ""
    return f"{scores.mean():,.2f}{spread} ({len(scores)})"
