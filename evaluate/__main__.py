"""python -m evaluate run | watch | probe | check: score agents, watch and probe them, check rows."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import contextlib
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from core.cli import Switch, main, specification
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import named_game
from core.manifest import Manifest
from core.progress import Progress
from core.ranges import EpisodeCount, Seed, Whole
from play.options import AnAgent, ComputeOptions, EpisodeOptions, GameOfAgent, PlayOptions, of_game

if TYPE_CHECKING:
    from PIL import Image

    from core.workload import Workload
    from evaluate.scoring import Evaluation
    from evaluate.watch import Show
    from play.expected import Expected


@dataclass(frozen=True, kw_only=True)
class Run(PlayOptions):
    """Play whole games under a protocol, and write one row an episode to OUT/episodes.parquet.

    Agents are added to a finished OUT if they play under the same options.

    Examples:
        spikeq evaluate run --agent results/agents/minatar-breakout-dsqn-s0.safetensors random --out runs/scores
        spikeq evaluate run --agent runs/dqn runs/dsqn --episodes 30 --out runs/both
        spikeq evaluate run --agent my-snn --game minatar/breakout --extension my_snn --out runs/mine
    """

    agent: Annotated[
        tuple[str, ...],
        AnAgent(
            "The agents that play; registered ones play the games of the others.",
            "both its best and its final weights",
        ),
    ]
    out: Path
    """Folder for the rows. The same command again plays what is missing only, also after a kill."""
    episodes: EpisodeCount | None = None
    """Games of each agent; the protocol's number if not given."""
    record: bool = False
    """Also film each agent's first episode (OUT/*.mp4): the game as the agent sees it, Q-values, firing rates."""

    def run(self) -> None:
        from evaluate.growing import grown
        from evaluate.scoring import Evaluation, film_of, line_up, record, require_new_names, score
        from play.episodes import require_playable
        from play.film.video import require_ffmpeg

        set_up_torch(self.threads)
        game = named_game(self.game)
        evaluations = []
        for entrant in line_up(self.agent, game, pick_device(self.device)):
            protocol = entrant.protocol(self.protocol)
            episodes = protocol.episodes if self.episodes is None else self.episodes
            evaluations.append(Evaluation(entrant, protocol, episodes, self.seed))
        for each in evaluations:
            require_playable(each.entrant.checkpoint.agent, each.entrant.game, each.episodes, self.num_envs)
        if self.record:
            require_ffmpeg()
        rows_file = self.out / "episodes.parquet"
        path = self.out / "manifest.json"
        spec, grows_from = grown(path, self._specification(evaluations))
        if grows_from is not None:
            require_new_names([each.entrant for each in evaluations], rows_file)
        manifest = Manifest(path, spec, [rows_file], grows_from=grows_from)
        films = [film_of(each, self.out) for each in evaluations] if self.record else []
        with manifest.work() as needed:
            if needed:
                score(evaluations, manifest, rows_file, self.num_envs)
            else:
                print(f"{rows_file}: already done")
        for film, evaluation in zip(films, evaluations, strict=False):  # no films if none are asked for
            record(film, evaluation, rows_file)

    def workload(self, expected: "Expected") -> "Workload":
        from evaluate.workload import of_games

        return of_games(self, expected)

    def _specification(self, evaluations: "list[Evaluation]") -> dict[str, object]:
        """All that decides the rows."""
        entries = [each.entry for each in evaluations]
        return {
            **specification(self, "out", "agent", "device", "threads", "num_envs", "record"),
            "verb": "evaluate run",
            "agent": [agent for agent, _ in entries],
            "game": [game for _, game in entries],
            "protocol": [each.protocol.name for each in evaluations],
            "episodes": [each.episodes for each in evaluations],
        }


@dataclass(frozen=True, kw_only=True)
class Watch(EpisodeOptions):
    """Watch a network while it plays: the game, the score of every action, and every hidden neuron.

    The pictures are shown in a window (space pauses; Escape, q or closing it ends), or saved. Each picture is of one
    decision: a firing rate is the neuron's spikes per simulation step of that decision. Activations of a network
    without spikes are scaled to the largest of their layer. An agent from outside is shown with its scores and the
    rates of its layers.

    Examples:
        spikeq evaluate watch --agent results/agents/minatar-breakout-dsqn-s0.safetensors
        spikeq evaluate watch --agent results/agents/cartpole-dsqn-s0.safetensors --steps 200 --save cartpole.mp4
        spikeq evaluate watch --agent random --game minatar/breakout --save runs/pictures
    """

    agent: Annotated[
        str,
        AnAgent("The agent that plays."),
    ]
    steps: Annotated[int, Whole(1, 1_000_000)] | None = None
    """Decisions to show, over as many episodes as they take; one whole episode if not given."""
    episode: Annotated[int, Whole(0, 10**9)] = 0
    """Index of the first episode. With the same seed it is the episode of that index that `run` scores."""
    save: Path | None = None
    """Save instead of showing: a video (FILE.mp4), or a new or empty folder for pictures (000001.png, ...)."""

    def run(self) -> None:
        from core import kinds
        from evaluate.watch import watch
        from evaluate.window import Pictures, Window
        from play.entrants import entrants
        from play.film.looks import look_of
        from play.film.video import Encoder

        set_up_torch(self.threads)
        if self.save is not None:
            _require_free(self.save)
        entrant, *_ = entrants(self.agent, named_game(self.game), pick_device(self.device))
        protocol = entrant.protocol(self.protocol)

        def watched(show: "Show") -> None:
            for played in watch(
                entrant.checkpoint,
                entrant.game,
                protocol,
                show,
                eval_seed=self.seed,
                episode=self.episode,
                steps=self.steps,
            ):
                print(f"episode {played.episode}: {played.length_steps:,} decisions, score {played.score:g}")

        title = f"{entrant.game.name} {kinds.label(entrant.checkpoint.agent.kind)}"
        rate = look_of(entrant.game).decisions_per_second
        if self.save is None:
            with contextlib.suppress(KeyboardInterrupt), Window(title, rate) as window:
                watched(window.show)
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

            def save(image: "Image.Image") -> None:
                write(image)
                progress.advance(int(in_decisions), f"{next(numbers):,} drawn")

            try:
                watched(save)
            except KeyboardInterrupt:
                if self.save.suffix:
                    raise  # a video that is not whole is removed
                raise KeyboardInterrupt(
                    f"interrupted; {self.save} keeps the pictures so far; remove it, or choose another --save"
                )
            progress.advance(int(not in_decisions))
        print(self.save)


def _require_free(save: Path) -> None:
    """Refuse a place where pictures or a video cannot be saved."""
    if save.suffix not in ("", ".mp4"):
        raise Refusal(f"--save {save}: accepted are FILE.mp4 and FOLDER, not {save.suffix!r}")
    if os.path.lexists(save) and (not save.is_dir() or save.suffix or any(save.iterdir())):
        raise Refusal(f"--save {save} exists; remove it, or choose another")


@dataclass(frozen=True, kw_only=True)
class Probe(ComputeOptions):
    """Measure agents or single neurons, for figures and tables that need more than episodes.

    With agents, it writes what each layer does in a decision (OUT/operations.parquet). It also writes how the first
    agent of each kind represents the same states, those of the first agent's play (OUT/embedding.parquet), unless
    --embedding is False. Without agents, it writes the responses of single neurons (OUT/responses.parquet).

    Examples:
        spikeq evaluate probe --agent runs/dqn runs/dsqn --out runs/probe
        spikeq evaluate probe --out runs/neurons
    """

    agent: Annotated[
        tuple[str, ...],
        AnAgent("Agents of one game."),
    ] = ()
    out: Path
    """Folder for the rows."""
    game: GameOfAgent = None
    states: Annotated[int, Whole(31, 1_000_000)] = 1000
    """Number of states of each agent's own play, at epsilon 0.05; and of the states to represent. More than 30, which
    t-SNE needs."""
    seed: Seed = 0
    """Seed of these games, and of t-SNE."""
    embedding: Switch = True
    """Also write how agents represent states."""

    def run(self) -> None:
        from evaluate.probe import probe_agents, probe_neurons
        from play.entrants import load

        if not self.agent and not self.embedding:
            raise Refusal("--embedding False goes with --agent: single neurons have no embedding")
        set_up_torch(self.threads)
        device, game = pick_device(self.device), named_game(self.game)
        checkpoints = [load(agent, game, device) for agent in self.agent]
        games = dict.fromkeys(checkpoint.agent.game.name for checkpoint in checkpoints)
        if len(games) > 1:
            raise Refusal(
                f"agents of {', '.join(games)}: agents of one game are needed, because they share states"
            )
        spec = {
            **specification(self, "out", "agent", "device", "threads", "game", "embedding"),
            "verb": "evaluate probe",
            "agent": [checkpoint.id for checkpoint in checkpoints],
            **of_game(self.game),
            **({} if self.embedding else {"only": "operations"}),
        }
        of_agents = ["operations", "embedding"] if self.embedding else ["operations"]
        files = [self.out / f"{name}.parquet" for name in (of_agents if checkpoints else ["responses"])]
        manifest = Manifest(self.out / "manifest.json", spec, files)
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            if checkpoints:
                probe_agents(checkpoints, self.states, self.seed, *files)
            else:
                probe_neurons(*files)
            manifest.finish(files)
        for file in files:
            print(file)

    def workload(self, expected: "Expected") -> "Workload":
        from evaluate.workload import of_probe

        return of_probe(self, expected)


@dataclass(frozen=True)
class Check:
    """Find what makes rows unfit to be trusted.

    These are damaged or changed files, unfinished work, mixed protocols, missing seeds or episodes, doubles and NaN.
    One line is printed for each; the exit code is 1 if there is any.

    Examples:
        spikeq evaluate check results/minatar
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder with rows below it, as in results/quick."""

    def run(self) -> None:
        from analysis.check import findings

        found = list(findings(self.study))
        for line in found:
            print(line)
        if found:
            print(f"{self.study}: {len(found)} findings", file=sys.stderr)
            sys.exit(1)
        print(f"{self.study}: nothing found")


if __name__ == "__main__":
    main(
        "python -m evaluate",
        {"run": Run, "watch": Watch, "check": Check, "probe": Probe},
        "Score agents by one protocol on the same episodes, watch and probe them, and check rows.",
    )
