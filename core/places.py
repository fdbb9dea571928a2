"""Where SpikeQ lies. Never imports torch."""

from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
"""The folder of the packages: the checkout, or where the wheel was installed."""


def home() -> Path:
    """The folder in which built-in studies keep results/: the checkout, or the working directory without one."""
    return HOUSE if (HOUSE / "pyproject.toml").is_file() else Path.cwd()
