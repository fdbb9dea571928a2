"""Parts of a spiking network tried before they are trained: neurons, normalisations and read-outs.

A part that an extension registers is code that nobody has tested. Without this trial, a neuron that keeps its state
between decisions, or whose spikes have no gradient, would train wrongly without a word.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.dsqn import DSQN
from core.errors import Refusal, failure
from core.neurons.base import NEURONS, Population
from core.normalisations import NORMALISATIONS
from core.readouts import READOUTS

ROWS = 3
"""Rows of a trial."""
MOST_SIM_STEPS = 4
"""Simulation steps of a trial, at most."""


@torch.enable_grad()
def require_sound_parts(network: DSQN) -> None:
    """Try each part of a new network on random numbers, and refuse one that breaks its contract.

    Args:
        network: a network as it is trained.

    Raises:
        Refusal: a part fails, gives another shape, values that are not finite or no gradient, gives something else the
            second time or for a row alone, has parameters that are not float32, or a fast path with other results.
    """
    spiking, generator = network.spiking, torch.Generator().manual_seed(0)
    sim_steps = min(spiking.sim_steps, MOST_SIM_STEPS)
    weights = torch.rand(sim_steps, generator=generator)
    what = f"neuron {NEURONS.name_of(type(spiking.neuron))!r}"
    for population, shape in zip(network.populations, network.layer_shapes, strict=False):
        if not isinstance(population, Population):
            raise Refusal(
                f"{what} makes a {type(population).__name__}: a Population (core/neurons/base.py) is needed, or a "
                "SteppedPopulation, which tells one simulation step"
            )
        _require_float32(what, population)
        currents = 4 * torch.rand(sim_steps, ROWS, *shape, generator=generator) - 1
        fire = functools.partial(population, sim_steps=sim_steps)
        spikes = _tried(what, fire, currents, tuple(currents.shape), rows=1, rows_of_result=1)
        if not bool(((spikes == 0) | (spikes == 1)).all()):
            raise Refusal(f"{what} gives spikes that are neither 0 nor 1")
        fast = population.weighted_spikes(currents, sim_steps, weights)
        if fast is not None:
            _require_equal(what, fast, torch.einsum("t,t...->...", weights, spikes), "by its fast path")
    if spiking.normalisation is not None:
        what = f"normalisation {NORMALISATIONS.name_of(type(spiking.normalisation))!r}"
        for module, shape in zip(network.normalisations, network.layer_shapes, strict=False):
            _require_float32(what, module)
            rows = torch.randn(ROWS, *shape, generator=generator)
            _tried(what, module, rows, tuple(rows.shape), rows=0, rows_of_result=0)
    what = f"read-out {READOUTS.name_of(type(spiking.readout))!r}"
    train = torch.rand(spiking.sim_steps, ROWS, *network.layer_shapes[-2], generator=generator).round()
    scores = _tried(what, network.read, train, (ROWS, network.game.num_actions), rows=1, rows_of_result=0)
    by_weights = spiking.readout.weights(spiking.sim_steps)
    if by_weights is not None:
        _require_equal(what, network.read(train, by_weights), scores, "by its weights")


def _require_float32(what: str, module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise Refusal(f"{what} has a parameter {name!r} of {parameter.dtype}: float32 is needed")


def _tried(
    what: str,
    part: Callable[[Tensor], Tensor],
    inputs: Tensor,
    shape: tuple[int, ...],
    *,
    rows: int,
    rows_of_result: int,
) -> Tensor:
    """What a part makes of its inputs, once it was seen to be sound.

    Args:
        what: the part, for messages.
        part: a function of tensors.
        inputs: what it is given.
        shape: the shape that its result must have.
        rows: the dimension of the inputs that numbers decisions.
        rows_of_result: the same dimension of the result.
    """
    inputs.requires_grad_(True)
    try:
        result = part(inputs)
        again = part(inputs.flip(rows))
        alone = [part(row) for row in inputs.split(1, rows)]
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{what} fails on {tuple(inputs.shape)}: {failure(error)}") from error
    if not isinstance(result, Tensor) or tuple(result.shape) != shape:
        found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Refusal(f"{what} makes {found} of {tuple(inputs.shape)}: {shape} is needed")
    if not bool(result.isfinite().all()):
        raise Refusal(f"{what} gives values that are not finite")
    _require_equal(what, again.flip(rows_of_result), result, "the second time")
    _require_equal(what, torch.cat(alone, rows_of_result), result, "for a row alone")
    reached = None
    if result.requires_grad:
        weights = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        reached = torch.autograd.grad(result, inputs, weights, allow_unused=True)[0]
    if reached is None or not reached.any():
        raise Refusal(f"{what} has no gradient, or 0 everywhere: the layers before it would not learn")
    inputs.requires_grad_(False)
    return result.detach()


def _require_equal(what: str, found: Tensor, expected: Tensor, when: str) -> None:
    """Refuse values that differ. One in a hundred may, because a rounding error can move a spike."""
    if found.shape != expected.shape or (
        (~torch.isclose(found, expected, rtol=1e-3, atol=1e-4)).double().mean() > 0.01
    ):
        raise Refusal(
            f"{what} gives other values {when}: chance, state between calls, statistics of a batch and fast paths "
            "with other results are not accepted"
        )
