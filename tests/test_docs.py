"""The documentation: commands are accepted, links and paths exist, numbers are those of rows, sentences are short.

A fenced block marked `bash run` is run in a temporary folder. Every other command is parsed by the real command line,
and not run. The extensions that docs/extending.md shows are written to the same folder.
"""

import importlib
import itertools
import re
import runpy
import shlex
import statistics
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

import core.cli
from analysis.attackers import Victim, masking_gaps, network_of
from analysis.rows import STATE_ATTACKS, StudyRows
from analysis.shares import shares_kept
from core.extensions import EXTENSIONS
from core.games import GAMES, get_game, reference
from core.kinds import kind_of
from core.records import read_rows
from core.registry import Registry
from core.rows import EpisodeRow
from spikeq.__main__ import VERBS

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
)
PAGES = (
    *GUIDES,
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "core" / "data" / "README.md",
    *sorted((REPOSITORY / "results").glob("*/README.md")),
)
MOST_WORDS_OF_README = 1200
MOST_WORDS_OF_A_SENTENCE, MEDIAN_WORDS_OF_A_SENTENCE = 40, 18


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


# Pages as text ---------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block."""

    info: str
    """What stands behind its opening fence, as in "bash run"."""
    text: str


FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[Block]:
    return [Block(info.strip(), body) for info, body in FENCED.findall(text)]


def prose(text: str) -> str:
    """The text without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", FENCED.sub("", text), flags=re.DOTALL)


def paragraphs(text: str) -> list[str]:
    """Paragraphs and list items of the prose, each on one line; headings, tables and pictures are left out."""
    found: list[str] = []
    open_paragraph = False
    for line in prose(text).splitlines():
        line = re.sub(r"^(\s*>)+\s?", "", line).strip()
        if not line or line.startswith(("|", "![", "#")):
            open_paragraph = False
        elif re.match(r"[-*] |\d+\. ", line):
            found.append(re.sub(r"^([-*]|\d+\.) +", "", line))
            open_paragraph = True
        elif open_paragraph:
            found[-1] += f" {line}"
        else:
            found.append(line)
            open_paragraph = True
    return found


ABBREVIATIONS = ("et al", "e.g", "i.e", "vs", "cf", "Fig", "Figs", "No")


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph. A full stop inside a number, a path, an abbreviation or code ends none."""
    hidden = re.sub(r"`[^`]*`", lambda code: code[0].replace(".", "\0"), paragraph)
    hidden = re.sub(r"\]\([^)]*\)", "]", hidden)
    for abbreviation in ABBREVIATIONS:
        hidden = re.sub(rf"\b{re.escape(abbreviation)}\.", lambda found: found[0].replace(".", "\0"), hidden)
    parts = re.split(r"(?<=[.!?])[*_)\"”]*\s+(?=[*_(\[\"“`]*[A-Z0-9`])", hidden)
    return [part.replace("\0", ".").strip() for part in parts if words(part)]


def words(sentence: str) -> list[str]:
    """Words as a reader counts them: a piece of code is one, punctuation alone is none."""
    readable = re.sub(r"`[^`]*`", "code", sentence)
    return [word for word in readable.split() if re.search(r"\w", word)]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One thought. Another one.", ["One thought.", "Another one."]),
        (
            "It takes 1.5 s in `core/layers.py`. Then it ends.",
            ["It takes 1.5 s in `core/layers.py`.", "Then it ends."],
        ),
        (
            "Tan et al. 2021 says so. **Bold.** `code` follows.",
            ["Tan et al. 2021 says so.", "**Bold.", "`code` follows."],
        ),
        ("See [a page](docs/a.b.md). Is it? Yes!", ["See [a page].", "Is it?", "Yes!"]),
        ("Names end in `_steps`. `_frames` is another.", ["Names end in `_steps`.", "`_frames` is another."]),
    ],
)
def test_sentences_are_told_apart(paragraph: str, expected: list[str]) -> None:
    assert sentences(paragraph) == expected


def test_words_are_counted_as_a_reader_counts_them() -> None:
    assert len(words("A network - converted - of `--sim-steps 8` levels")) == 6
    assert paragraphs("# A\nb\nc\n\n| t |\n- d\n  e\n- f\n\n```\ng\n```\nh") == ["b c", "d e", "f", "h"]


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    found = [sentence for part in paragraphs(page.read_text()) for sentence in sentences(part)]
    lengths = [len(words(sentence)) for sentence in found]
    too_long = [
        sentence for sentence, length in zip(found, lengths, strict=True) if length > MOST_WORDS_OF_A_SENTENCE
    ]
    assert too_long == []
    assert statistics.median(lengths) < MEDIAN_WORDS_OF_A_SENTENCE


def test_the_readme_is_one_page_with_one_picture() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.split()) <= MOST_WORDS_OF_README
    assert len(re.findall(r"!\[|<img", text)) == 1


# Links and paths -------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading))
        .strip()
        .lower()
        .replace(" ", "-")
        for heading in headings
    }


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue  # nothing outside the repository can be reached from here
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text())):
            dead.append(target)
    assert dead == []


MADE_LATER = ("runs/", "results/quick", "results/classic", "tensorboard/")
"""What commands make, and the repository does not hold."""


def paths_in_prose(text: str) -> list[str]:
    """What stands in backticks and looks like a path of the repository."""
    rooms = [path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = []
    for code in re.findall(r"`([^`\n]+)`", prose(text)):
        looks_like_one = re.fullmatch(
            rf"({'|'.join(map(re.escape, rooms))})/[\w./-]*|\w+\.(py|toml|txt|cff)", code
        )
        if looks_like_one and not code.startswith(MADE_LATER) and not re.search(r"\b[A-Z]{3,}\b", code):
            found.append(code)
    return found


def test_paths_are_found_in_prose() -> None:
    text = (
        "`core/layers.py` `play/` `results/STUDY/figures/` `runs/a` `reproduce.py` `minatar/breakout` `--x`"
    )
    assert paths_in_prose(text) == ["core/layers.py", "play/", "reproduce.py"]


@pages
def test_every_path_exists(page: Path) -> None:
    assert [path for path in paths_in_prose(page.read_text()) if not (REPOSITORY / path).exists()] == []


# Commands --------------------------------------------------------------------------------------------


def command_lines(text: str) -> list[list[str]]:
    """The commands of a shell block, split into words; comments and line ends with a backslash are understood."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [line for line in lines if line]


def commands(page: Path, only_run: bool = False) -> list[list[str]]:
    """The commands in a page's blocks that are marked bash; of those to run alone, if asked."""
    return [
        line
        for block in blocks(page.read_text())
        if block.info == "bash run" or (block.info == "bash" and not only_run)
        for line in command_lines(block.text)
    ]


@cache
def command_line_of(module: str) -> tuple[str, Any]:
    """What a module that is run gives to `core.cli.main`: how it is called, and its verbs or its only command."""
    given: list[tuple[str, Any]] = []

    def take(program: str, verbs: Any, *_: object, **__: object) -> None:
        given.append((program, verbs))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(core.cli, "main", take)
        if module.endswith(".py"):
            runpy.run_path(str(REPOSITORY / module), run_name="__main__")
        else:
            # Tests that ran before may have imported it, which runpy warns of.
            patched.delitem(sys.modules, f"{module}.__main__", raising=False)
            runpy.run_module(module, run_name="__main__")
    (found,) = given
    return found


NAMED: Mapping[str, tuple[str, str]] = {
    "--attack": ("adversarial.attack", "ATTACKS"),
    "--game": ("core.games", "GAMES"),
    "--network": ("core.networks", "NETWORKS"),
    "--neuron": ("core.neurons.base", "NEURONS"),
    "--normalisation": ("core.normalisations", "NORMALISATIONS"),
    "--protocol": ("play.protocols", "PROTOCOLS"),
    "--readout": ("core.readouts", "READOUTS"),
    "--recipe": ("train_direct.recipe", "RECIPES"),
    "--method": ("convert.method", "METHODS"),
}
"""Options of `train_direct` and others whose first value is a registered name, and where it is registered."""


def run(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, really: bool) -> None:
    """Read a command line as its module does, and carry the command out if asked.

    Args:
        module: as in "evaluate" or "plot.py".
        arguments: what follows it.
        monkeypatch: of the test.
        really: whether the command is run too.
    """
    program, verbs = command_line_of(module)
    accepted: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", [module, *arguments])
        if not really:
            for verb in verbs.values() if isinstance(verbs, Mapping) else (verbs,):
                patched.setattr(verb, "run", lambda command: accepted.append(command))
        core.cli.main(program, verbs)
    if not really:
        assert len(accepted) == 1
        _require_registered(module, arguments)


def _require_registered(module: str, arguments: list[str]) -> None:
    """Names that a command gives are registered: the parser may leave that to the command."""
    for option, value in itertools.pairwise(arguments):
        if option in NAMED and not (module == "convert" and option == "--readout"):
            place, registry = NAMED[option]
            names: Registry[object] = getattr(importlib.import_module(place), registry)
            assert value in names, f"{option} {value}"


def targets_of_make() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def check(line: list[str], monkeypatch: pytest.MonkeyPatch, really: bool) -> None:
    """Fail unless a command of the documentation is accepted by what it calls."""
    match line:
        case ["python", "-m", "pytest", *arguments]:
            for argument in arguments:
                assert not argument.startswith("tests/") or (REPOSITORY / argument).exists(), argument
        case ["python", "-m", module, *_] if module.startswith("benchmarks."):
            assert importlib.util.find_spec(module) is not None, module
        case ["python", "-m", module, *arguments]:
            run(module, arguments, monkeypatch, really)
        case ["python", script, *arguments]:
            run(script, arguments, monkeypatch, really)
        case ["spikeq", verb, *arguments]:
            run(VERBS[verb].module, arguments, monkeypatch, really)
        case ["make", target, *variables]:
            assert target in targets_of_make(), target
            for variable in variables:
                name, _, value = variable.partition("=")
                assert name == "STUDY", variable
                file = value if value.endswith(".toml") else f"studies/{value}.toml"
                assert (REPOSITORY / file).is_file(), variable
        case [".", ".venv/bin/activate"] | ["pre-commit", "install"]:
            pass
        case _:
            pytest.fail(f"no test knows the command {shlex.join(line)}")


def shown_extensions() -> dict[str, str]:
    """The sources of the extensions that the documentation shows, by name of the module."""
    page = REPOSITORY / "docs" / "extending.md"
    return {
        block.info.split()[1].removesuffix(".py"): block.text
        for block in blocks(page.read_text())
        if block.info.startswith("python ")
    }


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the repository to commands that read: results, studies and the shown extensions are
    there."""
    for name in ("results", "studies"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for name, source in shown_extensions().items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pages
def test_every_command_is_accepted(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in commands(page):
        check(line, monkeypatch, really=False)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, only_run=True)], ids=name_of)
def test_marked_commands_run(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = ""
    for line in commands(page, only_run=True):
        check(line, monkeypatch, really=True)
        printed += capsys.readouterr().out
    for block in blocks(page.read_text()):
        if block.info == "output":  # digits may differ between machines, whose sums round differently
            assert without_digits(block.text.strip()) in without_digits(printed)


def without_digits(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def test_a_wrong_command_is_not_accepted(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "python -m evaluate run --agnet random --out runs",
        "python -m evaluate watch2",
        "make sense",
        "rm -r x",
    ):
        with pytest.raises((SystemExit, AssertionError, pytest.fail.Exception)):
            check(shlex.split(line), monkeypatch, really=False)


# Numbers ---------------------------------------------------------------------------------------------


def marked_tables(page: Path, mark: str) -> list[list[dict[str, str]]]:
    """Tables that a comment `<!-- mark: ... -->` follows, a dictionary of cells by column a row."""
    found = []
    for table in re.findall(rf"((?:^\|.*\n)+)<!-- {mark}: ", page.read_text(), re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
        header, _, *rows = lines
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


TRAINED = REPOSITORY / "results" / "trained"
MINATAR = REPOSITORY / "results" / "minatar"
FIVE = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
SHORT = {
    "minatar/breakout": "minatar-breakout",
    "minatar/space_invaders": "minatar-space_invaders",
    "pong": "pong",
}


@cache
def scores_of_trained() -> pd.DataFrame:
    """Episodes of the shipped agents: a row a game."""
    return pd.concat(
        [pd.read_parquet(path) for path in sorted(TRAINED.glob("*/evaluate-*/episodes.parquet"))]
    )


def random_score(game: str) -> float:
    score = reference(get_game(game)).random
    assert score is not None
    return score


def share_kept(game: str, agent: str, network: str, sim_steps: int) -> float:
    """Per cent of the DQN's score above random play, over all training seeds."""
    rows = scores_of_trained()
    rows = rows[rows.game == game]
    is_its_name = (rows.variant if agent == "rate-coded" else rows.network).str.startswith(network)
    own = rows[(rows.agent == agent) & is_its_name & (rows.sim_steps == sim_steps)]
    assert len(own) > 0
    dqn = rows[rows.agent == "dqn"].score.mean()
    return 100 * (own.score.mean() - random_score(game)) / (dqn - random_score(game))


def told_network(name: str) -> tuple[str, str]:
    """Kind and network in rows, from the first cell of a table of shares."""
    if name == "DSQN":
        return "dsqn", "chen2022"
    match = re.fullmatch(r"(?:converted|distilled), `(\S+)`", name)
    assert match is not None, name
    return "rate-coded", match[1]


def test_shares_kept_are_those_of_the_rows() -> None:
    (table,) = marked_tables(TRAINED / "README.md", "rows")
    assert len(table) == 4
    for row in table:
        agent, network = told_network(row["network"])
        steps = re.findall(r"\d+", row["T"])
        for game in SHORT:
            sim_steps = int(steps[-1] if game == "pong" else steps[0])
            assert row[game] == f"{share_kept(game, agent, network, sim_steps):.0f} %", (row, game)


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", MINATAR / "README.md"], ids=name_of)
def test_shares_of_the_minatar_study_are_those_of_the_leaderboard(page: Path) -> None:
    """Each cell is a share with its interval, as in "45 % (39 to 51)", or a share alone where there is none."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (REPOSITORY / "results/leaderboard.md").read_text().splitlines()
        if "| study minatar" in line
    ]
    shares = {(network, steps): share for network, steps, _, _, share, *_ in lines}
    (table,) = marked_tables(page, "shares")
    for row in table:
        method = re.fullmatch(r"(?:converted|distilled), `(\S+)`", row.pop("network"))
        for steps, cell in row.items():
            steps = steps.removeprefix("T = ")
            network = f"SNN ({method[1]}, {steps} sim steps)" if method else "DSQN (4 sim steps)"
            assert cell == shares.get((network, steps), ""), (network, steps)


def test_shares_on_dqns_that_pursuit_was_not_chosen_on_are_those_of_the_rows() -> None:
    (table,) = marked_tables(MINATAR / "README.md", "held out")
    for row in table:
        first, *last = map(int, re.findall(r"\d+", row.pop("`pursuit` on the DQNs of")))
        seeds = range(first, last[0] + 1) if last else (first,)
        for steps, cell in row.items():
            names = ("dqn", f"snn-pursuit-t{steps.removeprefix('T = ')}")
            files = [
                MINATAR / game / f"evaluate-{name}-s{seed}" / "episodes.parquet"
                for game in ("minatar-" + each for each in FIVE)
                for name in names
                for seed in seeds
            ]
            rows = [row for file in files if file.exists() for row in read_rows(file, EpisodeRow)]
            (kept,) = shares_kept(pd.DataFrame(map(vars, rows)))
            assert len(kept.games) == len(FIVE)
            share = kept.share
            bounds = f" ({100 * share.low:.0f} to {100 * share.high:.0f})" if share.is_given else ""
            assert cell == f"{100 * share.estimate:.0f} %{bounds}", (first, steps)


def energies() -> pd.DataFrame:
    """Energy of a decision, first layer once, as a multiple of the own DQN's: from results/trained/energy.md."""
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (TRAINED / "energy.md").read_text().splitlines()
        if line.startswith("|")
    ]
    table = pd.DataFrame(lines[2:], columns=lines[0])
    table["uj"] = table["(a) first layer once"].str.extract(r"([\d.]+) µJ").astype(float)
    dqn = table[table.agent == "dqn"].set_index(["game", "seed"]).uj
    table["ratio"] = table.uj / [dqn[game, seed] for game, seed in zip(table.game, table.seed, strict=True)]
    return table


def test_energies_of_the_answer_are_those_of_the_table() -> None:
    (table,) = marked_tables(TRAINED / "README.md", "rows")
    measured = energies()
    for row in table:
        agent, network = told_network(row["network"])
        steps = re.findall(r"\d+", row["T"])
        for column, games, which in (("energy, MinAtar", "minatar/", 0), ("energy, Pong", "pong", -1)):
            own = measured[
                (measured.agent == agent)
                & measured.network.str.startswith(network)
                & (measured["sim steps"] == steps[which])
                & measured.game.str.startswith(games)
            ]
            ends = sorted({f"{own.ratio.min():.2g}", f"{own.ratio.max():.2g}"}, key=float)
            assert [float(end) for end in row[column].split(" to ")] == [float(end) for end in ends], row


def test_no_comparison_of_robustness_is_allowed() -> None:
    # The README says so in words.
    lines = (REPOSITORY / "results" / "attacked" / "verdict.md").read_text().splitlines()
    compared = [line for line in lines if line.startswith("- ") and "more robust than" in line]
    assert compared
    assert [line for line in compared if not line.startswith(("- Refused: ", "- Not shown: "))] == []


def test_scores_of_shipped_agents_are_those_of_the_rows() -> None:
    (table,) = marked_tables(TRAINED / "README.md", "scores")
    written = (TRAINED / "scores.md").read_text()
    rows = scores_of_trained()
    for row in table:
        kind = row["agent"].split(",")[0].lower()
        own = rows[(rows.game == row["game"]) & (rows.agent == kind)]
        scores = re.findall(r"[^,]+\)", row["score (95 % over episodes)"])
        for seed, told in zip(row["seed"].split(", "), scores, strict=True):
            mean, low, high = re.findall(r"-?[\d.]+", told)
            assert mean == f"{own[own.train_seed == int(seed)].score.mean():.2f}"
            assert f"{low} to {high}" in written
        protocol, episodes = row["protocol, episodes"].split(", ")
        assert set(own.protocol) == {protocol}
        assert int(episodes) == own.episode.nunique()


def test_scores_of_cartpole_are_those_of_the_rows() -> None:
    folder = REPOSITORY / "results" / "cartpole"
    (table,) = marked_tables(folder / "README.md", "cartpole")
    kinds = {"DQN": "dqn", "DSQN": "dsqn", "PPO": "ppo", "spiking PPO": "spiking-ppo"}
    for row in table:
        kind = kinds[row["agent"].split(",")[0]]
        for column, is_best in (("best: seeds 0 to 4", True), ("last: seeds 0 to 4", False)):
            means = []
            for seed in range(5):
                episodes = pd.read_parquet(
                    folder / "cartpole" / f"evaluate-{kind}-s{seed}" / "episodes.parquet"
                )
                means.append(episodes[(episodes.checkpoint == "best") == is_best].score.mean())
            assert row[column] == ", ".join(f"{mean:.1f}" for mean in means)


def test_scores_of_readouts_are_those_of_the_rows() -> None:
    folder = REPOSITORY / "results" / "decoders"
    (table,) = marked_tables(folder / "README.md", "decoders")
    names = {
        "rate": "rate",
        "last": "last-mem",
        "largest": "max-abs-mem",
        "maximum": "max-mem",
        "mean": "mean-mem",
    }
    for row in table:
        readout = names[re.split(r"[ ,]", row["read-out"])[0]]
        episodes = pd.read_parquet(
            folder / "minatar-breakout" / f"evaluate-dsqn-{readout}-s0" / "episodes.parquet"
        )
        assert row["score"] == f"{episodes[episodes.checkpoint == 'best'].score.mean():.1f}"


def test_means_of_the_precision_study_are_those_of_the_rows() -> None:
    folder = REPOSITORY / "results" / "precision"
    (table,) = marked_tables(folder / "README.md", "precision")
    runs = {
        "float32, the": (TRAINED, "dqn", 3),
        "bfloat16": (folder, "dqn-bf16", 3),
        "float32 again": (folder, "dqn", 3),
        "float32, five": (MINATAR, "dqn", 5),
    }
    assert len(table) == len(runs)
    for row in table:
        study, name, seeds = next(value for start, value in runs.items() if row["runs"].startswith(start))
        means = []
        for seed in range(seeds):
            rows = pd.read_parquet(study / "minatar-breakout" / f"{name}-s{seed}" / "validation.parquet")
            means.append(rows[rows.train_steps.between(750_001, 1_000_000)].score.mean())
        assert row["validation means"] == ", ".join(f"{mean:.1f}" for mean in means)


def kept_by_methods(game: str) -> Mapping[tuple[str, str], str]:
    """Share kept of the DQN's score, by method and T, from a game's comparison."""
    lines = (TRAINED / SHORT[game] / "compare-shipped-dqn-s0" / "comparison.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header = rows[0]
    found = [dict(zip(header, row, strict=True)) for row in rows[2:]]
    return {
        (row["method"].rstrip("*"), row["T"]): row["kept of the DQN's (95 %)"].split("%")[0] for row in found
    }


def test_comparisons_of_methods_are_those_of_their_tables() -> None:
    (table,) = marked_tables(REPOSITORY / "docs" / "conversion.md", "comparisons")
    game = ""
    for row in table:
        game = row["DQN"] or game
        (method,) = re.findall(r"`(\S+)`", row["method"])
        for column, told in row.items():
            if told.endswith("%"):
                assert f"{kept_by_methods(game)[method, column]} %" == told, (
                    game,
                    method,
                    column,
                )


ATTACKED = REPOSITORY / "results" / "attacked"
VICTIMS = {
    "DQN": "dqn",
    "DSQN": "dsqn",
    "quantised DQN": "quantised-q8",
    "converted (`qcfs`": "snn-q8",
    "converted (`reconstruct`": "snn-t8",
}
"""Victims as the tables of attacks name them, and as folders do."""


def victim_of(cell: str) -> str:
    return VICTIMS[cell.split(": ")[-1].split(",")[0]]


def flips(rows: pd.DataFrame) -> Mapping[str, float]:
    """Largest share of flipped choices, by column of the tables, of one victim's rows of one size."""
    white_box = rows[rows.gradient_source != ""]
    transferred = white_box.gradient_source.str.startswith("transfer:")
    trained = white_box[white_box.gradient_source == kind_of(rows.agent.iloc[0]).training_gradient]
    signs = rows[rows.attack == "random-sign"].sort_values("num_states").flip_share
    return {
        "best along a gradient": white_box[~transferred].flip_share.max(),
        "PGD, training gradient": trained[trained.attack == "pgd"].flip_share.max(),
        "FGSM, training gradient": trained[trained.attack == "fgsm"].flip_share.max(),
        "transfer": white_box[transferred].flip_share.max(),
        "Square, 500 queries": rows[rows.attack == "square"].flip_share.max(),
        "random signs, worst of 500": signs.iloc[0],
        "one draw": signs.iloc[-1],
    }


def sizes_of_tables(mark: str) -> list[list[float]]:
    """Sizes of attacks that each marked table of results/attacked shows, in its order."""
    marks = re.findall(rf"<!-- {mark}: ([\d./ ]+) -->", (ATTACKED / "README.md").read_text())
    return [[core.ranges.parse_real(size) for size in found.split()] for found in marks]


def test_flips_under_attack_are_those_of_the_rows() -> None:
    tables = marked_tables(ATTACKED / "README.md", "states")
    assert len(tables) == 2
    for table, sizes in zip(tables, sizes_of_tables("states"), strict=True):
        game = ""
        for row in table:
            game = row["victim"].split(": ")[0] if ": " in row["victim"] else game
            folder = ATTACKED / (game if game == "pong" else f"minatar-{game}")
            file = folder / f"states-shipped-{victim_of(row['victim'])}-s0" / "state_attacks.parquet"
            rows = pd.read_parquet(file)
            by_size = [flips(rows[(rows.epsilon - size).abs() < 1e-9]) for size in sizes]
            for column in by_size[0]:
                told = row[column].replace("*", "")
                assert told == " / ".join(f"{100 * found[column]:.0f}" for found in by_size), (
                    game,
                    row,
                    column,
                )


def test_the_largest_masking_gaps_are_those_of_the_rows() -> None:
    rows = StudyRows(ATTACKED).rows(STATE_ATTACKS)
    largest: dict[bool, dict[Victim, int]] = {False: {}, True: {}}
    for network in {network_of(row) for row in rows}:
        gaps = masking_gaps([row for row in rows if network_of(row) == network and row.epsilon < 0.5])
        largest[network.game == "pong"][network] = round(100 * max(gap.gap.estimate for gap in gaps))
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    minatar, pong = ([*found.values()] for found in largest.values())
    told = f"{min(minatar)} to {max(minatar)} points on MinAtar and {min(pong)} to {max(pong)} on Pong"
    assert told in readme


def test_scores_under_attack_are_those_of_the_rows() -> None:
    (table,), (sizes,) = marked_tables(ATTACKED / "README.md", "games"), sizes_of_tables("games")
    for row in table:
        rows = pd.read_parquet(
            ATTACKED / "pong" / f"attack-shipped-{victim_of(row['pong'])}-s0" / "attacks.parquet"
        )
        rows["size"] = rows.epsilon.round(9)
        assert row["clean"] == f"{rows[rows.epsilon == 0].score.mean():.1f}"
        cells = list(row.values())
        for size, strongest in zip(sizes, (cells[2], cells[5]), strict=True):
            attacked = rows[(rows["size"] == round(size, 9)) & (rows.gradient_source != "")]
            means = attacked.groupby("threat").score.mean().round(1)
            assert float(strongest.split(" ")[0]) in set(means), (row, size)


def test_shown_extensions_leave_nothing_behind() -> None:
    # It runs after the tests above, in the same process.
    assert "mountain-car" not in GAMES
    assert not set(shown_extensions()) & set(EXTENSIONS)
