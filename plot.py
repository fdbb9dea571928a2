"""python plot.py STUDY: the table and the figures of a study, from its rows alone.

One function a figure. Nothing is computed here that needs a network; torch is never imported.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import matplotlib
import pandas as pd
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.cli import main
from core.errors import Refusal
from core.games import get_game, reference
from core.records import AttackRow, ConversionRow, CurveRow, EpisodeRow, Row, read_rows, write_bytes
from evaluate.statistics import mean_interval
from evaluate.tables import AGENT_ORDER, markdown, score_lines

ROOT = Path(__file__).resolve().parent
PANEL_INCHES = (3.5, 2.6)
LABELS = {"random": "random play", "dqn": "DQN", "rate-coded": "converted SNN", "dsqn": "DSQN"}
# Okabe & Ito's colours, which the colour-blind tell apart; the same agent has the same one everywhere.
COLOURS = {"random": "#999999", "dqn": "#0072B2", "rate-coded": "#E69F00", "dsqn": "#009E73"}
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
        for name, (pattern, row_type, draw) in FIGURES.items():
            rows = pd.DataFrame([asdict(row) for row in _read(study, pattern, row_type)])
            target = study / "figures" / f"{name}.png"
            if rows.empty:
                print(f"{name}: skipped, no rows ({pattern}); python reproduce.py {self.study} makes them")
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
                    f"{against} in {row.agreement:.1%} of {row.num_states} states"
                )


def _read(study: Path, pattern: str, row_type: type[Row]) -> list[Row]:
    """All rows of a study that lie in files of a pattern."""
    return [row for path in sorted(study.glob(pattern)) for row in read_rows(path, row_type)]


def score_bars(rows: pd.DataFrame) -> Figure:
    """Mean scores with their intervals over episodes, random and human play as lines (the tables of Liu and Tan)."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for position, agent in enumerate(_present(here)):
            interval = mean_interval(here[here.agent == agent].score.to_numpy())
            spread = [[interval.mean - interval.low], [interval.high - interval.mean]]
            axis.bar(position, interval.mean, yerr=spread, color=COLOURS[agent], capsize=3, width=0.7)
        axis.set_xticks(
            range(len(_present(here))), [LABELS[agent].replace(" ", "\n") for agent in _present(here)]
        )
        _reference_lines(axis, game)
        untrained = [LABELS[line.agent] for line in score_lines(_rows(here)) if line.note]
        if untrained:
            axis.set_title(f"{game} (not trained: {', '.join(untrained)})", fontsize=6)
        axis.axhline(0, color="black", linewidth=0.5)
        axis.set_ylabel("score")
    return figure


def liu2022_fig7_learning_curves(rows: pd.DataFrame) -> Figure:
    """Score of validation episodes while training (Liu et al. 2022, Fig 7; Chen et al. 2022, Fig 6)."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for agent in _present(here):
            scores = here[here.agent == agent].groupby("train_steps").score
            means = scores.mean()
            axis.plot(means.index, means, color=COLOURS[agent], label=LABELS[agent], marker=".")
            axis.fill_between(
                means.index, scores.quantile(0.25), scores.quantile(0.75), color=COLOURS[agent], alpha=0.2
            )
        _reference_lines(axis, game)
        axis.set_xlabel("decisions")
        axis.set_ylabel("validation score\n(mean, quartiles)")
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        axis.legend(frameon=False)
    return figure


def training_loss(rows: pd.DataFrame) -> Figure:
    """Loss of the updates while training."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[(rows.game == game) & rows.loss.notna()]
        for agent in _present(here):
            curve = here[here.agent == agent].groupby("steps").loss.mean()
            axis.plot(curve.index, curve, color=COLOURS[agent], label=LABELS[agent])
        axis.set_xlabel("decisions")
        axis.set_ylabel("loss")
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        axis.legend(frameon=False)
    return figure


def tan2021_agreement_against_sim_steps(rows: pd.DataFrame) -> Figure:
    """Share of held-out states in which the converted network takes the DQN's action (Tan et al. 2021's metric)."""
    rows = rows[rows.reference == "dqn"]
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for readout, group in here.groupby("readout"):
            curve = group.groupby("sim_steps").agreement.mean()
            axis.plot(
                curve.index, 100 * curve, color=COLOURS["rate-coded"], linestyle=LINE_STYLES[str(readout)],
                marker=".", label=f"{readout} read-out",
            )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(set(here.sim_steps)), [str(steps) for steps in sorted(set(here.sim_steps))])
        axis.minorticks_off()
        axis.set_ylim(0, 102)
        axis.set_xlabel("sim steps")
        axis.set_ylabel("agreement with the DQN (%)")
        axis.legend(frameon=False, title=f"{here.method.iloc[0]}, n = {here.num_states.iloc[0]} states")
    return figure


def score_against_epsilon(rows: pd.DataFrame) -> Figure:
    """Score under FGSM and under noise of the same size, with intervals over episodes."""
    figure, axes = _panels(rows)
    for game, axis in axes.items():
        here = rows[rows.game == game]
        for agent in _present(here):
            mine = here[here.agent == agent]
            for attack in ("fgsm", "random-sign"):
                under = mine[mine.attack.isin([attack, "none"])]
                if (under.attack == attack).any():
                    sizes = sorted(set(under.epsilon))
                    points = [mean_interval(under[under.epsilon == size].score.to_numpy()) for size in sizes]
                    source = under[under.attack == attack].gradient_source.iloc[0]
                    label = f"{LABELS[agent]}, {attack}" + (f" ({source})" if source else "")
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
    # The agents are the same in every panel, so one legend below serves all of them.
    handles = {
        label: handle
        for axis in axes.values()
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=6
    )
    return figure


def _rows(frame: pd.DataFrame) -> list[EpisodeRow]:
    return [
        EpisodeRow(**{str(name): value for name, value in row.items()}) for row in frame.to_dict("records")
    ]


def _panels(rows: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """One panel a game, side by side."""
    games = sorted(set(rows.game))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(games), PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, len(games), squeeze=False)[0]
    for game, axis in zip(games, axes, strict=True):
        axis.set_title(game)
    return figure, dict(zip(games, axes, strict=True))


def _present(rows: pd.DataFrame) -> list[str]:
    return [agent for agent in AGENT_ORDER if agent in set(rows.agent)]


def _reference_lines(axis: Axes, game: str) -> None:
    """Published or measured random and human play; human only where it fits what is drawn."""
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


FIGURES: dict[str, tuple[str, type, Callable[[pd.DataFrame], Figure]]] = {
    "score_bars": ("*/*/episodes.parquet", EpisodeRow, score_bars),
    "liu2022_fig7_learning_curves": ("*/*/validation.parquet", EpisodeRow, liu2022_fig7_learning_curves),
    "training_loss": ("*/*/curve.parquet", CurveRow, training_loss),
    "tan2021_agreement_against_sim_steps": (
        "*/*/*.conversion.parquet",
        ConversionRow,
        tan2021_agreement_against_sim_steps,
    ),
    "score_against_epsilon": ("*/*/attacks.parquet", AttackRow, score_against_epsilon),
}

if __name__ == "__main__":
    main("python plot.py", Plot)
