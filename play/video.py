"""One episode as a video: what the agent sees, how it scores its actions, and what each layer fires for that.

A recorder is shown the steps of `play.episodes.play`, one frame a decision, so a video is of the very episode
that a row scores and recording changes nothing. Frames (`evaluate/painter.py`) are piped to ffmpeg (H.264, yuv420p,
which browsers play). The only file that imports imageio_ffmpeg, which brings ffmpeg.
"""

import os
import subprocess
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from core.checkpoint import Checkpoint
from core.errors import Refusal
from core.games import Game
from core.progress import Progress
from play.episodes import Played, play
from play.painter import DECISIONS_PER_SECOND, Painter, frame_of
from play.protocols import Protocol
from play.rollout import Perturb, Step


def record(
    path: Path,
    checkpoint: Checkpoint,
    game: Game,
    protocol: Protocol,
    *,
    eval_seed: int,
    episode: int = 0,
    perturb: Perturb | None = None,
    attack: str = "perturbation",
) -> Played:
    """Play one episode and write its video.

    Args:
        path: the video, .mp4; afterwards it is whole or not there.
        checkpoint: what plays.
        game: what is played.
        protocol: how, resolved for the game.
        eval_seed: episode i is the one that `play` gives this seed.
        episode: its index i.
        perturb: the attack, if any; the video then shows the clean game and the perturbation too.
        attack: what it is called.

    Returns:
        The episode's sums, as `play` gives them.

    Raises:
        Refusal: there is no ffmpeg, or it could not write.
    """
    with (
        Recorder(path, checkpoint, game, episode, attack) as recorder,
        Progress(f"record {game.name} {checkpoint.agent.kind}", 1, "episodes") as progress,
    ):

        def watch(step: Step) -> None:
            recorder(step)
            progress.advance(0, f"{recorder.played.length_steps:,} decisions")

        (played,) = play(
            checkpoint.agent,
            game,
            protocol,
            eval_seed=eval_seed,
            episodes=[episode],
            num_envs=1,
            perturb=perturb,
            on_step=watch,
        )
        progress.advance(1)
    return played


# Recording -------------------------------------------------------------------------------------------


def require_ffmpeg() -> str:
    """Path of an ffmpeg, or a Refusal where there is none."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise Refusal(f"no ffmpeg to record with ({error}); the extra that brings it: pip install '.[video]'")


class Recorder:
    """Writes the video of one episode from the steps that it is shown: an `on_step` of `play`.

    A context: an episode that was not played to its end leaves no video. A kill leaves a partial file, which the
    next attempt overwrites.

    Args:
        path: the video, .mp4.
        checkpoint: what plays.
        game: what is played.
        episode: index of the episode; steps of others are passed over.
        attack: what the attack is called, if there is one.
    """

    def __init__(
        self,
        path: Path,
        checkpoint: Checkpoint,
        game: Game,
        episode: int = 0,
        attack: str = "perturbation",
    ):
        self.played = Played(episode)
        """What was drawn so far, summed up."""
        self._path = path
        self._checkpoint = checkpoint
        self._game = game
        self._attack = attack
        self._painter: Painter | None = None
        self._encoder = Encoder(path, DECISIONS_PER_SECOND[game.tier])
        self._ended = False

    def __call__(self, step: Step) -> None:
        """Draw the episode's decision, if this step holds one."""
        for row in np.flatnonzero(step.episodes == self.played.episode).tolist():
            self.played.add(step, row)
            self._ended = bool(step.ended[row])
            frame = frame_of(step, row, self.played, self._checkpoint.agent, self._game)
            if self._painter is None:
                attack = None if frame.clean_scores is None else self._attack
                self._painter = Painter(self._game, self._checkpoint, attack)
            self._encoder.write(self._painter.paint(frame))

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._ended:
                raise Refusal(
                    f"{self._path}: episode {self.played.episode} was not played to its end: no video"
                )
            if kind is None:
                self._encoder.finish()
        finally:
            self._encoder.abandon()


class Encoder:
    """ffmpeg at work on a file that gets its name when it is whole.

    A context: left by an exception, it leaves nothing.

    Args:
        path: the video, .mp4.
        frames_per_second: its rate.

    Raises:
        Refusal: there is no ffmpeg.
    """

    def __init__(self, path: Path, frames_per_second: int):
        self._ffmpeg = require_ffmpeg()
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._frames_per_second = frames_per_second
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, image: Image.Image) -> None:
        """Add a frame: of even width and height, those of the first one."""
        if self._process is None:
            self._process = self._start(image.size)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(image.tobytes())
        except BrokenPipeError:
            self.finish()

    def _start(self, size: tuple[int, int]) -> "subprocess.Popen[bytes]":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}"]
        h264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-pix_fmt", "yuv420p"]
        return subprocess.Popen(
            [
                *(self._ffmpeg, "-loglevel", "error", "-y"),
                *(*raw, "-r", str(self._frames_per_second), "-i", "pipe:0"),
                *(*h264, "-movflags", "+faststart", "-f", "mp4", f"file:{self._partial}"),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: what ffmpeg is to do then, `abandon` says
        )

    def finish(self) -> None:
        """No more frames: the file is whole, or a Refusal says what ffmpeg had against it."""
        if self._process is None:
            return
        _, errors = self._process.communicate()
        if self._process.returncode != 0:
            reason = errors.decode(errors="replace").strip() or f"exit code {self._process.returncode}"
            raise Refusal(f"{self._path}: ffmpeg could not write it: {reason.splitlines()[0]}")
        os.replace(self._partial, self._path)

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing but what is finished."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()
        self._partial.unlink(missing_ok=True)
