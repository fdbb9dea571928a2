"""The papers' table of scores: one line a game, an agent a column, published numbers beside. Never imports torch."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
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
from analysis.tables import aligned
from core import kinds
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
FOOT = "better / equal / worse"
RULES = (
    "± is the population standard deviation over the episodes of one network (root mean square over training seeds "
    "where there are several), not over training seeds. n is training seeds x episodes of each.",
    "% of DQN is 100 (score - random) / (score of the own DQN - random). The own DQN has the same recipe and, for a "
    "converted network, the same training seeds and decisions; best is held against best, final against final. Blank "
    "without one that plays better than random.",
    "+ better, - worse: the difference to the own DQN is more than 1.96 standard errors (Welch's, over episodes of "
    "these very networks: nothing is claimed about other training seeds); = otherwise.",
    "The counts and the mean % at the foot are over the games of that column.",
)


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


def game_table_csv(blocks: Sequence[Block]) -> str:
    """All numbers of the table, one a line: ours, the references and every published one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ours = [each.name for each in fields(Cell)]
    header = (
        "block",
        "game",
        "source",
        "agent",
        "network",
        "recipe",
        "variant",
        "checkpoint",
        *ours,
        "kind",
        "note",
    )
    writer.writerow(header)

    def line(**values: object) -> None:
        writer.writerow(["" if values.get(name) is None else values[name] for name in header])

    for block in blocks:
        for game in block.games:
            known = reference(get_game(game))
            for agent, mean in (("random", known.random), ("human", known.human)):
                if mean is not None:
                    line(block=block.title, game=game, source=known.source, agent=agent, mean=mean)
            for column in block.columns:
                cell = block.cells.get((game, column))
                if cell is not None:
                    family = column.family
                    line(
                        block=block.title,
                        game=game,
                        source="ours",
                        agent=family.agent,
                        network=family.network,
                        recipe=family.recipe,
                        variant=family.variant,
                        checkpoint=column.checkpoint,
                        **{name: getattr(cell, name) for name in ours},
                    )
            for number in block.published:
                if number.game == game:
                    line(block=block.title, source=f"{number.paper} {number.table}", **vars(number))
    return out.getvalue()


def game_table_markdown(blocks: Sequence[Block]) -> str:
    """The table as Markdown, one a block, and below it what its numbers are."""
    parts = []
    for block in blocks:
        cells, notes = _print(block, "≈ ", " ± ", lambda key: f" [{key}]")
        parts += [f"**{_heading(block)}**", aligned(cells).rstrip()]
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join([*parts, "\n".join(f"- {rule}" for rule in RULES)]) + "\n"


def game_table_latex(blocks: Sequence[Block]) -> str:
    """The table for LaTeX with booktabs: a `table*` a block."""
    parts = ["% needs \\usepackage{booktabs}"]
    for block in blocks:
        cells, notes = _print(block, "@approx@", "@pm@", lambda key: f"@key@{key}@/key@")
        body = [" & ".join(map(_latex, row)) + r" \\" for row in cells]
        foot = next(index for index, row in enumerate(cells) if row[0] == FOOT)
        caption = " ".join(
            f"{_latex(text)}." for text in (_heading(block), *(x.rstrip(".") for x in (*RULES, *notes)))
        )
        parts += [
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            r"\begin{tabular}{l" + "r" * (len(cells[0]) - 1) + "}",
            *(r"\toprule", body[0], r"\midrule", *body[1:foot], r"\midrule", *body[foot:], r"\bottomrule"),
            r"\end{tabular}",
            rf"\caption{{{caption}}}",
            r"\end{table*}",
        ]
    return "\n".join(parts) + "\n"


def _print(
    block: Block, approximately: str, spread: str, mark: Callable[[str], str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows of cells, the header first, and what the marks of the published numbers mean."""
    known = {game: reference(get_game(game)) for game in block.games}
    human = next((each.source for each in known.values() if each.human is not None), None)
    series = {kind: _series(block, kind) for kind in PUBLISHED_AGENTS if any(_series(block, kind))}
    keys = {
        source: chr(ord("a") + index)
        for index, source in enumerate(source for each in series.values() for source in each)
    }
    header = ["game", "random", *([f"human ({human})"] if human else [])]
    for column, heading in zip(block.columns, block.headings, strict=True):
        header += [heading, "n", *([] if column.family.agent == "dqn" else ["% of DQN"])]
    header += [f"published {kinds.label(kind)}" for kind in series]
    rows = [tuple(header)]
    signs = {"better": " +", "equal": " =", "worse": " -", "": ""}
    for game in block.games:
        row = [game, _score(known[game].random), *([_score(known[game].human)] if human else [])]
        for column in block.columns:
            cell = block.cells.get((game, column))
            row += [
                f"{_score(cell.mean)}{spread}{_score(cell.std)}" if cell else "",
                f"{cell.seeds} x {cell.episodes}" if cell else "",
            ]
            if column.family.agent != "dqn":
                percent = cell.percent_of_dqn if cell else None
                row.append("" if percent is None or cell is None else f"{percent:.0f}{signs[cell.verdict]}")
        for sources in series.values():
            numbers = []
            for source, scores in sources.items():
                exact = all(each.kind == "exact" for each in scores)
                values = [
                    _score(each.mean) if exact else f"{each.mean:,.0f}"
                    for each in scores
                    if each.game == game
                ]
                if values:
                    about = "" if exact else approximately
                    numbers.append(f"{about}{'/'.join(values)}{mark(keys[source])}")
            row.append(", ".join(numbers))
        rows.append(tuple(row))
    counts, means = [FOOT], ["mean % of DQN"]
    for column in block.columns:
        cells = [cell for (_, other), cell in block.cells.items() if other == column]
        percents = [cell.percent_of_dqn for cell in cells if cell.percent_of_dqn is not None]
        if column.family.agent != "dqn":
            told = [cell.verdict for cell in cells]
            counts.append(" / ".join(str(told.count(each)) for each in ("better", "equal", "worse")))
            games = f"{len(percents)} game{'s' if len(percents) > 1 else ''}"
            means.append(f"{sum(percents) / len(percents):.0f} ({games})" if percents else "")
        # A mean over games of raw scores says nothing: these cells stay blank.
    rows += [_foot(counts, block, len(rows[0])), _foot(means, block, len(rows[0]))]
    notes = []
    for sources in series.values():
        for source, scores in sources.items():
            paper, table, agent, kind, note = source
            steps = "/".join(str(each) for each in dict.fromkeys(score.sim_steps for score in scores) if each)
            details = [f"{steps} sim steps" if steps else "", "" if kind == "exact" else kind, note]
            notes.append(f"{keys[source]}: {paper} {table}, {agent}; {'; '.join(filter(None, details))}")
    return rows, notes


def _foot(values: Sequence[str], block: Block, width: int) -> tuple[str, ...]:
    """A line of the foot: its name, and under each % what is said about it."""
    name, *told = values
    row = [
        name,
        "",
        *([""] if any(reference(get_game(game)).human is not None for game in block.games) else []),
    ]
    for column in block.columns:
        row += ["", ""] if column.family.agent == "dqn" else ["", "", told.pop(0)]
    return (*row, *[""] * (width - len(row)))


def _series(block: Block, kind: str) -> dict[tuple[str, str, str, str, str], list[PublishedScore]]:
    """Published numbers that stand beside one kind of agent, by paper, table, agent, kind and note."""
    found: dict[tuple[str, str, str, str, str], list[PublishedScore]] = {}
    for score in block.published:
        if score.agent in PUBLISHED_AGENTS[kind]:
            source = (score.paper, score.table, score.agent, score.kind, score.note)
            found.setdefault(source, []).append(score)
    return found


def _heading(block: Block) -> str:
    return (
        f"{block.title}: protocol {', '.join(block.protocols)}; mean ± std over the episodes of one network"
    )


def _latex(text: str) -> str:
    for plain, escaped in (
        *(("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")),
        *(("±", r"$\pm$"), ("≈", r"$\approx$"), (" x ", r" $\times$ ")),
        *(("@approx@", r"$\approx$"), ("@pm@", r" $\pm$ "), ("@key@", r"\textsuperscript{"), ("@/key@", "}")),
    ):
        text = text.replace(plain, escaped)
    return text


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.1f}"
