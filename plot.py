"""python plot.py STUDY: the table and the figures of a study, from its rows alone.

One function a figure. Nothing is computed here that needs a network; torch is never imported.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib
import pandas as pd
import tyro
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.cli import main
from core.errors import Refusal
from core.games import PUBLISHED, get_game, reference
from core.records import (
    AttackRow,
    ConversionRow,
    CurveRow,
    EpisodeRow,
    Row,
    read_rows,
    require_single,
    write_bytes,
)
from evaluate.statistics import kept_interval, mean_interval
from evaluate.tables import AGENT_ORDER, markdown, score_lines

ROOT = Path(__file__).resolve().parent
PANEL_INCHES = (3.5, 2.6)
LABELS = {
    **{"random": "random play", "dqn": "DQN", "quantised": "quantised DQN"},
    **{"rate-coded": "converted SNN", "dsqn": "DSQN"},
}
# Okabe & Ito's colours, which the colour-blind tell apart; the same agent has the same one everywhere.
COLOURS = {
    **{"random": "#999999", "dqn": "#0072B2", "quantised": "#56B4E9"},
    **{"rate-coded": "#E69F00", "dsqn": "#009E73"},
}
METHOD_ORDER = (
    *("tan2021", "max", "v-init", "threshold-search", "presteps", "signed"),
    *("reconstruct", "residual", "anytime", "afterwards", "qcfs", "exact"),
)
"""Of `convert compare`."""
LINE_STYLES = {"fgsm": "-", "random-sign": ":", "robust": "-", "spikes": "--"}

matplotlib.use("Agg")
matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})


@dataclass(frozen=True)
class Plot:
    """Draw the figures of a study and print its table; nothing is trained or played."""

    study: Annotated[str, tyro.conf.Positional]
    """Name of a folder in results/, as in quick."""

    def run(self) -> None:
        study = ROOT / "results" / self.study
        if not study.is_dir():
            raise Refusal(f"no results of study {self.study!r}: python reproduce.py {self.study} makes them")
        for name, (pattern, row_type, draw, made_by) in FIGURES.items():
            rows = pd.DataFrame([asdict(row) for row in _read(study, pattern, row_type)])
            target = study / "figures" / f"{name}.png"
            if rows.empty:
                target.unlink(missing_ok=True)
                print(f"{name}: skipped, no rows ({pattern}); python -m {made_by} makes them")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draw(rows).savefig(target, dpi=200)
            print(target.relative_to(ROOT))
        lines = score_lines(_read(study, "*/*/episodes.parquet", EpisodeRow))
        if lines:
            text = markdown(lines)
            write_bytes(study / "scores.md", text.encode())
            print(f"\n{text}\nIntervals are over the episodes of one network, not over training seeds.")
        self._print_conversions(study)

    def _print_conversions(self, study: Path) -> None:
        rows = _read(study, "*/*/*.conversion.parquet", ConversionRow)
        for row in rows:
            longest = max(other.sim_steps for other in rows if other.game == row.game)
            if row.readout == "robust" and row.sim_steps == longest:
                against = "BindsNET's simulation of it" if row.reference == "bindsnet" else "its DQN"
                print(
                    f"{row.game}: the converted SNN ({row.method}, {row.sim_steps} sim steps) takes the action of "
                    f"{against} in {row.agreement:.1%} of {row.num_states} states "
                    f"(the DQN's most frequent action: {row.majority_share:.1%})"
                )


def _read(study: Path, pattern: str, row_type: type[Row]) -> list[Row]:
    """All rows of a study that lie in files of a pattern."""
    return [row for path in sorted(study.glob(pattern)) for row in read_rows(path, row_type)]


def score_bars(rows: pd.DataFrame) -> Figure:
    """Mean scores with their intervals over episodes, random and human play as lines (the tables of Liu and Tan)."""
    figure, axes = _panels(rows)
    lines = score_lines(
        [EpisodeRow(**{str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]
    )
    for game, axis in axes.items():
        here = [line for line in lines if line.game == game]
        for position, line in enumerate(here):
            spread = [[line.score.mean - line.score.low], [line.score.high - line.score.mean]]
            axis.bar(position, line.score.mean, yerr=spread, color=COLOURS[line.agent], capsize=3, width=0.7)
        names = [_label(line.agent, line.train_seed, rows) for line in here]
        notes = ["\n(not trained)" if line.note else "" for line in here]
        axis.set_xticks(range(len(here)), [name + note for name, note in zip(names, notes, strict=True)])
        axis.tick_params(axis="x", labelsize=6)
        _reference_lines(axis, game)
        axis.axhline(0, color="black", linewidth=0.5)
        axis.set_ylabel("score")
    return figure


def liu2022_fig7_learning_curves(rows: pd.DataFrame) -> Figure:
    """Score of validation episodes while training (Liu et al. 2022, Fig 7; Chen et al. 2022, Fig 6)."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        for agent, label, run in _runs(rows[rows.game == game]):
            scores = run.groupby("train_steps").score
            means = scores.mean()
            axis.plot(means.index, means, color=COLOURS[agent], label=label, marker=".")
            low, high = scores.quantile(0.25), scores.quantile(0.75)
            axis.fill_between(means.index, low, high, color=COLOURS[agent], alpha=0.2)
        _reference_lines(axis, game)
        _decisions(axis)
        axis.set_ylabel("validation score\n(mean, quartiles)")
    return figure


def training_loss(rows: pd.DataFrame) -> Figure:
    """Loss of the updates while training."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        for agent, label, run in _runs(rows[(rows.game == game) & rows.loss.notna()]):
            axis.plot(run.steps, run.loss, color=COLOURS[agent], label=label)
        _decisions(axis)
        axis.set_ylabel("loss")
        axis.set_yscale("log")
    return figure


def agreement_against_sim_steps(rows: pd.DataFrame) -> Figure:
    """Share of held-out states of the DQN's play in which the converted network takes the DQN's action.

    Tan et al. 2021 count the same on the states of the spiking network's own play. The dotted line is what a
    constant action would agree.
    """
    rows = rows[rows.reference == "dqn"]
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for readout, group in here.groupby("readout"):
            curve = group.groupby("sim_steps").agreement.mean()
            colour, style = COLOURS["rate-coded"], LINE_STYLES[str(readout)]
            axis.plot(
                curve.index,
                100 * curve,
                color=colour,
                linestyle=style,
                marker=".",
                label=f"{readout} read-out",
            )
        axis.axhline(
            100 * here.majority_share.mean(), color=COLOURS["random"], linestyle=":", label="constant action"
        )
        axis.set_xscale("log", base=2)
        sim_steps = sorted(set(here.sim_steps))
        axis.set_xticks(sim_steps, [str(each) for each in sim_steps])
        axis.minorticks_off()
        axis.set_ylim(0, 102)
        axis.set_xlabel("sim steps")
        axis.set_ylabel("agreement with the DQN (%)")
        axis.legend(frameon=False, title=f"{here.method.iloc[0]}, n = {here.num_states.iloc[0]} states")
    return figure


def agreement_of_methods(rows: pd.DataFrame) -> Figure:
    """How often each conversion chooses as its DQN, and what its other choices cost, on held-out states of the DQN's
    play."""
    rows = rows[rows.states == "dqn-driven"]
    games = sorted(set(rows.game))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), 2.2 * PANEL_INCHES[1]), layout="constrained")
    panels = figure.subplots(2, len(games), squeeze=False)
    for column, game in enumerate(games):
        require_single(rows[rows.game == game].train_seed, f"training seed of {game}'s conversions")
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
            _sim_steps(axis, sorted(set(rows.sim_steps)))
    _common_legend(figure, list(panels[0]), 3 + len(games))
    return figure


def score_of_methods(rows: pd.DataFrame) -> Figure:
    """Share of its DQN's score that each conversion keeps, above random play and on the same starts; beside it what is
    published for MinAtar (Xu et al. 2026, Table 2: best returns, mean over five games)."""
    figure, axes = _panels(rows)
    published = pd.read_csv(PUBLISHED / "published_scores.csv")
    published = published[published.game == "all (minatar)"]
    for game, axis in axes.items():
        here = rows[rows.game == game].sort_values("episode")
        require_single(here.train_seed, f"training seed of {game}'s conversions")
        of_dqn = here[here.variant == "dqn"].score.to_numpy()
        random = reference(get_game(game)).random or 0.0
        named = here[here.variant != "dqn"].variant.str.extract(r"(?P<name>.+) T=(?P<sim_steps>\d+)")
        games = here.loc[named.index].assign(name=named.name, at=named.sim_steps.astype(int))
        for name, group in _methods(games, "name"):
            sizes = [int(at) for at in sorted(set(group["at"]))]
            points = [
                kept_interval(group[group["at"] == at].score.to_numpy(), of_dqn, random) for at in sizes
            ]
            look = _method_style(name)
            taken = [group[group["at"] == at].mean_sim_steps.mean() for at in sizes]
            axis.plot(taken, [100 * point.mean for point in points], label=name, **look)
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
        _sim_steps(axis, sorted(set(games["at"])))
        axis.set_ylabel("share of the DQN's score (%)")
    _common_legend(figure, list(axes.values()), 3 + len(axes))
    return figure


def _methods(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of each method that there is, by its name in a column, in the order of all figures."""
    for name in METHOD_ORDER:
        if (rows[column] == name).any():
            yield name, rows[rows[column] == name]


def _method_style(name: str) -> dict[str, Any]:
    """One look a method, the same in every figure: colours go round, and dashes tell the second round apart."""
    position = METHOD_ORDER.index(name)
    colours = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
    return {
        "color": colours[position % len(colours)],
        "linestyle": ("-", "--")[position // len(colours)],
        "marker": ".",
        "linewidth": 1,
    }


def _sim_steps(axis: Axes, values: list[int]) -> None:
    """A horizontal axis of simulation steps."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(each) for each in values], fontsize=6)
    axis.minorticks_off()
    axis.set_xlabel("sim steps until the decision")


def _common_legend(figure: Figure, axes: list[Axes], columns: int) -> None:
    """One legend below the panels, because they draw the same things."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=6,
    )


def score_against_epsilon(rows: pd.DataFrame) -> Figure:
    """Score under FGSM and under noise of the same size, with intervals over episodes."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for agent, name, run in _checkpoints(here):
            for attack in ("fgsm", "random-sign"):
                under = run[run.attack.isin([attack, "none"])]
                if (under.attack == attack).any():
                    sizes = sorted(set(under.epsilon))
                    points = [mean_interval(under[under.epsilon == size].score.to_numpy()) for size in sizes]
                    source = under[under.attack == attack].gradient_source.iloc[0]
                    label = f"{name}, {attack}" + (f" ({source})" if source else "")
                    colour, style = COLOURS[agent], LINE_STYLES[attack]
                    means = [point.mean for point in points]
                    axis.plot(sizes, means, color=colour, linestyle=style, marker=".", label=label)
                    lows, highs = [point.low for point in points], [point.high for point in points]
                    axis.fill_between(sizes, lows, highs, color=colour, alpha=0.12)
        sizes = sorted(set(here.epsilon))
        positive = [size for size in sizes if size > 0]
        axis.set_xscale("symlog", linthresh=positive[0] if positive else 1)
        axis.set_xticks(sizes, [f"{255 * size:.3g}/255" if size else "0" for size in sizes])
        axis.minorticks_off()
        _reference_lines(axis, game)
        axis.set_xlabel("epsilon (l_inf)")
        axis.set_ylabel("score")
    _common_legend(figure, list(axes.values()), 3)
    return figure


def _runs(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Agent, label and rows of every trained network, one training seed apart from the next."""
    for agent in AGENT_ORDER:
        for seed in sorted(set(rows[rows.agent == agent].train_seed)):
            yield agent, _label(agent, seed, rows), rows[(rows.agent == agent) & (rows.train_seed == seed)]


def _checkpoints(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The same of every checkpoint: several of one training run, or of other lengths, are not averaged."""
    for agent, label, run in _runs(rows):
        trained = {str(name): group.train_steps.iloc[0] for name, group in run.groupby("checkpoint_id")}
        for checkpoint, steps in sorted(trained.items(), key=lambda each: each[1]):
            longer = f"{label}, {steps:,} decisions" if len(trained) > 1 else label
            yield agent, longer, run[run.checkpoint_id == checkpoint]


def _label(agent: str, seed: int, rows: pd.DataFrame) -> str:
    """The agent's name, with its training seed where there are several."""
    several = rows[rows.agent == agent].train_seed.nunique() > 1
    name = "imported" if seed < 0 else f"seed {seed}"
    return f"{LABELS[agent]}, {name}" if several else LABELS[agent]


def _panels(rows: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """One panel a game, side by side."""
    games = sorted(set(rows.game))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, len(games), squeeze=False)[0]
    for game, axis in zip(games, axes, strict=True):
        axis.set_title(game)
    return figure, dict(zip(games, axes, strict=True))


def _decisions(axis: Axes) -> None:
    """A horizontal axis of decisions, and the legend of what is drawn over it."""
    axis.set_xlabel("decisions")
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.legend(frameon=False)


def _reference_lines(axis: Axes, game: str) -> None:
    """Published or measured random play, and human play where there is a number."""
    references = reference(get_game(game))
    if references.random is not None:
        axis.axhline(references.random, color=COLOURS["random"], linestyle=":", linewidth=1)
    if references.human is not None:
        axis.axhline(references.human, color="black", linestyle="--", linewidth=0.8)
        axis.annotate(
            "human",
            (1, references.human),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=6,
        )


class Drawing(NamedTuple):
    """A figure and the rows that it draws."""

    pattern: str
    """Of the files in a study's folder."""
    row_type: type
    draw: Callable[[pd.DataFrame], Figure]
    made_by: str
    """The command that writes such files."""


FIGURES = {
    "score_bars": Drawing("*/*/episodes.parquet", EpisodeRow, score_bars, "evaluate run"),
    "liu2022_fig7_learning_curves": Drawing(
        "*/*/validation.parquet", EpisodeRow, liu2022_fig7_learning_curves, "train_direct dqn (dsqn)"
    ),
    "training_loss": Drawing("*/*/curve.parquet", CurveRow, training_loss, "train_direct dqn (dsqn)"),
    "agreement_against_sim_steps": Drawing(
        "*/*/*.conversion.parquet", ConversionRow, agreement_against_sim_steps, "convert run"
    ),
    "agreement_of_methods": Drawing(
        "*/*/methods.parquet", ConversionRow, agreement_of_methods, "convert compare"
    ),
    "score_of_methods": Drawing(
        "*/*/conversion_episodes.parquet", EpisodeRow, score_of_methods, "convert compare --episodes N"
    ),
    "score_against_epsilon": Drawing(
        "*/*/attacks.parquet", AttackRow, score_against_epsilon, "adversarial run"
    ),
}

if __name__ == "__main__":
    main("python plot.py", Plot)
