"""Figures of conversions and attacks draw what the rows say, and all figures share one look."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.drawn import Drawn
from analysis.figures import attacks, conversion, style
from analysis.figures.registry import LAST, in_order
from analysis.rows import EPISODES, StudyRows
from analysis.runs import Family
from analysis.study_tables import write_tables
from core import kinds
from core.errors import Refusal
from core.records import write_rows
from core.rows import EpisodeRow
from tests.conftest import episode, only

REPOSITORY = Path(__file__).resolve().parents[1]


def test_agents_have_one_colour_and_one_name() -> None:
    assert set(style.COLOURS) == set(kinds.KINDS)
    assert len(set(style.COLOURS.values())) == len(style.COLOURS)
    assert set(style.MARKERS) == set(kinds.KINDS) - {"random"}


def test_a_kind_that_nobody_registered_has_a_look_by_rule() -> None:
    rows = pd.DataFrame({"agent": ["my-snn", "dqn"], "train_seed": [0, 0]})
    assert [(agent, label) for agent, label, _ in style.runs(rows)] == [("dqn", "DQN"), ("my-snn", "my-snn")]
    assert style.colour_of("my-snn") == style.colour_of("my-snn") != style.colour_of("her-snn")
    assert style.colour_of("my-snn") not in style.COLOURS.values()
    assert style.marker_of("my-snn") not in style.MARKERS.values()
    assert style.looks([Family("my-snn", "n", "r", 0)])[Family("my-snn", "n", "r", 0)][
        "color"
    ] == style.colour_of("my-snn")


ORDER = (
    *("score_bars", "share_against_sim_steps", "normalised_scores", "performance_profiles"),
    "probability_of_improvement",
    *(
        "chen2022_table1_decoders",
        "liu2022_table8_double_dqn",
        "liu2022_fig7_learning_curves",
        "max_q_curves",
    ),
    *("learning_stability", "training_loss", "liu2022_fig3_surrogates", "liu2022_fig4_if_rate_against_relu"),
    *("liu2022_fig5_firing_rates", "chen2022_fig4_voltage_statistics", "agreement_against_sim_steps"),
    *("agreement_of_methods", "score_of_methods", "score_against_epsilon", "flips_against_epsilon"),
    *("flips_of_states", "masking_gap", "spikes_and_energy", "share_against_operations"),
    *("score_against_energy", "hidden_layer_tsne"),
)


def test_figures_are_drawn_in_one_order() -> None:
    assert tuple(name for name, figure in in_order() if figure.position < LAST) == ORDER


EXTENSION = '''
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.registry import FIGURES, draws
from analysis.rows import EPISODES


@FIGURES.register("lengths")
@draws(EPISODES)
def lengths(rows: pd.DataFrame) -> Figure:
    """Lengths of episodes.

    One dot an episode.

    Args:
        rows: EpisodeRows.
    """
    figure = Figure()
    figure.subplots().plot(rows.episode, rows.length_steps, ".")
    return figure
'''


def test_a_figure_of_an_extension_is_drawn_listed_and_captioned(tmp_path: Path) -> None:
    """It is one file, and the study lies outside the repository."""
    (tmp_path / "more_figures.py").write_text(EXTENSION)
    settings = '{"protocol": {"dynamics": {}}, "rom_md5": "", "versions": {}}'
    rows = [episode(episode=index, settings=settings) for index in range(2)]
    write_rows(tmp_path / "study" / "pong" / "evaluate" / "episodes.parquet", EpisodeRow, rows)

    def run(*words: str) -> str:
        command = [sys.executable, *words, "--extension", "more_figures"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    listed = run(str(REPOSITORY / "plot.py"), "study", "--list")
    assert listed.splitlines()[-1] == "lengths: Lengths of episodes."
    assert "study/figures/lengths.png\n" in run(str(REPOSITORY / "plot.py"), "study")
    assert (tmp_path / "study" / "figures" / "lengths.pdf").read_bytes()
    assert run("-m", "analysis.report", "study") == "study/report/index.html\n"
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    assert '<figcaption>Lengths of episodes. <span class="files">lengths' in page
    assert page.index("score_bars.png") < page.index("lengths.png")


def test_networks_of_one_agent_are_told_apart() -> None:
    """The first has its agent's colour; no two lines look the same, nor like another agent's."""
    found = [
        Family("dqn", "relu", "r", 0),
        *(Family("dsqn", f"chen2022+sim_steps={n}", "r", 0) for n in range(8)),
    ]
    drawn = style.looks(found)
    assert drawn[found[0]]["color"] == style.COLOURS["dqn"]
    assert drawn[found[1]]["color"] == style.COLOURS["dsqn"]
    assert len({(look["color"], str(look["linestyle"])) for look in drawn.values()}) == len(found)


def test_panels_stand_in_several_lines() -> None:
    figure, axes = style.grid([f"game {n}" for n in range(5)])
    assert list(axes) == [f"game {n}" for n in range(5)]
    assert len(figure.axes) == 5
    assert list(figure.get_size_inches()) == [style.TWO_COLUMNS, pytest.approx(2 * style.PANEL_HEIGHT)]


def test_many_games_stand_in_several_figures() -> None:
    assert [*style.parts("abcdef", 6)] == [("", "abcdef")]
    assert [*style.parts("abcdefgh", 6)] == [("1", "abcd"), ("2", "efgh")]
    assert [len(part) for _, part in style.parts(range(17), 6)] == [5, 6, 6]
    assert style.ending("minatar/breakout", "", "2") == "minatar-breakout-2"


def test_shares_of_the_dqns_score_are_drawn_where_they_are() -> None:
    """Random play on minatar/breakout is 0.534: (6 - 0.534) / (11 - 0.534) of the DQN's score is kept."""
    game = {"game": "minatar/breakout", "protocol": "minatar"}
    played = [
        ("dqn", 11.0, 0.0),
        ("qcfs T=4", 6.0, 4.0),
        ("qcfs T=16", 11.0, 16.0),
        ("exact T=4", 0.534, 8.0),
    ]
    rows = [
        episode(variant=variant, score=score, episode=index, mean_sim_steps=taken, **game)
        for variant, score, taken in played
        for index in range(10)
    ]
    (axis,) = only(conversion.score_of_methods(pd.DataFrame([vars(row) for row in rows]))).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["qcfs"].get_xdata()) == [4, 16]
    assert list(lines["qcfs"].get_ydata()) == pytest.approx([100 * 5.466 / 10.466, 100.0])
    assert list(lines["exact"].get_ydata()) == pytest.approx([0.0], abs=1e-9)
    assert list(lines["exact"].get_xdata()) == [8.0]  # layers that wait for one another take longer


def test_methods_and_attackers_have_colours_that_no_agent_has() -> None:
    from convert.variants import VARIANTS

    assert set(style.METHOD_COLOURS) == set(VARIANTS)
    attackers = [colour for colour, _ in style.ATTACKERS.values()]
    colours = [*style.METHOD_COLOURS.values(), *style.COLOURS.values(), *attackers]
    assert len(set(colours)) == len(colours)
    assert style.colour_of("rate-coded", "qcfs (percentile 99)") == style.METHOD_COLOURS["qcfs"]
    assert style.colour_of("quantised", "qcfs") == style.COLOURS["quantised"]
    assert style.colour_of("rate-coded", "mine") not in colours
    rows = pd.DataFrame({"variant": ["mine", "qcfs", "max"]})
    assert conversion._methods(rows, "variant") == ["max", "qcfs", "mine"]


def test_one_style_a_number_of_simulation_steps() -> None:
    dashes = [style.dashes_of(steps) for steps in (0, 2, 4, 8, 16, 64, 500)]
    assert dashes[0] == dashes[-1] == "-"
    assert len({str(each) for each in dashes}) == 6


def test_conversions_of_several_trainings_have_shades_of_their_methods_colour() -> None:
    rows = pd.DataFrame(
        [
            {
                **{"game": game, "source_id": training, "training": training, "method": "tan2021"},
                **{
                    "settings": '{"sim_steps": 2}',
                    "reference": "dqn",
                    "readout": readout,
                    "sim_steps": steps,
                },
                **{"agreement": 0.5, "majority_share": 0.2},
            }
            for game, trainings in (("pong", ("a" * 12, "b" * 12)), ("breakout", ("c" * 12,)))
            for training in trainings
            for readout in ("robust", "spikes")
            for steps in (1, 2)
        ]
    )
    ((_, figure),) = conversion.agreement_against_sim_steps(rows).items()
    colours = {
        axis.get_title(): [
            line.get_color() for line in axis.get_lines() if "training" in str(line.get_label())
        ]
        for axis in figure.axes
    }
    own = style.METHOD_COLOURS["tan2021"]
    assert colours["breakout, n = 1"] == [own, own]
    first, second = colours["pong, n = 2"][:2], colours["pong, n = 2"][2:]
    assert first == [own, own]
    assert second[0] == second[1] != own


def test_networks_of_one_name_are_not_averaged_under_attack() -> None:
    attacked = {"attack": "none", "epsilon": 0.0, "gradient_source": "", "threat": "{}"}
    fgsm = {"attack": "fgsm", "epsilon": 0.1, "gradient_source": "own", "threat": "{}"}

    def drawn(*networks: tuple[str, int, int, float]) -> dict[str, list[float]]:
        rows = [
            {
                **vars(episode(checkpoint_id=name, train_seed=seed, train_steps=steps, score=score)),
                **{"recipe_steps": 1_500_000, "flip_share": 0.25, "attacker": "", **attack},
            }
            for name, seed, steps, score in networks
            for attack in (attacked, fgsm)
            for _ in range(2)
        ]
        (axis,) = only(attacks.score_against_epsilon(pd.DataFrame(rows))).axes
        (flips,) = only(attacks.flips_against_epsilon(pd.DataFrame(rows))).axes
        assert all(list(line.get_ydata()) == [25.0, 25.0] for line in flips.lines)
        return points(axis)

    def points(axis: Axes) -> dict[str, list[float]]:
        handles, names = axis.get_legend_handles_labels()
        return {name: list(bars[0].get_ydata()) for bars, name in zip(handles, names, strict=True)}  # type: ignore[index]

    assert drawn(("short", 0, 8000, -21.0), ("long", 0, 800_000, 16.0)) == {
        "DQN (relu)": [16.0, 16.0],
        "DQN (untrained)": [-21.0, -21.0],
    }
    assert drawn(("one", 0, 800_000, 10.0), ("other", 1, 800_000, 20.0)) == {"DQN": [15.0, 15.0]}
    other = {**fgsm, "gradient_source": "transfer:dqn abc", "threat": '{"epsilon": 0.1}'}
    unlucky = {**other, "attack": "square", "gradient_source": ""}
    rows = [
        {**vars(episode(score=score)), "flip_share": flips, "attacker": "", **attack}
        for attack, score, flips in (
            (attacked, 9.0, 0.0),
            (fgsm, 5.0, 0.5),
            (other, 1.0, 0.5),  # of equals the lower score
            (unlucky, 0.0, 0.1),  # the lowest score, and hardly another decision
        )
        for _ in range(2)
    ]
    figure = only(attacks.score_against_epsilon(pd.DataFrame(rows)))
    assert figure.get_suptitle() == "pong, n = 1 x 2, too few for an interval"
    assert {axis.get_title(): points(axis) for axis in figure.axes} == {
        "FGSM, training gradient": {"DQN": [9.0, 5.0]},
        "strongest attack": {"DQN": [9.0, 1.0]},
    }
    with pytest.raises(Refusal, match="protocol of pong"):
        attacks.score_against_epsilon(pd.DataFrame([*rows, {**rows[0], "protocol": "modern"}]))
    with pytest.raises(Refusal, match="more than one checkpoint of DQN, training seed 0"):
        drawn(("one", 0, 800_000, 10.0), ("other", 0, 700_000, 20.0))


# Folders ---------------------------------------------------------------------------------------------


def learning(
    folder: Path, seed: int = 0, recipe: str = "tutorial", scores: tuple[float, ...] = (10, 20)
) -> None:
    """The validation games of a training run, as `train_direct` leaves them in its folder."""
    rows = [
        episode(train_seed=seed, recipe=recipe, train_steps=1000 * step, score=score, checkpoint_id=f"{step}")
        for step, score in enumerate(scores, 1)
    ]
    write_rows(folder / "validation.parquet", EpisodeRow, rows)


def plotted(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "plot.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def labels(*folders: Path) -> set[str]:
    """What the legend of the learning curves says, and how many seeds its title says."""
    (axis,) = only(dict(in_order())["liu2022_fig7_learning_curves"].of_study(StudyRows(*folders))).axes
    seeds = axis.get_title().removeprefix("pong")
    return {str(line.get_label()) + seeds for line in axis.lines if str(line.get_label()).startswith("DQN")}


def test_runs_in_one_figure_are_told_apart(tmp_path: Path) -> None:
    one, again, faster, other = (tmp_path / name for name in ("one", "again", "faster", "other/one"))
    learning(one)
    learning(again, scores=(10, 30))
    learning(faster, recipe="tutorial+learning_rate=0.01")
    learning(other, seed=1)
    assert labels(one) == {"DQN, 1 seed"}
    # By what differs; else by the folder's name; and what differs in nothing but the seed is one network.
    assert labels(one, faster) == {"DQN (relu), 1 seed", "DQN (learning_rate=0.01), 1 seed"}
    assert labels(one, again) == {"DQN (one), 1 seed", "DQN (again), 1 seed"}
    assert labels(one, other) == {"DQN, 2 seeds"}
    learning(other, scores=(10, 40))
    assert labels(one, other) == {f"DQN ({tmp_path.name}-one), 1 seed", "DQN (other-one), 1 seed"}
    # So are the seeds that only one of them has: a network is one family or two, whatever its seeds.
    learning(other / "more", seed=2)
    assert labels(one, other) == {f"DQN ({tmp_path.name}-one), 1 seed", "DQN (other-one), 2 seeds"}
    shutil.rmtree(other)
    learning(other)
    assert labels(one, other) == {"DQN, 1 seed"}


def test_random_play_of_two_folders_is_one(tmp_path: Path) -> None:
    random = episode(
        agent="random", checkpoint_id="", train_seed=-1, network="", recipe="", max_q_mean=float("nan")
    )
    for name in ("a", "b"):
        write_rows(tmp_path / name / "deep" / "er" / "episodes.parquet", EpisodeRow, [random])
    assert len(StudyRows(tmp_path / "a", tmp_path / "b").rows(EPISODES)) == 1


def test_rows_that_stand_in_two_files_count_once(tmp_path: Path) -> None:
    """Of random play that was scored beside each agent, for example."""
    games = [episode(episode=number, score=1.0) for number in range(2)]
    for name, rows in (("a", games), ("b", [episode(episode=2), *games]), ("c", [episode(episode=3)])):
        write_rows(tmp_path / name / "episodes.parquet", EpisodeRow, rows)
    assert [row.episode for row in StudyRows(tmp_path).rows(EPISODES)] == [0, 1, 2, 3]


def test_a_conversion_follows_the_name_of_its_dqn(tmp_path: Path) -> None:
    snn = {"agent": "rate-coded", "variant": "tan2021", "sim_steps": 8}
    for name, score in (("a", 1.0), ("b", 2.0)):
        rows = [episode(score=score), *([episode(**snn)] if name == "a" else [])]
        write_rows(tmp_path / name / "episodes.parquet", EpisodeRow, rows)
    found = StudyRows(tmp_path / "a", tmp_path / "b").rows(EPISODES)
    assert [(row.agent, row.recipe) for row in found] == [
        ("dqn", "atari-fast+a"),
        ("rate-coded", "atari-fast+a"),
        ("dqn", "atari-fast+b"),
    ]


def test_stability_is_told_of_two_seeds_and_what_is_amiss_with_it_stops_no_other_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tables() -> set[str]:
        write_tables(StudyRows(tmp_path), Drawn(tmp_path))
        return {path.name for path in tmp_path.glob("*.md")}

    write_rows(tmp_path / "episodes.parquet", EpisodeRow, [episode()])
    learning(tmp_path / "a")
    assert tables() == {"scores.md", "games.md"}
    learning(tmp_path / "b", seed=1)
    assert tables() == {"scores.md", "games.md", "stability.md"}
    write_rows(
        tmp_path / "b" / "validation.parquet",
        EpisodeRow,
        [episode(train_seed=1, recipe="tutorial", train_steps=steps) for steps in (1000, 1000, 2000)],
    )
    assert tables() == {"scores.md", "games.md"}
    assert "stability.md: refused, rows with more than one number of episodes" in capsys.readouterr().out


def test_figures_go_into_the_folder_beside_it_or_where_one_says(tmp_path: Path) -> None:
    learning(tmp_path / "runs" / "a")
    learning(tmp_path / "runs" / "b", seed=1)
    name = "figures/liu2022_fig7_learning_curves.png"
    for words, where in (
        ((tmp_path / "runs" / "a",), tmp_path / "runs" / "a"),
        ((tmp_path / "runs" / "a", tmp_path / "runs" / "b"), tmp_path / "runs" / "a+b"),
        ((tmp_path / "runs", "--out", tmp_path / "out"), tmp_path / "out"),
    ):
        done = plotted(*words)
        assert done.returncode == 0, done.stderr
        assert (where / name).is_file()
        assert f"{name}\n" in done.stdout
    assert not (tmp_path / "runs" / "figures").exists()


@pytest.mark.parametrize("words", [(), ("nosuch",), ("",)])
def test_folders_that_are_none_are_refused(words: tuple[str, ...]) -> None:
    done = plotted(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    learning(tmp_path)
    mine = [
        tmp_path / name
        for name in ("scores.md", "games.csv", "figures/score_bars.png", "figures/max_q_curves.pdf")
    ]
    (tmp_path / "figures").mkdir()
    for path in mine:
        path.write_text("mine")
    done = plotted(tmp_path)
    assert done.returncode == 2
    assert "max_q_curves: refused, " in done.stdout
    assert [path.read_text() for path in mine] == ["mine"] * 4
    mine[3].unlink()
    assert plotted(tmp_path).returncode == 0
    # Its own are replaced, and removed when nothing can be drawn any more.
    curves = tmp_path / "figures" / "liu2022_fig7_learning_curves.png"
    before = curves.read_bytes()
    learning(tmp_path, scores=(10, 30))
    assert plotted(tmp_path).returncode == 0
    assert curves.read_bytes() != before
    (tmp_path / "validation.parquet").unlink()
    assert plotted(tmp_path).returncode == 0
    assert not curves.exists()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["score_bars.png"]
