"""Where networks run, and on how many threads."""

from typing import Literal

import torch

from core.errors import Refusal

Device = Literal["auto", "cpu", "cuda"]


def pick_device(device: Device) -> torch.device:
    """The device a network runs on: a GPU if there is one and "auto" or "cuda" was said."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("device 'cuda': torch finds no GPU here; accepted are auto, cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def set_up_torch(threads: int) -> None:
    """What a command's arithmetic depends on, besides the device; called first by every command.

    Denormal numbers become zero: the moments that an optimiser keeps for a neuron fallen silent decay into
    them, and each update then takes several times as long.

    Args:
        threads: CPU threads; 0 leaves torch's choice. Equal bits need equal numbers.
    """
    if threads < 0:
        raise Refusal(f"threads is {threads}: accepted is 0 (all) or more")
    torch.set_flush_denormal(True)  # before the worker threads start, which inherit it
    if threads:
        torch.set_num_threads(threads)
