"""The content of a card, from the rows that its battery wrote. Never imports torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis import energy
from analysis.attackers import described, flips
from analysis.evidence import attacked_scores, evidence
from analysis.gates import gates, is_allowed
from analysis.statistics import Interval, mean_interval
from card.battery import SEED, VERSION, Battery
from core import kinds
from core.errors import Refusal
from core.extensions import EXTENSIONS
from core.games import get_game, reference
from core.machine import machine
from core.manifest import library_versions
from core.reading import parse_json
from core.records import digest, read_rows
from core.rows import AttackRow, EpisodeRow, OperationsRow, StateAttackRow

SCHEMA = "spikeq-card-1"
"""Name of the schema (card/schema.json)."""


def content(
    battery: Battery, folder: Path, refused: Mapping[str, str], file_sha256: str | None
) -> dict[str, Any]:
    """A card as JSON-able values.

    Args:
        battery: what was measured.
        folder: the rows of its parts.
        refused: why parts were refused, by name.
        file_sha256: SHA-256 of the agent's file; None for a registered agent.

    Raises:
        Refusal: the parts measured different weights.
    """
    episodes = read_rows(folder / "games" / "episodes.parquet", EpisodeRow)
    first = episodes[0]
    _require_one_agent(folder, first.checkpoint_id)
    return {
        "schema": SCHEMA,
        "battery": {
            "version": VERSION,
            "standard": battery.is_standard,
            "episodes": len(episodes),
            "attacked_episodes": battery.attacked_episodes,
            "states": battery.states,
            "evaluation_seed": SEED,
        },
        "agent": {
            "given": battery.agent,
            "file_sha256": file_sha256,
            "id": first.checkpoint_id,
            "kind": first.agent,
            "label": kinds.label(first.agent),
            "network": first.network,
            "method": first.variant,
            "recipe": first.recipe,
            "train_seed": first.train_seed,
            "train_steps": first.train_steps,
            "extensions": dict(EXTENSIONS),
        },
        "game": first.game,
        "protocol": {"name": first.protocol, "settings": parse_json(first.settings)},
        **measured(folder, refused),
        "made_with": {"versions": dict(library_versions()), **machine()},
        "files": {
            path.relative_to(folder).as_posix(): digest(path.read_bytes())
            for path in sorted(folder.glob("*/*.parquet"))
            if not path.name.startswith(".")
        },
    }


def _require_one_agent(folder: Path, checkpoint_id: str) -> None:
    """Refuse parts that measured other weights, as of a registered function that draws them anew in each process."""
    kinds_of_rows = {"operations": OperationsRow, "state_attacks": StateAttackRow, "attacks": AttackRow}
    for name, row_type in kinds_of_rows.items():
        for path in folder.glob(f"*/{name}.parquet"):
            others = {row.checkpoint_id for row in read_rows(path, row_type)} - {checkpoint_id}
            if others:
                raise Refusal(
                    f"{path} is of weights {', '.join(sorted(others))}, and the games are of {checkpoint_id}: an agent "
                    "needs the same weights in every process, from a seed or a file"
                )


def measured(folder: Path, refused: Mapping[str, str]) -> dict[str, Any]:
    """What follows from the rows alone: scores, activity, operations and robustness."""
    episodes = read_rows(folder / "games" / "episodes.parquet", EpisodeRow)
    return {
        "scores": _scores(episodes),
        "activity": _activity(episodes),
        "operations": _refused(refused, "operations") or _operations(folder),
        "robustness": _refused(refused, "states", "attacks") or _robustness(folder),
    }


def _refused(refused: Mapping[str, str], *parts: str) -> dict[str, Any] | None:
    reasons = [refused[part] for part in parts if part in refused]
    return {"refused": reasons[0]} if reasons else None


def _scores(rows: Sequence[EpisodeRow]) -> dict[str, Any]:
    random = reference(get_game(rows[0].game)).random
    return {
        **_interval(mean_interval([row.score for row in rows])),
        "random_play": random,
        "truncated": sum(row.truncated for row in rows),
        "episodes": [
            {"episode": row.episode, "score": row.score, "length_steps": row.length_steps} for row in rows
        ],
    }


def _activity(rows: Sequence[EpisodeRow]) -> dict[str, Any] | None:
    if rows[0].sim_steps == 0:
        return None
    weights = [row.length_steps for row in rows]
    return {
        "sim_steps": max(row.sim_steps for row in rows),
        "mean_sim_steps": _average((row.mean_sim_steps for row in rows), weights),
        "spikes_per_decision": _average((row.spikes_per_decision for row in rows), weights),
        "layer_rates": [_average(rates, weights) for rates in zip(*_layer_rates(rows), strict=True)],
    }


def _layer_rates(rows: Sequence[EpisodeRow]) -> list[list[float]]:
    rates = [parse_json(row.layer_rates, list) for row in rows]
    if len(set(map(len, rates))) > 1:
        raise Refusal("rows of one agent have layer_rates of different numbers of layers")
    return rates


def _average(values: Iterable[float], weights: Sequence[int]) -> float:
    return float(np.average(list(values), weights=weights))


def _operations(folder: Path) -> dict[str, Any]:
    (layers,) = energy.by_agent(read_rows(folder / "operations" / "operations.parquet", OperationsRow))
    spiking = energy.is_spiking(layers)
    return {
        "layers": [
            {
                "num_neurons": row.num_neurons,
                "dense_macs": row.dense_macs,
                "effective_macs": row.effective_macs,
                "binary_input": row.binary_input,
                "acs": row.acs,
                "neuron_updates": row.neuron_updates,
                "spikes": row.spikes,
            }
            for row in layers
        ],
        "microjoules": energy.microjoules(layers)._asdict(),
        "firing_rate": energy.firing_rate(layers) if spiking else None,
        "memory_aware": energy.memory_verdict(layers),
    }


def _robustness(folder: Path) -> dict[str, Any]:
    states = read_rows(folder / "states" / "state_attacks.parquet", StateAttackRow)
    games = read_rows(folder / "attacks" / "attacks.parquet", AttackRow)
    found = evidence(states, games)
    judged = [gate for shown in found for gate in gates(shown)]
    left = {epsilon: each for shown in found for epsilon, each in attacked_scores(shown).items()}
    return {
        "states": [
            {
                "attack": described(row),
                "attacker": row.attacker,
                "epsilon": row.epsilon,
                "flipped": _interval(flips(row)),
            }
            for row in states
        ],
        "games": [
            {"epsilon": epsilon, "strongest_attack": each.attack, **_interval(each.score)}
            for epsilon, each in sorted(left.items())
        ],
        "gates": [{"name": gate.name, "outcome": gate.outcome, "numbers": gate.numbers} for gate in judged],
        "claims_allowed": bool(found) and all(is_allowed(gates(shown)) for shown in found),
    }


def _interval(found: Interval) -> dict[str, Any]:
    return {name: _finite(value) for name, value in found._asdict().items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
