"""The protocols and manifests of a study: how play was scored and where rows come from. Never imports torch."""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.kinds import order
from core.manifest import read_manifest
from core.reading import parse_json
from core.rows import AttackRow, EpisodeRow


@dataclass(frozen=True)
class Card:
    """The protocol under which one game was played."""

    game: str
    protocol: str
    values: tuple[tuple[str, str], ...]
    """Name and value of each setting."""


@dataclass(frozen=True)
class Work:
    """One command and its results, from its manifest."""

    place: str
    command: str
    is_done: bool
    spec: str
    versions: str
    made_with: str
    """Source code, machine and time; empty if the manifest does not tell."""
    outputs: tuple[tuple[str, str], ...]
    """Name and SHA-256 of each file."""


def cards(played: dict[str, Sequence[EpisodeRow | AttackRow]]) -> Iterator[Card]:
    """One card for each game and protocol, with all settings stored in the rows.

    Args:
        played: groups of rows, by the name that a card gives them.
    """
    by_protocol: dict[tuple[str, str], dict[str, list[EpisodeRow | AttackRow]]] = defaultdict(dict)
    for what, rows in played.items():
        for row in rows:
            by_protocol[row.game, row.protocol].setdefault(what, []).append(row)
    for (game, protocol), kinds in sorted(by_protocol.items()):
        rows = [row for of_kind in kinds.values() for row in of_kind]
        values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for settings, agent in sorted({(row.settings, row.agent) for row in rows}):
            for name, value in _settings(parse_json(settings, not_finite=True)):
                values[name][value].add(agent)
        counts = [(what, _played(of_kind)) for what, of_kind in kinds.items()]
        yield Card(game, protocol, (*((name, _of_agents(of)) for name, of in values.items()), *counts))


def _settings(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values that a card shows, in order. Unknown settings are shown under their own name."""
    protocol = _table(settings.get("protocol"))
    # The title shows name and tier, and the number of episodes is counted from the rows.
    passed_over = ("name", "tier", "episodes", "dynamics")
    flat = {name: value for name, value in protocol.items() if name not in passed_over}
    flat |= _table(protocol.get("dynamics"))
    flat["rom_md5"] = settings.get("rom_md5") or None
    flat["versions"] = ", ".join(
        f"{name} {version}" for name, version in sorted(_table(settings.get("versions")).items())
    )
    for name, value in flat.items():
        if value not in (None, [], {}):
            yield name.replace("_", " ").replace("rom md5", "ROM MD5"), _written(value)


def _table(value: Any) -> dict[str, Any]:
    """The entries of a JSON object; none of anything else."""
    return value if isinstance(value, dict) else {}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _of_agents(values: dict[str, set[str]]) -> str:
    """The value common to all agents, or each value with its agents."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(sorted(agents, key=order))})" for value, agents in values.items())


def _played(rows: Iterable[EpisodeRow]) -> str:
    # If the best weights are the final ones, each of their games has two rows.
    rows = list({_game_played(row): row for row in rows}.values())
    episodes = len({(row.eval_seed, row.episode) for row in rows})
    seeds = ", ".join(map(str, sorted({row.eval_seed for row in rows})))
    truncated = sum(row.truncated for row in rows)
    return (
        f"{episodes:,} starts (evaluation seed {seeds}), {len(rows):,} games, {truncated:,} of them truncated"
    )


def _game_played(row: EpisodeRow) -> tuple[object, ...]:
    """Identifies a played game."""
    network = (row.agent, row.checkpoint_id, row.train_seed, row.variant, row.sim_steps)
    threat = (row.threat, row.epsilon) if isinstance(row, AttackRow) else ()
    return (*network, row.settings, row.eval_seed, row.episode, *threat)


def works(study: Path) -> Iterator[Work]:
    """The work recorded in all manifests of a study."""
    for path in sorted(study.rglob("*manifest.json")):
        record = read_manifest(path)
        assert record is not None
        yield Work(
            str(path.relative_to(study)),
            shlex.join(["python", "-m", *record.command]),
            bool(record.outputs),
            json.dumps(record.spec, indent=1, sort_keys=True),
            ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
            _made_with(record.made_with),
            tuple(sorted(record.outputs.items())),
        )


def _made_with(told: Mapping[str, Any]) -> str:
    """The entry `made_with` of a manifest in words."""
    if not told:
        return ""
    commit = told.get("commit")
    code = "unknown source code" if commit is None else f"commit {str(commit)[:12]}"
    changed = ", changed since" if told.get("changed") else ""
    return (
        f"{code}{changed}; {told.get('processor')}, {told.get('cores')} cores, {told.get('threads')} threads, Python "
        f"{told.get('python')}; began {told.get('started')}, took {told.get('wall_s')} s"
    )
