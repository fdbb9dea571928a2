"""How every benchmark prints: one line a figure, `name value unit`, and the same as JSON with --json FILE."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

Figure = tuple[str, float, str]


def report(figures: Iterable[Figure]) -> None:
    """Print each figure as it comes; ratios are named ..._ratio, ours over the peer's, larger is better."""
    if sys.argv[1:] and (len(sys.argv) != 3 or sys.argv[1] != "--json"):
        sys.exit("error: the only option is --json FILE")
    content = {}
    for name, value, unit in figures:
        print(f"{name} {value:.4g} {unit}", flush=True)
        content[name] = {"value": value, "unit": unit}
    if sys.argv[1:]:
        Path(sys.argv[2]).write_text(json.dumps(content, indent=1) + "\n")
