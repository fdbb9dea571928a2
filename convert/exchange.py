"""The verbs import (DQNs of other projects) and export (spiking networks for other simulators)."""

from pathlib import Path

from convert import foreign, foreign_files, nir_export
from convert.options import Export, Import
from core.checkpoint import save_agent
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import get_game, named_game
from core.layers import format_layers
from core.manifest import Manifest
from core.rate_coded.network import RateCodedNetwork
from core.records import write_bytes
from play.entrants import load


class ForeignImport(Import):
    """The work of the verb import."""

    def run(self) -> None:
        game = get_game(self.game)
        require_ending(self.out, ".safetensors")
        if self.out.resolve() == self.source.resolve():
            raise Refusal(f"--out {self.out} is the source: another file is needed")
        file = foreign_files.read(self.source)
        found = foreign.recognise(file, None if self.format == "auto" else self.format)
        network = foreign.choose_network(found, self.network)
        told = foreign.told(found, game, self.pixels)
        agent, actions = foreign.rebuild(found, game, network, told.pixels)
        label = network
        if agent.config().get("layers"):
            label += f"+layers={format_layers(agent.hidden, ',')}"
        spec = {"verb": "convert import", "source": file.sha256, "game": game.name, "network": network}
        if told.pixels == "bytes":  # it was not part of the work once
            spec["pixels"] = told.pixels
        manifest = Manifest(self.out.with_suffix(".manifest.json"), spec, [self.out])
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            provenance = {
                # Not the values of any training run here: no seed, an unknown number of decisions, no recipe.
                **{"train_seed": -1, "train_steps": -1, "recipe_steps": 0},
                "recipe": f"imported ({found.format})",
                "network": label,
                "scores_are_q_values": True,
                "source_name": self.source.name,
                "source_format": found.format,
                "source_sha256": file.sha256,
                # The game's action of each output of the network in the file.
                "source_actions": list(actions),
                # What the network in the file was given for a pixel; null on games without.
                "source_pixels": told.pixels,
                # What is not in the file.
                "assumed": [*told.assumed, *(["neuron", "sim_steps"] if isinstance(agent, DSQN) else [])],
            }
            save_agent(self.out, agent, provenance)
            manifest.finish([self.out])
        print(f"{self.out}: a {agent.kind} agent of {game.name}, read as {found.format}")
        if told.pixels == "bytes":
            print("the network was given bytes: the weights of its first layer are multiplied by 255")
        if len(actions) < game.num_actions:
            print(
                f"its {len(actions)} actions are the game's {', '.join(map(str, actions))}; others are never greedy"
            )
        if told.assumed:
            print(f"not in the file, and assumed: {'; '.join(told.assumed.values())}")
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


class NirExport(Export):
    """The work of the verb export."""

    def run(self) -> None:
        require_ending(self.out, ".nir")
        checkpoint = load(self.agent, named_game(self.game))
        agent = checkpoint.agent
        if not isinstance(agent, RateCodedNetwork | DSQN):
            raise Refusal(
                f"{self.agent} holds the agent {agent.kind!r}: only a rate-coded or a dsqn one can be exported"
            )
        manifest = Manifest(
            manifest_of_graph(self.out),
            {"verb": "convert export", "agent": checkpoint.id},
            [self.out],
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            content = nir_export.to_bytes(agent)
            write_bytes(self.out, content)
            manifest.finish([self.out])
        print(f"{self.out}: the {agent.kind} agent of {agent.game.name}, {len(content):,} bytes")


def manifest_of_graph(graph: Path) -> Path:
    """The manifest of an exported graph. A checkpoint of the same name has another beside it."""
    return graph.with_suffix(".nir.manifest.json")


def require_ending(path: Path, ending: str, option: str = "--out") -> None:
    """Refuse a file name that does not end as it must."""
    if path.suffix != ending:
        raise Refusal(f"{option} {path}: a file name that ends in {ending} is needed")
