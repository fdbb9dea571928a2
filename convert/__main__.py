"""python -m convert run | import: turn a trained DQN into a rate-coded spiking network; read one of another project."""

import copy
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.metrics import accuracy_score

from convert import foreign, tan2021, thresholds
from convert.states import batches, collect, greedy_actions
from core.checkpoint import load_agent, save_agent
from core.cli import main, specification
from core.device import Device, pick_device, set_up_torch
from core.errors import Refusal
from core.games import get_game
from core.manifest import Manifest
from core.networks import DQN, DSQN
from core.progress import Progress
from core.rate_coded.network import READOUTS, RateCodedNetwork, Readout
from core.records import ConversionRow, to_json, write_rows
from core.seeding import require_seed


@dataclass(frozen=True, kw_only=True)
class Run:
    """Convert a DQN, and measure on held-out states how often the spiking network decides as it does."""

    agent: Path
    """Checkpoint of a DQN."""
    out: Path
    """The spiking network (.safetensors); OUT with the ending .conversion.parquet gets the agreement rows."""
    method: Literal["tan2021", "max", "threshold-search"] = "tan2021"
    """Where thresholds come from. tan2021: a percentile of each layer's outputs (Tan et al. 2021); max: the largest
    output; threshold-search: least squared error at --sim-steps, with membranes that start half-way."""
    percentile: float = 99.9
    """Percentile of a layer's outputs that fires at every simulation step (tan2021)."""
    thresholds: Literal["channel", "layer"] = "channel"
    """One threshold a channel or a layer (threshold-search)."""
    v_init: float | None = None
    """Membranes before a decision, in thresholds, in place of the method's own (threshold-search: 0.5; others: 0)."""
    sim_steps: int = 500
    """Simulation steps a decision."""
    readout: Readout = "robust"
    """robust: output spikes plus residual membrane; spikes: output spikes alone."""
    layer_delay: bool = False
    """Let every layer cost one simulation step of delay, as in Tan's simulator BindsNET."""
    calibration_states: int = 15_000
    """States that the percentiles are taken over."""
    test_states: int = 1000
    """Held-out states, from other episodes, on which agreement is measured."""
    bindsnet_states: int = 0
    """Held-out states on which the network is also simulated in BindsNET and compared (slow)."""
    seed: int = 0
    """Of the episodes that states are collected from."""
    device: Device = "auto"
    """Where networks run."""
    threads: int = 0
    """CPU threads; 0 takes all."""

    def run(self) -> None:
        set_up_torch(self.threads)
        require_seed(self.seed)
        if not 0 < self.percentile <= 100:
            raise Refusal(f"percentile is {self.percentile}: accepted is above 0 and up to 100")
        for name in ("sim_steps", "calibration_states", "test_states"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}: at least 1 is needed")
        if not 0 <= self.bindsnet_states <= self.test_states:
            raise Refusal(
                f"bindsnet_states is {self.bindsnet_states}: accepted is 0 to test_states ({self.test_states})"
            )
        if self.bindsnet_states and importlib.util.find_spec("bindsnet") is None:
            raise Refusal(
                f"bindsnet_states is {self.bindsnet_states}: BindsNET is not installed; 0 goes without"
            )
        _require_safetensors(self.out)
        checkpoint = load_agent(self.agent, device=pick_device(self.device))
        dqn = checkpoint.agent
        if not isinstance(dqn, DQN):
            raise Refusal(f"{self.agent} is a {dqn.kind} agent: only a dqn can be converted")
        options = specification(self, "agent", "out", "device", "threads")
        manifest = Manifest(
            self.out.with_suffix(".manifest.json"), {**options, "verb": "convert run", "agent": checkpoint.id}
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            calibration = collect(dqn, self.calibration_states, self.seed, "calibration")
            scales, guarded = self._scales(dqn, calibration)
            snn = tan2021.convert(
                dqn,
                scales,
                sim_steps=self.sim_steps,
                readout=self.readout,
                layer_delay=self.layer_delay,
                v_init=self._membranes(),
            )
            test = collect(dqn, self.test_states, self.seed, "conversion test")
            settings = {**options, "scales": scales, "output_scale_guarded": guarded}

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
            save_agent(
                self.out, snn, {**checkpoint.provenance, "source_id": checkpoint.id, "conversion": settings}
            )
            write_rows(rows_file, ConversionRow, rows)
            manifest.finish([self.out, rows_file])
        if guarded:
            print("output scale: its percentile was not positive, the percentile of magnitudes was taken")
        for each in rows:
            if each.sim_steps == self.sim_steps:
                print(
                    f"{each.game} {each.method} at {each.sim_steps} sim steps, {each.readout} read-out: "
                    f"{each.agreement:.1%} agreement with {each.reference} on {each.num_states} held-out states "
                    f"(the DQN's most frequent action: {each.majority_share:.1%})"
                )

    def _membranes(self) -> float:
        """Where membranes start, in thresholds."""
        if self.v_init is not None:
            return self.v_init
        return 0.5 if self.method == "threshold-search" else 0.0

    def _scales(self, dqn: DQN, states: np.ndarray) -> tuple[list[float] | list[list[float]], bool]:
        """What fires at every simulation step, by layer or channel, and whether the output's had to be replaced."""
        if self.method == "threshold-search":
            by_channel = self.thresholds == "channel"
            found = thresholds.least_squares(dqn, states, self.sim_steps, self._membranes(), by_channel)
            return [scale.tolist() for scale in found], False
        return tan2021.guarded_scales(dqn, states, self.percentile if self.method == "tan2021" else 100.0)


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
    """sb3 (Stable-Baselines3), cleanrl, aptx395 (Liu et al. 2022's code), atari-agents (floringogianu's); auto tells
    them apart by what they call their weights."""
    network: str | None = None
    """For the spiking networks of aptx395: liu2022 (LIF) or liu2022-if, whose files do not differ; liu2022 if not
    given."""

    def run(self) -> None:
        game = get_game(self.game)
        _require_safetensors(self.out)
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


def _require_safetensors(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise Refusal(f"--out {out}: a file name that ends in .safetensors is needed")


def agreements(dqn: DQN, snn: RateCodedNetwork, states: np.ndarray) -> dict[tuple[Readout, int], float]:
    """Share of states in which the spiking network prefers the DQN's action, by read-out and sim steps.

    One simulation gives every number of simulation steps: powers of two, and the network's own.
    """
    record_at = sorted({2**power for power in range(snn.sim_steps.bit_length())} | {snn.sim_steps})
    preferred: dict[Readout, list[np.ndarray]] = {readout: [] for readout in READOUTS}
    with Progress(f"agreement at {snn.sim_steps} sim steps", len(states), "states") as progress:
        for batch in batches(snn, states):
            for readout, scores in snn.scores_over_time(batch, record_at).items():
                preferred[readout].append(scores.argmax(2).cpu().numpy())  # [R, B]
            progress.advance(len(batch))
    reference = greedy_actions(dqn, states)
    return {
        (readout, sim_steps): float(accuracy_score(reference, actions))
        for readout in READOUTS
        for sim_steps, actions in zip(record_at, np.concatenate(preferred[readout], axis=1), strict=True)
    }


def bindsnet_agreements(snn: RateCodedNetwork, states: np.ndarray) -> dict[Readout, float]:
    """The same between our simulation, with BindsNET's layer delay, and BindsNET's of the same weights."""
    from convert.bindsnet_check import bindsnet_scores

    ours = copy.deepcopy(snn).cpu()
    ours.layer_delay = True
    (inputs,) = batches(ours, states, size=len(states))
    counts, residuals = bindsnet_scores(ours, inputs)
    mine = {
        name: scores[0].numpy() for name, scores in ours.scores_over_time(inputs, [ours.sim_steps]).items()
    }
    theirs: dict[Readout, np.ndarray] = {"robust": counts + residuals, "spikes": counts}
    return {
        readout: float(accuracy_score(theirs[readout].argmax(1), mine[readout].argmax(1)))
        for readout in READOUTS
    }


if __name__ == "__main__":
    main(
        "python -m convert",
        {"run": Run, "import": Import},
        "Turn a trained DQN, ours or another project's, into a spiking network that needs no further training.",
    )
