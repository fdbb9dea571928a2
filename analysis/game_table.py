"""The papers' table of scores: one line a game, an agent a column, published numbers beside. Never imports torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from analysis.runs import (
    CHECKPOINT_ORDER,
    Family,
    in_order,
    names,
    own_dqn,
    prefer_best,
    training_runs,
)
from core.games import GAMES, Tier, get_game, reference


class Column(NamedTuple):
    """One agent of the table; a training run's best and final weights are two."""

    family: Family
    checkpoint: str


@dataclass(frozen=True)
class Cell:
    """One agent on one game."""

    mean: float
    """Over the training seeds of each one's mean score."""
    std: float
    """Over the episodes of one network (population), root mean square over training seeds."""
    seed_std: float | None
    """Of the seeds' means (sample); None with one seed."""
    seeds: int
    episodes: int
    """Of each seed; the fewest where they differ."""
    sim_steps: int
    percent_of_dqn: float | None
    """100 (score - random) / (own DQN's score - random); None without an own DQN above random play."""
    verdict: str
    """Against its own DQN: better, equal, worse; empty where nothing can be said."""


@dataclass(frozen=True)
class PublishedScore:
    """One number of a paper."""

    paper: str
    table: str
    game: str
    agent: str
    sim_steps: int | None
    mean: float
    std: float | None
    kind: str
    """"exact", or how else it was come by: then it stays out of arithmetic."""
    note: str
    percent_of_dqn: float | None
    """As in Cell, of the DQN and the random play of the same table."""


@dataclass(frozen=True)
class Block:
    """The games of one tier: aggregates over one do not compare with those over another."""

    title: str
    games: tuple[str, ...]
    protocols: tuple[str, ...]
    columns: tuple[Column, ...]
    headings: tuple[str, ...]
    """Of the columns."""
    cells: dict[tuple[str, Column], Cell]
    published: tuple[PublishedScore, ...]


BLOCKS: dict[Tier, str] = {
    "atari": "Atari, 17 games",
    "minatar": "MinAtar, 5 games",
    "control": "Classic control",
}
PUBLISHED_AGENTS = {
    "dqn": ("dqn", "DQN", "DQN(ANN)"),
    "rate-coded": ("DSQN-CVT", "CRPI"),
    "dsqn": ("dsqn", "DSQN", "dsqn max-mem", "DSQN(Liu)"),
}
"""Which agents of the papers stand beside ours in print; all others are in the CSV."""


def game_table(episodes: pd.DataFrame, published: pd.DataFrame) -> tuple[Block, ...]:
    """The table of Liu et al. 2022, Tan et al. 2021 and Chen et al. 2022, and one of MinAtar's games like it.

    Games without rows stay blank. Blocks are of the tiers that have rows.

    Args:
        episodes: EpisodeRows of `evaluate run`.
        published: results/published/published_scores.csv.

    Raises:
        Refusal: one game's rows come from several protocols, evaluation seeds or settings, or two networks pass for
            one.
    """
    runs = training_runs(episodes[episodes.agent != "random"])
    blocks = []
    for tier, title in BLOCKS.items():
        games = tuple(name for name, game in GAMES.items() if game.tier == tier)
        here = runs[runs.game.isin(games)]
        if here.empty:
            continue
        told = names(here.family)
        columns = tuple(
            Column(family, checkpoint)
            for family in in_order(here.family)
            for checkpoint in CHECKPOINT_ORDER
            if ((here.family == family) & (here.checkpoint == checkpoint)).any()
        )
        blocks.append(
            Block(
                title,
                games,
                tuple(sorted(set(episodes[episodes.game.isin(games)].protocol))),
                columns,
                tuple(_column_heading(each, told[each.family], here) for each in columns),
                dict(_cells(here, columns)),
                _published(published[published.game.isin(games)]),
            )
        )
    return tuple(blocks)


def _column_heading(column: Column, name: str, runs: pd.DataFrame) -> str:
    steps = sorted(set(runs[runs.family == column.family].sim_steps) - {0})
    told = f"{'/'.join(map(str, steps))} sim steps" if steps and "sim steps" not in name else ""
    return ", ".join(filter(None, (name, told, column.checkpoint)))


def _cells(runs: pd.DataFrame, columns: Sequence[Column]) -> Iterator[tuple[tuple[str, Column], Cell]]:
    for game in sorted(set(runs.game)):
        random = reference(get_game(game)).random
        for column in columns:
            own = _of(runs, game, column)
            if own.empty:
                continue
            dqn = _own_dqn(runs, own, column)
            score = own["mean"].mean()
            percent, verdict = None, ""
            if dqn is not None:
                percent = _percent(score, dqn["mean"].mean(), random)
                error = math.sqrt(_squared_error(own) + _squared_error(dqn))
                difference = score - dqn["mean"].mean()
                if math.isfinite(error):
                    verdict = (
                        "equal"
                        if abs(difference) <= 1.96 * error
                        else "better"
                        if difference > 0
                        else "worse"
                    )
            yield (
                (game, column),
                Cell(
                    mean=score,
                    std=math.sqrt((own["std"] ** 2).mean()),
                    seed_std=own["mean"].std(ddof=1) if len(own) > 1 else None,
                    seeds=len(own),
                    episodes=int(own.n.min()),
                    sim_steps=int(own.sim_steps.iloc[0]),
                    percent_of_dqn=percent,
                    verdict=verdict,
                ),
            )


def _of(runs: pd.DataFrame, game: str, column: Column) -> pd.DataFrame:
    return runs[(runs.game == game) & (runs.family == column.family) & (runs.checkpoint == column.checkpoint)]


def _own_dqn(runs: pd.DataFrame, own: pd.DataFrame, column: Column) -> pd.DataFrame | None:
    """The checkpoints that a column's runs on a game are held against; None if there are none."""
    if column.family.agent == "dqn":
        return None
    dqn = own_dqn(runs, own)
    same = dqn[dqn.checkpoint == column.checkpoint]
    # Nobody may have said of one of the two which checkpoint it is.
    chosen = prefer_best(dqn) if same.empty else same
    return None if chosen.empty else chosen


def _squared_error(runs: pd.DataFrame) -> float:
    """Squared standard error of the mean over seeds of their mean scores, over episodes; infinite for one episode."""
    if (runs.n < 2).any():
        return math.inf
    return float((runs["std"] ** 2 / (runs.n - 1)).sum() / len(runs) ** 2)


def _percent(score: float, dqn: float, random: float | None) -> float | None:
    return None if random is None or dqn <= random else 100 * (score - random) / (dqn - random)


def _published(rows: pd.DataFrame) -> tuple[PublishedScore, ...]:
    exact = rows[rows.kind == "exact"]
    known: dict[tuple[str, ...], float] = {
        (paper, table, game, agent): float(mean)
        for paper, table, game, agent, mean in exact[["paper", "table", "game", "agent", "mean"]].to_numpy()
    }
    scores = []
    records: list[dict[Any, Any]] = rows.to_dict("records")
    for row in records:
        source = (row["paper"], row["table"], row["game"])
        dqn = next(
            (known[*source, name] for name in PUBLISHED_AGENTS["dqn"] if (*source, name) in known), None
        )
        random = known.get((*source, "Random"))
        percent = None
        if (
            row["kind"] == "exact"
            and row["agent"] not in (*PUBLISHED_AGENTS["dqn"], "Random")
            and dqn is not None
        ):
            percent = _percent(row["mean"], dqn, random)
        scores.append(
            PublishedScore(
                paper=row["paper"],
                table=row["table"],
                game=row["game"],
                agent=row["agent"],
                sim_steps=None if pd.isna(row["sim_steps"]) else int(row["sim_steps"]),
                mean=row["mean"],
                std=None if pd.isna(row["std"]) else row["std"],
                kind=row["kind"],
                note=row["note"],
                percent_of_dqn=percent,
            )
        )
    return tuple(scores)
