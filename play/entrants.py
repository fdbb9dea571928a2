"""Who plays: from what a user types after --agent to agents that are ready to play."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core.agents import AGENTS, Agent, RandomPlay
from core.checkpoint import Checkpoint, load_agent
from core.errors import Refusal, failure
from core.games import Game
from core.kinds import KINDS
from core.records import to_json
from play.protocols import Protocol, get_protocol

RUN_WEIGHTS: Mapping[str, str] = {"best": "best.safetensors", "final": "agent.safetensors"}
"""Files in the folder of a training run: its best weights on validation episodes, and its last ones."""


@dataclass(frozen=True)
class Entrant:
    """An agent and the game that it is to play."""

    checkpoint: Checkpoint
    """The agent, and what is known of it."""
    game: Game
    """The game that it plays."""
    which: tuple[str, ...] = ("",)
    """Which weights of a training run these are: best, final, or both where they are the same; "" for other agents."""

    @property
    def key(self) -> tuple[str, str]:
        """Checkpoint id and game, which tell its rows from those of others."""
        return self.checkpoint.id, self.game.name

    def protocol(self, name: str | None) -> Protocol:
        """The protocol of a name as it applies to this entrant; None is the usual one of the game.

        Random play takes every action at random, whatever the protocol's epsilon is.
        """
        protocol = get_protocol(name, self.game)
        return replace(protocol, epsilon=1.0) if isinstance(self.checkpoint.agent, RandomPlay) else protocol


def is_registered(agent: str | os.PathLike[str]) -> bool:
    """Whether this is the name of a registered agent. A `PathLike` is always a path; so is ./NAME."""
    return isinstance(agent, str) and agent in AGENTS


def entrants(
    agent: str | os.PathLike[str], game: Game | None = None, device: torch.device | None = None
) -> list[Entrant]:
    """The agents behind one word of --agent, in evaluation mode.

    Args:
        agent: the name of a registered agent, a checkpoint (.safetensors), or a run folder of train_direct.
        game: the game to play. A checkpoint plays its own game if this is None; a registered agent needs a game.
        device: where the agents run; the CPU if None.

    Returns:
        One entrant. A run folder gives two: the best weights on validation episodes, then the final ones.

    Raises:
        Refusal: there is no such agent, its file is damaged, or it does not fit the game.
    """
    if is_registered(agent):
        if game is None:
            raise Refusal(f"agent {agent!r} knows no game: give one with --game")
        return [Entrant(_registered(str(agent), game, device), game)]
    path = Path(agent)
    if not path.exists() and str(agent) == path.stem:
        raise Refusal(
            f"no checkpoint at {path}, and no agent is registered by that name ({', '.join(AGENTS)}; "
            "one of your own needs its --extension)"
        )
    files = {which: path / name for which, name in RUN_WEIGHTS.items()} if path.is_dir() else {"": path}
    found = []
    for which, file in files.items():
        checkpoint = load_agent(file, game, device)
        found.append(Entrant(checkpoint, game or checkpoint.agent.game, (which,)))
    return found


def load(
    agent: str | os.PathLike[str], game: Game | None = None, device: torch.device | None = None
) -> Checkpoint:
    """The one agent that a word of the command line names; of a run folder, its best weights.

    Args and errors: as in `entrants`.
    """
    if not is_registered(agent) and Path(agent).is_dir():
        agent = Path(agent) / RUN_WEIGHTS["best"]
    return entrants(agent, game, device)[0].checkpoint


def _registered(name: str, game: Game, device: torch.device | None) -> Checkpoint:
    """A registered agent for a game."""
    make = AGENTS[name]
    try:
        agent = make(game)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"agent {name!r} cannot be made for {game.name}: {failure(error)}") from error
    if not isinstance(agent, Agent):
        raise Refusal(f"agent {name!r} is a {type(agent).__name__}: an Agent (core/agents.py) is needed")
    agent.requires_grad_(False).eval()
    agent.registered_as = name
    is_random = isinstance(agent, RandomPlay)
    provenance = {
        "train_seed": -1,
        "train_steps": 0 if is_random else -1,
        "recipe_steps": 0,
        "recipe": "",
        "network": "" if is_random else name,
        "scores_are_q_values": agent.scores_are_q_values,
    }
    identity = "" if is_random else _identity(name, agent)
    if agent.kind == "adapted" and name not in KINDS:
        agent.kind = name  # rows, tables and figures tell such networks apart by the names that users gave
    return Checkpoint(agent.to(device or torch.device("cpu")), provenance, identity)


def _identity(name: str, agent: Agent) -> str:
    """12 hex digits for a registered agent, from its name, kind, options, weights and the file that registers it."""
    content = hashlib.sha256(to_json([name, agent.kind, agent.config(), AGENTS.source(name)]).encode())
    for key, tensor in sorted(agent.state_dict().items()):
        content.update(to_json([key, str(tensor.dtype), list(tensor.shape)]).encode())
        content.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:12]
