"""GPUs of this machine. Never imports torch."""

import itertools
import os
from pathlib import Path

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that names the GPUs which a process may use. Empty: none."""


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as VISIBLE_VARIABLE names them. Found without torch.

    Without the variable they are counted in /dev.
    """
    named = os.environ.get(VISIBLE_VARIABLE)
    if named is None:
        return tuple(map(str, range(len([*Path("/dev").glob("nvidia[0-9]*")]))))
    names = [name.strip() for name in named.split(",")]
    # CUDA ignores what follows the first name that means nothing.
    return tuple(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
