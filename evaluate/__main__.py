"""python -m evaluate run | watch | probe | check: score agents, look into them, look whether rows can be trusted."""

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from PIL import Image

from analysis.check import findings
from analysis.statistics import mean_interval
from core import kinds
from core.agents import RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.cli import main, specification
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import Game, get_game
from core.manifest import Manifest
from core.progress import Progress
from core.records import EmbeddingRow, EpisodeRow, Journal, OperationsRow, ResponseRow, read_rows, write_rows
from core.seeding import require_seed
from evaluate.operations import operations_rows
from evaluate.probe import embed, neuron_responses, require_embeddable
from evaluate.watch import Show, watch
from evaluate.window import Pictures, Window
from play.episodes import episode_row, play, require_at_least_one, settings
from play.film.looks import look_of
from play.film.video import Encoder, record, require_ffmpeg
from play.options import ComputeOptions, EpisodeOptions, PlayOptions
from play.protocols import Protocol, get_protocol
from play.rollout import Step
from play.states import collect

_RANDOM_PLAY = {
    **{"train_seed": -1, "train_steps": 0, "recipe_steps": 0},
    **{"recipe": "", "network": "", "scores_are_q_values": False},
}


class Entrant(NamedTuple):
    """One agent on one game."""

    checkpoint: Checkpoint
    which: tuple[str, ...]
    """Of a run folder's weights best, final, or both; else the empty word."""
    game: Game
    protocol: Protocol

    @property
    def key(self) -> tuple[str, str]:
        """Tells its rows from the others'."""
        return self.checkpoint.id, self.game.name


@dataclass(frozen=True, kw_only=True)
class Run(PlayOptions):
    """Play whole games under a protocol and write one row an episode (OUT/episodes.parquet)."""

    agent: tuple[str, ...]
    """Any number of checkpoints (.safetensors), run folders of train_direct (their best and their final weights), and
    the word random, which plays the games of the others."""
    out: Path
    """Folder for the rows; asked again with the same options, finished work is not done twice and a killed one goes
    on at the episode."""
    episodes: int | None = None
    """Games of each agent; the protocol's number if not given."""
    record: bool = False
    """Also film each agent's first episode (OUT/*.mp4): the game as the agent sees it, Q-values, firing rates."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        require_at_least_one(num_envs=self.num_envs, agents=len(self.agent))
        entrants = list(self._entrants(pick_device(self.device)))
        episodes = [
            entrant.protocol.episodes if self.episodes is None else self.episodes for entrant in entrants
        ]
        require_at_least_one(episodes=min(episodes))
        if self.record:
            require_ffmpeg()
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **specification(self, "out", "agent", "device", "threads", "num_envs", "record"),
                "verb": "evaluate run",
                "agent": [entrant.checkpoint.id or RandomPlay.kind for entrant in entrants],
                "game": [entrant.game.name for entrant in entrants],
                "protocol": [entrant.protocol.name for entrant in entrants],
                "episodes": episodes,
            },
        )
        rows_file = self.out / "episodes.parquet"
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
            else:
                self._score(entrants, episodes, manifest, rows_file)
        if self.record:
            rows = read_rows(rows_file, EpisodeRow)
            for entrant in entrants:
                self._film(entrant, rows)

    def _score(
        self, entrants: list[Entrant], episodes: list[int], manifest: Manifest, rows_file: Path
    ) -> None:
        """Play what is missing, write all rows, and sum them up."""
        # Rows of other versions of libraries do not compare, so they are not gone on with.
        under = [settings(entrant.game, entrant.protocol) for entrant in entrants]
        journal = Journal(rows_file, EpisodeRow, {**manifest.spec, "settings": under})
        known = {(row.checkpoint_id, row.game, row.episode) for row in journal.rows}
        with Progress("evaluate", sum(episodes), "episodes", done=len(known)) as progress:
            for entrant, wanted in zip(entrants, episodes, strict=True):
                left = [episode for episode in range(wanted) if (*entrant.key, episode) not in known]
                if left:
                    self._play(entrant, left, journal, progress)
        order = [entrant.key for entrant in entrants]
        journal.write(lambda row: (order.index((row.checkpoint_id, row.game)), row.checkpoint, row.episode))
        manifest.finish([rows_file])
        journal.close()
        for entrant in entrants:
            played = {
                row.episode: row for row in journal.rows if (row.checkpoint_id, row.game) == entrant.key
            }
            interval = mean_interval([row.score for row in played.values()])
            truncated = sum(row.truncated for row in played.values())
            which = " and ".join(filter(None, entrant.which))
            print(
                f"{entrant.game.name} {entrant.checkpoint.agent.kind}{which and f' ({which})'}: "
                f"mean score {interval.estimate:.2f}, 95 % interval over episodes {interval.low:.2f} to "
                f"{interval.high:.2f}, n = {interval.n}, {truncated} truncated"
            )
        print(rows_file)

    def _film(self, entrant: Entrant, rows: Sequence[EpisodeRow]) -> None:
        """The first episode once more, alone, because a resumed evaluation may have played it before the kill."""
        checkpoint, _, game, protocol = entrant
        name = "-".join(filter(None, (game.name.replace("/", "-"), checkpoint.agent.kind, checkpoint.id)))
        file = self.out / f"{name}-episode-0.mp4"
        if file.exists():
            print(f"{file}: already done")
            return
        played = record(file, checkpoint, game, protocol, eval_seed=self.seed)
        (scored, *_) = (
            row for row in rows if (row.checkpoint_id, row.game, row.episode) == (*entrant.key, 0)
        )
        same = (played.score, played.length_steps) == (scored.score, scored.length_steps)
        # Alone, Q-values round otherwise in the last bit, and a tie of two actions may fall the other way.
        other = (
            ""
            if same
            else f", another course than the scored game's ({scored.score:g}): Q-values all but tied"
        )
        print(f"{file}: {played.length_steps:,} decisions, score {played.score:g}{other}")

    def _play(
        self, entrant: Entrant, episodes: Sequence[int], journal: Journal[EpisodeRow], progress: Progress
    ) -> None:
        """Play some episodes, and keep their rows."""
        checkpoint, which, game, protocol = entrant
        decisions = 0

        def count(step: Step) -> None:
            nonlocal decisions
            decisions += len(step.slots)
            progress.advance(0, f"{game.name} {checkpoint.agent.kind}, {decisions:,} decisions")

        for played in play(
            checkpoint.agent,
            game,
            protocol,
            eval_seed=self.seed,
            episodes=episodes,
            num_envs=self.num_envs,
            on_step=count,
        ):
            journal.add(
                *(episode_row(played, checkpoint, game, protocol, self.seed, which=each) for each in which)
            )
            progress.advance(1)

    def _entrants(self, device: torch.device) -> Iterator[Entrant]:
        """Every agent once on each game that it plays."""
        given = get_game(self.game) if self.game else None
        loaded: dict[str, tuple[Checkpoint, tuple[str, ...]]] = {}
        for agent in self.agent:
            if agent == RandomPlay.kind:
                continue
            for path, which in _weights(Path(agent)):
                checkpoint = load_agent(path, given, device)
                _, others = loaded.get(checkpoint.id, (None, ()))
                labels = tuple(dict.fromkeys((*others, which)))
                # Who names a run folder and its file too says which weights these are.
                loaded[checkpoint.id] = checkpoint, tuple(filter(None, labels)) or labels
        games = [given] if given else [checkpoint.agent.game for checkpoint, _ in loaded.values()]
        if not games:
            raise Refusal("agent 'random' knows no game: give one with --game")
        if RandomPlay.kind in self.agent:
            for game in dict.fromkeys(games):
                random = Checkpoint(RandomPlay(game), _RANDOM_PLAY, "")
                protocol = get_protocol(self.protocol, game)
                yield Entrant(random, ("",), game, replace(protocol, epsilon=1.0))
        for checkpoint, labels in loaded.values():
            game = given or checkpoint.agent.game
            yield Entrant(checkpoint, labels, game, get_protocol(self.protocol, game))


@dataclass(frozen=True, kw_only=True)
class Watch(EpisodeOptions):
    """Look into a network while it plays: the game, the score of every action, and what every hidden neuron does.

    Shown in a window (space pauses; Escape, q or closing it ends), or saved. Each picture is of one decision: a
    neuron's firing rate is its spikes a simulation step of that decision, not since play began; activations of a
    network without spikes are scaled to the largest of their layer.
    """

    agent: Path
    """Checkpoint (.safetensors) of any agent that has neurons."""
    steps: int | None = None
    """Decisions to show, of as many episodes as they take; one whole episode if not given."""
    episode: int = 0
    """Index of the episode to begin with: with the same seed, the one of that index that `run` scores."""
    save: Path | None = None
    """Where there is no screen: a video (FILE.mp4), or a folder, new or empty, for pictures (000001.png, ...)."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        if self.steps is not None:
            require_at_least_one(steps=self.steps)
        if self.episode < 0:
            raise Refusal(f"episode is {self.episode}: an index of 0 or more is needed")
        if self.save is not None:
            self._require_free(self.save)
        given = get_game(self.game) if self.game else None
        checkpoint = load_agent(self.agent, given, pick_device(self.device))
        game = given or checkpoint.agent.game
        protocol = get_protocol(self.protocol, game)

        def shown(show: Show) -> None:
            for played in watch(
                checkpoint, game, protocol, show, eval_seed=self.seed, episode=self.episode, steps=self.steps
            ):
                print(f"episode {played.episode}: {played.length_steps:,} decisions, score {played.score:g}")

        title = f"{game.name} {kinds.label(checkpoint.agent.kind)}"
        rate = look_of(game).decisions_per_second
        if self.save is None:
            with contextlib.suppress(KeyboardInterrupt), Window(title, rate) as window:
                shown(window.show)
                window.hold()
            return
        in_decisions = self.steps is not None
        with contextlib.ExitStack() as until_whole:
            if self.save.suffix:
                write = until_whole.enter_context(Encoder(self.save, rate)).write
            else:
                write = Pictures(self.save).write
            progress = until_whole.enter_context(
                Progress(f"watch {title}", self.steps or 1, "decisions" if in_decisions else "episodes")
            )
            numbers = itertools.count(1)

            def save(image: Image.Image) -> None:
                write(image)
                progress.advance(int(in_decisions), f"{next(numbers):,} drawn")

            shown(save)
            progress.advance(int(not in_decisions))
        print(self.save)

    @staticmethod
    def _require_free(save: Path) -> None:
        """Refuse a place that pictures or a video cannot have."""
        if save.suffix not in ("", ".mp4"):
            raise Refusal(f"--save {save}: accepted are FILE.mp4 and FOLDER, not {save.suffix!r}")
        if save.exists() and (not save.is_dir() or save.suffix or any(save.iterdir())):
            raise Refusal(f"--save {save} exists; remove it, or choose another")


@dataclass(frozen=True, kw_only=True)
class Probe(ComputeOptions):
    """Look into agents and neurons, for figures and tables that need more than episodes.

    With agents: what each layer does in a decision (OUT/operations.parquet), and how the first of each kind represents
    the states of the first one's play (OUT/embedding.parquet). Without: the responses of single neurons
    (OUT/responses.parquet).
    """

    agent: tuple[Path, ...] = ()
    """Checkpoints (.safetensors) of agents of one game; the first one's play gives the states to represent."""
    out: Path
    """Folder for the rows."""
    states: int = 1000
    """Of each agent's own play, at epsilon 0.05, for its operations; and of the first one's, to represent."""
    seed: int = 0
    """Of those games, and of what t-SNE draws."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        require_at_least_one(states=self.states)
        device = pick_device(self.device)
        checkpoints = [load_agent(path, device=device) for path in self.agent]
        games = dict.fromkeys(checkpoint.agent.game.name for checkpoint in checkpoints)
        if len(games) > 1:
            raise Refusal(
                f"agents of {', '.join(games)}: agents of one game are needed, whose states they share"
            )
        spec = {
            **specification(self, "out", "agent", "device", "threads"),
            "verb": "evaluate probe",
            "agent": [checkpoint.id for checkpoint in checkpoints],
        }
        manifest = Manifest(self.out / "manifest.json", spec)
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            files = self._agents(checkpoints) if checkpoints else self._neurons()
            manifest.finish(files)
        for file in files:
            print(file)

    def _neurons(self) -> list[Path]:
        file = self.out / "responses.parquet"
        write_rows(file, ResponseRow, neuron_responses())
        return [file]

    def _agents(self, checkpoints: list[Checkpoint]) -> list[Path]:
        operations: list[OperationsRow] = []
        embeddings: list[EmbeddingRow] = []
        first: dict[str, Checkpoint] = {}
        for checkpoint in checkpoints:
            first.setdefault(checkpoint.agent.kind, checkpoint)
        for checkpoint in first.values():
            require_embeddable(checkpoint.agent, self.states)
        shown = collect(checkpoints[0].agent, self.states, self.seed, "embedding")
        with Progress("probe", len(checkpoints) + len(first), "agents") as progress:
            for checkpoint in checkpoints:
                played = collect(checkpoint.agent, self.states, self.seed, "operations")
                operations += operations_rows(checkpoint, played, self.seed)
                progress.advance(1, f"operations of {checkpoint.agent.kind} {checkpoint.id}")
            for checkpoint in first.values():
                embeddings += embed(checkpoint, shown, checkpoints[0].id, self.seed)
                progress.advance(1, f"states as {checkpoint.agent.kind} {checkpoint.id} represents them")
        files = self.out / "operations.parquet", self.out / "embedding.parquet"
        write_rows(files[0], OperationsRow, operations)
        write_rows(files[1], EmbeddingRow, embeddings)
        return list(files)


@dataclass(frozen=True)
class Check:
    """Look for what stands in the way of trusting rows: damaged or changed files, unfinished work, mixed protocols,
    missing seeds and episodes, doubles, NaN. One line each; exit code 1 if there is any."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder with rows below it, as in results/quick."""

    def run(self) -> None:
        found = list(findings(self.study))
        for line in found:
            print(line)
        if found:
            print(f"{self.study}: {len(found)} findings", file=sys.stderr)
            sys.exit(1)
        print(f"{self.study}: nothing found")


def _weights(path: Path) -> list[tuple[Path, str]]:
    """The file itself, or a run folder's two."""
    if path.is_dir():
        return [(path / "best.safetensors", "best"), (path / "agent.safetensors", "final")]
    return [(path, "")]


if __name__ == "__main__":
    main(
        "python -m evaluate",
        {"run": Run, "watch": Watch, "check": Check, "probe": Probe},
        "Score agents, every one by the same protocol on the same episodes; look into them; check rows.",
    )
