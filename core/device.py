"""Where networks run, on how many threads, and with whose memory."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Literal

import torch

from core.errors import Refusal

Device = Literal["auto", "cpu", "cuda"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def pick_device(device: Device) -> torch.device:
    """The device a network runs on: a GPU if there is one and "auto" or "cuda" was said."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("device 'cuda': torch finds no GPU here; accepted are auto, cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def available_memory_bytes() -> int:
    """Memory that new work can have, the system's file cache included (Linux; elsewhere what is free)."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = 1024 * int(fields["MemAvailable"].split()[0])
        limit = Path("/sys/fs/cgroup/memory.max")  # of the container, if this is one
        if limit.exists() and (value := limit.read_text().strip()) != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            available = min(available, int(value) - used)
        return available
    except (OSError, KeyError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def set_up_torch(threads: int) -> None:
    """What a command's arithmetic depends on, besides the device; called first by every command.

    Denormal numbers become zero: the moments that an optimiser keeps for a neuron fallen silent decay into
    them, and each update then takes several times as long.

    Freed memory is kept: glibc would hand each large array back to the system, and the next one's pages
    would be made anew, which in a virtual machine can take as long as the arithmetic.

    Args:
        threads: CPU threads; 0 leaves torch's choice. Equal bits need equal numbers.
    """
    if threads < 0:
        raise Refusal(f"threads is {threads}: accepted is 0 (all) or more")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # Older ones refuse a threshold above 32 MiB, and would be left with the 128 KiB they begin with.
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30) or libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**30)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on a GPU too
    torch.set_flush_denormal(True)  # before the worker threads start, which inherit it
    if threads:
        torch.set_num_threads(threads)
