"""The device and threads of a command. Imports torch only when it is used."""

import ctypes
import sys
from typing import TYPE_CHECKING

from core.choices import Device
from core.errors import Refusal

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def pick_device(device: Device) -> "torch.device":
    """The torch device of an option: a GPU for "cuda", and for "auto" if there is one; otherwise the CPU.

    Raises:
        Refusal: "cuda" was asked for and torch finds no GPU.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("device 'cuda': torch finds no GPU here; accepted are auto, cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def set_up_torch(threads: int) -> None:
    """Set torch's global options. Every command calls this first.

    Denormal numbers are flushed to zero. The optimiser's moments of a silent neuron decay to such numbers, and each
    update would then take several times as long.

    Freed memory stays with the process. glibc would return each large array to the system and ask for new pages for the
    next one. In a virtual machine that can take as long as the arithmetic.

    Args:
        threads: CPU threads; 0 for torch's default. Results are equal bit for bit only at equal numbers of threads.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # Older versions refuse a threshold above 32 MiB and would keep their default of 128 KiB.
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30) or libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**30)
    import torch

    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on a GPU too
    torch.set_flush_denormal(True)  # before worker threads start: they inherit it
    if threads:
        torch.set_num_threads(threads)
