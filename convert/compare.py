"""convert compare: measure conversions of one DQN side by side."""

from collections.abc import Mapping, Sequence

from convert.comparison import STREAMS, MethodComparison
from convert.comparison_table import markdown
from convert.method import Method
from convert.options import SHARED, Compare, named_options, options_of
from convert.variants import Variant, all_variants
from core.cli import specification
from core.dqn import DQN
from core.errors import Refusal
from core.manifest import Manifest
from core.records import Journal, write_bytes
from core.rows import ConversionRow, EpisodeRow
from play.options import of_game
from play.protocols import get_protocol
from play.states import collect


class Comparison(Compare):
    """The work of the verb compare."""

    variants: tuple[str, ...]

    def run(self) -> None:
        known = all_variants()
        chosen = {name: known[name] for name in self.variants}
        names = [name for name, variant in chosen.items() if self.episodes or not variant.carries]
        if not names:
            raise Refusal(
                f"{' '.join(self.variants)} is compared by whole games alone: --episodes is needed with it"
            )
        shared = self.shared
        self._require_taken(list(chosen.values()))
        methods = {name: variant.chosen(shared) for name, variant in chosen.items()}
        self._require_measurable([methods[name] for name in names])
        for name, method in methods.items():
            method.require_sound(chosen[name].coding.coding(1, method))
        checkpoint, dqn = self.begin()
        names = self._convertible(names, methods, dqn)
        protocol = get_protocol(self.protocol, dqn.game)
        rows_file, games_file, table_file = (
            self.out / name for name in ("methods.parquet", "conversion_episodes.parquet", "comparison.md")
        )
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **specification(self, "agent", "game", "out", "device", "threads"),
                **of_game(self.game),
                **{name: shared.get(name, named_options()[name]) for name in SHARED},
                "verb": "convert compare",
                "agent": checkpoint.id,
                "protocol": protocol.name,
            },
            [rows_file, games_file, table_file],
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            if not self.episodes and any(variant.carries for variant in chosen.values()):
                left_out = ", ".join(name for name, variant in chosen.items() if variant.carries)
                print(
                    f"left out without --episodes, because their decisions depend on earlier ones: {left_out}"
                )
            for name in names:
                methods[name].require_room(dqn, self.calibration_states)
            rows = Journal(rows_file, ConversionRow, manifest.journal_spec)
            games = Journal(games_file, EpisodeRow, manifest.journal_spec)
            calibration = collect(dqn, self.calibration_states, self.seed, "calibration")
            MethodComparison(
                checkpoint=checkpoint,
                dqn=dqn,
                shared=shared,
                calibration=calibration,
                test={
                    stream: collect(
                        dqn, self.test_states, self.seed, f"conversion {stream}", apart_from=calibration
                    )
                    for stream in STREAMS
                },
                protocol=protocol,
                episodes=self.episodes,
                seed=self.seed,
                rows=rows,
                games=games,
            ).run(names, sorted(set(self.sim_steps)))
            rows.write()
            games.write()
            table = markdown(rows.rows, games.rows)
            write_bytes(table_file, table.encode())
            manifest.finish([rows_file, games_file, table_file])
            rows.close()
            games.close()
        print(table)

    def _require_taken(self, variants: Sequence[Variant]) -> None:
        """Refuse a given option that no chosen method has."""
        for name, value in self.shared.items():
            if not any(name in options_of(variant.method_class) for variant in variants):
                raise Refusal(f"{name} is {value}: no method of {' '.join(self.variants)} has such an option")

    def _convertible(self, names: Sequence[str], methods: Mapping[str, Method], dqn: DQN) -> list[str]:
        """The variants that can convert the DQN. Of those that were named, all must."""
        found = []
        for name in names:
            try:
                methods[name].require_convertible(dqn)
            except Refusal as refusal:
                if self.variants != all_variants().names():
                    raise
                print(f"left out: {name}: {refusal}")
            else:
                found.append(name)
        return found

    def _require_measurable(self, methods: Sequence[Method]) -> None:
        """Refuse numbers of simulation steps at which no method is measured."""
        ends = [method.max_sim_steps for method in methods if method.max_sim_steps is not None]
        if len(ends) == len(methods) and max(ends) < min(self.sim_steps):
            raise Refusal(
                f"the least sim_steps is {min(self.sim_steps)}: {' '.join(self.variants)} is measured up to {max(ends)}"
            )
