"""python -m adversarial run: play under attack."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from adversarial.attacks import make_attack
from adversarial.threats import Attack, require_epsilon
from core.checkpoint import load_agent
from core.cli import Number, main, specification
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest
from core.progress import Progress
from core.records import AttackRow, Journal, to_json
from core.seeding import require_seed
from evaluate.evaluation import episode_row, play, require_at_least_one
from evaluate.options import PlayOptions
from evaluate.protocols import get_protocol
from evaluate.statistics import mean_interval


@dataclass(frozen=True, kw_only=True)
class Run(PlayOptions):
    """Play whole games while every observation is perturbed; one row an episode (OUT/attacks.parquet).

    FGSM follows the gradient of the agent itself; of a converted network, that of the DQN it came from. Every
    row says which. Episodes have the same starts for every agent, attack and size.
    """

    agent: Path
    """Checkpoint (.safetensors) of any agent."""
    out: Path
    """Folder for the rows."""
    attack: tuple[Attack, ...] = ("fgsm", "random-sign")
    """fgsm: fast gradient sign method; random-sign: noise of the same size, its control."""
    epsilon: tuple[Number, ...] = (0.0, 0.001, 1 / 255)
    """l_inf sizes in network-input units, fractions allowed (1/255 is one grey level); 0 is the clean game."""
    episodes: int = 10
    """Games for every attack and size."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        require_at_least_one(episodes=self.episodes, num_envs=self.num_envs)
        for epsilon in self.epsilon:
            require_epsilon(epsilon)
        if not self.attack or not self.epsilon:
            raise Refusal("no attack or no epsilon given: at least one of each is needed")
        game = get_game(self.game) if self.game else None
        checkpoint = load_agent(self.agent, game, pick_device(self.device))
        victim = checkpoint.agent
        game = game or victim.game
        protocol = get_protocol(self.protocol, game)
        spec = specification(self, "out", "agent", "device", "threads", "num_envs")
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **spec,
                "verb": "adversarial run",
                "agent": checkpoint.id,
                "game": game.name,
                "protocol": protocol.name,
            },
        )
        rows_file = self.out / "attacks.parquet"
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            # The clean game is the same whatever attack is not used, so it is played once.
            cells = sorted(
                {
                    (attack if epsilon else self.attack[0], epsilon)
                    for attack in self.attack
                    for epsilon in self.epsilon
                }
            )
            journal = Journal(rows_file, AttackRow, manifest.spec)
            rows = journal.rows
            with Progress(
                f"attack {game.name} {victim.kind}", len(cells) * self.episodes, "episodes", done=len(rows)
            ) as progress:
                for attack, epsilon in cells:
                    threat, perturb = make_attack(attack, epsilon, victim, game)
                    known = {
                        row.episode for row in rows if (row.attack, row.epsilon) == (threat.attack, epsilon)
                    }
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
                        clean = episode_row(played, checkpoint, game, protocol, self.seed)
                        journal.add(
                            AttackRow(
                                **asdict(clean),
                                attack=threat.attack,
                                epsilon=epsilon,
                                gradient_source=threat.gradient_source,
                                threat=to_json(asdict(threat)),
                                flip_share=played.flips / played.length_steps,
                                zero_gradient_share=(
                                    played.zero_gradients / played.length_steps
                                    if threat.gradient_source
                                    else math.nan
                                ),
                                largest_perturbation=played.largest_perturbation,
                            )
                        )
                        progress.advance(1, f"{threat.attack} {epsilon:.4g}")
            journal.write(lambda row: (row.attack, row.epsilon, row.episode))
            manifest.finish([rows_file])
            journal.close()
        for name, epsilon in sorted({(row.attack, row.epsilon) for row in rows}):
            cell = [row for row in rows if (row.attack, row.epsilon) == (name, epsilon)]
            interval = mean_interval([row.score for row in cell])
            decisions = sum(row.length_steps for row in cell)
            flips = sum(row.flip_share * row.length_steps for row in cell) / decisions
            source = f" through {cell[0].gradient_source}" if cell[0].gradient_source else ""
            print(
                f"{game.name} {victim.kind} {name}{source} epsilon {epsilon:.4g}: mean score {interval.estimate:.2f} "
                f"[{interval.low:.2f}, {interval.high:.2f}], {flips:.0%} of decisions flipped, n = {len(cell)}"
            )


if __name__ == "__main__":
    main("python -m adversarial", {"run": Run}, "Attack agents, and say by whose gradient.")
