"""What a command sets up before it computes."""

import platform
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource
import torch
from core.device import set_up_torch

def faults():
    for _ in range(6):  # the first ones may enlarge the heap
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        array = torch.zeros(40 * 2**20, dtype=torch.uint8).fill_(1)  # up to 32 MiB glibc keeps by itself
        del array
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
set_up_torch(1)
faults()
print(plain, faults())
"""
LIBC, VERSION = platform.libc_ver()


@pytest.mark.skipif(
    LIBC != "glibc" or tuple(map(int, VERSION.split("."))) < (2, 36),
    reason="an older glibc keeps arrays up to 32 MiB only, as it does by itself after a while",
)
def test_a_large_array_is_given_the_memory_of_the_one_before() -> None:
    plain, set_up = map(int, subprocess.check_output([sys.executable, "-c", PAGE_FAULTS]).split())
    assert set_up < 0.1 * plain
