"""Independent random streams by name, all from one seed. Global generators are never used."""

import zlib
from typing import TYPE_CHECKING

import numpy as np

from core.ranges import Seed, require

if TYPE_CHECKING:
    import torch

EPISODE_SEED_BOUND = 2**31 - 1
"""Episode seeds are below this bound, because the emulator takes signed 32-bit integers."""


def generator(seed: int, stream: str) -> np.random.Generator:
    """A NumPy generator for one named use of a run's seed.

    Args:
        seed: the run's (or the episode's) seed, non-negative.
        stream: name of the use, as in "replay" or "policy". Different names give statistically independent streams, so
            a new stream does not change the others.
    """
    return np.random.default_rng(_sequence(seed, stream))


def torch_generator(seed: int, stream: str) -> "torch.Generator":
    """A torch generator on the CPU for one named use of a run's seed; arguments as for `generator`."""
    import torch

    return torch.Generator().manual_seed(int(generator(seed, stream).integers(2**63 - 1)))


def episode_seed(seed: int, stream: str, index: int) -> int:
    """The seed of one episode. It depends only on the arguments.

    So all agents that are evaluated with the same seed play the same episodes, on any number of environments.

    Args:
        seed: the run's seed, non-negative.
        stream: name of the use.
        index: index of the episode.
    """
    return int(_sequence(seed, stream, index).generate_state(1, np.uint64)[0] % EPISODE_SEED_BOUND)


def require_seed(seed: int) -> None:
    """Refuse a seed that rows cannot hold: one below 0, or from 2^63."""
    require("seed", seed, Seed)


def _sequence(seed: int, stream: str, *indices: int) -> np.random.SeedSequence:
    require_seed(seed)
    return np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *indices])
