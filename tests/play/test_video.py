"""Videos, decoded again: a frame a decision, the action that was taken, the perturbation that was seen."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.agents import RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.errors import Refusal
from core.games import GAMES, Game
from play.episodes import Played, play
from play.film.frame import Frame
from play.film.looks import LOOKS, ControlLook, look_of, picture_of_change
from play.film.painter import Painter
from play.film.style import BACKGROUND, BLUE, MARGIN, NAME, ORANGE, PLANES, TITLE, TRACK
from play.film.video import Encoder, Recorder, record, require_ffmpeg
from play.protocols import Dynamics, Protocol, get_protocol
from play.rollout import Perturbed, Step
from tests.conftest import AGENTS

BREAKOUT = GAMES["minatar/breakout"]
DSQN = AGENTS / "minatar-breakout-dsqn-s0.safetensors"
DQN = AGENTS / "minatar-breakout-dqn-s0.safetensors"
TOLERANCE = 45
"""How far a colour may be off after H.264 at our quality."""


def short(epsilon: float = 0.0, cap_frames: int = 40) -> Protocol:
    protocol = get_protocol(None, BREAKOUT)
    return replace(protocol, epsilon=epsilon, dynamics=Dynamics(0.1, cap_frames))


def summed(played: Played) -> tuple[float, int, float]:
    return played.score, played.length_steps, played.max_q_sum


def described(path: Path) -> str:
    """What ffmpeg says of a file."""
    return subprocess.run([require_ffmpeg(), "-i", str(path)], capture_output=True, text=True).stderr


def decoded(path: Path, width: int, height: int) -> np.ndarray:
    """[frames, height, width, 3] uint8."""
    raw = subprocess.run(
        [require_ffmpeg(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, height, width, 3)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether the mean of [..., 3] pixels is that colour."""
    return bool(np.abs(pixels.reshape(-1, 3).mean(0) - np.array(colour)).max() < TOLERANCE)


def test_a_video_has_a_frame_a_decision_and_recording_changes_no_score(tmp_path: Path) -> None:
    checkpoint = load_agent(DSQN)
    path, steps = tmp_path / "new" / "episode-3.mp4", []
    (path.parent).mkdir()
    (path.parent / f".{path.name}.partial").write_text("what a killed attempt left")
    played = record(path, checkpoint, BREAKOUT, short(0.3), eval_seed=5, episode=3)
    (expected,) = play(
        checkpoint.agent,
        BREAKOUT,
        short(0.3),
        eval_seed=5,
        episodes=[3],
        num_envs=1,
        on_step=steps.append,
    )
    assert summed(played) == summed(expected)
    assert [found.name for found in path.parent.iterdir()] == ["episode-3.mp4"]
    said = described(path)
    painter = Painter(BREAKOUT, checkpoint)
    width, height = painter.size
    assert width % 2 == height % 2 == 0
    assert f" {width}x{height}" in said
    assert "h264" in said
    assert "yuv420p" in said
    assert "6 fps" in said
    frames = decoded(path, width, height)
    assert len(frames) == played.length_steps
    assert frames[0].max() > 200
    # The pointer and the bar of the chosen action are orange, those of no other are.
    actions = [int(step.actions[0]) for step in steps]
    assert any(step.actions[0] != step.scores[0].argmax() for step in steps)  # some were taken by chance
    for frame, action in zip(frames, actions, strict=True):
        middles = [
            painter.rows_top + row * painter.row_height + painter.row_height // 2
            for row in range(BREAKOUT.num_actions)
        ]
        left = painter.panel_left
        pointed = [near(frame[y - 1 : y + 2, left + 1 : left + 5], ORANGE) for y in middles]
        assert [row for row, found in enumerate(pointed) if found] == [action]
    # And the longest bar is that of the greedy action, up to ties of a pixel.
    for frame, step in zip(frames, steps, strict=True):
        bars = frame[middles, painter.panel_left + NAME : painter.panel_left + NAME + 180].astype(int)
        lengths = (np.abs(bars - np.array(TRACK)).max(2) > 30).sum(1)
        assert lengths[step.scores[0].argmax()] >= lengths.max() - 3


def test_a_recorder_passes_over_the_steps_of_other_episodes(tmp_path: Path) -> None:
    checkpoint = load_agent(DQN)
    with Recorder(tmp_path / "one.mp4", checkpoint, BREAKOUT, episode=1) as recorder:
        found = {
            played.episode: played.length_steps
            for played in play(
                checkpoint.agent, BREAKOUT, short(0.5), eval_seed=0, episodes=range(4), on_step=recorder
            )
        }
    assert len(set(found.values())) > 1
    assert recorder.played.length_steps == found[1]
    width, height = Painter(BREAKOUT, checkpoint).size
    assert len(decoded(tmp_path / "one.mp4", width, height)) == found[1]


def brighten_a_corner(
    inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
) -> Perturbed:
    """Adds 1/4 to the upper left quarter of plane 1, where it fits."""
    changed = inputs.clone()
    changed[:, 1, :5, :5] = (changed[:, 1, :5, :5] + 0.25).clamp(max=1.0)
    return Perturbed(changed, np.full(len(inputs), np.nan), np.ones(len(inputs), dtype=bool))


def test_an_attacked_video_shows_the_perturbation_and_the_clean_game(tmp_path: Path) -> None:
    checkpoint, steps = load_agent(DQN), []
    with Recorder(tmp_path / "a.mp4", checkpoint, BREAKOUT, attack="a corner") as recorder:

        def watch(step: Step) -> None:
            recorder(step)
            steps.append(step)

        (played,) = play(
            checkpoint.agent,
            BREAKOUT,
            short(cap_frames=12),
            eval_seed=0,
            episodes=[0],
            perturb=brighten_a_corner,
            on_step=watch,
        )
    for step in steps:
        assert step.attack is not None
        clean = torch.from_numpy(step.observations).float()
        assert torch.equal(step.attack.inputs, brighten_a_corner(clean, clean, [], clean).inputs)
        assert torch.equal(step.attack.clean_scores, checkpoint.agent(clean))
    width, height = Painter(BREAKOUT, checkpoint, "a corner").size
    assert width > Painter(BREAKOUT, checkpoint).size[0]
    frame = decoded(tmp_path / "a.mp4", width, height)[-1]
    left = MARGIN + look_of(BREAKOUT).side + 24
    top = height - MARGIN - look_of(BREAKOUT).small_side
    # Four planes in two rows of tiles of 123 pixels, 4 apart: plane 1 is the upper right one.
    tile = frame[top : top + 123, left + 127 : left + 250]
    assert near(tile[35:58, 4:58], ORANGE)  # the corner, below the bricks, where 1/4 was added
    assert near(tile[65:120, 65:120], TRACK)
    assert near(frame[top + 4 : top + 119, left + 4 : left + 119], TRACK)  # plane 0 is as it was
    # The upper left empty cell of the game: a quarter of the ball's yellow, and none of it in the clean game.
    assert near(frame[MARGIN + TITLE + 230 : MARGIN + TITLE + 260, left : left + 10], BACKGROUND)
    seen = frame[MARGIN + TITLE + 8 : MARGIN + TITLE + 38, MARGIN + 8 : MARGIN + 38].mean((0, 1))
    clean = frame[MARGIN + TITLE + 5 : MARGIN + TITLE + 20, left + 5 : left + 20].mean((0, 1))
    assert seen[0] - clean[0] > 25
    assert played.largest_perturbation == 0.25


# What becomes of a recording that fails --------------------------------------------------------------


def test_an_episode_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    checkpoint = load_agent(DQN)
    path = tmp_path / "a.mp4"
    path.write_text("an older video")
    recorder = Recorder(path, checkpoint, BREAKOUT)

    def interrupt(step: Step) -> None:
        recorder(step)
        if recorder.played.length_steps == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), recorder:
        list(play(checkpoint.agent, BREAKOUT, short(), eval_seed=0, episodes=[0], on_step=interrupt))
    assert [found.name for found in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_text() == "an older video"


def test_an_episode_that_was_not_played_is_refused(tmp_path: Path) -> None:
    checkpoint = load_agent(DQN)
    with (
        pytest.raises(Refusal, match="episode 7 was not played to its end"),
        Recorder(tmp_path / "a.mp4", checkpoint, BREAKOUT, episode=7) as recorder,
    ):
        list(play(checkpoint.agent, BREAKOUT, short(), eval_seed=0, episodes=[0], on_step=recorder))
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_cannot_write_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(Refusal, match=r"a\.mp4: ffmpeg could not write it: .*divisible by 2"),
        Encoder(tmp_path / "a.mp4", 10) as encoder,
    ):
        encoder.write(Image.new("RGB", (31, 31)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["outside", "nowhere"])
def test_a_link_in_place_of_the_partial_file_is_not_followed(target: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    (tmp_path / ".a.mp4.partial").symlink_to(tmp_path / target)
    with Encoder(tmp_path / "a.mp4", 10) as encoder:
        encoder.write(Image.new("RGB", (32, 32)))
    assert (tmp_path / "outside").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "outside"]
    assert not (tmp_path / "a.mp4").is_symlink()


def test_without_ffmpeg_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(Refusal, match=r"no ffmpeg to record with .* pip install '\.\[video\]'"):
        record(tmp_path / "a.mp4", load_agent(DQN), BREAKOUT, short(), eval_seed=0)
    assert list(tmp_path.iterdir()) == []


# What is drawn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GAMES)
def test_every_action_has_a_name_of_its_own(name: str) -> None:
    names = look_of(GAMES[name]).action_names
    assert len(set(names)) == len(names) == GAMES[name].num_actions


def test_names_are_those_of_the_games() -> None:
    assert look_of(GAMES["pong"]).action_names == ("noop", "fire", "right", "left", "right fire", "left fire")
    assert look_of(BREAKOUT).action_names == ("noop", "left", "up", "right", "down", "fire")
    assert look_of(GAMES["boxing"]).action_names[-1] == "down left fire"
    assert [name for name, _ in look_of(BREAKOUT).legend()] == ["paddle", "ball", "trail", "brick"]
    for game in GAMES.values():
        legend = look_of(game).legend()
        planes = game.observation_shape[0] if game.tier == "minatar" else 0
        assert len({name for name, _ in legend}) == len({colour for _, colour in legend}) == planes


@pytest.mark.parametrize(
    "game",
    [
        Game("my-pendulum", "control", (6,), 3, low=(-1.0,), high=(1.0,), scale=(2.0,)),
        Game("my-plane-game", "minatar", (12, 10, 10), 5),
        Game("my-atari-game", "atari", (4, 84, 84), 3),
    ],
    ids=lambda game: game.tier,
)
def test_a_game_that_no_library_knows_is_drawn_by_the_rule_of_its_tier(game: Game) -> None:
    look = look_of(game)
    assert look.action_names == tuple(f"action {action}" for action in range(game.num_actions))
    nothing, all_of_it = (np.full(game.observation_shape, value, dtype=np.float32) for value in (0.0, 1.0))
    for side in (look.side, look.small_side):
        drawn = [np.asarray(look.picture(each, side)) for each in (nothing, all_of_it)]
        assert (drawn[0] != drawn[1]).any()
        assert picture_of_change(all_of_it, 1.0, look, side).size == (side, side)
    checkpoint = Checkpoint(RandomPlay(game), load_agent(DQN).provenance, "")
    painter = Painter(game, checkpoint, "an attack")
    scores = np.arange(game.num_actions, dtype=np.float32)
    frame = Frame(
        seen=all_of_it, clean=nothing, scores=scores, clean_scores=scores, action=1, rates=np.zeros(0), sim_steps=0,
        decisions=1, score=0.0, reward=0.0, flips=0, episode=0, ending="", hidden=(),
    )  # fmt: skip
    assert painter.paint(frame).size == painter.size


def test_a_look_is_registered_for_a_game(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOOKS, "_entries", dict(LOOKS.items()))

    @LOOKS.register("my-other-pendulum")
    class Pendulum(ControlLook):
        def own_action_names(self) -> tuple[str, ...]:
            return ("left", "right")

    game = Game("my-other-pendulum", "control", (3,), 2)
    assert isinstance(look_of(game), Pendulum)
    assert look_of(game).action_names == ("left", "right")
    assert not isinstance(look_of(replace(game, name="a third")), Pendulum)


def test_a_state_is_drawn_as_bars_in_its_scale() -> None:
    look = look_of(Game("my-bars", "control", (2,), 2, scale=(4.0, 1.0)))
    shown = np.asarray(look.picture(np.array([2.0, -1.0], dtype=np.float32), 100)).astype(int)
    # Rows of 50 pixels; bars begin at the middle, 50, and a full one is 46 pixels long.
    assert (shown[14, 51:73] == np.array(ORANGE)).all()
    assert not (shown[14, 75:] == np.array(ORANGE)).all(1).any()
    assert (shown[64, 5:50] == np.array(BLUE)).all()  # above the number
    assert not (shown[64, :4] == np.array(BLUE)).all(1).any()


def test_of_stacked_frames_the_newest_is_shown() -> None:
    observation = np.zeros((4, 84, 84), dtype=np.float32)
    observation[:3] = 0.5
    observation[3, 2, 1] = 1.0
    shown = np.asarray(look_of(GAMES["pong"]).picture(observation, 168))  # every pixel twice as wide and high
    expected = np.zeros((168, 168, 3), dtype=np.uint8)
    expected[4:6, 2:4] = 255
    assert np.array_equal(shown, expected)


def test_planes_lie_one_over_the_other_in_their_colours() -> None:
    observation = np.zeros((4, 10, 10), dtype=np.float32)
    observation[0, 1, 1] = observation[3, 1, 1] = 1.0  # the later plane covers the earlier
    observation[0, 1, 2] = 1.0
    observation[0, 1, 3] = 0.5
    shown = np.asarray(look_of(BREAKOUT).picture(observation, 100)).astype(int)  # cells of 10 pixels
    assert tuple(shown[15, 15]) == PLANES[3]
    assert tuple(shown[15, 25]) == PLANES[0]
    empty = shown[15, 45]
    assert np.abs(shown[15, 35] - (empty + np.array(PLANES[0])) / 2).max() <= 0.5


def test_a_change_is_coloured_by_sign_and_share() -> None:
    change = np.array([0.2, -0.2, 0.0, 0.1])
    shown = np.asarray(picture_of_change(change, 0.2, look_of(GAMES["cartpole"]), 100)).astype(
        int
    )  # tiles of 48, 4 apart
    assert tuple(shown[20, 20]) == ORANGE
    assert tuple(shown[20, 80]) == BLUE
    assert tuple(shown[80, 20]) == TRACK
    assert np.abs(shown[80, 80] - (np.array(TRACK) + np.array(ORANGE)) / 2).max() <= 0.5
    assert tuple(shown[50, 50]) == BACKGROUND


def test_cartpole_leans_where_its_pole_leans() -> None:
    for angle in (-0.2, 0.2):
        state = np.array([0.0, 0.0, angle, 0.0], dtype=np.float32)
        shown = np.asarray(look_of(GAMES["cartpole"]).picture(state, 504)).astype(int)
        _, columns = np.nonzero(np.abs(shown - np.array(ORANGE)).max(2) == 0)
        # 252 is the middle, 105 pixels a unit, and the pole is drawn 2 units long.
        assert abs(columns.mean() - (252 + 105 * np.sin(angle))) < 6
