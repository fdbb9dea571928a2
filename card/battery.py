"""The battery of a card: the commands that measure one agent, and the folder that they write to. Never imports torch.

Each part is a command of a stage, started as a user would type it. The same battery again continues where it stopped.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core import memory, processes
from core.errors import Refusal
from core.extensions import EXTENSIONS
from core.games import Game, Tier
from core.manifest import read_manifest, require_unchanged_extensions

VERSION = 1
"""It grows when the commands change so that numbers of earlier cards do not compare with those of new ones."""
STATES = 512
"""States that are attacked, and states in which operations are counted."""
ATTACKED_EPISODES = 10
"""Games of each attack and size."""
QUERIES = 500
"""Queries of Square about each state, and draws of its control; fewer in proportion on fewer states than STATES."""
SEED = 1
"""Evaluation seed of all parts."""
EPSILONS: Mapping[Tier, tuple[str, ...]] = {
    "atari": ("0.0005", "1/255", "0.5"),
    "minatar": ("0.001", "0.01", "0.05", "0.5"),
    "control": ("0.01", "0.05", "0.5"),
}
"""Sizes of attacks, l_inf in network-input units: those of the studies in results/. At 0.5 every agent must fail."""


@dataclass(frozen=True)
class Battery:
    """The measurements of one agent on one game."""

    agent: str
    """Checkpoint, run folder or registered agent, as the user typed it."""
    game: Game
    episodes: int | None = None
    """Clean games; None plays the protocol's number."""
    states: int = STATES
    attacked_episodes: int = ATTACKED_EPISODES
    threads: int = 0
    device: str = "auto"
    transfer: tuple[str, ...] = ()
    """Other agents of the game, along whose gradients the agent is attacked too. A gate of robustness needs one."""
    twin: str | None = None
    """The DQN that a converted agent was made from, whose gradient is tried too."""

    @property
    def is_standard(self) -> bool:
        """Whether every number is the battery's own, so that the card compares with others."""
        asked = (self.episodes, self.states, self.attacked_episodes)
        return asked == (None, STATES, ATTACKED_EPISODES)

    def parts(self) -> "Iterator[Part]":
        """The parts in order, cheap ones first."""
        agent = ("--agent", self.agent, "--game", self.game.name)
        seed = ("--seed", str(SEED))
        sizes = EPSILONS[self.game.tier]
        counted = () if self.episodes is None else ("--episodes", str(self.episodes))
        lent = (
            *(("--transfer", *self.transfer) if self.transfer else ()),
            *(() if self.twin is None else ("--twin", self.twin)),
        )
        strength = ("--steps", "10", "20", "--restarts", "3", "--loss", "cross-entropy", "margin", *lent)
        in_games = ("--steps", "10", "--restarts", "3", "--loss", "margin", *lent)
        yield Part("games", ("evaluate", "run", *agent, *counted, *seed))
        counting = ("--states", str(self.states), "--embedding", "False")
        yield Part("operations", ("evaluate", "probe", *agent, *counting, *seed))
        states = ("adversarial", "states", *agent, *seed, "--states", str(self.states), "--epsilon", *sizes)
        queries = min(QUERIES, QUERIES * self.states // STATES)
        asked = (
            "--draws",
            "1",
            str(queries),
            *(() if queries == QUERIES else ("--set", f"queries={queries}")),
        )
        games = ("adversarial", "run", *agent, *seed, "--episodes", str(self.attacked_episodes))
        by_scores = ("square",) if len(self.game.observation_shape) == 3 else ()  # it needs an image
        yield Part(
            "states",
            (
                *(*states, "--attack", "random-sign", *by_scores, "fgsm", "pgd"),
                *(*asked, "--best-source", *strength),
            ),
            # An agent without a gradient is attacked by queries alone.
            instead=(
                *(*states, "--attack", "random-sign", *by_scores),
                *(*asked, *(("--loss", "cross-entropy", "margin") if by_scores else ())),
            ),
        )
        yield Part(
            "attacks",
            (*games, "--attack", "random-sign", "fgsm", "pgd", "--best-source", *in_games, "--epsilon", "0", *sizes),
            instead=(*games, "--attack", "random-sign", "--epsilon", "0", *sizes),
        )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One command of a battery."""

    name: str
    """Name of the folder with its rows."""
    words: tuple[str, ...]
    """The command, without `python -m`, threads and output folder."""
    instead: tuple[str, ...] = ()
    """The command for agents that the first one refuses."""

    def commands(self) -> Sequence[tuple[str, ...]]:
        """The commands to try, in order."""
        return (self.words, self.instead) if self.instead else (self.words,)


def run(battery: Battery, folder: Path) -> dict[str, str]:
    """Run every part, each in a folder of its own. A part that was finished before takes seconds.

    Args:
        battery: what to measure.
        folder: where the rows go.

    Returns:
        Why parts were refused, by name. An agent without layers, for example, has no operations to count.

    Raises:
        Refusal: the agent cannot be played, a command failed, or this machine has too little memory for it.
    """
    refused: dict[str, str] = {}
    parts = list(battery.parts())
    for part in parts:  # what changed since is no refusal of the agent's
        record = read_manifest(folder / part.name / "manifest.json")
        if record is not None:
            require_unchanged_extensions(record)
    for number, part in enumerate(parts, 1):
        for words in part.commands():
            print(f"card {number}/{len(parts)} {part.name}: {shlex.join(words)}", file=sys.stderr)
            reason = start(words, battery, folder / part.name)
            if reason is None:
                refused.pop(part.name, None)
                break
            if memory.is_lack(reason):  # which is not the agent's doing
                raise Refusal(f"{part.name}: {reason}")
            refused[part.name] = reason
        if "games" in refused:
            raise Refusal(refused["games"])
    return refused


def start(words: Sequence[str], battery: Battery, out: Path) -> str | None:
    """Run one command of a stage. None if it finished, else the line with which it refused.

    Raises:
        Refusal: it failed, which is not the agent's doing.
        KeyboardInterrupt: it was interrupted.
    """
    extensions = [word for name in EXTENSIONS for word in ("--extension", name)]
    common = ["--threads", str(battery.threads), "--device", battery.device, "--out", str(out)]
    command = [*words, *common, *extensions]
    with processes.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        last = ""
        try:
            for line in process.stderr:
                last = line.strip() or last
                if not line.startswith("error: "):
                    print(line, end="", file=sys.stderr)
        except KeyboardInterrupt:
            process.wait()  # it got the signal too, and saves its work
            raise
    if process.returncode == 0:
        return None
    if process.returncode == 2 and last.startswith("error: "):
        return last.removeprefix("error: ")
    if process.returncode == 130:
        raise KeyboardInterrupt
    raise Refusal(f"{shlex.join(command)} ended with exit code {process.returncode}: {last}")
