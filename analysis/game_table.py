"""The papers' table of scores: a line for each game, a column for each agent. Never imports torch.

analysis/game_table_formats.py writes the table as CSV, Markdown and LaTeX.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from analysis.reference_dqns import reference_dqns, stands_below
from analysis.runs import (
    CHECKPOINT_ORDER,
    Family,
    in_order,
    names,
    own_dqn,
    prefer_best,
    training_runs,
)
from analysis.statistics import LEAST_EPISODES
from core.games import GAMES, Tier, get_game, reference


class Column(NamedTuple):
    """One agent of the table. Best and final weights of a training run are two columns."""

    family: Family
    checkpoint: str


@dataclass(frozen=True)
class Cell:
    """One agent on one game."""

    mean: float
    """Mean over training seeds of each seed's mean score."""
    std: float | None
    """Population standard deviation over the episodes of one network, root mean square over training seeds.

    None below LEAST_EPISODES episodes.
    """
    seed_std: float | None
    """Sample standard deviation of the seeds' means. None with one seed."""
    seeds: int
    episodes: int
    """Episodes per seed; the smallest number if seeds differ."""
    sim_steps: int
    percent_of_dqn: float | None
    """100 (score - random) / (own DQN's score - random). None without an own DQN above random play."""
    verdict: str
    """Compared with its own DQN: "better", "equal" or "worse". Empty without a DQN or with too few episodes."""
    dqn_below: str = ""
    """The library whose DQN, under a like protocol, is more than a fifth better than this DQN, or than the own DQN of
    this agent. Empty if there is none."""

    @property
    def mark(self) -> str:
        """What follows the score of such a DQN, and every share of it."""
        return " †" if self.dqn_below else ""


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
    """"exact", or how the number was obtained. Only exact numbers are used in calculations."""
    note: str
    percent_of_dqn: float | None
    """As in `Cell`, with the DQN and the random play of the same published table."""


@dataclass(frozen=True)
class Block:
    """The games of one tier. Aggregates over different tiers do not compare."""

    title: str
    games: tuple[str, ...]
    protocols: tuple[str, ...]
    columns: tuple[Column, ...]
    headings: tuple[str, ...]
    """Headings of the columns."""
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
    **{dqn.agent: (dqn.agent,) for dqn in reference_dqns()},
}
"""Published agents in the printed tables, by the kind of agent they are compared with; each library's DQN is a kind of
its own. The CSV holds all of them."""


def game_table(episodes: pd.DataFrame, published: pd.DataFrame) -> tuple[Block, ...]:
    """The table of Liu et al. 2022, Tan et al. 2021 and Chen et al. 2022, with one block for each tier that has rows.

    Games without rows stay blank.

    Args:
        episodes: EpisodeRows of `evaluate run`.
        published: core/data/published_scores.csv.

    Raises:
        Refusal: rows of one game have different protocols, evaluation seeds or settings, or one name stands for two
            networks.
    """
    played = episodes[episodes.agent != "random"]
    runs, settings = training_runs(played), dict(zip(played.game, played.settings, strict=True))
    blocks = []
    for tier, title in BLOCKS.items():
        games = tuple(name for name, game in GAMES.items() if game.tier == tier)
        here = runs[runs.game.isin(games)]
        if here.empty:
            continue
        name_of = names(here.family)
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
                tuple(_column_heading(each, name_of[each.family], here) for each in columns),
                dict(_cells(here, columns, settings)),
                (*_published(published[published.game.isin(games)]), *_references(games)),
            )
        )
    return tuple(blocks)


def _column_heading(column: Column, name: str, runs: pd.DataFrame) -> str:
    steps = sorted(set(runs[runs.family == column.family].sim_steps) - {0})
    shown_steps = f"{'/'.join(map(str, steps))} sim steps" if steps and "sim steps" not in name else ""
    return ", ".join(filter(None, (name, shown_steps, column.checkpoint)))


def _cells(
    runs: pd.DataFrame, columns: Sequence[Column], settings: Mapping[str, str]
) -> Iterator[tuple[tuple[str, Column], Cell]]:
    for game in sorted(set(runs.game)):
        random = reference(get_game(game)).random
        for column in columns:
            own = _of(runs, game, column)
            if own.empty:
                continue
            dqn = _own_dqn(runs, own, column)
            score = own["mean"].mean()
            percent, verdict, below = None, "", ""
            judged = own if column.family.agent == "dqn" else dqn
            if judged is not None:
                below = stands_below(game, judged["mean"].mean(), random, settings[game])
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
                    std=math.sqrt((own["std"] ** 2).mean()) if own.n.min() >= LEAST_EPISODES else None,
                    seed_std=own["mean"].std(ddof=1) if len(own) > 1 else None,
                    seeds=len(own),
                    episodes=int(own.n.min()),
                    sim_steps=int(own.sim_steps.iloc[0]),
                    percent_of_dqn=percent,
                    verdict=verdict,
                    dqn_below=below,
                ),
            )


def _of(runs: pd.DataFrame, game: str, column: Column) -> pd.DataFrame:
    return runs[(runs.game == game) & (runs.family == column.family) & (runs.checkpoint == column.checkpoint)]


def _own_dqn(runs: pd.DataFrame, own: pd.DataFrame, column: Column) -> pd.DataFrame | None:
    """The DQN checkpoints that a column's runs on a game are compared with. None if there are none."""
    if column.family.agent == "dqn":
        return None
    dqn = own_dqn(runs, own)
    same = dqn[dqn.checkpoint == column.checkpoint]
    # Without a DQN checkpoint of the same name, take the preferred one.
    chosen = prefer_best(dqn) if same.empty else same
    return None if chosen.empty else chosen


def _squared_error(runs: pd.DataFrame) -> float:
    """Squared standard error, over episodes, of the mean over seeds. Infinite if a seed has too few episodes."""
    if (runs.n < LEAST_EPISODES).any():
        return math.inf
    return float((runs["std"] ** 2 / (runs.n - 1)).sum() / len(runs) ** 2)


def _percent(score: float, dqn: float, random: float | None) -> float | None:
    return None if random is None or dqn <= random else 100 * (score - random) / (dqn - random)


def _references(games: Sequence[str]) -> Iterator[PublishedScore]:
    """DQNs of other libraries. They stand beside the papers' and enter no calculation."""
    for dqn in reference_dqns():
        if dqn.game in games:
            yield PublishedScore(
                dqn.source,
                "reference",
                dqn.game,
                dqn.agent,
                None,
                dqn.score,
                dqn.std,
                "exact",
                dqn.note,
                None,
            )


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
