"""convert run: convert a DQN, and measure how often the spiking network makes the same decisions."""

import importlib.util
from typing import Any

import numpy as np

from convert import nir_export
from convert.exchange import NirExport, manifest_of_graph, require_ending
from convert.measurement import agreements, bindsnet_agreements
from convert.method import Method, Training
from convert.options import NAMED_OPTIONS, Run, recorded
from convert.variants import name_of
from core.checkpoint import Checkpoint, save_agent
from core.cli import specification
from core.dqn import DQN
from core.errors import Refusal
from core.manifest import Manifest, require_free
from core.rate_coded.network import RateCodedNetwork, RateCoding
from core.records import to_json, write_rows
from core.rows import ConversionRow
from play.options import of_game
from play.states import collect, greedy_actions


class Conversion(Run):
    """The work of the verb run."""

    def run(self) -> None:
        if self.nir is not None:  # refuse before the work begins
            require_ending(self.nir, ".nir", "--nir")
            nir_export.require_nir()
            require_free(manifest_of_graph(self.nir), [self.nir])
        self._convert()
        if self.nir is not None:
            NirExport(agent=str(self.out), out=self.nir).run()

    def _convert(self) -> None:
        method = self.chosen()
        coding = self.coding(self.sim_steps, method)
        self._require_bindsnet(coding)
        require_ending(self.out, ".safetensors")
        method.require_sound(coding)
        checkpoint, dqn = self.begin()
        method.require_convertible(dqn)
        if self.nir is not None:
            nir_export.require_expressible(coding, dqn.padding)
        left_out = ("agent", "game", "out", "device", "threads", "nir", "method_options", *NAMED_OPTIONS)
        options = {**specification(self, *left_out), **recorded(method)}
        rows_file, quantised = map(self.out.with_suffix, (".conversion.parquet", ".quantised.safetensors"))
        results = [self.out, rows_file, *([quantised] if self.quantised else [])]
        manifest = Manifest(
            self.out.with_suffix(".manifest.json"),
            {**options, **of_game(self.game), "verb": "convert run", "agent": checkpoint.id},
            results,
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{self.out}: already done")
                return
            method.require_room(dqn, self.calibration_states)
            calibration = collect(dqn, self.calibration_states, self.seed, "calibration")
            test = collect(dqn, self.test_states, self.seed, "conversion test", apart_from=calibration)
            converted = method.convert(dqn, calibration, coding, Training(self.seed, test))
            settings = {**options, **converted.settings(), **self._named(method)}
            rows = self._rows(checkpoint, dqn, converted.snn, test, settings)
            provenance = {**checkpoint.provenance, "source_id": checkpoint.id, "conversion": settings}
            save_agent(self.out, converted.snn, provenance)
            if self.quantised:
                save_agent(quantised, converted.snn.quantised(), provenance)
            write_rows(rows_file, ConversionRow, rows)
            manifest.finish(results)
        if converted.guarded:
            print(
                "output scale: the percentile of magnitudes, because the percentile of the outputs was not positive"
            )
        for row in rows:
            if row.sim_steps == self.sim_steps:
                print(
                    f"{row.game} {row.method} at {row.sim_steps} sim steps, {row.readout} read-out: "
                    f"{row.agreement:.1%} agreement with {row.reference} on {row.num_states} held-out states "
                    f"(the DQN's most frequent action: {row.majority_share:.1%})"
                )

    def _named(self, method: Method) -> dict[str, str]:
        """The name of the network, if the method's alone does not tell it apart."""
        name = name_of(method, self)
        return {} if name == method.name else {"variant": name}

    def _require_bindsnet(self, coding: RateCoding) -> None:
        """Refuse --bindsnet-states where BindsNET is not installed or cannot simulate the network."""
        given = f"bindsnet_states is {self.bindsnet_states}"
        if self.bindsnet_states > self.test_states:
            raise Refusal(f"{given}: accepted is 0 to test_states ({self.test_states})")
        if not self.bindsnet_states:
            return
        if importlib.util.find_spec("bindsnet") is None:
            raise Refusal(f"{given}: BindsNET is not installed; 0 does without")
        if coding.neuron.firing != "at-once" or coding.neuron.tau is not None or coding.presteps:
            raise Refusal(f"{given}: BindsNET has no leak, presteps or later firing; 0 does without")

    def _rows(
        self,
        checkpoint: Checkpoint,
        dqn: DQN,
        snn: RateCodedNetwork,
        test: np.ndarray,
        settings: dict[str, Any],
    ) -> list[ConversionRow]:
        """Agreement with the DQN and, on the first of the states, with BindsNET."""
        few = test[: self.bindsnet_states]
        majority_shares = {
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
                training=checkpoint.training,
                method=settings.get("variant", self.method),
                settings=to_json(settings),
                reference=reference,
                readout=readout,
                sim_steps=sim_steps,
                num_states=num_states,
                agreement=agreement,
                majority_share=majority_shares[num_states],
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
        return rows
