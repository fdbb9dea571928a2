"""python -m card: measure one agent with the standard battery, or check a card."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from card.battery import ATTACKED_EPISODES, STATES, VERSION, Battery, run
from core.cli import main
from core.errors import Refusal
from core.games import named_game
from core.ranges import EpisodeCount, Whole
from play.options import AnAgent, ComputeOptions, GameOfAgent

PAGE = "card.html"


@dataclass(frozen=True, kw_only=True)
class MakeCard(ComputeOptions):
    """Measure one agent with the standard battery, and write OUT/card.json, OUT/card.html and its rows.

    The battery: the protocol's games; operations and energy on states of its play; the same states under noise, FGSM,
    PGD with restarts, the search by queries Square, and the strongest gradient; games under attack; the gates of
    robustness. It takes two to five minutes on one core for a MinAtar network. The same command again continues after a
    kill.

    --check verifies a card instead: its schema, the digests of its rows, what follows from them, and some of its games,
    which are played again.

    Examples:
        spikeq card --agent results/agents/minatar-breakout-dsqn-s0.safetensors --out runs/card
        spikeq card --agent my-snn --game minatar/breakout --extension my_snn --out runs/card
        spikeq card --check runs/card/card.json
    """

    agent: Annotated[
        str | None,
        AnAgent(
            "Needed without --check: the agent to measure. With --check: its place now, if the card names another."
        ),
    ] = None
    game: GameOfAgent = None
    out: Path | None = None
    """Needed without --check: folder of the card."""
    check: Path | None = None
    """A card to verify."""
    episodes: EpisodeCount | None = None
    """Clean games; the protocol's number if not given. With --check: games to play again, 10 if not given."""
    states: Annotated[int, Whole(31, 1_000_000)] = STATES
    """States that are attacked, and states in which operations are counted."""
    attacked_episodes: EpisodeCount = ATTACKED_EPISODES
    """Games of each attack and size."""
    transfer: Annotated[
        tuple[str, ...],
        AnAgent(
            "Other agents of the game, along whose gradients the agent is attacked too. A gate of robustness needs one."
        ),
    ] = ()
    twin: Annotated[
        str | None, AnAgent("The DQN that a converted agent was made from, whose gradient is tried too.")
    ] = None

    def run(self) -> None:
        if self.check is not None:
            self._check(self.check)
            return
        if self.agent is None or self.out is None:
            raise Refusal("--agent and --out are needed, or --check with a card")
        from card.content import content
        from card.files import CARD, VERB, read_card, write_card
        from card.page import summary, write_page
        from core.agents import RandomPlay
        from core.manifest import Manifest
        from core.records import digest
        from play.entrants import RUN_WEIGHTS, entrants, is_registered, load
        from play.states import require_room

        words, file = self.agent, None
        if not is_registered(words):
            file = Path(words)
            file = file / RUN_WEIGHTS["best"] if file.is_dir() else file
            words = str(file)
        (entrant,) = entrants(words, named_game(self.game))
        require_room(entrant.game, self.states, "attacked")  # before the games of the first part
        others = {word: load(word, entrant.game) for word in (*self.transfer, *filter(None, [self.twin]))}
        for word, other in others.items():
            if isinstance(other.agent, RandomPlay) or other.id == entrant.checkpoint.id:
                raise Refusal(
                    f"{word} is random play or the agent itself: another agent with a gradient is needed"
                )
        if self.twin is not None and others[self.twin].id in {others[word].id for word in self.transfer}:
            raise Refusal(
                f"transfer {self.twin} is the twin too: an agent that does not know the victim is needed"
            )
        numbers = (self.episodes, self.states, self.attacked_episodes)
        battery = Battery(words, entrant.game, *numbers, self.threads, self.device, self.transfer, self.twin)
        spec = {
            "verb": VERB,
            "battery": VERSION,
            "agent": entrant.checkpoint.id,
            "game": entrant.game.name,
            "episodes": self.episodes,
            "states": self.states,
            "attacked_episodes": self.attacked_episodes,
            "transfer": [others[word].id for word in self.transfer],
            "twin": None if self.twin is None else others[self.twin].id,
        }
        files = [self.out / CARD, self.out / PAGE]
        manifest = Manifest(self.out / "manifest.json", spec, files)
        with manifest.work() as needed:
            if needed:
                refused = run(battery, self.out)
                sha256 = None if file is None else digest(file.read_bytes())
                card = content(battery, self.out, refused, sha256)
                write_card(files[0], card)
                write_page(files[1], card)
                manifest.finish(files)
        print("\n".join(summary(read_card(files[0]))))
        print(os.fspath(files[1]))

    def _check(self, path: Path) -> None:
        from card.check import check

        for line in check(path, self.agent, self.episodes, self.threads):
            print(f"{os.fspath(path)}: {line}")


if __name__ == "__main__":
    main("python -m card", MakeCard)
