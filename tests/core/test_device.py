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
        array = torch.zeros(4 * 2**20, dtype=torch.uint8).fill_(1)
        del array
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

set_up_torch(1)
print(faults())
"""
LIBC, VERSION = platform.libc_ver()


@pytest.mark.skipif(
    LIBC != "glibc" or tuple(map(int, VERSION.split("."))) < (2, 36),
    reason="an older glibc keeps arrays up to 32 MiB only, as it does by itself after a while",
)
def test_a_large_array_is_given_the_memory_of_the_one_before() -> None:
    # Of 1,024 pages; without the set-up all are new, unless glibc has by chance begun to keep them by itself.
    assert int(subprocess.check_output([sys.executable, "-c", PAGE_FAULTS])) < 102
