"""A method that one file adds is run, compared, recorded and refused as a built-in one is."""

import json
import subprocess
import sys
from pathlib import Path

from core.checkpoint import load_agent
from core.records import read_rows
from core.rows import ConversionRow

REPOSITORY = Path(__file__).parents[2]
EXTENSION = "tests.convert.mean_rate_method"
FEW = ("--calibration-states", "60", "--test-states", "20", "--threads", "1")


def typed(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, so that the method is registered nowhere else."""
    line = [sys.executable, "-m", "convert", *map(str, words)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_method_of_an_extension_is_run_and_compared(checkpoint: Path, tmp_path: Path) -> None:
    made, compared = tmp_path / "snn.safetensors", tmp_path / "compare"
    run = (
        "run",
        "--extension",
        EXTENSION,
        "--agent",
        checkpoint,
        "--out",
        made,
        "--method",
        "mean-rate",
        *FEW,
    )
    finished = typed(*run, "--method-options", "gain=2.5", "--sim-steps", 4)
    assert finished.returncode == 0, finished.stderr
    conversion = load_agent(made).provenance["conversion"]
    assert (conversion["method"], conversion["method_options"]) == ("mean-rate", {"gain": 2.5})

    compare = ("compare", "--extension", EXTENSION, "--agent", checkpoint, "--out", compared, *FEW)
    finished = typed(*compare, "--variants", "tan2021", "mean-rate", "--sim-steps", 4)
    assert finished.returncode == 0, finished.stderr
    rows = [
        row for row in read_rows(compared / "methods.parquet", ConversionRow) if row.variant == "mean-rate"
    ]
    assert {row.method for row in rows} == {"mean-rate"}
    assert {json.loads(row.settings)["method_options"]["gain"] for row in rows} == {4.0}
    assert "mean-rate" in finished.stdout

    refused = typed(*run, "--percentile", 99)
    assert (refused.returncode, "method mean-rate has no such option" in refused.stderr) == (2, True)
    unknown = typed(
        "run", "--agent", checkpoint, "--out", tmp_path / "x.safetensors", "--method", "mean-rate"
    )
    assert (unknown.returncode, "needs its --extension" in unknown.stderr) == (2, True)
