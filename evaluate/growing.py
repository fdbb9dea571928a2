"""Adding agents to a folder of rows whose evaluation is finished. Never imports torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import Refusal
from core.manifest import read_manifest, require_unchanged_extensions, versions

LISTS = ("agent", "game", "protocol", "episodes")
"""Entries of the specification of `evaluate run` with one element for each evaluation."""


def grown(path: Path, spec: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The specification of a folder once the evaluations of a command are added to it.

    Args:
        path: manifest of the folder.
        spec: specification of the command alone.

    Returns:
        The whole specification, and that of the finished work to which evaluations are added; None if nothing is added.

    Raises:
        Refusal: the rows there were made with other library versions.
    """
    record = read_manifest(path)
    recorded, given = _evaluations({} if record is None else record.spec), _evaluations(spec)
    if record is None or not recorded:
        return dict(spec), None
    others = {name: value for name, value in spec.items() if name not in LISTS}
    if others != {name: value for name, value in record.spec.items() if name not in LISTS}:
        return dict(spec), None  # other work, which the manifest refuses
    added = [each for each in given if each not in recorded]
    if {each[:2] for each in added} & {each[:2] for each in recorded}:
        return dict(spec), None  # other games of the same agent
    if not added:
        return dict(record.spec), None
    if not record.outputs:
        return dict(spec), None  # unfinished, with other agents
    require_unchanged_extensions(record)
    now = versions()  # older manifests name fewer libraries
    if not record.versions or any(record.versions.get(name, now[name]) != now[name] for name in now):
        raise Refusal(
            f"{path} has rows of other library versions, which do not compare with new ones; choose another --out"
        )
    whole = zip(*recorded, *added, strict=True)
    return {**others, **{name: list(values) for name, values in zip(LISTS, whole, strict=True)}}, record.spec


def _evaluations(spec: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The evaluations in a specification, an element of each list; none if it does not describe any."""
    lists = [spec.get(name) for name in LISTS]
    described = all(isinstance(each, list) and {*map(type, each)} <= {str, int} for each in lists)
    if not described or len({len(each or ()) for each in lists}) != 1:
        return []
    return list(zip(*filter(None, lists), strict=True))
