"""Manifests are files that people send each other: the names in them are plain, or they are refused."""

import json
from pathlib import Path

import pytest

from core.errors import Refusal
from core.manifest import Manifest, read_manifest
from core.rows import ROWS_FORMAT


def manifest(folder: Path, *outputs: str) -> Path:
    path = folder / "manifest.json"
    content = {"spec": {}, "command": ["evaluate", "run"], "format": ROWS_FORMAT, "versions": {}}
    path.write_text(json.dumps({**content, "outputs": dict.fromkeys(outputs, "0" * 64)}))
    return path


@pytest.mark.parametrize(
    "name",
    ["../other.toml", "/etc/hostname", "..", ".", "", "a/b.parquet", "../../studies/quick.toml", "a\0b"],
)
def test_results_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    path = manifest(folder, "episodes.parquet", name)
    with pytest.raises(Refusal, match="a file beside it is needed"):
        read_manifest(path)
    with pytest.raises(Refusal, match="a file beside it is needed"):
        Manifest(path, {}, [])
    assert (tmp_path / "other.toml").read_text() == "mine"


def test_plain_names_are_read(tmp_path: Path) -> None:
    record = read_manifest(manifest(tmp_path, "episodes.parquet"))
    assert record is not None
    assert list(record.outputs) == ["episodes.parquet"]
