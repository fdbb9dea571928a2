"""convert import and convert export: DQNs from other projects, and spiking networks for other simulators."""

from dataclasses import dataclass
from pathlib import Path

from convert import foreign, nir_export
from core.checkpoint import load_agent, save_agent
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest
from core.rate_coded.network import RateCodedNetwork
from core.records import write_bytes


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a pretrained Nature-DQN of another project into a checkpoint; nothing that the file holds is run."""

    source: Path
    """What the other project saved."""
    game: str
    """The Atari game that it plays, which the file does not tell."""
    out: Path
    """Checkpoint to write (.safetensors)."""
    format: foreign.Format = "auto"
    """sb3 (Stable-Baselines3), cleanrl, aptx395 (Liu et al. 2022's code), atari-agents (floringogianu's), nature-same
    (an .npz of a DQN of Dopamine or OpenAI Baselines); auto tells them apart by what they call their weights."""
    network: str | None = None
    """For the spiking networks of aptx395: liu2022 (LIF) or liu2022-if, whose files do not differ; liu2022 if not
    given."""

    def run(self) -> None:
        game = get_game(self.game)
        require_ending(self.out, ".safetensors")
        if self.out.resolve() == self.source.resolve():
            raise Refusal(f"--out {self.out} is the source: another file is needed")
        weights, sha256 = foreign.read_weights(self.source)
        layout = foreign.recognise(self.source, weights, self.format)
        network = foreign.choose_network(self.source, layout, self.network)
        agent = foreign.rebuild(self.source, weights, layout, game, network)
        spec = {"verb": "convert import", "source": sha256, "game": game.name, "network": network}
        manifest = Manifest(self.out.with_suffix(".manifest.json"), spec)
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            provenance = {
                # Nobody can mistake these for a run of ours: no seed, an unknown number of decisions, no recipe.
                **{"train_seed": -1, "train_steps": -1, "recipe_steps": 0},
                "recipe": f"imported ({layout.format})",
                "network": network,
                "scores_are_q_values": True,
                "source_name": self.source.name,
                "source_format": layout.format,
                "source_sha256": sha256,
                # Fields of the agent's configuration that the file does not tell.
                "assumed": ["neuron", "sim_steps"] if isinstance(agent, DSQN) else [],
            }
            save_agent(self.out, agent, provenance)
            manifest.finish([self.out])
        print(f"{self.out}: a {agent.kind} agent of {game.name}, read as {layout.format}")
        if isinstance(agent, DSQN):
            config = agent.spiking.config()["neuron"]
            options = (
                f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in config.items()
                if name != "name"
            )
            print(
                f"the file tells neither neurons nor simulation steps, taken as in {network}: {config['name']}, "
                f"{', '.join(options)}, {agent.spiking.sim_steps} sim steps"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a spiking network, converted or a DSQN, as a NIR graph, for other simulators and for hardware."""

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
        # The checkpoint of the same name has its manifest beside it already.
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
    if path.suffix != ending:
        raise Refusal(f"{option} {path}: a file name that ends in {ending} is needed")
