"""The skeleton of a training run, for any algorithm: intervals, progress, curves, checkpoints, resume.

A run folder holds agent.safetensors (the last weights), best.safetensors (the best validation mean), curve.parquet,
validation.parquet, tensorboard/ and manifest.json. Weights kept on request are best-episode.safetensors, steps-* and
episodes-*. Until the run is done there are also state.safetensors and the algorithm's own files. From these a killed
run continues with the same bits.
"""

import math
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from core.checkpoint import Checkpoint, load_agent, require_finite, save_agent
from core.errors import Refusal
from core.extensions import used_extensions
from core.games import Game
from core.manifest import Manifest
from core.progress import Progress
from core.records import read_rows, require_no_link, write_bytes, write_rows
from core.rows import CurveRow, EpisodeRow
from core.tensor_files import read_tensors, write_tensors
from play.episodes import episode_row, play
from play.protocols import Protocol
from play.rollout import Step
from train_direct.algorithm import Algorithm
from train_direct.board import Board

VALIDATION = "validation"
"""The stream of the episodes that choose the best weights."""


_STATE_KEY = "state"
_RESULTS = ("agent.safetensors", "best.safetensors", "curve.parquet", "validation.parquet")
_RESUMING = ("state.safetensors", "replay", "tensorboard")
"""Files and folders that an unfinished run continues."""
_KEPT = ("best-episode.safetensors", "steps-*.safetensors", "episodes-*.safetensors")
"""Patterns of the weights that are kept on request."""
_OVERWRITTEN = ("best.safetensors", "best-episode.safetensors")
"""Weights that later ones overwrite. A state holds the files as they were, because what came after it can be lost, and
decisions that are made again may be others (on a GPU, or with other threads)."""
STOPS = (signal.SIGTERM, signal.SIGINT)
"""Signals after which a run saves a state and ends."""


_HEADER: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("algorithm", "spec", "best_config"), dict),
    **dict.fromkeys(("episodes", "curve_rows", "validation_rows"), int),
    **dict.fromkeys(("best_episode", "best", "training_s"), (int, float)),
    "ended_scores": list,
    "solved": bool,
    "last_score": str,
}
"""Entries of a state's header, with their types."""


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (tensor.dtype, *tensor.shape) for name, tensor in tensors.items()}


class _Stopped(Exception):
    """A signal to stop came during a validation."""


@dataclass(frozen=True)
class Plan:
    """What a run trains, how long it takes, and how often it validates and saves."""

    game: Game
    network: str
    recipe: str
    recipe_steps: int
    """Decisions that the recipe asks for."""
    training: str
    """Digest of all that defines the training (`train_direct.training`)."""
    protocol: Protocol
    """The protocol by which validation episodes are scored."""
    seed: int
    total_steps: int
    """Decisions that this run makes."""
    eval_interval_steps: int
    eval_episodes: int
    curve_interval_steps: int
    checkpoint_interval_steps: int
    keep_interval_steps: int | None
    """Decisions between weights that are kept for good. None keeps only the best and the last."""
    stop_score: float | None
    """Validation mean at which the run ends early, if any."""
    scores_are_q_values: bool
    """Whether the agent's scores are Q-values. Logits are not, and scores without their common mode are not."""
    keep_episodes: Sequence[int] = ()
    """Numbers of training episodes after which weights are kept for good."""
    keep_best_episode: bool = False
    """Whether the weights after the training episode with the largest score (the first of equals) are kept too."""


class TrainingRun:
    """One run in its folder. It begins anew, or continues from the last state in the folder.

    Args:
        folder: the run folder.
        plan: length and intervals of the run.
        algorithm: freshly made. A state that is found in the folder is restored into it.
        manifest: the manifest of the folder, whose work has begun.

    Raises:
        Refusal: the state in the folder is damaged, is of another run, or lies beyond the requested end.
    """

    def __init__(self, folder: Path, plan: Plan, algorithm: Algorithm, manifest: Manifest):
        self._folder, self._plan, self._algorithm, self._manifest = folder, plan, algorithm, manifest
        self._curve: list[CurveRow] = []
        self._validation: list[EpisodeRow] = []
        self._ended_scores: list[float] = []  # of training episodes, since the latest point of the curve
        self._episodes = 0
        self._best_episode = -math.inf
        self._best = -math.inf
        self._best_config = algorithm.agent.config()
        self._stop = 0  # number of the signal that asked the run to stop
        self._solved = False
        self._saved_steps = 0
        self._last_score = ""
        self._training_s = 0.0  # since the last point of the curve, without validations and states
        # Count of decisions before the latest ones, while what is due after these is unfinished; None otherwise.
        self._due_since: int | None = None
        for name in _RESUMING:
            require_no_link(folder / name)
        if self._state_file.exists():
            self._restore()
        else:
            self._require_end_ahead()  # it may have kept weights before it was killed
        # Points at the state's own count of decisions were written before the state.
        self._board = Board(folder / "tensorboard", algorithm.steps)

    @property
    def _state_file(self) -> Path:
        return self._folder / "state.safetensors"

    def run(self) -> None:
        """Train to the end. SIGTERM and Ctrl-C save a state to resume from and end the process.

        Raises:
            Refusal: the weights are no longer finite.
        """
        plan, algorithm = self._plan, self._algorithm
        previous = {number: signal.signal(number, self._request_stop) for number in STOPS}
        what = f"train {algorithm.agent.kind} on {plan.game.name}"
        try:
            with Progress(what, plan.total_steps, "decisions", algorithm.steps) as progress:
                if self._due_since is not None:
                    self._after(self._due_since, algorithm.steps)
                while algorithm.steps < plan.total_steps and not self._solved:
                    before, began = algorithm.steps, time.perf_counter()
                    ended = algorithm.advance()
                    self._training_s += time.perf_counter() - began
                    self._count_episodes(ended)
                    self._after(before, algorithm.steps)
                    progress.advance(algorithm.steps - before, self._last_score)
                    if self._stop:
                        self._save_state()
                        self._leave(what)
        except _Stopped:  # the validation is played again
            self._save_state()
            self._leave(what)
        finally:
            algorithm.close()
            self._board.close()
        self._finish()
        for number, handler in previous.items():
            signal.signal(number, handler)

    def _leave(self, what: str) -> NoReturn:
        print(
            f"{what}: stopped; the same command resumes at {self._saved_steps:,} decisions",
            file=sys.stderr,
        )
        sys.exit(128 + self._stop)

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop = signum

    def _count_episodes(self, scores: Sequence[float]) -> None:
        """Count training episodes that ended, and keep the weights that are kept after them."""
        plan, before = self._plan, self._episodes
        self._ended_scores += scores
        self._episodes += len(scores)
        if plan.keep_best_episode and max(scores, default=-math.inf) > self._best_episode:
            self._best_episode = max(scores)
            kept = self._folder / "best-episode.safetensors"
            save_agent(kept, self._algorithm.agent, self._provenance())
        for episodes in plan.keep_episodes:
            if before < episodes <= self._episodes:
                kept = self._folder / f"episodes-{episodes:06d}.safetensors"
                save_agent(kept, self._algorithm.agent, self._provenance())

    def _after(self, before: int, steps: int) -> None:
        """Do what is due between two counts of decisions. At the end of a run, however short, everything is due."""
        plan = self._plan

        def due(interval: int) -> bool:
            return steps // interval > before // interval or steps >= plan.total_steps or self._solved

        if due(plan.eval_interval_steps) or due(plan.curve_interval_steps):
            self._require_finite()
        if due(plan.eval_interval_steps):
            self._due_since = before
            self._validate()
            self._due_since = None
        if due(plan.curve_interval_steps):
            self._add_curve_point()
        if plan.keep_interval_steps and due(plan.keep_interval_steps):
            save_agent(self._kept_file(steps), self._algorithm.agent, self._provenance())
        if due(plan.checkpoint_interval_steps):
            self._save_state()

    def _require_finite(self) -> None:
        """Refuse to go on with weights that a too large step or a gradient of NaN has spoilt."""
        steps = self._algorithm.steps
        require_finite(self._algorithm.agent.state_dict(), f"training diverged within {steps:,} decisions")

    def _add_curve_point(self) -> None:
        plan, algorithm = self._plan, self._algorithm
        means = algorithm.means()
        steps = algorithm.steps
        since = steps - (self._curve[-1].steps if self._curve else 0)
        row = CurveRow(
            game=plan.game.name,
            agent=algorithm.agent.kind,
            network=plan.network,
            recipe=plan.recipe,
            train_seed=plan.seed,
            steps=steps,
            updates=algorithm.updates,
            frames=steps * plan.game.frames_per_decision,
            epsilon=algorithm.epsilon,
            loss=means.loss,
            q_mean=means.q_mean,
            train_score=float(np.mean(self._ended_scores)) if self._ended_scores else math.nan,
            steps_per_second=since / max(self._training_s, 1e-9),
            training=plan.training,
        )
        self._training_s = 0.0
        self._ended_scores = []
        self._curve.append(row)
        self._board.point(row, algorithm.diagnostics())

    def _validate(self) -> None:
        """Play validation episodes, and keep the best weights so far (the later ones of equals).

        Evaluations play other episodes.
        """
        plan, algorithm = self._plan, self._algorithm
        here = Checkpoint(algorithm.agent, self._provenance(), "")
        rows = [
            episode_row(played, here, plan.game, plan.protocol, plan.seed, VALIDATION)
            for played in play(
                algorithm.agent,
                plan.game,
                plan.protocol,
                eval_seed=plan.seed,
                episodes=range(plan.eval_episodes),
                stream=VALIDATION,
                on_step=self._on_validation_step,
            )
        ]
        self._validation += sorted(rows, key=lambda row: row.episode)
        mean = sum(row.score for row in rows) / len(rows)
        self._last_score = f"validation score {mean:.2f}"
        self._board.validation(rows, algorithm.agent, algorithm.steps)
        self._solved = plan.stop_score is not None and mean >= plan.stop_score
        # Pruning makes another agent, and the run is to produce the last one.
        if mean >= self._best or self._best_config != algorithm.agent.config():
            self._best, self._best_config = mean, algorithm.agent.config()
            save_agent(self._folder / "best.safetensors", algorithm.agent, self._provenance())

    def _on_validation_step(self, step: Step) -> None:
        if self._stop:
            raise _Stopped
        self._board.look_at(step)

    def _provenance(self) -> dict[str, Any]:
        return {
            "train_seed": self._plan.seed,
            "train_steps": self._algorithm.steps,
            "train_updates": self._algorithm.updates,
            "recipe": self._plan.recipe,
            "recipe_steps": self._plan.recipe_steps,
            "network": self._plan.network,
            "training": self._plan.training,
            "scores_are_q_values": self._plan.scores_are_q_values,
            **({"extensions": used} if (used := used_extensions()) else {}),
        }

    def _write_rows(self) -> list[Path]:
        curve, validation = self._folder / "curve.parquet", self._folder / "validation.parquet"
        write_rows(curve, CurveRow, self._curve)
        write_rows(validation, EpisodeRow, self._validation)
        return [curve, validation]

    def _save_state(self) -> None:
        """Write rows, then the state with their numbers. On resume, rows beyond these numbers are dropped."""
        self._write_rows()
        tensors, values = self._algorithm.state()
        for path in self._overwritten():
            if path.exists():
                tensors[path.name] = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        header = {
            "algorithm": values,
            "spec": self._manifest.spec,
            "ended_scores": self._ended_scores,
            "episodes": self._episodes,
            "best_episode": self._best_episode,
            "best": self._best,
            "best_config": self._best_config,
            "curve_rows": len(self._curve),
            "validation_rows": len(self._validation),
            "solved": self._solved,
            "last_score": self._last_score,
            "training_s": self._training_s,
            "due_since": self._due_since,
        }
        write_tensors(self._state_file, tensors, _STATE_KEY, header)
        self._saved_steps = self._algorithm.steps

    def _restore(self) -> None:
        try:
            header, tensors, _ = read_tensors(self._state_file, _STATE_KEY, not_finite=True)
        except Refusal as refusal:
            raise Refusal(f"{refusal}; remove {self._folder} to start again")
        damaged = Refusal(f"{self._state_file} is damaged; remove {self._folder} to start again")
        held = {path: tensors.pop(path.name) for path in self._overwritten() if path.name in tensors}
        fresh, _ = self._algorithm.state()
        if _shapes(fresh) != _shapes(tensors) or not all(
            isinstance(header.get(name), kind) for name, kind in _HEADER.items()
        ):
            raise damaged
        try:
            self._continue_from(header, tensors)
        except Refusal:
            raise
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise damaged from error
        for path, content in held.items():
            write_bytes(path, content.numpy().tobytes())

    def _continue_from(self, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._manifest.require_same(header["spec"], finished=False)
        self._curve = read_rows(self._folder / "curve.parquet", CurveRow)[: header["curve_rows"]]
        self._validation = read_rows(self._folder / "validation.parquet", EpisodeRow)[
            : header["validation_rows"]
        ]
        self._ended_scores, self._episodes = header["ended_scores"], header["episodes"]
        self._best_episode = header["best_episode"]
        self._best = header["best"]
        agent = self._algorithm.agent  # an older version may have written its configuration in another form
        self._best_config = type(agent).from_config(self._plan.game, header["best_config"]).config()
        self._last_score = header["last_score"]
        self._training_s, self._solved = header["training_s"], header["solved"]
        self._due_since = header.get("due_since")
        self._algorithm.restore(tensors, header["algorithm"])
        self._saved_steps = self._algorithm.steps
        if header["spec"] != self._manifest.spec:
            self._require_end_ahead()
        print(f"{self._folder}: resumes at {self._algorithm.steps:,} decisions", file=sys.stderr)

    def _require_end_ahead(self) -> None:
        """Refuse an end that lies before what was done already.

        Weights that were kept after the state was saved are made again on the way. A run that ends before them would
        leave them in the folder.
        """
        end = self._plan.total_steps
        if self._saved_steps >= end:
            raise Refusal(
                f"total_steps is {end}: {self._saved_steps} decisions were already made in {self._folder}"
            )
        for path in self._kept():
            kept_steps = load_agent(path).provenance["train_steps"]
            if kept_steps > end:
                raise Refusal(f"total_steps is {end}: {path} was kept after {kept_steps} decisions")

    def _overwritten(self) -> list[Path]:
        return [self._folder / name for name in _OVERWRITTEN]

    def _kept(self) -> list[Path]:
        """The weights that were kept on request."""
        return [path for pattern in _KEPT for path in sorted(self._folder.glob(pattern))]

    def _kept_file(self, steps: int) -> Path:
        return self._folder / f"steps-{steps:09d}.safetensors"

    def _finish(self) -> None:
        """Write the results, then remove the files that only a resume needs."""
        outputs = self._write_rows()
        agent_file = self._folder / "agent.safetensors"
        save_agent(agent_file, self._algorithm.agent, self._provenance())
        self._manifest.finish([agent_file, self._folder / "best.safetensors", *self._kept(), *outputs])
        clean_up(self._folder)


def files_of_run(folder: Path) -> list[Path]:
    """Files and folders that a run makes in its folder, kept weights as far as they are there."""
    names = [folder / name for name in (*_RESULTS, *_RESUMING)]
    return names + [path for pattern in _KEPT for path in folder.glob(pattern)]


def clean_up(folder: Path) -> None:
    """Remove the files that only an unfinished run needs."""
    (folder / "state.safetensors").unlink(missing_ok=True)
    shutil.rmtree(folder / "replay", ignore_errors=True)
