"""Attacks on whole games: `python -m adversarial run`."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from adversarial.command import AskedAttacks, PlannedAttack, drop_unplanned
from adversarial.options import Run
from adversarial.threat import Threat
from analysis.statistics import mean_interval
from analysis.words import scored
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.device import set_up_torch
from core.errors import Refusal
from core.games import Game, get_game
from core.manifest import Manifest
from core.progress import Progress
from core.records import Journal
from core.rows import AttackRow
from play.environments import bounds
from play.episodes import Played, episode_row, play
from play.film.film import Film
from play.film.video import require_ffmpeg
from play.protocols import Protocol, get_protocol


class AttackOnGames(Run, AskedAttacks):
    """The work of the verb run."""

    def run(self) -> None:
        set_up_torch(self.threads)
        self.require_sound()
        if self.record:
            require_ffmpeg()
        checkpoint = self.victim(self.agent, self.game)
        game = get_game(self.game) if self.game else checkpoint.agent.game
        protocol = get_protocol(self.protocol, game)
        others = self.others(checkpoint, game)
        rows_file = self.out / "attacks.parquet"
        self.require_room([checkpoint.agent, *others.agents], min(self.num_envs, self.episodes))
        self._require_answers(checkpoint.agent)
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **self.spec("out", "agent", "transfer", "twin", "device", "threads", "num_envs", "record"),
                **others.ids,
                "verb": "adversarial run",
                "agent": checkpoint.id,
                "game": game.name,
                "protocol": protocol.name,
            },
            [rows_file],
        )
        planned: list[PlannedAttack] = []
        films: list[Film] = []
        with manifest.work() as needed:
            if needed or self.record:
                planned = self.planned(checkpoint.agent, others, game, self.seed)
            if self.record:
                films = [
                    self._film_of(number, attack.threat, checkpoint, game, protocol)
                    for number, attack in enumerate(planned)
                ]
            if needed:
                journal = Journal(rows_file, AttackRow, manifest.journal_spec)
                drop_unplanned(journal, planned)
                self._play(checkpoint, game, protocol, planned, journal)
                order = {attack.threat.key: index for index, attack in enumerate(planned)}
                journal.write(lambda row: (order[row.threat], row.episode))
                manifest.finish([rows_file])
                journal.close()
                _print_summary(checkpoint, game, planned, journal.rows)
            else:
                print(f"{rows_file}: already done")
        for film, (threat, perturb) in zip(films, planned, strict=False):  # no films if none are asked for
            film.record(perturb, threat.name)
            print(film.path)

    def _require_answers(self, victim: Agent) -> None:
        """Refuse attacks that ask a victim whose answers depend on what it carries from decision to decision."""
        asking = [attack.label for name in self.attack for attack in self.variants(name) if attack.asks]
        if not asking:
            return
        game, device = victim.game, victim.device
        opening = torch.zeros(1, *game.observation_shape, device=device).clamp(*bounds(game, device))
        with torch.no_grad():
            carries = victim.decide(opening).carry is not None
        if carries:
            raise Refusal(
                f"attack is {asking[0]}: it asks the victim, which carries membranes from decision to decision, and "
                "would get the answers of an episode's start; in whole games of such a network accepted are fgsm and "
                "noise that is drawn once"
            )

    def _play(
        self,
        checkpoint: Checkpoint,
        game: Game,
        protocol: Protocol,
        planned: Sequence[PlannedAttack],
        journal: Journal[AttackRow],
    ) -> None:
        """Play the games that the journal lacks."""
        victim = checkpoint.agent
        with Progress(
            f"attack {game.name} {victim.kind}",
            len(planned) * self.episodes,
            "episodes",
            done=len(journal.rows),
        ) as progress:
            for threat, perturb in planned:
                known = {row.episode for row in journal.rows if row.threat == threat.key}
                left = [episode for episode in range(self.episodes) if episode not in known]
                if not left:
                    continue
                for played in play(
                    victim,
                    game,
                    protocol,
                    eval_seed=self.seed,
                    episodes=left,
                    num_envs=self.num_envs,
                    perturb=perturb,
                ):
                    clean = asdict(episode_row(played, checkpoint, game, protocol, self.seed))
                    journal.add(AttackRow(**clean, **_attack_columns(played, threat)))
                    progress.advance(1, f"{threat.name} {threat.epsilon:.4g}")

    def _film_of(
        self, number: int, threat: Threat, checkpoint: Checkpoint, game: Game, protocol: Protocol
    ) -> Film:
        """The film of the first game of an attack.

        Args:
            number: place of the attack among the planned ones.
        """
        name = f"{number:02}-{threat.name.replace('/', '-')}-{threat.epsilon:.4g}-episode-0.mp4"
        return Film(self.out / name, checkpoint, game, protocol, self.seed, threat.key)


def _attack_columns(played: Played, threat: Threat) -> dict[str, Any]:
    """The columns of AttackRow beyond those of an episode."""
    return {
        "attack": threat.name,
        "attacker": threat.attacker,
        "epsilon": threat.epsilon,
        "gradient_source": threat.gradient_source,
        "threat": threat.key,
        "flip_share": played.flips / played.length_steps,
        "zero_gradient_share": played.zero_gradients / played.attacked if played.attacked else math.nan,
        "largest_perturbation": played.largest_perturbation,
        "attacked_share": played.attacked / played.length_steps,
    }


def _print_summary(
    checkpoint: Checkpoint, game: Game, planned: Sequence[PlannedAttack], played: Sequence[AttackRow]
) -> None:
    """One line for each attack: the mean score, and the share of decisions that it changed."""
    for threat, _ in planned:
        rows = [row for row in played if row.threat == threat.key]
        score = mean_interval([row.score for row in rows])
        decisions = sum(row.length_steps for row in rows)
        flips = sum(row.flip_share * row.length_steps for row in rows) / decisions
        print(
            f"{game.name} {checkpoint.agent.kind} {threat.label}: mean score {scored(score)}, {flips:.0%} of "
            "decisions flipped"
        )
