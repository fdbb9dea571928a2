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


def set_threads(threads: int) -> None:
    """CPU threads of this process's networks; 0 leaves torch's choice. Equal bits need equal threads.

    Denormal numbers become zero: an optimiser's moments of a neuron that has fallen silent decay into them,
    and an update then takes several times as long.
    """
    torch.set_flush_denormal(True)
    if threads < 0:
        raise Refusal(f"threads is {threads}: accepted is 0 (all) or more")
    if threads:
        torch.set_num_threads(threads)
