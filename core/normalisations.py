"""Normalisations between a hidden layer and its spiking neurons.

To add one, register a frozen dataclass that derives from `Normalisation`, in one file.
"""

import abc
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from core.ranges import Real, require_ranges
from core.registry import Registry


class Normalisation(abc.ABC):
    """Options of one normalisation. Subclasses are frozen dataclasses with a default for every field.

    Numbers declare what they accept (`core.ranges`), and others are refused.
    """

    def __post_init__(self) -> None:
        require_ranges(self)

    @abc.abstractmethod
    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """The module from currents [N, *shape] to currents of the same shape, with initialised parameters.

        The output of a row must not depend on other rows, because a batch of decisions equals its rows.
        """


NORMALISATIONS: Registry[type[Normalisation]] = Registry("normalisation")
"""All normalisations of directly trained networks, by name."""


@NORMALISATIONS.register("layer")
@dataclass(frozen=True, kw_only=True)
class LayerNormalisation(Normalisation):
    """Layer normalisation over all neurons of a layer at every simulation step.

    Each neuron has a trainable gain and bias. Source: Ba, Kiros & Hinton 2016 (arXiv 1607.06450).
    """

    eps: Annotated[float, Real(0, 1, above=True)] = 1e-5
    """Added to the variance."""

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.LayerNorm(list(shape), eps=self.eps)
