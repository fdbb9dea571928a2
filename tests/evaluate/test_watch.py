"""`evaluate watch`: pictures read back, a window looked at, refusals."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageGrab
from torch import nn

from core.adapt.adapted import adapt
from core.agents import Agent, RandomPlay
from core.checkpoint import Checkpoint, load_agent, save_agent
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import GAMES, Game
from core.networks import NETWORKS, Network
from core.neurons.integrate_and_fire import IF
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.readouts import READOUTS
from evaluate.watch import Enough, hidden_activity, watch
from evaluate.window import Window
from play.environments import network_input
from play.episodes import play
from play.film.looks import look_of
from play.film.neurons import Tiles, arrange, mosaic, tiles
from play.film.painter import Painter
from play.film.style import BACKGROUND, GAP, MARGIN, ORANGE, PANEL, RAMP, TRACK
from play.protocols import get_protocol
from play.rollout import Step
from tests.conftest import AGENTS, Command
from tests.play.test_video import decoded
from tests.test_refusals import PROVENANCE, is_refused

ROOT = Path(__file__).parents[2]
CARTPOLE, BREAKOUT, PONG = (GAMES[name] for name in ("cartpole", "minatar/breakout", "pong"))
TUTORIAL = Network(True, Spiking(IF(), 16, READOUTS["last-mem"]()))
DQN_FILE, DSQN_FILE = (AGENTS / f"minatar-breakout-{kind}-s0.safetensors" for kind in ("dqn", "dsqn"))


def saved(path: Path, agent: Agent) -> Path:
    save_agent(path, agent, PROVENANCE)
    return path


def fresh(game: Game, network: Network, gain: float = 4.0) -> DQN | DSQN:
    """An untrained agent, loud enough to spike."""
    agent = network.make(game, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in list(agent.layers)[:-1]:
            layer.weight.mul_(gain)
    return agent


def carrying() -> RateCodedNetwork:
    """A converted network whose decisions begin with what the ones before left."""
    dqn = load_agent(DQN_FILE).agent
    snn = RateCodedNetwork(BREAKOUT, RateCoding(8, residual_alpha=0.5))
    snn.load_state_dict({**dqn.state_dict(), "output_scale": torch.ones(())})
    return snn


def steps_of(checkpoint: Checkpoint, count: int) -> list[Step]:
    """The first decisions of the usual protocol's episodes 0, 1, ..., played one by one."""
    agent, steps = checkpoint.agent, []

    def keep(step: Step) -> None:
        steps.append(step)
        if len(steps) == count:
            raise Enough

    protocol = get_protocol(None, agent.game)
    with contextlib.suppress(Enough):
        for episode in range(count):
            list(
                play(
                    agent,
                    agent.game,
                    protocol,
                    eval_seed=0,
                    episodes=[episode],
                    num_envs=1,
                    on_step=keep,
                )
            )
    return steps


def read_back(picture: np.ndarray, painter: Painter) -> list[np.ndarray]:
    """Of every layer, what share of full colour its neurons have, [C, H, W]: by the middle pixel of each."""
    assert painter.network is not None
    index = {tuple(colour): number for number, colour in enumerate(RAMP.tolist())}
    found = []
    for layer, top in zip(painter.network.layers, painter.network.tops, strict=True):
        values = np.zeros((layer.maps, layer.height, layer.width))
        for each in range(layer.maps):
            left, upper = (offset + layer.cell // 2 for offset in layer.corner(each))
            for row in range(layer.height):
                y = top + upper + row * layer.cell
                xs = painter.network.left + left + np.arange(layer.width) * layer.cell
                values[each, row] = [index[tuple(colour)] / 255 for colour in picture[y, xs].tolist()]
        found.append(values)
    return found


# The layout ------------------------------------------------------------------------------------------


def test_maps_lie_in_full_rows() -> None:
    # Maps of 6 x 3 pixels, 2 apart: three of them need 22 pixels, two would leave one alone.
    assert tiles((3, 1, 2), 22, 3) == Tiles(3, 1, 2, across=3, cell=3, gap=2)
    alone = tiles((3, 1, 2), 21, 3)
    assert alone == Tiles(3, 1, 2, across=1, cell=3, gap=2)
    assert alone is not None
    assert alone.size == (6, 13)
    assert [alone.corner(index) for index in range(3)] == [(0, 0), (0, 5), (0, 10)]
    assert tiles((3, 1, 2), 5, 3) is None
    # Neurons of a dense layer lie one pixel apart.
    dense = tiles((6,), 17, 5)
    assert dense is not None
    assert (dense.size, dense.corner(4)) == ((17, 11), (6, 6))


@pytest.mark.parametrize(
    ("game", "laid_out"),
    [
        (CARTPOLE, [(16, 30)]),
        (BREAKOUT, [(8, 8), (16, 31)]),
        (PONG, [(16, 2), (16, 4), (16, 4), (64, 9)]),
    ],
    ids=lambda value: value.name if isinstance(value, Game) else "",
)
def test_every_tiers_layers_fit_beside_the_game(game: Game, laid_out: list[tuple[int, int]]) -> None:
    shapes = DQN(game).layer_shapes[:-1]
    checkpoint = Checkpoint(fresh(game, NETWORKS["relu"]), dict(PROVENANCE), "")
    painter = Painter(game, checkpoint, hidden_shapes=shapes)
    panel = painter.network
    assert panel is not None
    assert [(layer.across, layer.cell) for layer in panel.layers] == laid_out
    assert panel.left == painter.panel_left + PANEL + GAP
    width, height = painter.size
    assert width == panel.left + look_of(game).network_width + MARGIN
    assert width % 2 == height % 2 == 0
    below = MARGIN
    for layer, top, shape in zip(panel.layers, panel.tops, shapes, strict=True):
        assert layer.maps * layer.height * layer.width == int(np.prod(shape))
        assert layer.size[0] <= look_of(game).network_width
        assert top >= below + 20  # room for its name
        below = top + layer.size[1]
    assert below <= height - MARGIN


def test_layers_that_no_picture_can_show_are_refused() -> None:
    with pytest.raises(Refusal, match="100 x 50 pixels"):
        arrange([(10_000,)], 100, 50)


def test_a_mosaic_is_coloured_from_nothing_to_all() -> None:
    layer = Tiles(2, 1, 2, across=2, cell=3, gap=2)
    shown = np.asarray(mosaic(np.array([[[0.0, 1.0]], [[1 / 3, 2.0]]]), layer))
    assert shown.shape == (3, 14, 3)
    assert [tuple(shown[1, x]) for x in (1, 4, 6, 9, 12)] == [
        TRACK, (255, 255, 255), BACKGROUND, tuple(RAMP[85]), (255, 255, 255),
    ]  # fmt: skip
    assert len(set(map(tuple, RAMP.tolist()))) == 256
    assert (np.diff(RAMP.astype(int).sum(1)) > 0).all()


# What neurons do -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dsqn", "rate-coded"])
def test_rates_are_of_the_very_decision(kind: str) -> None:
    agent = carrying() if kind == "rate-coded" else load_agent(DSQN_FILE).agent
    checkpoint = Checkpoint(agent.eval().requires_grad_(False), dict(PROVENANCE), "")
    steps = steps_of(checkpoint, 12)
    assert isinstance(agent, DSQN | RateCodedNetwork)
    for step in steps:
        assert step.activity is not None
        found = hidden_activity(agent, step, 0)
        assert [each.shape for each in found] == [(16, 8, 8), (128,)]
        neurons = np.array([1024, 128])
        rates = step.activity.spikes[0, :2].numpy() / (neurons * int(step.activity.sim_steps[0]))
        assert np.array([each.mean() for each in found]) == pytest.approx(rates)
        assert rates.min() > 0
    if kind == "rate-coded":  # and not what they would be, had the episode begun with it
        assert steps[-1].carry is not None
        at_rest = hidden_activity(agent, steps[-1]._replace(carry=None), 0)
        assert any((a != b).any() for a, b in zip(found, at_rest, strict=True))


def test_of_a_network_without_spikes_activations_are_shown() -> None:
    checkpoint = load_agent(DQN_FILE)
    dqn = checkpoint.agent
    assert isinstance(dqn, DQN)
    (step,) = steps_of(checkpoint, 1)
    first, second = hidden_activity(dqn, step, 0)
    x = network_input(step.observations, BREAKOUT, torch.device("cpu"))
    convolution, dense, _ = dqn.layers
    expected = convolution(x).relu()
    assert np.allclose(first, expected[0].numpy(), atol=1e-6)
    assert np.allclose(second, dense(expected.flatten(1)).relu()[0].numpy(), atol=1e-5)


# Pictures and videos ---------------------------------------------------------------------------------


@dataclass
class Case:
    agent: Path
    steps: int


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    match request.param:
        case "cartpole dqn":
            return Case(saved(tmp_path / "a.safetensors", fresh(CARTPOLE, NETWORKS["relu"])), 30)
        case "cartpole dsqn":
            return Case(saved(tmp_path / "a.safetensors", fresh(CARTPOLE, TUTORIAL)), 30)
        case "carrying":
            return Case(saved(tmp_path / "a.safetensors", carrying()), 6)
        case name:
            return Case(AGENTS / f"{name}-s0.safetensors", 4)


@pytest.mark.parametrize(
    "case",
    [
        "cartpole dqn",
        "cartpole dsqn",
        "carrying",
        "minatar-breakout-dqn",
        "minatar-breakout-dsqn",
        "pong-dsqn",
    ],
    indirect=True,
)
def test_pictures_show_what_every_neuron_did(command: Command, case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    finished = command("evaluate", "watch", "--agent", case.agent, "--steps", case.steps, "--save", folder)
    assert finished.code == 0, finished.err
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{number:06}.png" for number in range(1, case.steps + 1)]
    checkpoint = load_agent(case.agent)
    agent = checkpoint.agent
    assert isinstance(agent, DQN | DSQN | RateCodedNetwork)
    painter = Painter(agent.game, checkpoint, hidden_shapes=agent.layer_shapes[:-1])
    steps = steps_of(checkpoint, case.steps)
    lines = finished.out.splitlines()
    assert len(lines) == 1 + len({int(step.episodes[0]) for step in steps})
    assert lines[-1] == str(folder)
    for file, step in zip(files, steps, strict=True):
        picture = np.asarray(Image.open(file))
        assert picture.shape == (*painter.size[::-1], 3)
        inputs = network_input(step.observations, agent.game, torch.device("cpu"))
        traces = agent.trace(inputs, step.carry)
        for drawn, before, after in zip(read_back(picture, painter), traces, traces[1:], strict=False):
            if before.fired is None:
                expected = after.heard[0] / after.heard.max()
            else:
                expected = before.fired[0] / before.neuron_sim_steps[0]
            assert np.abs(drawn - expected.numpy().reshape(drawn.shape)).max() <= 0.51 / 255
        # The chosen action's pointer is orange, and no other's.
        rows = painter.rows_top + painter.row_height * np.arange(agent.game.num_actions)
        pointed = picture[rows + painter.row_height // 2, painter.panel_left + 2] == np.array(ORANGE)
        assert np.flatnonzero(pointed.all(1)).tolist() == [step.actions[0]]


def test_a_video_goes_on_with_the_next_episode(command: Command, tmp_path: Path) -> None:
    agent = saved(tmp_path / "a.safetensors", fresh(CARTPOLE, NETWORKS["relu"]))
    file = tmp_path / "new" / "a.mp4"
    options = ("--agent", agent, "--save", file, "--seed", 3, "--episode", 1)
    finished = command("evaluate", "watch", *options, "--steps", 40)
    assert finished.code == 0, finished.err
    *told, named = finished.out.splitlines()
    assert named == str(file)
    lengths = [int(line.split()[2]) for line in told]
    assert sum(lengths) == 40
    assert len(lengths) > 1
    assert [line.split(":")[0] for line in told] == [f"episode {1 + number}" for number in range(len(told))]
    checkpoint = load_agent(agent)
    width, height = Painter(CARTPOLE, checkpoint, hidden_shapes=[(256,)]).size
    assert len(decoded(file, width, height)) == 40
    assert [path.name for path in file.parent.iterdir()] == ["a.mp4"]
    # Without a number of decisions, one episode: the one that is scored.
    file.unlink()
    finished = command("evaluate", "watch", *options)
    (played,) = play(
        checkpoint.agent, CARTPOLE, get_protocol(None, CARTPOLE), eval_seed=3, episodes=[1], num_envs=1
    )
    assert finished.out.splitlines()[0] == f"episode 1: {lengths[0]} decisions, score {played.score:g}"
    assert played.length_steps == lengths[0]
    assert len(decoded(file, width, height)) == lengths[0]


# Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", 0), ["steps is 0"]),
        (("--episode", -1), ["episode is -1"]),
        (("--seed", -1), ["seed is -1"]),
        (("--save", "a.gif"), ["'.gif'", "FILE.mp4", "FOLDER"]),
        (("--protocol", "nature"), ["atari games", "minatar"]),
        (("--game", "pong"), ["pong needs 6 actions"]),
        (("--steps", 1), ["no screen", "--save FILE.mp4", "--save FOLDER"]),
    ],
)
def test_what_cannot_be_watched_is_refused(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[object],
    words: Sequence[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    is_refused(command("evaluate", "watch", "--agent", DQN_FILE, *options), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "options", "words"),
    [
        ("tkinter", (), ["this Python opens no windows", "--save FILE.mp4"]),
        ("imageio_ffmpeg", ("--save", "a.mp4"), ["no ffmpeg", "pip install '.[video]'"]),
    ],
)
def test_what_is_not_installed_is_named(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    options: Sequence[str],
    words: Sequence[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    is_refused(command("evaluate", "watch", "--agent", DQN_FILE, *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_tk_still_evaluates() -> None:
    source = "import sys; sys.modules['tkinter'] = None; import evaluate.__main__"
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_nothing_is_written_over(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a video")
    for save in (tmp_path / "a.mp4", tmp_path):
        options = ("--agent", DQN_FILE, "--steps", 1, "--save", save)
        is_refused(command("evaluate", "watch", *options), str(save), "exists")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["a video"]


def test_who_has_no_neurons_is_watched_with_its_scores_alone() -> None:
    pictures: list[Image.Image] = []
    checkpoint = Checkpoint(RandomPlay(BREAKOUT), dict(PROVENANCE), "")
    watch(checkpoint, BREAKOUT, get_protocol(None, BREAKOUT), pictures.append, eval_seed=0, steps=2)
    assert [picture.size for picture in pictures] == 2 * [Painter(BREAKOUT, checkpoint).size]
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_an_adapted_network_is_watched_with_the_rates_of_its_layers() -> None:
    snn = pytest.importorskip("snntorch")
    layers = nn.Sequential(nn.Flatten(), nn.Linear(400, 8), snn.Leaky(0.5, init_hidden=True), nn.Linear(8, 6))
    checkpoint = Checkpoint(adapt(layers, BREAKOUT, sim_steps=2), dict(PROVENANCE), "")
    pictures: list[Image.Image] = []
    watch(checkpoint, BREAKOUT, get_protocol(None, BREAKOUT), pictures.append, eval_seed=0, steps=1)
    assert checkpoint.agent.neuron_counts == (8,)
    assert pictures[0].size == Painter(BREAKOUT, checkpoint).size


# The window ------------------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A screen that nobody sees, 1280 x 1024."""
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("no Xvfb: install the package xvfb")
    read, write = os.pipe()
    # The server chooses a free display and says which.
    command = [server, "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        display = f":{told.readline().strip()}"
    monkeypatch.setenv("DISPLAY", display)
    yield display
    process.terminate()
    process.wait()


def seen(display: str, size: tuple[int, int]) -> np.ndarray:
    """The upper left corner of the screen, where windows open: [height, width, 3] uint8."""
    return np.asarray(ImageGrab.grab((0, 0, *size), xdisplay=display).convert("RGB"))


def test_a_window_shows_pauses_and_ends(screen: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(256, size=(60, 80, 3), dtype=np.uint8)) for _ in range(3)]
    with Window("a game", 50) as window:
        for picture in pictures[:2]:
            window.show(picture)
            assert np.array_equal(seen(screen, picture.size), np.asarray(picture))
        tk = window._root
        tk.focus_force()
        tk.event_generate("<space>")
        tk.update()
        assert tk.title() == "a game (paused)"
        tk.after(100, lambda: tk.event_generate("<space>"))  # a pause ends by the key that began it
        window.show(pictures[2])
        assert tk.title() == "a game"
        assert np.array_equal(seen(screen, (80, 60)), np.asarray(pictures[2]))
        tk.after(50, lambda: tk.event_generate("<Escape>"))
        window.hold()
        with pytest.raises(Enough):
            window.show(pictures[0])
    with Window("a game", 50) as window:
        window.show(Image.new("RGB", (2560, 500), ORANGE))  # larger than the screen
        assert (seen(screen, (1280, 250)) == np.array(ORANGE)).all()
        assert not (seen(screen, (1280, 260))[250:] == np.array(ORANGE)).all(2).any()


def test_the_command_shows_what_it_would_save(screen: str, command: Command, tmp_path: Path) -> None:
    agent = saved(tmp_path / "a.safetensors", fresh(CARTPOLE, TUTORIAL))
    options = ("--agent", str(agent), "--steps", "12")
    assert command("evaluate", "watch", *options, "--save", tmp_path / "pictures").code == 0
    last = Image.open(tmp_path / "pictures" / "000012.png")
    expected = np.asarray(last.resize((1280, 1280 * last.height // last.width), Image.Resampling.LANCZOS))
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluate", "watch", *options, "--threads", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The last picture stays until the window is closed; Ctrl-C closes it too.
        deadline = time.monotonic() + 300
        while not np.array_equal(seen(screen, expected.shape[1::-1]), expected):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the last picture was never on the screen"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("episode 0: ")
