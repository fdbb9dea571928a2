"""The verbs import (DQNs of other projects) and export (spiking networks for other simulators)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convert import foreign, foreign_files, nir_export
from core.checkpoint import load_agent, save_agent
from core.cli import OneOf
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import GAMES, Game, get_game
from core.manifest import Manifest
from core.rate_coded.network import RateCodedNetwork
from core.records import write_bytes


def atari_games() -> list[tuple[str, Game]]:
    """The registered Atari games, with their names."""
    return [(name, game) for name, game in GAMES.items() if game.tier == "atari"]


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a pretrained Nature-DQN of another project into a checkpoint. No code in the file is run."""

    source: Path
    """File that the other project saved."""
    game: Annotated[str, OneOf(atari_games, "The Atari game that it plays, which the file does not say.")]
    out: Path
    """Checkpoint to write (.safetensors)."""
    format: Annotated[
        str,
        OneOf(foreign.FORMATS.items, "Format of the file; auto recognises it by the names of the weights."),
    ] = "auto"
    network: Annotated[
        str | None,
        OneOf(
            lambda: foreign.networks().items(),
            "The network in the file. It is needed only for liu2022-if, whose files look like those of liu2022.",
        ),
    ] = None

    def run(self) -> None:
        game = get_game(self.game)
        require_ending(self.out, ".safetensors")
        if self.out.resolve() == self.source.resolve():
            raise Refusal(f"--out {self.out} is the source: another file is needed")
        weights, sha256 = foreign_files.read_weights(self.source)
        known = None if self.format == "auto" else self.format
        format, layout = foreign.recognise(self.source, weights, known)
        network = foreign.choose_network(self.source, layout, self.network)
        agent = foreign.rebuild(self.source, weights, layout, game, network)
        spec = {"verb": "convert import", "source": sha256, "game": game.name, "network": network}
        manifest = Manifest(self.out.with_suffix(".manifest.json"), spec)
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            provenance = {
                # Not the values of any training run here: no seed, an unknown number of decisions, no recipe.
                **{"train_seed": -1, "train_steps": -1, "recipe_steps": 0},
                "recipe": f"imported ({format})",
                "network": network,
                "scores_are_q_values": True,
                "source_name": self.source.name,
                "source_format": format,
                "source_sha256": sha256,
                # Fields of the agent's configuration that are not in the file.
                "assumed": ["neuron", "sim_steps"] if isinstance(agent, DSQN) else [],
            }
            save_agent(self.out, agent, provenance)
            manifest.finish([self.out])
        print(f"{self.out}: a {agent.kind} agent of {game.name}, read as {format}")
        if isinstance(agent, DSQN):
            config = agent.spiking.config()["neuron"]
            options = (
                f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in config.items()
                if name != "name"
            )
            print(
                f"neurons and simulation steps are not in the file; assumed are those of {network}: {config['name']}, "
                f"{', '.join(options)}, {agent.spiking.sim_steps} sim steps"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a converted network or a DSQN as a NIR graph, for other simulators and for hardware."""

    agent: Path
    """Checkpoint of a rate-coded network or of a DSQN."""
    out: Path
    """NIR file to write (.nir)."""

    def run(self) -> None:
        require_ending(self.out, ".nir")
        checkpoint = load_agent(self.agent)
        agent = checkpoint.agent
        if not isinstance(agent, RateCodedNetwork | DSQN):
            raise Refusal(
                f"{self.agent} holds the agent {agent.kind!r}: only a rate-coded or a dsqn one can be exported"
            )
        # A checkpoint of the same name has a manifest beside it already.
        manifest = Manifest(
            self.out.with_suffix(".nir.manifest.json"), {"verb": "convert export", "agent": checkpoint.id}
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            content = nir_export.to_bytes(agent)
            write_bytes(self.out, content)
            manifest.finish([self.out])
        print(f"{self.out}: the {agent.kind} agent of {agent.game.name}, {len(content):,} bytes")


def require_ending(path: Path, ending: str, option: str = "--out") -> None:
    """Refuse a file name that does not end as it must."""
    if path.suffix != ending:
        raise Refusal(f"{option} {path}: a file name that ends in {ending} is needed")
