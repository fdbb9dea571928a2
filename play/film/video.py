"""One episode as a video: what the agent sees, how it scores its actions, and what each layer fires.

A recorder is shown the steps of `play.episodes.play`, one frame a decision. So the video is of the very episode that is
scored, and recording changes no score. Frames are piped to ffmpeg (H.264, yuv420p, which browsers play). This is the
only file that imports imageio_ffmpeg, which brings ffmpeg.
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
from play.film.frame import frame_of
from play.film.looks import look_of
from play.film.painter import Painter
from play.protocols import Protocol
from play.rollout import Perturb, Step


def record(
    path: str | os.PathLike[str],
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
        path: the video, .mp4. It is written whole or not at all.
        checkpoint: the agent that plays.
        game: the game that is played.
        protocol: how it is played, resolved for the game.
        eval_seed: seed of the evaluation that the episode belongs to.
        episode: index of the episode in that evaluation.
        perturb: the attack, if any. The video then shows the clean game and the perturbation too.
        attack: name of the attack.

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


def require_ffmpeg() -> str:
    """The path of ffmpeg.

    Raises:
        Refusal: there is none.
    """
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise Refusal(f"no ffmpeg to record with ({error}); the extra that brings it: pip install '.[video]'")


class Recorder:
    """Writes the video of one episode. It is called with every step, as the `on_step` of `play`.

    It is a context manager: an episode that was not played to its end leaves no video. A kill leaves a partial file,
    which the next attempt overwrites.

    Args:
        path: the video, .mp4.
        checkpoint: the agent that plays.
        game: the game that is played.
        episode: index of the episode; steps of others are ignored.
        attack: name of the attack, shown if there is one.

    Raises:
        Refusal: there is no ffmpeg.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        checkpoint: Checkpoint,
        game: Game,
        episode: int = 0,
        attack: str = "perturbation",
    ):
        self.played = Played(episode)
        """The sums of what was drawn so far."""
        self._path = Path(path)
        self._checkpoint = checkpoint
        self._game = game
        self._attack = attack
        self._painter: Painter | None = None
        self._encoder = Encoder(path, look_of(game).decisions_per_second)
        self._ended = False

    def __call__(self, step: Step) -> None:
        """Draw the episode's decision, if the step holds one."""
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
    """An ffmpeg process that writes a video. The file gets its name when it is whole.

    It is a context manager: where the block ends by an exception, no file is left.

    Args:
        path: the video, .mp4.
        frames_per_second: the frame rate.

    Raises:
        Refusal: there is no ffmpeg.
    """

    def __init__(self, path: str | os.PathLike[str], frames_per_second: int):
        self._ffmpeg = require_ffmpeg()
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.partial")
        self._frames_per_second = frames_per_second
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, image: Image.Image) -> None:
        """Add a frame. Width and height are even, and those of the first frame."""
        if self._process is None:
            self._process = self._start(image.size)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(image.tobytes())
        except BrokenPipeError:
            self.finish()

    def _start(self, size: tuple[int, int]) -> "subprocess.Popen[bytes]":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A link of this name, in a folder that somebody sent, must not lead the video into another file.
        self._partial.unlink(missing_ok=True)
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}"]
        h264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-pix_fmt", "yuv420p"]
        return subprocess.Popen(
            [
                *(self._ffmpeg, "-loglevel", "error", "-n"),
                *(*raw, "-r", str(self._frames_per_second), "-i", "pipe:0"),
                *(*h264, "-movflags", "+faststart", "-f", "mp4", f"file:{self._partial}"),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not reach ffmpeg: `abandon` ends it
        )

    def finish(self) -> None:
        """Complete the file.

        Raises:
            Refusal: ffmpeg could not write it.
        """
        if self._process is None:
            return
        _, errors = self._process.communicate()
        if self._process.returncode != 0:
            reason = errors.decode(errors="replace").strip() or f"exit code {self._process.returncode}"
            raise Refusal(f"{self._path}: ffmpeg could not write it: {reason.splitlines()[0]}")
        with open(self._partial, "rb") as file:
            os.fsync(file.fileno())
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
        """Stop ffmpeg and remove a file that is not complete; do nothing after `finish`."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()
        self._partial.unlink(missing_ok=True)
