"""Scoring of agents: their games, one row per episode, and a film of the first game of each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from analysis.statistics import mean_interval
from analysis.words import instead, score_bounds
from core.errors import Refusal
from core.games import Game
from core.manifest import Manifest
from core.progress import Progress
from core.records import Journal, read_rows
from core.rows import EpisodeRow
from play.entrants import Entrant, entrants, is_registered
from play.episodes import episode_row, play, settings
from play.film.film import Film
from play.protocols import Protocol
from play.rollout import Step


@dataclass(frozen=True)
class Evaluation:
    """The games of one entrant."""

    entrant: Entrant
    protocol: Protocol
    episodes: int
    """Number of games."""
    eval_seed: int
    """Seed of the starts of games."""

    @property
    def label(self) -> str:
        """Name of the entrant in messages, as in "pong dqn (best)"."""
        which = " and ".join(filter(None, self.entrant.which))
        return f"{self.entrant.game.name} {self.entrant.checkpoint.agent.kind}{which and f' ({which})'}"

    @property
    def entry(self) -> tuple[str, str]:
        """Agent and game as the specification names them."""
        agent, game = self.entrant.key
        return agent or self.entrant.checkpoint.agent.kind, game

    def of(self, rows: Sequence[EpisodeRow]) -> dict[int, EpisodeRow]:
        """Its rows among those of a file, by episode."""
        return {row.episode: row for row in rows if (row.checkpoint_id, row.game) == self.entrant.key}


def line_up(
    agents: Sequence[str | os.PathLike[str]], game: Game | None, device: torch.device | None = None
) -> list[Entrant]:
    """The entrants of all agents, once for each game that they play, registered agents first.

    Args:
        agents: words of --agent, see `play.entrants.entrants`.
        game: the game that all play. If None, checkpoints play their own games, and registered agents all of these.
        device: where the agents run; the CPU if None.

    Raises:
        Refusal: an agent cannot be loaded, or there is no game to play.
    """
    found: dict[tuple[str, str], Entrant] = {}
    for agent in agents:
        for entrant in [] if is_registered(agent) else entrants(agent, game, device):
            others = found[entrant.key].which if entrant.key in found else ()
            which = tuple(dict.fromkeys((*others, *entrant.which)))
            # A file that is also in a named run folder counts as part of the folder.
            found[entrant.key] = replace(entrant, which=tuple(filter(None, which)) or which)
    own = dict.fromkeys(entrant.game for entrant in found.values())
    games: list[Game | None] = [game] if game or not own else [*own]
    registered = [
        entrant
        for agent in dict.fromkeys(filter(is_registered, agents))
        for each in games
        for entrant in entrants(agent, each, device)
    ]
    return [*registered, *found.values()]


def score(evaluations: Sequence[Evaluation], manifest: Manifest, rows_file: Path, num_envs: int) -> None:
    """Play the games that are missing, write all rows, and print each mean score.

    Args:
        evaluations: the games of each entrant.
        manifest: of this work; it records that the work is finished.
        rows_file: the file for the rows.
        num_envs: games played side by side.
    """
    # Rows of other library versions cannot be compared. The specification has versions, so such rows are not continued.
    under = [settings(each.entrant.game, each.protocol) for each in evaluations]
    journal = Journal(rows_file, EpisodeRow, {**manifest.journal_spec, "settings": under})
    if not journal.rows and rows_file.is_file():  # finished work to which these evaluations are added
        journal.rows += read_rows(rows_file, EpisodeRow)
        journal.keep()
    order = list(zip(manifest.spec["agent"], manifest.spec["game"], strict=True))
    _require_others(journal.rows, evaluations, manifest)
    known = {(row.checkpoint_id, row.game, row.episode) for row in journal.rows}
    total = sum(each.episodes for each in evaluations)
    with Progress("evaluate", total, "episodes", done=len(known)) as progress:
        for each in evaluations:
            left = [number for number in range(each.episodes) if (*each.entrant.key, number) not in known]
            if left:
                _play(each, left, journal, progress, num_envs)
    journal.write(lambda row: (order.index(_entry(row)), row.checkpoint, row.episode))
    manifest.finish([rows_file])
    journal.close()
    for each in evaluations:
        played = each.of(journal.rows).values()
        score = mean_interval([row.score for row in played])
        found = score_bounds(score)
        if not instead(score):
            found = f"95 % interval over episodes {found}, n = {score.n}"
        truncated = sum(row.truncated for row in played)
        print(f"{each.label}: mean score {score.estimate:.2f}, {found}, {truncated} truncated")
    print(rows_file)


def _entry(row: EpisodeRow) -> tuple[str, str]:
    """Agent and game of a row, as the specification names them."""
    return row.checkpoint_id or row.agent, row.game


def _require_others(
    rows: Sequence[EpisodeRow], evaluations: Sequence[Evaluation], manifest: Manifest
) -> None:
    """Refuse to finish a folder in which agents that are not named now are unfinished."""
    own = {each.entry for each in evaluations}
    spec = manifest.spec
    for agent, game, episodes in zip(spec["agent"], spec["game"], spec["episodes"], strict=True):
        if (agent, game) not in own:
            played = {row.episode for row in rows if _entry(row) == (agent, game)}
            if len(played) < episodes:
                raise Refusal(
                    f"{manifest.path} is of unfinished work that has agent {agent} too ({len(played)} of {episodes} "
                    "games): name it again with --agent"
                )


def _play(
    evaluation: Evaluation,
    episodes: Sequence[int],
    journal: Journal[EpisodeRow],
    progress: Progress,
    num_envs: int,
) -> None:
    """Play some episodes of an evaluation, and keep their rows."""
    entrant, protocol, eval_seed = evaluation.entrant, evaluation.protocol, evaluation.eval_seed
    agent = entrant.checkpoint.agent
    decisions = 0

    def count(step: Step) -> None:
        nonlocal decisions
        decisions += len(step.slots)
        progress.advance(0, f"{entrant.game.name} {agent.kind}, {decisions:,} decisions")

    for played in play(
        agent,
        entrant.game,
        protocol,
        eval_seed=eval_seed,
        episodes=episodes,
        num_envs=num_envs,
        on_step=count,
    ):
        journal.add(
            *(
                episode_row(played, entrant.checkpoint, entrant.game, protocol, eval_seed, which=which)
                for which in entrant.which
            )
        )
        progress.advance(1)


def film_of(evaluation: Evaluation, folder: Path) -> Film:
    """The film of the first episode, in a folder.

    Raises:
        Refusal: the film of somebody else is there, or one that was changed.
    """
    checkpoint, game = evaluation.entrant.checkpoint, evaluation.entrant.game
    name = "-".join(filter(None, (game.name.replace("/", "-"), checkpoint.agent.kind, checkpoint.id)))
    return Film(folder / f"{name}-episode-0.mp4", checkpoint, game, evaluation.protocol, evaluation.eval_seed)


def record(film: Film, evaluation: Evaluation, rows_file: Path) -> None:
    """Record the first episode, unless that was done.

    It is played once more, alone, because the scored game may have been played before a kill.
    """
    played = film.record()
    if played is None:
        print(f"{film.path}: already done")
        return
    scored = evaluation.of(read_rows(rows_file, EpisodeRow))[0]
    # Played alone, Q-values may differ in the last bit, so a tie between two actions may be broken differently.
    other = ""
    if (played.score, played.length_steps) != (scored.score, scored.length_steps):
        other = f", which differs from the scored game ({scored.score:g}) because Q-values were nearly tied"
    print(f"{film.path}: {played.length_steps:,} decisions, score {played.score:g}{other}")


def require_new_names(entrants: Sequence[Entrant], rows_file: Path) -> None:
    """Refuse to add agents that rows would take for one that was scored before with other weights.

    Args:
        entrants: agents of a command, of which those that are in the rows are the same if their weights are.
        rows_file: the rows to which they are added.
    """
    named = ("agent", "network", "recipe", "train_seed", "variant")
    there = {
        (row.game, *(getattr(row, name) for name in named), row.sim_steps, row.checkpoint): row.checkpoint_id
        for row in read_rows(rows_file, EpisodeRow)
    }
    for entrant in entrants:
        checkpoint, agent = entrant.checkpoint, entrant.checkpoint.agent
        sim_steps = getattr(agent, "latency_sim_steps", agent.sim_steps)  # what rows of a conversion tell
        own = (entrant.game.name, *(checkpoint.columns[name] for name in named), sim_steps)
        for which in entrant.which:
            other = there.get((*own, which), checkpoint.id)
            if other != checkpoint.id:
                raise Refusal(
                    f"{rows_file} has games of {agent.kind} with other weights ({other}), which are named as these "
                    f"({checkpoint.id}) are; choose another --out"
                )
