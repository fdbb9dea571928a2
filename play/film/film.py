"""The film of the first game: recorded once, with a manifest beside it that tells what it shows."""

from pathlib import Path

from core.checkpoint import Checkpoint
from core.games import Game
from core.manifest import Manifest
from play.episodes import Played
from play.film.video import record
from play.protocols import Protocol
from play.rollout import Perturb


class Film:
    """A film and its manifest, FILM.manifest.json for FILM.mp4.

    Args:
        path: the film, .mp4.
        checkpoint: the agent that plays.
        game: the game that is played.
        protocol: how it is played, resolved for the game.
        eval_seed: seed of the evaluation that the game belongs to.
        threat: key of the attack, if any.

    Raises:
        Refusal: the film of somebody else is there, or one that was changed.
    """

    def __init__(
        self,
        path: Path,
        checkpoint: Checkpoint,
        game: Game,
        protocol: Protocol,
        eval_seed: int,
        threat: str = "",
    ):
        self.path = path
        self._shown = checkpoint, game, protocol
        self._eval_seed = eval_seed
        spec = {
            "verb": "film",
            "agent": checkpoint.id or checkpoint.agent.kind,
            "game": game.name,
            "protocol": protocol.name,
            "seed": eval_seed,
            "threat": threat,
        }
        self._manifest = Manifest(path.with_suffix(".manifest.json"), spec, [path])

    def record(self, perturb: Perturb | None = None, attack: str = "perturbation") -> Played | None:
        """Record the film, unless that was done. Returns the game's sums; None if it was done before.

        Args:
            perturb: the attack, if any. The film then shows the clean game and the perturbation too.
            attack: name of the attack.
        """
        with self._manifest.work() as needed:
            if not needed:
                return None
            played = record(
                self.path, *self._shown, eval_seed=self._eval_seed, perturb=perturb, attack=attack
            )
            self._manifest.finish([self.path])
            return played
