"""python -m convert run | compare | import | export: turn a trained DQN into a rate-coded spiking network; hold methods
side by side; read a DQN of another project; write a spiking network for other simulators."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score

from convert import comparison, foreign, nir_export
from convert.comparison import VARIANTS
from convert.methods import MethodOptions, convert
from core.checkpoint import Checkpoint, load_agent, save_agent
from core.cli import main, specification
from core.device import pick_device, set_up_torch
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest
from core.progress import Progress
from core.rate_coded.network import RateCodedNetwork, Readout
from core.records import ConversionRow, EpisodeRow, Journal, to_json, write_bytes, write_rows
from core.seeding import require_seed
from play.options import ComputeOptions
from play.protocols import get_protocol
from play.states import batches, collect, greedy_actions


@dataclass(frozen=True, kw_only=True)
class Common(ComputeOptions):
    """What `run` and `compare` share."""

    agent: Path
    """Checkpoint of a DQN."""
    calibration_states: int = 15_000
    """States that thresholds and weights are made on."""
    test_states: int = 1000
    """Held-out states, from other episodes, on which choices are compared."""
    seed: int = 0
    """Of the episodes that states are collected from, and of distillation."""

    def begin(self) -> tuple[Checkpoint, DQN]:
        """Set up, refuse what cannot work, and read the DQN."""
        set_up_torch(self.threads)
        require_seed(self.seed)
        for name in ("calibration_states", "test_states"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}: at least 1 is needed")
        checkpoint = load_agent(self.agent, device=pick_device(self.device))
        dqn = checkpoint.agent
        if not isinstance(dqn, DQN) or dqn.kind != DQN.kind:  # an actor's logits are no Q-values
            raise Refusal(f"{self.agent} holds the agent {dqn.kind!r}: only a dqn can be converted")
        return checkpoint, dqn


@dataclass(frozen=True, kw_only=True)
class Run(MethodOptions, Common):
    """Convert a DQN, and measure on held-out states how often the spiking network decides as it does."""

    out: Path
    """The spiking network (.safetensors); OUT with the ending .conversion.parquet gets the agreement rows."""
    sim_steps: int = 500
    """Simulation steps a decision (that each layer fires for, with neurons that fire afterwards)."""
    quantised: bool = False
    """Write the quantised DQN beside it, OUT with the ending .quantised.safetensors: the same weights without time."""
    bindsnet_states: int = 0
    """Held-out states on which the network is also simulated in BindsNET and compared (slow)."""
    nir: Path | None = None
    """Write the spiking network as NIR too (.nir), as `convert export` does."""

    def run(self) -> None:
        if self.nir is not None:  # refuse now what would be refused after hours
            _require_ending(self.nir, ".nir", "--nir")
            nir_export.require_nir()
        self._convert()
        if self.nir is not None:
            Export(agent=self.out, out=self.nir).run()

    def _convert(self) -> None:
        if not 0 <= self.bindsnet_states <= self.test_states:
            raise Refusal(
                f"bindsnet_states is {self.bindsnet_states}: accepted is 0 to test_states ({self.test_states})"
            )
        if self.bindsnet_states and importlib.util.find_spec("bindsnet") is None:
            raise Refusal(
                f"bindsnet_states is {self.bindsnet_states}: BindsNET is not installed; 0 goes without"
            )
        _require_ending(self.out, ".safetensors")
        self.require_sound(self.sim_steps)
        checkpoint, dqn = self.begin()
        if self.nir is not None:
            nir_export.require_expressible(self.coding(self.sim_steps), dqn.padding)
        neuron = self.coding(self.sim_steps).neuron
        if self.bindsnet_states and (neuron.firing != "at-once" or neuron.tau is not None or self.presteps):
            raise Refusal(
                f"bindsnet_states is {self.bindsnet_states}: BindsNET knows no leak, presteps or later firing; "
                f"0 goes without"
            )
        options = specification(self, "agent", "out", "device", "threads", "nir")
        manifest = Manifest(
            self.out.with_suffix(".manifest.json"), {**options, "verb": "convert run", "agent": checkpoint.id}
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            calibration = collect(dqn, self.calibration_states, self.seed, "calibration")
            test = collect(dqn, self.test_states, self.seed, "conversion test", apart_from=calibration)
            converted = convert(dqn, calibration, self, self.sim_steps, self.seed, held_out=test)
            snn = converted.snn
            settings = {**options, **converted.settings()}

            few = test[: self.bindsnet_states]
            majority = {
                len(states): float(np.bincount(greedy_actions(dqn, states)).max() / len(states))
                for states in (test, few)
                if len(states)
            }

            def row(
                reference: str, readout: str, sim_steps: int, num_states: int, agreement: float
            ) -> ConversionRow:
                return ConversionRow(
                    game=dqn.game.name,
                    source_id=checkpoint.id,
                    train_seed=checkpoint.provenance["train_seed"],
                    method=self.method,
                    settings=to_json(settings),
                    reference=reference,
                    readout=readout,
                    sim_steps=sim_steps,
                    num_states=num_states,
                    agreement=agreement,
                    majority_share=majority[num_states],
                )

            rows = [
                row("dqn", readout, sim_steps, len(test), agreement)
                for (readout, sim_steps), agreement in agreements(dqn, snn, test).items()
            ]
            if len(few):
                rows += [
                    row("bindsnet", readout, self.sim_steps, len(few), agreement)
                    for readout, agreement in bindsnet_agreements(snn, few).items()
                ]
            rows_file = self.out.with_suffix(".conversion.parquet")
            provenance = {**checkpoint.provenance, "source_id": checkpoint.id, "conversion": settings}
            results = [self.out, rows_file]
            save_agent(self.out, snn, provenance)
            if self.quantised:
                results.append(self.out.with_suffix(".quantised.safetensors"))
                save_agent(results[-1], snn.quantised(), provenance)
            write_rows(rows_file, ConversionRow, rows)
            manifest.finish(results)
        if converted.guarded:
            print("output scale: its percentile was not positive, the percentile of magnitudes was taken")
        for each in rows:
            if each.sim_steps == self.sim_steps:
                print(
                    f"{each.game} {each.method} at {each.sim_steps} sim steps, {each.readout} read-out: "
                    f"{each.agreement:.1%} agreement with {each.reference} on {each.num_states} held-out states "
                    f"(the DQN's most frequent action: {each.majority_share:.1%})"
                )


@dataclass(frozen=True, kw_only=True)
class Compare(Common):
    """Hold conversions of one DQN side by side, at several numbers of simulation steps: agreement, regret, errors,
    spikes and, with --episodes, scores."""

    out: Path
    """Folder for the rows (methods.parquet, conversion_episodes.parquet) and the table (comparison.md)."""
    sim_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 500)
    """Numbers of simulation steps."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Methods, by the names in the table. Networks that are made for their sim steps end at 64 of them, distilled ones
    at 16: beyond, nothing is left to mend."""
    percentile: float = 99.9
    """Percentile of a layer's outputs that fires at every simulation step (tan2021, v-init)."""
    distil_updates: int = 5000
    """Gradient steps of each of the four rounds of qcfs and exact."""
    episodes: int = 0
    """Evaluation games that each network plays, on the same starts: their states are the SNN-driven ones."""
    protocol: str | None = None
    """Of those games; the game's usual one if not given."""

    def run(self) -> None:
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown or not self.variants:
            raise Refusal(f"variants are {' '.join(self.variants)!r}: accepted are {', '.join(VARIANTS)}")
        if not self.sim_steps or min(self.sim_steps) < 1:
            given = " ".join(map(str, self.sim_steps))
            raise Refusal(f"sim_steps is {given!r}: integers of at least 1 are needed")
        if self.episodes < 0:
            raise Refusal(f"episodes is {self.episodes}: 0 or more are accepted")
        variants = [name for name in self.variants if self.episodes or not comparison.is_carrying(name)]
        if not variants:
            raise Refusal(
                f"{' '.join(self.variants)} compares by whole games alone: --episodes is needed with it"
            )
        ends = max((comparison.most_sim_steps(name) for name in variants), default=0)
        if ends < min(self.sim_steps):
            raise Refusal(
                f"sim_steps is {min(self.sim_steps)} at least, and {' '.join(self.variants)} ends at {ends:g}"
            )
        base = MethodOptions(percentile=self.percentile, distil_updates=self.distil_updates)
        for name in self.variants:
            comparison.options_of(name, base).require_sound(1)
        checkpoint, dqn = self.begin()
        protocol = get_protocol(self.protocol, dqn.game)
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **specification(self, "agent", "out", "device", "threads"),
                "verb": "convert compare",
                "agent": checkpoint.id,
                "protocol": protocol.name,
            },
        )
        rows_file, games_file = (
            self.out / "methods.parquet",
            self.out / "conversion_episodes.parquet",
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            if len(variants) < len(self.variants):
                print("residual is left out: its decisions follow one another, so it needs --episodes")
            rows = Journal(rows_file, ConversionRow, manifest.spec)
            games = Journal(games_file, EpisodeRow, manifest.spec)
            calibration = collect(dqn, self.calibration_states, self.seed, "calibration")
            comparison.Comparison(
                checkpoint=checkpoint,
                dqn=dqn,
                base=base,
                calibration=calibration,
                test={
                    stream: collect(
                        dqn, self.test_states, self.seed, f"conversion {stream}", apart_from=calibration
                    )
                    for stream in comparison.STREAMS
                },
                protocol=protocol,
                episodes=self.episodes,
                seed=self.seed,
                rows=rows,
                games=games,
            ).run(variants, sorted(set(self.sim_steps)))
            rows.write()
            games.write()
            table = comparison.markdown(rows.rows, games.rows)
            write_bytes(self.out / "comparison.md", table.encode())
            manifest.finish([rows_file, games_file, self.out / "comparison.md"])
            rows.close()
            games.close()
        print(table)


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
        _require_ending(self.out, ".safetensors")
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
            neuron = agent.spiking.neuron
            print(
                f"the file tells neither neurons nor simulation steps, taken as in {network}: {neuron.charge}, tau "
                f"{neuron.tau:g}, threshold {neuron.threshold:g}, {neuron.reset} reset, {agent.spiking.sim_steps} "
                f"sim steps"
            )


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a spiking network, converted or a DSQN, as a NIR graph, for other simulators and for hardware."""

    agent: Path
    """Checkpoint of a rate-coded network or of a DSQN."""
    out: Path
    """NIR file to write (.nir)."""

    def run(self) -> None:
        _require_ending(self.out, ".nir")
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


def _require_ending(path: Path, ending: str, option: str = "--out") -> None:
    if path.suffix != ending:
        raise Refusal(f"{option} {path}: a file name that ends in {ending} is needed")


def agreements(dqn: DQN, snn: RateCodedNetwork, states: np.ndarray) -> dict[tuple[Readout, int], float]:
    """Share of states in which the spiking network prefers the DQN's action, by read-out and sim steps.

    One simulation gives every number of simulation steps: powers of two, and the network's own.
    """
    record_at = sorted(
        {2**power for power in range(snn.coding.sim_steps.bit_length())} | {snn.coding.sim_steps}
    )
    if snn.coding.neuron.firing == "afterwards":  # there is nothing to read before the end
        record_at = [snn.coding.sim_steps]
    # The read-out `current` gives the Q-values of `robust`.
    preferred: dict[Readout, list[np.ndarray]] = {"robust": [], "spikes": []}
    with Progress(f"agreement at {snn.coding.sim_steps} sim steps", len(states), "states") as progress:
        for batch in batches(snn, states):
            scores = snn.scores_over_time(batch, record_at)
            for readout, kept in preferred.items():
                kept.append(scores[readout].argmax(2).cpu().numpy())  # [R, B]
            progress.advance(len(batch))
    reference = greedy_actions(dqn, states)
    return {
        (readout, sim_steps): float(accuracy_score(reference, actions))
        for readout, kept in preferred.items()
        for sim_steps, actions in zip(record_at, np.concatenate(kept, axis=1), strict=True)
    }


def bindsnet_agreements(snn: RateCodedNetwork, states: np.ndarray) -> dict[Readout, float]:
    """The same between our simulation, with BindsNET's layer delay, and BindsNET's of the same weights."""
    from convert.bindsnet_check import bindsnet_scores

    ours = snn.varied(layer_delay=True).to("cpu")  # where BindsNET is built
    (inputs,) = batches(ours, states, size=len(states))
    counts, residuals = bindsnet_scores(ours, inputs)
    mine = {
        name: scores[0].numpy()
        for name, scores in ours.scores_over_time(inputs, [ours.coding.sim_steps]).items()
    }
    theirs: dict[Readout, np.ndarray] = {"robust": counts + residuals, "spikes": counts}  # current is robust
    return {
        readout: float(accuracy_score(scores.argmax(1), mine[readout].argmax(1)))
        for readout, scores in theirs.items()
    }


if __name__ == "__main__":
    main(
        "python -m convert",
        {"run": Run, "compare": Compare, "import": Import, "export": Export},
        "Turn a trained DQN, ours or another project's, into a spiking network that needs no further training.",
    )
