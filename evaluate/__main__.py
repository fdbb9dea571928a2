"""python -m evaluate run: score an agent on its game."""

from dataclasses import dataclass, replace
from pathlib import Path

from core.checkpoint import Checkpoint, load_agent
from core.cli import main, specification
from core.device import pick_device, set_up_torch
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest
from core.networks import RandomPlay
from core.progress import Progress
from core.records import EpisodeRow, write_rows
from core.seeding import require_seed
from evaluate.evaluation import episode_row, play, require_at_least_one
from evaluate.options import PlayOptions
from evaluate.protocols import get_protocol
from evaluate.rollout import Step
from evaluate.statistics import mean_interval

_RANDOM_PLAY = {
    **{"train_seed": -1, "train_steps": 0, "recipe_steps": 0},
    **{"recipe": "", "network": "", "scores_are_q_values": False},
}


@dataclass(frozen=True, kw_only=True)
class Run(PlayOptions):
    """Play whole games under a protocol and write one row an episode (OUT/episodes.parquet)."""

    agent: str
    """Checkpoint (.safetensors) of any agent, or the word random."""
    out: Path
    """Folder for the rows; asked again with the same options, finished work is not done twice."""
    episodes: int | None = None
    """Games to play; the protocol's number if not given."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        checkpoint = self._load()
        game = get_game(self.game) if self.game else checkpoint.agent.game
        protocol = get_protocol(self.protocol, game)
        if checkpoint.agent.kind == RandomPlay.kind:
            protocol = replace(protocol, epsilon=1.0)
        episodes = protocol.episodes if self.episodes is None else self.episodes
        require_at_least_one(episodes=episodes, num_envs=self.num_envs)
        spec = specification(self, "out", "agent", "device", "threads", "num_envs")
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **spec,
                "verb": "evaluate run",
                "agent": checkpoint.id or self.agent,
                "game": game.name,
                "protocol": protocol.name,
                "episodes": episodes,
            },
        )
        rows_file = self.out / "episodes.parquet"
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            rows: list[EpisodeRow] = []
            decisions = 0

            def count(step: Step) -> None:
                nonlocal decisions
                decisions += len(step.slots)
                progress.advance(0, f"{decisions:,} decisions")

            with Progress(f"evaluate {game.name} {checkpoint.agent.kind}", episodes, "episodes") as progress:
                for played in play(
                    checkpoint.agent,
                    game,
                    protocol,
                    eval_seed=self.seed,
                    episodes=range(episodes),
                    num_envs=self.num_envs,
                    on_step=count,
                ):
                    rows.append(episode_row(played, checkpoint, game, protocol, self.seed))
                    progress.advance(1)
            rows.sort(key=lambda row: row.episode)
            write_rows(rows_file, EpisodeRow, rows)
            manifest.finish([rows_file])
        interval = mean_interval([row.score for row in rows])
        truncated = sum(row.truncated for row in rows)
        print(
            f"{game.name} {checkpoint.agent.kind}: mean score {interval.estimate:.2f}, 95 % interval over episodes "
            f"{interval.low:.2f} to {interval.high:.2f}, n = {len(rows)}, {truncated} truncated; {rows_file}"
        )

    def _load(self) -> Checkpoint:
        if self.agent != RandomPlay.kind:
            game = get_game(self.game) if self.game else None
            return load_agent(Path(self.agent), game, pick_device(self.device))
        if self.game is None:
            raise Refusal("agent 'random' knows no game: give one with --game")
        return Checkpoint(RandomPlay(get_game(self.game)), _RANDOM_PLAY, "")


if __name__ == "__main__":
    main(
        "python -m evaluate",
        {"run": Run},
        "Score agents: every agent by the same protocol, on the same episodes.",
    )
