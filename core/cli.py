"""What every command line shares: subcommands from dataclasses, refusals as one line, numbers as fractions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
import tyro

from core.errors import Refusal

Device = Literal["auto", "cpu", "cuda"]


def parse_fraction(text: str) -> float:
    """0.001, 1e-3 or 1/255."""
    return float(Fraction(text))


Number = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=lambda strings: parse_fraction(strings[0]),
        is_instance=lambda value: isinstance(value, (int, float)),
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]
"""A command-line number that may be written as a fraction."""


class Command(Protocol):
    """A dataclass whose fields are the options of one verb."""

    def run(self) -> None: ...


def main(stage: str, verbs: Mapping[str, type], description: str, arguments: Sequence[str] | None = None) -> None:
    """Parse `python -m STAGE VERB --option value`, run it, and turn refusals into one line and exit code 2."""
    options = {
        verb: tyro.conf.configure(tyro.conf.OmitArgPrefixes)(command) for verb, command in verbs.items()
    }
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            options, prog=f"python -m {stage}", description=description, args=arguments
        )
        command.run()
    except Refusal as refusal:
        _exit(str(refusal))
    except OSError as error:
        _exit(f"{error.filename or 'file system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)


def _exit(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def pick_device(device: Device) -> torch.device:
    """The device a network runs on: a GPU if there is one and "auto" or "cuda" was said."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("device 'cuda': torch finds no GPU here; accepted are auto, cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(threads: int) -> None:
    """CPU threads of this process's networks; 0 leaves torch's choice. Equal bits need equal threads."""
    if threads < 0:
        raise Refusal(f"threads is {threads}: accepted is 0 (all) or more")
    if threads:
        torch.set_num_threads(threads)


def specification(command: Any, *without: str) -> dict[str, Any]:
    """A command's options as JSON-able values, less those that cannot change its numbers."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(command).items()
        if name not in without
    }
