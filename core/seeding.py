"""One seed, many independent named streams; no global generator is ever touched."""

import zlib

import numpy as np
import torch

from core.errors import Refusal

EPISODE_SEED_BOUND = 2**31 - 1
"""Episode seeds fit a signed 32-bit integer, which is what the emulator takes."""


def generator(seed: int, stream: str) -> np.random.Generator:
    """A NumPy generator for one named use of a run's seed.

    Args:
        seed: the run's (or the episode's) seed, non-negative.
        stream: what the numbers are for ("replay", "policy", ...). Different names give
            statistically independent streams, so adding a stream never shifts another.
    """
    return np.random.default_rng(_sequence(seed, stream))


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """The same for torch (CPU)."""
    return torch.Generator().manual_seed(int(generator(seed, stream).integers(2**63 - 1)))


def episode_seed(seed: int, stream: str, index: int) -> int:
    """The seed of one episode, a function of its index alone.

    So every agent that is evaluated with the same seed meets the same episodes, and it does not
    matter how many environments they were played on.
    """
    return int(_sequence(seed, stream, index).generate_state(1, np.uint64)[0] % EPISODE_SEED_BOUND)


def require_seed(seed: int) -> None:
    """Refuse a seed that is no non-negative integer."""
    if seed < 0:
        raise Refusal(f"seed is {seed}: accepted is 0 or more")


def _sequence(seed: int, stream: str, *indices: int) -> np.random.SeedSequence:
    require_seed(seed)
    return np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *indices])
