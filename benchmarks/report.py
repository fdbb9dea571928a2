"""How every benchmark prints: one line a figure, `name value unit`, and the same as JSON with --json FILE."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

Figure = tuple[str, float, str]


def report(figures: Sequence[Figure]) -> None:
    """Print the figures; ratios are named ..._ratio, ours over the peer's, larger is better."""
    for name, value, unit in figures:
        print(f"{name} {value:.4g} {unit}")
    if len(sys.argv) == 3 and sys.argv[1] == "--json":
        content = {name: {"value": value, "unit": unit} for name, value, unit in figures}
        Path(sys.argv[2]).write_text(json.dumps(content, indent=1) + "\n")
    elif len(sys.argv) > 1:
        sys.exit("error: the only option is --json FILE")
