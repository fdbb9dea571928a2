"""Report of a benchmark: one line per measurement, `name value unit`, and the same as JSON with --json FILE."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from core.records import write_bytes

Measurement = tuple[str, float, str]
"""Name, value and unit. Names of ratios end in _ratio: ours over the peer's, so larger is better."""


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parser(description: str) -> argparse.ArgumentParser:
    """A command line for the benchmark that is running.

    Args:
        description: the docstring of its module.
    """
    spec = sys.modules["__main__"].__spec__
    program = None if spec is None else f"python -m {spec.name}"
    return _Parser(
        program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def report(measurements: Iterable[Measurement], description: str | None) -> None:
    """Parse this process's command line, then print each measurement as it is made.

    Args:
        measurements: made one by one, so that `--help` measures nothing.
        description: the docstring of the benchmark's module.
    """
    options = parser(description or "")
    options.add_argument(
        "--json", type=_new_file, metavar="FILE", help="also write the measurements to a file"
    )
    file: Path | None = options.parse_args().json
    content = {}
    for name, value, unit in measurements:
        print(f"{name} {value:.4g} {unit}", flush=True)
        content[name] = {"value": value, "unit": unit}
    if file is not None:
        write_bytes(file, json.dumps(content, indent=1).encode() + b"\n")


def _new_file(word: str) -> Path:
    """A file that can be written and is not there: known before measurements that take minutes."""
    path = Path(word)
    if os.path.lexists(path):
        raise argparse.ArgumentTypeError(f"{path} exists: a new file is needed")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{path.absolute().parent} is not a folder that can be written")
    return path
